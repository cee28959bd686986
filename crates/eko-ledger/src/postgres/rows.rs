//! Rows as PostgreSQL keeps them: statements over many at once.

use jiff::Timestamp;
use tokio_postgres::Client;
use tokio_postgres::types::{ToSql, Type};

use super::meta::NOW;
use super::statements::Statement;
use crate::row::{self, Finished, Lease, Row};
use crate::unsettled::{self, Found};
use crate::{BacklogCounts, Error, Open, OpenState, Stranded};
use eko_core::command::Kind;

const COLUMNS: &str = "id, kind, tid, digest, history, lease_token, lease_until, due, parked, \
                       interruptions, unsettled, untold, outcome, finished, event";

/// Counts the commit that it is part of, too.
pub(super) const UPSERT: &str = "WITH counted AS (
        INSERT INTO commits (worker, count) VALUES ($18, 1)
        ON CONFLICT (worker) DO UPDATE SET count = commits.count + 1)
    INSERT INTO commands (id, kind, tid, digest, first_received, history,
        lease_token, lease_until, due, parked, interruptions, doubted_since, unsettled, untold,
        outcome, finished, event)
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[],
        $6::text[], $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[],
        $12::bigint[], $13::boolean[], $14::boolean[], $15::text[], $16::bigint[],
        $17::bytea[])
    ON CONFLICT (id) DO UPDATE SET history = EXCLUDED.history,
        lease_token = EXCLUDED.lease_token, lease_until = EXCLUDED.lease_until,
        due = EXCLUDED.due, parked = EXCLUDED.parked, interruptions = EXCLUDED.interruptions,
        doubted_since = EXCLUDED.doubted_since, unsettled = EXCLUDED.unsettled,
        untold = EXCLUDED.untold, outcome = EXCLUDED.outcome, finished = EXCLUDED.finished, event = EXCLUDED.event";

/// Loads commands by id.
pub(super) fn by_id() -> String {
    format!("SELECT {COLUMNS} FROM commands WHERE id = ANY($1::text[])")
}

/// Loads refunds by tid.
pub(super) fn by_tid() -> String {
    format!("SELECT {COLUMNS} FROM commands WHERE tid = ANY($1::text[]) AND kind = 'refund'")
}

/// The types of what [`UPSERT`] takes.
pub(super) fn upsert_types() -> Vec<Type> {
    let (text, int, bool) = (Type::TEXT_ARRAY, Type::INT8_ARRAY, Type::BOOL_ARRAY);
    let mut types = vec![text.clone(); 4];
    types.extend([int.clone(), text.clone()]);
    types.extend(vec![int.clone(); 6]);
    types.extend([bool.clone(), bool, text, int, Type::BYTEA_ARRAY, Type::INT8]);
    types
}

/// The rows of one id, or of a tid, oldest first.
pub(super) async fn find(client: &Client, what: &str) -> Result<Vec<Row>, super::ConnectionError> {
    let query =
        format!("SELECT {COLUMNS} FROM commands WHERE id = $1 OR tid = $1 ORDER BY first_received");
    let rows = client.query_typed(&query, &[(&what, Type::TEXT)]).await?;
    Ok(rows.iter().map(read).collect::<Result<_, _>>()?)
}

/// The refunds that may have been executed, and the server's time.
pub(super) async fn unsettled(client: &Client) -> Result<Found, super::ConnectionError> {
    let now = client.query_typed_one(&format!("SELECT {NOW}"), &[]).await?.get(0);
    let mut found = Vec::new();
    for which in [unsettled::OPEN, unsettled::UNRESOLVED] {
        let query = format!("SELECT {COLUMNS} FROM commands WHERE {which}");
        let rows = client.query_typed(&query, &[]).await?;
        found.extend(rows.iter().map(read).collect::<Result<Vec<_>, _>>()?);
    }
    Ok((time(now)?, found))
}

/// Writes rows, new or known, in a commit that counts for a worker.
pub(super) async fn upsert(
    client: &Client,
    statement: &Statement,
    rows: &[&Row],
    worker: i64,
) -> Result<(), super::ConnectionError> {
    let histories: Result<Vec<String>, _> =
        rows.iter().map(|row| serde_json::to_string(&row.history)).collect();
    let histories = histories.map_err(|error| Error::Store(error.to_string()))?;
    let ids = each(rows, |row| row.id.as_str());
    let kinds = each(rows, |row| Kind::label(row.kind));
    let tids = each(rows, |row| row.tid.as_deref());
    let digests = each(rows, |row| row.digest.as_str());
    let received = each(rows, |row| row.history.first_received.as_millisecond());
    let tokens = each(rows, |row| row.lease.map(|lease| lease.token.cast_signed()));
    let untils = each(rows, |row| row.lease.map(|lease| lease.until.as_millisecond()));
    let dues = each(rows, |row| row.due.map(Timestamp::as_millisecond));
    let parked = each(rows, |row| i64::from(row.parked));
    let interruptions = each(rows, |row| i64::from(row.interruptions));
    let doubted = each(rows, |row| row.doubted_since().map(Timestamp::as_millisecond));
    let unsettled = each(rows, |row| row.unsettled);
    let untold = each(rows, |row| row.untold);
    let outcomes = each(rows, |row| row.finished.as_ref().map(|end| end.outcome.as_str()));
    let finished = each(rows, |row| row.finished.as_ref().map(|end| end.at.as_millisecond()));
    let events = each(rows, |row| row.finished.as_ref().map(|end| end.event.as_slice()));
    let columns: [&(dyn ToSql + Sync); 18] = [
        &ids,
        &kinds,
        &tids,
        &digests,
        &received,
        &histories,
        &tokens,
        &untils,
        &dues,
        &parked,
        &interruptions,
        &doubted,
        &unsettled,
        &untold,
        &outcomes,
        &finished,
        &events,
        &worker,
    ];
    statement.run(client, &columns).await?;
    Ok(())
}

fn each<'a, T>(rows: &[&'a Row], column: impl Fn(&'a Row) -> T) -> Vec<T> {
    rows.iter().map(|row| column(row)).collect()
}

/// Reads one row.
pub(super) fn read(row: &tokio_postgres::Row) -> Result<Row, Error> {
    let history: &str = row.get("history");
    let history = serde_json::from_str(history)
        .map_err(|error| Error::Store(format!("a history cannot be read: {error}")))?;
    let token: Option<i64> = row.get("lease_token");
    let lease = match token.zip(row.get("lease_until")) {
        Some((token, until)) => Some(Lease { token: token.cast_unsigned(), until: time(until)? }),
        None => None,
    };
    let (id, kind): (String, &str) = (row.get("id"), row.get("kind"));
    let unknown = |error: row::UnknownWord| Error::Store(error.to_string());
    let outcome: Option<&str> = row.get("outcome");
    let finished = match (outcome, row.get("finished")) {
        (Some(outcome), Some(at)) => {
            let event: Option<Vec<u8>> = row.get("event");
            let outcome = row::read_outcome(&id, outcome).map_err(unknown)?;
            Some(Finished { at: time(at)?, outcome, event: event.unwrap_or_default() })
        }
        _ => None,
    };
    Ok(Row {
        kind: row::read_kind(&id, kind).map_err(unknown)?,
        id,
        tid: row.get("tid"),
        digest: row.get("digest"),
        history,
        lease,
        due: row.get::<_, Option<i64>>("due").map(time).transpose()?,
        parked: count(row.get("parked")),
        interruptions: count(row.get("interruptions")),
        unsettled: row.get("unsettled"),
        untold: row.get("untold"),
        finished,
    })
}

/// Counts what waits.
pub(super) async fn backlog_counts(
    client: &Client,
) -> Result<BacklogCounts, super::ConnectionError> {
    let mut backlog_counts = BacklogCounts::default();
    let unsettled = "SELECT kind, count(*), min(doubted_since) FROM commands
                     WHERE unsettled AND doubted_since IS NOT NULL GROUP BY kind";
    for row in client.query_typed(unsettled, &[]).await? {
        backlog_counts.unsettled.insert(row.get(0), (count(row.get(1)), time(row.get(2))?));
    }
    let parked = "SELECT kind, count(*) FROM commands WHERE due IS NOT NULL GROUP BY kind";
    for row in client.query_typed(parked, &[]).await? {
        backlog_counts.parked.insert(row.get(0), count(row.get(1)));
    }
    Ok(backlog_counts)
}

/// Lists what nobody works on, by the server's clock.
pub(super) async fn stranded(
    client: &Client,
    most: u32,
) -> Result<Stranded, super::ConnectionError> {
    let most = i64::from(most);
    let open = format!(
        "SELECT id, kind, tid, due, lease_token, parked, interruptions FROM commands
         WHERE finished IS NULL AND (due IS NULL OR due < {NOW})
             AND (lease_until IS NULL OR lease_until < {NOW})
         ORDER BY first_received LIMIT $1"
    );
    let read = |row: &tokio_postgres::Row| {
        let id: String = row.get(0);
        // One that cannot be read is none that a worker of this version can settle.
        let kind = row::read_kind(&id, row.get(1)).ok()?;
        let state = OpenState {
            due: row.get(3),
            token: row.get(4),
            parked: row.get(5),
            interruptions: row.get(6),
        };
        Some(Open { id, kind, tid: row.get(2), state })
    };
    let most: [(&(dyn ToSql + Sync), Type); 1] = [(&most, Type::INT8)];
    let open = client.query_typed(&open, &most).await?.iter().filter_map(read).collect();
    let untold = "SELECT id FROM commands WHERE untold LIMIT $1";
    let untold = client.query_typed(untold, &most).await?;
    Ok(Stranded { open, untold: untold.iter().map(|row| row.get(0)).collect() })
}

/// Forgets commands that finished before a time. What is finished is never written again, so
/// it needs no lock; rows that another worker forgets at this moment are left to it.
pub(super) async fn prune(
    client: &Client,
    before: Timestamp,
    most: u32,
) -> Result<u32, super::ConnectionError> {
    let forget = "DELETE FROM commands WHERE id IN (
                      SELECT id FROM commands WHERE first_received < $1 AND finished < $1
                      ORDER BY first_received LIMIT $2 FOR UPDATE SKIP LOCKED)";
    let (before, most) = (before.as_millisecond(), i64::from(most));
    let parameters: [(&(dyn ToSql + Sync), Type); 2] = [(&before, Type::INT8), (&most, Type::INT8)];
    let forgotten = client.execute_typed(forget, &parameters).await?;
    Ok(u32::try_from(forgotten).unwrap_or(u32::MAX))
}

fn count(number: i64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// Reads a time.
pub(super) fn time(milliseconds: i64) -> Result<Timestamp, Error> {
    Timestamp::from_millisecond(milliseconds)
        .map_err(|_| Error::Store(format!("{milliseconds} is not a valid time")))
}
