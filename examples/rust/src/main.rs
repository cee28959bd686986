//! The two sides of the worker, for `scripts/demo`: publishes a few commands and prints the events.
//!
//! It is also how a Rust service would do it: a topic exchange to publish to, with `mandatory` and
//! confirms, and a queue of its own bound to the events it wants.

use std::io::IsTerminal;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Parser;
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

/// The longest that one command of the demo may take; the slowest waits out a settling of seconds.
const EVENT_TIMEOUT: Duration = Duration::from_secs(60);

/// An OTP that the simulator takes for right, as it does any but 000000 and 999999.
const OTP: &str = "123456";

#[derive(Parser)]
struct Settings {
    /// The broker.
    #[arg(long, env = "AMQP_URL", hide_env_values = true)]
    amqp_url: String,
    /// The prefix of exchanges and queues.
    #[arg(long, env = "AMQP_PREFIX", default_value = "eko")]
    amqp_prefix: String,
    /// No colours.
    #[arg(long, env = "NO_COLOR", value_parser = clap::builder::FalseyValueParser::new())]
    plain: bool,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let settings = Settings::parse();
    let mut demo = Demo::connect(&settings).await?;

    demo.title("All three kinds, as they should go");
    let otp_sent = demo.run("demo-otp", "refund_otp", json!({"tid": "13192443"})).await?;
    let otp_ref_id = otp_sent["data"]["result"]["otp_ref_id"].clone();
    let refund = json!({"tid": "13192443", "otp": OTP, "otp_ref_id": otp_ref_id});
    demo.run("demo-refund", "refund", refund.clone()).await?;
    let transfer = json!({"recipient_id": 98765, "amount": 500, "customer_id": "9123456789"});
    demo.run("demo-transfer", "transfer_otp", transfer.clone()).await?;

    demo.title("The same refund once more: answered from the ledger, not executed again");
    demo.run("demo-refund", "refund", refund).await?;

    // What a tid of ten digits beginning with 97 or 99 makes of Eko is in `eko-simulator --help`.
    demo.title("Refused, and why");
    demo.run("demo-wrong", "refund", json!({"tid": "13192444", "otp": "000000"})).await?;
    demo.run("demo-unknown", "refund_otp", json!({"tid": "991680001"})).await?;
    let late = json!({"expirytime": "2026-01-01T00:00:00Z"});
    demo.run_with("demo-late", "transfer_otp", transfer, &late).await?;

    demo.title("No valid commands: told in an event, kept in the queue of the dead");
    let mistyped = json!({"tid": "13192445", "otp": OTP, "otp_ref": "A1"});
    demo.run("demo-mistyped", "refund", mistyped).await?;
    demo.run_raw("refund", b"{\"id\": \"demo-cut").await?;

    demo.title("Eko in trouble");
    println!("  The first answer is 503: nothing is lost, the command waits in the broker");
    demo.run("demo-503", "refund_otp", json!({"tid": "995031001"})).await?;
    println!("  The connection breaks after the money has moved: asked, not repeated");
    demo.run("demo-unclear", "refund", json!({"tid": "976511001", "otp": OTP})).await?;
    Ok(())
}

/// One connection to the broker, used the way a service would.
struct Demo {
    channel: Channel,
    commands: String,
    events: Consumer,
    colours: bool,
}

impl Demo {
    /// Connects and subscribes to every event.
    async fn connect(settings: &Settings) -> anyhow::Result<Self> {
        let connection = Connection::connect(&settings.amqp_url, ConnectionProperties::default())
            .await
            .context("RabbitMQ cannot be reached at AMQP_URL")?;
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        let commands = format!("{}.commands", settings.amqp_prefix);
        let exchange = format!("{}.events", settings.amqp_prefix);
        for name in [&commands, &exchange] {
            let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
            let (name, table) = (name.as_str().into(), FieldTable::default());
            channel.exchange_declare(name, ExchangeKind::Topic, options, table).await?;
        }
        let events = subscribe(&channel, &exchange).await?;
        let colours = !settings.plain && std::io::stdout().is_terminal();
        Ok(Self { channel, commands, events, colours })
    }

    /// Publishes a command and returns its event.
    async fn run(&mut self, id: &str, kind: &str, data: Value) -> anyhow::Result<Value> {
        self.run_with(id, kind, data, &json!({})).await
    }

    /// The same with more CloudEvents attributes.
    async fn run_with(
        &mut self,
        id: &str,
        kind: &str,
        data: Value,
        attributes: &Value,
    ) -> anyhow::Result<Value> {
        let kind_of_message = format!("eko.{kind}.request");
        println!(
            "{} {kind_of_message:<28} {id:<14} {}",
            self.paint(36, "→"),
            shown(&data, attributes)
        );
        let mut command = json!({
            "specversion": "1.0", "id": id, "source": "/demo", "type": kind_of_message, "data": data
        });
        if let (Some(command), Some(more)) = (command.as_object_mut(), attributes.as_object()) {
            command.extend(more.clone());
        }
        self.publish(&kind_of_message, &serde_json::to_vec(&command)?).await?;
        // On a broker with other users, or left in the middle of a demo, other events come too.
        loop {
            let event = self.next_event().await?;
            if event["data"]["command_id"] == id {
                return Ok(event);
            }
        }
    }

    /// Publishes bytes that are no command.
    async fn run_raw(&mut self, kind: &str, body: &[u8]) -> anyhow::Result<Value> {
        let key = format!("eko.{kind}.request");
        println!("{} {key:<28} {}", self.paint(36, "→"), String::from_utf8_lossy(body));
        self.publish(&key, body).await?;
        self.next_event().await
    }

    /// Publishes with `mandatory` and sees it confirmed: else a mistyped key would lose the command.
    async fn publish(&self, key: &str, body: &[u8]) -> anyhow::Result<()> {
        let options = BasicPublishOptions { mandatory: true, ..Default::default() };
        let properties = BasicProperties::default()
            .with_content_type("application/cloudevents+json".into())
            .with_delivery_mode(2);
        let (exchange, key) = (self.commands.as_str().into(), key.into());
        let published =
            self.channel.basic_publish(exchange, key, options, body, properties).await?;
        match published.await? {
            Confirmation::Ack(None) => Ok(()),
            Confirmation::Ack(Some(_)) => bail!("no queue takes the command: is a worker running?"),
            _ => bail!("the broker refused the command"),
        }
    }

    /// Waits for the next event and prints it.
    async fn next_event(&mut self) -> anyhow::Result<Value> {
        let next = tokio::time::timeout(EVENT_TIMEOUT, self.events.next()).await;
        let next = next.context("no event came within a minute: see the worker's log")?;
        let delivery = next.context("the broker ended the subscription")??;
        let event: Value = serde_json::from_slice(&delivery.data)?;
        let told = event["type"].as_str().unwrap_or_default();
        let colour = if told.ends_with(".succeeded") { 32 } else { 33 };
        let data = &event["data"];
        let id = data["command_id"].as_str().unwrap_or_default();
        let id = if id.len() > 14 { format!("{}…", &id[..13]) } else { id.to_owned() };
        let (arrow, told) = (self.paint(colour, "←"), self.paint(colour, &format!("{told:<28}")));
        println!("{arrow} {told} {id:<14} {}\n", summary(data));
        Ok(event)
    }

    fn title(&self, text: &str) {
        println!("{}\n", self.paint(1, text));
    }

    fn paint(&self, colour: u8, text: &str) -> String {
        if self.colours { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// A queue that lives as long as this connection, bound to all events.
async fn subscribe(channel: &Channel, exchange: &str) -> anyhow::Result<Consumer> {
    let options = QueueDeclareOptions::exclusive();
    let queue = channel.queue_declare("".into(), options, FieldTable::default()).await?;
    let (name, options) = (queue.name().clone(), QueueBindOptions::default());
    let bound = channel.queue_bind(
        name.clone(),
        exchange.into(),
        "#".into(),
        options,
        FieldTable::default(),
    );
    bound.await?;
    let options = BasicConsumeOptions { no_ack: true, ..Default::default() };
    Ok(channel.basic_consume(name, "".into(), options, FieldTable::default()).await?)
}

/// A command's data on one line, without the OTP: a screen is a log, too.
fn shown(data: &Value, attributes: &Value) -> String {
    let mut data = data.clone();
    for hidden in ["otp", "otp_ref_id"] {
        if let Some(value) = data.get_mut(hidden) {
            *value = json!("…");
        }
    }
    match attributes["expirytime"].as_str() {
        Some(time) => format!("{data} expirytime {time}"),
        None => data.to_string(),
    }
}

/// What an event says, on one line.
fn summary(data: &Value) -> String {
    let error = &data["error"];
    if let Some(code) = error["code"].as_str() {
        return format!("{code}: {}", error["message"].as_str().unwrap_or_default());
    }
    let mut says = vec![format!("confirmed_by {}", data["confirmed_by"].as_str().unwrap_or("?"))];
    if let Some(attempts) = data["attempts"].as_u64() {
        says.push(format!("attempts {attempts}"));
    }
    for name in ["refund_tid", "refunded_amount", "mobile", "otp_ref_id"] {
        if let Some(value) = data["result"][name].as_str() {
            says.push(format!("{name} {value}"));
        }
    }
    says.join(", ")
}
