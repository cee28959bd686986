//! Commands that were seen for the first time, in memory and in a small table beside the large
//! one. All of one commit share a row there, and the first thing that changes about one puts it
//! in its lasting place: what begins and ends in one go is written to the indexes once.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension as _, Transaction};

use super::rows::{self, Statements};
use crate::row::Row;

/// What the table `begun` holds.
#[derive(Default)]
pub(super) struct StagingTable {
    members: HashMap<String, Member>,
    /// The refunds among them: one a tid.
    refunds: HashMap<String, String>,
    /// How many are left of each batch.
    batches: HashMap<i64, usize>,
    /// The batch of the commit that is being made.
    current: i64,
    /// Batches of which nothing is left.
    empty: Vec<i64>,
    /// Batches up to this one were there when `settle_old` last looked.
    seen: i64,
    /// A commit failed: what is in memory is not what is on disk.
    is_stale: bool,
}

struct Member {
    row: Row,
    batch: i64,
}

impl StagingTable {
    /// Makes memory and disk agree again after a commit that failed.
    pub(super) fn refresh(&mut self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        if self.is_stale {
            settle_all(transaction)?;
            *self = Self::default();
        }
        Ok(())
    }

    /// The commit failed.
    pub(super) const fn doubt(&mut self) {
        self.is_stale = true;
    }

    /// A command that stands here.
    pub(super) fn get(&self, id: &str) -> Option<&Row> {
        self.members.get(id).map(|member| &member.row)
    }

    /// Whether a refund of that tid stands here.
    pub(super) fn has_refund_of(&self, tid: &str) -> bool {
        self.refunds.contains_key(tid)
    }

    /// Takes in a command that is new.
    pub(super) fn add(&mut self, row: Row) {
        if let Some(tid) = row.refund_of() {
            self.refunds.insert(tid.to_owned(), row.id.clone());
        }
        *self.batches.entry(self.current).or_default() += 1;
        let member = Member { batch: self.current, row };
        self.members.insert(member.row.id.clone(), member);
    }

    /// Takes out a command that goes to its lasting place.
    pub(super) fn take(&mut self, id: &str) -> Option<Row> {
        let Member { row, batch } = self.members.remove(id)?;
        if let Some(tid) = &row.tid
            && self.refunds.get(tid).is_some_and(|id| *id == row.id)
        {
            self.refunds.remove(tid);
        }
        if let Some(left) = self.batches.get_mut(&batch) {
            *left -= 1;
            if *left == 0 {
                self.batches.remove(&batch);
                self.empty.push(batch);
            }
        }
        Some(row)
    }

    /// Forgets batches of which nothing is left, and writes what this commit has added.
    pub(super) fn write(&mut self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        // First, since this commit's own batch may have been empty for a moment.
        for batch in self.empty.drain(..) {
            transaction.prepare_cached("DELETE FROM begun WHERE batch = ?1")?.execute([batch])?;
        }
        if self.batches.contains_key(&self.current) {
            let added = self.members.values().filter(|member| member.batch == self.current);
            let added: Vec<&Row> = added.map(|member| &member.row).collect();
            let added = serde_json::to_string(&added).map_err(rows::unwritable)?;
            transaction
                .prepare_cached("INSERT INTO begun (batch, rows) VALUES (?1, ?2)")?
                .execute((self.current, added))?;
        }
        self.current += 1;
        Ok(())
    }

    /// Puts what has stood here since the last call in its lasting place, so that a batch goes
    /// though one of its commands hangs.
    pub(super) fn settle_old(&mut self, lasting: &mut Statements<'_>) -> rusqlite::Result<()> {
        let old = self.members.values().filter(|member| member.batch <= self.seen);
        let old: Vec<String> = old.map(|member| member.row.id.clone()).collect();
        for row in old.iter().filter_map(|id| self.take(id)) {
            lasting.save(&row)?;
        }
        self.seen = self.current;
        Ok(())
    }
}

/// Puts everything that stands here in its lasting place.
pub(super) fn settle_all(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    let mut lasting = Statements::prepare(transaction)?;
    for row in read_all(transaction)? {
        if !is_known(transaction, &row.id)? {
            lasting.save(&row)?;
        }
    }
    transaction.execute("DELETE FROM begun", ())?;
    Ok(())
}

/// What stands here and not in its lasting place yet, about one id or one tid.
pub(super) fn find(connection: &Connection, what: &str) -> rusqlite::Result<Vec<Row>> {
    let is_asked = |row: &Row| row.id == what || row.tid.as_deref() == Some(what);
    let mut found = Vec::new();
    for row in read_all(connection)?.into_iter().filter(is_asked) {
        if !is_known(connection, &row.id)? {
            found.push(row);
        }
    }
    Ok(found)
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::Timestamp;

    use super::*;
    use eko_core::clock::Now;
    use eko_core::command::Kind;
    use eko_core::history::History;

    #[test]
    fn what_is_taken_out_and_put_back_within_a_commit_is_written() {
        let mut connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(include_str!("../../migrations/sqlite/0002_begun.sql")).unwrap();
        let row = Row {
            id: "a".to_owned(),
            kind: Some(Kind::Refund),
            tid: Some("7".to_owned()),
            digest: String::new(),
            history: History::new(Now {
                wall: Timestamp::UNIX_EPOCH,
                process: 1,
                monotonic: Duration::ZERO,
            }),
            lease: None,
            due: None,
            parked: 0,
            interruptions: 0,
            unsettled: false,
            untold: false,
            finished: None,
        };
        let transaction = connection.transaction().unwrap();
        let mut staging = StagingTable::default();
        staging.add(row.clone());
        let taken = staging.take("a").unwrap();
        staging.add(taken);
        staging.write(&transaction).unwrap();
        assert_eq!(read_all(&transaction).unwrap(), [row]);
        assert!(staging.take("a").is_some());
        staging.write(&transaction).unwrap();
        assert_eq!(read_all(&transaction).unwrap(), []);
    }
}
