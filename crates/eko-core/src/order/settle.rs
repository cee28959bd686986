//! A claimed command: what its evidence leads to.

use std::time::Duration;

use super::begin::{Acquiring, Next};
use super::{
    Claimed, Conditions, Copy, CopyAge, End, Finishing, LeaseStatus, Order, Parking, Reason,
    Source, Subject,
};
use crate::clock::Now;
use crate::decision::{self, Message, Step, Task, Trigger};

/// There is something to decide.
#[derive(Clone, Debug)]
pub struct Deciding<C> {
    /// The command and its evidence.
    pub claim: C,
    /// What is asked of Eko.
    pub task: Task,
    /// What has just happened.
    pub trigger: Trigger,
    pub(super) source: Source,
}

/// What is known is to be written, and that the command waits.
#[derive(Clone, Debug)]
pub struct Noting<C> {
    /// The command and its evidence.
    pub claim: C,
    /// What is asked of Eko.
    pub task: Task,
    /// For how long its copy waits.
    pub delay: Duration,
    /// What its copy waits for.
    pub reason: Reason,
    /// Whether it is not known whether it was executed.
    pub unsettled: bool,
    now: Now,
    source: Source,
}

impl<C: Claimed> Deciding<C> {
    /// Decides by the clock and the settings.
    pub fn decided(self, conditions: &Conditions<'_>) -> Order<C> {
        let now = conditions.now;
        let Self { claim, task, trigger, source } = self;
        let wait = |claim, delay, cause, unsettled| {
            let reason = Reason::Retry(cause);
            Order::Note(Noting { claim, task, delay, reason, unsettled, now, source }.measured())
        };
        match decision::decide(task, claim.history(), trigger, conditions) {
            Step::Attempt if task.message == Message::Here => {
                Order::Acquire(Acquiring { claim, task, next: Next::Attempt, source })
            }
            // Without its message nothing is called: whoever decides knows that.
            Step::Attempt => source.lost(),
            Step::Inquire => Order::Acquire(Acquiring { claim, task, next: Next::Inquiry, source }),
            Step::RetryAfter { delay, cause } => wait(claim, delay, cause, false),
            Step::InquireAfter { delay, cause } => wait(claim, delay, cause, true),
            Step::Finish(outcome) => {
                let subject = match task.message {
                    Message::Here => Subject::Command,
                    Message::Unreadable | Message::Lost => Subject::Ledger,
                };
                Order::Finish(Finishing::new(claim, outcome, subject, source))
            }
        }
    }
}

impl<C: Claimed> Noting<C> {
    /// The kind is paused: the command waits as it is, known not to be executed.
    pub(super) fn paused(
        claim: C,
        (task, source): (Task, Source),
        conditions: &Conditions<'_>,
    ) -> Self {
        let (delay, now) = (conditions.policy.retry.initial, conditions.now);
        let reason = Reason::Paused;
        Self { claim, task, delay, reason, unsettled: false, now, source }.measured()
    }

    fn measured(mut self) -> Self {
        self.claim.history_mut().measure(self.now);
        self
    }

    /// When the command is due again, as the ledger notes it. A copy that cannot be read leaves it as
    /// due as it was: the command's own copy must not wait for this one.
    pub const fn due_in(&self) -> Duration {
        match self.task.message {
            Message::Here | Message::Lost => self.delay,
            Message::Unreadable => Duration::ZERO,
        }
    }

    /// Whether it was written.
    pub fn noted(self, held: LeaseStatus) -> Order<C> {
        let Self { claim, task, delay, reason, now, source, .. } = self;
        let Source::Message(delivered) = source else { return Order::End(End::DueAgain) };
        if held == LeaseStatus::Lost {
            return source.lost();
        }
        let age = Some(CopyAge::of(claim.history(), now));
        match task.message {
            Message::Here => {
                let parked = claim.parked().saturating_add(1);
                let attempts = claim.history().attempts();
                let copy = Copy { delay, parked, attempts, age, reason };
                Order::Park(Parking { copy, replaces: true })
            }
            // Whether it is the command's own copy cannot be read, so it waits as it came and must not
            // replace that one.
            Message::Unreadable | Message::Lost => {
                let copy = Copy { age, ..Copy::busy(&delivered, delivered.parked, delay) };
                Order::Park(Parking { copy, replaces: false })
            }
        }
    }

    /// The ledger could not be asked.
    pub fn failed(self) -> Order<C> {
        self.source.ledger_failed(self.claim.history().attempts())
    }
}
