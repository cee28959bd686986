//! The settings of `show`, which needs the ledger and nothing else.

use super::Problems;
use super::read::Reader;
use crate::ledger;

/// What to show, and where it is kept.
#[derive(Clone, Debug, clap::Args)]
pub struct ShowArgs {
    /// The id of a command, or a tid: all commands of it
    #[arg(value_name = "COMMAND-ID | TID")]
    pub what: String,
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

impl ShowArgs {
    /// Reads and checks where the ledger is.
    pub(crate) fn ledger(&self) -> Result<ledger::Settings, Problems> {
        let mut reader = Reader::default();
        let file = self.ledger_url_file.as_deref();
        let ledger = reader.ledger("LEDGER_URL", &self.ledger_url, file);
        reader.finish()?;
        ledger.ok_or_else(|| Problems(vec!["LEDGER_URL: is missing".to_owned()]))
    }
}
