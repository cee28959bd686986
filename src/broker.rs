//! RabbitMQ: the only AMQP.

mod acks;
mod caretaker;
mod connection;
mod connection_monitor;
mod consumer;
mod dead;
mod declare;
mod dial;
mod envelope;
mod holder;
mod node;
mod operator_connection;
mod outcome_publisher;
mod pairing;
mod permissions;
mod publisher;
mod queue_consumer;
mod refusals;
mod relay;
mod replier;
mod server_properties;
mod tls;
mod topology;
mod wire;

use std::time::Duration;

pub(crate) use caretaker::Caretaker;
pub(crate) use connection::{Session, connect};
pub(crate) use consumer::{Delivery, Parking};
pub(crate) use dead::{DeadLetter, DeadLetters, Replay};
pub(crate) use holder::Held;
pub(crate) use operator_connection::{OperatorConnection, PublishRequest, Replies};
pub(crate) use outcome_publisher::OutcomePublisher;
pub(crate) use pairing::{Paired, Pairing, Read, Register};
pub(crate) use queue_consumer::QueueConsumer;
pub(crate) use refusals::Refusals;
pub(crate) use server_properties::version;
pub(crate) use tls::{Address, TLS_SETTINGS, connector as tls_connector};
pub(crate) use topology::{Names, WaitingQueue};

use secrecy::SecretString;

use crate::credential::Credential;
use crate::order::Owed;
use crate::pem::TlsFiles;

/// Where the broker is and how it is used.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// `AMQP_URL`: the nodes, tried in turn. They hold passwords.
    pub(crate) urls: Credential<Vec<SecretString>>,
    /// Certificates for `amqps`.
    pub(crate) tls: TlsFiles,
    /// `AMQP_PREFIX`.
    pub(crate) prefix: String,
    /// Deliveries in the worker's hands at a time, for each kind.
    pub(crate) prefetch: u16,
    /// `WORKER_BUFFER`: bytes of bodies in the worker's hands at a time, for all kinds.
    pub(crate) buffer: u64,
}

/// Why the broker did not do what it was asked for.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The connection or channel is gone.
    #[error("the connection to the broker was lost: {0}")]
    Lost(String),
    /// The broker did not take a message, or no queue did.
    #[error("the broker did not take a message for {exchange:?} with key {routing_key:?}: {why}")]
    Refused {
        /// The exchange; empty for the default one.
        exchange: String,
        /// The routing key.
        routing_key: String,
        /// What it said.
        why: &'static str,
    },
    /// The broker has neither taken nor refused a message: a queue that it is for may have no leader.
    #[error(
        "the broker did not confirm a message for {exchange:?} with key {routing_key:?} in time"
    )]
    Unconfirmed {
        /// The exchange; empty for the default one.
        exchange: String,
        /// The routing key.
        routing_key: String,
    },
    /// The topology is not what this worker needs.
    #[error("{0}")]
    Topology(String),
}

impl From<lapin::Error> for Error {
    fn from(error: lapin::Error) -> Self {
        Self::Lost(error.to_string())
    }
}

/// What became of an event.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PublishedOutcome {
    /// Publish to confirm.
    pub(crate) took: Duration,
    /// Whether no subscriber's binding took it, so that it is kept in `eko.unrouted`.
    pub(crate) is_unrouted: bool,
    /// What the broker refused: a copy of the command waits until that is published again.
    pub(crate) refused: Owed,
}
