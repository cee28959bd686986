//! What is asked of the ledger about a command, and what it answers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use eko_core::clock::{Now, Stamp};
use eko_core::command::Kind;
use eko_core::history::History;
pub use eko_core::order::LeaseStatus;
use eko_core::order::{self, Claimed};

/// A message that asks to be dealt with.
#[derive(Clone, Debug)]
pub struct ClaimRequest {
    /// The command's id, or what stands in for it.
    pub id: String,
    /// The kind, where one could be read.
    pub kind: Option<Kind>,
    /// The transaction, for a refund or its OTP.
    pub tid: Option<String>,
    /// The keyed digest of what is asked; `None` where only the id is known, so that nothing new
    /// may come of it.
    pub digest: Option<String>,
    /// When it was received.
    pub now: Now,
    /// How often a copy of it was parked, by its own header.
    pub parked: u32,
    /// What the broker has measured while a copy was parked.
    pub waited: Option<Waited>,
    /// Whether an attempt may have been made that this ledger knows nothing of.
    pub is_suspect: bool,
    /// Whether it has ended, as its copy says, so that nothing new may come of it.
    pub has_ended: bool,
    /// Whether it is only asked how it ended: what has not ended is then not claimed.
    pub only_ended: bool,
    /// Whether its time is over, so that it can only end.
    pub has_expired: bool,
    /// Whether it wants an answer of its own, so that no copy of it may be dropped.
    pub has_reply_to: bool,
    /// What signs its first attempt, where that may begin in the same write.
    pub stamp: Option<Stamp>,
    /// How long the claim lasts.
    pub lease: Duration,
}

impl ClaimRequest {
    /// Asks for what is known of an id, and for nothing new.
    pub fn known(id: &str, kind: Option<Kind>, now: Now, lease: Duration) -> Self {
        Self {
            id: id.to_owned(),
            kind,
            tid: None,
            digest: None,
            now,
            parked: 0,
            waited: None,
            is_suspect: false,
            has_ended: false,
            only_ended: false,
            has_expired: false,
            has_reply_to: false,
            stamp: None,
            lease,
        }
    }

    pub(super) fn is_refund(&self) -> bool {
        self.kind == Some(Kind::Refund)
    }

    /// The transaction, of a refund.
    pub(super) fn refund_of(&self) -> Option<&str> {
        self.tid.as_deref().filter(|_| self.is_refund())
    }
}

/// What a parked copy proves: so old was the command at least when it came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waited {
    /// When the command was first received: ages of another history say nothing of this one.
    pub first_received: Timestamp,
    /// How old.
    pub age: Duration,
}

impl Waited {
    pub(super) fn is_of(&self, history: &History) -> bool {
        self.first_received.as_millisecond() == history.first_received.as_millisecond()
    }
}

/// A claimed command: only whoever holds it may write about it.
#[derive(Clone, Debug)]
pub struct ClaimedCommand {
    /// The command's id.
    pub id: String,
    /// What is known of it.
    pub history: History,
    /// How often it was parked.
    pub parked: u32,
    /// How many claims in a row the worker died over.
    pub interruptions: u32,
    pub(super) token: u64,
    pub(super) asked: Arc<Asked>,
    /// Whether the store has a row of it: one that can only end is not kept before.
    pub(super) is_kept: bool,
}

impl ClaimedCommand {
    /// The transaction, for a refund or its OTP.
    pub fn tid(&self) -> Option<&str> {
        self.asked.tid.as_deref()
    }
}

/// What a command asks for, as its row keeps it: enough to write a row that was forgotten back.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) kind: Option<Kind>,
    pub(super) tid: Option<String>,
    pub(super) digest: String,
}

impl Asked {
    /// The transaction, of a refund.
    pub(super) fn refund_of(&self) -> Option<&str> {
        self.tid.as_deref().filter(|_| self.kind == Some(Kind::Refund))
    }
}

impl Claimed for ClaimedCommand {
    fn history(&self) -> &History {
        &self.history
    }

    fn history_mut(&mut self) -> &mut History {
        &mut self.history
    }

    fn parked(&self) -> u32 {
        self.parked
    }

    fn interruptions(&self) -> u32 {
        self.interruptions
    }

    fn kind(&self) -> Option<Kind> {
        self.asked.kind
    }

    fn was_asked_by(&self, digest: &str) -> bool {
        self.asked.digest == digest
    }
}

/// What the ledger says to a message.
pub type Claim = order::Claim<ClaimedCommand>;

/// How many commands wait, for each kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BacklogCounts {
    /// Those whose outcome is not known yet, and since when the oldest.
    pub unsettled: BTreeMap<String, (u32, Timestamp)>,
    /// Those that are parked.
    pub parked: BTreeMap<String, u32>,
}

/// Commands that are not finished and that nobody works on, and ends that may be untold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stranded {
    /// Neither claimed nor waiting for their time.
    pub open: Vec<Open>,
    /// Ids of commands that have ended untold.
    pub untold: Vec<String>,
}

/// A command that is not finished.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    /// Its id.
    pub id: String,
    /// Its kind, where one could be read.
    pub kind: Option<Kind>,
    /// The transaction, for a refund or its OTP.
    pub tid: Option<String>,
    /// What changes whenever somebody works on it.
    pub state: OpenState,
}

/// What changes about an open command whenever somebody works on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenState {
    /// When it is due again, in milliseconds since the epoch.
    pub due: Option<i64>,
    /// The claim that holds it.
    pub token: Option<i64>,
    /// How often it was parked.
    pub parked: i64,
    /// How often work on it was broken off.
    pub interruptions: i64,
}
