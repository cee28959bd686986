//! The ledger's rules: pure functions from what a store has loaded to what it writes.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize, Serializer};

use super::{Ask, Asked, Case, Claim, Error, Held, Then, Write};
use crate::decision::later;
use crate::event::Event;
use crate::history::{Entry, History, Suspicion, Why, moment};
use crate::outcome::Receipt;

/// A copy may come a moment before its time: the broker's clock is not ours.
const EARLY_MILLISECONDS: i64 = 100;

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
    /// Never written as JSON: what has ended stands in columns of its own.
    #[serde(skip)]
    pub(super) finished: Option<Finished>,
}

/// A claim that is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Lease {
    pub(super) token: u64,
    #[serde(with = "moment")]
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

/// What other commands have left of the same tid's refund.
#[derive(Clone, Debug, Default)]
pub(super) struct TidState {
    /// Another refund of it is not finished.
    pub(super) is_busy: bool,
    /// The event of the one that succeeded.
    pub(super) refunded: Option<Vec<u8>>,
    /// When the last one that had an unclear attempt finished.
    pub(super) doubted: Option<Timestamp>,
}

impl TidState {
    /// Takes in one refund of the tid: how it ended, if it has, and whether an attempt of it
    /// may have been executed.
    pub(super) fn add(&mut self, end: Option<Finished>, is_doubted: bool) {
        match end {
            None => self.is_busy = true,
            Some(end) if end.outcome == "succeeded" => self.refunded = Some(end.event),
            Some(end) if is_doubted => self.doubted = self.doubted.max(Some(end.at)),
            Some(_) => {}
        }
    }
}

/// Whose leases count.
#[derive(Clone, Copy, Debug)]
pub(super) enum Holders {
    /// One process has this store: a lease that it did not issue itself is a dead one's.
    Process { epoch: u64 },
    /// Several workers share this store: a lease counts until its time is over, whoever holds
    /// it, by the clock of whoever asks. A lease outlasts its call by 25 s, so clocks may
    /// differ by that much before a claim is taken from a worker whose call is still under
    /// way; even then the taker finds it interrupted, and inquires before anything else.
    Fleet,
}

impl Holders {
    fn holds(self, lease: Lease, now: Timestamp) -> bool {
        match self {
            Self::Process { epoch } => lease.token >> 32 == epoch >> 32 && lease.until > now,
            Self::Fleet => lease.until > now,
        }
    }
}

/// What holds for all claims of a batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Circumstances {
    /// Whose leases count.
    pub(super) holders: Holders,
    /// Why a refund that the ledger does not know may have been attempted all the same.
    pub(super) caution: Option<Why>,
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
            finished: _,
        } = self;
        (id, kind, tid, digest, history, lease, due, parked, interruptions, unsettled)
            .serialize(serializer)
    }
}

impl Row {
    /// Whether somebody may have executed it, as far as its attempts tell.
    pub(super) fn doubted_since(&self) -> Option<Timestamp> {
        self.history.doubted_since()
    }

    fn case(&self, token: u64) -> Case {
        let (kind, tid, digest) = (self.kind.clone(), self.tid.clone(), self.digest.clone());
        Case {
            id: self.id.clone(),
            history: self.history.clone(),
            parked: self.parked,
            interruptions: self.interruptions,
            token,
            asked: Arc::new(Asked { kind, tid, digest }),
        }
    }
}

/// The tid whose other refunds a claim depends on: what another command got is told again also
/// after a crash, while the command is not finished.
pub(super) fn tid_that_matters<'a>(row: Option<&Row>, ask: &'a Ask) -> Option<&'a str> {
    let is_open = row.is_none_or(|row| row.finished.is_none());
    ask.tid.as_deref().filter(|_| is_open && ask.kind == "refund")
}

/// Answers a claim; the row, where one comes back, is to be written.
pub(super) fn claim(
    row: Option<Row>,
    tid: &TidState,
    ask: &Ask,
    token: u64,
    circumstances: Circumstances,
) -> Result<(Claim, Option<Row>), Error> {
    match row {
        None => claim_unknown(tid, ask, token, circumstances.caution),
        Some(row) => claim_known(row, tid, ask, token, circumstances.holders),
    }
}

fn claim_unknown(
    tid: &TidState,
    ask: &Ask,
    token: u64,
    caution: Option<Why>,
) -> Result<(Claim, Option<Row>), Error> {
    if tid.is_busy {
        return Ok((Claim::Busy { until: None }, None));
    }
    let mut row = Row {
        id: ask.id.clone(),
        kind: ask.kind.to_owned(),
        tid: ask.tid.clone(),
        digest: ask.digest.clone(),
        history: History::new(ask.now),
        lease: Some(Lease { token, until: later(ask.now, ask.lease) }),
        due: None,
        parked: ask.parked,
        interruptions: 0,
        unsettled: false,
        finished: None,
    };
    if let Some(receipt) = refunded(tid)? {
        return Ok((Claim::Refunded(row.case(token), receipt), Some(row)));
    }
    let redelivered = ask.suspect_until.map(|at| Suspicion { at, why: Why::Redelivered });
    let doubted = tid.doubted.map(|at| Suspicion { at, why: Why::TidDoubted });
    // Whoever made an attempt that is not known here may have begun it this moment.
    let forgotten = caution.filter(|_| ask.kind == "refund");
    let forgotten = forgotten.map(|why| Suspicion { at: later(ask.now, ask.lease), why });
    match forgotten.or(redelivered).or(doubted) {
        Some(suspicion) => row.history.entries.push(Entry::Suspicion(suspicion)),
        None if ask.may_begin => row.history.begin(ask.now),
        None => {}
    }
    Ok((Claim::Fresh(row.case(token)), Some(row)))
}

fn claim_known(
    mut row: Row,
    tid: &TidState,
    ask: &Ask,
    token: u64,
    holders: Holders,
) -> Result<(Claim, Option<Row>), Error> {
    if row.digest != ask.digest || row.kind != ask.kind {
        return Ok((Claim::Conflict, None));
    }
    if let Some(finished) = row.finished {
        return Ok((Claim::Finished(Box::new(read(&finished.event)?)), None));
    }
    if ask.parked < row.parked && !ask.has_reply_to {
        return Ok((Claim::Stale, None));
    }
    if let Some(lease) = row.lease.filter(|&lease| holders.holds(lease, ask.now)) {
        return Ok((Claim::Busy { until: Some(lease.until) }, None));
    }
    if let Some(due) = row.due
        && due.as_millisecond() > ask.now.as_millisecond() + EARLY_MILLISECONDS
    {
        return Ok((Claim::Early { due }, None));
    }
    let is_interrupted = row.lease.is_some();
    if is_interrupted {
        row.interruptions = row.interruptions.saturating_add(1);
    }
    row.lease = Some(Lease { token, until: later(ask.now, ask.lease) });
    row.due = None;
    let case = row.case(token);
    // The worker may have died before it said so: the history of such a refund is empty, and
    // would allow an attempt.
    if let Some(receipt) = refunded(tid)? {
        return Ok((Claim::Refunded(case, receipt), Some(row)));
    }
    let claim = if is_interrupted { Claim::Interrupted(case) } else { Claim::Due(case) };
    Ok((claim, Some(row)))
}

/// What another command's refund of the same tid gave.
fn refunded(tid: &TidState) -> Result<Option<Receipt>, Error> {
    tid.refunded.as_deref().map(|event| Ok(read(event)?.receipt())).transpose()
}

fn read(event: &[u8]) -> Result<Event, Error> {
    Event::read(event.to_vec())
        .map_err(|error| Error::Store(format!("an event that it keeps cannot be read: {error}")))
}

/// Applies a write to its row, if whoever asks still holds the claim.
pub(super) fn write(row: &mut Row, write: Write) -> Held {
    if row.lease.is_none_or(|lease| lease.token != write.token) || row.finished.is_some() {
        return Held::Lost;
    }
    row.history = write.history;
    match write.then {
        Then::Call { lease_until } => {
            row.lease = Some(Lease { token: write.token, until: lease_until });
        }
        Then::Wait { due, unsettled } => {
            row.lease = None;
            row.due = Some(due);
            row.unsettled = unsettled;
            row.interruptions = 0;
        }
        Then::Finish(end) => {
            row.lease = None;
            row.due = None;
            row.unsettled = false;
            row.finished = Some(end);
        }
    }
    Held::Yes
}

/// The row of a claimed command that the store has forgotten, with the write applied. `None` where
/// whoever asks may not go on: another refund of its tid is under way or was executed there now.
/// How a command ended is written in any case: it is the truth.
pub(super) fn write_back(write: Write, tid: &TidState) -> Option<Row> {
    let is_end = matches!(write.then, Then::Finish(_));
    if !is_end && (tid.is_busy || tid.refunded.is_some()) {
        return None;
    }
    let Asked { kind, tid, digest } = (*write.asked).clone();
    let mut row = Row {
        id: write.id.clone(),
        kind,
        tid,
        digest,
        history: write.history.clone(),
        lease: Some(Lease { token: write.token, until: write.history.first_received }),
        due: None,
        parked: write.parked,
        interruptions: write.interruptions,
        unsettled: false,
        finished: None,
    };
    (self::write(&mut row, write) == Held::Yes).then_some(row)
}
