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

/// The delays of the retry queues of a kind, in milliseconds: no delay becomes more than twice as
/// long as it was asked for, up to an hour, and those that the settings name by default stay what
/// they are.
pub(crate) const LEVELS: [u64; 13] = [
    250, 500, 1_000, 2_000, 5_000, 10_000, 25_000, 60_000, 150_000, 300_000, 900_000, 1_800_000,
    3_600_000,
];

/// How long what the broker refused of a command's end waits before it is told again, in
/// milliseconds: the first time, the second time, and from then on. Each time, subscribers whose
/// queues took the event get it once more.
pub(crate) const REFUSED_LEVELS: [u64; 3] = [10_000, 120_000, 1_800_000];

/// The retry queue and the expiry that fit a delay: never shorter than asked for unless the
/// delay is beyond the last level, and within 20 % of the level, since a queue expires only
/// at its head.
pub(crate) fn level(delay: Duration) -> (u64, u64) {
    let wanted = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
    let fitting = LEVELS.into_iter().find(|&level| longest(level) >= wanted);
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

    /// A key of the default exchange that no queue has.
    pub(super) fn nowhere(&self) -> String {
        format!("{}.nowhere", self.prefix)
    }

    /// The queue of a kind.
    pub(crate) fn queue(&self, kind: Kind) -> String {
        format!("{}.{}", self.prefix, kind.as_str())
    }

    /// Where commands of a kind wait for about that long.
    pub(super) fn retry_queue(&self, kind: Kind, level: u64) -> String {
        format!("{}.retry.{}.{level}ms", self.prefix, kind.as_str())
    }

    /// Where commands of a kind wait for that long that have ended, and of whose end the broker
    /// refused something.
    pub(super) fn refused_queue(&self, kind: Kind, level: u64) -> String {
        format!("{}.refused.{}.{level}ms", self.prefix, kind.as_str())
    }

    pub(super) fn is_retry_queue(&self, queue: &str) -> bool {
        let mut own = Kind::ALL.into_iter().flat_map(|kind| LEVELS.map(|level| (kind, level)));
        own.any(|(kind, level)| self.retry_queue(kind, level) == queue)
    }

    pub(super) fn is_refused_queue(&self, queue: &str) -> bool {
        let all = |kind| REFUSED_LEVELS.map(|level| (kind, level));
        let mut own = Kind::ALL.into_iter().flat_map(all);
        own.any(|(kind, level)| self.refused_queue(kind, level) == queue)
    }

    /// Whether a queue is one of a worker's own, of this version or another: what anybody else
    /// publishes to it would be taken for a command, or would be in the way of commands.
    pub(super) fn is_own(&self, queue: &str) -> bool {
        let name = queue.strip_prefix(&self.prefix).and_then(|name| name.strip_prefix('.'));
        let Some(name) = name else { return false };
        let (family, _) = name.split_once('.').unwrap_or((name, ""));
        let families = ["dead", "unrouted", "nowhere", "retry", "refused", "ledger"];
        families.contains(&family) || Kind::from_name(name).is_some()
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

/// A queue in which what waits goes back to its kind's queue after at most that long: by the
/// default exchange, which nobody can delete or unbind, and also what somebody put there without an
/// expiry of its own, which would else hold back all that is behind it.
pub(super) fn waiting_arguments(names: &Names, kind: Kind, longest: u64) -> FieldTable {
    let mut arguments = dead_lettering("");
    arguments.insert("x-dead-letter-routing-key".into(), text(&names.queue(kind)));
    let longest = i64::try_from(longest).unwrap_or(i64::MAX);
    arguments.insert("x-message-ttl".into(), AMQPValue::LongLongInt(longest));
    arguments
}

/// The longest that a copy may wait in a retry queue.
pub(super) const fn longest(level: u64) -> u64 {
    level + level / 5
}

/// The arguments of the queues that people look into.
pub(super) fn kept_arguments() -> FieldTable {
    let mut arguments = quorum();
    arguments.insert("x-delivery-limit".into(), AMQPValue::LongLongInt(NO_LIMIT));
    arguments
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
            prop_assert!(expiry <= 250.max(milliseconds * 2));
        }
    }

    #[test]
    fn the_delays_of_the_default_settings_are_not_made_longer() {
        for seconds in [1, 5, 10, 30, 60, 70, 150, 300] {
            let milliseconds = seconds * 1_000;
            assert_eq!(level(Duration::from_secs(seconds)).1, milliseconds, "{seconds} s");
        }
    }

    #[test]
    fn a_worker_knows_its_own_queues_by_their_names() {
        let names = Names::new("eko");
        let own = [
            "eko.refund",
            "eko.refund_otp",
            "eko.transfer_otp",
            "eko.dead",
            "eko.unrouted",
            "eko.ledger",
            "eko.ledger.holder",
            "eko.retry.250ms",
            "eko.retry.refund.250ms",
            "eko.refused.refund.10000ms",
        ];
        assert_eq!(own.iter().find(|queue| !names.is_own(queue)), None);
        let others = ["", "eko", "eko.replies", "eko.refund.replies", "shop.refund", "ekorefund"];
        assert_eq!(others.iter().find(|queue| names.is_own(queue)), None);
    }

    #[test]
    fn a_delay_beyond_the_last_level_waits_there() {
        assert_eq!(level(Duration::from_secs(86_400)), (3_600_000, 3_600_000));
    }
}
