//! The rows of the model's store, as a unit of work has them.

use std::convert::Infallible;
use std::hash::Hasher;
use std::marker::PhantomData;

use super::{Sharing, Store};
use crate::row::Row;
use crate::rules::TidState;
use crate::unit_of_work::Rows;

/// The rows of the store in one commit, with the mutations in it.
pub(super) struct StoreRows<'a, H> {
    store: &'a mut Store,
    sharing: Sharing,
    /// Nothing is known of what became of a tid.
    pub(super) forgets_tids: bool,
    hasher: PhantomData<H>,
}

impl<'a, H> StoreRows<'a, H> {
    pub(super) const fn new(store: &'a mut Store, sharing: Sharing) -> Self {
        Self { store, sharing, forgets_tids: false, hasher: PhantomData }
    }
}

impl<H: Hasher + Default> Rows for StoreRows<'_, H> {
    type Error = Infallible;

    fn load(&mut self, id: &str) -> Result<Option<Row>, Infallible> {
        Ok(self.store.row(id).cloned())
    }

    fn tid_state(&mut self, tid: &str) -> Result<TidState, Infallible> {
        let mut state = TidState::default();
        if self.forgets_tids {
            return Ok(state);
        }
        for row in self.store.rows.iter().map(|kept| &kept.row) {
            if row.tid.as_deref() == Some(tid) {
                state.add(row.finished.clone(), row.doubted_since().is_some());
            }
        }
        state.is_busy &= !self.sharing.has_no_tid_lock;
        Ok(state)
    }

    fn add(&mut self, row: Row) -> Result<(), Infallible> {
        self.save(row)
    }

    /// Panics where the databases' index refuses the row: a second unfinished refund of a tid.
    fn save(&mut self, row: Row) -> Result<(), Infallible> {
        let is_rival = |other: &Row| {
            other.id != row.id && other.finished.is_none() && other.refund_of() == row.refund_of()
        };
        let is_unguarded = self.forgets_tids || self.sharing.has_no_tid_lock;
        if !is_unguarded && row.finished.is_none() && row.refund_of().is_some() {
            let has_rival = self.store.rows.iter().any(|kept| is_rival(&kept.row));
            assert!(!has_rival, "two unfinished refunds of the tid of {}", row.id);
        }
        self.store.keep::<H>(row, self.sharing.now);
        Ok(())
    }

    fn raise_parked(&mut self, id: &str, parked: u32) -> Result<(), Infallible> {
        if let Some(row) = self.store.row(id).filter(|row| row.parked < parked) {
            let row = Row { parked, ..row.clone() };
            self.save(row)?;
        }
        Ok(())
    }

    fn mark_told(&mut self, id: &str) -> Result<(), Infallible> {
        if let Some(row) = self.store.row(id).filter(|row| row.untold) {
            let row = Row { untold: false, ..row.clone() };
            self.save(row)?;
        }
        Ok(())
    }
}
