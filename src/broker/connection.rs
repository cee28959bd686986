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
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Consumer};
use secrecy::{ExposeSecret as _, SecretString};

use super::consumer::Delivery;
use super::link::Link;
use super::publisher::{Message, Publisher};
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
    links: [Link; 2],
    /// Which of the nodes it is connected to.
    pub(crate) node: usize,
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
    publishing: Link,
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
    let nodes = settings.urls.iter().enumerate().cycle();
    for (node, url) in nodes.skip(first % settings.urls.len()).take(settings.urls.len()) {
        match connect_to(url, node, settings).await {
            Ok(session) => return Ok(session),
            Err(error @ Error::Topology(_)) => return Err(error),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn connect_to(
    url: &SecretString,
    node: usize,
    settings: &Settings,
) -> Result<Session, Error> {
    let names = Arc::new(Names::new(&settings.prefix));
    let consuming = open(url, &settings.prefix, "consumes").await?;
    let publishing = open(url, &settings.prefix, "publishes").await?;
    let links = [Link::follow(&consuming, false), Link::follow(&publishing, true)];
    topology::declare(&consuming.create_channel().await?, &names).await?;
    let channel = publishing.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let link = links[1].clone();
    let publisher = Publisher::start(channel, link.clone());
    try_publishing(&publisher, link.clone(), &names).await?;
    let mut inlets = Vec::with_capacity(Kind::ALL.len());
    for kind in Kind::ALL {
        let channel = consuming.create_channel().await?;
        channel.basic_qos(settings.prefetch, BasicQosOptions::default()).await?;
        let consumer = register(&channel, kind, &names).await?;
        let (publisher, publishing) = (publisher.clone(), link.clone());
        let names = Arc::clone(&names);
        let is_cancelled = false;
        inlets.push(Inlet { kind, channel, consumer, publisher, publishing, names, is_cancelled });
    }
    Ok(Session { consuming, publishing, links, node, inlets })
}

/// Publishes a message that no queue takes. A broker that is short of memory says so only to
/// a connection that publishes; commands should not have been called for by then.
async fn try_publishing(publisher: &Publisher, mut link: Link, names: &Names) -> Result<(), Error> {
    let nowhere = Message {
        exchange: String::new(),
        routing_key: names.nowhere(),
        properties: BasicProperties::default(),
        body: Vec::new(),
    };
    tokio::select! {
        published = publisher.publish(nowhere) => published.map(drop),
        () = link.blocked() => Ok(()),
    }
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

async fn register(channel: &Channel, kind: Kind, names: &Names) -> Result<Consumer, Error> {
    let (queue, tag) = (names.queue(kind), format!("eko-worker-{}", kind.as_str()));
    let options = BasicConsumeOptions::default();
    Ok(channel
        .basic_consume(queue.as_str().into(), tag.into(), options, FieldTable::default())
        .await?)
}

impl Session {
    /// Waits until one of the connections is gone, and tells why.
    pub(crate) async fn gone(&self) -> String {
        let [mut consuming, mut publishing] = self.links.clone();
        tokio::select! {
            why = consuming.gone() => format!("the connection that consumes was lost: {why}"),
            why = publishing.gone() => format!("the connection that publishes was lost: {why}"),
        }
    }

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

    /// Has the broker deliver again, where it was told not to.
    pub(crate) async fn resume(&mut self) -> Result<(), Error> {
        if self.is_cancelled {
            self.consumer = register(&self.channel, self.kind, &self.names).await?;
            self.is_cancelled = false;
        }
        Ok(())
    }

    /// Whether the broker takes no messages now: nothing can be told or parked.
    pub(crate) fn is_blocked(&self) -> bool {
        self.publishing.is_blocked()
    }

    /// Waits until the broker takes no messages.
    pub(crate) fn blocked(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut link = self.publishing.clone();
        async move { link.blocked().await }
    }

    /// Waits until the broker takes messages.
    pub(crate) async fn unblocked(&self) {
        self.publishing.clone().fine().await;
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
