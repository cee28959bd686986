//! Publishing: one task owns the channel and publishes in closed batches.
//!
//! With lapin 4.12, tasks that share a confirm channel can get each other's confirms, and a
//! returned message is attached to whichever confirm comes next. So nobody else publishes on
//! this channel, a batch is sent and confirmed whole before the next begins, and returns are
//! matched by exchange, routing key and `message_id`.
//!
//! A channel of RabbitMQ 3.10 that a full quorum queue has refused something may be refused by it
//! for ever, also when there is room again. So after a refusal there is a new channel, and also
//! after a message that was not confirmed in time: its confirm may still come.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::future::try_join_all;
use futures_util::stream::FuturesUnordered;
use lapin::message::Delivery;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Channel, Confirmation, Connection};
use tokio::sync::{mpsc, oneshot};

use super::Error;
use super::connection_monitor::ConnectionMonitor;

/// How many messages are confirmed together: enough to keep the broker busy.
const BATCH: usize = 200;

/// How long a confirm may take while the broker does not block the connection: a broker short
/// of memory confirms once it is not, and another connection would be blocked as well. What is not
/// confirmed by then is left: a queue that it is for, of a subscriber perhaps, may have lost its
/// leader. A broker that hangs as a whole is noticed by its heartbeats.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a batch may take, with a new channel for it where one is needed.
const BATCH_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a channel on which something was refused is used at least, so that a queue that refuses
/// everything does not cost a channel for each message.
const REFUSED_CHANNEL: Duration = Duration::from_secs(1);

/// How long what has failed waits for the connection to tell why.
const REASON_TIMEOUT: Duration = Duration::from_secs(1);

/// A message to publish: persistent and mandatory.
#[derive(Clone, Debug)]
pub(super) struct Message {
    pub(super) exchange: String,
    pub(super) routing_key: String,
    pub(super) properties: BasicProperties,
    pub(super) body: Vec<u8>,
}

/// Where a message went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Routed {
    /// Into a queue.
    Yes,
    /// Nowhere: no binding took it.
    No,
}

type Answer = oneshot::Sender<Result<Routed, Error>>;

/// A handle on the publishing task.
#[derive(Clone)]
pub(super) struct Publisher(mpsc::Sender<(Box<Message>, Answer)>);

impl Publisher {
    /// Starts the task, on a channel that nobody else uses. The task ends with the channel or
    /// with the last handle.
    pub(super) async fn start(
        connection: Arc<Connection>,
        monitor: ConnectionMonitor,
    ) -> Result<Self, Error> {
        let channel = monitor.unless_closed(confirming(&connection)).await?;
        let (publisher, inbox) = mpsc::channel(BATCH * 2);
        let (since, state) = (now(), State::Fine);
        let line = Line { connection, channel, since, state };
        tokio::spawn(run(line, monitor, inbox));
        Ok(Self(publisher))
    }

    /// Publishes a message and waits for its confirm.
    pub(super) fn publish(
        &self,
        message: Message,
    ) -> impl Future<Output = Result<Routed, Error>> + use<'_> {
        // Boxed before the future holds it: many are in flight.
        self.send(Box::new(message))
    }

    async fn send(&self, message: Box<Message>) -> Result<Routed, Error> {
        let (answer, confirmed) = oneshot::channel();
        let lost = || Error::Lost("the publishing channel is closed".to_owned());
        self.0.send((message, answer)).await.map_err(|_| lost())?;
        confirmed.await.map_err(|_| lost())?
    }
}

/// The channel in use.
struct Line {
    connection: Arc<Connection>,
    channel: Channel,
    /// Since when.
    since: Instant,
    state: State,
}

/// Of what use a channel is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Fine,
    /// Something was refused on it.
    Refused,
    /// Confirms are missing on it.
    Silent,
}

impl Line {
    /// Sends a batch, on a new channel where the last one may not be of use any more.
    async fn send(
        &mut self,
        monitor: &ConnectionMonitor,
        batch: &mut [(Box<Message>, Answer)],
    ) -> Result<Vec<Result<Routed, Error>>, Error> {
        if match self.state {
            State::Fine => false,
            State::Refused => self.since.elapsed() >= REFUSED_CHANNEL,
            State::Silent => true,
        } {
            self.renew().await?;
        }
        let results = send(&self.channel, monitor, batch).await?;
        for result in &results {
            match result {
                Err(Error::Unconfirmed { .. }) => self.state = State::Silent,
                Err(_) if self.state == State::Fine => self.state = State::Refused,
                Ok(_) | Err(_) => {}
            }
        }
        Ok(results)
    }

    async fn renew(&mut self) -> Result<(), Error> {
        let channel = confirming(&self.connection).await?;
        let old = std::mem::replace(&mut self.channel, channel);
        // A queue that does not answer may keep the broker from closing it.
        tokio::spawn(async move {
            let closed = old.close(200, "another one follows".into());
            if !matches!(tokio::time::timeout(BATCH_TIMEOUT, closed).await, Ok(Ok(()))) {
                tracing::debug!("an unused channel could not be closed");
            }
        });
        (self.since, self.state) = (now(), State::Fine);
        Ok(())
    }
}

/// A channel in confirm mode.
async fn confirming(connection: &Connection) -> lapin::Result<Channel> {
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    Ok(channel)
}

async fn run(
    mut line: Line,
    monitor: ConnectionMonitor,
    mut inbox: mpsc::Receiver<(Box<Message>, Answer)>,
) {
    let mut batch = Vec::with_capacity(BATCH);
    while inbox.recv_many(&mut batch, BATCH).await > 0 {
        let outcome = tokio::select! {
            biased;
            outcome = line.send(&monitor, &mut batch) => outcome,
            why = monitor.gone() => Err(Error::Lost(why)),
            () = overdue(&monitor, BATCH_TIMEOUT) => {
                Err(Error::Lost(format!("no confirm within {BATCH_TIMEOUT:?}")))
            }
        };
        let failure = outcome.as_ref().err().cloned();
        if failure.is_some() {
            // Why the channel was closed comes right behind, and tells what to do next.
            tokio::time::timeout(REASON_TIMEOUT, monitor.gone()).await.ok();
        }
        let results = outcome.unwrap_or_default();
        for (index, (_, answer)) in batch.drain(..).enumerate() {
            let result = match (&failure, results.get(index)) {
                (Some(error), _) => Err(error.clone()),
                (None, Some(result)) => result.clone(),
                (None, None) => Err(Error::Lost("a confirm is missing".to_owned())),
            };
            // Whoever asked may have given up waiting.
            drop(answer.send(result));
        }
        if failure.is_some() {
            return;
        }
    }
}

/// Waits until the connection has not been blocked for that long.
async fn overdue(monitor: &ConnectionMonitor, limit: Duration) {
    loop {
        monitor.unblocked().await;
        if tokio::time::timeout(limit, monitor.blocked()).await.is_err() {
            return;
        }
    }
}

/// Sends one batch and waits for all its confirms; the results are in the batch's order.
async fn send(
    channel: &Channel,
    monitor: &ConnectionMonitor,
    batch: &mut [(Box<Message>, Answer)],
) -> Result<Vec<Result<Routed, Error>>, Error> {
    let mandatory = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let mut ids = Vec::with_capacity(batch.len());
    let sent = batch.iter_mut().map(|(message, _)| {
        let properties = std::mem::take(&mut message.properties);
        ids.push(properties.message_id().clone());
        let (exchange, key) = (message.exchange.as_str(), message.routing_key.as_str());
        channel.basic_publish(exchange.into(), key.into(), mandatory, &message.body, properties)
    });
    // Each of them ends once its bytes are written: one after the other would be one write each.
    let confirms = try_join_all(sent).await?;
    let mut returned = Vec::new();
    let mut taken = vec![None; batch.len()];
    let numbered = confirms.into_iter().enumerate();
    let mut confirms: FuturesUnordered<_> =
        numbered.map(|(nth, confirm)| async move { (nth, confirm.await) }).collect();
    let mut late = std::pin::pin!(overdue(monitor, CONFIRM_TIMEOUT));
    loop {
        let confirmed = tokio::select! {
            biased;
            confirmed = confirms.next() => confirmed,
            () = &mut late => break,
        };
        let Some((nth, confirmation)) = confirmed else { break };
        let confirmation = confirmation?;
        taken[nth] = Some(confirmation.is_ack());
        if let Confirmation::Ack(Some(message)) | Confirmation::Nack(Some(message)) = confirmation {
            returned.push(message.delivery);
        }
    }
    let results = batch.iter().zip(ids).zip(taken).map(|(((message, _), id), is_taken)| {
        let is_it = |delivery: &Delivery| {
            delivery.exchange.as_str() == message.exchange
                && delivery.routing_key.as_str() == message.routing_key
                && *delivery.properties.message_id() == id
        };
        match is_taken {
            None => Err(message.unconfirmed()),
            Some(false) => Err(message.refused("it was not confirmed")),
            Some(true) if returned.iter().any(is_it) => Ok(Routed::No),
            Some(true) => Ok(Routed::Yes),
        }
    });
    Ok(results.collect())
}

impl Message {
    fn unconfirmed(&self) -> Error {
        let (exchange, routing_key) = (self.exchange.clone(), self.routing_key.clone());
        Error::Unconfirmed { exchange, routing_key }
    }

    pub(super) fn refused(&self, why: &'static str) -> Error {
        let (exchange, routing_key) = (self.exchange.clone(), self.routing_key.clone());
        Error::Refused { exchange, routing_key, why }
    }
}

#[expect(clippy::disallowed_methods, reason = "how long a channel was in use")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::super::connection_monitor::ConnectionState;
    use super::*;

    #[tokio::test]
    async fn a_confirm_is_not_overdue_while_the_broker_blocks() {
        let monitor = ConnectionMonitor::new(ConnectionState::Blocked);
        let limit = Duration::from_millis(20);
        let much_longer = limit * 20;
        let waited = tokio::time::timeout(much_longer, overdue(&monitor, limit)).await;
        assert!(waited.is_err(), "blocked for long is not overdue");
        monitor.set_state(ConnectionState::Fine);
        overdue(&monitor, limit).await;
    }
}
