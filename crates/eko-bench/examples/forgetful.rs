//! The worker with a ledger in memory, whatever `LEDGER_URL` says: what a store costs is the difference.
//!
//! `scripts/bench --ledger memory` and `scripts/bench-ledger` run it. It forgets all when it ends: not for use.

use clap::Parser;
use eko_worker::{Args, Config};

/// The allocator of the worker itself.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[derive(Parser)]
enum Command {
    /// Run until SIGTERM or SIGINT
    Run(Args),
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Command::Run(args) = Command::parse();
    eko_worker::run(Config::new(&args)?.with_ledger_in_memory()).await
}
