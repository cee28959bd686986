//! The settings of `show`, which needs the ledger and nothing else.

use super::ledger::LedgerUrlArgs;

/// What to show, and where it is kept.
#[derive(Clone, Debug, clap::Args)]
pub struct ShowArgs {
    /// Id of a command; or a tid, for all its commands
    #[arg(value_name = "COMMAND-ID | TID")]
    pub what: String,
    /// Where it is kept
    #[command(flatten)]
    pub url: LedgerUrlArgs,
}
