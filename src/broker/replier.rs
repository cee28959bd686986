//! Replies: an event once more, for whoever named a queue by `reply_to`.
//!
//! They are best effort, since the queue is somebody's own: it may be gone or full, and RabbitMQ 3.10
//! ends the whole connection over some names. So replies have a connection of their own, nobody waits
//! for them, and what goes wrong with one is logged and forgotten.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use lapin::Connection;
use tokio::sync::{mpsc, oneshot};

use super::connection::{CLOSE_TIMEOUT, open_at};
use super::connection_monitor::ConnectionMonitor;
use super::publisher::{Message, Publisher, Routed};
use super::relay::Room;
use super::{Error, Settings};

/// How many replies may wait; what comes while so many do is dropped.
const WAITING: usize = 1_000;

/// How many are confirmed together.
const BATCH: usize = 100;

/// How long replies may take, before they are given up.
const TIMEOUT: Duration = Duration::from_secs(5);

/// What RabbitMQ makes of a `reply_to` of `amq.rabbitmq.reply-to`: no queue, so that it does not tell
/// whether anybody is there.
const DIRECT: &str = "amq.rabbitmq.reply-to.";

enum Request {
    Reply(Box<Message>),
    /// Answered once all replies before it were dealt with.
    Flush(oneshot::Sender<()>),
}

/// A handle on the task that sends replies.
#[derive(Clone)]
pub(super) struct Replier(mpsc::Sender<Request>);

impl Replier {
    /// Starts the task; it connects to this node when there is something to send.
    pub(super) fn start(node: usize, settings: Settings) -> Self {
        let (replier, inbox) = mpsc::channel(WAITING);
        tokio::spawn(run(Line { node, settings, open: None }, inbox));
        Self(replier)
    }

    /// Has a reply sent, unless too many wait.
    pub(super) fn reply(&self, message: Message) {
        if let Err(mpsc::error::TrySendError::Full(Request::Reply(message))) =
            self.0.try_send(Request::Reply(Box::new(message)))
        {
            dropped(&message, "too many replies wait");
        }
    }

    /// Waits until what waits was dealt with.
    pub(super) async fn flush(&self) {
        let (done, flushed) = oneshot::channel();
        let flush = async {
            self.0.send(Request::Flush(done)).await.ok()?;
            flushed.await.ok()
        };
        if tokio::time::timeout(CLOSE_TIMEOUT, flush).await.is_err() {
            tracing::debug!("replies were not confirmed in time");
        }
    }
}

/// Where replies go, connected to when there is the first.
struct Line {
    node: usize,
    settings: Settings,
    open: Option<(Arc<Connection>, Publisher)>,
}

impl Line {
    /// A connection that stands, as far as that is known.
    async fn publisher(&mut self) -> Result<Publisher, Error> {
        if let Some((_, publisher)) = &self.open {
            return Ok(publisher.clone());
        }
        let connection = open_at(self.node, &self.settings, "replies", Room::unlimited()).await?;
        let (monitor, connection) =
            (ConnectionMonitor::follow(&connection, true), Arc::new(connection));
        let publisher = Publisher::start(Arc::clone(&connection), monitor).await?;
        self.open = Some((connection, publisher.clone()));
        Ok(publisher)
    }

    /// Sends one, and forgets a connection over which that did not work.
    async fn send(&mut self, message: Message) -> Result<Routed, Error> {
        let publisher = self.publisher().await?;
        let sent = tokio::time::timeout(TIMEOUT, publisher.publish(message)).await;
        let sent = sent.unwrap_or_else(|_| Err(not_in_time()));
        if matches!(sent, Err(Error::Lost(_))) {
            self.close().await;
        }
        sent
    }

    async fn close(&mut self) {
        let Some((connection, _)) = self.open.take() else { return };
        let goodbye = connection.close(200, "bye".into());
        if !matches!(tokio::time::timeout(CLOSE_TIMEOUT, goodbye).await, Ok(Ok(()))) {
            tracing::debug!("the connection for replies was lost before it was closed");
        }
    }
}

async fn run(mut line: Line, mut inbox: mpsc::Receiver<Request>) {
    let mut requests = Vec::with_capacity(BATCH);
    while inbox.recv_many(&mut requests, BATCH).await > 0 {
        let (mut replies, mut flushes) = (Vec::new(), Vec::new());
        for request in requests.drain(..) {
            match request {
                Request::Reply(message) => replies.push(message),
                Request::Flush(done) => flushes.push(done),
            }
        }
        send_all(&mut line, replies).await;
        for done in flushes {
            // Whoever asked may have given up waiting.
            done.send(()).ok();
        }
    }
    line.close().await;
}

/// Sends replies together. Where that costs the connection, one of them may be why: each is then
/// sent once more, alone.
#[expect(clippy::vec_box, reason = "as they come out of the queue")]
async fn send_all(line: &mut Line, replies: Vec<Box<Message>>) {
    if replies.is_empty() {
        return;
    }
    let publisher = match line.publisher().await {
        Ok(publisher) => publisher,
        Err(error) => return replies.iter().for_each(|reply| dropped(reply, error.to_string())),
    };
    let all = join_all(replies.iter().map(|reply| publisher.publish(Message::clone(reply))));
    let Ok(sent) = tokio::time::timeout(TIMEOUT, all).await else {
        line.close().await;
        return replies.iter().for_each(|reply| dropped(reply, not_in_time().to_string()));
    };
    let mut again = Vec::new();
    for (reply, sent) in replies.into_iter().zip(sent) {
        match sent {
            Err(Error::Lost(_)) => again.push(reply),
            sent => say(&reply, sent),
        }
    }
    if again.is_empty() {
        return;
    }
    line.close().await;
    for reply in again {
        let sent = line.send(Message::clone(&reply)).await;
        say(&reply, sent);
    }
}

fn not_in_time() -> Error {
    Error::Lost(format!("no confirm within {TIMEOUT:?}"))
}

/// Says what became of a reply, unless it was taken.
fn say(reply: &Message, sent: Result<Routed, Error>) {
    match sent {
        Ok(Routed::No) if !reply.routing_key.starts_with(DIRECT) => {
            dropped(reply, "there is no such queue");
        }
        Ok(Routed::Yes | Routed::No) => {}
        Err(Error::Refused { .. }) => dropped(reply, "the queue refuses the reply: it may be full"),
        Err(error) => dropped(reply, error.to_string()),
    }
}

/// Whoever asked has gone or takes nothing; the event itself is safe.
fn dropped(reply: &Message, why: impl AsRef<str>) {
    let event_id = reply.properties.message_id().as_ref().map(ToString::to_string);
    tracing::warn!(
        event_id,
        reply_to = reply.routing_key,
        why = why.as_ref(),
        "a reply was dropped; the event itself is published as always"
    );
}
