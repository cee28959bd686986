//! A copy that waits in the broker.

use std::time::Duration;

use jiff::Timestamp;

use super::{Acknowledging, Conditions, Delivered, End, Order, Requeuing};
use crate::clock::Now;
use crate::history::History;
use crate::verdict::Cause;

/// What a parked copy proves: so old is its command at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyAge {
    /// When the command was first received.
    pub first_received: Timestamp,
    /// How old, as it was measured.
    pub proven: Duration,
}

impl CopyAge {
    /// What is known now.
    pub fn of(history: &History, now: Now) -> Self {
        Self { first_received: history.first_received, proven: history.age(now).proven }
    }
}

/// How a copy waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copy {
    /// At least how long.
    pub delay: Duration,
    /// How often it was parked, so that older ones can be told from it.
    pub parked: u32,
    /// How often Eko was called, as far as that is known.
    pub attempts: u32,
    /// How old its command is, as far as that is known.
    pub age: Option<CopyAge>,
    /// What it waits for.
    pub reason: Reason,
}

/// What a copy waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Another attempt or inquiry.
    Retry(Cause),
    /// Somebody else who has its command or its tid, or its time.
    Busy,
    /// The ledger, which failed.
    Ledger,
    /// The end of a pause.
    Paused,
}

impl Reason {
    /// The word, as in logs and the header `eko-reason`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Retry(cause) => cause.as_str(),
            Self::Busy => "busy",
            Self::Ledger => "ledger",
            Self::Paused => "paused",
        }
    }
}

/// How long a copy waits is to be decided.
#[derive(Clone, Debug)]
pub struct Waiting {
    delivered: Delivered,
    attempts: u32,
    reason: Reason,
    /// After so long there is something to see.
    wait: Option<Duration>,
}

/// A copy is to be put into a retry queue.
#[derive(Clone, Debug)]
pub struct Parking {
    /// The copy.
    pub copy: Copy,
    /// Whether it replaces older ones once it is safe.
    pub(super) replaces: bool,
}

/// Whether a queue has taken a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placed {
    /// The broker has confirmed it.
    Yes,
    /// It takes none, or there is nothing to copy.
    No,
    /// There is nothing to copy, and the ledger has all that is owed.
    Left,
}

/// The parked copy is safe.
#[derive(Clone, Debug)]
pub struct NotingParked {
    /// The how manieth it is.
    pub parked: u32,
}

impl Copy {
    /// One that replaces no other one.
    pub(super) const fn busy(delivered: &Delivered, parked: u32, delay: Duration) -> Self {
        let Delivered { attempts, age, .. } = *delivered;
        Self { delay, parked, attempts, age, reason: Reason::Busy }
    }
}

impl Waiting {
    /// Somebody else has the command, or its tid: this copy looks again later, and once what it
    /// waits for is over there is something to see.
    pub(super) const fn busy(delivered: Delivered, wait: Option<Duration>) -> Self {
        Self { attempts: delivered.attempts, delivered, reason: Reason::Busy, wait }
    }

    /// What the ledger could not write down goes back as it came, and no event tells of it. Attempts
    /// that were made are known by their begin in the ledger; the copy tells them too, should the
    /// ledger be lost.
    pub(super) fn for_ledger(delivered: Delivered, attempts: u32) -> Self {
        let attempts = attempts.max(delivered.attempts);
        Self { delivered, attempts, reason: Reason::Ledger, wait: None }
    }

    /// A copy that is no retry: a delivery that is handed back would count as redelivered, so that
    /// a refund would have to be inquired first, would raise the broker's count, and would come back
    /// at once.
    pub(super) const fn paused(delivered: Delivered) -> Self {
        Self { attempts: delivered.attempts, delivered, reason: Reason::Paused, wait: None }
    }

    /// Our setup must be mended first. The ledger does not know it, and its give-up time does not run.
    pub(super) const fn for_setup(delivered: Delivered) -> Self {
        let reason = Reason::Retry(Cause::Misconfigured);
        Self { attempts: delivered.attempts, delivered, reason, wait: None }
    }

    /// Decides by the clock and the settings.
    pub fn decided<C>(self, conditions: &Conditions<'_>) -> Order<C> {
        let Self { delivered, attempts, reason, .. } = self;
        let age = delivered.age;
        let (delay, parked) = match reason {
            Reason::Retry(_) | Reason::Busy => self.until_seen(conditions),
            Reason::Ledger | Reason::Paused => (conditions.policy.retry.initial, delivered.parked),
        };
        let copy = Copy { delay, parked, attempts, age, reason };
        Order::Park(Parking { copy, replaces: false })
    }

    fn until_seen(&self, conditions: &Conditions<'_>) -> (Duration, u32) {
        let Conditions { policy, now, jitter } = *conditions;
        let parked = self.delivered.parked.saturating_add(1);
        let again = policy.retry.delay(parked, jitter);
        let until_expiry = |expiry: Timestamp| {
            Duration::try_from(expiry.duration_since(now.wall)).unwrap_or_default()
        };
        let ends = [self.wait, self.delivered.expiry.map(until_expiry)];
        (ends.into_iter().flatten().fold(again, Duration::min), parked)
    }
}

impl Parking {
    /// A copy that came before its time waits on.
    pub(super) const fn early(delivered: &Delivered, wait: Duration) -> Self {
        Self { copy: Copy::busy(delivered, delivered.parked, wait), replaces: false }
    }

    /// Whether a queue has taken it.
    pub const fn parked<C>(self, placed: Placed) -> Order<C> {
        let parked = if self.replaces { Some(self.copy.parked) } else { None };
        match placed {
            Placed::Yes => Order::Acknowledge(Acknowledging::of_copy(parked)),
            Placed::No | Placed::Left => Order::Requeue(Requeuing { published: None }),
        }
    }
}

impl NotingParked {
    /// The ledger knows, or could not be told: then the copies are parked once more.
    pub const fn noted<C>(self) -> Order<C> {
        Order::End(End::Over)
    }
}
