//! The consumer of one kind's queue: where its commands come in.

use std::sync::Arc;

use futures_util::StreamExt as _;
use lapin::options::{BasicCancelOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::protocol::AMQPSoftError;
use lapin::types::FieldTable;
use lapin::{Channel, Connection, Consumer};

use super::acks::Acks;
use super::connection::{close, open_at};
use super::connection_monitor::ConnectionMonitor;
use super::consumer::Delivery;
use super::declare::{Declarer, said, soft_error};
use super::publisher::Publisher;
use super::refusals::Refusals;
use super::relay::Room;
use super::replier::Replier;
use super::topology::Names;
use super::{Error, Settings};
use crate::command::Kind;

/// What the consumers of one session share.
#[derive(Clone)]
pub(super) struct Shared {
    /// Declares and looks; it consumes nothing, so that no message can end it.
    pub(super) connection: Arc<Connection>,
    pub(super) consuming: ConnectionMonitor,
    pub(super) publisher: Publisher,
    pub(super) publishing: ConnectionMonitor,
    pub(super) replier: Replier,
    pub(super) refusals: Refusals,
    pub(super) names: Arc<Names>,
    pub(super) settings: Arc<Settings>,
    /// Which of the nodes the session is connected to.
    pub(super) node: usize,
}

/// The connection of one consumer: what ends it, such as a message that the broker cannot deliver,
/// leaves all others consuming.
struct Line {
    connection: Connection,
    monitor: ConnectionMonitor,
    channel: Channel,
    /// What settles its deliveries.
    acks: Acks,
    room: Arc<Room>,
}

/// The consumer of one kind's queue, if it is consumed now. Its connection goes with it, and with
/// that whatever is not settled: it must be kept until the last delivery is.
pub(crate) struct QueueConsumer {
    /// Whose queue it is; a message in it may be of another kind.
    pub(crate) kind: Kind,
    shared: Shared,
    line: Option<Line>,
    consumer: Option<Consumer>,
    is_consuming: bool,
    /// How many deliveries are in the worker's hands at a time.
    prefetch: u16,
    /// How often a consumer was registered.
    registered: u32,
    mismatch: Option<String>,
}

impl QueueConsumer {
    /// One that does not consume yet, with what keeps it from it.
    pub(super) fn new(kind: Kind, shared: Shared, mismatch: Option<String>) -> Self {
        let (line, consumer, prefetch) = (None, None, shared.settings.prefetch);
        let (is_consuming, registered) = (false, 0);
        Self { kind, shared, line, consumer, is_consuming, prefetch, registered, mismatch }
    }

    /// The next delivery; `None` once the consumer is gone, for whatever reason.
    pub(crate) async fn next(&mut self) -> Option<Delivery> {
        let (line, consumer) = (self.line.as_ref()?, self.consumer.as_mut()?);
        let next = tokio::select! {
            biased;
            next = consumer.next() => next,
            _ = line.monitor.gone() => None,
        };
        match next? {
            Ok(delivery) => {
                let taken = line.room.taken(delivery.data.len());
                let ack = line.acks.note(delivery.delivery_tag, taken);
                Some(Delivery::new(self.kind, delivery, (ack, line.monitor.clone()), &self.shared))
            }
            Err(error) => {
                tracing::debug!(kind = self.kind.as_str(), %error, "the consumer failed");
                None
            }
        }
    }

    /// Has the broker deliver, unless it does. Where it does not let this user, that is noted
    /// as a mismatch. A queue without a leader answers when it has one again.
    pub(crate) async fn resume(&mut self) -> Result<(), Error> {
        if self.is_consuming {
            return Ok(());
        }
        let queue = self.shared.names.queue(self.kind);
        // Each time another tag: the channel of RabbitMQ 3.10 crashes where that of a quorum
        // queue is used again while a delivery to its first consumer is not acknowledged.
        self.registered = self.registered.wrapping_add(1);
        let tag = format!("eko-worker-{}-{}", self.kind.as_str(), self.registered);
        let (kind, options) = (self.kind, BasicConsumeOptions::default());
        let line = match self.line.take().filter(|line| !line.monitor.is_gone()) {
            Some(line) => self.line.insert(line),
            None => self.line.insert(Line::open(&self.shared, kind, self.prefetch).await?),
        };
        let (name, table) = (queue.as_str().into(), FieldTable::default());
        let consume = line.channel.basic_consume(name, tag.into(), options, table);
        match line.monitor.unless_closed(consume).await {
            Ok(consumer) => {
                (self.consumer, self.is_consuming) = (Some(consumer), true);
                Ok(())
            }
            Err(error) if soft_error(&error) == Some(AMQPSoftError::ACCESSREFUSED) => {
                self.leave().await;
                self.mismatch = Some(format!("queue {queue} cannot be read: {}", said(&error)));
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Whether the broker was asked to deliver, and not yet to stop.
    pub(crate) const fn is_consuming(&self) -> bool {
        self.is_consuming
    }

    /// Why its connection is gone, if it is.
    pub(crate) fn why_gone(&self) -> Option<String> {
        self.line.as_ref()?.monitor.why_gone()
    }

    /// From the next connection on, one delivery at a time, or as many as the settings say.
    pub(crate) fn carefully(&mut self, is_careful: bool) {
        self.prefetch = if is_careful { 1 } else { self.shared.settings.prefetch };
    }

    /// More than so many deliveries cannot have been in hand when a consumer was lost.
    pub(crate) fn most(&self) -> u32 {
        u32::from(self.shared.settings.prefetch) * 2
    }

    /// As many deliveries at a time as the settings say, once it is resumed. `begin` gets those that come
    /// before that, each at once: what comes behind them may wait for their room.
    pub(crate) async fn relax(&mut self, mut begin: impl FnMut(Delivery)) -> Result<(), Error> {
        self.cancel();
        while let Some(delivery) = self.next().await {
            begin(delivery);
        }
        self.carefully(false);
        if let Some(line) = &self.line {
            let qos = line.channel.basic_qos(self.prefetch, BasicQosOptions::default());
            line.monitor.unless_closed(qos).await?;
        }
        Ok(())
    }

    /// Gives its connection up; what is not settled is delivered again.
    pub(crate) async fn leave(&mut self) {
        (self.consumer, self.is_consuming) = (None, false);
        if let Some(line) = self.line.take() {
            // lapin may never answer on a connection that is gone.
            if !line.monitor.is_gone() {
                close(&line.connection).await;
            }
            // Journeys may be left that would wait for an answer.
            line.monitor.end("it was closed", false);
        }
    }

    /// What is to be said where the broker does not answer.
    pub(crate) fn silence(&self) -> String {
        let queue = self.shared.names.queue(self.kind);
        format!(
            "queue {queue} does not answer: it may have no leader \
             (rabbitmq-queues quorum_status {queue})"
        )
    }

    /// Ends the consumer, so that another one follows when it is resumed: on a new connection unless there
    /// was something left to deliver, which `begin` gets as in [`Self::relax`]. RabbitMQ 3.10 delivers nothing any more where a queue was
    /// deleted and declared again at once, tells nobody, and counts the consumer as well. With
    /// the old channel goes what the broker believes to have delivered.
    pub(crate) async fn renew(&mut self, mut begin: impl FnMut(Delivery)) {
        self.cancel();
        let mut was_idle = true;
        while let Some(delivery) = self.next().await {
            was_idle = false;
            begin(delivery);
        }
        if was_idle {
            self.leave().await;
        }
    }

    /// Tells the broker to deliver no more; what it has sent already still comes, and then an end.
    pub(crate) fn cancel(&mut self) {
        if !std::mem::replace(&mut self.is_consuming, false) {
            return;
        }
        let (Some(line), Some(consumer)) = (&self.line, &self.consumer) else {
            return;
        };
        let (channel, monitor) = (line.channel.clone(), line.monitor.clone());
        let (kind, tag) = (self.kind, consumer.tag());
        // Its answer comes behind bodies that may wait for room, so that nobody waits for it here.
        tokio::spawn(async move {
            let cancel = channel.basic_cancel(tag, BasicCancelOptions::default());
            if let Err(error) = monitor.unless_closed(cancel).await {
                tracing::debug!(
                    kind = kind.as_str(), %error,
                    "the consumer could not be cancelled: it had ended already"
                );
            }
        });
    }

    /// What keeps the queue from being consumed: an exchange or queue that is not what this
    /// worker needs.
    pub(crate) fn mismatch(&self) -> Option<&str> {
        self.mismatch.as_deref()
    }

    /// Declares once more what did not match and has the broker deliver, if it does now;
    /// `mismatch` tells.
    pub(crate) async fn recheck(&mut self) -> Result<(), Error> {
        let mut declarer = Declarer::new(&self.shared.connection, &self.shared.names);
        let declare = async {
            declarer.shared().await?;
            declarer.kind(self.kind).await
        };
        let declared = tokio::select! {
            declared = declare => declared,
            why = self.shared.consuming.gone() => Err(Error::Lost(why)),
        };
        match declared {
            Ok(()) => {
                self.mismatch = None;
                self.resume().await
            }
            Err(Error::Topology(why)) => {
                self.mismatch = Some(why);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Whether the broker takes no messages now: nothing can be published or parked.
    pub(crate) fn is_blocked(&self) -> bool {
        self.shared.publishing.is_blocked()
    }

    /// Waits until the broker takes no messages.
    pub(crate) fn blocked(&self) -> impl Future<Output = ()> + Send + use<> {
        let monitor = self.shared.publishing.clone();
        async move { monitor.blocked().await }
    }

    /// Waits until the broker takes messages.
    pub(crate) async fn unblocked(&self) {
        self.shared.publishing.fine().await;
    }
}

impl Line {
    async fn open(shared: &Shared, kind: Kind, prefetch: u16) -> Result<Self, Error> {
        let Shared { settings, node, .. } = shared;
        let room = Room::new(settings.buffer / Kind::ALL.len() as u64);
        let what = format!("consumes {}", kind.as_str());
        let connection = open_at(*node, settings, &what, Arc::clone(&room)).await?;
        let monitor = ConnectionMonitor::follow(&connection, false);
        let channel = monitor.unless_closed(connection.create_channel()).await?;
        monitor.unless_closed(channel.basic_qos(prefetch, BasicQosOptions::default())).await?;
        let acks = Acks::start(channel.clone(), monitor.clone(), settings.prefetch);
        Ok(Self { connection, monitor, channel, acks, room })
    }
}
