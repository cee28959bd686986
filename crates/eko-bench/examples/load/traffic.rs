//! Refunds in, events out.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use futures_util::StreamExt;
use lapin::options::{
    BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions,
    ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
    QueuePurgeOptions,
};
use lapin::types::FieldTable;
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, Consumer,
    ExchangeKind, PublisherConfirm,
};
use serde::Deserialize;
use serde_json::json;

/// The longest time without an event: a refund in doubt is sent again after a minute, at the
/// soonest. And until a worker consumes.
const EVENT_TIMEOUT: Duration = Duration::from_secs(150);

/// How many messages are confirmed together.
const BATCH: usize = 200;

/// A connection each for publishing and for reading, so that they do not wait for each other.
pub(crate) struct Traffic {
    publishing: Connection,
    reading: Connection,
}

impl Traffic {
    pub(crate) async fn new(amqp_url: &str) -> anyhow::Result<Self> {
        let connect = || Connection::connect(amqp_url, ConnectionProperties::default());
        Ok(Self { publishing: connect().await?, reading: connect().await? })
    }

    /// A sender of refunds that nobody has sent before.
    pub(crate) async fn sender(&self, prefix: &str) -> anyhow::Result<Sender> {
        let channel = self.publishing.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        for name in ["commands", "events"] {
            let name = format!("{prefix}.{name}");
            let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
            let (topic, table) = (ExchangeKind::Topic, FieldTable::default());
            channel.exchange_declare(name.as_str().into(), topic, options, table).await?;
        }
        let run = fastrand::u64(100_000..1_000_000);
        Ok(Sender { channel, exchange: format!("{prefix}.commands"), run })
    }

    /// All events from now on.
    pub(crate) async fn events(&self, prefix: &str) -> anyhow::Result<Events> {
        let channel = self.reading.create_channel().await?;
        let table = FieldTable::default;
        let exclusive = QueueDeclareOptions::exclusive().auto_delete();
        let queue = channel.queue_declare("".into(), exclusive, table()).await?;
        let exchange = format!("{prefix}.events");
        let (name, exchange) = (queue.name().as_str(), exchange.as_str());
        let bind = QueueBindOptions::default();
        channel.queue_bind(name.into(), exchange.into(), "#".into(), bind, table()).await?;
        let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
        let consumer = channel.basic_consume(name.into(), "".into(), options, table()).await?;
        Ok(Events { consumer, channel })
    }

    /// Waits until a worker consumes refunds.
    pub(crate) async fn until_consumed(&self, prefix: &str) -> anyhow::Result<()> {
        let queue = format!("{prefix}.refund");
        let looking = async {
            loop {
                // A queue that is not there yet costs the channel.
                let channel = self.reading.create_channel().await?;
                let (options, table) =
                    (QueueDeclareOptions::default().passive(), FieldTable::default());
                let found = channel.queue_declare(queue.as_str().into(), options, table).await;
                if found.is_ok_and(|queue| queue.consumer_count() > 0) {
                    return anyhow::Ok(());
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(EVENT_TIMEOUT, looking).await.context("no worker consumes")?
    }

    /// Has the queues belong to no ledger: each run may bring its own.
    pub(crate) async fn unpair(&self, prefix: &str) -> anyhow::Result<()> {
        let channel = self.publishing.create_channel().await?;
        let name = format!("{prefix}.ledger");
        channel.exchange_delete(name.as_str().into(), ExchangeDeleteOptions::default()).await?;
        channel.queue_delete(name.as_str().into(), QueueDeleteOptions::default()).await?;
        Ok(())
    }

    /// Forgets the refunds that wait.
    pub(crate) async fn purge(&self, prefix: &str) -> anyhow::Result<()> {
        let channel = self.publishing.create_channel().await?;
        let queue = format!("{prefix}.refund");
        channel.queue_purge(queue.as_str().into(), QueuePurgeOptions::default()).await?;
        Ok(())
    }
}

/// The events of one prefix.
pub(crate) struct Events {
    consumer: Consumer,
    channel: Channel,
}

#[derive(Deserialize)]
struct Event<'a> {
    r#type: &'a str,
    data: About<'a>,
}

#[derive(Deserialize)]
struct About<'a> {
    command_id: &'a str,
}

impl Events {
    /// When the refunds with numbers up to `count` were told to have succeeded, by number.
    pub(crate) async fn arrivals(&mut self, count: usize) -> anyhow::Result<Vec<Instant>> {
        let (mut arrivals, mut missing) = (vec![None; count], count);
        while missing > 0 {
            let number = self.next().await.with_context(|| format!("{missing} are missing"))?;
            let arrival = arrivals.get_mut(number).context("an event of another load")?;
            if arrival.is_none() {
                *arrival = Some(Instant::now());
                missing -= 1;
            }
        }
        Ok(arrivals.into_iter().flatten().collect())
    }

    /// The number of the next event's command, which must have succeeded.
    pub(crate) async fn next(&mut self) -> anyhow::Result<usize> {
        let event = tokio::time::timeout(EVENT_TIMEOUT, self.consumer.next()).await;
        let event = event.context("no event came")?.context("the broker has gone")??;
        let told: Event<'_> = serde_json::from_slice(&event.data)?;
        let text = || String::from_utf8_lossy(&event.data);
        ensure!(told.r#type == "eko.refund.succeeded", "not a success: {}", text());
        Ok(told.data.command_id.rsplit('-').next().unwrap_or_default().parse()?)
    }

    /// No more of them: their queue goes.
    pub(crate) async fn end(self) -> anyhow::Result<()> {
        Ok(self.channel.close(200, "done".into()).await?)
    }
}

/// Publishes refunds.
pub(crate) struct Sender {
    channel: Channel,
    exchange: String,
    /// Part of all ids and tids of this sender.
    run: u64,
}

impl Sender {
    /// Publishes the refunds with numbers up to `count`, each confirmed.
    pub(crate) async fn send(&self, count: usize) -> anyhow::Result<()> {
        let all: Vec<usize> = (0..count).collect();
        for batch in all.chunks(BATCH) {
            let mut confirms = Vec::with_capacity(batch.len());
            for number in batch {
                confirms.push(self.publish(*number).await?);
            }
            for confirm in confirms {
                confirmed(confirm).await?;
            }
        }
        Ok(())
    }

    /// The same at so many a second; when each was published.
    pub(crate) async fn send_at(&self, count: usize, rate: f64) -> anyhow::Result<Vec<Instant>> {
        let (mut sent, mut confirms) = (Vec::new(), Vec::new());
        let mut tick = tokio::time::interval(Duration::from_secs_f64(1.0 / rate));
        for number in 0..count {
            tick.tick().await;
            sent.push(Instant::now());
            confirms.push(self.publish(number).await?);
        }
        for confirm in confirms {
            confirmed(confirm).await?;
        }
        Ok(sent)
    }

    async fn publish(&self, number: usize) -> anyhow::Result<PublisherConfirm> {
        let refund = json!({"id": format!("load-{}-{number}", self.run),
            "type": "eko.refund.request",
            "data": {"tid": format!("1{}{number:07}", self.run), "otp": "123456"}});
        let properties = BasicProperties::default()
            .with_content_type("application/json".into())
            .with_delivery_mode(2);
        let (exchange, key, body) =
            (self.exchange.as_str(), "eko.refund.request", refund.to_string());
        let options = BasicPublishOptions { mandatory: true, ..Default::default() };
        let sent = self.channel.basic_publish(
            exchange.into(),
            key.into(),
            options,
            body.as_bytes(),
            properties,
        );
        Ok(sent.await?)
    }
}

async fn confirmed(confirm: PublisherConfirm) -> anyhow::Result<()> {
    let confirmation = confirm.await?;
    ensure!(matches!(confirmation, Confirmation::Ack(None)), "no worker has declared it");
    Ok(())
}
