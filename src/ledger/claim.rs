//! What is asked of the ledger about a command, and what it answers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::clock::{Now, Stamp};
use crate::command::Kind;
use crate::history::History;
pub(crate) use crate::order::Held;
use crate::order::{self, Claimed};

/// A message that asks to be dealt with.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    /// The command's id, or what stands in for it.
    pub(crate) id: String,
    /// The kind's word; `unknown` where none could be read.
    pub(crate) kind: &'static str,
    /// The transaction, for a refund or its OTP.
    pub(crate) tid: Option<String>,
    /// The keyed digest of what is asked; `None` where only the id is known, so that nothing new
    /// may come of it.
    pub(crate) digest: Option<String>,
    /// When it was received.
    pub(crate) now: Now,
    /// How often a copy of it was parked, by its own header.
    pub(crate) parked: u32,
    /// What the broker has measured while a copy was parked.
    pub(crate) waited: Option<Waited>,
    /// Whether an attempt may have been made that this ledger knows nothing of.
    pub(crate) is_suspect: bool,
    /// Whether it has ended, as its copy says, so that nothing new may come of it.
    pub(crate) has_ended: bool,
    /// Whether its time is over, so that it can only end.
    pub(crate) has_expired: bool,
    /// Whether it wants an answer of its own, so that no copy of it may be dropped.
    pub(crate) has_reply_to: bool,
    /// What signs its first attempt, where that may begin in the same write.
    pub(crate) stamp: Option<Stamp>,
    /// How long the claim lasts.
    pub(crate) lease: Duration,
}

impl Ask {
    /// Asks for what is known of an id, and for nothing new.
    pub(crate) fn known(id: &str, kind: &'static str, now: Now, lease: Duration) -> Self {
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
            has_expired: false,
            has_reply_to: false,
            stamp: None,
            lease,
        }
    }
}

/// What a parked copy proves: so old was the command at least when it came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Waited {
    /// When the command was first received: ages of another history say nothing of this one.
    pub(crate) first_received: Timestamp,
    /// How old.
    pub(crate) age: Duration,
}

impl Waited {
    pub(super) fn is_of(&self, history: &History) -> bool {
        self.first_received.as_millisecond() == history.first_received.as_millisecond()
    }
}

/// A claimed command: only whoever holds it may write about it.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    /// The command's id.
    pub(crate) id: String,
    /// What is known of it.
    pub(crate) history: History,
    /// How often it was parked.
    pub(crate) parked: u32,
    /// How many claims in a row the worker died over.
    pub(crate) interruptions: u32,
    pub(super) token: u64,
    pub(super) asked: Arc<Asked>,
    /// Whether the store has a row of it: one that can only end is not kept before.
    pub(super) is_kept: bool,
}

impl Case {
    /// The transaction, for a refund or its OTP.
    pub(crate) fn tid(&self) -> Option<&str> {
        self.asked.tid.as_deref()
    }
}

/// What a command asks for, as its row keeps it: enough to write a row that was forgotten back.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) kind: String,
    pub(super) tid: Option<String>,
    pub(super) digest: String,
}

impl Claimed for Case {
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
        Kind::from_name(&self.asked.kind)
    }

    fn was_asked_by(&self, digest: &str) -> bool {
        self.asked.digest == digest
    }
}

/// What the ledger says to a message.
pub(crate) type Claim = order::Claim<Case>;

/// How many commands wait, for each kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Census {
    /// Those whose outcome is not known yet, and since when the oldest.
    pub(crate) unsettled: BTreeMap<String, (u32, Timestamp)>,
    /// Those that are parked.
    pub(crate) parked: BTreeMap<String, u32>,
}

/// Commands that are not finished and that nobody works on, and ends that may be untold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stranded {
    /// Neither claimed nor waiting for their time.
    pub(crate) open: Vec<Open>,
    /// Ids of commands that have ended untold.
    pub(crate) untold: Vec<String>,
}

/// A command that is not finished.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Open {
    /// Its id.
    pub(crate) id: String,
    /// Its kind's word.
    pub(crate) kind: String,
    /// The transaction, for a refund or its OTP.
    pub(crate) tid: Option<String>,
    /// What changes whenever somebody works on it.
    pub(crate) state: OpenState,
}

/// What changes about an open command whenever somebody works on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OpenState {
    pub(crate) due: Option<i64>,
    pub(crate) token: Option<i64>,
    pub(crate) parked: i64,
    pub(crate) interruptions: i64,
}
