//! The table `begun` of earlier versions: commands of one commit shared a row there, until something
//! changed about them.

use rusqlite::{Connection, OptionalExtension as _, Transaction};

use super::rows::{self, Statements};
use crate::row::Row;

/// Puts what an earlier version has left there among the other commands.
pub(super) fn settle(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    let mut commands = Statements::prepare(transaction)?;
    for row in read_all(transaction)? {
        if !is_known(transaction, &row.id)? {
            commands.save(&row)?;
        }
    }
    transaction.execute("DELETE FROM begun", ())?;
    Ok(())
}

fn read_all(connection: &Connection) -> rusqlite::Result<Vec<Row>> {
    let mut statement = connection.prepare("SELECT rows FROM begun ORDER BY batch")?;
    let mut batches = statement.query(())?;
    let mut all = Vec::new();
    while let Some(batch) = batches.next()? {
        let batch: Vec<Row> =
            serde_json::from_str(batch.get_ref(0)?.as_str()?).map_err(rows::unreadable)?;
        all.extend(batch);
    }
    Ok(all)
}

fn is_known(connection: &Connection, id: &str) -> rusqlite::Result<bool> {
    let mut statement = connection.prepare_cached("SELECT 1 FROM commands WHERE id = ?1")?;
    Ok(statement.query_row([id], |_| Ok(())).optional()?.is_some())
}
