//! What the subcommands take that tell of the program itself.

use clap::builder::PossibleValuesParser;
use clap_complete::Shell;

use super::Args;
use crate::command::Kind;

/// What messages look like, for machines.
#[derive(Clone, Debug, clap::Args)]
pub struct SchemaArgs {
    /// Which part of the contract
    #[command(subcommand)]
    pub of: Contract,
}

/// The parts of the contract that machines read.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Contract {
    /// JSON Schema of the commands of a kind
    Command {
        /// The kind of command
        #[arg(value_parser = PossibleValuesParser::new(Kind::ALL.map(Kind::as_str)))]
        kind: String,
    },
    /// JSON Schema of the events of a kind. With `command`: of messages whose kind cannot be read
    Event {
        /// The kind of command
        #[arg(value_parser = PossibleValuesParser::new(Kind::ALL.map(Kind::as_str).into_iter().chain(["command"])))]
        kind: String,
    },
    /// The whole contract, with examples, as an AsyncAPI 3 document
    Asyncapi,
}

/// How settings are shown, and the settings themselves.
#[derive(Clone, Debug, clap::Args)]
pub struct ConfigArgs {
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// Print all settings as Markdown: docs/configuration.md. What is set does not matter
    #[arg(long, conflicts_with = "json")]
    pub markdown: bool,
    /// Print all settings as .env.example. What is set does not matter
    #[arg(long, conflicts_with_all = ["json", "markdown"])]
    pub env_example: bool,
    #[command(flatten)]
    pub(crate) settings: Args,
}

/// For which shell.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct CompletionsArgs {
    /// The shell
    pub shell: Shell,
}

/// Of which subcommand.
#[derive(Clone, Debug, clap::Args)]
pub struct ManArgs {
    /// A subcommand such as `run` [default: the whole program]
    pub subcommand: Option<String>,
}
