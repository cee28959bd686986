#![doc = include_str!("../README.md")]

#[cfg(test)]
mod checker;
mod claim;
mod memory;
mod meta;
#[cfg(test)]
pub mod model;
mod operator;
mod postgres;
mod request;
mod row;
mod row_index;
mod rules;
mod show;
mod slots;
mod sqlite;
mod unit_of_work;
mod unsettled;

use std::sync::Arc;
use std::time::Duration;

use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::Timestamp;
use sha2::Sha256;
use tokio::sync::{mpsc, oneshot, watch};

pub use claim::{
    BacklogCounts, Claim, ClaimRequest, ClaimedCommand, LeaseStatus, Open, OpenState, Stranded,
    Waited,
};
use eko_connect::credential::Credential;
use eko_connect::pem::TlsFiles;
use eko_core::event::Event;
pub use meta::{Identity, Meta, Opening, Overview};
pub use operator::{
    Action, ActionResult, AuditEntry, AuditFilter, Intent, OperatorLedger, OperatorPause,
};
pub use postgres::{Address, Server, TLS_SETTINGS, check_tls};
use request::{Claimant, CommandRequest, Reply, Request, Transition, UpkeepRequest, Write};
use row::Finished;
pub use show::show;
pub use slots::{SlotBlock, SlotRequest};
pub use unsettled::{LastReading, Unsettled, UnsettledRefund, UnsettledState, unsettled};

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
        let claimant = Box::new(Claimant { request, token });
        self.ask(|reply| CommandRequest::Claim { claimant, reply }).await
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
        self.send(Request::Command(CommandRequest::Told { id: id.to_owned() })).await
    }

    /// What nobody works on, oldest first, at most so many of each.
    pub async fn stranded(&self, most: u32) -> Result<Stranded, Error> {
        self.keep_up(|reply| UpkeepRequest::Stranded { most, reply }).await
    }

    /// Records that the `parked`th copy is safe in the broker, so that older ones can be
    /// dropped. Nothing waits for it: without it they are parked once more.
    pub async fn parked(&self, id: &str, parked: u32) -> Result<(), Error> {
        self.send(Request::Command(CommandRequest::Parked { id: id.to_owned(), parked })).await
    }

    /// What waits now.
    pub async fn backlog_counts(&self) -> Result<BacklogCounts, Error> {
        self.keep_up(|reply| UpkeepRequest::BacklogCounts { reply }).await
    }

    /// Forgets at most `most` commands that finished before a time; tells how many.
    pub async fn prune(&self, before: Timestamp, most: u32) -> Result<u32, Error> {
        self.keep_up(|reply| UpkeepRequest::Prune { before, most, reply }).await
    }

    /// Which kinds an operator has paused.
    pub async fn operator_pauses(&self) -> Result<Vec<OperatorPause>, Error> {
        self.keep_up(|reply| UpkeepRequest::OperatorPauses { reply }).await
    }

    /// Forgets at most `most` actions of people that began before a time; tells how many.
    pub async fn prune_audit(&self, before: Timestamp, most: u32) -> Result<u32, Error> {
        self.keep_up(|reply| UpkeepRequest::PruneAudit { before, most, reply }).await
    }

    /// Writes something that changes nothing: whether the ledger can be written again.
    pub async fn probe(&self) -> Result<(), Error> {
        self.keep_up(|reply| UpkeepRequest::Probe { reply }).await
    }

    async fn write(
        &self,
        claimed: ClaimedCommand,
        transition: Transition,
    ) -> Result<LeaseStatus, Error> {
        let write = Box::new(Write::of(claimed, transition));
        self.ask(|reply| CommandRequest::Write { write, reply }).await
    }

    async fn ask<T>(&self, request: impl FnOnce(Reply<T>) -> CommandRequest) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        self.send(Request::Command(request(reply))).await?;
        answer.await.map_err(|_| Error::Closed)?
    }

    async fn keep_up<T>(
        &self,
        request: impl FnOnce(Reply<T>) -> UpkeepRequest,
    ) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        self.send(Request::Upkeep(request(reply))).await?;
        answer.await.map_err(|_| Error::Closed)?
    }

    async fn send(&self, request: Request) -> Result<(), Error> {
        self.requests.send(request).await.map_err(|_| Error::Closed)
    }
}

#[cfg(test)]
mod tests;
