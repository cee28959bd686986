//! The ledger in a file of the worker's own: SQLite on a thread of its own.

mod begun;
mod file;
mod meta;
mod operator;
mod rows;
mod slots;
mod store;
mod work;

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use jiff::Timestamp;
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use super::meta::{CautionClock, Change, Witness};
use super::request::Request;
use super::row::Row;
use super::rules::{Circumstances, LeaseScope};
use super::unsettled::{self, Found};
use super::{Error, Identity, Inbox, Opened, Opening, Overview, StoreTime};
use eko_core::decision::saturating_add;
use file::LedgerFile;
pub(super) use meta::NOW;
pub(super) use operator::OperatorStore;
use store::Store;
use work::Work;

/// Each migration once, in order; `user_version` counts those that were applied.
const MIGRATIONS: [&str; 6] = [
    include_str!("../migrations/sqlite/0001_commands.sql"),
    include_str!("../migrations/sqlite/0002_begun.sql"),
    include_str!("../migrations/sqlite/0003_moments.sql"),
    include_str!("../migrations/sqlite/0004_memory.sql"),
    include_str!("../migrations/sqlite/0005_operators.sql"),
    include_str!("../migrations/sqlite/0006_slots.sql"),
];

/// How many requests share a commit at most: enough to make the commit cheap, few enough that
/// the first one's wait stays short.
const BATCH: usize = 512;

/// How long another program's read, such as an operator's, may hold up a write.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// What a commit waits for.
const PROMISE: &str = "each commit is on the disk before it counts";

/// Opens or creates the file and starts its thread.
pub(super) fn open(path: &Path, opening: &Opening, inbox: Inbox) -> anyhow::Result<Opened> {
    open_now(path, opening, inbox).map_err(|error| {
        if may_pass(&error) { Error::NotYet(format!("{error:#}")).into() } else { error }
    })
}

/// Whether the same may go well later, with nothing changed but the disk.
fn may_pass(error: &anyhow::Error) -> bool {
    let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
    error.chain().any(|cause| {
        if let Some(error) = cause.downcast_ref::<io::Error>() {
            return full.contains(&error.kind());
        }
        let code =
            cause.downcast_ref::<rusqlite::Error>().and_then(|error| error.sqlite_error_code());
        matches!(
            code,
            Some(
                ErrorCode::DiskFull
                    | ErrorCode::SystemIoFailure
                    | ErrorCode::DatabaseBusy
                    | ErrorCode::DatabaseLocked
            )
        )
    })
}

fn open_now(path: &Path, opening: &Opening, (inbox, time): Inbox) -> anyhow::Result<Opened> {
    let mut file = LedgerFile::take(path)?;
    let place = file.path.display().to_string();
    let mut connection =
        Connection::open(&file.path).with_context(|| format!("cannot open {place}"))?;
    let cannot = || format!("cannot use {place} as a ledger");
    let digest_key = prepare(&mut connection, opening).with_context(cannot)?;
    let kept = meta::load(&connection, MIGRATIONS.len()).with_context(cannot)?;
    let is_new = meta::is_new(&connection).with_context(cannot)?;
    file.watch_beside();
    let (id, adopted, promise) = (kept.id, kept.adopted, PROMISE.to_owned());
    let (witness, regressions) = Witness::new();
    let server = Server {
        connection,
        file,
        witness,
        lease_scope: LeaseScope::Process { epoch: u64::from(opening.epoch) << 32 },
        retention: opening.retention_millis(),
        caution: CautionClock::default(),
        clock: SteadyClock::begin(),
        time,
    };
    std::thread::Builder::new().name("ledger".to_owned()).spawn(move || server.serve(inbox))?;
    let identity = Identity { id, is_new, place, adopted, promise, serves_one: true };
    Ok(Opened { digest_key, identity, regressions })
}

/// What the ledger keeps about itself, read as [`find`] reads.
pub(super) fn look(path: &Path) -> anyhow::Result<Overview> {
    let connection = open_to_read(path)?;
    let looked = || -> anyhow::Result<Overview> {
        let applied = applied(&connection)?;
        anyhow::ensure!(applied > 0, "the file holds no ledger");
        let place = std::fs::canonicalize(path)?.display().to_string();
        Ok(Overview { place, promise: PROMISE.to_owned(), meta: meta::load(&connection, applied)? })
    };
    looked().with_context(|| format!("cannot read {}", path.display()))
}

fn open_to_read(path: &Path) -> anyhow::Result<Connection> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)
        .with_context(|| format!("cannot open {}", path.display()))?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    Ok(connection)
}

/// What is known of one id, or of all commands of a tid: read beside a running worker, without
/// its lock and without writing.
pub(super) fn find(path: &Path, what: &str) -> anyhow::Result<Vec<Row>> {
    let connection = open_to_read(path)?;
    let found = || -> anyhow::Result<Vec<Row>> {
        let applied = applied(&connection)?;
        anyhow::ensure!(applied > 0, "the file holds no ledger");
        let mut statement = connection.prepare(rows::BY_ID_OR_TID)?;
        let mut found: Vec<Row> =
            statement.query_map([what], rows::read)?.collect::<rusqlite::Result<_>>()?;
        found.sort_by_key(|row| row.history.first_received);
        Ok(found)
    };
    found().with_context(|| format!("cannot read {}", path.display()))
}

/// The refunds that may have been executed, as far as that is known: read as [`find`] reads.
pub(super) fn unsettled(path: &Path) -> anyhow::Result<Found> {
    let connection = open_to_read(path)?;
    let found = || -> anyhow::Result<Found> {
        let applied = applied(&connection)?;
        anyhow::ensure!(applied > 0, "the file holds no ledger");
        let snapshot = connection.unchecked_transaction()?;
        let now = snapshot.query_row(&format!("SELECT {NOW}"), (), |row| row.get(0))?;
        let mut rows = Vec::new();
        for which in [unsettled::OPEN, unsettled::UNRESOLVED] {
            let mut statement = snapshot.prepare(&rows::select(which))?;
            let found = statement.query_map((), rows::read)?;
            rows.extend(found.collect::<rusqlite::Result<Vec<_>>>()?);
        }
        Ok((rows::time(now)?, rows))
    };
    found().with_context(|| format!("cannot read {}", path.display()))
}

/// How many migrations the file has seen; more than are known here is an error.
fn applied(connection: &Connection) -> anyhow::Result<usize> {
    let applied: i64 = connection.query_row("PRAGMA user_version", (), |row| row.get(0))?;
    let applied = usize::try_from(applied).unwrap_or(usize::MAX);
    anyhow::ensure!(
        applied <= MIGRATIONS.len(),
        "it was written by a newer version of eko-worker (schema {applied}): use that version or a \
         later one"
    );
    Ok(applied)
}

fn prepare(connection: &mut Connection, opening: &Opening) -> anyhow::Result<Vec<u8>> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // NORMAL would lose the last commits with the power: an attempt that was made would be
    // unknown.
    connection.pragma_update(None, "synchronous", "FULL")?;
    let applied = applied(connection)?;
    let transaction = connection.transaction()?;
    for migration in MIGRATIONS.iter().skip(applied) {
        transaction.execute_batch(migration)?;
    }
    transaction.pragma_update(None, "user_version", i64::try_from(MIGRATIONS.len())?)?;
    begun::settle(&transaction)?;
    let key = meta::settle(&transaction, opening)?;
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
        saturating_add(self.wall, self.began.elapsed())
    }

    #[expect(clippy::disallowed_methods, reason = "how long a process has known something")]
    fn monotonic(&self) -> Instant {
        Instant::now()
    }
}

/// What the ledger's thread has.
struct Server {
    connection: Connection,
    witness: Witness,
    lease_scope: LeaseScope,
    retention: i64,
    caution: CautionClock,
    clock: SteadyClock,
    time: StoreTime,
    /// Last: it is closed after SQLite has closed the database.
    file: LedgerFile,
}

impl Server {
    fn serve(mut self, mut inbox: tokio::sync::mpsc::Receiver<Request>) {
        let mut batch = Vec::with_capacity(BATCH);
        while inbox.blocking_recv_many(&mut batch, BATCH) > 0 {
            let mut work = Work::of(batch.drain(..));
            // Looked at once more after the commit: the file may have gone meanwhile.
            let committed = self.file.check().and_then(|()| {
                let committed = self.commit(&mut work);
                committed.map_err(|error| Error::Store(error.to_string()))?;
                self.file.check()
            });
            work.answer(&committed);
        }
    }

    /// Where it fails, what is left of the work was not dealt with.
    fn commit(&mut self, work: &mut Work) -> rusqlite::Result<()> {
        let (wall, monotonic) = (self.clock.now(), self.clock.monotonic());
        let now = self.time.or(wall);
        let oldest = wall.as_millisecond().saturating_sub(self.retention);
        let Self { connection, witness, lease_scope, caution, .. } = self;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut glance = meta::glance(&transaction, oldest)?;
        let mut has_changed = witness.misses(glance.commits);
        if has_changed {
            meta::change(&transaction, Change::Forget)?;
            glance = meta::glance(&transaction, oldest)?;
        }
        let caution = caution.caution(glance.lacks, monotonic);
        let circumstances = Circumstances { lease_scope: *lease_scope, caution, now };
        let mut store = Store::new(&transaction)?;
        let missed = work.apply(&mut store, circumstances)?;
        work.keep_up(&mut store, witness, circumstances)?;
        has_changed |= store.has_changed();
        if !missed.is_empty() {
            witness.missed(&missed);
            meta::change(&transaction, Change::Forget)?;
        }
        if has_changed {
            meta::count(&transaction)?;
        }
        transaction.commit()?;
        witness.committed(glance.commits + u64::from(has_changed));
        Ok(())
    }
}
