//! What one batch is about: its subjects, which are locked and loaded at once, and their rows in memory.

use std::collections::BTreeSet;
use std::convert::Infallible;

use sha2::{Digest as _, Sha256};

use crate::request::CommandRequest;
use crate::row::Row;
use crate::row_index::RowIndex;
use crate::rules::TidState;
use crate::unit_of_work::Rows;

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
    pub(super) fn of(batch: &[CommandRequest]) -> Self {
        let mut subjects = Self::default();
        for request in batch {
            match request {
                CommandRequest::Claim { claimant, .. } => {
                    subjects.ids.insert(claimant.request.id.clone());
                    subjects.tids.extend(claimant.request.refund_of().map(str::to_owned));
                }
                CommandRequest::Write { write, .. } => {
                    subjects.ids.insert(write.id.clone());
                }
                CommandRequest::Parked { id, .. } | CommandRequest::Told { id } => {
                    subjects.ids.insert(id.clone());
                }
            }
        }
        subjects
    }

    /// As [`Self::of`], with the tids of the refunds that are written about: those whose rows are
    /// gone are written back beside what else there is of the tid.
    pub(super) fn with_tids(batch: &[CommandRequest]) -> Self {
        let mut subjects = Self::of(batch);
        for request in batch {
            if let CommandRequest::Write { write, .. } = request {
                subjects.tids.extend(write.asked.refund_of().map(str::to_owned));
            }
        }
        subjects
    }

    /// Whether they are all that a request is about. What is written back needs the lock of its tid,
    /// and all refunds of it.
    pub(super) fn cover(&self, request: &CommandRequest, loaded: &Loaded) -> bool {
        match request {
            CommandRequest::Write { write, .. } => {
                loaded.rows.contains(&write.id)
                    || write.asked.refund_of().is_none_or(|tid| self.tids.contains(tid))
            }
            CommandRequest::Claim { .. }
            | CommandRequest::Parked { .. }
            | CommandRequest::Told { .. } => true,
        }
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

/// The rows of a batch, and which of them are to be written.
#[derive(Default)]
pub(super) struct Loaded {
    rows: RowIndex,
    changed: BTreeSet<String>,
}

impl Loaded {
    /// Takes in what was loaded.
    pub(super) fn new(rows: impl IntoIterator<Item = Row>) -> Self {
        let mut loaded = Self::default();
        for row in rows {
            loaded.rows.put(row);
        }
        loaded
    }

    /// The rows that are to be written. What has ended comes first: the index that allows one
    /// unfinished refund for a tid must not meet the next one before.
    pub(super) fn changed(&self) -> Vec<&Row> {
        let changed = || self.changed.iter().filter_map(|id| self.rows.get(id));
        let ended = changed().filter(|row| row.finished.is_some());
        ended.chain(changed().filter(|row| row.finished.is_none())).collect()
    }
}

impl Rows for Loaded {
    type Error = Infallible;

    fn load(&mut self, id: &str) -> Result<Option<Row>, Infallible> {
        Ok(self.rows.get(id).cloned())
    }

    fn tid_state(&mut self, tid: &str) -> Result<TidState, Infallible> {
        Ok(self.rows.tid_state(tid))
    }

    fn add(&mut self, row: Row) -> Result<(), Infallible> {
        self.save(row)
    }

    fn save(&mut self, row: Row) -> Result<(), Infallible> {
        self.changed.insert(row.id.clone());
        self.rows.put(row);
        Ok(())
    }

    fn raise_parked(&mut self, id: &str, parked: u32) -> Result<(), Infallible> {
        if let Some(row) = self.rows.get_mut(id).filter(|row| row.parked < parked) {
            row.parked = parked;
            self.changed.insert(id.to_owned());
        }
        Ok(())
    }

    fn mark_told(&mut self, id: &str) -> Result<(), Infallible> {
        if let Some(row) = self.rows.get_mut(id).filter(|row| row.untold) {
            row.untold = false;
            self.changed.insert(id.to_owned());
        }
        Ok(())
    }
}
