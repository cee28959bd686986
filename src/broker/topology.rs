//! Exchanges and queues: their names, their arguments, and the delay levels of the retry
//! queues.

use std::time::Duration;

use lapin::types::{AMQPValue, FieldTable};

use crate::command::Kind;

/// Returns after which the broker gives up a command by itself: one over which consumers are lost.
/// Each crash of a worker, and each lost connection, costs every command in its hands one.
const DELIVERY_LIMIT: i64 = 30;

/// Returns that are free: whoever looks at a message and gives it back has it counted. Without a
/// limit RabbitMQ 4 takes 20; what no limit is written as, earlier versions take for none at all.
const NO_LIMIT: i64 = 1_000_000;

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
    /// The names under this prefix.
    pub(crate) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }

    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The exchange that commands are published to.
    pub(crate) fn commands(&self) -> String {
        format!("{}.commands", self.prefix)
    }

    /// The exchange that events are published to.
    pub(crate) fn events(&self) -> String {
        format!("{}.events", self.prefix)
    }

    /// The exchange and the queue of commands that need a person.
    pub(crate) fn dead(&self) -> String {
        format!("{}.dead", self.prefix)
    }

    /// The queue of events that no binding takes.
    pub(crate) fn unrouted(&self) -> String {
        format!("{}.unrouted", self.prefix)
    }

    pub(super) fn retry(&self) -> String {
        format!("{}.retry", self.prefix)
    }

    /// A key of the default exchange that no queue has.
    pub(super) fn nowhere(&self) -> String {
        format!("{}.nowhere", self.prefix)
    }

    /// The queue of a kind.
    pub(crate) fn queue(&self, kind: Kind) -> String {
        format!("{}.{}", self.prefix, kind.as_str())
    }

    pub(super) fn retry_queue(&self, level: u64) -> String {
        format!("{}.retry.{level}ms", self.prefix)
    }

    pub(super) fn is_retry_queue(&self, queue: &str) -> bool {
        LEVELS.iter().any(|&level| self.retry_queue(level) == queue)
    }
}

/// The key under which a kind's commands are published; it does not change with the prefix.
pub(super) fn command_key(kind: &str) -> String {
    format!("eko.{kind}.request")
}

/// The arguments of every queue.
pub(super) fn quorum() -> FieldTable {
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

/// The arguments of a kind's queue.
pub(super) fn work_arguments(names: &Names) -> FieldTable {
    let mut arguments = dead_lettering(&names.dead());
    arguments.insert("x-delivery-limit".into(), AMQPValue::LongLongInt(DELIVERY_LIMIT));
    arguments
}

/// The arguments of the queues that people look into.
pub(super) fn kept_arguments() -> FieldTable {
    let mut arguments = quorum();
    arguments.insert("x-delivery-limit".into(), AMQPValue::LongLongInt(NO_LIMIT));
    arguments
}

/// A parked copy keeps its routing key, which leads it back to its kind's queue.
pub(super) fn retry_arguments(names: &Names) -> FieldTable {
    dead_lettering(&names.commands())
}

pub(super) fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
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
