//! What is known of one command so far: the evidence that decisions rest on.

pub(crate) mod moment;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::verdict::{Reading, Verdict};

/// The evidence of one command, oldest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct History {
    /// When the worker first received the command.
    #[serde(with = "moment")]
    pub first_received: Timestamp,
    /// What was tried and seen since.
    pub entries: Vec<Entry>,
}

/// One piece of evidence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Entry {
    /// A call of the kind's endpoint.
    Attempt(Attempt),
    /// One inquiry, or several in a row that read the same.
    Inquiry(Inquiry),
    /// Somebody else may have made an attempt for this transaction.
    Suspicion(Suspicion),
}

/// A call of the kind's endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Attempt {
    /// When it was recorded, before its bytes left.
    #[serde(with = "moment")]
    pub began: Timestamp,
    /// How it ended; `None` while it runs, or if the worker died over it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ended: Option<Ended>,
}

impl Attempt {
    /// Whether it may have been executed, as far as its own answer tells.
    pub(crate) fn is_unclear(&self) -> bool {
        match self.ended.as_ref().map(|ended| &ended.verdict) {
            None | Some(Verdict::Unclear { .. }) => true,
            Some(Verdict::Done(..) | Verdict::Refused(_) | Verdict::NotNow { .. }) => false,
        }
    }
}

/// The end of an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ended {
    /// When.
    #[serde(with = "moment")]
    pub at: Timestamp,
    /// What Eko's answer said.
    pub verdict: Verdict,
}

/// One inquiry, or several in a row that read the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Inquiry {
    /// What it said.
    pub reading: Reading,
    /// When it was first read.
    #[serde(with = "moment")]
    pub first: Timestamp,
    /// When it was last read.
    #[serde(with = "moment")]
    pub last: Timestamp,
    /// How often in a row.
    pub times: u32,
}

/// Somebody else may have made an attempt for this transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Suspicion {
    /// The latest time at which that attempt can have ended.
    #[serde(with = "moment")]
    pub at: Timestamp,
    /// What raises it.
    pub why: Why,
}

/// What raises a suspicion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Why {
    /// The broker delivered the command before, and this ledger does not know it.
    Redelivered,
    /// An attempt that an earlier command made for that tid ended unclear.
    TidDoubted,
    /// This ledger took over from another one, which may know of an attempt.
    LedgerAdopted,
    /// This ledger has lost commits, and with them perhaps an attempt.
    LedgerForgot,
}

impl History {
    /// Nothing but a first receipt.
    pub(crate) const fn new(first_received: Timestamp) -> Self {
        Self { first_received, entries: Vec::new() }
    }

    /// How often the kind's endpoint was called.
    pub(crate) fn attempts(&self) -> u32 {
        let count = self.entries.iter().filter(|entry| matches!(entry, Entry::Attempt(_))).count();
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// The attempts, oldest first.
    pub(crate) fn each_attempt(&self) -> impl DoubleEndedIterator<Item = &Attempt> {
        self.entries.iter().filter_map(|entry| match entry {
            Entry::Attempt(attempt) => Some(attempt),
            Entry::Inquiry(_) | Entry::Suspicion(_) => None,
        })
    }

    /// Whether the last thing known is an attempt without an end.
    pub(crate) fn in_flight(&self) -> bool {
        matches!(self.entries.last(), Some(Entry::Attempt(Attempt { ended: None, .. })))
    }

    /// Records that an attempt begins.
    pub(crate) fn begin(&mut self, now: Timestamp) {
        self.entries.push(Entry::Attempt(Attempt { began: now, ended: None }));
    }

    /// Records the end of the attempt in flight.
    pub(crate) fn end(&mut self, now: Timestamp, verdict: Verdict) {
        if let Some(Entry::Attempt(attempt)) = self.entries.last_mut() {
            attempt.ended = Some(Ended { at: now, verdict });
        }
    }

    /// Records an inquiry.
    pub(crate) fn inquired(&mut self, now: Timestamp, reading: Reading) {
        match self.entries.last_mut() {
            Some(Entry::Inquiry(inquiry)) if inquiry.reading == reading => {
                inquiry.last = now;
                inquiry.times = inquiry.times.saturating_add(1);
            }
            _ => self.entries.push(Entry::Inquiry(Inquiry {
                reading,
                first: now,
                last: now,
                times: 1,
            })),
        }
    }

    /// When it first became doubtful whether the transaction was executed, if it ever did.
    pub(crate) fn doubted_since(&self) -> Option<Timestamp> {
        self.entries.iter().find_map(|entry| match entry {
            Entry::Attempt(attempt) => attempt.is_unclear().then_some(attempt.began),
            Entry::Suspicion(suspicion) => Some(suspicion.at),
            Entry::Inquiry(_) => None,
        })
    }

    /// How many of the last attempts in a row Eko refused for now.
    pub(crate) fn refused_for_now(&self) -> u32 {
        let trailing = self.each_attempt().rev().take_while(|attempt| match &attempt.ended {
            Some(ended) => matches!(ended.verdict, Verdict::NotNow { .. }),
            None => false,
        });
        u32::try_from(trailing.count()).unwrap_or(u32::MAX)
    }
}
