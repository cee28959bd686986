//! Flags and environment → Config; exit code. Nothing else.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use eko_worker::{Args, Config, HealthcheckArgs, Problems, ShowArgs};

/// Consumes refund and OTP commands from RabbitMQ, makes the signed calls of Eko's v3 API and
/// publishes one true outcome for each.
#[derive(Parser)]
#[command(name = "eko-worker", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the worker until SIGTERM or SIGINT
    Run(Args),
    /// Check the settings, and reach broker and Eko once
    Check(Args),
    /// Show what the ledger knows of a command, or of all commands of a tid
    Show(ShowArgs),
    /// Ask the worker that runs on this machine whether it is well: exit code 0 or 1
    Healthcheck(HealthcheckArgs),
}

/// A setting that is wrong.
const WRONG_SETTING: u8 = 2;

#[tokio::main]
async fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(args) => match Config::new(&args) {
            Ok(config) => eko_worker::run(config).await,
            Err(problems) => Err(problems.into()),
        },
        Command::Check(args) => match Config::new(&args) {
            Ok(config) => eko_worker::check(config).await,
            Err(problems) => Err(problems.into()),
        },
        Command::Show(args) => eko_worker::show(&args).await,
        Command::Healthcheck(args) => eko_worker::healthcheck(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("eko-worker: {error:#}");
            ExitCode::from(if error.is::<Problems>() { WRONG_SETTING } else { 1 })
        }
    }
}
