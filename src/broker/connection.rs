//! Connections: one path that builds everything anew, over the list of nodes.
//!
//! lapin's automatic recovery stays off: measured on 4.12, it can hang for ever.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use lapin::options::{
    BasicCancelOptions, BasicConsumeOptions, BasicQosOptions, ConfirmSelectOptions,
};
use lapin::types::FieldTable;
use lapin::uri::AMQPUri;
use lapin::{Channel, Connection, ConnectionProperties, Consumer};
use secrecy::{ExposeSecret as _, SecretString};

use super::consumer::Delivery;
use super::publisher::Publisher;
use super::topology::{self, Names};
use super::{Error, Settings};
use crate::command::Kind;

/// Time for TCP, TLS and the AMQP handshake, which lapin does not bound itself.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Seconds between heartbeats; a broker that went silent is noticed after two.
const HEARTBEAT: u16 = 10;

/// Time for an orderly goodbye.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// One life of the two connections: consuming and publishing are apart, since a broker that
/// is short of memory blocks connections that publish, and acks must not stop then.
pub(crate) struct Session {
    consuming: Connection,
    publishing: Connection,
    /// One consumer a kind.
    pub(crate) inlets: Vec<Inlet>,
}

/// The consumer of one kind's queue. Its channel goes with it, and with the channel whatever
/// is not settled: it must be kept until the last delivery is.
pub(crate) struct Inlet {
    /// Whose queue it is; a message in it may be of another kind.
    pub(crate) kind: Kind,
    channel: Channel,
    consumer: Consumer,
    publisher: Publisher,
    names: Arc<Names>,
    is_cancelled: bool,
}

/// Connects to the first node that answers, declares the topology and registers a consumer
/// for each kind. `first` is the node to begin with.
///
/// # Errors
/// What the last node tried said, or what is wrong with the topology.
pub(crate) async fn connect(settings: &Settings, first: usize) -> Result<Session, Error> {
    let mut last = Error::Lost("no node is named".to_owned());
    for url in settings.urls.iter().cycle().skip(first).take(settings.urls.len()) {
        match connect_to(url, settings).await {
            Ok(session) => return Ok(session),
            Err(error @ Error::Topology(_)) => return Err(error),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn connect_to(url: &SecretString, settings: &Settings) -> Result<Session, Error> {
    let names = Arc::new(Names::new(&settings.prefix));
    let consuming = open(url, &settings.prefix, "consumes").await?;
    let publishing = open(url, &settings.prefix, "publishes").await?;
    topology::declare(&consuming.create_channel().await?, &names).await?;
    let channel = publishing.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let publisher = Publisher::start(channel);
    let mut inlets = Vec::with_capacity(Kind::ALL.len());
    for kind in Kind::ALL {
        inlets.push(consume(&consuming, kind, settings, &publisher, &names).await?);
    }
    Ok(Session { consuming, publishing, inlets })
}

async fn open(url: &SecretString, prefix: &str, what: &str) -> Result<Connection, Error> {
    // The parser's own error would repeat the password.
    let mut uri: AMQPUri = url
        .expose_secret()
        .parse()
        .map_err(|_| Error::Lost("AMQP_URL holds no AMQP address".to_owned()))?;
    uri.query.heartbeat.get_or_insert(HEARTBEAT);
    let name = format!("eko-worker {prefix} {what}");
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    let host = format!("{}:{}", uri.authority.host, uri.authority.port);
    match tokio::time::timeout(CONNECT_TIMEOUT, Connection::connect_uri(uri, properties)).await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(error)) => Err(Error::Lost(format!("{host}: {error}"))),
        Err(_) => Err(Error::Lost(format!("{host}: no answer within {CONNECT_TIMEOUT:?}"))),
    }
}

async fn consume(
    connection: &Connection,
    kind: Kind,
    settings: &Settings,
    publisher: &Publisher,
    names: &Arc<Names>,
) -> Result<Inlet, Error> {
    let channel = connection.create_channel().await?;
    channel.basic_qos(settings.prefetch, BasicQosOptions::default()).await?;
    let consumer = register(&channel, kind, names).await?;
    let (publisher, names) = (publisher.clone(), Arc::clone(names));
    Ok(Inlet { kind, channel, consumer, publisher, names, is_cancelled: false })
}

async fn register(channel: &Channel, kind: Kind, names: &Names) -> Result<Consumer, Error> {
    let (queue, tag) = (names.queue(kind), format!("eko-worker-{}", kind.as_str()));
    let options = BasicConsumeOptions::default();
    Ok(channel
        .basic_consume(queue.as_str().into(), tag.into(), options, FieldTable::default())
        .await?)
}

impl Session {
    /// Says goodbye; what is not settled is delivered again.
    pub(crate) async fn close(self) {
        let goodbye = async {
            let (publishing, consuming) = tokio::join!(
                self.publishing.close(200, "bye".into()),
                self.consuming.close(200, "bye".into())
            );
            publishing.and(consuming)
        };
        if !matches!(tokio::time::timeout(CLOSE_TIMEOUT, goodbye).await, Ok(Ok(()))) {
            tracing::debug!("the broker's connections were gone before they were closed");
        }
    }
}

impl Inlet {
    /// The next delivery; `None` once the consumer is gone, for whatever reason.
    pub(crate) async fn next(&mut self) -> Option<Delivery> {
        match self.consumer.next().await? {
            Ok(delivery) => {
                Some(Delivery::new(delivery, self.publisher.clone(), Arc::clone(&self.names)))
            }
            Err(error) => {
                tracing::debug!(kind = self.kind.as_str(), %error, "the consumer failed");
                None
            }
        }
    }

    /// Has the broker deliver again after `cancel`.
    pub(crate) async fn resume(&mut self) -> Result<(), Error> {
        self.consumer = register(&self.channel, self.kind, &self.names).await?;
        self.is_cancelled = false;
        Ok(())
    }

    /// Tells the broker to deliver no more; what it has sent already still comes.
    pub(crate) async fn cancel(&mut self) {
        if std::mem::replace(&mut self.is_cancelled, true) {
            return;
        }
        let (tag, options) = (self.consumer.tag(), BasicCancelOptions::default());
        if let Err(error) = self.channel.basic_cancel(tag, options).await {
            tracing::debug!(kind = self.kind.as_str(), %error, "the consumer was gone already");
        }
    }
}
