//! The worker without what this project exists for: no ledger, no retry, no truth. It consumes
//! refunds, makes the signed call, publishes what it was answered and acknowledges. Benchmarks
//! run it beside the real one, to tell what the guarantees cost. Not for use: it refunds twice.
#![expect(clippy::disallowed_methods, reason = "a benchmark's peer, not a part of the worker")]

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Parser;
use futures_util::StreamExt as _;
use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::Timestamp;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions,
    ConfirmSelectOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use serde_json::{Value, json};
use sha2::Sha256;

#[derive(Parser)]
struct Settings {
    #[arg(long, env = "AMQP_URL", hide_env_values = true)]
    amqp_url: String,
    #[arg(long, env = "AMQP_PREFIX", default_value = "eko")]
    amqp_prefix: String,
    #[arg(long, env = "EKO_BASE_URL")]
    eko_base_url: String,
    #[arg(long, env = "EKO_DEVELOPER_KEY", hide_env_values = true)]
    eko_developer_key: String,
    #[arg(long, env = "EKO_ACCESS_KEY", hide_env_values = true)]
    eko_access_key: String,
    #[arg(long, env = "EKO_INITIATOR_ID")]
    eko_initiator_id: String,
    #[arg(long, env = "EKO_USER_CODE")]
    eko_user_code: String,
    #[arg(long, env = "WORKER_CONCURRENCY", default_value_t = 64)]
    worker_concurrency: u16,
}

struct Naive {
    settings: Settings,
    http: reqwest::Client,
    channel: Channel,
    stamp: AtomicI64,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let settings = Settings::parse();
    rustls::crypto::ring::default_provider().install_default().ok();
    let connection =
        Connection::connect(&settings.amqp_url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    channel.basic_qos(settings.worker_concurrency, BasicQosOptions::default()).await?;
    let queue = format!("{}.refund", settings.amqp_prefix);
    let (options, table) = (BasicConsumeOptions::default(), FieldTable::default());
    let mut commands = channel.basic_consume(queue.into(), "naive".into(), options, table).await?;
    let (http, stamp) = (reqwest::Client::new(), AtomicI64::new(0));
    let naive = Arc::new(Naive { settings, http, channel, stamp });
    while let Some(command) = commands.next().await {
        let (naive, command) = (Arc::clone(&naive), command?);
        tokio::spawn(async move {
            if let Err(error) = naive.handle(command).await {
                eprintln!("{error:#}");
            }
        });
    }
    Ok(())
}

impl Naive {
    async fn handle(&self, delivery: Delivery) -> anyhow::Result<()> {
        let command: Value = serde_json::from_slice(&delivery.data)?;
        let answer = self.call(&command["data"]).await?;
        let id = command["id"].as_str().context("no id")?;
        let event = json!({
            "specversion": "1.0", "id": format!("{id}.succeeded"), "source": "/naive",
            "type": "eko.refund.succeeded", "time": Timestamp::now().to_string(),
            "data": {"command_id": id, "result": answer["data"], "eko": answer["message"]},
        });
        let properties = BasicProperties::default()
            .with_content_type("application/cloudevents+json".into())
            .with_delivery_mode(2);
        let exchange = format!("{}.events", self.settings.amqp_prefix);
        let (key, options) = ("eko.refund.succeeded", BasicPublishOptions::default());
        let body = event.to_string();
        self.channel
            .basic_publish(exchange.into(), key.into(), options, body.as_bytes(), properties)
            .await?
            .await?;
        delivery.ack(BasicAckOptions::default()).await?;
        Ok(())
    }

    async fn call(&self, data: &Value) -> anyhow::Result<Value> {
        let settings = &self.settings;
        let tid = data["tid"].as_str().context("no tid")?;
        let url = format!("{}/customer/payment/refund/{tid}", settings.eko_base_url);
        let otp: u64 = data["otp"].as_str().context("no otp")?.parse()?;
        let body = json!({
            "initiator_id": settings.eko_initiator_id, "user_code": settings.eko_user_code,
            "otp": otp, "service_code": 80, "state": 1,
        });
        let now = Timestamp::now().as_millisecond();
        let later = |last: i64| Some(now.max(last + 1));
        let stamp = self.stamp.fetch_update(Ordering::Relaxed, Ordering::Relaxed, later);
        let stamp = now.max(stamp.unwrap_or_default() + 1).to_string();
        let key = STANDARD.encode(&settings.eko_access_key);
        let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes())?;
        mac.update(stamp.as_bytes());
        let answer = self
            .http
            .post(url)
            .header("content-type", "application/json")
            .header("developer_key", &settings.eko_developer_key)
            .header("secret-key", STANDARD.encode(mac.finalize().into_bytes()))
            .header("secret-key-timestamp", stamp)
            .body(body.to_string())
            .send()
            .await?;
        Ok(serde_json::from_slice(&answer.bytes().await?)?)
    }
}
