//! The pure path of one refund, again and again, for `scripts/instructions` to count.

use std::hint::black_box;

use anyhow::{Context as _, ensure};
use eko_bench::Refund;

const COMMAND: &[u8] = include_bytes!("../../../../tests/fixtures/commands/refund.json");
const ANSWER: &[u8] = include_bytes!("../../../../tests/fixtures/eko/refund/done.json");

fn main() -> anyhow::Result<()> {
    let times = std::env::args().nth(1).context("how often?")?;
    let times: u32 = times.parse()?;
    let refund = Refund::new(COMMAND, ANSWER)?;
    for _ in 0..times {
        ensure!(black_box(&refund).whole() > 0, "it did not end");
    }
    Ok(())
}
