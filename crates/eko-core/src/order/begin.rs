//! One more call: in the ledger before its bytes leave.

use jiff::Timestamp;

use super::{Claimed, Conditions, Deciding, LeaseStatus, Noting, Order, Source};
use crate::clock::{Now, Stamp};
use crate::decision::{Task, Trigger};
use crate::verdict::{Reading, Verdict};

/// Which call is next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The kind's endpoint.
    Attempt,
    /// An inquiry.
    Inquiry,
}

/// A call needs leave.
#[derive(Clone, Debug)]
pub struct Acquiring<C> {
    /// The command and its evidence.
    pub claim: C,
    /// What is asked of Eko.
    pub task: Task,
    /// Which call.
    pub next: Next,
    pub(super) source: Source,
}

/// An attempt needs a timestamp that signs it.
#[derive(Clone, Debug)]
pub struct Stamping<C> {
    /// The command and its evidence.
    pub claim: C,
    /// What is asked of Eko.
    pub task: Task,
    source: Source,
}

/// A call is to be written down.
#[derive(Clone, Debug)]
pub struct Beginning<C> {
    /// The command and its evidence; an attempt is in it already.
    pub claim: C,
    /// Which call.
    pub next: Next,
    task: Task,
    source: Source,
}

/// The ledger knows of an attempt: it may be made.
#[derive(Clone, Debug)]
pub struct Calling<C> {
    /// The command and its evidence, with the attempt in flight.
    pub claim: C,
    pub(super) task: Task,
    pub(super) source: Source,
}

/// The ledger knows all that is known: an inquiry may be made.
#[derive(Clone, Debug)]
pub struct Inquiring<C> {
    /// The command and its evidence.
    pub claim: C,
    /// What is asked of Eko.
    pub task: Task,
    source: Source,
}

impl<C> Acquiring<C> {
    /// There is leave.
    pub fn acquired(self) -> Order<C> {
        let Self { claim, task, next, source } = self;
        match next {
            Next::Attempt => Order::Stamp(Stamping { claim, task, source }),
            Next::Inquiry => Order::Begin(Beginning { claim, next, task, source }),
        }
    }
}

impl<C: Claimed> Acquiring<C> {
    /// There is no leave for an attempt, since the kind is paused: it waits, and nothing is called.
    pub fn held_back(self, conditions: &Conditions<'_>) -> Order<C> {
        let Self { claim, task, source, .. } = self;
        Order::Note(Noting::paused(claim, (task, source), conditions))
    }

    /// Nothing can be called: the ledger gives no timestamp.
    pub fn failed(self) -> Order<C> {
        self.source.ledger_failed(self.claim.history().attempts())
    }
}

impl<C: Claimed> Stamping<C> {
    /// The kind was paused meanwhile: it waits, and nothing is called.
    pub fn held_back(self, conditions: &Conditions<'_>) -> Order<C> {
        let Self { claim, task, source } = self;
        Order::Note(Noting::paused(claim, (task, source), conditions))
    }

    /// The timestamp was drawn, just before now.
    pub fn stamped(self, stamp: Stamp, now: Now) -> Order<C> {
        let Self { mut claim, task, source } = self;
        if task.expiry.is_some_and(|expiry| now.wall >= expiry) {
            // It has waited too long for leave: the next decision ends it.
            return Order::Decide(Deciding { claim, task, trigger: Trigger::Answered, source });
        }
        claim.history_mut().begin(now, stamp);
        Order::Begin(Beginning { claim, next: Next::Attempt, task, source })
    }
}

impl<C: Claimed> Beginning<C> {
    /// Whether it was written.
    pub fn begun(self, held: LeaseStatus) -> Order<C> {
        let Self { claim, next, task, source } = self;
        match (held, next) {
            (LeaseStatus::Held, Next::Attempt) => Order::Call(Calling { claim, task, source }),
            (LeaseStatus::Held, Next::Inquiry) => Order::Inquire(Inquiring { claim, task, source }),
            (LeaseStatus::Lost, _) => source.lost(),
        }
    }

    /// The ledger could not be asked.
    pub fn failed(self) -> Order<C> {
        self.source.ledger_failed(self.claim.history().attempts())
    }
}

impl<C: Claimed> Calling<C> {
    /// What the answer, or its absence, says.
    pub fn answered(self, verdict: Verdict, now: Now) -> Order<C> {
        let Self { mut claim, task, source } = self;
        claim.history_mut().end(now, verdict);
        Order::Decide(Deciding { claim, task, trigger: Trigger::Answered, source })
    }

    /// It cannot be made: nothing says what signs it.
    pub fn unsigned(self) -> Order<C> {
        let Self { claim, task, source } = self;
        Order::Decide(Deciding { claim, task, trigger: Trigger::Answered, source })
    }
}

impl<C: Claimed> Inquiring<C> {
    /// What the answer reads, and what Eko's clock said. A reading counts from when it was asked for:
    /// what it says may be that old.
    pub fn answered(self, reading: Reading, eko_time: Option<Timestamp>, asked: Now) -> Order<C> {
        let Self { mut claim, task, source } = self;
        claim.history_mut().inquired(asked, eko_time, reading);
        Order::Decide(Deciding { claim, task, trigger: Trigger::Answered, source })
    }
}
