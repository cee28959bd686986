//! eko-worker: commands from RabbitMQ → signed calls of Eko → one true outcome each.
//!
//! # The map
//!
//! What it is made of are crates, each with a README of its own: `eko-core` decides and knows no I/O,
//! no clock and no randomness; `eko-client` makes the signed calls, `eko-ledger` keeps what is known;
//! `eko-connect` holds what these two and `broker` share.
//!
//! Here, `broker` is the only AMQP. `journey` is one delivery from its receipt to its acknowledgement:
//! it drives `eko_core::order` with real effects. `worker` is what all journeys share; `breaker` says
//! whether a call may start, and alone knows why a kind is paused; `app` composes everything and stops
//! it in order; `cli` is what an operator asks for once (`check`, `show` and the other subcommands);
//! `admin`, `metrics`, `log`, `output`, `otel`, `shutdown`, `systemd` and `config` are what an operator
//! sees and sets.

// Where a reader has gone away or a disk is full, `println!` panics: `output` does not.
#![warn(clippy::print_stdout, clippy::print_stderr)]

mod admin;
mod app;
mod breaker;
mod broker;
mod cli;
mod config;
mod journey;
mod log;
mod metrics;
mod otel;
mod otp_keys;
mod output;
mod shutdown;
mod systemd;
mod worker;

// The crates under the names that the modules here know them by.
use eko_client as eko;
use eko_connect::{addresses, credential, pem};
use eko_core::{
    backoff, clock, command, decision, event, history, order, outcome, privacy, trace, verdict,
};
use eko_ledger as ledger;

pub use app::run;
pub use cli::{
    audit, check, completions, config, dead, healthcheck, inquire, keygen, ledger, man, pause,
    public_key, publish, resume, schema, show, unsettled,
};
pub use config::{
    AmqpArgs, Args, AuditArgs, AuditListArgs, ByArgs, CheckArgs, CompletionsArgs, Config,
    ConfigArgs, Contract, DeadArgs, DeadAuditArgs, DeadChoice, DeadDropArgs, DeadListArgs,
    DeadReplayArgs, DeadShowArgs, EkoArgs, HealthcheckArgs, InquireArgs, KeygenArgs,
    LedgerAdoptArgs, LedgerArgs, LedgerPlaceArgs, LedgerShowArgs, LedgerUrlArgs, ManArgs, OtpArgs,
    OtpKeyArgs, PauseArgs, Problems, PublicKeyArgs, PublishArgs, ResumeArgs, SchemaArgs, ShowArgs,
    UnsettledArgs, UnsettledInquireArgs, UnsettledListArgs, UnsettledShowArgs, without_blanks,
};
pub use output::{exit_code, last_words, wrote};
