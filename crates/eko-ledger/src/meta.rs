//! What a ledger says of itself: which one it is, how often it has committed, and since when it
//! cannot be trusted to know every refund.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;

use super::request::UpkeepRequest;
use super::rules::Caution;
use super::{Error, Ledger, Settings};
use eko_core::history::SuspicionReason;

/// What opening a ledger needs besides its place.
#[derive(Clone, Copy, Debug)]
pub struct Opening {
    /// Drawn at random: tells this process's claims and commits from another one's.
    pub epoch: u32,
    /// Drawn at random: the digest key and the source of the id of a ledger that has none.
    pub new_key: [u8; 32],
    /// How long finished commands are kept. A ledger that has adopted a prefix or has forgotten
    /// commits is trusted again after that time: it knows by then all that a full one would know.
    pub retention: Duration,
}

impl Opening {
    /// The id of a ledger that has none: 32 hex digits.
    pub(super) fn new_id(&self) -> String {
        let digest = Sha256::new().chain_update("ledger id:").chain_update(self.new_key).finalize();
        let half = digest.first_chunk().map_or(0, |half| u128::from_be_bytes(*half));
        format!("{half:032x}")
    }

    /// The retention in milliseconds, as the stores compare it.
    pub(super) fn retention_millis(&self) -> i64 {
        i64::try_from(self.retention.as_millis()).unwrap_or(i64::MAX)
    }
}

/// Which ledger is open.
#[derive(Clone, Debug)]
pub struct Identity {
    /// 32 hex digits, drawn at random when the ledger was made.
    pub id: String,
    /// Whether it has never kept a command.
    pub is_new: bool,
    /// The full path of its file, or host and database: no secret.
    pub place: String,
    /// When it last took over a prefix from another ledger.
    pub adopted: Option<Timestamp>,
    /// What a commit waits for.
    pub promise: String,
    /// Whether the store serves one process, so that two workers of its id have copies of it.
    pub serves_one: bool,
}

/// What the ledger keeps about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// Its id; empty in a ledger of an older version that no worker has opened since.
    pub id: String,
    /// The migrations that were applied.
    pub schema: usize,
    /// How often it has committed.
    pub commits: u64,
    /// When it last took over a prefix from another ledger.
    pub adopted: Option<Timestamp>,
    /// When it was last noticed that it had lost commits.
    pub forgot: Option<Timestamp>,
    /// The timeline that PostgreSQL writes: each promotion of a standby begins a higher one. `None` where
    /// the store has none, or does not tell.
    pub timeline: Option<u32>,
}

/// A ledger as somebody sees it who only looks.
#[derive(Clone, Debug)]
pub struct Overview {
    /// The full path of its file, or host and database: no secret.
    pub place: String,
    /// What a commit waits for.
    pub promise: String,
    /// What it keeps about itself.
    pub meta: Meta,
}

/// What is to be changed about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Nothing: it is only read.
    Nothing,
    /// It takes over a prefix from another ledger, now.
    Adopt,
    /// It has lost commits, as somebody noticed now.
    Forget,
}

impl Settings {
    /// Whether the store serves one process.
    pub const fn serves_one(&self) -> bool {
        match self {
            Self::Sqlite { .. } => true,
            Self::Postgres(_) => false,
            Self::Memory => true,
        }
    }

    /// Where it is, also where it was not made yet: no secret.
    pub fn place(&self) -> String {
        match self {
            Self::Sqlite { path } => {
                std::path::absolute(path).as_ref().unwrap_or(path).display().to_string()
            }
            Self::Postgres(server) => server.url.value().place(),
            Self::Memory => "memory".to_owned(),
        }
    }
}

impl Ledger {
    /// Which ledger it is, as it was when it was opened.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Counts how often it was noticed that the ledger has lost commits.
    pub fn forgotten(&self) -> watch::Receiver<u64> {
        self.regressions.clone()
    }

    /// What it keeps about itself now.
    pub async fn meta(&self) -> Result<Meta, Error> {
        self.change(Change::Nothing).await
    }

    /// How often it has committed, over all workers that share it.
    #[cfg(test)]
    pub async fn commits(&self) -> Result<u64, Error> {
        Ok(self.meta().await?.commits)
    }

    /// Notes that it takes over a prefix from another ledger: what it does not know may have been
    /// attempted.
    pub async fn adopt(&self) -> Result<Meta, Error> {
        self.change(Change::Adopt).await
    }

    /// Notes that it has lost commits, as somebody else than the store has noticed.
    pub async fn forget(&self) -> Result<Meta, Error> {
        self.change(Change::Forget).await
    }

    async fn change(&self, change: Change) -> Result<Meta, Error> {
        self.keep_up(|reply| UpkeepRequest::Meta { change, reply }).await
    }
}

/// What a ledger says of the attempts that it may lack: when it took over, and when it was last
/// noticed that it had forgotten, each not longer than `LEDGER_RETENTION` ago by the store's clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Lacks {
    pub(super) adopted: Option<i64>,
    pub(super) forgot: Option<i64>,
}

impl Lacks {
    fn why(self) -> Option<SuspicionReason> {
        match (self.forgot, self.adopted) {
            (Some(_), _) => Some(SuspicionReason::LedgerForgot),
            (None, Some(_)) => Some(SuspicionReason::LedgerAdopted),
            (None, None) => None,
        }
    }
}

/// Whoever a ledger was taken from may go on calling for so long: it looks whose the queues are every
/// second, and its connections tell it when they are lost.
const UNAWARE: Duration = Duration::from_secs(60);

/// How long this process has known why the ledger may lack attempts, by a clock that only goes
/// forward: no attempt is lacking that began later.
#[derive(Debug, Default)]
pub(super) struct CautionClock {
    known: Option<(Lacks, Instant)>,
}

impl CautionClock {
    /// What holds now.
    pub(super) fn caution(&mut self, lacks: Lacks, now: Instant) -> Option<Caution> {
        let why = lacks.why()?;
        let since = match self.known {
            Some((known, since)) if known == lacks => since,
            Some(_) | None => now,
        };
        self.known = Some((lacks, since));
        let known_for = now.saturating_duration_since(since);
        Some(Caution { why, known_for, before: known_for.saturating_sub(UNAWARE) })
    }
}

/// What this process has seen the ledger commit.
pub(super) struct Witness {
    /// The highest counter whose commit was acknowledged.
    acknowledged: u64,
    /// The highest counter of all workers that was seen.
    seen_of_all: u64,
    regressions: watch::Sender<u64>,
}

impl Witness {
    /// A process that has seen nothing yet; the receiver counts what it notices.
    pub(super) fn new() -> (Self, watch::Receiver<u64>) {
        let (regressions, receiver) = watch::channel(0);
        (Self { acknowledged: 0, seen_of_all: 0, regressions }, receiver)
    }

    /// Whether commits are missing that were acknowledged, where this counter was found.
    pub(super) fn misses(&self, counter: u64) -> bool {
        self.is_behind(counter, self.acknowledged)
    }

    /// Whether commits of any worker are missing, where this counter of all was found.
    pub(super) fn misses_of_all(&self, counter: u64) -> bool {
        self.is_behind(counter, self.seen_of_all)
    }

    /// Takes note of the counter of all workers: from here on it is what the ledger has.
    pub(super) const fn saw_all(&mut self, counter: u64) {
        self.seen_of_all = counter;
    }

    fn is_behind(&self, counter: u64, acknowledged: u64) -> bool {
        let is_behind = counter < acknowledged;
        if is_behind {
            tracing::error!(
                acknowledged,
                found = counter,
                missing = acknowledged - counter,
                "the ledger has lost commits: a server without its last commits took over, or an \
                 older copy was restored; refunds that it does not know are inquired first until \
                 LEDGER_RETENTION has passed; see the runbook"
            );
            self.count();
        }
        is_behind
    }

    /// Takes note of a commit that was acknowledged: from here on it is what the ledger has.
    pub(super) const fn committed(&mut self, counter: u64) {
        self.acknowledged = counter;
    }

    /// Commands that this process works on were missing, and were written back.
    pub(super) fn missed(&self, commands: &[String]) {
        tracing::error!(
            command_ids = commands.join(" "),
            "the ledger has lost commits: commands that this worker works on were missing and are \
             written back; refunds that it does not know are inquired first until LEDGER_RETENTION \
             has passed; see the runbook"
        );
        self.count();
    }

    /// The broker's register names more commits than the ledger has.
    pub(super) fn count(&self) {
        self.regressions.send_modify(|count| *count = count.saturating_add(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_that_goes_back_is_noticed_once() {
        let (mut witness, regressions) = Witness::new();
        assert!(!witness.misses(7), "nothing was acknowledged to this process");
        witness.committed(8);
        assert!(!witness.misses(8));
        assert!(!witness.misses(9), "a commit without an answer stands");
        witness.committed(10);
        assert!(witness.misses(9));
        witness.committed(9);
        assert!(!witness.misses(9), "from here on it is what the ledger has");
        assert_eq!(*regressions.borrow(), 1);
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a moment to begin with")]
    fn what_was_forgotten_outranks_what_was_adopted_and_is_known_since_it_was_seen() {
        let (mut clock, began) = (CautionClock::default(), Instant::now());
        let mut after = |adopted, forgot, seconds| {
            let caution =
                clock.caution(Lacks { adopted, forgot }, began + Duration::from_secs(seconds));
            caution.map(|caution| (caution.why, caution.before.as_secs()))
        };
        assert_eq!(after(None, None, 0), None);
        assert_eq!(after(Some(7), None, 10), Some((SuspicionReason::LedgerAdopted, 0)));
        assert_eq!(after(Some(7), None, 170), Some((SuspicionReason::LedgerAdopted, 100)));
        assert_eq!(
            after(Some(7), Some(9), 200),
            Some((SuspicionReason::LedgerForgot, 0)),
            "it is new"
        );
        assert_eq!(after(Some(7), Some(9), 300), Some((SuspicionReason::LedgerForgot, 40)));
    }
}
