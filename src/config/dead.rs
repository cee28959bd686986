//! What the subcommands on dead letters take.

use std::time::Duration;

use super::Problems;
use super::parts::{AmqpArgs, EkoArgs};
use super::publish::duration;

/// What to do with the dead letters.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum DeadArgs {
    /// List them: takes none, and leaves them in their order
    List(DeadListArgs),
    /// Show the message of one, without OTP and mobile numbers: takes none
    Show(DeadShowArgs),
    /// Send commands once more; a refund only where Eko says that it is pending
    Replay(Box<DeadReplayArgs>),
    /// Take them out of the queue for good
    Drop(DeadDropArgs),
}

/// Which dead letters: those for which all of this holds.
#[derive(Clone, Debug, clap::Args)]
pub struct DeadChoice {
    /// Ids of commands, or of their events
    #[arg(value_name = "ID")]
    pub ids: Vec<String>,
    /// Outcome or code, such as unresolved or timeout; of what the broker itself gave up, its
    /// reason, such as `delivery_limit`; several may be given
    #[arg(long, value_name = "WORD")]
    pub reason: Vec<String>,
    /// Eko's id of the transaction; several may be given
    #[arg(long)]
    pub tid: Vec<String>,
    /// At least that old
    #[arg(long, value_name = "DURATION")]
    pub older_than: Option<String>,
    /// At most that old
    #[arg(long, value_name = "DURATION")]
    pub newer_than: Option<String>,
    /// At most that many
    #[arg(long, value_name = "N", default_value = "100")]
    pub limit: u32,
}

/// What to list.
#[derive(Clone, Debug, clap::Args)]
pub struct DeadListArgs {
    /// Which of them
    #[command(flatten)]
    pub choice: DeadChoice,
    /// One JSON document: a list
    #[arg(long)]
    pub json: bool,
    /// Where the broker is
    #[command(flatten)]
    pub amqp: AmqpArgs,
}

/// What to show.
#[derive(Clone, Debug, clap::Args)]
pub struct DeadShowArgs {
    /// Id of a command, or of its event
    #[arg(value_name = "ID")]
    pub id: String,
    /// One JSON document: a list, since a command may be there twice
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
    /// Only say what would be done; Eko is asked about refunds
    #[arg(long)]
    pub dry_run: bool,
    /// Also where no ids are given
    #[arg(long)]
    pub yes: bool,
    /// One JSON document: a list
    #[arg(long)]
    pub json: bool,
    /// Where the broker is
    #[command(flatten)]
    pub amqp: AmqpArgs,
    /// Where Eko is
    #[command(flatten)]
    pub eko: EkoArgs,
}

/// What to take away.
#[derive(Clone, Debug, clap::Args)]
pub struct DeadDropArgs {
    /// Which of them
    #[command(flatten)]
    pub choice: DeadChoice,
    /// Only say what would be dropped
    #[arg(long)]
    pub dry_run: bool,
    /// Also where no ids are given
    #[arg(long)]
    pub yes: bool,
    /// One JSON document: a list
    #[arg(long)]
    pub json: bool,
    /// Where the broker is
    #[command(flatten)]
    pub amqp: AmqpArgs,
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
        let why = "name the ids, or add --yes to mean all that are chosen; --dry-run tells them";
        Err(Problems(vec![why.to_owned()]))
    }
}
