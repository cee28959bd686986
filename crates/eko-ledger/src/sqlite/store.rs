//! The rows and the upkeep of one transaction.

use jiff::Timestamp;
use rusqlite::Transaction;

use super::operator::rows as operator_rows;
use super::rows::{self, Statements};
use super::{meta, slots};
use crate::meta::{Change, Meta};
use crate::operator::{OperatorPause, PAUSES, PRUNE_AUDIT, Parameter, read_pauses};
use crate::row::{Row, read_kind};
use crate::rules::{Circumstances, TidState};
use crate::unit_of_work::Rows;
use crate::{BacklogCounts, Error, Open, OpenState, SlotBlock, SlotRequest, Stranded};

/// The ledger within one transaction.
pub(super) struct Store<'a> {
    transaction: &'a Transaction<'a>,
    statements: Statements<'a>,
    /// Whether something was written that must be kept.
    has_changed: bool,
}

impl<'a> Store<'a> {
    /// The ledger within `transaction`.
    pub(super) fn new(transaction: &'a Transaction<'a>) -> rusqlite::Result<Self> {
        let statements = Statements::prepare(transaction)?;
        Ok(Self { transaction, statements, has_changed: false })
    }

    /// Lists what nobody works on. One process has this store: a claim that another one held is
    /// over.
    pub(super) fn stranded(
        &self,
        most: u32,
        circumstances: Circumstances,
    ) -> rusqlite::Result<Stranded> {
        let Circumstances { lease_scope, now, .. } = circumstances;
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
            let id: String = row.get(0)?;
            // One that cannot be read is none that a worker of this version can settle.
            let Ok(kind) = read_kind(&id, row.get_ref(1)?.as_str()?) else { continue };
            open.push(Open { id, kind, tid: row.get(2)?, state });
        }
        let mut untold =
            self.transaction.prepare_cached("SELECT id FROM commands WHERE untold = 1 LIMIT ?1")?;
        let untold = untold.query_map([most], |row| row.get(0))?;
        Ok(Stranded { open, untold: untold.collect::<rusqlite::Result<_>>()? })
    }

    /// Whether something was written that must be kept.
    pub(super) fn has_changed(self) -> bool {
        self.has_changed
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
        self.has_changed |= match change {
            Change::Nothing => false,
            Change::Adopt | Change::Forget => true,
        };
        meta::load(self.transaction, super::MIGRATIONS.len())
    }

    /// Which kinds an operator has paused.
    pub(super) fn operator_pauses(&self) -> rusqlite::Result<Result<Vec<OperatorPause>, Error>> {
        Ok(read_pauses(operator_rows(self.transaction, PAUSES, &[])?))
    }

    /// Forgets actions of people that began before a time, at most so many at once.
    pub(super) fn prune_audit(&self, before: Timestamp, most: u32) -> rusqlite::Result<u32> {
        let parameters = [before.as_millisecond(), most.into()].map(Parameter::Number);
        let forgotten = operator_rows(self.transaction, PRUNE_AUDIT, &parameters)?;
        Ok(u32::try_from(forgotten.len()).unwrap_or(u32::MAX))
    }

    /// Takes slots for calls. That counts as no commit: no command depends on it.
    pub(super) fn take_slots(&self, request: &SlotRequest) -> rusqlite::Result<SlotBlock> {
        slots::take_from(self.transaction, request)
    }

    /// Forgets what finished before a time, at most so much at once.
    pub(super) fn prune(&mut self, before: Timestamp, most: u32) -> rusqlite::Result<u32> {
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

impl Rows for Store<'_> {
    type Error = rusqlite::Error;

    fn load(&mut self, id: &str) -> rusqlite::Result<Option<Row>> {
        self.statements.load(id)
    }

    fn tid_state(&mut self, tid: &str) -> rusqlite::Result<TidState> {
        self.statements.tid_state(tid)
    }

    fn add(&mut self, row: Row) -> rusqlite::Result<()> {
        self.has_changed = true;
        self.statements.save(&row)
    }

    fn save(&mut self, row: Row) -> rusqlite::Result<()> {
        self.has_changed = true;
        self.statements.save(&row)
    }

    fn raise_parked(&mut self, id: &str, parked: u32) -> rusqlite::Result<()> {
        self.has_changed = true;
        self.transaction
            .prepare_cached("UPDATE commands SET parked = ?2 WHERE id = ?1 AND parked < ?2")?
            .execute((id, parked))?;
        Ok(())
    }

    fn mark_told(&mut self, id: &str) -> rusqlite::Result<()> {
        self.has_changed = true;
        self.transaction
            .prepare_cached("UPDATE commands SET untold = 0 WHERE id = ?1 AND untold = 1")?
            .execute([id])?;
        Ok(())
    }
}
