//! What one request does within a transaction.

use jiff::Timestamp;
use rusqlite::Transaction;

use super::begun::Begun;
use super::rows::{self, Statements};
use crate::ledger::rules::{self, Circumstances, Row, TidState};
use crate::ledger::{Ask, Census, Claim, Error, Held, Open, OpenState, Stranded, Write};

/// The ledger within one transaction.
pub(super) struct Store<'a> {
    transaction: &'a Transaction<'a>,
    statements: Statements<'a>,
    begun: &'a mut Begun,
    circumstances: Circumstances,
}

impl<'a> Store<'a> {
    /// The ledger within `transaction`.
    pub(super) fn new(
        transaction: &'a Transaction<'a>,
        begun: &'a mut Begun,
        circumstances: Circumstances,
    ) -> rusqlite::Result<Self> {
        begun.refresh(transaction)?;
        let statements = Statements::prepare(transaction)?;
        Ok(Self { statements, transaction, begun, circumstances })
    }

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
        match rules::claim(row, &tid, ask, token, self.circumstances) {
            Ok((claim, Some(row))) if is_new => {
                self.begun.add(row);
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
    pub(super) fn write(&mut self, write: Write) -> rusqlite::Result<Held> {
        let begun = self.begun.take(&write.id);
        let is_begun = begun.is_some();
        let known = match begun {
            Some(row) => Some(row),
            None => self.statements.load(&write.id)?,
        };
        let Some(mut row) = known else {
            return Ok(Held::Lost);
        };
        let held = rules::write(&mut row, write, self.circumstances.now);
        match held {
            Held::Yes => self.statements.save(&row)?,
            Held::Lost if is_begun => self.begun.add(row),
            Held::Lost => {}
        }
        Ok(held)
    }

    /// Notes that a parked copy is safe.
    pub(super) fn parked(&self, id: &str, parked: u32) -> rusqlite::Result<()> {
        self.transaction
            .prepare_cached("UPDATE commands SET parked = ?2 WHERE id = ?1 AND parked < ?2")?
            .execute((id, parked))?;
        Ok(())
    }

    /// Notes that what follows from an end was done.
    pub(super) fn told(&self, id: &str) -> rusqlite::Result<()> {
        self.transaction
            .prepare_cached("UPDATE commands SET untold = 0 WHERE id = ?1 AND untold = 1")?
            .execute([id])?;
        Ok(())
    }

    /// Lists what nobody works on. One process has this store: a claim that another one held is
    /// over, and what stands in `begun` was begun just now.
    pub(super) fn stranded(&self, most: u32) -> rusqlite::Result<Stranded> {
        let now = self.circumstances.now.as_millisecond();
        let mut open = self.transaction.prepare_cached(
            "SELECT id, kind, tid, due, lease_token, parked, interruptions, lease_until
             FROM commands WHERE finished IS NULL AND (due IS NULL OR due < ?1)
             ORDER BY first_received LIMIT ?2",
        )?;
        let holds = |token: Option<i64>, until: Option<i64>| {
            let lease = token.zip(until).map(|(token, until)| (token.cast_unsigned(), until));
            lease.is_some_and(|(token, until)| {
                rows::time(until).is_ok_and(|until| {
                    self.circumstances
                        .holders
                        .holds(rules::Lease { token, until }, self.circumstances.now)
                })
            })
        };
        let open = open.query_map((now, most), |row| {
            let (token, until) = (row.get(4)?, row.get(7)?);
            let (parked, interruptions) = (row.get(5)?, row.get(6)?);
            let state = OpenState { due: row.get(3)?, token, parked, interruptions };
            let open = Open { id: row.get(0)?, kind: row.get(1)?, tid: row.get(2)?, state };
            Ok((open, holds(token, until)))
        })?;
        let open = open.filter_map(|row| match row {
            Ok((_, true)) => None,
            Ok((open, false)) => Some(Ok(open)),
            Err(error) => Some(Err(error)),
        });
        let open = open.collect::<rusqlite::Result<_>>()?;
        let mut untold =
            self.transaction.prepare_cached("SELECT id FROM commands WHERE untold = 1 LIMIT ?1")?;
        let untold = untold.query_map([most], |row| row.get(0))?;
        Ok(Stranded { open, untold: untold.collect::<rusqlite::Result<_>>()? })
    }

    fn load(&mut self, id: &str) -> rusqlite::Result<Option<Row>> {
        match self.begun.get(id) {
            Some(row) => Ok(Some(row.clone())),
            None => self.statements.load(id),
        }
    }

    fn tid_state(&mut self, tid: &str) -> rusqlite::Result<TidState> {
        let mut state = self.statements.tid_state(tid)?;
        if self.begun.has_refund_of(tid) {
            state.add(None, false);
        }
        Ok(state)
    }

    fn save(&mut self, row: &Row) -> rusqlite::Result<()> {
        self.begun.take(&row.id);
        self.statements.save(row)
    }

    /// Writes what is still to be written before the transaction is committed.
    pub(super) fn close(self) -> rusqlite::Result<()> {
        self.begun.write(self.transaction)
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
        self.begun.settle_old(&mut self.statements)?;
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
