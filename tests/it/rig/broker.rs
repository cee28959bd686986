//! The two sides that the worker stands between, played on one connection: who publishes commands,
//! and who reads what comes of them.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use lapin::options::{
    BasicConsumeOptions, BasicGetOptions, BasicNackOptions, BasicPublishOptions,
    BasicRejectOptions, ConfirmSelectOptions, ExchangeDeclareOptions, ExchangeDeleteOptions,
    QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions, QueuePurgeOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, Consumer,
    ExchangeKind,
};

use super::PATIENCE;

/// Body of the message that the rig itself sends through a queue to find its end.
const END: &[u8] = b"end";
/// How long a node may take to let the rig in before it is taken for dead.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Routing key, body and properties of a message to publish.
pub(crate) type ToPublish = (String, Vec<u8>, BasicProperties);

/// A message as it was read from a queue.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    /// The key that it was published with.
    pub(crate) routing_key: String,
    /// Its properties, headers included.
    pub(crate) properties: BasicProperties,
    /// Its body.
    pub(crate) body: Vec<u8>,
}

impl Message {
    /// A header, as text.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let value = self.properties.headers().as_ref()?.inner().get(name)?;
        let json = serde_json::to_value(value).unwrap();
        let inner = json.as_object().and_then(|object| object.values().next()).cloned();
        Some(match value {
            AMQPValue::LongString(text) => text.to_string(),
            AMQPValue::ShortString(text) => text.to_string(),
            _ => inner.unwrap_or(json).to_string(),
        })
    }
}

impl From<lapin::message::Delivery> for Message {
    fn from(delivery: lapin::message::Delivery) -> Self {
        Self {
            routing_key: delivery.routing_key.to_string(),
            properties: delivery.properties,
            body: delivery.data,
        }
    }
}

/// An exclusive queue of the rig, read in order.
pub(crate) struct Inbox {
    queue: String,
    consumer: Consumer,
}

impl Inbox {
    /// The next message; panics when none comes.
    pub(crate) async fn next(&mut self, what: &str) -> Message {
        let next = tokio::time::timeout(PATIENCE, self.consumer.next()).await;
        let next = next.unwrap_or_else(|_| panic!("{what}: nothing came in {PATIENCE:?}"));
        next.expect("the inbox is open").expect("a delivery").into()
    }
}

/// The rig's own connection to RabbitMQ.
pub(crate) struct Broker {
    prefix: String,
    connection: Connection,
    channel: Channel,
}

impl Broker {
    /// Where the tests' RabbitMQ is.
    pub(crate) fn url() -> String {
        std::env::var("EKO_TEST_AMQP_URL").unwrap_or_else(|_| {
            panic!("EKO_TEST_AMQP_URL is not set: run scripts/test, which starts a RabbitMQ")
        })
    }

    /// Connects, and declares the two exchanges as any publisher or subscriber may.
    pub(crate) async fn connect(prefix: &str) -> Self {
        Self::connect_to(&Self::url(), prefix).await
    }

    /// As [`Self::connect`], to another RabbitMQ than that of the tests.
    pub(crate) async fn connect_to(url: &str, prefix: &str) -> Self {
        let connected = Self::try_connect(&[url.to_owned()], prefix).await;
        connected.unwrap_or_else(|error| panic!("no RabbitMQ where the test expects one: {error}"))
    }

    /// Connects to the first of these nodes that answers.
    pub(crate) async fn try_connect(nodes: &[String], prefix: &str) -> Result<Self, String> {
        let mut problem = "no node is named".to_owned();
        for url in nodes {
            let connected = tokio::time::timeout(CONNECT_TIMEOUT, Self::open(url, prefix)).await;
            match connected {
                Ok(Ok(broker)) => return Ok(broker),
                Ok(Err(error)) => problem = error.to_string(),
                Err(_) => problem = format!("no answer within {CONNECT_TIMEOUT:?}"),
            }
        }
        Err(problem)
    }

    async fn open(url: &str, prefix: &str) -> lapin::Result<Self> {
        let connection = Connection::connect(url, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        let broker = Self { prefix: prefix.to_owned(), connection, channel };
        for exchange in ["commands", "events"] {
            let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
            let name = broker.name(exchange);
            let (kind, none) = (ExchangeKind::Topic, FieldTable::default());
            broker.channel.exchange_declare(name.as_str().into(), kind, options, none).await?;
        }
        Ok(broker)
    }

    /// The full name of an object of this prefix.
    pub(crate) fn name(&self, name: &str) -> String {
        format!("{}.{name}", self.prefix)
    }

    /// An exclusive queue, bound to `exchange` with `key` where one is given.
    pub(crate) async fn inbox(&self, name: &str, binding: Option<(&str, &str)>) -> Inbox {
        let queue = self.name(name);
        let options = QueueDeclareOptions::exclusive();
        let table = FieldTable::default;
        self.channel.queue_declare(queue.as_str().into(), options, table()).await.unwrap();
        if let Some((exchange, key)) = binding {
            let exchange = self.name(exchange);
            let bound = self.channel.queue_bind(
                queue.as_str().into(),
                exchange.as_str().into(),
                key.into(),
                QueueBindOptions::default(),
                table(),
            );
            bound.await.unwrap();
        }
        let options = BasicConsumeOptions { no_ack: true, ..Default::default() };
        let consumer = self
            .channel
            .basic_consume(queue.as_str().into(), "".into(), options, table())
            .await
            .unwrap();
        Inbox { queue, consumer }
    }

    /// A queue that outlives connection and broker, and keeps all that `exchange` gets.
    pub(crate) async fn keep_all_of(&self, exchange: &str, queue: &str) {
        let (exchange, queue) = (self.name(exchange), self.name(queue));
        let options = QueueDeclareOptions::durable();
        self.channel.queue_declare(queue.as_str().into(), options, quorum()).await.unwrap();
        let bound = self.channel.queue_bind(
            queue.as_str().into(),
            exchange.as_str().into(),
            "#".into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        );
        bound.await.unwrap();
    }

    /// A copy of each command that waits up to 4 s. A queue would lose them: they expire.
    pub(crate) async fn copies_of_parked(&self) -> Inbox {
        let inbox = self.inbox("copies", None).await;
        let exchange = self.name("retry");
        let exchange = exchange.as_str();
        let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
        let (kind, none) = (ExchangeKind::Headers, FieldTable::default());
        self.channel.exchange_declare(exchange.into(), kind, options, none).await.unwrap();
        for level in ["250", "500", "1000", "2000", "4000"] {
            let mut of_level = FieldTable::default();
            of_level.insert("eko-delay".into(), AMQPValue::LongString(level.into()));
            let (queue, options) = (inbox.queue.as_str().into(), QueueBindOptions::default());
            let bound =
                self.channel.queue_bind(queue, exchange.into(), "".into(), options, of_level);
            bound.await.unwrap();
        }
        inbox
    }

    /// All that is left in an inbox to which nobody publishes any more.
    pub(crate) async fn drain(&self, inbox: &mut Inbox) -> Vec<Message> {
        let queue = inbox.queue.clone();
        self.publish("", &queue, END.to_vec(), BasicProperties::default()).await;
        let mut rest = Vec::new();
        loop {
            let message = inbox.next("the end of the inbox").await;
            if message.body == END {
                return rest;
            }
            rest.push(message);
        }
    }

    /// Publishes one command message under `key`.
    pub(crate) async fn command(&self, key: &str, body: Vec<u8>, properties: BasicProperties) {
        let exchange = self.name("commands");
        self.publish(&exchange, key, body, properties).await;
    }

    /// Publishes, mandatory, and sees it confirmed.
    async fn publish(&self, exchange: &str, key: &str, body: Vec<u8>, properties: BasicProperties) {
        self.publish_all(exchange, vec![(key.to_owned(), body, properties)]).await;
    }

    /// Publishes a batch under their keys, and sees each confirmed, as any publisher must who is
    /// refused while a queue has no leader: what was refused is published again, on a channel of
    /// its own, since RabbitMQ 3.10 goes on refusing on one that has met that.
    pub(crate) async fn publish_all(&self, exchange: &str, messages: Vec<ToPublish>) {
        let mut left = publish_once(&self.channel, exchange, messages).await;
        let begin = Instant::now();
        while !left.is_empty() {
            assert!(begin.elapsed() < PATIENCE, "{} messages are refused", left.len());
            tokio::time::sleep(Duration::from_millis(50)).await;
            let channel = self.connection.create_channel().await.unwrap();
            channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
            left = publish_once(&channel, exchange, left).await;
            channel.close(200, "".into()).await.unwrap();
        }
    }

    /// Publishes one message; what the broker says to it.
    pub(crate) async fn try_publish(
        &self,
        to: (&str, &str),
        body: &[u8],
    ) -> lapin::Result<Confirmation> {
        let exchange = self.name(to.0);
        let options = BasicPublishOptions { mandatory: true, ..Default::default() };
        let properties = BasicProperties::default().with_delivery_mode(2);
        let (exchange, key) = (exchange.as_str().into(), to.1.into());
        let sent = self.channel.basic_publish(exchange, key, options, body, properties);
        sent.await?.await
    }

    /// How many messages are ready in a queue that is there, asked on the rig's own channel.
    pub(crate) async fn try_count(&self, queue: &str) -> lapin::Result<u32> {
        let (queue, options) = (self.name(queue), QueueDeclareOptions::default().passive());
        let table = FieldTable::default();
        Ok(self.channel.queue_declare(queue.as_str().into(), options, table).await?.message_count())
    }

    /// The next message of a queue, if there is one now.
    pub(crate) async fn get(&self, queue: &str) -> Option<Message> {
        let queue = self.name(queue);
        let options = BasicGetOptions { no_ack: true };
        let got = self.channel.basic_get(queue.as_str().into(), options).await.unwrap();
        got.map(|message| message.delivery.into())
    }

    /// Takes the next message of a queue and gives it back, as a worker does that dies over it.
    pub(crate) async fn return_one(&self, queue: &str) {
        let queue = self.name(queue);
        let got = self.channel.basic_get(queue.as_str().into(), BasicGetOptions::default());
        let message = got.await.unwrap().expect("a message to return");
        let options = BasicNackOptions { requeue: true, ..Default::default() };
        message.delivery.acker.nack(options).await.unwrap();
    }

    /// Has the broker give up the next message of a queue.
    pub(crate) async fn reject_one(&self, queue: &str) {
        let queue = self.name(queue);
        let got = self.channel.basic_get(queue.as_str().into(), BasicGetOptions::default());
        let message = got.await.unwrap().expect("a message to reject");
        let options = BasicRejectOptions { requeue: false };
        message.delivery.acker.reject(options).await.unwrap();
    }

    /// How many messages are ready in a queue; `None` where there is no such queue.
    pub(crate) async fn count(&self, queue: &str) -> Option<u32> {
        // A declare that fails closes its channel, so it gets its own.
        let channel = self.connection.create_channel().await.unwrap();
        let options = QueueDeclareOptions::default().passive();
        let queue = self.name(queue);
        let declared =
            channel.queue_declare(queue.as_str().into(), options, FieldTable::default()).await;
        let count = declared.ok().map(|queue| queue.message_count());
        channel.close(200, "".into()).await.ok();
        count
    }

    /// Takes away all that is in a queue.
    pub(crate) async fn purge(&self, queue: &str) {
        let (queue, options) = (self.name(queue), QueuePurgeOptions::default());
        self.channel.queue_purge(queue.as_str().into(), options).await.unwrap();
    }

    /// Takes a queue away, whatever is in it.
    pub(crate) async fn delete(&self, queue: &str) {
        let (queue, options) = (self.name(queue), QueueDeleteOptions::default());
        self.channel.queue_delete(queue.as_str().into(), options).await.unwrap();
    }

    /// Declares and binds a command queue as somebody might who does not know what the worker
    /// needs.
    pub(crate) async fn declare_otherwise(&self, kind: &str) {
        self.declare_command_queue(kind, quorum()).await;
    }

    /// Declares and binds a command queue as the worker does.
    pub(crate) async fn declare_as_wanted(&self, kind: &str) {
        let mut arguments = quorum();
        let text = |text: &str| AMQPValue::LongString(text.into());
        arguments.insert("x-dead-letter-exchange".into(), text(&self.name("dead")));
        arguments.insert("x-dead-letter-strategy".into(), text("at-least-once"));
        arguments.insert("x-overflow".into(), text("reject-publish"));
        arguments.insert("x-delivery-limit".into(), AMQPValue::LongLongInt(30));
        self.declare_command_queue(kind, arguments).await;
    }

    /// Declares a queue that keeps what people look at as the worker does, before it.
    pub(crate) async fn declare_kept(&self, queue: &str, limit: i64) {
        let (queue, mut arguments) = (self.name(queue), quorum());
        arguments.insert("x-delivery-limit".into(), AMQPValue::LongLongInt(limit));
        let options = QueueDeclareOptions::durable();
        self.channel.queue_declare(queue.as_str().into(), options, arguments).await.unwrap();
    }

    async fn declare_command_queue(&self, kind: &str, arguments: FieldTable) {
        let channel = &self.channel;
        let (queue, options) = (self.name(kind), QueueDeclareOptions::durable());
        channel.queue_declare(queue.as_str().into(), options, arguments).await.unwrap();
        let (exchange, key) = (self.name("commands"), format!("eko.{kind}.request"));
        let (queue, exchange) = (queue.as_str().into(), exchange.as_str().into());
        let (options, table) = (QueueBindOptions::default(), FieldTable::default());
        channel.queue_bind(queue, exchange, key.as_str().into(), options, table).await.unwrap();
    }

    /// Takes the objects of this prefix away again.
    pub(crate) async fn remove(&self, queues: &[String]) {
        for queue in queues {
            self.delete(queue).await;
        }
        for exchange in ["commands", "events", "dead", "retry", "ledger"] {
            let exchange = self.name(exchange);
            let options = ExchangeDeleteOptions::default();
            self.channel.exchange_delete(exchange.as_str().into(), options).await.unwrap();
        }
    }
}

/// Publishes each message once; those that were refused.
async fn publish_once(
    channel: &Channel,
    exchange: &str,
    messages: Vec<ToPublish>,
) -> Vec<ToPublish> {
    let mut confirms = Vec::with_capacity(messages.len());
    for message in messages {
        let (key, body, properties) = &message;
        let options = BasicPublishOptions { mandatory: true, ..Default::default() };
        let (exchange, key) = (exchange.into(), key.as_str().into());
        let sent = channel.basic_publish(exchange, key, options, body, properties.clone());
        let sent = sent.await.unwrap();
        confirms.push((message, sent));
    }
    let mut refused = Vec::new();
    for (message, confirm) in confirms {
        match confirm.await.unwrap() {
            Confirmation::Ack(None) => {}
            Confirmation::Nack(None) => refused.push(message),
            other => panic!("{}: {other:?}", message.0),
        }
    }
    refused
}

/// Nothing but the type of a quorum queue.
fn quorum() -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    arguments
}
