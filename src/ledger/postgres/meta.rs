//! What the ledger keeps about itself, in its tables `meta` of one row and `commits`.

use jiff::Timestamp;
use tokio_postgres::Client;

use super::{Trouble, rows};
use crate::ledger::meta::{Change, Lacks, Meta, Opening};

/// The schema that has it all.
const MEMORY: usize = 4;

/// Milliseconds since the epoch, by the store's own clock.
pub(super) const NOW: &str = "(extract(epoch from clock_timestamp()) * 1000)::bigint";

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
/// over, forgot, or since a standby was promoted.
pub(super) fn glance_sql() -> String {
    format!(
        "SELECT coalesce((SELECT count FROM commits WHERE worker = $1), 0),
            CASE WHEN adopted > {NOW} - $2 THEN adopted END,
            CASE WHEN $3 > {NOW} - {SETTLING} THEN $3 WHEN forgot > {NOW} - $2 THEN forgot END,
            {NOW} FROM meta"
    )
}

/// Which timeline the server writes, and the time by its clock. Each promotion of a standby begins a
/// new one. A server that does not tell is one that never changes.
pub(super) async fn timeline(client: &Client) -> Option<(String, i64)> {
    let select = format!("SELECT left(pg_walfile_name(pg_current_wal_lsn()), 8), {NOW}");
    let row = client.query_one(&select, &[]).await.ok()?;
    Some((row.get(0), row.get(1)))
}

/// What it has read.
pub(super) fn glance(row: &tokio_postgres::Row) -> Glance {
    let commits: i64 = row.get(0);
    let lacks = Lacks { adopted: row.get(1), forgot: row.get(2) };
    Glance { commits: commits.cast_unsigned(), lacks, now: row.get(3) }
}

/// Makes the id and the digest key of a ledger that has none; its digest key.
pub(super) async fn settle(client: &Client, opening: &Opening) -> Result<Vec<u8>, Trouble> {
    let first_wins = "INSERT INTO meta (digest_key) SELECT $1 WHERE NOT EXISTS (TABLE meta)";
    client.execute(first_wins, &[&opening.new_key.as_slice()]).await?;
    let id = "UPDATE meta SET ledger_id = $1 WHERE ledger_id IS NULL";
    client.execute(id, &[&opening.new_id()]).await?;
    Ok(client.query_one("SELECT digest_key FROM meta", &[]).await?.get(0))
}

/// How often one worker has committed.
pub(super) async fn own_commits(client: &Client, worker: i64) -> Result<u64, Trouble> {
    let select = "SELECT coalesce((SELECT count FROM commits WHERE worker = $1), 0)";
    let commits: i64 = client.query_one(select, &[&worker]).await?.get(0);
    Ok(commits.cast_unsigned())
}

/// All that it keeps about itself.
pub(super) async fn load(client: &Client, schema: usize) -> Result<Meta, Trouble> {
    if schema < MEMORY {
        return Ok(Meta { schema, ..Meta::default() });
    }
    let select = "SELECT ledger_id, (SELECT coalesce(sum(count), 0)::bigint FROM commits),
        adopted, forgot, stamps_until FROM meta";
    let row = client.query_one(select, &[]).await?;
    let time = |column| -> Result<Option<Timestamp>, Trouble> {
        Ok(row.get::<usize, Option<i64>>(column).map(rows::time).transpose()?)
    };
    let (id, commits): (Option<String>, i64) = (row.get(0), row.get(1));
    Ok(Meta {
        id: id.unwrap_or_default(),
        schema,
        commits: commits.cast_unsigned(),
        adopted: time(2)?,
        forgot: time(3)?,
        stamps_until: row.get(4),
    })
}

/// Changes what it keeps about itself.
pub(super) async fn change(client: &Client, change: Change) -> Result<(), Trouble> {
    match change {
        Change::Nothing => Ok(()),
        Change::Adopt => set(client, "adopted").await,
        Change::Forget => set(client, "forgot").await,
        Change::ReserveStamps(until) => {
            let update = "UPDATE meta SET stamps_until = greatest(stamps_until, $1)";
            client.execute(update, &[&until]).await?;
            Ok(())
        }
    }
}

async fn set(client: &Client, column: &str) -> Result<(), Trouble> {
    Ok(client.batch_execute(&format!("UPDATE meta SET {column} = {NOW}")).await?)
}

/// What a commit waits for.
pub(super) async fn promise(client: &Client) -> Result<String, Trouble> {
    let select = "SELECT current_setting('synchronous_commit'),
        current_setting('synchronous_standby_names')";
    let row = client.query_one(select, &[]).await?;
    let (commit, standbys): (String, String) = (row.get(0), row.get(1));
    let waits = !standbys.is_empty() && !matches!(commit.as_str(), "off" | "local");
    Ok(match waits {
        true => format!(
            "commits wait for a standby (synchronous_commit={commit}, \
             synchronous_standby_names={standbys})"
        ),
        false => "commits wait for no standby: after a failover the ledger may have forgotten its \
                  last commits"
            .to_owned(),
    })
}
