//! What one request does within a transaction.

use jiff::Timestamp;
use rusqlite::Transaction;

use super::meta;
use super::rows::{self, Statements};
use super::staging::StagingTable;
use crate::meta::{Change, Meta};
use crate::rules::{self, Circumstances, Row, TidState};
use crate::{
    BacklogCounts, Claim, ClaimRequest, Error, LeaseStatus, Open, OpenState, Stranded, Write,
};

/// The ledger within one transaction.
pub(super) struct Store<'a> {
    transaction: &'a Transaction<'a>,
    statements: Statements<'a>,
    staging: &'a mut StagingTable,
    circumstances: Circumstances,
    closed: Closed,
}

/// What a transaction has done, once nothing is left to do.
#[derive(Default)]
pub(super) struct Closed {
    /// Whether it has written what must be kept.
    pub(super) has_changed: bool,
    /// Claimed commands that were missing, and were written back.
    pub(super) missed: Vec<String>,
}

impl<'a> Store<'a> {
    /// The ledger within `transaction`.
    pub(super) fn new(
        transaction: &'a Transaction<'a>,
        staging: &'a mut StagingTable,
        circumstances: Circumstances,
    ) -> rusqlite::Result<Self> {
        staging.refresh(transaction)?;
        let (statements, closed) = (Statements::prepare(transaction)?, Closed::default());
        Ok(Self { transaction, statements, staging, circumstances, closed })
    }

    /// Claims a command.
    pub(super) fn claim(
        &mut self,
        request: &ClaimRequest,
        token: u64,
    ) -> rusqlite::Result<Result<Claim, Error>> {
        let row = self.load(&request.id)?;
        let tid = match rules::tid_that_matters(row.as_ref(), request) {
            Some(tid) => self.tid_state(tid)?,
            None => TidState::default(),
        };
        let is_new = row.is_none();
        match rules::claim(row, &tid, request, token, self.circumstances) {
            Ok((claim, Some(row))) if is_new => {
                self.closed.has_changed = true;
                self.staging.add(row);
                Ok(Ok(claim))
            }
            Ok((claim, Some(row))) => {
                self.save(&row)?;
                Ok(Ok(claim))
            }
            Ok((claim, None)) => Ok(Ok(claim)),
            Err(error) => Ok(Err(error)),
        }
    }

    /// Writes about a claimed command.
    pub(super) fn write(&mut self, write: Write) -> rusqlite::Result<LeaseStatus> {
        let staged = self.staging.take(&write.id);
        let is_staged = staged.is_some();
        let known = match staged {
            Some(row) => Some(row),
            None => self.statements.load(&write.id)?,
        };
        let Some(mut row) = known else {
            return self.write_back(write);
        };
        let held = rules::write(&mut row, write, self.circumstances.now);
        match held {
            LeaseStatus::Held => {
                self.closed.has_changed = true;
                self.statements.save(&row)?;
            }
            LeaseStatus::Lost if is_staged => self.staging.add(row),
            LeaseStatus::Lost => {}
        }
        Ok(held)
    }

    /// Writes about a claimed command of which the store knows nothing any more.
    fn write_back(&mut self, write: Write) -> rusqlite::Result<LeaseStatus> {
        let refund_of = write.asked.tid.clone().filter(|_| write.asked.kind == "refund");
        let tid = match refund_of {
            Some(tid) => self.tid_state(&tid)?,
            None => TidState::default(),
        };
        let is_kept = write.is_kept;
        let Some(row) = rules::write_back(write, &tid, self.circumstances.now) else {
            return Ok(LeaseStatus::Lost);
        };
        if is_kept {
            self.closed.missed.push(row.id.clone());
        }
        self.save(&row)?;
        Ok(LeaseStatus::Held)
    }

    /// Notes that a parked copy is safe.
    pub(super) fn parked(&mut self, id: &str, parked: u32) -> rusqlite::Result<()> {
        self.transaction
            .prepare_cached("UPDATE commands SET parked = ?2 WHERE id = ?1 AND parked < ?2")?
            .execute((id, parked))?;
        self.closed.has_changed = true;
        Ok(())
    }

    /// Notes that what follows from an end was done.
    pub(super) fn told(&mut self, id: &str) -> rusqlite::Result<()> {
        self.transaction
            .prepare_cached("UPDATE commands SET untold = 0 WHERE id = ?1 AND untold = 1")?
            .execute([id])?;
        self.closed.has_changed = true;
        Ok(())
    }

    /// Lists what nobody works on. One process has this store: a claim that another one held is
    /// over, and what stands in `begun` was begun just now.
    pub(super) fn stranded(&self, most: u32) -> rusqlite::Result<Stranded> {
        let Circumstances { lease_scope, now, .. } = self.circumstances;
        let mut statement = self.transaction.prepare_cached(
            "SELECT id, kind, tid, due, lease_token, lease_until, parked, interruptions
             FROM commands WHERE finished IS NULL AND (due IS NULL OR due < ?1)
             ORDER BY first_received LIMIT ?2",
        )?;
        let mut rows = statement.query((now.as_millisecond(), most))?;
        let mut open = Vec::new();
        while let Some(row) = rows.next()? {
            let (token, until): (Option<i64>, Option<i64>) = (row.get(4)?, row.get(5)?);
            let lease = rows::lease(token, until)?;
            if lease.is_some_and(|lease| lease_scope.holds(lease, now)) {
                continue;
            }
            let (due, parked, interruptions) = (row.get(3)?, row.get(6)?, row.get(7)?);
            let state = OpenState { due, token, parked, interruptions };
            open.push(Open { id: row.get(0)?, kind: row.get(1)?, tid: row.get(2)?, state });
        }
        let mut untold =
            self.transaction.prepare_cached("SELECT id FROM commands WHERE untold = 1 LIMIT ?1")?;
        let untold = untold.query_map([most], |row| row.get(0))?;
        Ok(Stranded { open, untold: untold.collect::<rusqlite::Result<_>>()? })
    }

    fn load(&mut self, id: &str) -> rusqlite::Result<Option<Row>> {
        match self.staging.get(id) {
            Some(row) => Ok(Some(row.clone())),
            None => self.statements.load(id),
        }
    }

    fn tid_state(&mut self, tid: &str) -> rusqlite::Result<TidState> {
        let mut state = self.statements.tid_state(tid)?;
        if self.staging.has_refund_of(tid) {
            state.add(None, false);
        }
        Ok(state)
    }

    fn save(&mut self, row: &Row) -> rusqlite::Result<()> {
        self.closed.has_changed = true;
        self.staging.take(&row.id);
        self.statements.save(row)
    }

    /// Writes what is still to be written before the transaction is committed.
    pub(super) fn close(self) -> rusqlite::Result<Closed> {
        self.staging.write(self.transaction)?;
        Ok(self.closed)
    }

    /// Counts what waits.
    pub(super) fn backlog_counts(&self) -> rusqlite::Result<BacklogCounts> {
        let mut unsettled = self.transaction.prepare_cached(
            "SELECT kind, count(*), min(doubted_since) FROM commands
             WHERE unsettled = 1 AND doubted_since IS NOT NULL GROUP BY kind",
        )?;
        let unsettled = unsettled
            .query_map((), |row| Ok((row.get(0)?, (row.get(1)?, rows::time(row.get(2)?)?))))?
            .collect::<rusqlite::Result<_>>()?;
        let mut parked = self.transaction.prepare_cached(
            "SELECT kind, count(*) FROM commands WHERE due IS NOT NULL GROUP BY kind",
        )?;
        let parked = parked
            .query_map((), |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<rusqlite::Result<_>>()?;
        Ok(BacklogCounts { unsettled, parked })
    }

    /// The number that stands there already: SQLite writes the page nevertheless, which an
    /// UPDATE that changes nothing would not.
    pub(super) fn probe(&self) -> rusqlite::Result<()> {
        let applied = i64::try_from(super::MIGRATIONS.len()).unwrap_or(i64::MAX);
        self.transaction.pragma_update(None, "user_version", applied)
    }

    /// Changes what the ledger keeps about itself, and reads it.
    pub(super) fn meta(&mut self, change: Change) -> rusqlite::Result<Meta> {
        meta::change(self.transaction, change)?;
        // Timestamps are reserved at each start, also where no command ever comes.
        self.closed.has_changed |= match change {
            Change::Nothing | Change::ReserveStamps(_) => false,
            Change::Adopt | Change::Forget => true,
        };
        meta::load(self.transaction, super::MIGRATIONS.len())
    }

    /// Forgets what finished before a time, at most so much at once.
    pub(super) fn prune(&mut self, before: Timestamp, most: u32) -> rusqlite::Result<u32> {
        self.staging.settle_old(&mut self.statements)?;
        let forgotten = self
            .transaction
            .prepare_cached(
                "DELETE FROM commands WHERE rowid IN (
                     SELECT rowid FROM commands WHERE finished < ?1 LIMIT ?2)",
            )?
            .execute((before.as_millisecond(), most))?;
        Ok(u32::try_from(forgotten).unwrap_or(u32::MAX))
    }
}
