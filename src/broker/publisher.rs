//! Publishing: one task owns the channel and publishes in closed batches.
//!
//! With lapin 4.12, tasks that share a confirm channel can get each other's confirms, and a
//! returned message is attached to whichever confirm comes next. So nobody else publishes on
//! this channel, a batch is sent and confirmed whole before the next begins, and returns are
//! matched by exchange, routing key and `message_id`.
//!
//! A message may be for a queue that does not answer, since it has no leader. So a batch has one
//! destination. Where a confirm is missing after a second, it is waited for aside, and the next batch
//! goes by another channel.
//!
//! A channel of RabbitMQ 3.10 that a full quorum queue has refused something may be refused by it
//! for ever, also when there is room again. So after a refusal there is a new channel.

mod sent;

use std::sync::Arc;
use std::time::{Duration, Instant};

use lapin::options::ConfirmSelectOptions;
use lapin::{BasicProperties, Channel, Connection};
use tokio::sync::{mpsc, oneshot};

use super::Error;
use super::connection_monitor::ConnectionMonitor;
use sent::Sent;

/// How many messages are confirmed together: enough to keep the broker busy.
const BATCH: usize = 200;

/// How long a confirm may take while the broker does not block the connection: a broker short
/// of memory confirms once it is not, and another connection would be blocked as well. What is not
/// confirmed by then is left: a queue that it is for, of a subscriber perhaps, may have lost its
/// leader. A broker that hangs as a whole is noticed by its heartbeats.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a batch holds up the next one at most.
const HOLD_TIMEOUT: Duration = Duration::from_secs(1);

/// How long it is waited for at least: a broker that is well answers in less.
const SHORTEST_HOLD: Duration = Duration::from_millis(50);

/// How long sending a batch may take, with a new channel for it where one is needed.
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
        let line = Line { connection, open: Some(Open::new(channel)) };
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

/// The connection, and the channel in use.
struct Line {
    connection: Arc<Connection>,
    /// None where the last one is left to a batch that waits for its confirms.
    open: Option<Open>,
}

struct Open {
    channel: Channel,
    since: Instant,
    /// Something was refused on it.
    is_refused: bool,
}

impl Open {
    fn new(channel: Channel) -> Self {
        Self { channel, since: now(), is_refused: false }
    }

    fn is_of_use(&self) -> bool {
        !self.is_refused || self.since.elapsed() < REFUSED_CHANNEL
    }
}

impl Line {
    /// The channel to publish on: a new one, where the last one may not be of use any more.
    async fn channel(&mut self) -> lapin::Result<Channel> {
        if let Some(open) = self.open.as_ref().filter(|open| open.is_of_use()) {
            return Ok(open.channel.clone());
        }
        let channel = confirming(&self.connection).await?;
        if let Some(old) = self.open.replace(Open::new(channel.clone())) {
            tokio::spawn(close(old.channel));
        }
        Ok(channel)
    }

    /// Sends a batch, which is left where that fails.
    async fn send(
        &mut self,
        monitor: &ConnectionMonitor,
        batch: &mut Vec<(Box<Message>, Answer)>,
    ) -> Result<Sent, Error> {
        let send = async { Ok(sent::send(self.channel().await?, batch).await?) };
        tokio::select! {
            biased;
            sent = send => sent,
            why = monitor.gone() => Err(Error::Lost(why)),
            () = overdue(monitor, BATCH_TIMEOUT) => {
                Err(Error::Lost(format!("nothing could be sent within {BATCH_TIMEOUT:?}")))
            }
        }
    }
}

/// Closes a channel that is used no more. A queue that does not answer may keep the broker from that.
async fn close(channel: Channel) {
    let closed = channel.close(200, "another one follows".into());
    if !matches!(tokio::time::timeout(BATCH_TIMEOUT, closed).await, Ok(Ok(()))) {
        tracing::debug!("an unused channel could not be closed");
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
    let mut all = Vec::with_capacity(BATCH);
    while inbox.recv_many(&mut all, BATCH).await > 0 {
        // Events first: they wait for no copy that waits itself.
        all.sort_by(|(one, _), (other, _)| one.destination().cmp(&other.destination()));
        // Several that do not confirm hold up the others for as long as one does.
        let began = now();
        while !all.is_empty() {
            let mut batch = next_batch(&mut all);
            let mut sent = match line.send(&monitor, &mut batch).await {
                Ok(sent) => sent,
                Err(error) => {
                    let answers = batch.into_iter().chain(all).map(|(_, answer)| answer);
                    return fail(answers, error, &monitor).await;
                }
            };
            let hold = HOLD_TIMEOUT.saturating_sub(began.elapsed()).max(SHORTEST_HOLD);
            if let Err(error) = sent.confirmed(&monitor, hold).await {
                let left = all.into_iter().map(|(_, answer)| answer);
                return fail(sent.answers().chain(left), error, &monitor).await;
            }
            sent.answer_known();
            if !sent.is_answered() {
                line.open = None;
                tokio::spawn(await_aside(sent, monitor.clone()));
            } else if let Some(open) = &mut line.open {
                open.is_refused |= sent.is_refused();
            }
        }
    }
}

/// Takes out what goes to the destination of the last one. What has another one is not sent with it: a
/// quorum queue that does not answer keeps the broker from looking at what else its channel was sent.
fn next_batch(all: &mut Vec<(Box<Message>, Answer)>) -> Vec<(Box<Message>, Answer)> {
    let last = all.last().map(|(message, _)| message.destination());
    let is_other = |(message, _): &(Box<Message>, Answer)| Some(message.destination()) != last;
    let from = all.iter().rposition(is_other).map_or(0, |at| at + 1);
    all.split_off(from)
}

/// Waits for the confirms that are missing, and closes the channel.
async fn await_aside(mut sent: Sent, monitor: ConnectionMonitor) {
    if let Err(error) = sent.confirmed(&monitor, CONFIRM_TIMEOUT - HOLD_TIMEOUT).await {
        return fail(sent.answers(), error, &monitor).await;
    }
    close(sent.answer()).await;
}

/// Answers where publishing ends. Why the channel was closed comes right behind, and tells what to do
/// next. Where nothing comes, the session ends for this reason: nobody else would notice that this task
/// publishes no more.
async fn fail(answers: impl Iterator<Item = Answer>, error: Error, monitor: &ConnectionMonitor) {
    if tokio::time::timeout(REASON_TIMEOUT, monitor.gone()).await.is_err() {
        monitor.end(&error.to_string(), false);
    }
    for answer in answers {
        // Whoever asked may have given up waiting.
        drop(answer.send(Err(error.clone())));
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

impl Message {
    fn destination(&self) -> (&str, &str) {
        (&self.exchange, &self.routing_key)
    }

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
