//! What an operator asks for once, each a subcommand: it does its work, tells it and ends.

mod audit;
mod check;
mod config;
mod dead;
mod inquire;
mod keys;
mod ledger;
mod manual;
mod pause;
mod progress;
mod publish;
mod schema;
mod unsettled;

use anyhow::Context as _;
use jiff::Timestamp;

use crate::admin;
use crate::app::start::tls_provider;
use crate::command::Defaults;
use crate::config::{HealthcheckArgs, ShowArgs};
use crate::output;
use crate::privacy::Mobile;
pub use audit::audit;
pub use check::check;
pub use config::config;
pub use dead::dead;
pub use inquire::inquire;
pub use keys::{keygen, public_key};
pub use ledger::ledger;
pub use manual::{completions, man};
pub use pause::{pause, resume};
pub use publish::publish;
pub use schema::schema;
pub use unsettled::unsettled;

/// Asks the worker that runs on this machine how it is, and prints its answer.
///
/// # Errors
/// Where it does not answer, or is stuck.
pub fn healthcheck(args: &HealthcheckArgs) -> anyhow::Result<()> {
    output::line(admin::healthcheck(args.admin_addr)?);
    Ok(())
}

/// Prints what the ledger knows of a command, or of all commands of a tid.
///
/// # Errors
/// Where the ledger's URL is wrong, it cannot be read, or it knows nothing of that.
pub async fn show(args: &ShowArgs) -> anyhow::Result<()> {
    tls_provider();
    let told = crate::ledger::show(&args.url.ledger()?, &args.what).await?;
    let told = told
        .with_context(|| format!("the ledger knows no command with the id or tid {}", args.what))?;
    output::print(&told);
    Ok(())
}

/// Stand-ins for what the worker fills in by its own settings, so that a command can be read
/// without them.
fn any_defaults() -> Defaults {
    Defaults { initiator_id: Some(Mobile::new("0000000000")), user_code: Some("0".to_owned()) }
}

#[expect(clippy::disallowed_methods, reason = "it stamps what an operator sends by hand")]
fn now() -> Timestamp {
    Timestamp::now()
}
