#![doc = include_str!("../README.md")]

#[cfg(test)]
mod checker;
mod claim;
mod memory;
mod meta;
#[cfg(test)]
pub mod model;
mod postgres;
mod rules;
mod show;
mod sqlite;

use std::sync::Arc;
use std::time::Duration;

use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::Timestamp;
use sha2::Sha256;
use tokio::sync::{mpsc, oneshot, watch};

use claim::Asked;
pub use claim::{
    BacklogCounts, Claim, ClaimRequest, ClaimedCommand, LeaseStatus, Open, OpenState, Stranded,
    Waited,
};
use eko_connect::credential::Credential;
use eko_connect::pem::TlsFiles;
use eko_core::event::Event;
use eko_core::history::History;
use meta::Change;
pub use meta::{Identity, Meta, Opening, Overview};
pub use postgres::{Address, Server, TLS_SETTINGS, check_tls};
use rules::Finished;
pub use show::show;

/// How many requests may wait for a commit before callers wait to hand theirs in.
const QUEUE: usize = 4096;

/// Where the ledger is kept.
#[derive(Clone, Debug)]
pub enum Settings {
    /// A file of the worker's own, created if missing.
    Sqlite {
        /// Its path.
        path: std::path::PathBuf,
    },
    /// A database that several workers share.
    Postgres(Server),
    /// None, to measure what one costs.
    Memory,
}

impl Settings {
    /// Reads `LEDGER_URL`; what is wrong with it is told without repeating it.
    pub fn read(url: &str) -> Result<Self, String> {
        let wrong = "must be sqlite:// and a path, such as sqlite://eko-worker.db; or a URL such \
                     as postgres://user:password@host/database, with sslmode=disable, prefer, \
                     require, verify-ca or verify-full";
        let is_postgres = ["postgres://", "postgresql://"].iter().any(|s| url.starts_with(s));
        match url.strip_prefix("sqlite://") {
            Some(path) if !path.is_empty() => Ok(Self::Sqlite { path: path.into() }),
            None if is_postgres => {
                let url = Credential::fixed(Address::read(url)?);
                Ok(Self::Postgres(Server { url, tls: TlsFiles::none(TLS_SETTINGS) }))
            }
            _ => Err(wrong.to_owned()),
        }
    }

    /// Whether TLS is tried on the way to it.
    pub fn has_tls(&self) -> bool {
        matches!(self, Self::Postgres(server) if server.url.value().has_tls())
    }

    /// The URL, where it stands in a file that can be read again.
    pub fn url_in_file(&self) -> Option<&Credential<Address>> {
        match self {
            Self::Postgres(server) => Some(&server.url).filter(|url| url.is_in_file()),
            _ => None,
        }
    }

    /// Which store it is, and whom it can serve.
    pub const fn store(&self) -> &'static str {
        match self {
            Self::Sqlite { .. } => "SQLite, which serves one worker; several need postgres://",
            Self::Postgres(_) => "PostgreSQL, which serves several workers",
            Self::Memory => "memory, which forgets",
        }
    }
}

/// Why the ledger could not be asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The store refused: full disk, damaged file, lost server.
    #[error("the ledger's store failed: {0}")]
    Store(String),
    /// The server cannot be reached, or is not ready.
    #[error("the ledger's server is not available: {0}")]
    Away(String),
    /// Its file cannot be used now, for a reason that may pass: a full disk, somebody else's lock.
    #[error("the ledger's file cannot be used yet: {0}")]
    NotYet(String),
    /// The server does not let us in, by what `LEDGER_URL` says.
    #[error("the ledger's server refuses the worker: {0}")]
    Refused(String),
    /// It was reached and cannot be a ledger.
    #[error("the ledger's database cannot be used: {0}")]
    Unfit(String),
    /// Another worker has it.
    #[error("{0}")]
    InUse(String),
    /// The store's thread has ended.
    #[error("the ledger is closed")]
    Closed,
}

/// A request to the store, and where its answer goes.
enum Request {
    Claim { request: Box<ClaimRequest>, token: u64, reply: Reply<Claim> },
    Write { write: Box<Write>, reply: Reply<LeaseStatus> },
    Parked { id: String, parked: u32 },
    Told { id: String },
    Stranded { most: u32, reply: Reply<Stranded> },
    BacklogCounts { reply: Reply<BacklogCounts> },
    Prune { before: Timestamp, most: u32, reply: Reply<u32> },
    Probe { reply: Reply<()> },
    Meta { change: Change, reply: Reply<Meta> },
}

type Reply<T> = oneshot::Sender<Result<T, Error>>;

/// Answers that are sent once the commit they share is safe, or has failed.
type Answers = Vec<Box<dyn FnOnce(Option<&Error>) + Send>>;

fn defer<T: Send + 'static>(answers: &mut Answers, reply: Reply<T>, result: Result<T, Error>) {
    answers.push(Box::new(move |error| {
        let result = error.map_or(result, |error| Err(error.clone()));
        // Whoever asked may have gone meanwhile: the process is stopping.
        drop(reply.send(result));
    }));
}

impl Request {
    /// Whether it is about no command of its own.
    const fn is_upkeep(&self) -> bool {
        matches!(
            self,
            Self::BacklogCounts { .. }
                | Self::Stranded { .. }
                | Self::Prune { .. }
                | Self::Probe { .. }
                | Self::Meta { .. }
        )
    }

    /// Answers that it could not be dealt with; whoever asked may have gone meanwhile.
    fn fail(self, error: &Error) {
        match self {
            Self::Claim { reply, .. } => drop(reply.send(Err(error.clone()))),
            Self::Write { reply, .. } => drop(reply.send(Err(error.clone()))),
            Self::Parked { .. } | Self::Told { .. } => {}
            Self::Stranded { reply, .. } => drop(reply.send(Err(error.clone()))),
            Self::BacklogCounts { reply } => drop(reply.send(Err(error.clone()))),
            Self::Prune { reply, .. } => drop(reply.send(Err(error.clone()))),
            Self::Probe { reply } => drop(reply.send(Err(error.clone()))),
            Self::Meta { reply, .. } => drop(reply.send(Err(error.clone()))),
        }
    }
}

/// A write about a claimed command.
#[derive(Clone, Debug)]
struct Write {
    id: String,
    token: u64,
    history: History,
    asked: Arc<Asked>,
    parked: u32,
    interruptions: u32,
    is_kept: bool,
    transition: Transition,
}

impl Write {
    fn of(claimed: ClaimedCommand, transition: Transition) -> Self {
        let ClaimedCommand { id, history, parked, interruptions, token, asked, is_kept } = claimed;
        Self { id, token, history, asked, parked, interruptions, is_kept, transition }
    }
}

/// What follows a write.
#[derive(Clone, Debug)]
enum Transition {
    /// An attempt or an inquiry: the claim lasts that much longer.
    Call { lease: Duration },
    /// Parking: the claim ends.
    Wait { delay: Duration, unsettled: bool },
    /// The end.
    Finish { end: Finished, is_untold: bool },
}

/// A store's own time, which tests may set.
#[derive(Clone, Debug, Default)]
struct StoreTime {
    #[cfg(test)]
    milliseconds: Arc<std::sync::atomic::AtomicI64>,
}

impl StoreTime {
    /// The time that was set, else the store's own.
    fn or(&self, own: Timestamp) -> Timestamp {
        #[cfg(test)]
        if let milliseconds @ 1.. = self.milliseconds.load(std::sync::atomic::Ordering::Relaxed) {
            return Timestamp::from_millisecond(milliseconds).unwrap();
        }
        own
    }
}

/// What a store serves: who asks, and what time it is.
type Inbox = (mpsc::Receiver<Request>, StoreTime);

/// A handle on the ledger.
#[derive(Clone)]
pub struct Ledger {
    requests: mpsc::Sender<Request>,
    digest_key: Arc<Hmac<Sha256>>,
    epoch: u64,
    identity: Arc<Identity>,
    regressions: watch::Receiver<u64>,
    #[cfg(test)]
    time: StoreTime,
}

/// A store that is open.
struct Opened {
    digest_key: Vec<u8>,
    identity: Identity,
    regressions: watch::Receiver<u64>,
}

impl Ledger {
    /// Opens the ledger and creates it if it is missing.
    ///
    /// # Errors
    /// Where the store cannot be opened, is damaged, is newer than this program or is in use.
    pub async fn open(settings: &Settings, opening: &Opening) -> anyhow::Result<Self> {
        let epoch = u64::from(opening.epoch) << 32;
        let (requests, inbox) = mpsc::channel(QUEUE);
        let time = StoreTime::default();
        let opened = match settings {
            Settings::Sqlite { path } => sqlite::open(path, opening, (inbox, time.clone()))?,
            Settings::Postgres(server) => {
                postgres::open(server, opening, (inbox, time.clone())).await?
            }
            Settings::Memory => memory::open(opening, inbox),
        };
        let Opened { digest_key, identity, regressions } = opened;
        let digest_key = Hmac::new_from_slice(&digest_key)
            .map_err(|_| anyhow::anyhow!("the ledger's digest key is damaged"))?;
        let (digest_key, identity) = (Arc::new(digest_key), Arc::new(identity));
        Ok(Self {
            requests,
            digest_key,
            epoch,
            identity,
            regressions,
            #[cfg(test)]
            time,
        })
    }

    /// Looks at a ledger without changing it, also beside a running worker.
    ///
    /// # Errors
    /// Where it is missing or cannot be read.
    pub async fn look(settings: &Settings) -> anyhow::Result<Overview> {
        match settings {
            Settings::Sqlite { path } => sqlite::look(path),
            Settings::Postgres(server) => postgres::look(server).await,
            Settings::Memory => anyhow::bail!("a ledger in memory cannot be shown"),
        }
    }

    /// A digest that only this ledger can make: 32 hex digits.
    pub fn digest(&self, bytes: &[u8]) -> String {
        let mut mac = (*self.digest_key).clone();
        mac.update(bytes);
        let digest = mac.finalize().into_bytes();
        let half = digest.first_chunk().map_or(0, |half| u128::from_be_bytes(*half));
        format!("{half:032x}")
    }

    /// Claims a command. `random` tells this claim from all others of this process.
    pub async fn claim(&self, request: ClaimRequest, random: u32) -> Result<Claim, Error> {
        let token = self.epoch | u64::from(random);
        self.request(|reply| Request::Claim { request: Box::new(request), token, reply }).await
    }

    /// Records that a call begins; the claim lasts for another `lease`.
    pub async fn begin(
        &self,
        claimed: &ClaimedCommand,
        lease: Duration,
    ) -> Result<LeaseStatus, Error> {
        self.write(claimed.clone(), Transition::Call { lease }).await
    }

    /// Records what is known so far, and that the command is due again after a `delay`.
    pub async fn note(
        &self,
        claimed: &ClaimedCommand,
        delay: Duration,
        unsettled: bool,
    ) -> Result<LeaseStatus, Error> {
        self.write(claimed.clone(), Transition::Wait { delay, unsettled }).await
    }

    /// Records how it ended; with `is_untold`, until [`Self::told`], that something has to follow
    /// whoever sees it next.
    pub async fn finish(
        &self,
        claimed: ClaimedCommand,
        event: &Event,
        is_untold: bool,
    ) -> Result<LeaseStatus, Error> {
        self.write(claimed, Transition::Finish { end: Finished::by(event), is_untold }).await
    }

    /// Records that what follows from an end was done. Nothing waits for it: without it that is
    /// done once more.
    pub async fn told(&self, id: &str) -> Result<(), Error> {
        let request = Request::Told { id: id.to_owned() };
        self.requests.send(request).await.map_err(|_| Error::Closed)
    }

    /// What nobody works on, oldest first, at most so many of each.
    pub async fn stranded(&self, most: u32) -> Result<Stranded, Error> {
        self.request(|reply| Request::Stranded { most, reply }).await
    }

    /// Records that the `parked`th copy is safe in the broker, so that older ones can be
    /// dropped. Nothing waits for it: without it they are parked once more.
    pub async fn parked(&self, id: &str, parked: u32) -> Result<(), Error> {
        let request = Request::Parked { id: id.to_owned(), parked };
        self.requests.send(request).await.map_err(|_| Error::Closed)
    }

    /// What waits now.
    pub async fn backlog_counts(&self) -> Result<BacklogCounts, Error> {
        self.request(|reply| Request::BacklogCounts { reply }).await
    }

    /// Forgets at most `most` commands that finished before a time; tells how many.
    pub async fn prune(&self, before: Timestamp, most: u32) -> Result<u32, Error> {
        self.request(|reply| Request::Prune { before, most, reply }).await
    }

    /// Writes something that changes nothing: whether the ledger can be written again.
    pub async fn probe(&self) -> Result<(), Error> {
        self.request(|reply| Request::Probe { reply }).await
    }

    async fn write(
        &self,
        claimed: ClaimedCommand,
        transition: Transition,
    ) -> Result<LeaseStatus, Error> {
        let write = Write::of(claimed, transition);
        self.request(|reply| Request::Write { write: Box::new(write), reply }).await
    }

    async fn request<T>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(request(reply)).await.map_err(|_| Error::Closed)?;
        answer.await.map_err(|_| Error::Closed)?
    }
}

#[cfg(test)]
mod tests;
