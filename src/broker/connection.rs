//! Connections: one path that builds everything anew, over the list of nodes.
//!
//! lapin's automatic recovery stays off: measured on 4.12, it can hang for ever.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_rs::Tokio;
use futures_util::future::try_join_all;
use lapin::tcp::AsyncTcpStream;
use lapin::uri::{AMQPScheme, AMQPUri, SASLMechanism};
use lapin::{BasicProperties, Connection, ConnectionProperties};
use secrecy::{ExposeSecret as _, SecretString};

use super::caretaker::Caretaker;
use super::connection_monitor::ConnectionMonitor;
use super::declare::Declarer;
use super::dial::at_first_address;
use super::node::{Encryption, Node};
use super::outcome_publisher::OutcomePublisher;
use super::pairing::Pairing;
use super::publisher::{Message, Publisher};
use super::queue_consumer::{QueueConsumer, Shared};
use super::refusals::Refusals;
use super::relay::{self, Relay, Room};
use super::replier::Replier;
use super::topology::Names;
use super::{Error, Settings, tls};
use crate::command::Kind;

/// Time for TCP, TLS and the AMQP handshake, which lapin does not bound itself.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Seconds between heartbeats; a broker that went silent is noticed after two.
const HEARTBEAT: u16 = 10;

/// Bytes of a frame. lapin keeps room for 64 of them.
const FRAME: u32 = 16 * 1024;

/// Time for an orderly goodbye.
pub(super) const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// One life of the connections: consuming and publishing are apart, since a broker that is short
/// of memory blocks connections that publish, and acks must not stop then. Each kind consumes on
/// one of its own, which its consumer has; another one declares.
pub(crate) struct Session {
    pub(super) consuming: Arc<Connection>,
    publishing: Arc<Connection>,
    pub(super) monitors: [ConnectionMonitor; 2],
    replier: Replier,
    /// Which of the nodes it is connected to.
    pub(crate) node: usize,
    /// One a kind.
    pub(crate) consumers: Vec<QueueConsumer>,
    /// For events of commands whose messages are not at hand.
    pub(crate) outcome_publisher: Option<OutcomePublisher>,
    /// Whom the prefix belongs to; there once the session is built.
    pairing: Option<Pairing>,
    /// Whether something is there that this user may not declare, so that the broker does not
    /// tell how it is made.
    pub(crate) is_unchecked: bool,
}

/// Connects to the first node that answers and declares the topology. `first` is the node to
/// begin with; `refusals` is what is known of the queues.
///
/// # Errors
/// What the last node tried said.
pub(crate) async fn connect(
    settings: &Settings,
    refusals: &Refusals,
    first: usize,
) -> Result<Session, Error> {
    let mut last = Error::Lost("AMQP_URL names no node".to_owned());
    // The password may be another one by now.
    let urls = settings.urls.renewed();
    let nodes = urls.iter().enumerate().cycle();
    for (node, url) in nodes.skip(first % urls.len()).take(urls.len()) {
        match connect_to((url, node), settings, refusals).await {
            Ok(session) => return Ok(session),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn connect_to(
    (url, node): (&SecretString, usize),
    settings: &Settings,
    refusals: &Refusals,
) -> Result<Session, Error> {
    let consuming = Arc::new(open(url, settings, "declares", Room::unlimited()).await?);
    let publishing = Arc::new(open(url, settings, "publishes", Room::unlimited()).await?);
    let monitors = [
        ConnectionMonitor::follow(&consuming, false),
        ConnectionMonitor::follow(&publishing, true),
    ];
    let mut session = Session {
        consuming,
        publishing,
        monitors,
        replier: Replier::start(node, settings.clone()),
        node,
        consumers: Vec::new(),
        outcome_publisher: None,
        pairing: None,
        is_unchecked: false,
    };
    let [consuming, publishing] = session.monitors.clone();
    tokio::select! {
        built = session.build(settings, refusals) => built?,
        why = consuming.gone() => return Err(Error::Lost(why)),
        why = publishing.gone() => return Err(Error::Lost(why)),
    }
    Ok(session)
}

/// What does not match, where that is all that is wrong.
fn mismatch(declared: Result<(), Error>) -> Result<Option<String>, Error> {
    match declared {
        Ok(()) => Ok(None),
        Err(Error::Topology(why)) => Ok(Some(why)),
        Err(error) => Err(error),
    }
}

/// Publishes a first message, which no queue takes. A broker that is short of memory says so
/// only to a connection that publishes; commands should not have been called for by then.
async fn start_publisher(
    connection: Arc<Connection>,
    monitor: &ConnectionMonitor,
    names: &Names,
) -> Result<Publisher, Error> {
    let publisher = Publisher::start(connection, monitor.clone()).await?;
    let nowhere = Message {
        exchange: String::new(),
        routing_key: names.nowhere(),
        properties: BasicProperties::default(),
        body: Vec::new(),
    };
    tokio::select! {
        published = publisher.publish(nowhere) => drop(published?),
        () = monitor.blocked() => {}
    }
    Ok(publisher)
}

/// How a node is reached, as its URL and the settings say.
pub(super) fn resolve(
    url: &SecretString,
    settings: &Settings,
) -> Result<(AMQPUri, Option<Encryption>), Error> {
    // The parser's own error would repeat the password.
    let mut uri = tls::read(url.expose_secret())
        .ok_or_else(|| Error::Lost("AMQP_URL holds no AMQP address".to_owned()))?;
    uri.query.heartbeat.get_or_insert(HEARTBEAT);
    let encryption = match uri.scheme {
        AMQPScheme::AMQP => None,
        AMQPScheme::AMQPS => {
            if settings.tls.client.is_some() {
                uri.query.auth_mechanism.get_or_insert(SASLMechanism::External);
            }
            let wrong = |(setting, why)| Error::Lost(format!("{setting}: {why}"));
            let connector = tls::connector(&settings.tls).map_err(wrong)?;
            let host = &uri.authority.host;
            let unnamed = |error: io::Error| Error::Lost(format!("{host}: {error}"));
            Some(Encryption::new(connector, host).map_err(unnamed)?)
        }
    };
    Ok((uri, encryption))
}

/// As [`open`], to the node of this number; its password may be another one by now.
pub(super) async fn open_at(
    node: usize,
    settings: &Settings,
    what: &str,
    room: Arc<Room>,
) -> Result<Connection, Error> {
    let urls = settings.urls.renewed();
    let gone = || Error::Lost("AMQP_URL no longer names this node".to_owned());
    open(urls.get(node).ok_or_else(gone)?, settings, what, room).await
}

/// A connection of its own to a node; `what` it does stands in its name. The messages that come in
/// need room.
pub(super) async fn open(
    url: &SecretString,
    settings: &Settings,
    what: &str,
    room: Arc<Room>,
) -> Result<Connection, Error> {
    let (mut uri, encryption) = resolve(url, settings)?;
    uri.query.frame_max = Some(FRAME);
    let name = format!("eko-worker {} {what}", settings.prefix);
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    let connect = |address| {
        let way = (address, encryption.clone());
        connect_by(way, uri.clone(), properties.clone(), room.clone())
    };
    at_first_address(&uri, connect).await
}

/// Connects to an address. lapin's own TLS settings would trust the system's certificates besides
/// those of a given CA, and refuse a system that has none.
async fn connect_by(
    (address, encryption): (SocketAddr, Option<Encryption>),
    uri: AMQPUri,
    properties: ConnectionProperties,
    room: Arc<Room>,
) -> lapin::Result<Connection> {
    let tokio = Tokio::current();
    let connect = async move |_: AMQPUri, _| {
        // lapin's thread would wait on, whoever has given up waiting for it.
        let connected = Node::connect(address, encryption.as_ref());
        let connected = tokio::time::timeout(CONNECT_TIMEOUT, connected);
        let node = connected.await.map_err(io::Error::from)??;
        Ok(AsyncTcpStream::Plain(Relay::new(node, tokio.clone(), Arc::clone(&room))))
    };
    Connection::connector(uri, relay::runtime(), connect, properties).await
}

impl Session {
    /// Declares the topology, and makes what publishes and the consumers.
    async fn build(&mut self, settings: &Settings, refusals: &Refusals) -> Result<(), Error> {
        let names = Arc::new(Names::new(&settings.prefix));
        let [consuming, publishing] = self.monitors.clone();
        let mut declarer = Declarer::new(&self.consuming, &names);
        let common = mismatch(declarer.shared().await)?;
        // Side by side: each queue that is not there yet takes its time.
        let (broker, under) = (&self.consuming, &names);
        let kinds = try_join_all(Kind::ALL.map(async |kind| {
            let mut declarer = Declarer::new(broker, under);
            let own = mismatch(declarer.kind(kind).await)?;
            Ok::<_, Error>((kind, own, declarer.is_unchecked))
        }))
        .await?;
        self.is_unchecked = declarer.is_unchecked || kinds.iter().any(|(_, _, it)| *it);
        let mismatches = kinds.into_iter().map(|(kind, own, _)| (kind, common.clone().or(own)));
        // Each kind has its own: what keeps one kind's events from being confirmed is not waited for
        // by another. The first message is the last step: a blocked connection opens no channel.
        let mut publishers = Vec::with_capacity(Kind::ALL.len());
        for _ in Kind::ALL {
            let connection = Arc::clone(&self.publishing);
            publishers.push(Publisher::start(connection, publishing.clone()).await?);
        }
        let publisher = start_publisher(Arc::clone(&self.publishing), &publishing, &names).await?;
        let connection = Arc::clone(&self.consuming);
        let (settings, node) = (Arc::new(settings.clone()), self.node);
        let (monitor, under) = (consuming.clone(), Names::new(&settings.prefix));
        self.pairing = Some(Pairing::new(connection.clone(), monitor, publisher.clone(), under));
        let shared = Shared {
            connection,
            consuming,
            publisher,
            publishing,
            replier: self.replier.clone(),
            refusals: refusals.clone(),
            names,
            settings,
            node,
        };
        self.outcome_publisher = Some(OutcomePublisher::new(shared.clone()));
        for ((kind, mismatch), publisher) in mismatches.zip(publishers) {
            self.consumers.push(QueueConsumer::new(
                kind,
                Shared { publisher, ..shared.clone() },
                mismatch,
            ));
        }
        Ok(())
    }

    /// Whom the prefix belongs to.
    ///
    /// # Errors
    /// Where the session was never built.
    pub(crate) fn pairing(&self) -> Result<Pairing, Error> {
        let lost = || Error::Lost("the session was not built".to_owned());
        self.pairing.clone().ok_or_else(lost)
    }

    /// Looks after what is declared; `refusals` is what is known of the queues.
    pub(crate) fn caretaker(&self, refusals: &Refusals) -> Caretaker {
        Caretaker::new(self, refusals)
    }

    /// What is not what this worker needs, each once.
    pub(crate) fn mismatches(&self) -> Vec<String> {
        let mut all: Vec<_> = self
            .consumers
            .iter()
            .filter_map(|consumer| consumer.mismatch().map(str::to_owned))
            .collect();
        all.dedup();
        all
    }

    /// Waits until one of the connections is gone, and tells why.
    pub(crate) async fn gone(&self) -> String {
        let [consuming, publishing] = &self.monitors;
        let (what, why) = tokio::select! {
            why = consuming.gone() => ("declares", why),
            why = publishing.gone() => ("publishes", why),
        };
        format!("the connection that {what} was lost: {why}")
    }

    /// Whether it ended since the broker did not let this user publish.
    pub(crate) fn is_refused(&self) -> bool {
        self.monitors[1].is_refused()
    }

    /// Says goodbye; what is not settled is delivered again.
    pub(crate) async fn close(self) {
        self.replier.flush().await;
        tokio::join!(close(&self.publishing), close(&self.consuming));
        // Journeys may be left that would wait for an answer.
        for monitor in &self.monitors {
            monitor.end("it was closed", false);
        }
    }
}

/// An orderly goodbye, unless it takes too long.
pub(super) async fn close(connection: &Connection) {
    let goodbye = connection.close(200, "bye".into());
    if !matches!(tokio::time::timeout(CLOSE_TIMEOUT, goodbye).await, Ok(Ok(()))) {
        tracing::debug!("a connection was lost before it was closed");
    }
}
