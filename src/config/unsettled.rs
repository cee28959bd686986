//! What the subcommands on refunds in doubt take.

use std::time::Duration;

use super::Problems;
use super::ledger::LedgerUrlArgs;
use super::parts::EkoArgs;
use super::publish::duration;

/// What to do with refunds in doubt.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum UnsettledArgs {
    /// List every refund in doubt or unresolved, those in doubt for longest first
    List(UnsettledListArgs),
    /// Show one of them, with its history
    Show(UnsettledShowArgs),
    /// Ask Eko about one of them now. Changes nothing
    ///
    /// Exit code: 0 Eko answered, 1 it did not, or the refund is none of them
    InquireNow(Box<UnsettledInquireArgs>),
}

/// Which to list.
#[derive(Clone, Debug, clap::Args)]
pub struct UnsettledListArgs {
    /// Only refunds that have been in doubt for at least so long, such as 30m or 1h
    #[arg(long, value_name = "DURATION")]
    pub older_than: Option<String>,
    /// Print one JSON document: a list
    #[arg(long)]
    pub json: bool,
    /// Where they are recorded
    #[command(flatten)]
    pub url: LedgerUrlArgs,
}

/// Which one to show.
#[derive(Clone, Debug, clap::Args)]
pub struct UnsettledShowArgs {
    /// Id of a command
    #[arg(value_name = "ID")]
    pub id: String,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
    /// Where it is recorded
    #[command(flatten)]
    pub url: LedgerUrlArgs,
}

/// Which one to inquire.
#[derive(Clone, Debug, clap::Args)]
pub struct UnsettledInquireArgs {
    /// Which one
    #[command(flatten)]
    pub refund: UnsettledShowArgs,
    /// Where Eko is
    #[command(flatten)]
    pub eko: EkoArgs,
}

impl UnsettledListArgs {
    /// How old they are at least.
    pub(crate) fn older_than(&self) -> Result<Duration, Problems> {
        let read = |text: &String| duration("--older-than", text);
        self.older_than.as_ref().map_or(Ok(Duration::ZERO), read)
    }
}
