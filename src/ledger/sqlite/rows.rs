//! Rows as SQLite keeps them.

use jiff::Timestamp;

use crate::ledger::rules::{Finished, Lease, Row};

/// What `read` reads.
pub(super) const COLUMNS: &str = "id, kind, tid, digest, history, lease_token, lease_until, due, parked, \
                       interruptions, unsettled, outcome, finished, event";

/// A new command.
pub(super) const INSERT: &str =
    "INSERT INTO commands (id, kind, tid, digest, first_received, history,
        lease_token, lease_until, due, parked, interruptions, doubted_since, unsettled, outcome,
        finished, event)
    VALUES (:id, :kind, :tid, :digest, :first_received, :history, :lease_token, :lease_until,
        :due, :parked, :interruptions, :doubted_since, :unsettled, :outcome, :finished, :event)";

/// What never changes is not set again: SQLite would write its indexes anew.
pub(super) const UPDATE: &str =
    "UPDATE commands SET history = :history, lease_token = :lease_token,
        lease_until = :lease_until, due = :due, parked = :parked,
        interruptions = :interruptions, doubted_since = :doubted_since, unsettled = :unsettled,
        outcome = :outcome, finished = :finished, event = :event
    WHERE id = :id";

/// Reads one command.
pub(super) fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Row> {
    let history: String = row.get("history")?;
    let history = serde_json::from_str(&history).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(error))
    })?;
    let token: Option<i64> = row.get("lease_token")?;
    let until: Option<i64> = row.get("lease_until")?;
    let lease = match token.zip(until) {
        Some((token, until)) => Some(Lease { token: token.cast_unsigned(), until: time(until)? }),
        None => None,
    };
    Ok(Row {
        id: row.get("id")?,
        kind: row.get("kind")?,
        tid: row.get("tid")?,
        digest: row.get("digest")?,
        history,
        lease,
        due: row.get::<_, Option<i64>>("due")?.map(time).transpose()?,
        parked: row.get("parked")?,
        interruptions: row.get("interruptions")?,
        unsettled: row.get("unsettled")?,
        finished: read_finished(row)?,
    })
}

/// Reads how one ended.
pub(super) fn read_finished(row: &rusqlite::Row<'_>) -> rusqlite::Result<Option<Finished>> {
    let at: Option<i64> = row.get("finished")?;
    at.map(|at| {
        let (outcome, event) = (row.get("outcome")?, row.get("event")?);
        Ok(Finished { at: time(at)?, outcome, event })
    })
    .transpose()
}

/// Reads a time.
pub(super) fn time(milliseconds: i64) -> rusqlite::Result<Timestamp> {
    Timestamp::from_millisecond(milliseconds)
        .map_err(|_| rusqlite::Error::IntegralValueOutOfRange(0, milliseconds))
}
