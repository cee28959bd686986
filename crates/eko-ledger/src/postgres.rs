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
mod loaded;
mod meta;
mod operator;
mod pooled;
mod rows;
mod schema;
mod slots;
mod statements;
mod tls;
mod transactions;

use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio_postgres::Client;

use super::meta::{CautionClock, Change, Witness};
use super::request::{Answers, CommandRequest, Request, UpkeepRequest, by_subject};
use super::row::Row;
use super::rules::{Caution, Circumstances, LeaseScope};
use super::unit_of_work::UnitOfWork;
use super::unsettled::Found;
use super::{Error, Identity, Inbox, Opened, Opening, Overview, StoreTime};
pub use address::Address;
use eko_connect::credential::Credential;
use eko_connect::pem::TlsFiles;
use eko_core::history::SuspicionReason;
use link::{ConnectionError, Link};
use loaded::{Loaded, Subjects};
pub(super) use meta::NOW;
pub(super) use operator::OperatorStore;
use slots::take_slots;
pub use tls::{TLS_SETTINGS, check_tls};
use transactions::{
    Settled, backlog_counts, commit, is_empty, load, operator_pauses, own_commits, probe, promise,
    prune, prune_audit, read_meta, stranded,
};

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

/// The refunds that may have been executed, as far as that is known.
pub(super) async fn unsettled(server: &Server) -> anyhow::Result<Found> {
    let mut link = Link::new(server.clone());
    let (client, ..) = open_to_read(&mut link).await?;
    Ok(rows::unsettled(&client).await.map_err(|error| link.told(&error))?)
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
            let (commands, upkeep) = by_subject(batch.drain(..));
            if !commands.is_empty() {
                self.settle_all(commands).await;
            }
            for request in upkeep {
                self.keep_up(request).await;
            }
        }
    }

    /// Deals with a batch. What it lacks a lock for comes in a transaction of its own.
    async fn settle_all(&mut self, batch: Vec<CommandRequest>) {
        let subjects = Subjects::of(&batch);
        let left = self.settle(batch, &subjects).await;
        if !left.is_empty() {
            let subjects = Subjects::with_tids(&left);
            self.settle(left, &subjects).await;
        }
    }

    /// Deals with a batch and answers it once it is committed. Gives back what it lacks a lock for.
    async fn settle(
        &mut self,
        batch: Vec<CommandRequest>,
        subjects: &Subjects,
    ) -> Vec<CommandRequest> {
        let (mut rows, mut circumstances, counter) = match self.load(subjects).await {
            Ok(loaded) => loaded,
            Err(error) => {
                batch.into_iter().for_each(|request| request.fail(&error));
                return Vec::new();
            }
        };
        let has_regressed = self.witness.misses(counter);
        if has_regressed {
            circumstances.caution = Some(Caution::began_now(SuspicionReason::LedgerForgot));
            // Said once: how many there are of all is seen anew.
            self.witness.saw_all(0);
        }
        let (batch, left): (Vec<_>, Vec<_>) =
            batch.into_iter().partition(|request| subjects.cover(request, &rows));
        let mut answers = Answers::new();
        let mut unit = UnitOfWork::new(&mut rows, circumstances);
        for request in batch {
            let Ok(()) = unit.apply(request, &mut answers);
        }
        let missed = unit.missed;
        if !missed.is_empty() {
            self.witness.missed(&missed);
        }
        let settled = Settled { rows, has_forgotten: has_regressed || !missed.is_empty() };
        // Once the commit has left, an error says that nobody knows whether it stands: those who
        // wait get the error, and their deliveries come again to what the ledger says then.
        let worker = self.worker;
        let committed = self.link.once(|session| commit(session, &settled, worker)).await;
        if let Ok(commits) = &committed {
            self.witness.committed(counter + commits);
        }
        for answer in answers {
            answer(committed.as_ref().err());
        }
        left
    }

    /// Loads what a batch is about, what its claims depend on besides, and how often this worker has
    /// committed.
    async fn load(&mut self, subjects: &Subjects) -> Result<(Loaded, Circumstances, u64), Error> {
        let (worker, retention) = (self.worker, self.retention);
        let loaded = self.link.retry(|session| load(session, subjects, worker, retention)).await;
        let (rows, glance) = loaded?;
        let now = self.time.or(rows::time(glance.now)?);
        let caution = self.caution.caution(glance.lacks, monotonic());
        let circumstances = Circumstances { lease_scope: LeaseScope::Shared, caution, now };
        Ok((Loaded::new(rows), circumstances, glance.commits))
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
    async fn keep_up(&mut self, request: UpkeepRequest) {
        let (worker, link) = (self.worker, &mut self.link);
        match request {
            UpkeepRequest::BacklogCounts { reply } => {
                let backlog_counts = link.retry(backlog_counts).await;
                // Whoever asked may have gone meanwhile.
                drop(reply.send(backlog_counts));
            }
            UpkeepRequest::Prune { before, most, reply } => {
                let forgotten = link.retry(|session| prune(session, before, most)).await;
                drop(reply.send(forgotten));
            }
            UpkeepRequest::Stranded { most, reply } => {
                let stranded = link.retry(|session| stranded(session, most)).await;
                drop(reply.send(stranded));
            }
            UpkeepRequest::OperatorPauses { reply } => {
                drop(reply.send(link.retry(operator_pauses).await));
            }
            UpkeepRequest::PruneAudit { before, most, reply } => {
                let forgotten = link.retry(|session| prune_audit(session, before, most)).await;
                drop(reply.send(forgotten));
            }
            UpkeepRequest::Probe { reply } => drop(reply.send(link.retry(probe).await)),
            UpkeepRequest::Meta { change, reply } => {
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
            UpkeepRequest::TakeSlots { request, reply } => {
                let taken = link.retry(|session| take_slots(session, &request)).await;
                drop(reply.send(taken));
            }
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "how long a process has known something")]
fn monotonic() -> Instant {
    Instant::now()
}
