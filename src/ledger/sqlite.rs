//! The ledger in a file of the worker's own: SQLite on a thread of its own.

mod begun;
mod rows;
mod store;

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use jiff::Timestamp;
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, TransactionBehavior};

use super::rules::{Circumstances, Holders, Row};
use super::{Answers, Error, Inbox, Reply, Request, defer};
use crate::decision::later;
use begun::Begun;
use store::Store;

/// Each migration once, in order; `user_version` counts those that were applied.
const MIGRATIONS: [&str; 4] = [
    include_str!("../../migrations/sqlite/0001_commands.sql"),
    include_str!("../../migrations/sqlite/0002_begun.sql"),
    include_str!("../../migrations/sqlite/0003_moments.sql"),
    include_str!("../../migrations/sqlite/0004_memory.sql"),
];

/// The schema that has the table `begun`.
const BEGUN: usize = 2;

/// How many requests share a commit at most: enough to make the commit cheap, few enough that
/// the first one's wait stays short.
const BATCH: usize = 512;

/// Where more than so many shared the last commit, the next one begins so much later: more share
/// it, and the disk has less to do. Who comes alone never waits.
const CROWD: usize = 2;
const PACE: Duration = Duration::from_millis(1);

/// How long another program's read, such as an operator's, may hold up a write.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Ids come in no order: the upper pages of their index are kept in memory also at a million
/// commands. Negative is SQLite's way to say KiB.
const CACHE_KIBIBYTES: i32 = -8_192;

/// How far the write-ahead log grows before its pages go to the file, 8 MiB: pages that every
/// commit touches go there once instead of many times.
const CHECKPOINT_PAGES: i32 = 2_048;

/// Opens or creates the file, starts its thread and returns the ledger's digest key.
pub(super) fn open(
    path: &Path,
    epoch: u64,
    new_key: [u8; 32],
    inbox: Inbox,
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
        // One moment for both tables.
        let moment = connection.unchecked_transaction()?;
        let mut statement = moment.prepare(rows::BY_ID_OR_TID)?;
        let mut found: Vec<Row> =
            statement.query_map([what], rows::read)?.collect::<rusqlite::Result<_>>()?;
        if applied >= BEGUN {
            found.extend(begun::find(&moment, what)?);
        }
        found.sort_by_key(|row| row.history.first_received);
        Ok(found)
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
    begun::settle_all(&transaction)?;
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

/// The time of a store that one process has: the wall clock's when it began, and from there by a
/// clock that only goes forward.
struct SteadyClock {
    wall: Timestamp,
    began: Instant,
}

impl SteadyClock {
    #[expect(clippy::disallowed_methods, reason = "the store's own time")]
    fn begin() -> Self {
        Self { wall: Timestamp::now(), began: Instant::now() }
    }

    fn now(&self) -> Timestamp {
        later(self.wall, self.began.elapsed())
    }
}

fn serve(mut connection: Connection, holders: Holders, (mut inbox, time): Inbox) {
    let mut batch = Vec::with_capacity(BATCH);
    let mut begun = Begun::default();
    let clock = SteadyClock::begin();
    while inbox.blocking_recv_many(&mut batch, BATCH) > 0 {
        let is_crowd = batch.len() > CROWD;
        let mut answers = Answers::new();
        let mut requests = batch.drain(..);
        let circumstances = Circumstances { holders, now: time.or(clock.now()), caution: None };
        let committed =
            commit(&mut connection, &mut begun, circumstances, &mut requests, &mut answers);
        let error = committed.err().map(|error| Error::Store(error.to_string()));
        if let Some(error) = &error {
            begun.doubt();
            requests.for_each(|request| request.fail(error));
        }
        for answer in answers {
            answer(error.as_ref());
        }
        if is_crowd {
            std::thread::sleep(PACE);
        }
    }
}

/// Where it fails, what is left of the batch was not dealt with.
fn commit(
    connection: &mut Connection,
    begun: &mut Begun,
    circumstances: Circumstances,
    batch: &mut impl Iterator<Item = Request>,
    answers: &mut Answers,
) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut store = Store::new(&transaction, begun, circumstances)?;
    for request in batch {
        answer(&mut store, request, answers)?;
    }
    store.close()?;
    transaction.commit()
}

/// Does what one request asks; the answer waits for the commit.
fn answer(store: &mut Store<'_>, request: Request, answers: &mut Answers) -> rusqlite::Result<()> {
    match request {
        Request::Claim { ask, token, reply } => attend(answers, reply, store.claim(&ask, token)),
        Request::Write { write, reply } => attend(answers, reply, store.write(*write).map(Ok)),
        Request::Parked { id, parked } => store.parked(&id, parked),
        Request::Told { id } => store.told(&id),
        Request::Stranded { most, reply } => attend(answers, reply, store.stranded(most).map(Ok)),
        Request::Census { reply } => attend(answers, reply, store.census().map(Ok)),
        Request::Prune { before, most, reply } => {
            attend(answers, reply, store.prune(before, most).map(Ok))
        }
        Request::Probe { reply } => attend(answers, reply, store.probe().map(Ok)),
    }
}

fn attend<T: Send + 'static>(
    answers: &mut Answers,
    reply: Reply<T>,
    done: rusqlite::Result<Result<T, Error>>,
) -> rusqlite::Result<()> {
    match done {
        Ok(result) => {
            defer(answers, reply, result);
            Ok(())
        }
        Err(error) => {
            defer(answers, reply, Err(Error::Store(error.to_string())));
            Err(error)
        }
    }
}
