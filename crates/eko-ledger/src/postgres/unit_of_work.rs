//! What one batch is about, in memory: its requests are dealt with one after the other, so
//! that each sees what those before it did.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use crate::rules::{self, Caution, Circumstances, Row, TidState};
use crate::{Answers, Claim, ClaimRequest, Error, LeaseStatus, Request, Write, defer};
use eko_core::history::SuspicionReason;

/// What a batch asks about.
#[derive(Debug, Default)]
pub(super) struct Subjects {
    /// The ids of its commands.
    pub(super) ids: BTreeSet<String>,
    /// The tids of its refunds.
    pub(super) tids: BTreeSet<String>,
}

impl Subjects {
    /// Gathers them from the requests.
    pub(super) fn of(batch: &[Request]) -> Self {
        let mut subjects = Self::default();
        for request in batch {
            match request {
                Request::Claim { request, .. } => {
                    subjects.ids.insert(request.id.clone());
                    subjects.tids.extend(refund_tid(request).map(str::to_owned));
                }
                Request::Write { write, .. } => {
                    subjects.ids.insert(write.id.clone());
                }
                Request::Parked { id, .. } | Request::Told { id } => {
                    subjects.ids.insert(id.clone());
                }
                Request::BacklogCounts { .. }
                | Request::Stranded { .. }
                | Request::Prune { .. }
                | Request::Probe { .. }
                | Request::Meta { .. } => {}
            }
        }
        subjects
    }

    /// As [`Self::of`], with the tids of the refunds that are written about: those whose rows are
    /// gone are written back beside what else there is of the tid.
    pub(super) fn with_tids(batch: &[Request]) -> Self {
        let mut subjects = Self::of(batch);
        for request in batch {
            if let Request::Write { write, .. } = request
                && write.asked.kind == "refund"
            {
                subjects.tids.extend(write.asked.tid.clone());
            }
        }
        subjects
    }

    /// The advisory locks that stand for them, each once, in ascending order. Two subjects
    /// that share a lock by chance only wait for each other.
    pub(super) fn locks(&self) -> Vec<i64> {
        let ids = self.ids.iter().map(|id| lock("id", id));
        let tids = self.tids.iter().map(|tid| lock("tid", tid));
        ids.chain(tids).collect::<BTreeSet<_>>().into_iter().collect()
    }
}

fn lock(what: &str, name: &str) -> i64 {
    let digest = Sha256::new().chain_update(what).chain_update(":").chain_update(name).finalize();
    digest.iter().take(8).fold(0, |key, &byte| (key << 8) | i64::from(byte))
}

fn refund_tid(request: &ClaimRequest) -> Option<&str> {
    request.tid.as_deref().filter(|_| request.kind == "refund")
}

/// The rows of a batch, and which of them are to be written.
pub(super) struct UnitOfWork {
    circumstances: Circumstances,
    rows: HashMap<String, Row>,
    /// The refunds of each tid.
    refunds: HashMap<String, BTreeSet<String>>,
    changed: BTreeSet<String>,
    /// Writes about claimed commands of which nothing is left.
    gone: Vec<Request>,
    /// Whether those are written back: all refunds of their tids are here.
    pub(super) writes_back: bool,
    /// Claimed commands that were missing, and are written back.
    pub(super) missed: Vec<String>,
    /// Whether commits are missing that were acknowledged.
    pub(super) has_regressed: bool,
}

impl UnitOfWork {
    /// A unit of work over what was loaded.
    pub(super) fn new(circumstances: Circumstances, loaded: impl IntoIterator<Item = Row>) -> Self {
        let mut unit = Self {
            circumstances,
            rows: HashMap::new(),
            refunds: HashMap::new(),
            changed: BTreeSet::new(),
            gone: Vec::new(),
            writes_back: false,
            missed: Vec::new(),
            has_regressed: false,
        };
        for row in loaded {
            unit.put(row);
        }
        unit
    }

    /// Deals with one request; its answer waits for the commit.
    pub(super) fn apply(&mut self, request: Request, answers: &mut Answers) {
        match request {
            Request::Claim { request, token, reply } => {
                defer(answers, reply, self.claim(&request, token));
            }
            Request::Write { write, reply } if self.is_gone(&write) => {
                self.gone.push(Request::Write { write, reply });
            }
            Request::Write { write, reply } => defer(answers, reply, Ok(self.write(*write))),
            Request::Parked { id, parked } => self.parked(&id, parked),
            Request::Told { id } => self.told(&id),
            // Upkeep is no part of a batch: whoever asks is told so instead of waiting.
            Request::BacklogCounts { reply } => defer(answers, reply, Err(Error::Closed)),
            Request::Stranded { reply, .. } => defer(answers, reply, Err(Error::Closed)),
            Request::Prune { reply, .. } => defer(answers, reply, Err(Error::Closed)),
            Request::Probe { reply } => defer(answers, reply, Err(Error::Closed)),
            Request::Meta { reply, .. } => defer(answers, reply, Err(Error::Closed)),
        }
    }

    /// The rows that are to be written. What has ended comes first: the index that allows one
    /// unfinished refund for a tid must not meet the next one before.
    pub(super) fn changed(&self) -> Vec<&Row> {
        let changed = || self.changed.iter().filter_map(|id| self.rows.get(id));
        let ended = changed().filter(|row| row.finished.is_some());
        ended.chain(changed().filter(|row| row.finished.is_none())).collect()
    }

    /// From here on a refund that the ledger does not know may have been attempted.
    pub(super) fn distrust(&mut self) {
        self.circumstances.caution = Some(Caution {
            why: SuspicionReason::LedgerForgot,
            known_for: Duration::ZERO,
            before: Duration::ZERO,
        });
    }

    /// Whether the ledger has lost what it had committed, as far as this batch shows.
    pub(super) fn has_forgotten(&self) -> bool {
        self.has_regressed || !self.missed.is_empty()
    }

    /// The writes about commands of which nothing is left.
    pub(super) fn take_gone(&mut self) -> Vec<Request> {
        std::mem::take(&mut self.gone)
    }

    fn is_gone(&self, write: &Write) -> bool {
        !self.writes_back && !self.rows.contains_key(&write.id)
    }

    fn claim(&mut self, request: &ClaimRequest, token: u64) -> Result<Claim, Error> {
        let row = self.rows.get(&request.id).cloned();
        let tid = rules::tid_that_matters(row.as_ref(), request)
            .map(|tid| self.tid_state(tid))
            .unwrap_or_default();
        let (claim, changed) = rules::claim(row, &tid, request, token, self.circumstances)?;
        self.change(changed);
        Ok(claim)
    }

    fn write(&mut self, write: Write) -> LeaseStatus {
        let Some(row) = self.rows.get_mut(&write.id) else {
            return self.write_back(write);
        };
        let held = rules::write(row, write, self.circumstances.now);
        if held == LeaseStatus::Held {
            self.changed.insert(row.id.clone());
        }
        held
    }

    /// Writes about a claimed command of which the store knows nothing any more.
    fn write_back(&mut self, write: Write) -> LeaseStatus {
        let refund_of = write.asked.tid.as_deref().filter(|_| write.asked.kind == "refund");
        let tid = refund_of.map(|tid| self.tid_state(tid)).unwrap_or_default();
        let is_kept = write.is_kept;
        let Some(row) = rules::write_back(write, &tid, self.circumstances.now) else {
            return LeaseStatus::Lost;
        };
        if is_kept {
            self.missed.push(row.id.clone());
        }
        self.change(Some(row));
        LeaseStatus::Held
    }

    fn parked(&mut self, id: &str, parked: u32) {
        if let Some(row) = self.rows.get_mut(id)
            && row.parked < parked
        {
            row.parked = parked;
            self.changed.insert(id.to_owned());
        }
    }

    fn told(&mut self, id: &str) {
        if let Some(row) = self.rows.get_mut(id).filter(|row| row.untold) {
            row.untold = false;
            self.changed.insert(id.to_owned());
        }
    }

    fn tid_state(&self, tid: &str) -> TidState {
        let mut state = TidState::default();
        for row in self.refunds.get(tid).into_iter().flatten().filter_map(|id| self.rows.get(id)) {
            state.add(row.finished.clone(), row.doubted_since().is_some());
        }
        state
    }

    fn change(&mut self, row: Option<Row>) {
        if let Some(row) = row {
            self.changed.insert(row.id.clone());
            self.put(row);
        }
    }

    fn put(&mut self, row: Row) {
        if let Some(tid) = row.tid.clone().filter(|_| row.kind == "refund") {
            self.refunds.entry(tid).or_default().insert(row.id.clone());
        }
        self.rows.insert(row.id.clone(), row);
    }
}
