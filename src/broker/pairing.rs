//! The pairing of a prefix with its ledger, kept in the broker by means that need no plugin.
//!
//! An exchange that nobody publishes to names the ledger in its argument `alternate-exchange`, the
//! one argument of exchanges that RabbitMQ compares: it is durable, of two that declare it at once
//! one wins, and whoever comes with another ledger is told whose it is. A queue of length one is the
//! register: its message says how often the ledger had committed when that was last published.

mod register;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lapin::options::{
    BasicGetOptions, BasicNackOptions, ExchangeDeclareOptions, ExchangeDeleteOptions,
    QueueDeclareOptions,
};
use lapin::protocol::AMQPSoftError;
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ExchangeKind};

use super::Error;
use super::connection_monitor::ConnectionMonitor;
use super::declare::{said, soft_error};
use super::envelope::DELIVERY_MODE;
use super::operator_connection::refusal;
use super::publisher::{Message, Publisher, Routed};
use super::topology::{Names, quorum, text};
pub(crate) use register::Register;

/// How often the register's message may be looked at before the broker drops it. Each look counts,
/// and each new message begins anew.
const DELIVERY_LIMIT: i64 = 1_000_000;

/// How many messages are read of the register at most: it holds one, and one more for a moment
/// while somebody looks at it.
const MOST: usize = 4;

/// How often a register that shows nothing is looked at: somebody else may be looking.
const LOOKS: u32 = 4;

/// Between those looks.
const PAUSE: Duration = Duration::from_millis(50);

/// How often taking over is tried: the worker of the other ledger may declare its own once more
/// between the two steps.
const TAKEOVERS: u32 = 5;

/// Whom a prefix belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Paired {
    /// This ledger.
    Ours,
    /// Another one, of this id.
    Other(String),
    /// No ledger yet.
    Nobody,
    /// The broker lets this user neither declare nor read what would tell.
    Unknown,
}

/// A handle on the pairing of one prefix.
#[derive(Clone)]
pub(crate) struct Pairing {
    pub(super) connection: Arc<Connection>,
    pub(super) monitor: ConnectionMonitor,
    pub(super) publisher: Publisher,
    pub(super) names: Names,
    /// Whether the broker has told that this user may not declare: each try is an error in its log.
    is_limited: Arc<AtomicBool>,
    /// The same of the holder's queue.
    pub(super) may_not_hold: Arc<AtomicBool>,
    /// Whether this connection holds the queues.
    pub(super) holds: Arc<AtomicBool>,
    /// The channel of the last look, which serves the next one: there is one every second.
    idle: Arc<Mutex<Option<Channel>>>,
}

/// What the broker said to a declaration.
enum Declared {
    Ours,
    Other(String),
    /// This user may not declare it.
    Refused,
}

/// What the register has told.
pub(crate) enum Read {
    /// How often a ledger had committed.
    Says(Register),
    /// It is empty or missing.
    Nothing,
    /// This user may not read it.
    Refused,
}

impl Read {
    /// What it says of a ledger.
    pub(crate) fn of(&self, id: &str) -> Option<&Register> {
        match self {
            Self::Says(register) if register.ledger == id => Some(register),
            Self::Says(_) | Self::Nothing | Self::Refused => None,
        }
    }
}

impl Pairing {
    /// The pairing of the prefix of these names, over a connection and its publisher.
    pub(super) fn new(
        connection: Arc<Connection>,
        monitor: ConnectionMonitor,
        publisher: Publisher,
        names: Names,
    ) -> Self {
        Self {
            connection,
            monitor,
            publisher,
            names,
            is_limited: Arc::default(),
            may_not_hold: Arc::default(),
            holds: Arc::default(),
            idle: Arc::default(),
        }
    }

    /// Whether this user may not declare, so that only the register tells whose the prefix is.
    pub(crate) fn is_limited(&self) -> bool {
        self.is_limited.load(Ordering::Relaxed)
    }

    /// Pairs the prefix with a ledger unless it belongs to another one; tells whose it is.
    ///
    /// # Errors
    /// Where the broker is lost, or the exchange or the register is something else.
    pub(crate) async fn claim(&self, id: &str) -> Result<Paired, Error> {
        match self.declare(id).await? {
            Declared::Ours => Ok(Paired::Ours),
            Declared::Other(other) => Ok(Paired::Other(other)),
            Declared::Refused => self.by_register(id).await,
        }
    }

    /// Whose the prefix is, changing nothing.
    ///
    /// # Errors
    /// As [`Self::claim`].
    pub(crate) async fn look(&self, id: &str) -> Result<Paired, Error> {
        let channel = self.channel().await?;
        let options = ExchangeDeclareOptions { passive: true, ..Default::default() };
        let (name, table) = (self.names.ledger(), FieldTable::default());
        let (name, kind) = (name.as_str().into(), ExchangeKind::Fanout);
        let found =
            self.monitor.unless_closed(channel.exchange_declare(name, kind, options, table)).await;
        match found {
            // It is there: to declare it changes nothing.
            Ok(()) => {
                self.keep(channel);
                self.claim(id).await
            }
            Err(error) => match soft_error(&error) {
                Some(AMQPSoftError::NOTFOUND) => Ok(Paired::Nobody),
                // Who may not look for it may not declare it either.
                Some(AMQPSoftError::ACCESSREFUSED) => {
                    self.is_limited.store(true, Ordering::Relaxed);
                    self.by_register(id).await
                }
                Some(_) | None => Err(refusal(error)),
            },
        }
    }

    /// Takes the prefix over for a ledger, whosever it was.
    ///
    /// # Errors
    /// As [`Self::claim`], and where this user may not declare.
    pub(crate) async fn take_over(&self, id: &str) -> Result<(), Error> {
        for _ in 0..TAKEOVERS {
            match self.declare(id).await? {
                Declared::Ours => return Ok(()),
                Declared::Other(_) => self.delete().await?,
                Declared::Refused => {
                    return Err(Error::Topology(format!(
                        "exchange {} names the ledger, and the user of AMQP_URL may not declare \
                         it: give the user the configure permission for it",
                        self.names.ledger()
                    )));
                }
            }
        }
        let name = self.names.ledger();
        Err(Error::Topology(format!(
            "exchange {name} is declared anew by the other ledger's worker"
        )))
    }

    async fn delete(&self) -> Result<(), Error> {
        let (channel, name) = (self.channel().await?, self.names.ledger());
        let options = ExchangeDeleteOptions::default();
        let deleted = self
            .monitor
            .unless_closed(channel.exchange_delete(name.as_str().into(), options))
            .await;
        deleted.map_err(refusal)?;
        self.keep(channel);
        Ok(())
    }

    async fn declare(&self, id: &str) -> Result<Declared, Error> {
        let (channel, name) = (self.channel().await?, self.names.ledger());
        let mut arguments = FieldTable::default();
        arguments.insert("alternate-exchange".into(), text(&self.names.ledger_of(id)));
        let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
        let declare = channel.exchange_declare(
            name.as_str().into(),
            ExchangeKind::Fanout,
            options,
            arguments,
        );
        let Err(error) = self.monitor.unless_closed(declare).await else {
            self.keep(channel);
            return Ok(Declared::Ours);
        };
        match soft_error(&error) {
            Some(AMQPSoftError::ACCESSREFUSED) => {
                self.is_limited.store(true, Ordering::Relaxed);
                Ok(Declared::Refused)
            }
            Some(AMQPSoftError::PRECONDITIONFAILED) => {
                let told = said(&error);
                match self.names.ledger_named_in(&told) {
                    Some(other) => Ok(Declared::Other(other)),
                    None => Err(Error::Topology(format!(
                        "exchange {name} is not what this worker needs: expected a durable fanout \
                         exchange whose alternate-exchange names the ledger; {told}"
                    ))),
                }
            }
            Some(_) | None => Err(error.into()),
        }
    }

    async fn by_register(&self, id: &str) -> Result<Paired, Error> {
        match self.read().await? {
            Read::Says(register) if register.ledger == id => Ok(Paired::Ours),
            Read::Says(register) => Ok(Paired::Other(register.ledger)),
            Read::Nothing | Read::Refused => Ok(Paired::Unknown),
        }
    }

    /// What the register says.
    ///
    /// # Errors
    /// Where the broker is lost.
    pub(crate) async fn read(&self) -> Result<Read, Error> {
        for look in 1..=LOOKS {
            match self.read_once().await? {
                Read::Nothing if look < LOOKS => tokio::time::sleep(PAUSE).await,
                read => return Ok(read),
            }
        }
        Ok(Read::Nothing)
    }

    /// Takes what is there and gives it back; the newest message counts.
    async fn read_once(&self) -> Result<Read, Error> {
        let (channel, name) = (self.channel().await?, self.names.ledger());
        let mut read = Read::Nothing;
        let mut last = None;
        for _ in 0..MOST {
            let get = channel.basic_get(name.as_str().into(), BasicGetOptions::default());
            let got = match self.monitor.unless_closed(get).await {
                Ok(Some(message)) => message.delivery,
                Ok(None) => break,
                Err(error) => match soft_error(&error) {
                    Some(AMQPSoftError::ACCESSREFUSED) => return Ok(Read::Refused),
                    Some(AMQPSoftError::NOTFOUND) => return Ok(Read::Nothing),
                    Some(_) | None => return Err(error.into()),
                },
            };
            if let Ok(register) = serde_json::from_slice(&got.data) {
                read = Read::Says(register);
            }
            last = Some(got.delivery_tag);
        }
        if let Some(tag) = last {
            let options = BasicNackOptions { multiple: true, requeue: true };
            self.monitor.unless_closed(channel.basic_nack(tag, options)).await?;
        }
        self.keep(channel);
        Ok(read)
    }

    /// Declares the register; a user who may not finds it, or does without.
    ///
    /// # Errors
    /// Where the broker is lost, or a queue of its name is something else.
    pub(crate) async fn prepare(&self) -> Result<(), Error> {
        let (channel, name) = (self.channel().await?, self.names.ledger());
        let options = QueueDeclareOptions { durable: true, ..Default::default() };
        let declare = channel.queue_declare(name.as_str().into(), options, register_arguments());
        let Err(error) = self.monitor.unless_closed(declare).await else {
            self.keep(channel);
            return Ok(());
        };
        match soft_error(&error) {
            Some(AMQPSoftError::ACCESSREFUSED) => Ok(()),
            Some(AMQPSoftError::PRECONDITIONFAILED) => Err(Error::Topology(format!(
                "queue {name} is not what this worker needs: expected a durable quorum queue with \
                 x-max-length=1, x-overflow=drop-head, x-delivery-limit={DELIVERY_LIMIT}; {}",
                said(&error)
            ))),
            Some(_) | None => Err(error.into()),
        }
    }

    /// Writes into the register how often the ledger has committed. Where there is no register
    /// nothing is written.
    ///
    /// # Errors
    /// Where the broker is lost or does not take it.
    pub(crate) async fn write(&self, register: &Register) -> Result<bool, Error> {
        let body = serde_json::to_vec(register);
        let body = body.map_err(|error| Error::Topology(format!("the register: {error}")))?;
        let properties = BasicProperties::default()
            .with_content_type("application/json".into())
            .with_delivery_mode(DELIVERY_MODE);
        let (exchange, routing_key) = (String::new(), self.names.ledger());
        let message = Message { exchange, routing_key, properties, body };
        Ok(self.publisher.publish(message).await? == Routed::Yes)
    }

    /// A channel that nobody else uses. An error closes it.
    pub(super) async fn channel(&self) -> Result<Channel, Error> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).take();
        match idle.filter(|channel| channel.status().connected()) {
            Some(channel) => Ok(channel),
            None => Ok(self.monitor.unless_closed(self.connection.create_channel()).await?),
        }
    }

    /// Keeps a channel for the next look. One that is there already goes: lapin closes what nobody holds.
    pub(super) fn keep(&self, channel: Channel) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).replace(channel);
    }
}

/// The newest message alone is kept.
fn register_arguments() -> FieldTable {
    let mut arguments = quorum();
    arguments.insert("x-max-length".into(), AMQPValue::LongLongInt(1));
    arguments.insert("x-overflow".into(), text("drop-head"));
    arguments.insert("x-delivery-limit".into(), AMQPValue::LongLongInt(DELIVERY_LIMIT));
    arguments
}

impl Names {
    /// The exchange that names the ledger, and the queue that is its register.
    pub(crate) fn ledger(&self) -> String {
        format!("{}.ledger", self.prefix())
    }

    /// What the exchange's argument says of a ledger. It begins with the prefix, since RabbitMQ asks
    /// for the permission to write to what it names.
    fn ledger_of(&self, id: &str) -> String {
        format!("{}.{id}", self.ledger())
    }

    /// The id that RabbitMQ names where it refuses another one.
    fn ledger_named_in(&self, refusal: &str) -> Option<String> {
        if !refusal.contains("alternate-exchange") {
            return None;
        }
        let (_, current) = refusal.rsplit_once("current is '")?;
        let current = current.split('\'').next()?;
        let id = current.strip_prefix(&format!("{}.", self.ledger()))?;
        Some(id.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_is_read_out_of_the_refusals_of_3_10_and_4() {
        let names = Names::new("eko");
        let told = "PRECONDITION_FAILED - inequivalent arg 'alternate-exchange' for exchange \
                    'eko.ledger' in vhost '/': received 'eko.ledger.77' but current is \
                    'eko.ledger.0a1b'";
        assert_eq!(names.ledger_named_in(told).as_deref(), Some("0a1b"));
        for other in [
            "PRECONDITION_FAILED - inequivalent arg 'type' for exchange 'eko.ledger' in vhost '/': \
             received 'fanout' but current is 'topic'",
            "PRECONDITION_FAILED - inequivalent arg 'alternate-exchange' for exchange 'eko.ledger' \
             in vhost '/': received the value 'eko.ledger.77' of type 'longstr' but current is none",
            "PRECONDITION_FAILED - inequivalent arg 'alternate-exchange' for exchange 'eko.ledger' \
             in vhost '/': received 'eko.ledger.77' but current is 'elsewhere'",
        ] {
            assert_eq!(names.ledger_named_in(other), None, "{other}");
        }
    }
}
