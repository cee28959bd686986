//! One connection for what an operator asks for once: nothing is declared, nothing is made anew.

use std::sync::Arc;

use futures_util::StreamExt as _;
use jiff::Timestamp;
use lapin::options::{BasicConsumeOptions, ExchangeDeclareOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, Consumer, ExchangeKind};

use super::connection::{CLOSE_TIMEOUT, open};
use super::connection_monitor::ConnectionMonitor;
use super::declare::{said, soft_error};
use super::envelope::DELIVERY_MODE;
use super::pairing::Pairing;
use super::publisher::{Message, Publisher, Routed};
use super::relay::Room;
use super::topology::{Names, command_key};
use super::{Error, Settings};

/// A connection with one channel that publishes and one for all else.
pub(crate) struct OperatorConnection {
    pub(super) connection: Arc<Connection>,
    publisher: Publisher,
    publishing: ConnectionMonitor,
    channel: Channel,
    pub(super) monitor: ConnectionMonitor,
    pub(super) names: Names,
}

/// A command to publish.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PublishRequest<'a> {
    /// The kind, which leads it to its queue.
    pub(crate) kind: &'a str,
    /// Its id.
    pub(crate) id: &'a str,
    /// The whole message.
    pub(crate) body: &'a [u8],
    /// Where its event is wanted.
    pub(crate) replies: &'a Replies,
    /// When it is published.
    pub(crate) time: Timestamp,
}

/// A queue of our own, gone with the connection.
#[derive(Debug)]
pub(crate) struct Replies {
    queue: String,
    consumer: Consumer,
}

/// What the broker answered, in its own words, unless it was lost.
pub(super) fn refusal(error: lapin::Error) -> Error {
    match soft_error(&error) {
        Some(_) => Error::Topology(said(&error)),
        None => error.into(),
    }
}

impl Replies {
    /// The body of the next message; `None` where the connection is gone.
    pub(crate) async fn next(&mut self) -> Option<Vec<u8>> {
        self.consumer.next().await?.ok().map(|delivery| delivery.data)
    }
}

impl OperatorConnection {
    /// Connects to the first node that answers.
    ///
    /// # Errors
    /// What the last node said.
    pub(crate) async fn open(settings: &Settings) -> Result<Self, Error> {
        let mut last = Error::Lost("AMQP_URL names no node".to_owned());
        for url in &settings.urls.value() {
            match open(url, settings, "operates", Room::unlimited()).await {
                Ok(connection) => return Self::on(connection, settings).await,
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn on(connection: Connection, settings: &Settings) -> Result<Self, Error> {
        // The loss of a channel is an answer here; what publishes would wait for its confirm.
        let monitors = [
            ConnectionMonitor::follow(&connection, false),
            ConnectionMonitor::follow(&connection, true),
        ];
        let channel = connection.create_channel().await?;
        let [monitor, publishing_monitor] = monitors;
        let connection = Arc::new(connection);
        let publisher =
            Publisher::start(Arc::clone(&connection), publishing_monitor.clone()).await?;
        let names = Names::new(&settings.prefix);
        Ok(Self { connection, publisher, publishing: publishing_monitor, channel, monitor, names })
    }

    /// A queue of our own for answers. Commands name it as their `reply_to`: bound to the events
    /// it would take those of others that no subscriber's binding takes, which must be kept.
    ///
    /// # Errors
    /// Where the broker lets this user have none.
    pub(crate) async fn replies(&self) -> Result<Replies, Error> {
        let options = QueueDeclareOptions { auto_delete: true, ..QueueDeclareOptions::exclusive() };
        let declare = self.channel.queue_declare("".into(), options, FieldTable::default());
        let queue = self.monitor.unless_closed(declare).await.map_err(refusal)?.name().to_string();
        let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
        let (name, table) = (queue.as_str().into(), FieldTable::default());
        let consume = self.channel.basic_consume(name, "".into(), options, table);
        let consumer = self.monitor.unless_closed(consume).await.map_err(refusal)?;
        Ok(Replies { queue, consumer })
    }

    /// Publishes a command where its kind's queue takes it; returns once that is confirmed.
    ///
    /// # Errors
    /// After [`Error::Lost`] it may have been taken, after any other it was not.
    pub(crate) async fn publish_command(&self, request: PublishRequest<'_>) -> Result<(), Error> {
        let seconds = u64::try_from(request.time.as_second()).unwrap_or_default();
        let properties = BasicProperties::default()
            .with_content_type("application/cloudevents+json".into())
            .with_delivery_mode(DELIVERY_MODE)
            .with_message_id(request.id.into())
            .with_type(command_key(request.kind).into())
            .with_reply_to(request.replies.queue.as_str().into())
            .with_timestamp(seconds);
        self.publish(request.kind, properties, request.body).await
    }

    /// Publishes to the commands of a kind, which must be there: after an error of the channel it
    /// would not be certain that nothing was published.
    pub(super) async fn publish(
        &self,
        kind: &str,
        properties: BasicProperties,
        body: &[u8],
    ) -> Result<(), Error> {
        let (exchange, routing_key) = (self.names.commands(), command_key(kind));
        let passive = ExchangeDeclareOptions { passive: true, ..Default::default() };
        let (name, table) = (exchange.as_str().into(), FieldTable::default());
        let look = self.channel.exchange_declare(name, ExchangeKind::Topic, passive, table);
        self.monitor.unless_closed(look).await.map_err(refusal)?;
        let message = Message { exchange, routing_key, properties, body: body.to_vec() };
        let unrouted = message.refused(
            "no queue takes it: start a worker with this AMQP_PREFIX once, so that its queues exist",
        );
        // An operator is told rather than kept waiting for the end of an alarm.
        let routed = tokio::select! {
            biased;
            routed = self.publisher.publish(message) => routed,
            () = self.monitor.blocked() => {
                let why = "the broker is short of memory or disk and takes no messages now: try \
                           again later";
                return Err(Error::Lost(why.to_owned()));
            }
        };
        match routed {
            Ok(Routed::Yes) => Ok(()),
            Ok(Routed::No) => Err(unrouted),
            Err(error) if self.publishing.is_refused() => Err(Error::Topology(error.to_string())),
            // It may have been taken.
            Err(error @ Error::Unconfirmed { .. }) => Err(Error::Lost(error.to_string())),
            Err(error) => Err(error),
        }
    }

    /// Whom the prefix belongs to.
    pub(crate) fn pairing(&self) -> Pairing {
        let (connection, monitor) = (Arc::clone(&self.connection), self.monitor.clone());
        Pairing::new(connection, monitor, self.publisher.clone(), self.names.clone())
    }

    /// Says goodbye; what was taken and not settled goes back.
    pub(crate) async fn close(self) {
        let goodbye = self.connection.close(200, "bye".into());
        if !matches!(tokio::time::timeout(CLOSE_TIMEOUT, goodbye).await, Ok(Ok(()))) {
            tracing::debug!("the connection was lost before it was closed");
        }
    }
}
