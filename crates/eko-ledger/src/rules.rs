//! The ledger's rules: pure functions from what a store has loaded to what it writes.

use std::time::Duration;

use jiff::Timestamp;

use super::Error;
use super::claim::{Asked, Claim, ClaimRequest, ClaimedCommand, LeaseStatus};
use super::request::{Claimant, Transition, Write};
use super::row::{Finished, Lease, Row};
use eko_core::decision::saturating_add;
use eko_core::event::Event;
use eko_core::history::{History, SuspicionReason};
use eko_core::outcome::{OutcomeName, Receipt};

/// A copy may come a moment before its time: the broker's clock is not the store's.
const EARLY: Duration = Duration::from_millis(100);

/// No command waits longer than the last retry queue holds it. A due time beyond was written before
/// the clock was set back.
const LONGEST_WAIT: Duration = Duration::from_secs(2 * 3_600);

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
            Some(end) if end.outcome == OutcomeName::Succeeded => self.refunded = Some(end.event),
            Some(end) if is_doubted => self.doubted = self.doubted.max(Some(end.at)),
            Some(_) => {}
        }
    }
}

/// Why the ledger may lack attempts that were made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Caution {
    pub(super) why: SuspicionReason,
    /// For how long whoever asks has known of it, as it was measured.
    pub(super) known_for: Duration,
    /// For how long, as it was measured, none was begun that it lacks.
    pub(super) before: Duration,
}

impl Caution {
    /// What it lacks may have begun up to now.
    pub(super) const fn began_now(why: SuspicionReason) -> Self {
        Self { why, known_for: Duration::ZERO, before: Duration::ZERO }
    }
}

/// What a claim depends on besides the rows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Circumstances {
    /// Whose leases count.
    pub(super) lease_scope: LeaseScope,
    /// Why a refund that the ledger does not know may have been attempted all the same.
    pub(super) caution: Option<Caution>,
    /// The store's own time: leases and due times are written and compared in it, never in that
    /// of whoever asks.
    pub(super) now: Timestamp,
}

/// Whose leases count.
#[derive(Clone, Copy, Debug)]
pub(super) enum LeaseScope {
    /// One process has this store: a lease that it did not issue itself is a dead one's.
    Process { epoch: u64 },
    /// Several workers share this store: a lease counts until its time is over, whoever holds
    /// it, by the server's clock.
    Shared,
}

impl LeaseScope {
    pub(super) fn holds(self, lease: Lease, now: Timestamp) -> bool {
        match self {
            Self::Process { epoch } => lease.token >> 32 == epoch >> 32 && lease.until > now,
            Self::Shared => lease.until > now,
        }
    }
}

/// The tid whose other refunds a claim depends on: what another command got is told again also
/// after a crash, while the command is not finished.
pub(super) fn tid_that_matters<'a>(
    row: Option<&Row>,
    request: &'a ClaimRequest,
) -> Option<&'a str> {
    let is_open = row.is_none_or(|row| row.finished.is_none());
    request.refund_of().filter(|_| is_open)
}

/// Answers a claim; the row, where one comes back, is to be written.
pub(super) fn claim(
    row: Option<Row>,
    tid: &TidState,
    claimant: &Claimant,
    circumstances: Circumstances,
) -> Result<(Claim, Option<Row>), Error> {
    let request = &claimant.request;
    match (row, &request.digest) {
        (None, Some(digest)) if !request.has_ended => {
            claim_unknown(digest, tid, claimant, circumstances)
        }
        (None, _) => Ok((Claim::Unknown, None)),
        (Some(row), _) if request.only_ended && row.finished.is_none() => {
            Ok((Claim::Unknown, None))
        }
        (Some(row), _) => claim_known(row, tid, claimant, circumstances),
    }
}

fn claim_unknown(
    digest: &str,
    tid: &TidState,
    claimant: &Claimant,
    circumstances: Circumstances,
) -> Result<(Claim, Option<Row>), Error> {
    let Claimant { request, token } = claimant;
    let suspicion = suspicion(tid, request, circumstances);
    // One that has expired needs the tid no more, unless an attempt may have been made of it.
    if tid.is_busy && (!request.has_expired || suspicion.is_some()) {
        return Ok((Claim::Busy { wait: None }, None));
    }
    let mut row = Row {
        id: request.id.clone(),
        kind: request.kind,
        tid: request.tid.clone(),
        digest: digest.to_owned(),
        history: History::new(request.now),
        lease: Some(claimant.lease(circumstances.now)),
        due: None,
        parked: request.parked,
        interruptions: 0,
        unsettled: false,
        untold: false,
        finished: None,
    };
    // The database allows one unfinished refund of a tid: beside one, another is kept when it has ended.
    let is_kept = !tid.is_busy;
    let claimed = |row: &Row| ClaimedCommand { is_kept, ..row.claimed(*token) };
    if let Some(receipt) = refunded(tid)? {
        return Ok((Claim::Refunded(claimed(&row), receipt), is_kept.then_some(row)));
    }
    if !is_kept {
        return Ok((Claim::Fresh(claimed(&row)), None));
    }
    match (suspicion, request.stamp) {
        (Some(Caution { why, before, .. }), _) => row.history.suspect(request.now, before, why),
        (None, Some(stamp)) => row.history.begin(request.now, stamp),
        (None, None) => {}
    }
    Ok((Claim::Fresh(claimed(&row)), Some(row)))
}

/// Why somebody else may have made an attempt for a refund that is not known here: what can have
/// begun last counts.
fn suspicion(
    tid: &TidState,
    request: &ClaimRequest,
    circumstances: Circumstances,
) -> Option<Caution> {
    let redelivered =
        request.is_suspect.then_some(Caution::began_now(SuspicionReason::Redelivered));
    // That is about another command's attempts: one that makes none has nothing to ask.
    let doubted = tid
        .doubted
        .filter(|_| !request.has_expired)
        .map(|_| Caution::began_now(SuspicionReason::TidDoubted));
    let caution = circumstances.caution.filter(|_| request.is_refund());
    redelivered.or(doubted).or(caution)
}

fn claim_known(
    row: Row,
    tid: &TidState,
    claimant: &Claimant,
    circumstances: Circumstances,
) -> Result<(Claim, Option<Row>), Error> {
    let Circumstances { lease_scope, now, .. } = circumstances;
    let request = &claimant.request;
    if request
        .digest
        .as_ref()
        .is_some_and(|digest| row.digest != *digest || row.kind != request.kind)
    {
        return Ok((Claim::Conflict, None));
    }
    if let Some(finished) = row.finished {
        let event = Box::new(read(&finished.event)?);
        return Ok((Claim::Finished { event, is_untold: row.untold }, None));
    }
    let lease = row.lease.filter(|&lease| lease_scope.holds(lease, now));
    let wait = row.due.map(|due| until(due, now)).unwrap_or_default();
    let is_early = wait > EARLY && wait <= LONGEST_WAIT;
    // A later copy that should be back by now may be lost: this one then does its work.
    let is_replaced =
        request.parked < row.parked && !request.has_reply_to && request.digest.is_some();
    if is_replaced && (lease.is_some() || is_early) {
        return Ok((Claim::Stale, None));
    }
    if let Some(lease) = lease {
        return Ok((Claim::Busy { wait: Some(until(lease.until, now)) }, None));
    }
    if is_early {
        return Ok((Claim::Early { wait }, None));
    }
    take(row, tid, claimant, circumstances)
}

/// Takes a command that is known, and that nobody holds.
fn take(
    mut row: Row,
    tid: &TidState,
    claimant: &Claimant,
    circumstances: Circumstances,
) -> Result<(Claim, Option<Row>), Error> {
    let Claimant { request, token } = claimant;
    let is_interrupted = row.lease.is_some();
    if is_interrupted {
        row.interruptions = row.interruptions.saturating_add(1);
    }
    row.lease = Some(claimant.lease(circumstances.now));
    row.due = None;
    // In this order: what this process has measured meanwhile is no time beside what the broker has.
    row.history.measure(request.now);
    if let Some(waited) = request.waited.filter(|waited| waited.is_of(&row.history)) {
        row.history.is_at_least(waited.age);
    }
    // A row that is known may be older than the last attempt: what the ledger lacks, or another one
    // knows, was perhaps begun for it.
    let caution = circumstances.caution.filter(|_| request.is_refund());
    let is_new = |it: &Caution| !row.history.is_suspected(it.why, it.known_for, request.now);
    if let Some(Caution { why, before, .. }) = caution.filter(is_new) {
        row.history.suspect(request.now, before, why);
    }
    let claimed = row.claimed(*token);
    // The worker may have died before it said so: the history of such a refund is empty, and
    // would allow an attempt.
    if let Some(receipt) = refunded(tid)? {
        return Ok((Claim::Refunded(claimed, receipt), Some(row)));
    }
    let claim = if is_interrupted { Claim::Interrupted(claimed) } else { Claim::Due(claimed) };
    Ok((claim, Some(row)))
}

impl Claimant {
    /// Its claim, from now on.
    fn lease(&self, now: Timestamp) -> Lease {
        Lease { token: self.token, until: saturating_add(now, self.request.lease) }
    }
}

/// How long until a time of the store; nothing where it is over.
fn until(time: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(time.duration_since(now)).unwrap_or_default()
}

/// What another command's refund of the same tid gave.
fn refunded(tid: &TidState) -> Result<Option<Receipt>, Error> {
    tid.refunded.as_deref().map(|event| Ok(read(event)?.receipt())).transpose()
}

fn read(event: &[u8]) -> Result<Event, Error> {
    Event::read(event.to_vec())
        .map_err(|error| Error::Store(format!("an event that it keeps cannot be read: {error}")))
}

/// Applies a write to its row, at the store's time, if whoever asks still holds the claim.
pub(super) fn write(row: &mut Row, write: Write, now: Timestamp) -> LeaseStatus {
    if row.lease.is_none_or(|lease| lease.token != write.token) || row.finished.is_some() {
        return LeaseStatus::Lost;
    }
    row.history = write.history;
    match write.transition {
        Transition::Call { lease } => {
            row.lease = Some(Lease { token: write.token, until: saturating_add(now, lease) });
        }
        Transition::Wait { delay, unsettled } => {
            row.lease = None;
            row.due = Some(saturating_add(now, delay));
            row.unsettled = unsettled;
            row.interruptions = 0;
        }
        Transition::Finish { end, is_untold } => {
            row.lease = None;
            row.due = None;
            row.unsettled = false;
            row.untold = is_untold;
            row.finished = Some(end);
        }
    }
    LeaseStatus::Held
}

/// The row of a claimed command that the store does not have, with the write applied: it has forgotten
/// it, or never kept it. `None` where whoever asks may not go on: another refund of its tid is under way
/// or was executed there now. How a command ended is written in any case: it is the truth.
pub(super) fn write_back(write: Write, tid: &TidState, now: Timestamp) -> Option<Row> {
    let is_end = matches!(write.transition, Transition::Finish { .. });
    if !is_end && (!write.is_kept || tid.is_busy || tid.refunded.is_some()) {
        return None;
    }
    let Asked { kind, tid, digest } = (*write.asked).clone();
    let mut row = Row {
        id: write.id.clone(),
        kind,
        tid,
        digest,
        history: write.history.clone(),
        lease: Some(Lease { token: write.token, until: now }),
        due: None,
        parked: write.parked,
        interruptions: write.interruptions,
        unsettled: false,
        untold: false,
        finished: None,
    };
    (self::write(&mut row, write, now) == LeaseStatus::Held).then_some(row)
}
