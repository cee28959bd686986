//! Rows in memory, with the refunds of each tid.

use std::collections::{BTreeSet, HashMap};

use super::row::Row;
use super::rules::TidState;

/// Rows by id, with the refunds of each tid.
#[derive(Default)]
pub(super) struct RowIndex {
    rows: HashMap<String, Row>,
    refunds: HashMap<String, BTreeSet<String>>,
}

impl RowIndex {
    /// Whether there is a row of this id.
    pub(super) fn contains(&self, id: &str) -> bool {
        self.rows.contains_key(id)
    }

    /// The row of an id.
    pub(super) fn get(&self, id: &str) -> Option<&Row> {
        self.rows.get(id)
    }

    /// The row of an id. Its kind and tid stay as they are.
    pub(super) fn get_mut(&mut self, id: &str) -> Option<&mut Row> {
        self.rows.get_mut(id)
    }

    /// Keeps a row, new or known.
    pub(super) fn put(&mut self, row: Row) {
        if let Some(tid) = row.refund_of().map(str::to_owned) {
            self.refunds.entry(tid).or_default().insert(row.id.clone());
        }
        self.rows.insert(row.id.clone(), row);
    }

    /// What the refunds of a tid have left.
    pub(super) fn tid_state(&self, tid: &str) -> TidState {
        let mut state = TidState::default();
        for row in self.refunds.get(tid).into_iter().flatten().filter_map(|id| self.rows.get(id)) {
            state.add(row.finished.clone(), row.doubted_since().is_some());
        }
        state
    }
}
