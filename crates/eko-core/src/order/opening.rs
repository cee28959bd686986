//! From a delivery to a claim, and what a claim leads to.

use jiff::Timestamp;

use super::end::replayed;
use super::wait::{Parking, Waiting};
use super::{
    Acknowledging, Calling, Claim, Claimed, Deciding, Delivered, End, Finishing, MAX_INTERRUPTIONS,
    Order, Publishing, Requeuing, Source, Subject,
};
use crate::clock::Now;
use crate::command::Kind;
use crate::decision::{self, Conditions, Message, Policy, Step, Task, Trigger};
use crate::event::Event;
use crate::history::History;
use crate::outcome::{Code, ConfirmedBy, Outcome, Problem, Receipt};

/// Whoever waits for leave to call holds nothing but the delivery.
#[derive(Clone, Debug)]
pub struct Entering {
    task: Task,
    delivered: Delivered,
}

/// Nothing of a kind begins now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejected {
    /// The delivery may go back to its queue.
    Requeue,
    /// It would come back at once: a copy of it waits.
    Park,
}

/// The ledger is to be asked.
#[derive(Clone, Debug)]
pub struct Claiming {
    /// For what.
    pub asking: Asking,
    source: Source,
}

/// For what the ledger is asked.
#[derive(Clone, Debug)]
pub enum Asking {
    /// For a command, which begins unless it is known.
    Command(Task),
    /// For whatever has the id of a message that is no valid command: nothing new begins.
    Invalid {
        /// The digest of that message.
        digest: String,
        /// What is wrong with it.
        outcome: Outcome,
        /// What follows where the ledger does not know its id.
        unknown: Unknown,
    },
    /// For a message that ends with what is wrong with it.
    Refusal {
        /// What is wrong.
        outcome: Outcome,
        /// Its id belongs to another command, so that the ledger has to know it by a longer one.
        is_reused: bool,
    },
    /// For a command whose message is lost, by its id.
    Orphan(Option<Kind>),
}

/// What follows for a message that is no valid command, and whose id the ledger does not know.
#[derive(Clone, Debug)]
pub enum Unknown {
    /// It ends so.
    Ends(Outcome),
    /// It waits until our setup is mended: the fault is not the message's.
    Waits,
}

impl<C> Order<C> {
    /// Begins with a command that was delivered.
    pub fn receive(task: Task, delivered: Delivered, policy: &Policy, now: Now) -> Self {
        match first_step(task, policy, now) {
            Step::Attempt | Step::Inquire => Self::Enter(Entering { task, delivered }),
            Step::RetryAfter { .. } | Step::InquireAfter { .. } | Step::Finish(_) => {
                Self::Claim(Claiming::of(Asking::Command(task), delivered))
            }
        }
    }

    /// Begins with a message that ends with what is wrong with it.
    pub fn refuse(outcome: Outcome, delivered: Delivered) -> Self {
        Self::Claim(Claiming::of(Asking::Refusal { outcome, is_reused: false }, delivered))
    }

    /// Begins with a message that is no valid command and has an id: what was begun outranks what can
    /// be read now.
    pub fn receive_invalid(asking: Asking, delivered: Delivered) -> Self {
        Self::Claim(Claiming::of(asking, delivered))
    }

    /// Begins with a command whose message is lost.
    pub const fn settle_orphan(kind: Option<Kind>) -> Self {
        Self::Claim(Claiming { asking: Asking::Orphan(kind), source: Source::Ledger })
    }

    /// Begins with what was delivered while nothing of its kind may begin.
    pub const fn set_aside(delivered: Delivered) -> Self {
        Self::Wait(Waiting::paused(delivered))
    }
}

/// What a command begins with that was never seen before.
fn first_step(task: Task, policy: &Policy, now: Now) -> Step {
    let conditions = Conditions { policy, now, jitter: 0.0 };
    decision::decide(task, &History::new(now), Trigger::Ready, &conditions)
}

impl Entering {
    /// A call may follow, unless the ledger knows better.
    pub fn entered<C>(self) -> Order<C> {
        Order::Claim(Claiming::of(Asking::Command(self.task), self.delivered))
    }

    /// Nothing begins now.
    pub const fn rejected<C>(self, rejected: Rejected) -> Order<C> {
        match rejected {
            Rejected::Requeue => Order::Requeue(Requeuing { published: None }),
            Rejected::Park => Order::Wait(Waiting::paused(self.delivered)),
        }
    }
}

impl Claiming {
    const fn of(asking: Asking, delivered: Delivered) -> Self {
        Self { asking, source: Source::Message(delivered) }
    }

    /// Whether a first attempt may begin in the same write: then its timestamp is drawn before.
    pub fn may_begin(&self, policy: &Policy, now: Now) -> bool {
        match self.asking {
            Asking::Command(task) => first_step(task, policy, now) == Step::Attempt,
            Asking::Invalid { .. } | Asking::Refusal { .. } | Asking::Orphan(_) => false,
        }
    }

    /// Whether an attempt may have been made that the ledger knows nothing of.
    pub fn is_suspect(&self) -> bool {
        match (&self.asking, self.source) {
            (Asking::Command(task), Source::Message(delivered)) => {
                task.kind == Kind::Refund && (delivered.is_redelivered || delivered.attempts > 0)
            }
            (
                Asking::Command(_)
                | Asking::Invalid { .. }
                | Asking::Refusal { .. }
                | Asking::Orphan(_),
                _,
            ) => false,
        }
    }

    /// Whether its time is over, so that it can only end.
    pub fn has_expired(&self, now: Timestamp) -> bool {
        match self.asking {
            Asking::Command(task) => task.expiry.is_some_and(|expiry| now >= expiry),
            Asking::Invalid { .. } | Asking::Refusal { .. } | Asking::Orphan(_) => false,
        }
    }

    /// What the ledger said.
    pub fn claimed<C: Claimed>(self, claim: Claim<C>) -> Order<C> {
        let Self { asking, source } = self;
        match (source, asking) {
            (Source::Message(delivered), Asking::Command(task)) => command(task, delivered, claim),
            (Source::Message(delivered), Asking::Invalid { digest, outcome, unknown }) => {
                invalid(delivered, claim, &digest, (outcome, unknown))
            }
            (Source::Message(delivered), Asking::Refusal { outcome, .. }) => {
                refusal(delivered, claim, outcome)
            }
            (_, Asking::Orphan(kind)) => orphan(kind, claim),
            (
                Source::Ledger,
                Asking::Command(_) | Asking::Invalid { .. } | Asking::Refusal { .. },
            ) => Order::End(End::Over),
        }
    }

    /// The ledger could not be asked.
    pub fn failed<C>(self) -> Order<C> {
        self.source.ledger_failed(0)
    }
}

/// What follows for a command.
fn command<C: Claimed>(task: Task, delivered: Delivered, claim: Claim<C>) -> Order<C> {
    let source = Source::Message(delivered);
    let finish =
        |claim, outcome| Order::Finish(Finishing::new(claim, outcome, Subject::Command, source));
    match claim {
        Claim::Fresh(claim) if claim.history().in_flight() => {
            Order::Call(Calling { claim, task, source })
        }
        Claim::Interrupted(claim) if claim.interruptions() >= MAX_INTERRUPTIONS => {
            let outcome = given_up(claim.history());
            finish(claim, outcome)
        }
        Claim::Fresh(claim) | Claim::Due(claim) | Claim::Interrupted(claim) => {
            Order::Decide(Deciding { claim, task, trigger: Trigger::Ready, source })
        }
        Claim::Refunded(claim, receipt) => finish(claim, succeeded_before(receipt)),
        Claim::Conflict => reused(delivered),
        Claim::Busy { .. }
        | Claim::Early { .. }
        | Claim::Stale
        | Claim::Finished { .. }
        | Claim::Unknown => unclaimed(delivered, claim),
    }
}

/// What follows for a message that is no valid command, by what has its id.
fn invalid<C: Claimed>(
    delivered: Delivered,
    claim: Claim<C>,
    digest: &str,
    (outcome, unknown): (Outcome, Unknown),
) -> Order<C> {
    let source = Source::Message(delivered);
    match claim {
        Claim::Due(claim) | Claim::Interrupted(claim) => {
            // A worker died before it had told what is wrong with this very message.
            if claim.was_asked_by(digest) {
                return Order::Finish(Finishing::new(claim, outcome, Subject::Message, source));
            }
            let kind = claim.kind().unwrap_or(Kind::Refund);
            let task = Task::without(Message::Unreadable, kind);
            Order::Decide(Deciding { claim, task, trigger: Trigger::Ready, source })
        }
        Claim::Busy { .. } | Claim::Early { .. } => unclaimed(delivered, claim),
        Claim::Unknown => match unknown {
            Unknown::Ends(outcome) => Order::refuse(outcome, delivered),
            Unknown::Waits => Order::Wait(Waiting::for_setup(delivered)),
        },
        Claim::Finished { .. }
        | Claim::Fresh(_)
        | Claim::Refunded(..)
        | Claim::Stale
        | Claim::Conflict => Order::refuse(outcome, delivered),
    }
}

/// What follows for a message that ends with what is wrong with it.
fn refusal<C: Claimed>(delivered: Delivered, claim: Claim<C>, outcome: Outcome) -> Order<C> {
    match claim {
        Claim::Fresh(claim)
        | Claim::Due(claim)
        | Claim::Interrupted(claim)
        | Claim::Refunded(claim, _) => {
            let source = Source::Message(delivered);
            Order::Finish(Finishing::new(claim, outcome, Subject::Message, source))
        }
        Claim::Conflict => reused(delivered),
        Claim::Busy { .. }
        | Claim::Early { .. }
        | Claim::Stale
        | Claim::Finished { .. }
        | Claim::Unknown => unclaimed(delivered, claim),
    }
}

/// What follows for a command whose message is lost.
fn orphan<C: Claimed>(kind: Option<Kind>, claim: Claim<C>) -> Order<C> {
    let source = Source::Ledger;
    match claim {
        Claim::Due(claim) | Claim::Interrupted(claim) => match kind {
            Some(kind) => {
                let task = Task::without(Message::Lost, kind);
                Order::Decide(Deciding { claim, task, trigger: Trigger::Ready, source })
            }
            None => {
                let problem = Problem::new(Code::MessageLost, "the message is lost");
                let outcome = Outcome::Invalid(problem);
                Order::Finish(Finishing::new(claim, outcome, Subject::Ledger, source))
            }
        },
        Claim::Finished { event, is_untold: true } => Order::Publish(Publishing::of_orphan(*event)),
        Claim::Busy { .. } | Claim::Early { .. } => Order::End(End::DueAgain),
        Claim::Finished { is_untold: false, .. }
        | Claim::Unknown
        | Claim::Fresh(_)
        | Claim::Refunded(..)
        | Claim::Stale
        | Claim::Conflict => Order::End(End::Over),
    }
}

/// What follows for a delivery that leaves nothing to work on.
fn unclaimed<C>(delivered: Delivered, claim: Claim<C>) -> Order<C> {
    match claim {
        Claim::Busy { wait } => Order::Wait(Waiting::busy(delivered, wait)),
        Claim::Early { wait } => Order::Park(Parking::early(&delivered, wait)),
        Claim::Finished { event, is_untold } => replay(delivered, *event, is_untold),
        // Nothing may come again of what the ledger does not know any more.
        Claim::Stale
        | Claim::Unknown
        | Claim::Fresh(_)
        | Claim::Due(_)
        | Claim::Interrupted(_)
        | Claim::Refunded(..)
        | Claim::Conflict => Order::Acknowledge(Acknowledging::default()),
    }
}

fn replay<C>(delivered: Delivered, event: Event, is_untold: bool) -> Order<C> {
    Order::Publish(replayed(delivered, event, is_untold))
}

/// The message asks for something else than the command that has its id.
fn reused<C>(delivered: Delivered) -> Order<C> {
    let message = "id: belongs to an earlier command of another type or with other data; \
                   a new command needs a new id";
    let outcome = Outcome::Invalid(Problem::new(Code::IdReused, message));
    Order::Claim(Claiming::of(Asking::Refusal { outcome, is_reused: true }, delivered))
}

/// Another command refunded that tid.
const fn succeeded_before(receipt: Receipt) -> Outcome {
    Outcome::Succeeded { confirmed_by: ConfirmedBy::Ledger, receipt, answer: None }
}

/// The worker died over it too often: it is put where a person looks.
fn given_up(history: &History) -> Outcome {
    let message = "the worker stopped over it several times in a row: a person must look";
    let problem = Problem::new(Code::DeliveryLimit, message);
    match history.doubted_since() {
        Some(_) => Outcome::Unresolved(problem),
        None => Outcome::Failed(problem),
    }
}
