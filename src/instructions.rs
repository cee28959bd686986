//! The pure path of one refund, again and again, for `scripts/instructions` to count.
//!
//! A program of its own (`benches/instructions/Cargo.toml`), made of the rooms that do not reach
//! the world, without the libraries of those that do: a release build of all takes minutes.
#![allow(dead_code, unexpected_cfgs, unused_imports, reason = "the worker uses what this does not")]

mod backoff;
mod clock;
mod command;
mod decision;
mod event;
mod history;
mod json;
mod outcome;
mod privacy;
mod trace;
mod verdict;

mod eko {
    mod amount;
    mod answer;
    pub(crate) mod bench;
    mod endpoint;
    mod envelope;
    mod sign;
    mod stamps;
}

mod bench {
    pub(crate) mod refund;
}

use std::hint::black_box;

use anyhow::{Context as _, ensure};

const COMMAND: &[u8] = include_bytes!("../tests/fixtures/commands/refund.json");
const ANSWER: &[u8] = include_bytes!("../tests/fixtures/eko/refund/done.json");

fn main() -> anyhow::Result<()> {
    let times = std::env::args().nth(1).context("how often?")?;
    let times: u32 = times.parse()?;
    let refund = bench::refund::Refund::new(COMMAND, ANSWER)?;
    for _ in 0..times {
        ensure!(black_box(&refund).whole() > 0, "it did not end");
    }
    Ok(())
}
