//! The ledger: what was begun, what is known of it, and how it ended.
//!
//! The rules are here and in `rules.rs`, the same for every store; the stores only load,
//! write and commit. All that wait share a commit.

#[cfg(feature = "bench")]
pub(crate) mod bench;
#[cfg(feature = "memory-ledger")]
mod memory;
mod meta;
#[cfg(test)]
pub(crate) mod model;
mod postgres;
mod rules;
mod show;
mod sqlite;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::Timestamp;
use secrecy::SecretString;
use sha2::Sha256;
use tokio::sync::{mpsc, oneshot, watch};

use crate::event::Event;
use crate::history::History;
use crate::outcome::Receipt;
use meta::Change;
pub(crate) use meta::{Identity, Meta, Opening, Overview};
use rules::Finished;
pub(crate) use show::show;

/// How many requests may wait for a commit before callers wait to hand theirs in.
const QUEUE: usize = 4096;

/// Where the ledger is kept.
#[derive(Clone, Debug)]
pub(crate) enum Settings {
    /// A file of the worker's own, created if missing.
    Sqlite {
        /// Its path.
        path: std::path::PathBuf,
    },
    /// A database that several workers share.
    Postgres {
        /// Its URL.
        url: SecretString,
    },
    /// None, to measure what one costs.
    #[cfg(feature = "memory-ledger")]
    Memory,
}

impl Settings {
    /// Reads `LEDGER_URL`; what is wrong with it is told without repeating it.
    pub(crate) fn read(url: &str) -> Result<Self, String> {
        let wrong = "must be sqlite:// and a path such as sqlite://eko-worker.db, or such as \
                     postgres://user:password@host/database, with sslmode=disable, prefer or \
                     require";
        #[cfg(feature = "memory-ledger")]
        if url == "memory:" {
            return Ok(Self::Memory);
        }
        let is_postgres = ["postgres://", "postgresql://"].iter().any(|s| url.starts_with(s));
        match url.strip_prefix("sqlite://") {
            Some(path) if !path.is_empty() => Ok(Self::Sqlite { path: path.into() }),
            None if is_postgres && postgres::is_url(url) => Ok(Self::Postgres { url: url.into() }),
            _ => Err(wrong.to_owned()),
        }
    }

    /// Which store it is, and whom it can serve.
    pub(crate) const fn store(&self) -> &'static str {
        match self {
            Self::Sqlite { .. } => "SQLite, which serves one worker; several need postgres://",
            Self::Postgres { .. } => "PostgreSQL, which serves several workers",
            #[cfg(feature = "memory-ledger")]
            Self::Memory => "memory, which forgets",
        }
    }
}

/// Why the ledger could not be asked.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The store refused: full disk, damaged file, lost server.
    #[error("the ledger's store failed: {0}")]
    Store(String),
    /// The server cannot be reached, or is not ready.
    #[error("the ledger's server is away: {0}")]
    Away(String),
    /// The server does not let us in, by what `LEDGER_URL` says.
    #[error("the ledger's server refuses: {0}")]
    Refused(String),
    /// Another worker has it.
    #[error("{0}")]
    InUse(String),
    /// The store's thread has ended.
    #[error("the ledger is closed")]
    Closed,
}

/// A message that asks to be dealt with.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    /// The command's id, or what stands in for it.
    pub(crate) id: String,
    /// The kind's word; `unknown` where none could be read.
    pub(crate) kind: &'static str,
    /// The transaction, for a refund or its OTP.
    pub(crate) tid: Option<String>,
    /// The keyed digest of what is asked.
    pub(crate) digest: String,
    /// When it was received.
    pub(crate) now: Timestamp,
    /// How often a copy of it was parked, by its own header.
    pub(crate) parked: u32,
    /// Whether an attempt may have been made that this ledger knows nothing of, and when that
    /// one can have ended at the latest.
    pub(crate) suspect_until: Option<Timestamp>,
    /// Whether it wants an answer of its own, so that no copy of it may be dropped.
    pub(crate) has_reply_to: bool,
    /// Whether its first attempt may begin in the same write.
    pub(crate) may_begin: bool,
    /// How long the claim lasts.
    pub(crate) lease: Duration,
}

/// A claimed command: only whoever holds it may write about it.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    /// The command's id.
    pub(crate) id: String,
    /// What is known of it.
    pub(crate) history: History,
    /// How often it was parked.
    pub(crate) parked: u32,
    /// How many claims in a row the worker died over.
    pub(crate) interruptions: u32,
    token: u64,
    asked: Arc<Asked>,
}

/// What a command asks for, as its row keeps it: enough to write a row that was forgotten back.
#[derive(Clone, Debug)]
struct Asked {
    kind: String,
    tid: Option<String>,
    digest: String,
}

/// What the ledger says to a message.
#[derive(Clone, Debug)]
pub(crate) enum Claim {
    /// Seen for the first time. Where it may and nothing speaks against it, its first attempt
    /// has begun in the same write.
    Fresh(Case),
    /// Back from parking.
    Due(Case),
    /// The worker died over it: how its last attempt ended is not known.
    Interrupted(Case),
    /// A refund of a tid that another command has refunded: it succeeded, and this is what
    /// that one gave.
    Refunded(Case, Receipt),
    /// Somebody else has it, or another refund of its tid is not finished.
    Busy {
        /// When that claim ends at the latest, where it is known.
        until: Option<Timestamp>,
    },
    /// A copy that came before its time.
    Early {
        /// When it is due.
        due: Timestamp,
    },
    /// A copy that a later one has replaced.
    Stale,
    /// It has ended, and this is what was told.
    Finished(Box<Event>),
    /// The id belongs to a command that asks for something else.
    Conflict,
}

impl Claim {
    /// Whether it is the caller's to work on, so that a call may follow.
    pub(crate) const fn is_held(&self) -> bool {
        matches!(self, Self::Fresh(_) | Self::Due(_) | Self::Interrupted(_))
    }
}

/// Whether a write was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Held {
    /// It stands.
    Yes,
    /// The claim has gone to somebody else: nothing was written.
    Lost,
}

/// How many commands wait, for each kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Census {
    /// Those whose outcome is not known yet, and since when the oldest.
    pub(crate) unsettled: BTreeMap<String, (u32, Timestamp)>,
    /// Those that are parked.
    pub(crate) parked: BTreeMap<String, u32>,
}

/// A request to the store, and where its answer goes.
enum Request {
    Claim { ask: Box<Ask>, token: u64, reply: Reply<Claim> },
    Write { write: Box<Write>, reply: Reply<Held> },
    Parked { id: String, parked: u32 },
    Census { reply: Reply<Census> },
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
            Self::Census { .. } | Self::Prune { .. } | Self::Probe { .. } | Self::Meta { .. }
        )
    }

    /// Answers that it could not be dealt with; whoever asked may have gone meanwhile.
    fn fail(self, error: &Error) {
        match self {
            Self::Claim { reply, .. } => drop(reply.send(Err(error.clone()))),
            Self::Write { reply, .. } => drop(reply.send(Err(error.clone()))),
            Self::Parked { .. } => {}
            Self::Census { reply } => drop(reply.send(Err(error.clone()))),
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
    then: Then,
}

impl Write {
    fn of(case: Case, then: Then) -> Self {
        let Case { id, history, parked, interruptions, token, asked } = case;
        Self { id, token, history, asked, parked, interruptions, then }
    }
}

/// What follows a write.
#[derive(Clone, Debug)]
enum Then {
    /// An attempt: the claim goes on.
    Call { lease_until: Timestamp },
    /// Parking: the claim ends.
    Wait { due: Timestamp, unsettled: bool },
    /// The end.
    Finish(Finished),
}

/// A handle on the ledger.
#[derive(Clone)]
pub(crate) struct Ledger {
    requests: mpsc::Sender<Request>,
    digest_key: Arc<Hmac<Sha256>>,
    epoch: u64,
    identity: Arc<Identity>,
    regressions: watch::Receiver<u64>,
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
    pub(crate) async fn open(settings: &Settings, opening: &Opening) -> anyhow::Result<Self> {
        let epoch = u64::from(opening.epoch) << 32;
        let (requests, inbox) = mpsc::channel(QUEUE);
        let opened = match settings {
            Settings::Sqlite { path } => sqlite::open(path, opening, inbox)?,
            Settings::Postgres { url } => postgres::open(url, opening, inbox).await?,
            #[cfg(feature = "memory-ledger")]
            Settings::Memory => memory::open(opening, inbox),
        };
        let Opened { digest_key, identity, regressions } = opened;
        let digest_key = Hmac::new_from_slice(&digest_key)
            .map_err(|_| anyhow::anyhow!("the ledger's digest key is damaged"))?;
        let (digest_key, identity) = (Arc::new(digest_key), Arc::new(identity));
        Ok(Self { requests, digest_key, epoch, identity, regressions })
    }

    /// Looks at a ledger without changing it, also beside a running worker.
    ///
    /// # Errors
    /// Where it is missing or cannot be read.
    pub(crate) async fn look(settings: &Settings) -> anyhow::Result<Overview> {
        match settings {
            Settings::Sqlite { path } => sqlite::look(path),
            Settings::Postgres { url } => postgres::look(url).await,
            #[cfg(feature = "memory-ledger")]
            Settings::Memory => anyhow::bail!("a ledger in memory cannot be looked at"),
        }
    }

    /// A digest that only this ledger can make: 32 hex digits.
    pub(crate) fn digest(&self, bytes: &[u8]) -> String {
        let mut mac = (*self.digest_key).clone();
        mac.update(bytes);
        let digest = mac.finalize().into_bytes();
        let half = digest.first_chunk().map_or(0, |half| u128::from_be_bytes(*half));
        format!("{half:032x}")
    }

    /// Claims a command. `random` tells this claim from all others of this process.
    pub(crate) async fn claim(&self, ask: Ask, random: u32) -> Result<Claim, Error> {
        let token = self.epoch | u64::from(random);
        self.request(|reply| Request::Claim { ask: Box::new(ask), token, reply }).await
    }

    /// Records that an attempt begins; the claim lasts until `lease_until`.
    pub(crate) async fn begin(&self, case: &Case, lease_until: Timestamp) -> Result<Held, Error> {
        self.write(case.clone(), Then::Call { lease_until }).await
    }

    /// Records what is known so far, and that the command is due again at `due`.
    pub(crate) async fn note(
        &self,
        case: &Case,
        due: Timestamp,
        unsettled: bool,
    ) -> Result<Held, Error> {
        self.write(case.clone(), Then::Wait { due, unsettled }).await
    }

    /// Records how it ended.
    pub(crate) async fn finish(&self, case: Case, event: &Event) -> Result<Held, Error> {
        self.write(case, Then::Finish(Finished::by(event))).await
    }

    /// Records that the `parked`th copy is safe in the broker, so that older ones can be
    /// dropped. Nothing waits for it: without it they are parked once more.
    pub(crate) async fn parked(&self, id: &str, parked: u32) -> Result<(), Error> {
        let request = Request::Parked { id: id.to_owned(), parked };
        self.requests.send(request).await.map_err(|_| Error::Closed)
    }

    /// What waits now.
    pub(crate) async fn census(&self) -> Result<Census, Error> {
        self.request(|reply| Request::Census { reply }).await
    }

    /// Forgets at most `most` commands that finished before a time; tells how many.
    pub(crate) async fn prune(&self, before: Timestamp, most: u32) -> Result<u32, Error> {
        self.request(|reply| Request::Prune { before, most, reply }).await
    }

    /// Writes something that changes nothing: whether the ledger can be written again.
    pub(crate) async fn probe(&self) -> Result<(), Error> {
        self.request(|reply| Request::Probe { reply }).await
    }

    async fn write(&self, case: Case, then: Then) -> Result<Held, Error> {
        let write = Write::of(case, then);
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
