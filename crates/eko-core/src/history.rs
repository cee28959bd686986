//! What is known of one command so far: the evidence that decisions rest on.

mod age;
pub mod unix_nanos;

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use age::Age;
use age::Measured;

use crate::clock::{Now, Stamp};
use crate::verdict::{Reading, Verdict};

/// The evidence of one command, oldest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// When the worker first received the command.
    #[serde(with = "unix_nanos")]
    pub first_received: Timestamp,
    /// How old it was when this was last written; none in what an older version wrote.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    measured: Option<Measured>,
    /// What was tried and seen since.
    pub entries: Vec<Entry>,
}

/// One piece of evidence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Entry {
    /// A call of the kind's endpoint.
    Attempt(Attempt),
    /// One inquiry, or several in a row that read the same.
    Inquiry(Inquiry),
    /// Somebody else may have made an attempt for this transaction.
    Suspicion(Suspicion),
}

/// A call of the kind's endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// When it was recorded, before its bytes left.
    #[serde(with = "unix_nanos")]
    pub began: Timestamp,
    /// How old the command was then.
    #[serde(default)]
    pub age: Age,
    /// The timestamp that signs it; none in what an older version wrote, which signed later.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub signed: Option<Signed>,
    /// How it ended; `None` while it runs, or if the worker died over it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ended: Option<Ended>,
}

impl Attempt {
    /// Whether it may have been executed, as far as its own answer tells.
    pub fn is_unclear(&self) -> bool {
        match self.ended.as_ref().map(|ended| &ended.verdict) {
            None | Some(Verdict::Unclear { .. }) => true,
            Some(Verdict::Done(..) | Verdict::Refused(_) | Verdict::NotNow { .. }) => false,
        }
    }
}

/// The timestamp that a call was signed with. It was drawn before the attempt was recorded, so that
/// a process that stood still meanwhile sends what Eko no longer accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(i64, i64)", into = "(i64, i64)")]
pub struct Signed {
    /// Milliseconds since the epoch, as Eko reads it.
    pub stamp: i64,
    /// By how many milliseconds it lay in the future when the attempt was recorded; negative where
    /// it lay in the past.
    pub lead: i64,
}

impl From<(i64, i64)> for Signed {
    fn from((stamp, lead): (i64, i64)) -> Self {
        Self { stamp, lead }
    }
}

impl From<Signed> for (i64, i64) {
    fn from(Signed { stamp, lead }: Signed) -> Self {
        (stamp, lead)
    }
}

/// The end of an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// When.
    #[serde(with = "unix_nanos")]
    pub at: Timestamp,
    /// How old the command was then.
    #[serde(default)]
    pub age: Age,
    /// What Eko's answer said.
    pub verdict: Verdict,
}

/// One inquiry, or several in a row that read the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inquiry {
    /// What it said.
    pub reading: Reading,
    /// When it was first read.
    #[serde(with = "unix_nanos")]
    pub first: Timestamp,
    /// When it was last read.
    #[serde(with = "unix_nanos")]
    pub last: Timestamp,
    /// How often in a row.
    pub times: u32,
    /// How old the command was when it was last asked.
    #[serde(default)]
    pub age: Age,
    /// What Eko's own clock said in the last answer, less the time that the answer had lain in a
    /// cache; where it told.
    #[serde(with = "unix_nanos::optional", skip_serializing_if = "Option::is_none", default)]
    pub eko_time: Option<Timestamp>,
}

/// Somebody else may have made an attempt for this transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspicion {
    /// When it was raised; in what an older version wrote, when that attempt can have ended.
    #[serde(with = "unix_nanos")]
    pub at: Timestamp,
    /// How old the command was then.
    #[serde(default)]
    pub age: Age,
    /// How long ago, as it was measured, that attempt can have begun at the latest.
    #[serde(skip_serializing_if = "Duration::is_zero", default)]
    pub before: Duration,
    /// What raises it.
    pub why: SuspicionReason,
}

/// What raises a suspicion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SuspicionReason {
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
    pub fn new(now: Now) -> Self {
        let measured = Some(Measured::begin(now));
        Self { first_received: now.wall, measured, entries: Vec::new() }
    }

    /// How old the command is now.
    pub fn age(&self, now: Now) -> Age {
        self.measured_on(now).age
    }

    /// Keeps how old the command is now: before the process that measures hands it on.
    pub fn measure(&mut self, now: Now) {
        self.measured = Some(self.measured_on(now));
    }

    /// A parked copy says that the command was at least so old when it came back.
    pub fn is_at_least(&mut self, proven: Duration) {
        self.measured = self.measured.map(|measured| measured.at_least(proven));
    }

    /// What the age is and by whose clock it goes on.
    pub const fn measured_by(&self) -> Option<Measured> {
        self.measured
    }

    fn measured_on(&self, now: Now) -> Measured {
        match self.measured {
            Some(measured) => measured.go_on(now),
            None => Measured::unmeasured(self.first_received, now),
        }
    }

    /// How often the kind's endpoint was called.
    pub fn attempts(&self) -> u32 {
        let count = self.entries.iter().filter(|entry| matches!(entry, Entry::Attempt(_))).count();
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// The attempts, oldest first.
    pub fn each_attempt(&self) -> impl DoubleEndedIterator<Item = &Attempt> {
        self.entries.iter().filter_map(|entry| match entry {
            Entry::Attempt(attempt) => Some(attempt),
            Entry::Inquiry(_) | Entry::Suspicion(_) => None,
        })
    }

    /// Whether the last thing known is an attempt without an end.
    pub fn in_flight(&self) -> bool {
        matches!(self.entries.last(), Some(Entry::Attempt(Attempt { ended: None, .. })))
    }

    /// What signs the attempt in flight.
    pub fn signed(&self) -> Option<Signed> {
        match self.entries.last()? {
            Entry::Attempt(attempt) if attempt.ended.is_none() => attempt.signed,
            Entry::Attempt(_) | Entry::Inquiry(_) | Entry::Suspicion(_) => None,
        }
    }

    /// Records that an attempt begins that is signed with this timestamp.
    pub fn begin(&mut self, now: Now, stamp: Stamp) {
        self.measure(now);
        let signed = Some(Signed { stamp: stamp.at, lead: stamp.lead });
        let age = self.age(now);
        self.entries.push(Entry::Attempt(Attempt { began: now.wall, age, signed, ended: None }));
    }

    /// Records the end of the attempt in flight.
    pub fn end(&mut self, now: Now, verdict: Verdict) {
        self.measure(now);
        let age = self.age(now);
        if let Some(Entry::Attempt(attempt)) = self.entries.last_mut() {
            attempt.ended = Some(Ended { at: now.wall, age, verdict });
        }
    }

    /// Records what an inquiry read that was asked at this time, and what Eko's clock said.
    pub fn inquired(&mut self, asked: Now, eko_time: Option<Timestamp>, reading: Reading) {
        self.measure(asked);
        let age = self.age(asked);
        match self.entries.last_mut() {
            Some(Entry::Inquiry(inquiry)) if inquiry.reading == reading => {
                (inquiry.last, inquiry.age, inquiry.eko_time) = (asked.wall, age, eko_time);
                inquiry.times = inquiry.times.saturating_add(1);
            }
            _ => self.entries.push(Entry::Inquiry(Inquiry {
                reading,
                first: asked.wall,
                last: asked.wall,
                times: 1,
                age,
                eko_time,
            })),
        }
    }

    /// Records that somebody else may have made an attempt, at the latest so long `before`.
    pub fn suspect(&mut self, now: Now, before: Duration, why: SuspicionReason) {
        self.measure(now);
        let age = self.age(now);
        self.entries.push(Entry::Suspicion(Suspicion { at: now.wall, age, before, why }));
    }

    /// Whether a suspicion was raised for this reason since that has been known for so long.
    pub fn is_suspected(&self, why: SuspicionReason, known_for: Duration, now: Now) -> bool {
        let age = self.age(now).likely;
        let is_it = |entry: &Entry| match entry {
            Entry::Suspicion(raised) => {
                raised.why == why && age.saturating_sub(raised.age.likely) <= known_for
            }
            Entry::Attempt(_) | Entry::Inquiry(_) => false,
        };
        self.entries.iter().any(is_it)
    }

    /// When it first became doubtful whether the transaction was executed, if it ever did.
    pub fn doubted_since(&self) -> Option<Timestamp> {
        self.entries.iter().find_map(|entry| match entry {
            Entry::Attempt(attempt) => attempt.is_unclear().then_some(attempt.began),
            Entry::Suspicion(suspicion) => Some(suspicion.at),
            Entry::Inquiry(_) => None,
        })
    }

    /// How many of the last attempts in a row Eko refused for now.
    pub fn refused_for_now(&self) -> u32 {
        let trailing = self.each_attempt().rev().take_while(|attempt| match &attempt.ended {
            Some(ended) => matches!(ended.verdict, Verdict::NotNow { .. }),
            None => false,
        });
        u32::try_from(trailing.count()).unwrap_or(u32::MAX)
    }
}
