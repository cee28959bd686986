//! What the ledger keeps about itself, in its table `meta` of one row.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _};

use super::rows;
use crate::meta::{Change, Lacks, Meta, Opening};

/// The schema that has it all.
const MEMORY: usize = 4;

/// Milliseconds since the epoch, by the store's own clock.
pub(crate) const NOW: &str = "CAST(unixepoch('subsec') * 1000 AS INTEGER)";

/// Compared with the time here: SQLite would tell it anew for each of its uses, at a tenth of what a
/// commit costs.
const GLANCE: &str = "SELECT commits, adopted, forgot FROM meta";

/// What each commit looks at first.
pub(super) struct Glance {
    pub(super) commits: u64,
    pub(super) lacks: Lacks,
}

/// Makes the id and the digest key of a ledger that has none; its digest key.
pub(super) fn settle(connection: &Connection, opening: &Opening) -> rusqlite::Result<Vec<u8>> {
    let kept =
        connection.query_row("SELECT digest_key FROM meta", (), |row| row.get(0)).optional()?;
    let key = match kept {
        Some(key) => key,
        None => {
            let new_key = opening.new_key.as_slice();
            connection.execute("INSERT INTO meta (digest_key) VALUES (?1)", [new_key])?;
            new_key.to_vec()
        }
    };
    let id = opening.new_id();
    connection.execute("UPDATE meta SET ledger_id = ?1 WHERE ledger_id IS NULL", [id])?;
    Ok(key)
}

/// Whether it has never kept a command.
pub(super) fn is_new(connection: &Connection) -> rusqlite::Result<bool> {
    let used = "SELECT EXISTS (SELECT 1 FROM commands) OR (SELECT commits FROM meta) > 0";
    connection.query_row(used, (), |row| row.get(0)).map(|is_used: bool| !is_used)
}

/// All that it keeps about itself.
pub(super) fn load(connection: &Connection, schema: usize) -> rusqlite::Result<Meta> {
    if schema < MEMORY {
        return Ok(Meta { schema, ..Meta::default() });
    }
    let select = "SELECT ledger_id, commits, adopted, forgot FROM meta";
    connection.query_row(select, (), |row| {
        let time = |column| -> rusqlite::Result<Option<Timestamp>> {
            row.get::<_, Option<i64>>(column)?.map(rows::time).transpose()
        };
        let id: Option<String> = row.get(0)?;
        let commits: i64 = row.get(1)?;
        Ok(Meta {
            id: id.unwrap_or_default(),
            schema,
            commits: commits.cast_unsigned(),
            adopted: time(2)?,
            forgot: time(3)?,
            timeline: None,
        })
    })
}

/// How often it has committed, and whether it may lack attempts that are not older than `oldest`, in
/// milliseconds since the epoch.
pub(super) fn glance(connection: &Connection, oldest: i64) -> rusqlite::Result<Glance> {
    connection.prepare_cached(GLANCE)?.query_row((), |row| {
        let commits: i64 = row.get(0)?;
        let since = |column| -> rusqlite::Result<Option<i64>> {
            Ok(row.get::<_, Option<i64>>(column)?.filter(|&at| at > oldest))
        };
        let lacks = Lacks { adopted: since(1)?, forgot: since(2)? };
        Ok(Glance { commits: commits.cast_unsigned(), lacks })
    })
}

/// Counts a commit that is about to be made.
pub(super) fn count(connection: &Connection) -> rusqlite::Result<()> {
    connection.prepare_cached("UPDATE meta SET commits = commits + 1")?.execute(())?;
    Ok(())
}

/// Changes what it keeps about itself.
pub(super) fn change(connection: &Connection, change: Change) -> rusqlite::Result<()> {
    match change {
        Change::Nothing => Ok(()),
        Change::Adopt => connection.execute_batch(&format!("UPDATE meta SET adopted = {NOW}")),
        Change::Forget => connection.execute_batch(&format!("UPDATE meta SET forgot = {NOW}")),
    }
}
