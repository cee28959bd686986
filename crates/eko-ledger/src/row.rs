//! One command as the stores keep it.

use std::sync::Arc;

use jiff::Timestamp;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use super::claim::{Asked, ClaimedCommand};
use eko_core::command::Kind;
use eko_core::event::Event;
use eko_core::history::{History, unix_nanos};
use eko_core::outcome::OutcomeName;

/// One command as a store keeps it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(super) struct Row {
    pub(super) id: String,
    /// Where one could be read.
    #[serde(deserialize_with = "kind_of_begun")]
    pub(super) kind: Option<Kind>,
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Lease {
    pub(super) token: u64,
    #[serde(with = "unix_nanos")]
    pub(super) until: Timestamp,
}

/// The end of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finished {
    pub(super) at: Timestamp,
    pub(super) outcome: OutcomeName,
    pub(super) event: Vec<u8>,
}

impl Finished {
    /// The end that an event tells.
    pub(super) fn by(event: &Event) -> Self {
        Self { at: event.time, outcome: event.outcome, event: event.body.clone() }
    }
}

impl Row {
    /// The transaction, of a refund.
    pub(super) fn refund_of(&self) -> Option<&str> {
        self.tid.as_deref().filter(|_| self.kind == Some(Kind::Refund))
    }

    /// Whether somebody may have executed it, as far as its attempts tell.
    pub(super) fn doubted_since(&self) -> Option<Timestamp> {
        self.history.doubted_since()
    }

    /// The command, as the claim with this token holds it.
    pub(super) fn claimed(&self, token: u64) -> ClaimedCommand {
        let (kind, tid, digest) = (self.kind, self.tid.clone(), self.digest.clone());
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

/// A word in a row that this program does not know.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the row of {id} has the {column} {word:?}, which this program does not know")]
pub(super) struct UnknownWord {
    id: String,
    column: &'static str,
    word: String,
}

/// Reads the kind in the row of an id.
pub(super) fn read_kind(id: &str, word: &str) -> Result<Option<Kind>, UnknownWord> {
    match Kind::from_name(word) {
        None if word != Kind::UNKNOWN => {
            Err(UnknownWord { id: id.to_owned(), column: "kind", word: word.to_owned() })
        }
        kind => Ok(kind),
    }
}

/// Reads the outcome in the row of an id.
pub(super) fn read_outcome(id: &str, word: &str) -> Result<OutcomeName, UnknownWord> {
    OutcomeName::from_name(word).ok_or_else(|| UnknownWord {
        id: id.to_owned(),
        column: "outcome",
        word: word.to_owned(),
    })
}

fn kind_of_begun<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Kind>, D::Error> {
    let word = String::deserialize(deserializer)?;
    read_kind("a command in begun", &word).map_err(D::Error::custom)
}
