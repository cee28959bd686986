//! One command as the stores keep it.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize, Serializer};

use super::claim::{Asked, ClaimedCommand};
use eko_core::command::Kind;
use eko_core::event::Event;
use eko_core::history::{History, unix_nanos};

/// One command as a store keeps it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(super) struct Row {
    pub(super) id: String,
    pub(super) kind: String,
    pub(super) tid: Option<String>,
    pub(super) digest: String,
    pub(super) history: History,
    pub(super) lease: Option<Lease>,
    pub(super) due: Option<Timestamp>,
    pub(super) parked: u32,
    pub(super) interruptions: u32,
    pub(super) unsettled: bool,
    /// It has ended, and what follows from that may not have been done yet: its event, and a copy
    /// where a person looks.
    #[serde(skip)]
    pub(super) untold: bool,
    /// Never written as JSON: what has ended stands in columns of its own.
    #[serde(skip)]
    pub(super) finished: Option<Finished>,
}

/// A claim that is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Lease {
    pub(super) token: u64,
    #[serde(with = "unix_nanos")]
    pub(super) until: Timestamp,
}

/// The end of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finished {
    pub(super) at: Timestamp,
    pub(super) outcome: String,
    pub(super) event: Vec<u8>,
}

impl Finished {
    /// The end that an event tells.
    pub(super) fn by(event: &Event) -> Self {
        Self { at: event.time, outcome: event.outcome.clone(), event: event.body.clone() }
    }
}

/// A list, in the order of the fields: what is read back soon needs no names.
impl Serialize for Row {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self {
            id,
            kind,
            tid,
            digest,
            history,
            lease,
            due,
            parked,
            interruptions,
            unsettled,
            untold: _,
            finished: _,
        } = self;
        (id, kind, tid, digest, history, lease, due, parked, interruptions, unsettled)
            .serialize(serializer)
    }
}

impl Row {
    /// The transaction, of a refund.
    pub(super) fn refund_of(&self) -> Option<&str> {
        self.tid.as_deref().filter(|_| self.kind == Kind::Refund.as_str())
    }

    /// Whether somebody may have executed it, as far as its attempts tell.
    pub(super) fn doubted_since(&self) -> Option<Timestamp> {
        self.history.doubted_since()
    }

    /// The command, as the claim with this token holds it.
    pub(super) fn claimed(&self, token: u64) -> ClaimedCommand {
        let (kind, tid, digest) = (self.kind.clone(), self.tid.clone(), self.digest.clone());
        ClaimedCommand {
            id: self.id.clone(),
            history: self.history.clone(),
            parked: self.parked,
            interruptions: self.interruptions,
            token,
            asked: Arc::new(Asked { kind, tid, digest }),
            is_kept: true,
        }
    }
}
