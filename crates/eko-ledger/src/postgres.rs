//! The ledger for several workers: PostgreSQL over one connection that all requests share.
//!
//! A batch of requests is one transaction of two round trips. Its first statement takes an
//! advisory lock for each id and each refund's tid of the batch, in ascending order and all at
//! once, so that batches of several workers never wait for each other in a circle. Everybody
//! who writes about an id holds its lock, and everybody who begins a refund holds that of its
//! tid; under READ COMMITTED the statements after it see what the locks' earlier holders
//! committed. So the rules work on what is true until the commit, without row locks and
//! without a race to insert.

mod address;
mod connect;
mod home;
mod link;
mod meta;
mod pooled;
mod rows;
mod schema;
mod statements;
mod tls;
mod unit_of_work;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures_util::future::{join, join5};
use jiff::Timestamp;
use tokio_postgres::Client;

use super::meta::{CautionClock, Change, Meta, Witness};
use super::rules::{Circumstances, LeaseScope, Row};
use super::{
    Answers, BacklogCounts, Error, Identity, Inbox, Opened, Opening, Overview, Request, StoreTime,
    Stranded,
};
pub use address::Address;
use eko_connect::credential::Credential;
use eko_connect::pem::TlsFiles;
use link::{ConnectionError, Link, Session};
use meta::Glance;
pub use tls::{TLS_SETTINGS, check_tls};
use unit_of_work::{Subjects, UnitOfWork};

/// Before what makes a database no ledger.
const UNUSABLE: &str = "cannot use the ledger's database";

/// How many requests share a transaction at most. Each may need two locks, and a server of
/// default settings has room for some 6,400 in all.
const BATCH: usize = 256;

/// How long a batch may wait for the server, a new connection included: a delivery that waits
/// longer had better come again.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Where the server is, and how it is reached.
#[derive(Clone, Debug)]
pub struct Server {
    /// `LEDGER_URL`.
    pub url: Credential<Address>,
    /// Certificates, where `LEDGER_URL` asks for TLS.
    pub tls: TlsFiles,
}

/// Connects, brings the schema up to date and starts the connection's task. The digest key is the
/// first worker's, for all of them.
pub(super) async fn open(
    server: &Server,
    opening: &Opening,
    (inbox, time): Inbox,
) -> anyhow::Result<Opened> {
    let mut link = Link::new(server.clone());
    let client = connect(&mut link).await.context(UNUSABLE)?;
    let digest_key = schema::prepare(&client, link.address(), opening).await;
    let digest_key = digest_key.map_err(|error| link.told(&error)).context(UNUSABLE)?;
    drop(client);
    // A schema that fits and a connection that works are worth knowing before the first claim.
    let kept = link.retry(|session| read_meta(session, Change::Nothing)).await?;
    let promise = link.retry(promise).await?;
    let is_new = kept.commits == 0 && link.retry(is_empty).await?;
    let place = link.address().place();
    let (id, adopted) = (kept.id, kept.adopted);
    let (witness, regressions) = Witness::new();
    let worker = i64::from(opening.epoch);
    let retention = opening.retention_millis();
    let caution = CautionClock::default();
    let server = Running { link, witness, caution, worker, retention, time };
    tokio::spawn(server.serve(inbox));
    let identity = Identity { id, is_new, place, adopted, promise, serves_one: false };
    Ok(Opened { digest_key, identity, regressions })
}

/// What the ledger keeps about itself, without changing it.
pub(super) async fn look(server: &Server) -> anyhow::Result<Overview> {
    let mut link = Link::new(server.clone());
    let (client, applied, timeline) = open_to_read(&mut link).await?;
    let told = |error: ConnectionError| link.told(&error);
    let meta = meta::load(&client, applied, timeline.as_deref()).await.map_err(told)?;
    let promise = meta::promise(&client).await.map_err(told)?;
    Ok(Overview { place: link.address().place(), promise, meta })
}

/// What is known of one id, or of all commands of a tid.
pub(super) async fn find(server: &Server, what: &str) -> anyhow::Result<Vec<Row>> {
    let mut link = Link::new(server.clone());
    let (client, ..) = open_to_read(&mut link).await?;
    Ok(rows::find(&client, what).await.map_err(|error| link.told(&error))?)
}

/// A transaction on a ledger that is there, how many migrations it has seen, and the server's timeline.
async fn open_to_read(link: &mut Link) -> anyhow::Result<(Client, usize, Option<String>)> {
    let client = connect(link).await.context("cannot read the ledger's database")?;
    // Outside of the transaction: a server that does not tell would end it.
    let timeline = meta::timeline(&client).await.map(|(timeline, _)| timeline);
    let found = schema::find(&client, link.address()).await;
    let found = found.map_err(|error| link.told(&error))?;
    let found = found.context("the database holds no ledger")?;
    found.ensure_known()?;
    let begun = client.batch_execute(&link::begin(&found.schema)).await;
    begun.map_err(|error| link.told(&error.into()))?;
    Ok((client, found.applied, timeline))
}

async fn connect(link: &mut Link) -> Result<Client, Error> {
    match tokio::time::timeout(ANSWER_TIMEOUT, link.connect()).await {
        Ok(connected) => connected.map_err(|error| link.told(&error)),
        Err(_) => Err(link.late()),
    }
}

/// What the connection's task has.
struct Running {
    link: Link,
    witness: Witness,
    /// Whose commits it counts.
    worker: i64,
    retention: i64,
    caution: CautionClock,
    time: StoreTime,
}

impl Running {
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
            let circumstances = Circumstances { lease_scope: LeaseScope::Shared, caution, now };
            Ok((UnitOfWork::new(circumstances, rows), glance.commits))
        });
        let (mut unit, counter) = match loaded {
            Ok(loaded) => loaded,
            Err(error) => {
                batch.into_iter().for_each(|request| request.fail(&error));
                return Vec::new();
            }
        };
        unit.has_regressed = witness.misses(counter);
        if unit.has_regressed {
            unit.distrust();
            // Said once: how many there are of all is seen anew.
            witness.saw_all(0);
        }
        unit.writes_back = writes_back;
        let mut answers = Answers::new();
        for request in batch {
            unit.apply(request, &mut answers);
        }
        if !unit.missed.is_empty() {
            witness.missed(&unit.missed);
        }
        // Once the commit has left, an error says that nobody knows whether it stands: those who
        // wait get the error, and their deliveries come again to what the ledger says then.
        let committed = link.once(|session| commit(session, &unit, worker)).await;
        if let Ok(commits) = &committed {
            witness.committed(counter + commits);
        }
        for answer in answers {
            answer(committed.as_ref().err());
        }
        unit.take_gone()
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
            Request::BacklogCounts { reply } => {
                let backlog_counts = link.retry(backlog_counts).await;
                // Whoever asked may have gone meanwhile.
                drop(reply.send(backlog_counts));
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
) -> Result<(Vec<Row>, Glance), ConnectionError> {
    let (client, statements) = (&session.client, &session.statements);
    let locks = subjects.locks();
    let ids: Vec<&str> = subjects.ids.iter().map(String::as_str).collect();
    let tids: Vec<&str> = subjects.tids.iter().map(String::as_str).collect();
    let (begun, locked, known, refunds, glance) = join5(
        session.begin(),
        statements.lock.run(client, &[&locks]),
        statements.by_id.run(client, &[&ids]),
        statements.by_tid.run(client, &[&tids]),
        statements.glance.run(client, &[&worker, &retention, &session.promoted]),
    )
    .await;
    begun?;
    locked?;
    let (known, refunds, glance) = (known?, refunds?, meta::glance(&glance?, &session)?);
    // A row that comes twice counts as the later statement saw it.
    let rows: Result<Vec<Row>, Error> = known.iter().chain(&refunds).map(rows::read).collect();
    Ok((rows?, glance))
}

#[expect(clippy::disallowed_methods, reason = "how long a process has known something")]
fn monotonic() -> Instant {
    Instant::now()
}

/// Commits; how many commits that counts as.
async fn commit(
    session: Arc<Session>,
    unit: &UnitOfWork,
    worker: i64,
) -> Result<u64, ConnectionError> {
    let (client, statements) = (&session.client, &session.statements);
    let changed = unit.changed();
    if unit.has_forgotten() {
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

async fn read_meta(session: Arc<Session>, change: Change) -> Result<Meta, ConnectionError> {
    let read = async {
        meta::change(&session.client, change).await?;
        meta::load(&session.client, schema::NEWEST, session.timeline.as_deref()).await
    };
    session.transaction(read).await
}

async fn own_commits(session: Arc<Session>, worker: i64) -> Result<u64, ConnectionError> {
    session.transaction(meta::own_commits(&session.client, worker)).await
}

async fn promise(session: Arc<Session>) -> Result<String, ConnectionError> {
    session.transaction(meta::promise(&session.client)).await
}

async fn is_empty(session: Arc<Session>) -> Result<bool, ConnectionError> {
    let select = "SELECT NOT EXISTS (SELECT 1 FROM commands)";
    let selected = async { Ok(session.client.query_typed_one(select, &[]).await?.get(0)) };
    session.transaction(selected).await
}

async fn backlog_counts(session: Arc<Session>) -> Result<BacklogCounts, ConnectionError> {
    session.transaction(rows::backlog_counts(&session.client)).await
}

async fn stranded(session: Arc<Session>, most: u32) -> Result<Stranded, ConnectionError> {
    session.transaction(rows::stranded(&session.client, most)).await
}

async fn prune(
    session: Arc<Session>,
    before: Timestamp,
    most: u32,
) -> Result<u32, ConnectionError> {
    session.transaction(rows::prune(&session.client, before, most)).await
}

/// PostgreSQL writes a new version of the row although nothing in it changes.
async fn probe(session: Arc<Session>) -> Result<(), ConnectionError> {
    let update = "UPDATE meta SET digest_key = digest_key";
    session.transaction(async { Ok(session.client.batch_execute(update).await?) }).await
}
