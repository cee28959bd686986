//! What one request does within a transaction.

use jiff::Timestamp;
use rusqlite::Transaction;

use super::begun::Begun;
use super::rows;
use crate::ledger::rules::{self, Holders, Row, TidState};
use crate::ledger::{Ask, Census, Claim, Error, Held, Write};

/// The ledger within one transaction.
pub(super) struct Store<'a> {
    pub(super) transaction: &'a Transaction<'a>,
    pub(super) begun: &'a mut Begun,
    pub(super) holders: Holders,
}

impl Store<'_> {
    /// Claims a command.
    pub(super) fn claim(
        &mut self,
        ask: &Ask,
        token: u64,
    ) -> rusqlite::Result<Result<Claim, Error>> {
        let row = self.load(&ask.id)?;
        let tid = match rules::tid_that_matters(row.as_ref(), ask) {
            Some(tid) => self.tid_state(tid)?,
            None => TidState::default(),
        };
        let is_new = row.is_none();
        match rules::claim(row, &tid, ask, token, self.holders) {
            Ok((claim, Some(row))) if is_new => {
                self.begun.add(row);
                Ok(Ok(claim))
            }
            Ok((claim, changed)) => {
                self.save(changed)?;
                Ok(Ok(claim))
            }
            Err(error) => Ok(Err(error)),
        }
    }

    /// Writes about a claimed command.
    pub(super) fn write(&mut self, write: Write) -> rusqlite::Result<Held> {
        let row = self.load(&write.id)?;
        let (held, changed) = rules::write(row, write);
        self.save(changed)?;
        Ok(held)
    }

    /// Notes that a parked copy is safe.
    pub(super) fn parked(&self, id: &str, parked: u32) -> rusqlite::Result<()> {
        self.transaction
            .prepare_cached("UPDATE commands SET parked = ?2 WHERE id = ?1 AND parked < ?2")?
            .execute((id, parked))?;
        Ok(())
    }

    fn load(&self, id: &str) -> rusqlite::Result<Option<Row>> {
        match self.begun.get(id) {
            Some(row) => Ok(Some(row.clone())),
            None => rows::load(self.transaction, id),
        }
    }

    fn tid_state(&self, tid: &str) -> rusqlite::Result<TidState> {
        let mut state = rows::tid_state(self.transaction, tid)?;
        if self.begun.has_refund_of(tid) {
            state.add(None, false);
        }
        Ok(state)
    }

    fn save(&mut self, changed: Option<Row>) -> rusqlite::Result<()> {
        let Some(row) = changed else {
            return Ok(());
        };
        self.begun.take(&row.id);
        rows::save(self.transaction, &row)
    }

    /// Counts what waits.
    pub(super) fn census(&self) -> rusqlite::Result<Census> {
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
        Ok(Census { unsettled, parked })
    }

    /// The number that stands there already: SQLite writes the page nevertheless, which an
    /// UPDATE that changes nothing would not.
    pub(super) fn probe(&self) -> rusqlite::Result<()> {
        let applied = i64::try_from(super::MIGRATIONS.len()).unwrap_or(i64::MAX);
        self.transaction.pragma_update(None, "user_version", applied)
    }

    /// Forgets what finished before a time, at most so much at once.
    pub(super) fn prune(&mut self, before: Timestamp, most: u32) -> rusqlite::Result<u32> {
        self.begun.settle_old(self.transaction)?;
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
