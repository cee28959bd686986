//! Somebody with all permissions, who changes what the worker declared.

use lapin::options::{
    ExchangeDeclareOptions, ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions,
    QueueDeleteOptions, QueuePurgeOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection, ConnectionProperties, ExchangeKind};

/// An administrator's connection.
pub(super) struct Admin {
    prefix: String,
    channel: Channel,
    _connection: Connection,
}

impl Admin {
    /// Connects to a broker; all names get the prefix.
    pub(super) async fn connect(url: &str, prefix: &str) -> Self {
        let connection = Connection::connect(url, ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        Self { prefix: prefix.to_owned(), channel, _connection: connection }
    }

    fn name(&self, name: &str) -> String {
        format!("{}.{name}", self.prefix)
    }

    /// Deletes a queue with all that is in it.
    pub(super) async fn delete_queue(&self, name: &str) {
        let name = self.name(name);
        let options = QueueDeleteOptions::default();
        self.channel.queue_delete(name.as_str().into(), options).await.unwrap();
    }

    /// Drops all that is in a queue.
    pub(super) async fn purge_queue(&self, name: &str) {
        let name = self.name(name);
        let options = QueuePurgeOptions::default();
        self.channel.queue_purge(name.as_str().into(), options).await.unwrap();
    }

    /// Deletes an exchange.
    pub(super) async fn delete_exchange(&self, name: &str) {
        let name = self.name(name);
        let options = ExchangeDeleteOptions::default();
        self.channel.exchange_delete(name.as_str().into(), options).await.unwrap();
    }

    /// Declares a durable queue with these arguments.
    pub(super) async fn queue(&self, name: &str, arguments: &[(&str, AMQPValue)]) {
        let name = self.name(name);
        let mut table = FieldTable::default();
        for (key, value) in arguments {
            table.insert((*key).into(), value.clone());
        }
        let options = QueueDeclareOptions { durable: true, ..Default::default() };
        self.channel.queue_declare(name.as_str().into(), options, table).await.unwrap();
    }

    /// Declares the queue of a kind as the contract and the worker have it, and binds it.
    pub(super) async fn queue_of(&self, kind: &str) {
        let text = |value: &str| AMQPValue::LongString(value.into());
        let arguments = [
            ("x-queue-type", text("quorum")),
            ("x-dead-letter-exchange", text(&self.name("dead"))),
            ("x-dead-letter-strategy", text("at-least-once")),
            ("x-overflow", text("reject-publish")),
            ("x-delivery-limit", AMQPValue::LongLongInt(30)),
        ];
        self.queue(kind, &arguments).await;
        let (queue, exchange) = (self.name(kind), self.name("commands"));
        let key = format!("eko.{kind}.request");
        let bound = self.channel.queue_bind(
            queue.as_str().into(),
            exchange.as_str().into(),
            key.as_str().into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        );
        bound.await.unwrap();
    }

    /// Declares a durable exchange.
    pub(super) async fn exchange(&self, name: &str, kind: ExchangeKind) {
        let name = self.name(name);
        let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
        let arguments = FieldTable::default();
        let declared =
            self.channel.exchange_declare(name.as_str().into(), kind, options, arguments);
        declared.await.unwrap();
    }
}
