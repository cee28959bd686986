//! eko-worker: commands from RabbitMQ → signed calls of Eko → one true outcome each.
//!
//! # The map
//!
//! The core knows no I/O, no clock and no chance, and imports only itself:
//!
//! | room | purpose |
//! | --- | --- |
//! | `command` | input contract: bytes → a command, or what is wrong with which field |
//! | `verdict` | what one answer of Eko says about the money |
//! | `history` | the evidence of one command |
//! | `decision` | command + evidence + now → the next step; the only place that decides |
//! | `order` | what is done with one command, step by step: a state machine |
//! | `outcome` | how a command ends, and the codes |
//! | `event` | output contract: command, outcome, time → the event that tells it |
//! | `clock` | what a process's clocks say at one moment |
//! | `backoff` | attempt + chance → delay |
//! | `privacy`, `trace` | types that cannot print themselves; W3C trace context |
//! | `json` | strings out of JSON that was read before |
//!
//! Three rooms reach the world and never import each other: `eko` (the only HTTP client),
//! `broker` (the only AMQP), `ledger` (the only SQL). They share `credential` (a secret in a file that
//! is read again), `addresses` (all addresses of a name) and `pem` (certificates in files).
//!
//! `journey` is one delivery from its receipt to its acknowledgement: it drives `order` with real
//! effects. `worker` is what all journeys share; `gate` says whether a call may start; `app` composes everything and stops it in order; `operate` is what
//! an operator asks for once (`check`, `show` and the other subcommands); `admin`, `metrics`,
//! `log`, `output`, `otel`, `shutdown`, `systemd` and `config` are what an operator sees and sets.

mod addresses;
mod admin;
mod app;
mod backoff;
#[cfg(feature = "bench")]
#[doc(hidden)]
pub mod bench;
mod broker;
mod clock;
mod command;
mod config;
mod credential;
mod decision;
mod eko;
mod event;
mod gate;
#[cfg(any(test, feature = "fuzz"))]
#[doc(hidden)]
pub mod harness;
mod history;
#[cfg(test)]
mod house;
mod journey;
mod json;
mod ledger;
mod log;
mod metrics;
#[cfg(test)]
mod model;
mod operate;
mod order;
mod otel;
mod outcome;
mod output;
mod pem;
mod privacy;
mod shutdown;
mod systemd;
mod trace;
mod verdict;
mod worker;

pub use app::run;
pub use config::{
    AmqpArgs, Args, CheckArgs, CompletionsArgs, Config, ConfigArgs, Contract, DeadArgs, DeadChoice,
    DeadDropArgs, DeadListArgs, DeadReplayArgs, DeadShowArgs, EkoArgs, HealthcheckArgs,
    InquireArgs, LedgerAdoptArgs, LedgerArgs, LedgerPlaceArgs, LedgerShowArgs, LedgerUrlArgs,
    ManArgs, Problems, PublishArgs, SchemaArgs, ShowArgs, without_blanks,
};
pub use operate::{
    check, completions, config, dead, healthcheck, inquire, ledger, man, publish, schema, show,
};
pub use output::{exit_code, last_words, wrote};
