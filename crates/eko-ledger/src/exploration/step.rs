//! The steps: those of a worker in the order of `worker.rs` and its neighbours, and what broker,
//! Eko and chance do to them.

mod act;
mod eko;
mod journey;
mod mishap;
mod orphan;

use std::hash::{Hash as _, Hasher as _};
use std::rc::Rc;

use crate::Case;
use crate::model::hash_case;
use eko_core::decision::Turn;
use eko_core::event::Event;
use eko_core::outcome::Outcome;

use super::explorer::Mixer;
use super::scenario::CALL_TIMEOUT;
use super::world::{Message, fingerprint};

/// What happened, for a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// A second passes.
    Tick,
    /// A message is delivered and its command claimed.
    Claim { slot: usize, message: Message },
    /// A command is taken for one without a message, and claimed.
    Sweep { slot: usize, command: u8 },
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
    /// A message vanishes from its queue.
    Purge { message: Message },
    /// A wall clock is set.
    SetClock { slot: usize, by: i32 },
    /// The ledger is as it was before its last commits; whether anybody notices.
    Forget { commits: usize, is_noticed: bool },
    /// All that the ledger knows is lost.
    LoseLedger,
    /// Eko executes a call that was held on its way.
    ExecuteLate { command: u8 },
}

/// What Eko and the way to it do with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Does {
    /// Executes it and says so.
    Execute,
    /// Refuses the OTP.
    Refuse,
    /// The answer is lost.
    Silent(When),
    /// A gateway answers 403.
    Gateway(When),
    /// A proxy sends it twice: one is executed, the answer to the other says 2485.
    Resent,
    /// Refuses its timestamp.
    OutOfTime,
    /// The call never leaves.
    Unreached,
}

/// When Eko executes a call that it does not answer itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum When {
    Now,
    Never,
    /// Some time while its signature lives, or never.
    Later,
}

impl Does {
    /// Whether there is an answer to wait for.
    const fn is_answered(self) -> bool {
        match self {
            Self::Silent(_) => false,
            Self::Execute
            | Self::Refuse
            | Self::Gateway(_)
            | Self::Resent
            | Self::OutOfTime
            | Self::Unreached => true,
        }
    }
}

/// What an inquiry reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reads {
    Truth,
    /// What was true just before the refund.
    Stale,
    InProgress,
    NoAnswer,
}

/// One delivery, or one command without a message, in a worker's hands.
#[derive(Clone, Default)]
pub(super) struct Slot {
    at: At,
    message: Option<Message>,
    /// It is taken for an orphan: there is no message.
    orphan: Option<u8>,
    /// Its channel is gone: the broker has the message again.
    is_cut: bool,
    is_stalled: bool,
}

/// A case, and its hash.
struct Known {
    case: Case,
    digest: u64,
}

impl Known {
    fn new(case: Case) -> Rc<Self> {
        let mut state = Mixer::default();
        hash_case(&case, &mut state);
        Rc::new(Self { case, digest: state.finish() })
    }
}

/// An event to tell, and its hash.
struct News {
    event: Event,
    /// Whether a copy of the command is put where a person looks.
    bury: bool,
    print: u64,
}

impl News {
    fn new(event: Event, bury: bool) -> Rc<Self> {
        let print = fingerprint(&event);
        Rc::new(Self { event, bury, print })
    }
}

/// How far a worker is.
#[derive(Clone, Default)]
enum At {
    #[default]
    Idle,
    /// Claimed, or with new evidence.
    Claimed { known: Rc<Known>, turn: Turn },
    /// Claimed, and needs no call.
    Ending { known: Rc<Known>, outcome: Rc<Outcome> },
    /// The attempt is in the ledger.
    Begun { known: Rc<Known>, began: u32 },
    /// The call has left.
    Called { known: Rc<Known>, began: u32, eko: Does },
    /// The inquiry is in the ledger.
    Inquiring { known: Rc<Known>, began: u32 },
    /// Noted: a copy is to be parked.
    Noted { copy: Message, is_case: bool },
    /// The copy is confirmed.
    ParkedConfirmed { copy: Message, is_case: bool },
    /// Acknowledged: the ledger is to learn of the copy.
    ParkedAcked { copy: Message },
    /// The outcome is in the ledger: the event is to be told.
    Finished(Rc<News>),
    /// The event is confirmed.
    EventConfirmed,
    /// Planted: acknowledged, and the event is still to be told.
    AckedTooSoon(Rc<News>),
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

    /// The command that it works on.
    fn command(&self) -> u8 {
        self.orphan.or_else(|| self.message.map(|message| message.command)).unwrap()
    }

    fn known(&self) -> Option<&Rc<Known>> {
        match &self.at {
            At::Claimed { known, .. }
            | At::Ending { known, .. }
            | At::Begun { known, .. }
            | At::Called { known, .. }
            | At::Inquiring { known, .. } => Some(known),
            At::Idle
            | At::Noted { .. }
            | At::ParkedConfirmed { .. }
            | At::ParkedAcked { .. }
            | At::Finished(_)
            | At::EventConfirmed
            | At::AckedTooSoon(_)
            | At::Stale => None,
        }
    }

    pub(super) fn digest(&self) -> u64 {
        let state = &mut Mixer::default();
        (self.message, self.orphan, self.is_cut, self.is_stalled).hash(state);
        std::mem::discriminant(&self.at).hash(state);
        if let Some(known) = self.known() {
            known.digest.hash(state);
        }
        match &self.at {
            At::Claimed { turn, .. } => (*turn == Turn::Ready).hash(state),
            At::Begun { began, .. } | At::Inquiring { began, .. } => began.hash(state),
            At::Called { began, eko, .. } => (began, eko).hash(state),
            At::Noted { copy, is_case } | At::ParkedConfirmed { copy, is_case } => {
                (copy, is_case).hash(state);
            }
            At::ParkedAcked { copy } => copy.hash(state),
            At::Finished(news) | At::AckedTooSoon(news) => (news.print, news.bury).hash(state),
            At::Idle | At::Ending { .. } | At::EventConfirmed | At::Stale => {}
        }
        state.finish()
    }
}
