//! The ledger for several workers: PostgreSQL over one connection that all requests share.
//!
//! A batch of requests is one transaction of two round trips. Its first statement takes an
//! advisory lock for each id and each refund's tid of the batch, in ascending order and all at
//! once, so that batches of several workers never wait for each other in a circle. Everybody
//! who writes about an id holds its lock, and everybody who begins a refund holds that of its
//! tid; under READ COMMITTED the statements after it see what the locks' earlier holders
//! committed. So the rules work on what is true until the commit, without row locks and
//! without a race to insert.

mod book;
mod link;
mod meta;
mod rows;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures_util::future::{join, join5};
use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};
use tokio_postgres::{Client, Config};

use super::meta::{CautionClock, Change, Meta, Witness};
use super::rules::{Circumstances, Holders, Row};
use super::{
    Answers, Census, Error, Identity, Inbox, Opened, Opening, Overview, Request, StoreTime,
    Stranded,
};
use book::{Book, Subjects};
use link::{Link, Session, Trouble};
use meta::Glance;

/// Each migration once, in order; `schema_version` counts those that were applied.
const MIGRATIONS: [&str; 4] = [
    include_str!("../../migrations/postgres/0001_commands.sql"),
    include_str!("../../migrations/postgres/0002_hot.sql"),
    include_str!("../../migrations/postgres/0003_moments.sql"),
    include_str!("../../migrations/postgres/0004_memory.sql"),
];

/// How many requests share a transaction at most. Each may need two locks, and a server of
/// default settings has room for some 6,400 in all.
const BATCH: usize = 256;

/// How long a batch may wait for the server, a new connection included: a delivery that waits
/// longer had better come again.
const PATIENCE: Duration = Duration::from_secs(5);

/// The one advisory lock under which schema and digest key come about.
const MIGRATION_LOCK: i64 = 0x0065_6b6f_5f73_716c;

/// Whether a URL can be understood; what is wrong with it may hold its password.
pub(super) fn is_url(url: &str) -> bool {
    url.parse::<Config>().is_ok_and(|config| {
        !config.get_hosts().is_empty() && config.get_dbname().is_some_and(|name| !name.is_empty())
    })
}

/// Connects, brings the schema up to date and starts the connection's task. The digest key is the
/// first worker's, for all of them.
pub(super) async fn open(
    url: &SecretString,
    opening: &Opening,
    (inbox, time): Inbox,
) -> anyhow::Result<Opened> {
    let mut link = Link::new(config(url)?)?;
    let digest_key = prepare(&link, opening).await.context("cannot use the ledger's database")?;
    // A schema that fits and a connection that works are worth knowing before the first claim.
    let kept = link.retry(|session| read_meta(session, Change::Nothing)).await?;
    let promise = link.retry(promise).await?;
    let is_new = kept.commits == 0 && link.retry(is_empty).await?;
    let place = link.place();
    let (id, adopted) = (kept.id, kept.adopted);
    let (witness, regressions) = Witness::new();
    let worker = i64::from(opening.epoch);
    let retention = opening.retention_millis();
    let caution = CautionClock::default();
    let server = Server { link, witness, caution, worker, retention, time };
    tokio::spawn(server.serve(inbox));
    let identity = Identity { id, is_new, place, adopted, promise, serves_one: false };
    Ok(Opened { digest_key, identity, regressions })
}

/// Hosts and database of a URL, and nothing else of it.
pub(super) fn place(url: &SecretString) -> String {
    let link = config(url).and_then(Link::new);
    link.map_or_else(|_| "the database of LEDGER_URL".to_owned(), |link| link.place())
}

/// What the ledger keeps about itself, without changing it.
pub(super) async fn look(url: &SecretString) -> anyhow::Result<Overview> {
    let link = Link::new(config(url)?)?;
    let (client, applied) = open_to_read(&link).await?;
    let told = |trouble: Trouble| link.told(&trouble);
    let meta = meta::load(&client, applied).await.map_err(told)?;
    let promise = meta::promise(&client).await.map_err(told)?;
    Ok(Overview { place: link.place(), promise, meta })
}

/// What is known of one id, or of all commands of a tid.
pub(super) async fn find(url: &SecretString, what: &str) -> anyhow::Result<Vec<Row>> {
    let link = Link::new(config(url)?)?;
    let (client, _) = open_to_read(&link).await?;
    Ok(rows::find(&client, what).await.map_err(|trouble| link.told(&trouble))?)
}

/// A connection to a ledger that is there, and how many migrations it has seen.
async fn open_to_read(link: &Link) -> anyhow::Result<(Client, usize)> {
    let client = connect(link).await.context("cannot read the ledger's database")?;
    let has_schema: Result<_, tokio_postgres::Error> =
        client.query_one("SELECT to_regclass('schema_version') IS NOT NULL", &[]).await;
    let has_schema: bool = has_schema.map_err(|error| link.told(&error.into()))?.get(0);
    anyhow::ensure!(has_schema, "the database holds no ledger");
    let applied = applied(&client).await.map_err(|trouble| link.told(&trouble))?;
    ensure_known(applied)?;
    Ok((client, applied))
}

fn config(url: &SecretString) -> anyhow::Result<Config> {
    url.expose_secret().parse().map_err(|_| anyhow::anyhow!("the ledger's URL cannot be read"))
}

async fn connect(link: &Link) -> Result<Client, Error> {
    match tokio::time::timeout(PATIENCE, link.connect()).await {
        Ok(connected) => connected.map_err(|trouble| link.told(&trouble)),
        Err(_) => Err(link.late()),
    }
}

fn ensure_known(applied: usize) -> anyhow::Result<()> {
    anyhow::ensure!(
        applied <= MIGRATIONS.len(),
        "it was written by a newer version of this program (schema {applied})"
    );
    Ok(())
}

/// Applies what is missing of the schema, and settles the digest key.
async fn prepare(link: &Link, opening: &Opening) -> anyhow::Result<Vec<u8>> {
    let client = connect(link).await?;
    let version = begin_migration(&client).await.map_err(|trouble| link.told(&trouble))?;
    ensure_known(version)?;
    let key = migrate(&client, version, opening).await.map_err(|trouble| link.told(&trouble))?;
    Ok(key)
}

async fn begin_migration(client: &Client) -> Result<usize, Trouble> {
    client.batch_execute("BEGIN ISOLATION LEVEL READ COMMITTED").await?;
    client.execute("SELECT pg_advisory_xact_lock($1)", &[&MIGRATION_LOCK]).await?;
    let create = "CREATE TABLE IF NOT EXISTS schema_version (applied BIGINT NOT NULL)";
    client.batch_execute(create).await?;
    applied(client).await
}

async fn applied(client: &Client) -> Result<usize, Trouble> {
    let row = client.query_opt("SELECT applied FROM schema_version", &[]).await?;
    let applied: i64 = row.map_or(0, |row| row.get(0));
    Ok(usize::try_from(applied).unwrap_or(usize::MAX))
}

async fn migrate(client: &Client, version: usize, opening: &Opening) -> Result<Vec<u8>, Trouble> {
    for migration in MIGRATIONS.iter().skip(version) {
        client.batch_execute(migration).await?;
    }
    let applied = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    client.execute("DELETE FROM schema_version", &[]).await?;
    client.execute("INSERT INTO schema_version VALUES ($1)", &[&applied]).await?;
    let key = meta::settle(client, opening).await?;
    client.batch_execute("COMMIT").await?;
    Ok(key)
}

/// What the connection's task has.
struct Server {
    link: Link,
    witness: Witness,
    /// Whose commits it counts.
    worker: i64,
    retention: i64,
    caution: CautionClock,
    time: StoreTime,
}

impl Server {
    async fn serve(mut self, mut inbox: tokio::sync::mpsc::Receiver<Request>) {
        let mut batch = Vec::with_capacity(BATCH);
        while inbox.recv_many(&mut batch, BATCH).await > 0 {
            let is_upkeep = |request: &Request| request.is_upkeep();
            let (upkeep, claims): (Vec<_>, Vec<_>) = batch.drain(..).partition(is_upkeep);
            if !claims.is_empty() {
                let subjects = Subjects::of(&claims);
                let gone = self.settle(claims, &subjects, false).await;
                if !gone.is_empty() {
                    let subjects = Subjects::with_tids(&gone);
                    self.settle(gone, &subjects, true).await;
                }
            }
            for request in upkeep {
                self.maintain(request).await;
            }
        }
    }

    /// Deals with a batch and answers it once it is committed. Gives back the writes about claimed
    /// commands of which nothing is left, unless they are to be written back.
    async fn settle(
        &mut self,
        batch: Vec<Request>,
        subjects: &Subjects,
        writes_back: bool,
    ) -> Vec<Request> {
        let Self { link, witness, caution, worker, retention, time } = self;
        let (worker, retention) = (*worker, *retention);
        let loaded = link.retry(|session| load(session, subjects, worker, retention)).await;
        let loaded = loaded.and_then(|(rows, glance)| {
            let now = time.or(rows::time(glance.now)?);
            let caution = caution.caution(glance.lacks, monotonic());
            let circumstances = Circumstances { holders: Holders::Fleet, caution, now };
            Ok((Book::new(circumstances, rows), glance.commits))
        });
        let (mut book, counter) = match loaded {
            Ok(loaded) => loaded,
            Err(error) => {
                batch.into_iter().for_each(|request| request.fail(&error));
                return Vec::new();
            }
        };
        book.has_regressed = witness.misses(counter);
        if book.has_regressed {
            book.distrust();
            // Said once: how many there are of all is seen anew.
            witness.saw_all(0);
        }
        book.writes_back = writes_back;
        let mut answers = Answers::new();
        for request in batch {
            book.apply(request, &mut answers);
        }
        if !book.missed.is_empty() {
            witness.missed(&book.missed);
        }
        // Once the commit has left, an error says that nobody knows whether it stands: those who
        // wait get the error, and their deliveries come again to what the ledger says then.
        let committed = link.once(|session| commit(session, &book, worker)).await;
        if let Ok(commits) = &committed {
            witness.committed(counter + commits);
        }
        for answer in answers {
            answer(committed.as_ref().err());
        }
        book.take_gone()
    }

    /// Whether commits are missing, of this worker or of another one.
    async fn compare(&mut self, own: u64, all: u64) {
        if !self.witness.misses(own) && !self.witness.misses_of_all(all) {
            return self.witness.saw_all(all);
        }
        let noted = self.link.retry(|session| read_meta(session, Change::Forget)).await;
        // Where that could not be written, the next look finds it again.
        if noted.is_ok() {
            self.witness.committed(own);
            self.witness.saw_all(all);
        }
    }

    /// What needs no claim, on its own.
    async fn maintain(&mut self, request: Request) {
        let (worker, link) = (self.worker, &mut self.link);
        match request {
            Request::Census { reply } => {
                let census = link.retry(census).await;
                // Whoever asked may have gone meanwhile.
                drop(reply.send(census));
            }
            Request::Prune { before, most, reply } => {
                let forgotten = link.retry(|session| prune(session, before, most)).await;
                drop(reply.send(forgotten));
            }
            Request::Stranded { most, reply } => {
                let stranded = link.retry(|session| stranded(session, most)).await;
                drop(reply.send(stranded));
            }
            Request::Probe { reply } => drop(reply.send(link.retry(probe).await)),
            Request::Meta { change, reply } => {
                if change == Change::Forget {
                    self.witness.count();
                }
                // Each change may be made twice.
                let told = link.retry(|session| read_meta(session, change)).await;
                let own = match &told {
                    Ok(_) => link.retry(|session| own_commits(session, worker)).await,
                    Err(error) => Err(error.clone()),
                };
                if let (Ok(told), Ok(own)) = (&told, own) {
                    self.compare(own, told.commits).await;
                }
                drop(reply.send(told));
            }
            claim => claim.fail(&Error::Closed),
        }
    }
}

/// Takes the locks, then loads what they guard, and how often this worker has committed. The
/// statements leave together, in the order in which `join5` polls them first, and the server runs
/// them one after the other, each with a snapshot of its own.
async fn load(
    session: Arc<Session>,
    subjects: &Subjects,
    worker: i64,
    retention: i64,
) -> Result<(Vec<Row>, Glance), Trouble> {
    let (client, statements) = (&session.client, &session.statements);
    let locks = subjects.locks();
    let ids: Vec<&str> = subjects.ids.iter().map(String::as_str).collect();
    let tids: Vec<&str> = subjects.tids.iter().map(String::as_str).collect();
    let (begun, locked, known, refunds, glance) = join5(
        // A snapshot of the whole transaction would be older than its locks.
        client.batch_execute("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"),
        client.execute(&statements.lock, &[&locks]),
        client.query(&statements.by_id, &[&ids]),
        client.query(&statements.by_tid, &[&tids]),
        client.query_one(&statements.glance, &[&worker, &retention, &session.promoted]),
    )
    .await;
    begun?;
    locked?;
    let (known, refunds, glance) = (known?, refunds?, meta::glance(&glance?));
    // A row that comes twice counts as the later statement saw it.
    let rows: Result<Vec<Row>, Error> = known.iter().chain(&refunds).map(rows::read).collect();
    Ok((rows?, glance))
}

#[expect(clippy::disallowed_methods, reason = "how long a process has known something")]
fn monotonic() -> Instant {
    Instant::now()
}

/// Commits; how many commits that counts as.
async fn commit(session: Arc<Session>, book: &Book, worker: i64) -> Result<u64, Trouble> {
    let (client, statements) = (&session.client, &session.statements);
    let changed = book.changed();
    if book.has_forgotten() {
        meta::change(client, Change::Forget).await?;
    } else if changed.is_empty() {
        client.batch_execute("COMMIT").await?;
        return Ok(0);
    }
    let write = rows::upsert(client, &statements.upsert, &changed, worker);
    let (written, committed) = join(write, client.batch_execute("COMMIT")).await;
    // The commit of a transaction whose write failed "succeeds" as a rollback.
    written?;
    committed?;
    Ok(1)
}

async fn read_meta(session: Arc<Session>, change: Change) -> Result<Meta, Trouble> {
    meta::change(&session.client, change).await?;
    meta::load(&session.client, MIGRATIONS.len()).await
}

async fn own_commits(session: Arc<Session>, worker: i64) -> Result<u64, Trouble> {
    meta::own_commits(&session.client, worker).await
}

async fn promise(session: Arc<Session>) -> Result<String, Trouble> {
    meta::promise(&session.client).await
}

async fn is_empty(session: Arc<Session>) -> Result<bool, Trouble> {
    let select = "SELECT NOT EXISTS (SELECT 1 FROM commands)";
    Ok(session.client.query_one(select, &[]).await?.get(0))
}

async fn census(session: Arc<Session>) -> Result<Census, Trouble> {
    rows::census(&session.client).await
}

async fn stranded(session: Arc<Session>, most: u32) -> Result<Stranded, Trouble> {
    rows::stranded(&session.client, most).await
}

async fn prune(session: Arc<Session>, before: Timestamp, most: u32) -> Result<u32, Trouble> {
    rows::prune(&session.client, before, most).await
}

/// PostgreSQL writes a new version of the row although nothing in it changes.
async fn probe(session: Arc<Session>) -> Result<(), Trouble> {
    Ok(session.client.batch_execute("UPDATE meta SET digest_key = digest_key").await?)
}
