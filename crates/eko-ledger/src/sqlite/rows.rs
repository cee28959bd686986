//! Rows as SQLite keeps them.

use jiff::Timestamp;
use rusqlite::types::Type;
use rusqlite::{CachedStatement, Connection, OptionalExtension as _, params};

use crate::row::{self, Finished, Lease, Row};
use crate::rules::TidState;
use eko_core::command::Kind;

/// What `read` reads, in its order.
macro_rules! columns {
    () => {
        "id, kind, tid, digest, history, lease_token, lease_until, due, parked, interruptions, \
         unsettled, untold, outcome, finished, event"
    };
}

const BY_ID: &str = concat!("SELECT ", columns!(), " FROM commands WHERE id = ?1");

/// Everything about one id, or about all commands of a tid.
pub(super) const BY_ID_OR_TID: &str =
    concat!("SELECT ", columns!(), " FROM commands WHERE id = ?1 OR tid = ?1");

const REFUNDS_OF: &str = "SELECT outcome, finished, event, doubted_since, id FROM commands
    WHERE tid = ?1 AND kind = 'refund'";

/// Reads the commands for which this holds.
pub(super) fn select(which: &str) -> String {
    format!(concat!("SELECT ", columns!(), " FROM commands WHERE {}"), which)
}

/// What never changes is not set again: SQLite would write its indexes anew.
const SAVE: &str = "INSERT INTO commands (id, kind, tid, digest, first_received, history,
        lease_token, lease_until, due, parked, interruptions, doubted_since, unsettled, untold,
        outcome, finished, event)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)
    ON CONFLICT (id) DO UPDATE SET history = excluded.history,
        lease_token = excluded.lease_token, lease_until = excluded.lease_until,
        due = excluded.due, parked = excluded.parked, interruptions = excluded.interruptions,
        doubted_since = excluded.doubted_since, unsettled = excluded.unsettled,
        untold = excluded.untold, outcome = excluded.outcome, finished = excluded.finished, event = excluded.event";

/// The statements of one commit, looked up once for all that share it.
pub(super) struct Statements<'a> {
    by_id: CachedStatement<'a>,
    refunds_of: CachedStatement<'a>,
    save: CachedStatement<'a>,
}

impl<'a> Statements<'a> {
    /// Prepares them, or takes them as they were prepared before.
    pub(super) fn prepare(connection: &'a Connection) -> rusqlite::Result<Self> {
        Ok(Self {
            by_id: connection.prepare_cached(BY_ID)?,
            refunds_of: connection.prepare_cached(REFUNDS_OF)?,
            save: connection.prepare_cached(SAVE)?,
        })
    }

    /// Loads a command.
    pub(super) fn load(&mut self, id: &str) -> rusqlite::Result<Option<Row>> {
        self.by_id.query_row([id], read).optional()
    }

    /// What the refunds of a tid have left.
    pub(super) fn tid_state(&mut self, tid: &str) -> rusqlite::Result<TidState> {
        let mut rows = self.refunds_of.query([tid])?;
        let mut state = TidState::default();
        while let Some(row) = rows.next()? {
            let doubted: Option<i64> = row.get(3)?;
            let id: String = row.get(4)?;
            state.add(read_finished(&id, row, 0)?, doubted.is_some());
        }
        Ok(state)
    }

    /// Writes a command, new or known.
    pub(super) fn save(&mut self, row: &Row) -> rusqlite::Result<()> {
        let history = serde_json::to_string(&row.history).map_err(unwritable)?;
        let (lease, end) = (row.lease, row.finished.as_ref());
        self.save.execute(params![
            row.id,
            Kind::label(row.kind),
            row.tid,
            row.digest,
            row.history.first_received.as_millisecond(),
            history,
            lease.map(|lease| lease.token.cast_signed()),
            lease.map(|lease| lease.until.as_millisecond()),
            row.due.map(Timestamp::as_millisecond),
            row.parked,
            row.interruptions,
            row.doubted_since().map(Timestamp::as_millisecond),
            row.unsettled,
            row.untold,
            end.map(|end| end.outcome.as_str()),
            end.map(|end| end.at.as_millisecond()),
            end.map(|end| end.event.as_slice()),
        ])?;
        Ok(())
    }
}

/// Reads one command.
pub(super) fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Row> {
    let history = serde_json::from_str(row.get_ref(4)?.as_str()?).map_err(unreadable)?;
    let (token, until): (Option<i64>, Option<i64>) = (row.get(5)?, row.get(6)?);
    let lease = lease(token, until)?;
    let id: String = row.get(0)?;
    Ok(Row {
        kind: row::read_kind(&id, row.get_ref(1)?.as_str()?).map_err(unreadable)?,
        tid: row.get(2)?,
        digest: row.get(3)?,
        history,
        lease,
        due: row.get::<_, Option<i64>>(7)?.map(time).transpose()?,
        parked: row.get(8)?,
        interruptions: row.get(9)?,
        unsettled: row.get(10)?,
        untold: row.get(11)?,
        finished: read_finished(&id, row, 12)?,
        id,
    })
}

/// Reads a claim that is held.
pub(super) fn lease(token: Option<i64>, until: Option<i64>) -> rusqlite::Result<Option<Lease>> {
    let read = |(token, until): (i64, i64)| {
        Ok(Lease { token: token.cast_unsigned(), until: time(until)? })
    };
    token.zip(until).map(read).transpose()
}

/// Reads how one ended, from the three columns that begin at `first`.
fn read_finished(
    id: &str,
    row: &rusqlite::Row<'_>,
    first: usize,
) -> rusqlite::Result<Option<Finished>> {
    let at: Option<i64> = row.get(first + 1)?;
    at.map(|at| {
        let outcome = row.get_ref(first)?.as_str()?;
        let outcome = row::read_outcome(id, outcome).map_err(unreadable)?;
        Ok(Finished { at: time(at)?, outcome, event: row.get(first + 2)? })
    })
    .transpose()
}

/// Reads a time.
pub(super) fn time(milliseconds: i64) -> rusqlite::Result<Timestamp> {
    Timestamp::from_millisecond(milliseconds)
        .map_err(|_| rusqlite::Error::IntegralValueOutOfRange(0, milliseconds))
}

/// What is kept cannot be read.
pub(super) fn unreadable(error: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(0, Type::Text, Box::new(error))
}

/// What is to be kept cannot be written.
pub(super) fn unwritable(error: serde_json::Error) -> rusqlite::Error {
    rusqlite::Error::ToSqlConversionFailure(Box::new(error))
}
