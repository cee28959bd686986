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
mod rows;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::future::{join, join5, ready};
use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};
use tokio_postgres::{Client, Config};

use super::rules::{Circumstances, Holders, Row};
use super::{Answers, Census, Error, Inbox, Request, StoreTime, Stranded};
use book::{Book, Subjects};
use link::{Link, Session, Trouble};

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

/// Connects, brings the schema up to date, starts the connection's task and returns the
/// ledger's digest key: the first worker's, for all of them.
pub(super) async fn open(
    url: &SecretString,
    new_key: [u8; 32],
    inbox: Inbox,
) -> anyhow::Result<Vec<u8>> {
    let mut link = Link::new(config(url)?)?;
    let digest_key = prepare(&link, &new_key).await.context("cannot use the ledger's database")?;
    // A schema that fits and a connection that works are worth knowing before the first claim.
    link.retry(|_| ready(Ok(()))).await?;
    tokio::spawn(serve(link, inbox));
    Ok(digest_key)
}

/// What is known of one id, or of all commands of a tid.
pub(super) async fn find(url: &SecretString, what: &str) -> anyhow::Result<Vec<Row>> {
    let link = Link::new(config(url)?)?;
    let client = connect(&link).await.context("cannot read the ledger's database")?;
    let has_schema: Result<_, tokio_postgres::Error> =
        client.query_one("SELECT to_regclass('schema_version') IS NOT NULL", &[]).await;
    let has_schema: bool = has_schema.map_err(|error| link.told(&error.into()))?.get(0);
    anyhow::ensure!(has_schema, "the database holds no ledger");
    let applied = applied(&client).await.map_err(|trouble| link.told(&trouble))?;
    ensure_known(applied)?;
    Ok(rows::find(&client, what).await.map_err(|trouble| link.told(&trouble))?)
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
async fn prepare(link: &Link, new_key: &[u8]) -> anyhow::Result<Vec<u8>> {
    let client = connect(link).await?;
    let version = begin_migration(&client).await.map_err(|trouble| link.told(&trouble))?;
    ensure_known(version)?;
    let key = migrate(&client, version, new_key).await.map_err(|trouble| link.told(&trouble))?;
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

async fn migrate(client: &Client, version: usize, new_key: &[u8]) -> Result<Vec<u8>, Trouble> {
    for migration in MIGRATIONS.iter().skip(version) {
        client.batch_execute(migration).await?;
    }
    let applied = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    client.execute("DELETE FROM schema_version", &[]).await?;
    client.execute("INSERT INTO schema_version VALUES ($1)", &[&applied]).await?;
    let first_wins = "INSERT INTO meta (digest_key) SELECT $1 WHERE NOT EXISTS (TABLE meta)";
    client.execute(first_wins, &[&new_key]).await?;
    let key = client.query_one("SELECT digest_key FROM meta", &[]).await?.get(0);
    client.batch_execute("COMMIT").await?;
    Ok(key)
}

async fn serve(mut link: Link, (mut inbox, time): Inbox) {
    let mut batch = Vec::with_capacity(BATCH);
    while inbox.recv_many(&mut batch, BATCH).await > 0 {
        let is_upkeep = |request: &Request| request.is_upkeep();
        let (upkeep, claims): (Vec<_>, Vec<_>) = batch.drain(..).partition(is_upkeep);
        if !claims.is_empty() {
            settle(&mut link, claims, &time).await;
        }
        for request in upkeep {
            maintain(&mut link, request).await;
        }
    }
}

/// Deals with a batch and answers it once it is committed.
async fn settle(link: &mut Link, batch: Vec<Request>, time: &StoreTime) {
    let subjects = Subjects::of(&batch);
    let mut book = link.retry(|session| load(session, &subjects, time)).await;
    let mut answers = Answers::new();
    for request in batch {
        match &mut book {
            Ok(book) => book.apply(request, &mut answers),
            Err(error) => request.fail(error),
        }
    }
    let Ok(book) = book else {
        return;
    };
    // Once the commit has left, an error says that nobody knows whether it stands: those who
    // wait get the error, and their deliveries come again to what the ledger says then.
    let committed = link.once(|session| commit(session, &book)).await;
    for answer in answers {
        answer(committed.as_ref().err());
    }
}

/// Takes the locks, then loads what they guard. The statements leave together, in the order
/// in which `join5` polls them first, and the server runs them one after the other, each with
/// a snapshot of its own.
async fn load(
    session: Arc<Session>,
    subjects: &Subjects,
    time: &StoreTime,
) -> Result<Book, Trouble> {
    let (client, statements) = (&session.client, &session.statements);
    let locks = subjects.locks();
    let ids: Vec<&str> = subjects.ids.iter().map(String::as_str).collect();
    let tids: Vec<&str> = subjects.tids.iter().map(String::as_str).collect();
    let (begun, locked, now, known, refunds) = join5(
        // A snapshot of the whole transaction would be older than its locks.
        client.batch_execute("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"),
        client.execute(&statements.lock, &[&locks]),
        client.query_one(&statements.now, &[]),
        client.query(&statements.by_id, &[&ids]),
        client.query(&statements.by_tid, &[&tids]),
    )
    .await;
    begun?;
    locked?;
    let (known, refunds) = (known?, refunds?);
    // A row that comes twice counts as the later statement saw it.
    let rows: Result<Vec<Row>, Error> = known.iter().chain(&refunds).map(rows::read).collect();
    let now = time.or(rows::time(now?.get(0))?);
    let circumstances = Circumstances { holders: Holders::Fleet, now, caution: None };
    Ok(Book::new(circumstances, rows?))
}

async fn commit(session: Arc<Session>, book: &Book) -> Result<(), Trouble> {
    let client = &session.client;
    let changed = book.changed();
    if changed.is_empty() {
        return Ok(client.batch_execute("COMMIT").await?);
    }
    let write = rows::upsert(client, &session.statements.upsert, &changed);
    let (written, committed) = join(write, client.batch_execute("COMMIT")).await;
    // The commit of a transaction whose write failed "succeeds" as a rollback.
    written?;
    Ok(committed?)
}

/// What needs no claim, on its own.
async fn maintain(link: &mut Link, request: Request) {
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
        claim => claim.fail(&Error::Closed),
    }
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
