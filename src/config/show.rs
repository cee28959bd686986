//! The settings of `show`, which needs the ledger and nothing else.

use super::Problems;
use super::ledger::LedgerUrlArgs;
use crate::ledger;

/// What to show, and where it is kept.
#[derive(Clone, Debug, clap::Args)]
pub struct ShowArgs {
    /// The id of a command, or a tid: all commands of it
    #[arg(value_name = "COMMAND-ID | TID")]
    pub what: String,
    /// Where it is kept
    #[command(flatten)]
    pub url: LedgerUrlArgs,
}

impl ShowArgs {
    /// Reads and checks where the ledger is.
    pub(crate) fn ledger(&self) -> Result<ledger::Settings, Problems> {
        self.url.read()
    }
}
