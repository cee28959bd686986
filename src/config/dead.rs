//! What the subcommands on dead letters take.

use std::time::Duration;

use super::Problems;
use super::ledger::LedgerUrlArgs;
use super::operator::{ByArgs, why};
use super::parts::{AmqpArgs, EkoArgs};
use super::publish::duration;

/// What to do with the dead letters.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum DeadArgs {
    /// List dead letters. They stay in the queue, in their order
    List(DeadListArgs),
    /// Show one dead letter's message without OTP and mobile numbers. It stays in the queue
    Show(DeadShowArgs),
    /// Send commands once more. A refund is sent only if Eko says that it is pending
    Replay(Box<DeadReplayArgs>),
    /// Remove dead letters from the queue for good. Eko is asked about a refund in doubt
    Drop(Box<DeadDropArgs>),
}

/// Which dead letters: those for which all of this holds.
#[derive(Clone, Debug, clap::Args)]
pub struct DeadChoice {
    /// Ids of commands or of their events
    #[arg(value_name = "ID")]
    pub ids: Vec<String>,
    /// Outcome or code, such as unresolved or timeout. For what the broker gave up, its reason,
    /// such as `delivery_limit`. May be given several times
    #[arg(long, value_name = "WORD")]
    pub reason: Vec<String>,
    /// Eko's id of the transaction. May be given several times
    #[arg(long)]
    pub tid: Vec<String>,
    /// Only dead letters that are at least this old, such as 30s or 5m
    #[arg(long, value_name = "DURATION")]
    pub older_than: Option<String>,
    /// Only dead letters that are at most this old, such as 24h or 90d
    #[arg(long, value_name = "DURATION")]
    pub newer_than: Option<String>,
    /// Highest number of dead letters
    #[arg(long, value_name = "N", default_value = "100")]
    pub limit: u32,
}

/// What to list.
#[derive(Clone, Debug, clap::Args)]
pub struct DeadListArgs {
    /// Which of them
    #[command(flatten)]
    pub choice: DeadChoice,
    /// Print one JSON document: a list
    #[arg(long)]
    pub json: bool,
    /// Where the broker is
    #[command(flatten)]
    pub amqp: AmqpArgs,
}

/// What to show.
#[derive(Clone, Debug, clap::Args)]
pub struct DeadShowArgs {
    /// Id of a command or of its event
    #[arg(value_name = "ID")]
    pub id: String,
    /// Print one JSON document: a list, since a command may be there twice
    #[arg(long)]
    pub json: bool,
    /// Where the broker is
    #[command(flatten)]
    pub amqp: AmqpArgs,
}

/// What to send once more.
#[derive(Clone, Debug, clap::Args)]
pub struct DeadReplayArgs {
    /// Which of them
    #[command(flatten)]
    pub choice: DeadChoice,
    /// Only say what would be done. Eko is still asked about refunds
    #[arg(long)]
    pub dry_run: bool,
    /// Confirm that all chosen dead letters are meant, if no ids are given
    #[arg(long)]
    pub yes: bool,
    /// Print one JSON document: a list
    #[arg(long)]
    pub json: bool,
    /// Where the broker is
    #[command(flatten)]
    pub amqp: AmqpArgs,
    /// Where Eko is
    #[command(flatten)]
    pub eko: EkoArgs,
    /// For the audit
    #[command(flatten)]
    pub audit: DeadAuditArgs,
}

// Who changes dead letters, why, and where that is recorded.
#[expect(missing_docs, reason = "see above")]
#[derive(Clone, Debug, clap::Args)]
pub struct DeadAuditArgs {
    #[command(flatten)]
    pub by: ByArgs,
    /// Why, for the audit
    #[arg(long, value_name = "TEXT")]
    pub why: Option<String>,
    #[command(flatten)]
    pub ledger: LedgerUrlArgs,
}

/// What to take away.
#[derive(Clone, Debug, clap::Args)]
pub struct DeadDropArgs {
    /// Which of them
    #[command(flatten)]
    pub choice: DeadChoice,
    /// Only say what would be dropped. Eko is still asked about refunds in doubt
    #[arg(long)]
    pub dry_run: bool,
    /// Confirm that all chosen dead letters are meant, if no ids are given. Drop a refund in doubt
    /// without a question: one whose id is given, or one of which Eko says how it ended
    #[arg(long)]
    pub yes: bool,
    /// Print one JSON document: a list
    #[arg(long)]
    pub json: bool,
    /// Where the broker is
    #[command(flatten)]
    pub amqp: AmqpArgs,
    /// Where Eko is
    #[command(flatten)]
    pub eko: EkoArgs,
    /// For the audit
    #[command(flatten)]
    pub audit: DeadAuditArgs,
}

impl DeadAuditArgs {
    /// Who changes dead letters.
    pub(crate) fn person(&self) -> Result<String, Problems> {
        self.by.person()
    }

    /// Why.
    pub(crate) fn why(&self) -> Result<Option<String>, Problems> {
        why("--why", self.why.as_deref())
    }
}

impl DeadChoice {
    /// Between which ages.
    pub(crate) fn ages(&self) -> Result<(Option<Duration>, Option<Duration>), Problems> {
        let read = |name, text: &Option<String>| {
            text.as_deref().map(|text| duration(name, text)).transpose()
        };
        Ok((read("--older-than", &self.older_than)?, read("--newer-than", &self.newer_than)?))
    }

    /// Whoever changes many at a time says so.
    pub(crate) fn must_be_meant(&self, yes: bool, dry_run: bool) -> Result<(), Problems> {
        if yes || dry_run || !self.ids.is_empty() {
            return Ok(());
        }
        let why = "name the ids, or add --yes to confirm that all chosen dead letters are meant; \
                   --dry-run lists them";
        Err(Problems(vec![why.to_owned()]))
    }
}
