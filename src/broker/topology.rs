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
const LEVELS: [u64; 13] = [
    250, 500, 1_000, 2_000, 5_000, 10_000, 25_000, 60_000, 150_000, 300_000, 900_000, 1_800_000,
    3_600_000,
];

/// How long what the broker refused of a command's end waits before it is published again, in
/// milliseconds: the first time, the second time, and from then on. Each time, subscribers whose
/// queues took the event get it once more.
const REFUSED_LEVELS: [u64; 3] = [10_000, 120_000, 1_800_000];

/// How far beside the level that fits a delay a copy may go, where that level's queue takes nothing.
const BESIDE: usize = 2;

/// A queue in which commands of a kind wait, of those that a worker declares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct WaitingQueue {
    /// To whose queue they come back.
    pub(super) kind: Kind,
    pub(super) family: Family,
    /// For about how long, in milliseconds.
    pub(super) level: u64,
}

/// What commands wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Family {
    /// For another look at them.
    Retry,
    /// They have ended, and what the broker refused of their end is published again.
    Refused,
}

impl Family {
    const ALL: [Self; 2] = [Self::Retry, Self::Refused];

    const fn levels(self) -> &'static [u64] {
        match self {
            Self::Retry => &LEVELS,
            Self::Refused => &REFUSED_LEVELS,
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Refused => "refused",
        }
    }
}

impl WaitingQueue {
    /// Each of them.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        Kind::ALL.into_iter().flat_map(Self::of)
    }

    /// Those of a kind.
    pub(super) fn of(kind: Kind) -> impl Iterator<Item = Self> {
        Family::ALL.into_iter().flat_map(move |family| {
            family.levels().iter().map(move |&level| Self { kind, family, level })
        })
    }

    /// Where a command of a kind waits for that long: never shorter than asked for, unless the delay is
    /// beyond the last level.
    pub(super) fn retry(kind: Kind, delay: Duration) -> Self {
        let wanted = milliseconds(delay);
        let fitting = LEVELS.into_iter().find(|&level| longest(level) >= wanted);
        let level = fitting.unwrap_or(LEVELS[LEVELS.len() - 1]);
        Self { kind, family: Family::Retry, level }
    }

    /// Where what was refused so often of a command's end waits.
    pub(super) fn refused(kind: Kind, times: u32) -> Self {
        let nth = usize::try_from(times.max(1)).unwrap_or(usize::MAX);
        let level = REFUSED_LEVELS[nth.min(REFUSED_LEVELS.len()) - 1];
        Self { kind, family: Family::Refused, level }
    }

    /// This queue, and those that a copy goes to where it takes nothing, in that order: the next
    /// longer ones, then the next shorter ones. A copy that comes back too early waits again.
    pub(super) fn and_beside(self) -> impl Iterator<Item = Self> {
        let levels = self.family.levels();
        let at = levels.iter().position(|&level| level == self.level).unwrap_or_default();
        let longer = levels.iter().skip(at).take(1 + BESIDE);
        let shorter = levels[..at].iter().rev().take(BESIDE);
        longer.chain(shorter).map(move |&level| Self { level, ..self })
    }

    /// The expiry of a copy that should wait for so long, in milliseconds: within 20 % of the level, since a
    /// queue expires only at its head.
    pub(super) fn expiry(self, delay: Duration) -> u64 {
        let (wanted, level) = (milliseconds(delay), self.level);
        if wanted > longest(level) { level } else { wanted.max(level - level / 5) }
    }

    /// The longest that a message may stay in it.
    pub(super) const fn longest(self) -> u64 {
        match self.family {
            Family::Retry => longest(self.level),
            Family::Refused => self.level,
        }
    }

    /// The kind whose commands wait in it.
    pub(crate) const fn kind(self) -> Kind {
        self.kind
    }

    /// Its name behind the prefix.
    pub(crate) fn name(self) -> String {
        let Self { kind, family, level } = self;
        format!("{}.{}.{level}ms", family.as_str(), kind.as_str())
    }

    fn from_name(name: &str) -> Option<Self> {
        let (family, rest) = name.split_once('.')?;
        let (kind, level) = rest.split_once('.')?;
        let family = Family::ALL.into_iter().find(|known| known.as_str() == family)?;
        let level = level.strip_suffix("ms")?.parse().ok()?;
        let queue = Self { kind: Kind::from_name(kind)?, family, level };
        // Written in one way only.
        (family.levels().contains(&level) && queue.name() == name).then_some(queue)
    }
}

fn milliseconds(delay: Duration) -> u64 {
    u64::try_from(delay.as_millis()).unwrap_or(u64::MAX)
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

    /// A queue in which commands wait.
    pub(crate) fn waiting(&self, queue: WaitingQueue) -> String {
        format!("{}.{}", self.prefix, queue.name())
    }

    /// The queue of that name, if commands wait in it.
    pub(super) fn waiting_queue(&self, name: &str) -> Option<WaitingQueue> {
        WaitingQueue::from_name(name.strip_prefix(&self.prefix)?.strip_prefix('.')?)
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
pub(super) fn waiting_arguments(names: &Names, queue: WaitingQueue) -> FieldTable {
    let mut arguments = dead_lettering("");
    arguments.insert("x-dead-letter-routing-key".into(), text(&names.queue(queue.kind)));
    let longest = i64::try_from(queue.longest()).unwrap_or(i64::MAX);
    arguments.insert("x-message-ttl".into(), AMQPValue::LongLongInt(longest));
    arguments
}

/// The longest that a copy may wait in a retry queue.
const fn longest(level: u64) -> u64 {
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
            let delay = Duration::from_millis(milliseconds);
            let queue = WaitingQueue::retry(Kind::Refund, delay);
            let (level, expiry) = (queue.level, queue.expiry(delay));
            prop_assert!(LEVELS.contains(&level));
            prop_assert!(expiry >= milliseconds);
            prop_assert!(expiry <= level + level / 5);
            prop_assert!(expiry >= level - level / 5);
            prop_assert!(expiry <= 250.max(milliseconds * 2));
        }

        #[test]
        fn a_copy_that_goes_beside_its_level_fits_the_queue_that_it_goes_to(
            milliseconds in 0u64..=8_000_000,
        ) {
            let delay = Duration::from_millis(milliseconds);
            for queue in WaitingQueue::retry(Kind::Refund, delay).and_beside() {
                let (level, expiry) = (queue.level, queue.expiry(delay));
                prop_assert!(expiry <= queue.longest() && expiry >= level - level / 5);
            }
        }
    }

    #[test]
    fn the_delays_of_the_default_settings_are_not_made_longer() {
        for seconds in [1, 5, 10, 30, 60, 70, 150, 300] {
            let milliseconds = seconds * 1_000;
            let delay = Duration::from_secs(seconds);
            let expiry = WaitingQueue::retry(Kind::Refund, delay).expiry(delay);
            assert_eq!(expiry, milliseconds, "{seconds} s");
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
        let delay = Duration::from_secs(86_400);
        let queue = WaitingQueue::retry(Kind::Refund, delay);
        assert_eq!((queue.level, queue.expiry(delay)), (3_600_000, 3_600_000));
    }

    #[test]
    fn a_copy_goes_to_the_next_longer_queues_before_it_goes_to_shorter_ones() {
        let beside = |delay| {
            let queue = WaitingQueue::retry(Kind::Refund, Duration::from_millis(delay));
            queue.and_beside().map(|queue| queue.level).collect::<Vec<_>>()
        };
        assert_eq!(beside(250), [250, 500, 1_000]);
        assert_eq!(beside(5_000), [5_000, 10_000, 25_000, 2_000, 1_000]);
        assert_eq!(beside(3_600_000), [3_600_000, 1_800_000, 900_000]);
        let refused = WaitingQueue::refused(Kind::Refund, 2).and_beside();
        assert_eq!(
            refused.map(|queue| queue.level).collect::<Vec<_>>(),
            [120_000, 1_800_000, 10_000]
        );
    }

    #[test]
    fn a_queue_in_which_commands_wait_is_known_by_its_name() {
        let names = Names::new("eko");
        for queue in WaitingQueue::all() {
            assert_eq!(names.waiting_queue(&names.waiting(queue)), Some(queue));
        }
        for other in [
            "eko.refund",
            "eko.retry.250ms",
            "eko.retry.refund.251ms",
            "eko.retry.refund.0250ms",
            "eko.retry.refund.+250ms",
            "eko.refused.refund.250ms",
            "other.retry.refund.250ms",
        ] {
            assert_eq!(names.waiting_queue(other), None, "{other}");
        }
    }
}
