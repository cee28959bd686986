//! What the ledger keeps about itself, in its tables `meta` of one row and `commits`.

use jiff::Timestamp;
use tokio_postgres::Client;
use tokio_postgres::types::{ToSql, Type};

use super::home::Home;
use super::link::Session;
use super::{ConnectionError, rows, schema};
use crate::meta::{Change, Lacks, Meta, Opening};

/// The schema that has it all.
const MEMORY: usize = 4;

/// Milliseconds since the epoch, by the store's own clock.
pub(crate) const NOW: &str = "(extract(epoch from clock_timestamp()) * 1000)::bigint";

/// What each batch looks at first.
pub(super) struct Glance {
    /// The commits of this worker alone.
    pub(super) commits: u64,
    pub(super) lacks: Lacks,
    /// The server's time, in milliseconds since the epoch.
    pub(super) now: i64,
}

/// How long after a standby took over, in milliseconds, every worker doubts what the ledger does
/// not know: in that time each worker that has lost commits looks, and says so in the ledger.
const SETTLING: i64 = 60_000;

/// Reads how often a worker has committed, and whether the ledger may lack attempts: since it took
/// over, forgot, or since a standby was promoted. Which server is behind a pool may change between two
/// transactions: so it reads whose it is, too.
pub(super) fn glance_sql(timeline: Option<&str>) -> String {
    let timeline = timeline_sql(timeline);
    format!(
        "SELECT coalesce((SELECT count FROM commits WHERE worker = $1), 0),
            CASE WHEN adopted > {NOW} - $2 THEN adopted END,
            CASE WHEN $3 > {NOW} - {SETTLING} THEN $3 WHEN forgot > {NOW} - $2 THEN forgot END,
            {NOW}, {timeline}, ledger_id FROM meta"
    )
}

/// What it has read.
pub(super) fn glance(
    rows: &[tokio_postgres::Row],
    session: &Session,
) -> Result<Glance, ConnectionError> {
    let row = rows.first().ok_or(ConnectionError::Moved)?;
    let (timeline, id): (Option<String>, Option<String>) = (row.get(4), row.get(5));
    if timeline != session.timeline || id.as_ref() != Some(&session.id) {
        return Err(ConnectionError::Moved);
    }
    let commits: i64 = row.get(0);
    let lacks = Lacks { adopted: row.get(1), forgot: row.get(2) };
    Ok(Glance { commits: commits.cast_unsigned(), lacks, now: row.get(3) })
}

/// The timeline that the server writes: each promotion of a standby begins a new one.
const TIMELINE: &str = "left(pg_walfile_name(pg_current_wal_lsn()), 8)";

/// Asks for the timeline where the server tells it.
fn timeline_sql(timeline: Option<&str>) -> &'static str {
    timeline.map_or("NULL::text", |_| TIMELINE)
}

/// Which timeline the server writes, and the time by its clock. A server that does not tell is one
/// that never changes.
pub(super) async fn timeline(client: &Client) -> Option<(String, i64)> {
    let select = format!("SELECT {TIMELINE}, {NOW}");
    let row = client.query_typed_one(&select, &[]).await.ok()?;
    Some((row.get(0), row.get(1)))
}

/// Makes the id and the digest key of a ledger that has none, and a new id of one that is a copy;
/// its digest key, and the id that it had before it was copied.
pub(super) async fn settle(
    client: &Client,
    opening: &Opening,
    home: &Home,
) -> Result<(Vec<u8>, Option<String>), ConnectionError> {
    let first_wins = "INSERT INTO meta (digest_key) SELECT $1 WHERE NOT EXISTS (TABLE meta)";
    client.execute_typed(first_wins, &[(&opening.new_key.as_slice(), Type::BYTEA)]).await?;
    let row = client
        .query_typed_one("SELECT digest_key, ledger_id, system, database FROM meta", &[])
        .await?;
    let (key, id): (Vec<u8>, Option<String>) = (row.get(0), row.get(1));
    let known = Home { system: row.get(2), database: row.get(3) };
    let copied = id.clone().filter(|_| known.is_another_than(home));
    let id = match (id, &copied) {
        (Some(id), None) => id,
        (_, Some(_)) | (None, None) => opening.new_id(),
    };
    let update = "UPDATE meta SET ledger_id = $1, system = coalesce($2, system), database = $3";
    let parameters: [(&(dyn ToSql + Sync), Type); 3] =
        [(&id, Type::TEXT), (&home.system, Type::TEXT), (&home.database, Type::INT8)];
    client.execute_typed(update, &parameters).await?;
    Ok((key, copied))
}

/// Whose a database says it is.
pub(super) struct Whose {
    pub(super) id: String,
    pub(super) home: Home,
}

/// Reads whose it says it is, by its tables' full names.
pub(super) async fn id(client: &Client, schema: &str) -> Result<Whose, ConnectionError> {
    let select = format!("SELECT ledger_id, system, database FROM {}.meta", schema::quoted(schema));
    let row = client.query_typed_one(&select, &[]).await?;
    let id: Option<String> = row.get(0);
    let home = Home { system: row.get(1), database: row.get(2) };
    Ok(Whose { id: id.unwrap_or_default(), home })
}

/// How often one worker has committed.
pub(super) async fn own_commits(client: &Client, worker: i64) -> Result<u64, ConnectionError> {
    let select = "SELECT coalesce((SELECT count FROM commits WHERE worker = $1), 0)";
    let row = client.query_typed_one(select, &[(&worker, Type::INT8)]).await?;
    let commits: i64 = row.get(0);
    Ok(commits.cast_unsigned())
}

/// All that it keeps about itself, and the server's timeline, which is still the one that the connection
/// began with.
pub(super) async fn load(
    client: &Client,
    schema: usize,
    timeline: Option<&str>,
) -> Result<Meta, ConnectionError> {
    if schema < MEMORY {
        return Ok(Meta { schema, ..Meta::default() });
    }
    let select = format!(
        "SELECT ledger_id, (SELECT coalesce(sum(count), 0)::bigint FROM commits),
            adopted, forgot, {} FROM meta",
        timeline_sql(timeline)
    );
    let row = client.query_typed_one(&select, &[]).await?;
    let found: Option<String> = row.get(4);
    if found.as_deref() != timeline {
        return Err(ConnectionError::Moved);
    }
    let time = |column| -> Result<Option<Timestamp>, ConnectionError> {
        Ok(row.get::<usize, Option<i64>>(column).map(rows::time).transpose()?)
    };
    let (id, commits): (Option<String>, i64) = (row.get(0), row.get(1));
    Ok(Meta {
        id: id.unwrap_or_default(),
        schema,
        commits: commits.cast_unsigned(),
        adopted: time(2)?,
        forgot: time(3)?,
        timeline: found.and_then(|found| u32::from_str_radix(&found, 16).ok()),
    })
}

/// Changes what it keeps about itself.
pub(super) async fn change(client: &Client, change: Change) -> Result<(), ConnectionError> {
    match change {
        Change::Nothing => Ok(()),
        Change::Adopt => set(client, "adopted").await,
        Change::Forget => set(client, "forgot").await,
    }
}

async fn set(client: &Client, column: &str) -> Result<(), ConnectionError> {
    Ok(client.batch_execute(&format!("UPDATE meta SET {column} = {NOW}")).await?)
}

/// What a commit waits for.
pub(super) async fn promise(client: &Client) -> Result<String, ConnectionError> {
    let select = "SELECT current_setting('synchronous_commit'),
        current_setting('synchronous_standby_names')";
    let row = client.query_typed_one(select, &[]).await?;
    let (commit, standbys): (String, String) = (row.get(0), row.get(1));
    let waits = !standbys.is_empty() && !matches!(commit.as_str(), "off" | "local");
    Ok(if waits {
        format!(
            "commits wait for a standby (synchronous_commit={commit}, \
             synchronous_standby_names={standbys})"
        )
    } else {
        "commits wait for no standby: after a failover the ledger may have forgotten its \
                  last commits"
            .to_owned()
    })
}
