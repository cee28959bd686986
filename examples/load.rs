//! A load of refunds for `scripts/bench-ledger` and `scripts/bench-memory`: publishes them, waits for their events, and
//! prints how long that took.
//!
//! - `load backlog N`: publishes N, prints `loaded`, and times the events from first to last.
//! - `load publish N`: publishes N and waits for nothing.
//! - `load steady N RATE`: publishes RATE a second, and times each from publishing to its event.
#![expect(clippy::disallowed_methods, reason = "it measures time")]

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::{Parser, Subcommand};
use futures_util::StreamExt;
use lapin::options::{
    BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions,
    QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, Consumer,
    ExchangeKind,
};
use serde_json::{Value, json};

/// The longest time without an event.
const PATIENCE: Duration = Duration::from_secs(60);

/// How many messages are confirmed together.
const BATCH: usize = 200;

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
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let settings = Settings::parse();
    let connect = || Connection::connect(&settings.amqp_url, ConnectionProperties::default());
    // Publishing and reading do not wait for each other.
    let (publishing, reading) = (connect().await?, connect().await?);
    let sender = Sender::new(publishing.create_channel().await?, &settings.amqp_prefix).await?;
    let events = listen(&reading.create_channel().await?, &settings.amqp_prefix).await?;
    match settings.load {
        Load::Backlog { count } => backlog(&sender, events, count).await,
        Load::Publish { count } => publish(&sender, count).await,
        Load::Steady { count, rate } => steady(sender, events, count, rate).await,
    }
}

async fn publish(sender: &Sender, count: usize) -> anyhow::Result<()> {
    let all: Vec<usize> = (0..count).collect();
    for batch in all.chunks(BATCH) {
        sender.send(batch).await?;
    }
    println!("loaded");
    Ok(())
}

async fn backlog(sender: &Sender, mut events: Consumer, count: usize) -> anyhow::Result<()> {
    publish(sender, count).await?;
    let mut seen = HashMap::new();
    while seen.len() < count {
        let number = next(&mut events).await?;
        seen.entry(number).or_insert_with(Instant::now);
    }
    let (first, last) = (seen.values().min(), seen.values().max());
    let took = last.zip(first).map(|(last, first)| last.duration_since(*first));
    println!("seconds {:.3}", took.unwrap_or_default().as_secs_f64());
    Ok(())
}

async fn steady(
    sender: Sender,
    mut events: Consumer,
    count: usize,
    rate: f64,
) -> anyhow::Result<()> {
    let publishing = tokio::spawn(async move {
        let mut sent = Vec::with_capacity(count);
        let mut tick = tokio::time::interval(Duration::from_secs_f64(1.0 / rate));
        for number in 0..count {
            tick.tick().await;
            sent.push(Instant::now());
            sender.send(&[number]).await?;
        }
        anyhow::Ok(sent)
    });
    let mut seen = HashMap::new();
    while seen.len() < count {
        let number = next(&mut events).await?;
        seen.entry(number).or_insert_with(Instant::now);
    }
    let sent = publishing.await??;
    let took = sent.iter().enumerate().map(|(number, sent)| seen[&number].duration_since(*sent));
    let mut took: Vec<f64> = took.map(|took| took.as_secs_f64() * 1e3).collect();
    took.sort_by(f64::total_cmp);
    println!("p50_ms {:.2} p99_ms {:.2}", took[count / 2], took[count * 99 / 100]);
    Ok(())
}

/// The number of the next event's command, which must have succeeded.
async fn next(events: &mut Consumer) -> anyhow::Result<usize> {
    let event = tokio::time::timeout(PATIENCE, events.next()).await;
    let event = event.context("no event came")?.context("the broker has gone")??;
    let event: Value = serde_json::from_slice(&event.data)?;
    ensure!(event["type"] == "eko.refund.succeeded", "not a success: {event}");
    let id = event["data"]["command_id"].as_str().context("an event without a command")?;
    Ok(id.rsplit('-').next().unwrap_or_default().parse()?)
}

async fn listen(channel: &Channel, prefix: &str) -> anyhow::Result<Consumer> {
    let table = FieldTable::default;
    let exclusive = QueueDeclareOptions::exclusive();
    let queue = channel.queue_declare("".into(), exclusive, table()).await?;
    let exchange = format!("{prefix}.events");
    let (name, exchange) = (queue.name().as_str(), exchange.as_str());
    let bind = QueueBindOptions::default();
    channel.queue_bind(name.into(), exchange.into(), "#".into(), bind, table()).await?;
    let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
    Ok(channel.basic_consume(name.into(), "".into(), options, table()).await?)
}

struct Sender {
    channel: Channel,
    exchange: String,
    /// Part of all ids and tids of this run.
    run: u64,
}

impl Sender {
    async fn new(channel: Channel, prefix: &str) -> anyhow::Result<Self> {
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        for name in ["commands", "events"] {
            let name = format!("{prefix}.{name}");
            let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
            let (topic, table) = (ExchangeKind::Topic, FieldTable::default());
            channel.exchange_declare(name.as_str().into(), topic, options, table).await?;
        }
        let run = fastrand::u64(100_000..1_000_000);
        Ok(Self { channel, exchange: format!("{prefix}.commands"), run })
    }

    /// Publishes these refunds, each confirmed.
    async fn send(&self, numbers: &[usize]) -> anyhow::Result<()> {
        let mut confirms = Vec::with_capacity(numbers.len());
        for number in numbers {
            let refund = json!({"id": format!("load-{}-{number}", self.run),
                "type": "eko.refund.request",
                "data": {"tid": format!("1{}{number:07}", self.run), "otp": "123456"}});
            let (key, properties) = (
                "eko.refund.request",
                BasicProperties::default()
                    .with_content_type("application/json".into())
                    .with_delivery_mode(2),
            );
            let options = BasicPublishOptions { mandatory: true, ..Default::default() };
            let (exchange, body) = (self.exchange.as_str(), refund.to_string());
            let sent = self.channel.basic_publish(
                exchange.into(),
                key.into(),
                options,
                body.as_bytes(),
                properties,
            );
            confirms.push(sent.await?);
        }
        for confirm in confirms {
            let confirmation = confirm.await?;
            ensure!(matches!(confirmation, Confirmation::Ack(None)), "no worker has declared it");
        }
        Ok(())
    }
}
