//! What the subcommands of an operator take: each only the settings that it needs.

use super::parts::EkoArgs;
use super::{Args, Problems};
use crate::command::read_tid;

/// What to look at, and how to tell it.
#[derive(Clone, Debug, clap::Args)]
pub struct CheckArgs {
    /// The worker's settings
    #[command(flatten)]
    pub settings: Args,
    /// Print one JSON document: `ok`, and `checks` with `name`, `ok` and `detail`
    #[arg(long)]
    pub json: bool,
}

/// Which transaction to ask about.
#[derive(Clone, Debug, clap::Args)]
pub struct InquireArgs {
    /// Eko's id of the transaction
    #[arg(value_name = "TID")]
    pub tid: String,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
    /// Where Eko is
    #[command(flatten)]
    pub eko: EkoArgs,
}

impl InquireArgs {
    /// The tid in its one form, if it can be one.
    pub(crate) fn tid(&self) -> Result<&str, Problems> {
        let wrong = || Problems(vec!["TID: must have 1 to 19 digits, not all 0".to_owned()]);
        read_tid(&self.tid).ok_or_else(wrong)
    }
}
