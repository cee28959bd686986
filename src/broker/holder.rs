//! The one worker of a ledger that serves one process: an exclusive queue of its connection.
//!
//! A copy of an SQLite file has the same id, so that the pairing does not tell it from the first.
//! The broker deletes an exclusive queue with its connection, and refuses it to any other. Since 4.2 it
//! keeps the one of a node that was lost until that node is back. Nobody can tell that from a node
//! that is only cut off, with a worker that lives on: so a person has to free it.

use std::sync::atomic::Ordering;
use std::time::Duration;

use lapin::BasicProperties;
use lapin::options::{QueueDeclareOptions, QueueDeleteOptions};
use lapin::protocol::AMQPSoftError;
use lapin::types::FieldTable;

use super::Error;
use super::declare::{said, soft_error};
use super::pairing::Pairing;
use super::publisher::Message;
use super::topology::Names;

/// After so many heartbeats without a word at most, RabbitMQ closes a connection: it looks once a
/// heartbeat, and closes where it has seen nothing at two looks in a row.
const SILENT_HEARTBEATS: u32 = 3;

/// Who holds the queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Held {
    /// This connection.
    Here,
    /// Another connection.
    Elsewhere,
    /// A connection whose node is lost.
    OfLostNode,
    /// This user may not declare the queue, so nobody can tell.
    Refused,
}

impl Pairing {
    /// Holds the queues for as long as the connection lives, unless another one does.
    ///
    /// # Errors
    /// Where the broker is lost, or a queue of this name is something else.
    pub(crate) async fn hold(&self) -> Result<Held, Error> {
        if self.may_not_hold.load(Ordering::Relaxed) {
            return Ok(Held::Refused);
        }
        let (channel, name) = (self.channel().await?, self.names.holder());
        let options = QueueDeclareOptions { auto_delete: true, ..QueueDeclareOptions::exclusive() };
        let declare = channel.queue_declare(name.as_str().into(), options, FieldTable::default());
        let Err(error) = self.monitor.unless_closed(declare).await else {
            self.holds.store(true, Ordering::Relaxed);
            self.keep(channel);
            return Ok(Held::Here);
        };
        match soft_error(&error) {
            Some(AMQPSoftError::RESOURCELOCKED) => self.held_by_another(name).await,
            Some(AMQPSoftError::ACCESSREFUSED) => {
                self.may_not_hold.store(true, Ordering::Relaxed);
                Ok(Held::Refused)
            }
            Some(AMQPSoftError::PRECONDITIONFAILED) => Err(Error::Topology(format!(
                "queue {name} is not what this worker needs: expected none, or an exclusive \
                 auto-delete queue without arguments; {}",
                said(&error)
            ))),
            Some(_) | None => Err(error.into()),
        }
    }

    /// Whether the queue that another connection has is there, or its node is lost. One that is there
    /// drops at once what nobody takes out of it in no time.
    async fn held_by_another(&self, queue: String) -> Result<Held, Error> {
        let message = Message {
            exchange: String::new(),
            routing_key: queue,
            properties: BasicProperties::default().with_expiration("0".into()),
            body: Vec::new(),
        };
        match self.publisher.publish(message).await {
            Err(Error::Refused { .. }) => Ok(Held::OfLostNode),
            Ok(_) | Err(Error::Unconfirmed { .. }) => Ok(Held::Elsewhere),
            Err(error) => Err(error),
        }
    }

    /// Lets go of the queues, where this connection holds them.
    ///
    /// # Errors
    /// Where the broker is lost.
    pub(crate) async fn release(&self) -> Result<(), Error> {
        if !self.holds.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        let (channel, name) = (self.channel().await?, self.names.holder());
        let delete = channel.queue_delete(name.as_str().into(), QueueDeleteOptions::default());
        self.monitor.unless_closed(delete).await?;
        self.keep(channel);
        Ok(())
    }

    /// How long the broker may take a connection for alive whose machine lost its power or network.
    pub(crate) fn silence(&self) -> Duration {
        let heartbeat = self.connection.configuration().heartbeat();
        Duration::from_secs(heartbeat.into()) * SILENT_HEARTBEATS
    }
}

impl Names {
    /// The queue that the one worker of an SQLite ledger holds.
    pub(crate) fn holder(&self) -> String {
        format!("{}.holder", self.ledger())
    }
}
