//! A load of refunds: publishes them, waits for their events, and tells how long that took.
//!
//! - `load backlog N`: publishes N, prints `loaded`, and times the events from first to last.
//! - `load publish N`: publishes N and waits for nothing.
//! - `load steady N RATE`: publishes RATE a second, and times each from publishing to its event.
//! - `load bench`: starts workers, loads and measures them, round by round (`scripts/bench`).
#![expect(clippy::disallowed_methods, reason = "it measures time")]

mod bench;
mod eko;
mod report;
mod scenario;
mod traffic;
mod worker;

use clap::{Parser, Subcommand};

use crate::report::percentile;
use crate::traffic::{Events, Sender, Traffic};

#[derive(Parser)]
struct Settings {
    /// The broker.
    #[arg(long, env = "AMQP_URL", hide_env_values = true)]
    amqp_url: String,
    /// The prefix of exchanges and queues.
    #[arg(long, env = "AMQP_PREFIX", default_value = "eko")]
    amqp_prefix: String,
    #[command(subcommand)]
    load: Load,
}

#[derive(Subcommand)]
enum Load {
    /// All at once.
    Backlog { count: usize },
    /// All at once, whatever becomes of them.
    Publish { count: usize },
    /// One after the other.
    Steady { count: usize, rate: f64 },
    /// Workers side by side.
    Bench(scenario::Settings),
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let Settings { amqp_url, amqp_prefix: prefix, load } = Settings::parse();
    let traffic = Traffic::new(&amqp_url).await?;
    match load {
        Load::Bench(settings) => bench::run(settings, amqp_url, traffic).await,
        Load::Publish { count } => publish(&traffic.sender(&prefix).await?, count).await,
        Load::Backlog { count } => {
            let sender = traffic.sender(&prefix).await?;
            backlog(&sender, traffic.events(&prefix).await?, count).await
        }
        Load::Steady { count, rate } => {
            let sender = traffic.sender(&prefix).await?;
            let took = steady(sender, traffic.events(&prefix).await?, count, rate).await?;
            println!("p50_ms {:.2} p99_ms {:.2}", percentile(&took, 50), percentile(&took, 99));
            Ok(())
        }
    }
}

async fn publish(sender: &Sender, count: usize) -> anyhow::Result<()> {
    sender.send(count).await?;
    println!("loaded");
    Ok(())
}

async fn backlog(sender: &Sender, mut events: Events, count: usize) -> anyhow::Result<()> {
    publish(sender, count).await?;
    let seen = events.arrivals(count).await?;
    let (first, last) = (seen.iter().min(), seen.iter().max());
    let took = last.zip(first).map(|(last, first)| last.duration_since(*first));
    println!("seconds {:.3}", took.unwrap_or_default().as_secs_f64());
    Ok(())
}

/// Milliseconds from publishing to event, by number.
async fn steady(
    sender: Sender,
    mut events: Events,
    count: usize,
    rate: f64,
) -> anyhow::Result<Vec<f64>> {
    let publishing = tokio::spawn(async move { sender.send_at(count, rate).await });
    let seen = events.arrivals(count).await?;
    events.end().await?;
    let sent = publishing.await??;
    let took = sent.iter().zip(seen).map(|(sent, seen)| seen.duration_since(*sent));
    Ok(took.map(|took| took.as_secs_f64() * 1e3).collect())
}
