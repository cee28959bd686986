//! The ledger in memory, for the model checker: the stores' unit of work over rows that states share.

mod rows;

use std::hash::{Hash, Hasher};
use std::rc::Rc;
use std::time::Duration;

use jiff::Timestamp;

use super::request::{Claimant, Transition, Write};
use super::row::{Finished, Lease, Row};
use super::rules::{Caution, Circumstances, LeaseScope};
use super::unit_of_work::{Rows as _, UnitOfWork};
use super::{Claim, ClaimRequest, ClaimedCommand, LeaseStatus};
use eko_core::event::Event;
use eko_core::history::{Age, History, SuspicionReason};
use eko_core::outcome::OutcomeName;
use rows::StoreRows;

/// How many commits back a failover may go.
const BACK: usize = 2;

/// All rows, shared with the states that came before.
#[derive(Clone, Default)]
pub struct Store {
    rows: Vec<Rc<Kept>>,
    /// What it was before each of the last commits, and when they were made, oldest first.
    past: Vec<(Timestamp, Vec<Rc<Kept>>)>,
    /// Why a refund that it does not know may have been attempted all the same.
    caution: Option<Doubt>,
}

/// Why attempts may be missing, and since when that is known.
#[derive(Clone, Copy)]
struct Doubt {
    why: SuspicionReason,
    since: Timestamp,
}

/// A row, and its hash.
struct Kept {
    row: Row,
    digest: u64,
}

/// Who shares the store, what time it is there, and the mutations in it.
#[derive(Clone, Copy)]
pub struct Sharing {
    /// One process, in its so manieth life; or many workers.
    pub process: Option<u64>,
    /// The store's own time.
    pub now: Timestamp,
    /// Any number of unfinished refunds for one tid.
    pub has_no_tid_lock: bool,
    /// A command that is known is not told what became of its tid.
    pub forgets_refunded: bool,
    /// A command is taken up from an older state as if that were all.
    pub trusts_rewound: bool,
    /// What a store has forgotten is not written back.
    pub has_no_write_back: bool,
}

impl Sharing {
    fn lease_scope(self) -> LeaseScope {
        match self.process {
            Some(epoch) => LeaseScope::Process { epoch },
            None => LeaseScope::Shared,
        }
    }

    fn circumstances(self, caution: Option<Doubt>) -> Circumstances {
        let caution = caution.map(|Doubt { why, since }| {
            let known_for = Duration::try_from(self.now.duration_since(since)).unwrap();
            Caution { why, known_for, before: known_for }
        });
        Circumstances { lease_scope: self.lease_scope(), now: self.now, caution }
    }
}

impl Store {
    /// Claims a command.
    pub fn claim<H: Hasher + Default>(
        &mut self,
        request: &ClaimRequest,
        token: u64,
        sharing: Sharing,
    ) -> Claim {
        let is_known = self.row(&request.id).is_some();
        let caution = self.caution.filter(|_| !is_known || !sharing.trusts_rewound);
        let mut rows = self.rows::<H>(sharing);
        rows.forgets_tids = is_known && sharing.forgets_refunded;
        let claimant = Claimant { request: request.clone(), token };
        let Ok(claim) = UnitOfWork::new(&mut rows, sharing.circumstances(caution)).claim(&claimant);
        claim.unwrap()
    }

    /// Records that a call begins.
    pub fn begin<H: Hasher + Default>(
        &mut self,
        claimed: &ClaimedCommand,
        lease: Duration,
        sharing: Sharing,
    ) -> LeaseStatus {
        self.write::<H>(claimed, Transition::Call { lease }, sharing)
    }

    /// Records what is known, and how long the command waits.
    pub fn note<H: Hasher + Default>(
        &mut self,
        claimed: &ClaimedCommand,
        (delay, unsettled): (Duration, bool),
        sharing: Sharing,
    ) -> LeaseStatus {
        self.write::<H>(claimed, Transition::Wait { delay, unsettled }, sharing)
    }

    /// Records how a command ended.
    pub fn finish<H: Hasher + Default>(
        &mut self,
        claimed: &ClaimedCommand,
        (event, is_untold): (&Event, bool),
        sharing: Sharing,
    ) -> LeaseStatus {
        self.write::<H>(
            claimed,
            Transition::Finish { end: Finished::by(event), is_untold },
            sharing,
        )
    }

    /// Records that a copy is safe.
    pub fn parked<H: Hasher + Default>(&mut self, id: &str, parked: u32, sharing: Sharing) {
        let Ok(()) = self.rows::<H>(sharing).raise_parked(id, parked);
    }

    /// Records that an end is told.
    pub fn told<H: Hasher + Default>(&mut self, id: &str, sharing: Sharing) {
        let Ok(()) = self.rows::<H>(sharing).mark_told(id);
    }

    /// The outcome that a command's row tells.
    pub fn outcome(&self, id: &str) -> Option<OutcomeName> {
        self.row(id)?.finished.as_ref().map(|finished| finished.outcome)
    }

    /// Whether a command is unfinished or untold.
    pub fn is_stranded(&self, id: &str) -> bool {
        self.row(id).is_some_and(|row| row.finished.is_none() || row.untold)
    }

    /// Since when nobody works on a command that is unfinished or untold.
    pub fn stranded_since(&self, id: &str, sharing: Sharing) -> Option<Timestamp> {
        let row = self.row(id)?;
        if row.finished.is_some() {
            return row.untold.then_some(Timestamp::UNIX_EPOCH);
        }
        let holds = |&lease: &Lease| sharing.lease_scope().holds(lease, sharing.now);
        if row.lease.as_ref().is_some_and(holds) {
            return None;
        }
        let since = row.due.or_else(|| row.lease.map(|lease| lease.until.min(sharing.now)));
        since.filter(|&since| since <= sharing.now)
    }

    /// How old a command is, as its row has it.
    pub fn age(&self, id: &str, now: eko_core::clock::Now) -> Option<Age> {
        Some(self.row(id)?.history.age(now))
    }

    /// The claims that rows name.
    pub fn tokens(&self) -> impl Iterator<Item = u64> {
        let past = self.past.iter().flat_map(|(_, rows)| rows);
        self.rows.iter().chain(past).filter_map(|kept| kept.row.lease.map(|lease| lease.token))
    }

    /// What a promoted standby knows: all but the last commits. With the time of the first that
    /// is lost.
    pub fn pasts(&self) -> impl Iterator<Item = (Timestamp, Self)> {
        self.past.iter().map(|(lost, rows)| {
            (*lost, Self { rows: rows.clone(), past: Vec::new(), caution: self.caution })
        })
    }

    /// No failover comes any more.
    pub fn drop_past(&mut self) {
        self.past.clear();
    }

    /// From now on it is known to have forgotten something, or to have taken over.
    pub fn beware(&mut self, why: SuspicionReason, now: Timestamp) {
        self.caution = Some(Doubt { why, since: now });
    }

    fn write<H: Hasher + Default>(
        &mut self,
        claimed: &ClaimedCommand,
        transition: Transition,
        sharing: Sharing,
    ) -> LeaseStatus {
        if sharing.has_no_write_back && self.row(&claimed.id).is_none() {
            return LeaseStatus::Lost;
        }
        let mut rows = self.rows::<H>(sharing);
        let mut unit = UnitOfWork::new(&mut rows, sharing.circumstances(None));
        let Ok(held) = unit.write(Write::of(claimed.clone(), transition));
        held
    }

    /// Its rows as a unit of work has them.
    const fn rows<H>(&mut self, sharing: Sharing) -> StoreRows<'_, H> {
        StoreRows::new(self, sharing)
    }

    fn row(&self, id: &str) -> Option<&Row> {
        self.rows.iter().map(|kept| &kept.row).find(|row| row.id == id)
    }

    fn keep<H: Hasher + Default>(&mut self, row: Row, now: Timestamp) {
        if self.past.len() == BACK {
            self.past.remove(0);
        }
        self.past.push((now, self.rows.clone()));
        let mut state = H::default();
        hash_row(&row, &mut state);
        let row = Rc::new(Kept { row, digest: state.finish() });
        match self.rows.iter_mut().find(|kept| kept.row.id == row.row.id) {
            Some(kept) => *kept = row,
            None => {
                self.rows.push(row);
                self.rows.sort_by(|one, other| one.row.id.cmp(&other.row.id));
            }
        }
    }
}

/// The claim that a command is held by.
pub fn token(claimed: &ClaimedCommand) -> u64 {
    claimed.token
}

impl Hash for Store {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let digests = |rows: &[Rc<Kept>], state: &mut H| {
            state.write_usize(rows.len());
            rows.iter().for_each(|kept| state.write_u64(kept.digest));
        };
        digests(&self.rows, state);
        state.write_usize(self.past.len());
        for (lost, rows) in &self.past {
            hash_time(*lost, state);
            digests(rows, state);
        }
        if let Some(Doubt { why, since }) = self.caution {
            std::mem::discriminant(&why).hash(state);
            hash_time(since, state);
        }
    }
}

fn hash_row<H: Hasher>(row: &Row, state: &mut H) {
    row.id.hash(state);
    // Of a command that has ended, its history only says whether it was in doubt.
    match row.finished {
        Some(_) => row.doubted_since().is_some().hash(state),
        None => hash_history(&row.history, state),
    }
    row.lease.map(|lease| (lease.token, lease.until)).hash(state);
    (row.due, row.parked, row.interruptions, row.unsettled, row.untold).hash(state);
    if let Some(finished) = &row.finished {
        (finished.at, finished.outcome, &finished.event).hash(state);
    }
}

/// Hashes a claimed command as a state of the model holds it.
pub fn hash_claimed<H: Hasher>(claimed: &ClaimedCommand, state: &mut H) {
    claimed.id.hash(state);
    (claimed.token, claimed.parked, claimed.interruptions).hash(state);
    hash_history(&claimed.history, state);
}

fn hash_time<H: Hasher>(time: Timestamp, state: &mut H) {
    state.write_i64(time.as_millisecond());
}

fn hash_history<H: Hasher>(history: &History, state: &mut H) {
    use eko_core::history::Entry;
    use eko_core::verdict::{Reading, Verdict};
    hash_time(history.first_received, state);
    history.measured_by().hash(state);
    history.entries.len().hash(state);
    for entry in &history.entries {
        match entry {
            Entry::Attempt(attempt) => {
                (0_u8, attempt.began, attempt.age).hash(state);
                attempt.signed.map(|signed| (signed.stamp, signed.lead)).hash(state);
                if let Some(ended) = &attempt.ended {
                    (ended.at, ended.age, ended.verdict.as_str()).hash(state);
                    match &ended.verdict {
                        Verdict::NotNow { cause, .. } | Verdict::Unclear { cause, .. } => {
                            cause.hash(state);
                        }
                        Verdict::Done(..) | Verdict::Refused(_) => {}
                    }
                }
            }
            Entry::Inquiry(inquiry) => {
                (1_u8, inquiry.reading.as_str()).hash(state);
                // Nothing is decided by when it was first read.
                (inquiry.last, inquiry.times, inquiry.age, inquiry.eko_time).hash(state);
                if let Reading::NoAnswer(cause) = inquiry.reading {
                    cause.hash(state);
                }
            }
            Entry::Suspicion(suspicion) => {
                let why = std::mem::discriminant(&suspicion.why);
                (2_u8, suspicion.at, suspicion.age, suspicion.before, why).hash(state);
            }
        }
    }
}
