//! Exchanges and queues: their names, their arguments, and the delay levels of the retry
//! queues.

use std::time::Duration;

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, ExchangeKind};

use super::Error;
use crate::command::Kind;

/// Deliveries after which the broker gives up a command by itself. Each crash of a worker
/// costs every command in its hands one, so this is only a backstop.
const DELIVERY_LIMIT: i64 = 1_000;

/// The delays of the retry queues, in milliseconds: doubling, so that any delay is at most a
/// third longer than asked for, up to an hour.
pub(crate) const LEVELS: [u64; 15] = [
    250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 64_000, 128_000, 256_000, 512_000,
    1_024_000, 2_048_000, 3_600_000,
];

/// The header that chooses a retry queue.
pub(super) const DELAY_HEADER: &str = "eko-delay";

/// The retry queue and the expiry that fit a delay: never shorter than asked for unless the
/// delay is beyond the last level, and within 20 % of the level, since a queue expires only
/// at its head.
pub(crate) fn level(delay: Duration) -> (u64, u64) {
    let wanted = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
    let fitting = LEVELS.into_iter().find(|level| level + level / 5 >= wanted);
    match fitting {
        Some(level) => (level, wanted.max(level - level / 5)),
        None => (LEVELS[LEVELS.len() - 1], LEVELS[LEVELS.len() - 1]),
    }
}

/// The names under one prefix.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    prefix: String,
}

impl Names {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }

    pub(super) fn commands(&self) -> String {
        format!("{}.commands", self.prefix)
    }

    pub(super) fn events(&self) -> String {
        format!("{}.events", self.prefix)
    }

    pub(super) fn dead(&self) -> String {
        format!("{}.dead", self.prefix)
    }

    pub(super) fn unrouted(&self) -> String {
        format!("{}.unrouted", self.prefix)
    }

    pub(super) fn retry(&self) -> String {
        format!("{}.retry", self.prefix)
    }

    /// A key of the default exchange that no queue has.
    pub(super) fn nowhere(&self) -> String {
        format!("{}.nowhere", self.prefix)
    }

    pub(super) fn queue(&self, kind: Kind) -> String {
        format!("{}.{}", self.prefix, kind.as_str())
    }

    fn retry_queue(&self, level: u64) -> String {
        format!("{}.retry.{level}ms", self.prefix)
    }
}

/// The key under which a kind's commands are published; it does not change with the prefix.
pub(super) fn command_key(kind: &str) -> String {
    format!("eko.{kind}.request")
}

/// Declares everything, in the order in which it is needed.
pub(super) async fn declare(channel: &Channel, names: &Names) -> Result<(), Error> {
    exchange(channel, &names.commands(), ExchangeKind::Topic).await?;
    exchange(channel, &names.events(), ExchangeKind::Topic).await?;
    exchange(channel, &names.dead(), ExchangeKind::Topic).await?;
    exchange(channel, &names.retry(), ExchangeKind::Headers).await?;
    queue(channel, &names.dead(), quorum()).await?;
    bind(channel, &names.dead(), &names.dead(), "#", FieldTable::default()).await?;
    queue(channel, &names.unrouted(), quorum()).await?;
    for kind in Kind::ALL {
        let name = names.queue(kind);
        queue(channel, &name, work_arguments(names)).await?;
        let key = command_key(kind.as_str());
        bind(channel, &name, &names.commands(), &key, FieldTable::default()).await?;
    }
    for level in LEVELS {
        let name = names.retry_queue(level);
        queue(channel, &name, retry_arguments(names)).await?;
        let mut arguments = FieldTable::default();
        arguments.insert("x-match".into(), text("all"));
        arguments.insert(DELAY_HEADER.into(), text(&level.to_string()));
        bind(channel, &name, &names.retry(), "", arguments).await?;
    }
    Ok(())
}

fn quorum() -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), text("quorum"));
    arguments
}

/// Dead-lettering at least once needs `reject-publish`: without it the broker quietly falls
/// back to at most once.
fn dead_lettering(exchange: &str) -> FieldTable {
    let mut arguments = quorum();
    arguments.insert("x-dead-letter-exchange".into(), text(exchange));
    arguments.insert("x-dead-letter-strategy".into(), text("at-least-once"));
    arguments.insert("x-overflow".into(), text("reject-publish"));
    arguments
}

fn work_arguments(names: &Names) -> FieldTable {
    let mut arguments = dead_lettering(&names.dead());
    arguments.insert("x-delivery-limit".into(), AMQPValue::LongLongInt(DELIVERY_LIMIT));
    arguments
}

/// A parked copy keeps its routing key, which leads it back to its kind's queue.
fn retry_arguments(names: &Names) -> FieldTable {
    dead_lettering(&names.commands())
}

pub(super) fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

async fn exchange(channel: &Channel, name: &str, kind: ExchangeKind) -> Result<(), Error> {
    let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    let wanted = format!("a durable {kind:?} exchange without arguments");
    channel
        .exchange_declare(name.into(), kind, options, FieldTable::default())
        .await
        .map_err(|error| mismatch("exchange", name, &wanted, &error))
}

async fn queue(channel: &Channel, name: &str, arguments: FieldTable) -> Result<(), Error> {
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    let wanted = format!("a durable queue with {}", shown(&arguments));
    channel
        .queue_declare(name.into(), options, arguments)
        .await
        .map(drop)
        .map_err(|error| mismatch("queue", name, &wanted, &error))
}

async fn bind(
    channel: &Channel,
    queue: &str,
    exchange: &str,
    key: &str,
    arguments: FieldTable,
) -> Result<(), Error> {
    let options = QueueBindOptions::default();
    Ok(channel.queue_bind(queue.into(), exchange.into(), key.into(), options, arguments).await?)
}

/// An error of the broker about one object names what is wanted beside what it says is there.
fn mismatch(what: &str, name: &str, wanted: &str, error: &lapin::Error) -> Error {
    if error.is_amqp_soft_error() {
        Error::Topology(format!("{what} {name}: this worker needs {wanted}; {error}"))
    } else {
        Error::Lost(error.to_string())
    }
}

fn shown(arguments: &FieldTable) -> String {
    let pairs = arguments.inner().iter().map(|(name, value)| match value {
        AMQPValue::LongString(text) => format!("{name}={text}"),
        AMQPValue::LongLongInt(number) => format!("{name}={number}"),
        _ => name.to_string(),
    });
    pairs.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_level_fits_its_delay(milliseconds in 0u64..=4_320_000) {
            let (level, expiry) = level(Duration::from_millis(milliseconds));
            prop_assert!(LEVELS.contains(&level));
            prop_assert!(expiry >= milliseconds);
            prop_assert!(expiry <= level + level / 5);
            prop_assert!(expiry >= level - level / 5);
            prop_assert!(expiry <= 250.max(milliseconds + milliseconds * 2 / 3));
        }
    }

    #[test]
    fn a_delay_beyond_the_last_level_waits_there() {
        assert_eq!(level(Duration::from_secs(86_400)), (3_600_000, 3_600_000));
    }
}
