//! The dead letters: looked at one by one; each is settled, or back in the end.

use std::time::Duration;

use futures_util::StreamExt as _;
use jiff::Timestamp;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Acker, BasicProperties, Channel, Consumer};

use super::Error;
use super::connection_monitor::ConnectionMonitor;
use super::envelope::{
    ATTEMPT, Envelope, PARKED, copy_of, own_headers, read as header, read_envelope,
};
use super::operator_connection::{OperatorConnection, refusal};
use super::topology::text;

/// The id of the command that a replay repeats.
const REPLAY_OF: &str = "eko-replay-of";

/// What a command that the broker itself gave up keeps of its headers: the ledger knows it by
/// them, and takes a copy that has lost them for an old one.
const KEPT: [&str; 3] = [PARKED, ATTEMPT, "eko-first-received"];

/// How long a message may take that the broker has counted.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(5);

/// A message in our hands. Unless it is settled, it goes back with all the others.
pub(crate) struct DeadLetter {
    /// What it says, byte for byte.
    pub(crate) body: Vec<u8>,
    properties: BasicProperties,
    acker: Acker,
}

/// How a dead letter is sent once more.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Replay<'a> {
    /// The kind, which leads it to its queue.
    pub(crate) kind: &'a str,
    /// The id that it is sent with.
    pub(crate) id: &'a str,
    /// The id that it had, where the two differ.
    pub(crate) of: Option<&'a str>,
    /// The whole message, with that id.
    pub(crate) body: &'a [u8],
    /// Whether the worker must take it for one that may have been executed.
    pub(crate) is_suspect: bool,
    /// When it is sent.
    pub(crate) time: Timestamp,
}

impl DeadLetter {
    /// A header that holds text.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        header(self.properties.headers().as_ref()?, name)
    }

    /// What its properties say.
    pub(crate) fn envelope(&self) -> Envelope {
        read_envelope(&self.properties, false)
    }

    /// The id of the command that it is a replay of.
    pub(crate) fn replay_of(&self) -> Option<String> {
        self.header(REPLAY_OF)
    }

    /// Why and when the broker itself gave it up last, where it was the broker.
    pub(crate) fn death(&self) -> Option<(String, Option<Timestamp>)> {
        let headers = self.properties.headers().as_ref()?;
        let AMQPValue::FieldArray(deaths) = headers.inner().get("x-death")? else { return None };
        let AMQPValue::FieldTable(last) = deaths.as_slice().first()? else { return None };
        let time = match last.inner().get("time") {
            Some(AMQPValue::Timestamp(seconds)) => i64::try_from(*seconds).ok(),
            _ => None,
        };
        let time = time.and_then(|seconds| Timestamp::from_second(seconds).ok());
        Some((header(last, "reason")?, time))
    }

    fn replayed(&self, replay: Replay<'_>) -> BasicProperties {
        let envelope = self.envelope();
        let mut headers = own_headers(&self.properties);
        headers.retain(|name, _| {
            let is_kept = replay.of.is_none() && KEPT.contains(&name.as_str());
            is_kept || !name.as_str().starts_with("eko-")
        });
        if let Some(of) = replay.of {
            headers.insert(REPLAY_OF.into(), text(of));
        }
        if replay.is_suspect {
            headers.insert(ATTEMPT.into(), text(&envelope.attempts.max(1).to_string()));
        }
        let asked = replay.of.unwrap_or(replay.id);
        let correlation_id = envelope.correlation_id.as_deref().unwrap_or(asked);
        let seconds = u64::try_from(replay.time.as_second()).unwrap_or_default();
        copy_of(&self.properties)
            .with_message_id(replay.id.into())
            .with_correlation_id(correlation_id.into())
            .with_timestamp(seconds)
            .with_headers(FieldTable::from(headers))
    }
}

/// The dead letters that were there at one moment, handed out in their order. All that are not
/// settled go back in that order when this ends, however it ends: they are one consumer's, and
/// RabbitMQ sorts those. What is taken or given back one by one it may mix up (seen on 3.10).
pub(crate) struct DeadLetters {
    /// How many there were.
    pub(crate) count: u32,
    channel: Channel,
    consumer: Consumer,
    monitor: ConnectionMonitor,
    left: u16,
}

impl DeadLetters {
    /// The next one.
    ///
    /// # Errors
    /// Where the broker is lost.
    pub(crate) async fn next(&mut self) -> Result<Option<DeadLetter>, Error> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let next = tokio::select! {
            next = self.consumer.next() => next,
            why = self.monitor.gone() => return Err(Error::Lost(why)),
            // Somebody else has what is missing in hand.
            () = tokio::time::sleep(MESSAGE_TIMEOUT) => return Ok(None),
        };
        let delivery = next.ok_or_else(|| Error::Lost("the queue is gone".to_owned()))??;
        let (body, properties, acker) = (delivery.data, delivery.properties, delivery.acker);
        Ok(Some(DeadLetter { body, properties, acker }))
    }

    /// Takes one out of the queue for good.
    ///
    /// # Errors
    /// Where the broker is lost: it is back then.
    pub(crate) async fn settle(&self, letter: DeadLetter) -> Result<(), Error> {
        if self.monitor.unless_closed(letter.acker.ack(BasicAckOptions::default())).await? {
            Ok(())
        } else {
            Err(Error::Lost("its channel was lost; the message is back in the queue".to_owned()))
        }
    }

    /// Gives back all that are not settled.
    ///
    /// # Errors
    /// Where the broker is lost: they are back then.
    pub(crate) async fn end(self) -> Result<(), Error> {
        Ok(self.monitor.unless_closed(self.channel.close(200, "looked at".into())).await?)
    }
}

impl OperatorConnection {
    /// The dead letters that nobody has in hand. All of them are taken at once: what goes back
    /// alone comes after what has gone back before, and the order would be another.
    ///
    /// # Errors
    /// Where there is no such queue, or this user may not read it.
    pub(crate) async fn dead_letters(&self) -> Result<DeadLetters, Error> {
        let channel = self.monitor.unless_closed(self.connection.create_channel()).await?;
        let (queue, passive) = (self.names.dead(), QueueDeclareOptions::default().passive());
        let declare = channel.queue_declare(queue.as_str().into(), passive, FieldTable::default());
        let count = self.monitor.unless_closed(declare).await.map_err(refusal)?.message_count();
        // Nothing means any number to the broker.
        let left = u16::try_from(count).unwrap_or(u16::MAX);
        self.monitor
            .unless_closed(channel.basic_qos(left.max(1), BasicQosOptions::default()))
            .await?;
        let (name, options) = (queue.as_str().into(), BasicConsumeOptions::default());
        let consume = channel.basic_consume(name, "".into(), options, FieldTable::default());
        let consumer = self.monitor.unless_closed(consume).await.map_err(refusal)?;
        Ok(DeadLetters { count, channel, consumer, monitor: self.monitor.clone(), left })
    }

    /// Publishes a dead letter once more; it stays in hand.
    ///
    /// # Errors
    /// Where that is not confirmed: it may have been taken all the same.
    pub(crate) async fn replay(
        &self,
        letter: &DeadLetter,
        replay: Replay<'_>,
    ) -> Result<(), Error> {
        self.publish(replay.kind, letter.replayed(replay), replay.body).await
    }
}
