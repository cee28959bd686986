//! The ledger in a file of the worker's own: SQLite on a thread of its own.

mod rows;

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, Transaction, named_params};
use tokio::sync::mpsc;

use super::rules::{self, Holders, Row, TidState};
use super::{Answers, Census, Error, Held, Reply, Request, defer};

/// Each migration once, in order; `user_version` counts those that were applied.
const MIGRATIONS: [&str; 1] = [include_str!("../../migrations/sqlite/0001_commands.sql")];

/// How many requests share a commit at most: enough to make the commit cheap, few enough that
/// the first one's wait stays short.
const BATCH: usize = 512;

/// How long another program's read, such as an operator's, may hold up a write.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Ids come in no order: the upper pages of their index are kept in memory also at a million
/// commands. Negative is SQLite's way to say KiB.
const CACHE_KIBIBYTES: i32 = -32_768;

/// How far the write-ahead log grows before its pages go to the file, 32 MiB: pages that every
/// commit touches go there once instead of many times.
const CHECKPOINT_PAGES: i32 = 8_192;

/// Opens or creates the file, starts its thread and returns the ledger's digest key.
pub(super) fn open(
    path: &Path,
    epoch: u64,
    new_key: [u8; 32],
    inbox: mpsc::Receiver<Request>,
) -> anyhow::Result<Vec<u8>> {
    let lock = lock(path)?;
    let mut connection =
        Connection::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let digest_key = prepare(&mut connection, &new_key)
        .with_context(|| format!("cannot use {} as a ledger", path.display()))?;
    std::thread::Builder::new().name("ledger".to_owned()).spawn(move || {
        serve(connection, Holders::Process { epoch }, inbox);
        drop(lock);
    })?;
    Ok(digest_key)
}

/// What is known of one id, or of all commands of a tid: read beside a running worker, without
/// its lock and without writing.
pub(super) fn find(path: &Path, what: &str) -> anyhow::Result<Vec<Row>> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)
        .with_context(|| format!("cannot open {}", path.display()))?;
    let found = || -> anyhow::Result<Vec<Row>> {
        connection.busy_timeout(BUSY_TIMEOUT)?;
        let applied = applied(&connection)?;
        anyhow::ensure!(applied > 0, "it holds no ledger");
        let query = format!(
            "SELECT {} FROM commands WHERE id = ?1 OR tid = ?1 ORDER BY first_received",
            rows::COLUMNS
        );
        let mut statement = connection.prepare(&query)?;
        let rows = statement.query_map([what], rows::read)?.collect::<rusqlite::Result<_>>()?;
        Ok(rows)
    };
    found().with_context(|| format!("cannot read {}", path.display()))
}

/// How many migrations the file has seen; more than are known here is an error.
fn applied(connection: &Connection) -> anyhow::Result<usize> {
    let applied: i64 = connection.query_row("PRAGMA user_version", (), |row| row.get(0))?;
    let applied = usize::try_from(applied).unwrap_or(usize::MAX);
    anyhow::ensure!(
        applied <= MIGRATIONS.len(),
        "it was written by a newer version of this program (schema {applied})"
    );
    Ok(applied)
}

/// Two workers on one file would each take the other's claims for a dead one's.
fn lock(path: &Path) -> anyhow::Result<File> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let name = Path::new(&name);
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(name)
        .with_context(|| format!("cannot create {}", name.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => anyhow::bail!(
            "{} is in use by another worker; an SQLite ledger serves one: give each its own \
             LEDGER_URL, or all of them one postgres:// ledger",
            path.display()
        ),
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {}", name.display()))
        }
    }
}

fn prepare(connection: &mut Connection, new_key: &[u8]) -> anyhow::Result<Vec<u8>> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // NORMAL would lose the last commits with the power: an attempt that was made would be
    // unknown.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "cache_size", CACHE_KIBIBYTES)?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    let applied = applied(connection)?;
    let transaction = connection.transaction()?;
    for migration in MIGRATIONS.iter().skip(applied) {
        transaction.execute_batch(migration)?;
    }
    transaction.pragma_update(None, "user_version", i64::try_from(MIGRATIONS.len())?)?;
    let kept =
        transaction.query_row("SELECT digest_key FROM meta", (), |row| row.get(0)).optional()?;
    let key = match kept {
        Some(key) => key,
        None => {
            transaction.execute("INSERT INTO meta (digest_key) VALUES (?1)", [new_key])?;
            new_key.to_vec()
        }
    };
    transaction.commit()?;
    Ok(key)
}

fn serve(mut connection: Connection, holders: Holders, mut inbox: mpsc::Receiver<Request>) {
    let mut batch = Vec::with_capacity(BATCH);
    while inbox.blocking_recv_many(&mut batch, BATCH) > 0 {
        let mut answers = Answers::new();
        let result = commit(&mut connection, holders, batch.drain(..), &mut answers);
        let error = result.err().map(|error| Error::Store(error.to_string()));
        for answer in answers {
            answer(error.as_ref());
        }
    }
}

fn commit(
    connection: &mut Connection,
    holders: Holders,
    batch: impl Iterator<Item = Request>,
    answers: &mut Answers,
) -> rusqlite::Result<()> {
    let mut transaction =
        connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate);
    let mut failed = None;
    for request in batch {
        let store = match (&mut transaction, &failed) {
            (Ok(transaction), None) => Some(Store { transaction, holders }),
            _ => None,
        };
        if let Err(error) = answer(store, request, answers) {
            failed = Some(error);
        }
    }
    match failed {
        Some(error) => Err(error),
        None => transaction?.commit(),
    }
}

/// Answers one request, or, without a store, lets it fail with the rest of the batch.
fn answer(
    store: Option<Store<'_>>,
    request: Request,
    answers: &mut Answers,
) -> rusqlite::Result<()> {
    match request {
        Request::Claim { ask, token, reply } => {
            attend(answers, reply, store, |store| store.claim(&ask, token))
        }
        Request::Write { write, reply } => {
            attend(answers, reply, store, |store| store.write(*write).map(Ok))
        }
        Request::Parked { id, parked } => match store {
            Some(store) => store.parked(&id, parked),
            None => Ok(()),
        },
        Request::Census { reply } => attend(answers, reply, store, |store| store.census().map(Ok)),
        Request::Prune { before, most, reply } => {
            attend(answers, reply, store, |store| store.prune(before, most).map(Ok))
        }
    }
}

/// Does what one request asks; the answer waits for the commit.
fn attend<T: Send + 'static>(
    answers: &mut Answers,
    reply: Reply<T>,
    store: Option<Store<'_>>,
    work: impl FnOnce(&Store<'_>) -> rusqlite::Result<Result<T, Error>>,
) -> rusqlite::Result<()> {
    let (result, failure) = match store.as_ref().map(work) {
        Some(Ok(result)) => (result, Ok(())),
        Some(Err(error)) => (Err(Error::Store(error.to_string())), Err(error)),
        None => (Err(Error::Closed), Ok(())),
    };
    defer(answers, reply, result);
    failure
}

struct Store<'a> {
    transaction: &'a Transaction<'a>,
    holders: Holders,
}

impl Store<'_> {
    fn claim(&self, ask: &super::Ask, token: u64) -> rusqlite::Result<Result<super::Claim, Error>> {
        let row = self.load(&ask.id)?;
        let tid = match rules::tid_that_matters(row.as_ref(), ask) {
            Some(tid) => self.tid_state(tid)?,
            None => TidState::default(),
        };
        let is_new = row.is_none();
        match rules::claim(row, &tid, ask, token, self.holders) {
            Ok((claim, changed)) => {
                if let Some(row) = changed {
                    self.save(&row, is_new)?;
                }
                Ok(Ok(claim))
            }
            Err(error) => Ok(Err(error)),
        }
    }

    fn write(&self, write: super::Write) -> rusqlite::Result<Held> {
        let row = self.load(&write.id)?;
        let (held, changed) = rules::write(row, write);
        if let Some(row) = changed {
            self.save(&row, false)?;
        }
        Ok(held)
    }

    fn parked(&self, id: &str, parked: u32) -> rusqlite::Result<()> {
        self.transaction
            .prepare_cached("UPDATE commands SET parked = ?2 WHERE id = ?1 AND parked < ?2")?
            .execute((id, parked))?;
        Ok(())
    }

    fn load(&self, id: &str) -> rusqlite::Result<Option<Row>> {
        let query = format!("SELECT {} FROM commands WHERE id = ?1", rows::COLUMNS);
        self.transaction.prepare_cached(&query)?.query_row([id], rows::read).optional()
    }

    fn tid_state(&self, tid: &str) -> rusqlite::Result<TidState> {
        let mut statement = self.transaction.prepare_cached(
            "SELECT outcome, finished, doubted_since, event FROM commands
             WHERE tid = ?1 AND kind = 'refund'",
        )?;
        let mut rows = statement.query([tid])?;
        let mut state = TidState::default();
        while let Some(row) = rows.next()? {
            let doubted: Option<i64> = row.get("doubted_since")?;
            state.add(rows::read_finished(row)?, doubted.is_some());
        }
        Ok(state)
    }

    fn save(&self, row: &Row, is_new: bool) -> rusqlite::Result<()> {
        let history = serde_json::to_string(&row.history)
            .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
        let finished = row.finished.as_ref();
        let changing = named_params! {
            ":id": row.id,
            ":history": history,
            ":lease_token": row.lease.map(|lease| lease.token.cast_signed()),
            ":lease_until": row.lease.map(|lease| lease.until.as_millisecond()),
            ":due": row.due.map(Timestamp::as_millisecond),
            ":parked": row.parked,
            ":interruptions": row.interruptions,
            ":doubted_since": row.doubted_since().map(Timestamp::as_millisecond),
            ":unsettled": row.unsettled,
            ":outcome": finished.map(|finished| finished.outcome.as_str()),
            ":finished": finished.map(|finished| finished.at.as_millisecond()),
            ":event": finished.map(|finished| finished.event.as_slice()),
        };
        if !is_new {
            self.transaction.prepare_cached(rows::UPDATE)?.execute(changing)?;
            return Ok(());
        }
        let lasting = named_params! {
            ":kind": row.kind,
            ":tid": row.tid,
            ":digest": row.digest,
            ":first_received": row.history.first_received.as_millisecond(),
        };
        let all: Vec<_> = changing.iter().chain(lasting).copied().collect();
        self.transaction.prepare_cached(rows::INSERT)?.execute(&*all)?;
        Ok(())
    }

    fn census(&self) -> rusqlite::Result<Census> {
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

    fn prune(&self, before: Timestamp, most: u32) -> rusqlite::Result<u32> {
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
