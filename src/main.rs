//! Flags and environment → Config; exit code. Nothing else.

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::{ArgMatches, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use eko_worker::{
    Args, AuditArgs, CheckArgs, CompletionsArgs, Config, ConfigArgs, DeadArgs, HealthcheckArgs,
    InquireArgs, KeygenArgs, LedgerArgs, ManArgs, PauseArgs, Problems, PublicKeyArgs, PublishArgs,
    ResumeArgs, SchemaArgs, ShowArgs, UnsettledArgs,
};

/// What one thread allocates another frees, all the time: with the C library's allocator they
/// wait for each other.
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Consumes refund and OTP commands from RabbitMQ, makes the signed calls of Eko's v3 API and
/// publishes one true outcome for each.
#[derive(Parser)]
#[command(name = "eko-worker", version, max_term_width = 80)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the worker until SIGTERM or SIGINT
    Run(Args),
    /// Check the settings, and reach broker, Eko and ledger once
    ///
    /// Exit code: 0 all well, 1 a problem, 2 a wrong setting
    Check(CheckArgs),
    /// Ask Eko for the state of a transaction. Changes nothing
    Inquire(InquireArgs),
    /// Publish one command and wait for its outcome
    ///
    /// Exit code: 0 succeeded, 3 another outcome, 4 not known, 1 or 2 nothing was published
    Publish(PublishArgs),
    /// List, show, replay or drop the commands that need a person
    #[command(subcommand)]
    Dead(DeadArgs),
    /// Show what the ledger knows of a command or of a tid
    Show(ShowArgs),
    /// Show a ledger's id and state, or let it take over queues
    #[command(subcommand)]
    Ledger(LedgerArgs),
    /// Create a key that opens sealed OTPs, and print its public key
    ///
    /// The file is readable by its owner only. An existing file is left alone
    Keygen(KeygenArgs),
    /// Print the public keys of the keys that open sealed OTPs
    ///
    /// One a line. OTPs are to be sealed for the first
    PublicKey(PublicKeyArgs),
    /// List, show or inquire refunds in doubt
    #[command(subcommand)]
    Unsettled(UnsettledArgs),
    /// Pause a kind, or all, for all workers of a ledger
    Pause(PauseArgs),
    /// End a pause that was made by hand
    Resume(ResumeArgs),
    /// List what people did by hand: replays, drops, pauses, adoptions
    #[command(subcommand)]
    Audit(AuditArgs),
    /// Ask the worker on this machine whether it is alive
    ///
    /// Exit code: 0 yes, 1 no
    Healthcheck(HealthcheckArgs),
    /// Print the settings in effect and their sources, secrets masked
    Config(ConfigArgs),
    /// Print JSON Schemas of messages, or an AsyncAPI document
    Schema(SchemaArgs),
    /// Print completions for a shell
    Completions(CompletionsArgs),
    /// Print the manual page
    Man(ManArgs),
}

/// A setting that is wrong.
const WRONG_SETTING: u8 = 2;

fn main() -> ExitCode {
    let parsed = eko_worker::without_blanks(Cli::command())
        .try_get_matches()
        .and_then(|matches| Cli::from_arg_matches(&matches).map(|cli| (matches, cli)));
    let code = match parsed {
        Ok((matches, cli)) => execute(&matches, cli),
        Err(error) => explain(&error),
    };
    eko_worker::exit_code(code)
}

/// Prints the help or the version that was asked for, or what is wrong with the arguments.
fn explain(error: &clap::Error) -> ExitCode {
    let printed = error.print().and_then(|()| io::stdout().flush());
    if !error.use_stderr() {
        eko_worker::wrote(printed);
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(WRONG_SETTING))
}

#[tokio::main]
async fn execute(matches: &ArgMatches, cli: Cli) -> ExitCode {
    let result = match cli.command {
        Command::Run(args) => match Config::new(&args) {
            Ok(config) => eko_worker::run(config).await,
            Err(problems) => Err(problems.into()),
        },
        Command::Check(args) => eko_worker::check(&args).await,
        Command::Inquire(args) => return code(eko_worker::inquire(&args).await),
        Command::Publish(args) => return code(eko_worker::publish(&args).await),
        Command::Dead(args) => return code(eko_worker::dead(&args).await),
        Command::Unsettled(args) => return code(eko_worker::unsettled(&args).await),
        Command::Ledger(args) => return code(eko_worker::ledger(&args).await),
        Command::Show(args) => eko_worker::show(&args).await,
        Command::Keygen(args) => eko_worker::keygen(&args),
        Command::PublicKey(args) => eko_worker::public_key(&args),
        Command::Pause(args) => eko_worker::pause(&args).await,
        Command::Resume(args) => eko_worker::resume(&args).await,
        Command::Audit(args) => eko_worker::audit(&args).await,
        Command::Healthcheck(args) => eko_worker::healthcheck(&args),
        Command::Config(args) => {
            let (_, given) = matches.subcommand().unwrap_or(("", matches));
            eko_worker::config(&args, given)
        }
        Command::Schema(args) => eko_worker::schema(&args),
        Command::Completions(args) => eko_worker::completions(args, Cli::command()),
        Command::Man(args) => eko_worker::man(&args, Cli::command()),
    };
    code(result.map(|()| ExitCode::SUCCESS))
}

fn code(result: anyhow::Result<ExitCode>) -> ExitCode {
    match result {
        Ok(code) => code,
        Err(error) => {
            eko_worker::last_words(&format!("{error:#}"));
            ExitCode::from(if error.is::<Problems>() { WRONG_SETTING } else { 1 })
        }
    }
}
