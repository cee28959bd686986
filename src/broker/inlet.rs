//! Inlets: where the commands of one kind come in.

use std::sync::Arc;

use futures_util::StreamExt as _;
use lapin::options::{BasicCancelOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::protocol::AMQPSoftError;
use lapin::types::FieldTable;
use lapin::{Channel, Connection, Consumer};

use super::Error;
use super::acks::Acks;
use super::consumer::Delivery;
use super::declare::{Declarer, said, soft_error};
use super::link::Link;
use super::publisher::Publisher;
use super::replier::Replier;
use super::topology::Names;
use crate::command::Kind;

/// What the inlets of one session share.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) connection: Arc<Connection>,
    pub(super) consuming: Link,
    pub(super) publisher: Publisher,
    pub(super) publishing: Link,
    pub(super) replier: Replier,
    pub(super) names: Arc<Names>,
    pub(super) prefetch: u16,
}

/// The consumer of one kind's queue, if it is consumed now. Its channel goes with it, and with
/// the channel whatever is not settled: it must be kept until the last delivery is.
pub(crate) struct Inlet {
    /// Whose queue it is; a message in it may be of another kind.
    pub(crate) kind: Kind,
    shared: Shared,
    /// With what settles its deliveries.
    channel: Option<(Channel, Acks)>,
    consumer: Option<Consumer>,
    is_consuming: bool,
    /// How often a consumer was registered.
    registered: u32,
    mismatch: Option<String>,
}

impl Inlet {
    /// An inlet that does not consume yet, with what keeps it from it.
    pub(super) const fn new(kind: Kind, shared: Shared, mismatch: Option<String>) -> Self {
        let (channel, consumer) = (None, None);
        Self { kind, shared, channel, consumer, is_consuming: false, registered: 0, mismatch }
    }

    /// The next delivery; `None` once the consumer is gone, for whatever reason.
    pub(crate) async fn next(&mut self) -> Option<Delivery> {
        let consumer = self.consumer.as_mut()?;
        let next = tokio::select! {
            biased;
            next = consumer.next() => next,
            _ = self.shared.consuming.gone() => None,
        };
        match next? {
            Ok(delivery) => {
                let (_, acks) = self.channel.as_ref()?;
                let ack = acks.note(delivery.delivery_tag);
                Some(Delivery::new(self.kind, delivery, ack, &self.shared))
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
        let channel = match &self.channel {
            Some((channel, _)) => channel.clone(),
            None => self.open().await?,
        };
        let queue = self.shared.names.queue(self.kind);
        // Each time another tag: the channel of RabbitMQ 3.10 crashes where that of a quorum
        // queue is used again while a delivery to its first consumer is not acknowledged.
        self.registered = self.registered.wrapping_add(1);
        let tag = format!("eko-worker-{}-{}", self.kind.as_str(), self.registered);
        let options = BasicConsumeOptions::default();
        let (name, table) = (queue.as_str().into(), FieldTable::default());
        let consume = channel.basic_consume(name, tag.into(), options, table);
        match self.shared.consuming.during(consume).await {
            Ok(consumer) => {
                (self.consumer, self.is_consuming) = (Some(consumer), true);
                Ok(())
            }
            Err(error) if soft_error(&error) == Some(AMQPSoftError::ACCESSREFUSED) => {
                self.channel = None;
                self.mismatch = Some(format!("queue {queue} can not be read: {}", said(&error)));
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Whether the broker was asked to deliver, and not yet to stop.
    pub(crate) const fn is_consuming(&self) -> bool {
        self.is_consuming
    }

    /// What is to be said where the broker does not answer.
    pub(crate) fn silence(&self) -> String {
        let queue = self.shared.names.queue(self.kind);
        format!(
            "queue {queue} does not answer: it may have no leader \
             (rabbitmq-queues quorum_status {queue})"
        )
    }

    async fn open(&mut self) -> Result<Channel, Error> {
        let Shared { connection, consuming, prefetch, .. } = &self.shared;
        let channel = consuming.during(connection.create_channel()).await?;
        consuming.during(channel.basic_qos(*prefetch, BasicQosOptions::default())).await?;
        let acks = Acks::start(channel.clone(), consuming.clone(), *prefetch);
        self.channel = Some((channel.clone(), acks));
        Ok(channel)
    }

    /// Registers the consumer anew, on a channel of its own unless there was something left to
    /// deliver, which is given back: RabbitMQ 3.10 delivers nothing any more where a queue was
    /// deleted and declared again at once, tells nobody, and counts the consumer as well. With
    /// the old channel goes what the broker believes to have delivered.
    pub(crate) async fn renew(&mut self) -> Result<Vec<Delivery>, Error> {
        self.cancel().await;
        let mut left = Vec::new();
        while let Some(delivery) = self.next().await {
            left.push(delivery);
        }
        if left.is_empty()
            && let Some((channel, _)) = self.channel.take()
        {
            self.shared.consuming.during(channel.close(200, "renewed".into())).await?;
        }
        self.resume().await?;
        Ok(left)
    }

    /// Tells the broker to deliver no more; what it has sent already still comes.
    pub(crate) async fn cancel(&mut self) {
        if !std::mem::replace(&mut self.is_consuming, false) {
            return;
        }
        let (Some((channel, _)), Some(consumer)) = (&self.channel, &self.consumer) else {
            return;
        };
        let cancel = channel.basic_cancel(consumer.tag(), BasicCancelOptions::default());
        if let Err(error) = self.shared.consuming.during(cancel).await {
            tracing::debug!(kind = self.kind.as_str(), %error, "the consumer was gone already");
        }
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

    /// Whether the broker takes no messages now: nothing can be told or parked.
    pub(crate) fn is_blocked(&self) -> bool {
        self.shared.publishing.is_blocked()
    }

    /// Waits until the broker takes no messages.
    pub(crate) fn blocked(&self) -> impl Future<Output = ()> + Send + use<> {
        let link = self.shared.publishing.clone();
        async move { link.blocked().await }
    }

    /// Waits until the broker takes messages.
    pub(crate) async fn unblocked(&self) {
        self.shared.publishing.fine().await;
    }
}
