//! The order of steps: what is done with one command, from its delivery to its acknowledgement.
//!
//! A state machine without I/O, clock and randomness. Each state of an [`Order`] is one effect that
//! somebody else has to bring about: the journey does it for real, the model checker and the
//! simulation do it in a model. A state is left by the method that says what came of
//! its effect, and that method gives the next state. A state has no other methods, so nobody can
//! leave one out or answer it with what belongs to another one.
//!
//! | state | effect | what came of it → next state |
//! | --- | --- | --- |
//! | [`Enter`](Order::Enter) | wait for leave to call; nothing is held | `entered` → Claim; `rejected` → Requeue or Wait |
//! | [`Claim`](Order::Claim) | claim in the ledger; a first attempt begins in the same write | `claimed` → see below; `failed` → Wait |
//! | [`Decide`](Order::Decide) | look at clock and settings | `decided` → Acquire, Note or Finish |
//! | [`Acquire`](Order::Acquire) | wait for leave for one more call | `acquired` → Stamp (attempt) or Begin (inquiry); `held_back` → Note; `failed` → Wait |
//! | [`Stamp`](Order::Stamp) | draw the timestamp that signs the call | `stamped` → Begin; Decide where its deadline has passed; `held_back` → Note |
//! | [`Begin`](Order::Begin) | write the attempt, or what is known, and extend the claim | `begun` → Call or Inquire; lost → Wait |
//! | [`Call`](Order::Call) | call the kind's endpoint | `answered` → Decide |
//! | [`Inquire`](Order::Inquire) | ask Eko what became of it | `answered` → Decide |
//! | [`Note`](Order::Note) | write what is known; the claim ends | `noted` → Park; lost → Wait |
//! | [`Finish`](Order::Finish) | write the outcome and its event | `finished` → Publish; lost → Wait |
//! | [`Publish`](Order::Publish) | publish what is owed, and wait for the confirm | `published` → Acknowledge; refused → `ParkRefused` |
//! | [`ParkRefused`](Order::ParkRefused) | put a copy where it waits to be published again | `parked` → Acknowledge; not taken → Requeue |
//! | [`Wait`](Order::Wait) | look at clock and settings | `decided` → Park |
//! | [`Park`](Order::Park) | put a copy into a retry queue, and wait for the confirm | `parked` → Acknowledge; not taken → Requeue |
//! | [`Acknowledge`](Order::Acknowledge) | acknowledge the delivery | `acknowledged` → `NoteParked`, `NotePublished` or End |
//! | [`Requeue`](Order::Requeue) | hand the delivery back | `requeued` → `NotePublished` or End |
//! | [`NoteParked`](Order::NoteParked) | tell the ledger that the copy is safe | `noted` → End |
//! | [`NotePublished`](Order::NotePublished) | tell the ledger that what was owed is done | `noted` → End |
//! | [`End`](Order::End) | none | |
//!
//! What a claim leads to, for each way to come to it:
//!
//! | claim | a command | a message that is no valid command, by its id | the same, to say so | a command whose message is lost |
//! | --- | --- | --- | --- | --- |
//! | fresh | Call where its attempt has begun, else Decide | Claim, to say so | Finish | End |
//! | due | Decide | Decide; Finish where this message began it | Finish | Decide |
//! | interrupted | Decide; Finish after too many in a row | as due | Finish | Decide |
//! | refunded | Finish | Claim, to say so | Finish | End |
//! | busy | Wait | Wait | Wait | End, due again |
//! | early | Park | Park | Park | End, due again |
//! | stale | Acknowledge | Claim, to say so | Acknowledge | End |
//! | finished | Publish | Claim, to say so | Publish | Publish where it is untold, else End |
//! | conflict | Claim, to say that the id is reused | Claim, to say so | Claim, to say that the id is reused | End |
//! | unknown | Acknowledge | Claim, to say so; Wait for our setup | Acknowledge | End |
//!
//! A ledger that fails leads to Wait from every state that asks it something; the copy then waits
//! until the ledger can be written. A broker that fails, or a worker that dies, leads nowhere: the
//! delivery comes again, and begins at Enter.
//!
//! A command whose message is lost has no delivery: nothing is parked or acknowledged, and what is
//! not over is due again. Its message is needed to call, so it is only inquired.

mod begin;
mod claim;
mod end;
mod opening;
mod settle;
mod wait;

use jiff::Timestamp;

pub use begin::{Acquiring, Beginning, Calling, Inquiring, Next, Stamping};
pub use claim::{Claim, Claimed, LeaseStatus};
pub use end::{
    Acknowledging, Finishing, NotingPublished, Owed, ParkingRefused, Published, Publishing,
    Requeuing, Subject,
};
pub use opening::{Asking, Claiming, Entering, Rejected, Unknown};
pub use settle::{Deciding, Noting};
pub use wait::{Copy, CopyAge, NotingParked, Parking, Placed, Reason, Waiting};

pub use crate::decision::Conditions;

/// How many claims in a row the worker may die over before it gives a command up.
const MAX_INTERRUPTIONS: u32 = 5;

/// What is to be done next about a command, and all that the rest of the order has to know.
#[derive(Clone, Debug)]
pub enum Order<C> {
    /// Wait for leave to call.
    Enter(Entering),
    /// Claim in the ledger.
    Claim(Claiming),
    /// Look at clock and settings: what the evidence leads to is decided.
    Decide(Deciding<C>),
    /// Wait for leave for one more call.
    Acquire(Acquiring<C>),
    /// Draw the timestamp that signs a call.
    Stamp(Stamping<C>),
    /// Write that a call begins.
    Begin(Beginning<C>),
    /// Call the kind's endpoint.
    Call(Calling<C>),
    /// Ask Eko what became of the transaction.
    Inquire(Inquiring<C>),
    /// Write what is known.
    Note(Noting<C>),
    /// Write how it ended.
    Finish(Finishing<C>),
    /// Publish what is owed.
    Publish(Publishing),
    /// Put a copy where it waits to be published again.
    ParkRefused(ParkingRefused),
    /// Look at clock and settings: how long a copy waits is decided.
    Wait(Waiting),
    /// Put a copy into a retry queue.
    Park(Parking),
    /// Acknowledge the delivery.
    Acknowledge(Acknowledging),
    /// Hand the delivery back.
    Requeue(Requeuing),
    /// Tell the ledger that the parked copy is safe.
    NoteParked(NotingParked),
    /// Tell the ledger that what was owed is done.
    NotePublished(NotingPublished),
    /// Nothing.
    End(End),
}

impl<C> Order<C> {
    /// Whether a call may follow at once: whatever ends or waits needs no leave for one.
    pub const fn may_call(&self) -> bool {
        match self {
            Self::Enter(_)
            | Self::Claim(_)
            | Self::Decide(_)
            | Self::Acquire(_)
            | Self::Stamp(_)
            | Self::Begin(_)
            | Self::Call(_)
            | Self::Inquire(_) => true,
            Self::Note(_)
            | Self::Finish(_)
            | Self::Publish(_)
            | Self::ParkRefused(_)
            | Self::Wait(_)
            | Self::Park(_)
            | Self::Acknowledge(_)
            | Self::Requeue(_)
            | Self::NoteParked(_)
            | Self::NotePublished(_)
            | Self::End(_) => false,
        }
    }
}

/// How an order ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// There is nothing left to do.
    Over,
    /// It is to be looked at again once it is due.
    DueAgain,
}

/// What a delivery says besides its command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// How often a copy of it was parked.
    pub parked: u32,
    /// How often Eko had been called when it was parked.
    pub attempts: u32,
    /// Whether it was delivered before: somebody may have died over it.
    pub is_redelivered: bool,
    /// What a parked copy proves of its command's age.
    pub age: Option<CopyAge>,
    /// What the broker has refused of its end, where it waited for that.
    pub refused: Option<Owed>,
    /// After it, the command is not started any more.
    pub expiry: Option<Timestamp>,
}

/// How the order came to a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// By a message, which is to be acknowledged in the end.
    Message(Delivered),
    /// By the ledger alone: its message is lost.
    Ledger,
}

impl Source {
    /// The claim has gone to somebody else.
    fn lost<C>(self) -> Order<C> {
        match self {
            Self::Message(delivered) => Order::Wait(Waiting::busy(delivered, None)),
            Self::Ledger => Order::End(End::Over),
        }
    }

    /// The ledger could not be asked, after so many attempts.
    fn ledger_failed<C>(self, attempts: u32) -> Order<C> {
        match self {
            Self::Message(delivered) => Order::Wait(Waiting::for_ledger(delivered, attempts)),
            Self::Ledger => Order::End(End::DueAgain),
        }
    }
}

#[cfg(test)]
mod tests;
