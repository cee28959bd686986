//! RabbitMQ: the only AMQP.

mod acks;
mod connection;
mod consumer;
mod dead;
mod declare;
mod dial;
mod envelope;
mod greeting;
mod holder;
mod inlet;
mod link;
mod once;
mod pairing;
mod permissions;
mod publisher;
mod teller;
mod tls;
mod topology;

use std::time::Duration;

pub(crate) use connection::{Session, connect};
pub(crate) use consumer::{Delivery, Parking};
pub(crate) use dead::{DeadLetter, DeadLetters, Replay};
pub(crate) use envelope::CopyAge;
pub(crate) use greeting::version;
pub(crate) use holder::Held;
pub(crate) use inlet::Inlet;
pub(crate) use once::{Once, Order, Replies};
pub(crate) use pairing::{Paired, Pairing, Read, Register};
pub(crate) use teller::Teller;
pub(crate) use tls::{Address, Tls};
pub(crate) use topology::Names;

use secrecy::SecretString;

use crate::credential::Credential;

/// Where the broker is and how it is used.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// `AMQP_URL`: the nodes, tried in turn. They hold passwords.
    pub(crate) urls: Credential<Vec<SecretString>>,
    /// Certificates for `amqps`.
    pub(crate) tls: Tls,
    /// `AMQP_PREFIX`.
    pub(crate) prefix: String,
    /// Deliveries in the worker's hands at a time, for each kind.
    pub(crate) prefetch: u16,
}

/// How large a connection's frames may be. lapin keeps room for 64 of them, and a message's
/// headers must fit into one: a connection that meets larger ones is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Frames {
    /// 16 KiB, enough for all but strange headers, unless `AMQP_URL` says otherwise.
    Small,
    /// As large as the broker takes them, or as `AMQP_URL` says.
    Large,
}

/// Why the broker did not do what it was asked for.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The connection or channel is gone.
    #[error("the broker's connection is lost: {0}")]
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
pub(crate) struct Told {
    /// Publish to confirm.
    pub(crate) took: Duration,
    /// Whether no subscriber's binding took it, so that it is kept in `eko.unrouted`.
    pub(crate) is_unrouted: bool,
}
