//! Inlets: where the commands of one kind come in.

use std::sync::Arc;

use futures_util::StreamExt as _;
use lapin::options::{BasicCancelOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::protocol::AMQPSoftError;
use lapin::types::FieldTable;
use lapin::{Channel, Connection, Consumer};

use super::Error;
use super::consumer::Delivery;
use super::declare::{Declarer, said, soft_error};
use super::link::Link;
use super::publisher::Publisher;
use super::topology::Names;
use crate::command::Kind;

/// What the inlets of one session share.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) consuming: Arc<Connection>,
    pub(super) publisher: Publisher,
    pub(super) publishing: Link,
    pub(super) names: Arc<Names>,
    pub(super) prefetch: u16,
}

/// The consumer of one kind's queue, if it is consumed now. Its channel goes with it, and with
/// the channel whatever is not settled: it must be kept until the last delivery is.
pub(crate) struct Inlet {
    /// Whose queue it is; a message in it may be of another kind.
    pub(crate) kind: Kind,
    shared: Shared,
    channel: Option<Channel>,
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
        match self.consumer.as_mut()?.next().await? {
            Ok(delivery) => {
                let (publisher, names) = (self.shared.publisher.clone(), &self.shared.names);
                Some(Delivery::new(delivery, publisher, Arc::clone(names)))
            }
            Err(error) => {
                tracing::debug!(kind = self.kind.as_str(), %error, "the consumer failed");
                None
            }
        }
    }

    /// Has the broker deliver, unless it does. Where it does not let this user, that is noted
    /// as a mismatch.
    pub(crate) async fn resume(&mut self) -> Result<(), Error> {
        if self.is_consuming {
            return Ok(());
        }
        let channel = match &self.channel {
            Some(channel) => channel.clone(),
            None => self.open().await?,
        };
        let queue = self.shared.names.queue(self.kind);
        // Each time another tag: the channel of RabbitMQ 3.10 crashes where that of a quorum
        // queue is used again while a delivery to its first consumer is not acknowledged.
        self.registered = self.registered.wrapping_add(1);
        let tag = format!("eko-worker-{}-{}", self.kind.as_str(), self.registered);
        let options = BasicConsumeOptions::default();
        let consumed = channel
            .basic_consume(queue.as_str().into(), tag.into(), options, FieldTable::default())
            .await;
        match consumed {
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

    async fn open(&mut self) -> Result<Channel, Error> {
        let channel = self.shared.consuming.create_channel().await?;
        channel.basic_qos(self.shared.prefetch, BasicQosOptions::default()).await?;
        Ok(self.channel.insert(channel).clone())
    }

    /// Tells the broker to deliver no more; what it has sent already still comes.
    pub(crate) async fn cancel(&mut self) {
        if !std::mem::replace(&mut self.is_consuming, false) {
            return;
        }
        let (Some(channel), Some(consumer)) = (&self.channel, &self.consumer) else {
            return;
        };
        if let Err(error) =
            channel.basic_cancel(consumer.tag(), BasicCancelOptions::default()).await
        {
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
        let mut declarer = Declarer::new(&self.shared.consuming, &self.shared.names);
        let declared = match declarer.shared().await {
            Ok(()) => declarer.kind(self.kind).await,
            Err(error) => Err(error),
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
        let mut link = self.shared.publishing.clone();
        async move { link.blocked().await }
    }

    /// Waits until the broker takes messages.
    pub(crate) async fn unblocked(&self) {
        self.shared.publishing.clone().fine().await;
    }
}
