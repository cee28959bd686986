//! The settings of the subcommands on the ledger: where it is, and whose queues are looked at.

use super::Problems;
use super::parts::AmqpArgs;
use super::read::Reader;
use crate::{broker, ledger};

/// What to do with the ledger.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum LedgerArgs {
    /// Show which ledger it is, how much it has committed, and whether the queues are its own
    Show(LedgerShowArgs),
    /// Let it take over the queues from another ledger, such as one that was lost
    Adopt(LedgerAdoptArgs),
}

/// Which ledger to show.
#[derive(Clone, Debug, clap::Args)]
pub struct LedgerShowArgs {
    /// One JSON document
    #[arg(long)]
    pub json: bool,
    /// Where it is, and its queues
    #[command(flatten)]
    pub place: LedgerPlaceArgs,
}

/// Which ledger takes over.
#[derive(Clone, Debug, clap::Args)]
pub struct LedgerAdoptArgs {
    /// Make the ledger where there is none, or take one that has never kept a command
    #[arg(long)]
    pub new: bool,
    /// Where it is, and its queues
    #[command(flatten)]
    pub place: LedgerPlaceArgs,
}

// Plain comments: clap would take doc comments for the help of each subcommand.

// Where a ledger is.
#[expect(missing_docs, reason = "see above")]
#[derive(Clone, Debug, clap::Args)]
pub struct LedgerUrlArgs {
    /// The worker's ledger, a file or PostgreSQL
    #[arg(
        long,
        env,
        hide_env_values = true,
        value_name = "URL",
        default_value = "sqlite://eko-worker.db"
    )]
    pub ledger_url: String,
    /// File that holds `LEDGER_URL`
    #[arg(long, env, value_name = "PATH")]
    pub ledger_url_file: Option<String>,
}

impl LedgerUrlArgs {
    /// Reads and checks where the ledger is.
    pub(super) fn read(&self) -> Result<ledger::Settings, Problems> {
        let mut reader = Reader::default();
        let file = self.ledger_url_file.as_deref();
        let ledger = reader.ledger("LEDGER_URL", &self.ledger_url, file);
        reader.finish()?;
        ledger.ok_or_else(|| Problems(vec!["LEDGER_URL: is missing".to_owned()]))
    }
}

// Where a ledger is, and its queues.
#[expect(missing_docs, reason = "see above")]
#[derive(Clone, Debug, clap::Args)]
pub struct LedgerPlaceArgs {
    #[command(flatten)]
    pub url: LedgerUrlArgs,
    #[command(flatten)]
    pub amqp: AmqpArgs,
}

impl LedgerPlaceArgs {
    /// Reads and checks where ledger and broker are.
    ///
    /// # Errors
    /// Each setting that is wrong, by name, with the reason.
    pub(crate) fn read(&self) -> Result<(ledger::Settings, broker::Settings), Problems> {
        Ok((self.url.read()?, self.amqp.broker()?))
    }
}
