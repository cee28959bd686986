//! The two sides that the worker stands between, played on one connection: who publishes commands,
//! and who reads what comes of them.

use std::collections::BTreeSet;
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
use tokio::sync::{Mutex, oneshot};
use tokio::task::JoinHandle;

use super::WAIT_TIMEOUT;

/// Body of the message that the rig itself sends through a queue to find its end.
const END: &[u8] = b"end";
/// How long a node may take to let the rig in before it is taken for dead.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a look at a queue may take.
const LOOK_TIMEOUT: Duration = Duration::from_secs(1);

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
        let next = tokio::time::timeout(WAIT_TIMEOUT, self.consumer.next()).await;
        let next = next.unwrap_or_else(|_| panic!("{what}: nothing came in {WAIT_TIMEOUT:?}"));
        next.expect("the inbox is open").expect("a delivery").into()
    }
}

/// Somebody who looks at the commands that wait.
pub(crate) struct Watch {
    stop: oneshot::Sender<()>,
    looking: JoinHandle<Vec<Message>>,
}

impl Watch {
    /// Ends it; what was seen.
    pub(crate) async fn stop(self) -> Vec<Message> {
        self.stop.send(()).unwrap();
        self.looking.await.unwrap()
    }
}

/// The rig's own connection to RabbitMQ.
pub(crate) struct Broker {
    url: String,
    prefix: String,
    connection: Connection,
    channel: Channel,
    /// What counts. A channel for each count would be many: once all numbers of channels were used,
    /// the client library answers with the error of an earlier one.
    counting: Mutex<Option<Channel>>,
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
        let (url, prefix) = (url.to_owned(), prefix.to_owned());
        let broker = Self { url, prefix, connection, channel, counting: Mutex::default() };
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

    /// Looks at commands that have just begun to wait for 1 s to 5 s, and leaves them there: each once,
    /// since RabbitMQ 3.10 may keep one for minutes that is looked at when its time is over.
    pub(crate) async fn watch_parked(&self) -> Watch {
        let connection = Connection::connect(&self.url, ConnectionProperties::default());
        let connection = connection.await.unwrap();
        let levels = ["1000", "2000", "5000"];
        let kinds = super::COMMAND_QUEUES.into_iter();
        let queues = kinds.flat_map(|kind| levels.map(|level| format!("retry.{kind}.{level}ms")));
        let queues: Vec<_> = queues.map(|queue| self.name(&queue)).collect();
        let (stop, mut stopped) = oneshot::channel();
        let table = FieldTable::default;
        let looking = tokio::spawn(async move {
            let (mut seen, mut known) = (Vec::new(), BTreeSet::new());
            while stopped.try_recv().is_err() {
                // A channel for each round: what a lost answer keeps in hand goes back with it.
                let channel = connection.create_channel().await.unwrap();
                for queue in &queues {
                    let (name, options) = (queue.as_str().into(), QueueDeclareOptions::default());
                    let declared = channel.queue_declare(name, options.passive(), table());
                    let is_empty = declared.await.unwrap().message_count() == 0;
                    if is_empty {
                        known.remove(queue);
                    } else if known.insert(queue) {
                        let look = tokio::time::timeout(LOOK_TIMEOUT, look_at(&channel, queue));
                        seen.extend(look.await.ok().flatten());
                    }
                }
                channel.close(200, "looked at".into()).await.unwrap();
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            seen
        });
        Watch { stop, looking }
    }

    /// The next message of a queue, if there is one now, which stays there.
    pub(crate) async fn look(&self, queue: &str) -> Option<Message> {
        look_at(&self.channel, &self.name(queue)).await
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
            assert!(begin.elapsed() < WAIT_TIMEOUT, "{} messages are refused", left.len());
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

    /// Whether a queue takes a message that is published so.
    pub(crate) async fn is_taken(&self, to: (&str, &str), body: &[u8]) -> bool {
        matches!(self.try_publish(to, body).await.unwrap(), Confirmation::Ack(None))
    }

    /// Puts a message into a queue, past its exchange.
    pub(crate) async fn put(&self, queue: &str, body: &[u8]) {
        self.publish("", &self.name(queue), body.to_vec(), BasicProperties::default()).await;
    }

    /// Publishes to a queue until it refuses more.
    pub(crate) async fn fill(&self, queue: &str) {
        let (queue, options) = (self.name(queue), BasicPublishOptions::default());
        for _ in 0..1_000 {
            let (exchange, key) = ("".into(), queue.as_str().into());
            let properties = BasicProperties::default();
            let sent = self.channel.basic_publish(exchange, key, options, b"fills", properties);
            if matches!(sent.await.unwrap().await.unwrap(), Confirmation::Nack(_)) {
                return;
            }
        }
        panic!("{queue} takes all");
    }

    /// Declares a queue of this type that takes one message and refuses more, bound where that is
    /// given.
    pub(crate) async fn queue_of_one(
        &self,
        queue: &str,
        queue_type: &str,
        binding: Option<(&str, &str)>,
    ) {
        let queue = self.name(queue);
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString(queue_type.into()));
        arguments.insert("x-max-length".into(), AMQPValue::LongLongInt(1));
        arguments.insert("x-overflow".into(), AMQPValue::LongString("reject-publish".into()));
        let (name, options) = (queue.as_str().into(), QueueDeclareOptions::durable());
        self.channel.queue_declare(name, options, arguments).await.unwrap();
        let Some((exchange, key)) = binding else { return };
        let (exchange, options) = (self.name(exchange), QueueBindOptions::default());
        let (queue, exchange, table) =
            (queue.as_str().into(), exchange.as_str().into(), FieldTable::default());
        self.channel.queue_bind(queue, exchange, key.into(), options, table).await.unwrap();
    }

    /// Deletes an exchange.
    pub(crate) async fn delete_exchange(&self, exchange: &str) {
        let (exchange, options) = (self.name(exchange), ExchangeDeleteOptions::default());
        self.channel.exchange_delete(exchange.as_str().into(), options).await.unwrap();
    }

    /// Declares a topic exchange as any publisher or subscriber may.
    pub(crate) async fn declare_exchange(&self, exchange: &str) {
        let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
        let (exchange, none) = (self.name(exchange), FieldTable::default());
        let (exchange, kind) = (exchange.as_str().into(), ExchangeKind::Topic);
        self.channel.exchange_declare(exchange, kind, options, none).await.unwrap();
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
        let mut counting = self.counting.lock().await;
        let channel = match counting.take() {
            Some(channel) => channel,
            None => self.connection.create_channel().await.unwrap(),
        };
        let options = QueueDeclareOptions::default().passive();
        let queue = self.name(queue);
        let declared =
            channel.queue_declare(queue.as_str().into(), options, FieldTable::default()).await;
        // One that fails closes its channel.
        *counting = declared.is_ok().then_some(channel);
        declared.ok().map(|queue| queue.message_count())
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
        for exchange in ["commands", "events", "dead", "ledger"] {
            let exchange = self.name(exchange);
            let options = ExchangeDeleteOptions::default();
            self.channel.exchange_delete(exchange.as_str().into(), options).await.unwrap();
        }
    }
}

/// The next message of a queue, which is given back.
async fn look_at(channel: &Channel, queue: &str) -> Option<Message> {
    let got = channel.basic_get(queue.into(), BasicGetOptions::default()).await.unwrap();
    let delivery = got?.delivery;
    let options = BasicNackOptions { requeue: true, ..Default::default() };
    delivery.acker.nack(options).await.unwrap();
    Some(delivery.into())
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
