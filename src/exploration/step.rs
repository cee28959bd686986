//! The steps: those of a worker in the order of `worker.rs` and `worker/settle.rs`, and what
//! broker, Eko and chance do to them.

mod eko;
mod journey;
mod mishap;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;

use crate::decision::Turn;
use crate::event::Event;
use crate::ledger::Case;
use crate::ledger::model::hash_case;
use crate::outcome::Outcome;

use super::scenario::CALL_TIMEOUT;
use super::world::{Message, fingerprint};

/// What happened, for a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// A second passes.
    Tick,
    /// A message is delivered and its command claimed.
    Claim { slot: usize, message: Message },
    /// The call leaves, and Eko does this.
    Call { slot: usize, eko: Does },
    /// The answer arrives, or is given up.
    Answer { slot: usize },
    /// An inquiry is made, and reads this.
    Inquire { slot: usize, reads: Reads },
    /// The evidence is judged, and what follows is written to the ledger.
    Decide { slot: usize },
    /// The parked copy is confirmed.
    Park { slot: usize },
    /// The event is confirmed.
    Tell { slot: usize },
    /// The delivery is acknowledged.
    Ack { slot: usize },
    /// The ledger learns that the parked copy is safe.
    NoteParked { slot: usize },
    /// A worker dies.
    Crash { slot: usize },
    /// The broker takes its time with a message.
    Hold { message: Message },
    /// It is ready for delivery.
    Release { message: Message },
    /// A worker stands still.
    Stall { slot: usize },
    /// It goes on.
    Wake { slot: usize },
    /// A delivery's channel breaks; whoever has it does not know.
    Cut { slot: usize },
    /// A consumer dies before it has claimed what it was delivered.
    Bounce { message: Message },
    /// All that the ledger knows is lost.
    LoseLedger,
    /// Eko executes a call whose answer was lost.
    ExecuteLate { command: u8 },
}

/// What Eko does with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Does {
    /// Executes it and says so.
    Execute,
    /// Executes it; the answer is lost.
    ExecuteSilently,
    /// Does nothing; the answer is lost.
    Nothing,
    /// Executes it some time after the answer was lost, or never.
    Later,
    /// Refuses the OTP.
    Refuse,
    /// Refuses it for now: another transaction is in progress.
    NotNow,
    /// The call never leaves.
    Unreached,
}

impl Does {
    /// Whether there is an answer to wait for.
    const fn is_answered(self) -> bool {
        match self {
            Self::Execute | Self::Refuse | Self::NotNow | Self::Unreached => true,
            Self::ExecuteSilently | Self::Nothing | Self::Later => false,
        }
    }
}

/// What an inquiry reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reads {
    Truth,
    /// What was true before the refund.
    Stale,
    InProgress,
    NoAnswer,
}

/// One delivery in a worker's hands.
#[derive(Clone, Default)]
pub(super) struct Slot {
    at: At,
    message: Option<Message>,
    /// Its channel is gone: the broker has the message again.
    is_cut: bool,
    is_stalled: bool,
}

/// How far a worker is.
#[derive(Clone, Default)]
enum At {
    #[default]
    Idle,
    /// Claimed, or with new evidence.
    Claimed { case: Rc<Case>, turn: Turn },
    /// Claimed, and needs no call.
    Ending { case: Rc<Case>, outcome: Rc<Outcome> },
    /// The attempt is in the ledger.
    Begun { case: Rc<Case>, began: u32 },
    /// The call has left.
    Called { case: Rc<Case>, began: u32, eko: Does },
    /// The inquiry is in the ledger.
    Inquiring { case: Rc<Case>, began: u32 },
    /// Noted: a copy is to be parked.
    Noted { copy: Message, is_case: bool },
    /// The copy is confirmed.
    ParkedConfirmed { copy: Message, is_case: bool },
    /// Acknowledged: the ledger is to learn of the copy.
    ParkedAcked { copy: Message },
    /// The outcome is in the ledger: the event is to be told.
    Finished { event: Rc<Event>, bury: bool },
    /// The event is confirmed.
    EventConfirmed,
    /// Planted: acknowledged, and the event is still to be told.
    AckedTooSoon { event: Rc<Event>, bury: bool },
    /// A later copy has replaced it.
    Stale,
}

impl Slot {
    pub(super) fn is_idle(&self) -> bool {
        matches!(self.at, At::Idle)
    }

    /// Whether it could do something now; a call in flight may take its time.
    pub(super) fn is_at_work(&self, now: u32) -> bool {
        match &self.at {
            _ if self.is_stalled => false,
            At::Idle => false,
            At::Called { began, eko, .. } => now >= began + CALL_TIMEOUT || eko.is_answered(),
            _ => true,
        }
    }

    /// Whether the broker waits for it to acknowledge a copy of a command.
    pub(super) fn holds(&self, command: u8) -> bool {
        !self.is_cut && self.message.is_some_and(|message| message.command == command)
    }

    fn case(&self) -> Option<&Rc<Case>> {
        match &self.at {
            At::Claimed { case, .. }
            | At::Ending { case, .. }
            | At::Begun { case, .. }
            | At::Called { case, .. }
            | At::Inquiring { case, .. } => Some(case),
            At::Idle
            | At::Noted { .. }
            | At::ParkedConfirmed { .. }
            | At::ParkedAcked { .. }
            | At::Finished { .. }
            | At::EventConfirmed
            | At::AckedTooSoon { .. }
            | At::Stale => None,
        }
    }

    pub(super) fn digest(&self) -> u64 {
        let mut state = DefaultHasher::new();
        (self.message, self.is_cut, self.is_stalled, std::mem::discriminant(&self.at))
            .hash(&mut state);
        if let Some(case) = self.case() {
            hash_case(case, &mut state);
        }
        match &self.at {
            At::Claimed { turn, .. } => (*turn == Turn::Ready).hash(&mut state),
            At::Begun { began, .. } | At::Inquiring { began, .. } => began.hash(&mut state),
            At::Called { began, eko, .. } => (began, eko).hash(&mut state),
            At::Noted { copy, is_case } | At::ParkedConfirmed { copy, is_case } => {
                (copy, is_case).hash(&mut state);
            }
            At::ParkedAcked { copy } => copy.hash(&mut state),
            At::Finished { event, bury } | At::AckedTooSoon { event, bury } => {
                (fingerprint(event), bury).hash(&mut state);
            }
            At::Idle | At::Ending { .. } | At::EventConfirmed | At::Stale => {}
        }
        state.finish()
    }
}
