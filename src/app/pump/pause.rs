//! What a paused kind does with its consumer, until it is resumed.

use std::sync::Arc;
use std::time::Duration;

use super::Pump;
use crate::backoff::Backoff;
use crate::breaker::{Pause, Reason};
use crate::broker::QueueConsumer;

/// Between looks at an exchange or queue that is not what the worker needs: each declares all
/// that a kind needs, and a person has to repair it.
const RECHECK: Backoff = Backoff { initial: Duration::from_secs(1), max: Duration::from_secs(30) };

/// Time to requeue what has not begun at the end: a broker that does not answer may not use
/// up the grace time of what has.
const REQUEUE_TIMEOUT: Duration = Duration::from_secs(2);

impl Pump {
    /// Leaves everything in the broker until it can be worked with again. Tells whether
    /// consumption is resumed.
    pub(super) async fn sit_out(&self, consumer: &mut QueueConsumer, pause: Pause) -> bool {
        let (kind, Pause { reason, since }) = (consumer.kind, pause);
        tracing::warn!(
            kind = kind.as_str(),
            reason = reason.as_str(),
            "consumption is paused; commands stay in the broker"
        );
        self.worker.breakers.note_topology(kind, consumer.mismatch().map(str::to_owned));
        let is_fine = tokio::select! {
            () = self.stop.cancelled() => false,
            () = self.lost.cancelled() => false,
            is_fine = self.wait_until_fine(consumer, reason) => is_fine,
        };
        if is_fine && reason != Reason::Operator {
            self.worker.resume(kind);
        }
        self.worker.breakers.note_topology(kind, None);
        if let Some(next) = self.worker.breakers.paused(kind).filter(|_| is_fine) {
            tracing::info!(
                kind = kind.as_str(),
                reason = reason.as_str(),
                next = next.reason.as_str(),
                "one reason of the pause is over; another one still pauses the kind"
            );
        } else if is_fine {
            let paused_for = self.worker.now().monotonic.saturating_sub(since);
            tracing::info!(
                kind = kind.as_str(),
                reason = reason.as_str(),
                paused_seconds = paused_for.as_secs(),
                "consumption is resumed"
            );
        }
        is_fine
    }

    async fn wait_until_fine(&self, consumer: &mut QueueConsumer, reason: Reason) -> bool {
        match reason {
            Reason::BrokerBlocked => {
                // Nothing can be parked. After a lost session there may be nothing to wait for.
                if consumer.is_blocked() {
                    self.requeue(consumer).await;
                }
                consumer.unblocked().await;
                true
            }
            Reason::Topology => self.wait_until_repaired(consumer).await,
            Reason::Operator => {
                self.park(consumer).await;
                self.worker.breakers.until_released(consumer.kind).await;
                true
            }
            Reason::Unauthorized
            | Reason::Misconfigured
            | Reason::Clock
            | Reason::Outage
            | Reason::RateLimited
            | Reason::Ledger => {
                let requests = self.worker.breakers.probe_requests();
                self.park(consumer).await;
                self.worker.until_probed(consumer.kind, reason, requests).await;
                true
            }
        }
    }

    async fn wait_until_repaired(&self, consumer: &mut QueueConsumer) -> bool {
        for nth in 1.. {
            if consumer.mismatch().is_none() {
                break;
            }
            tokio::time::sleep(RECHECK.delay(nth, fastrand::f32().into())).await;
            let kind = consumer.kind;
            if let Err(error) = consumer.recheck().await {
                tracing::warn!(
                    kind = kind.as_str(),
                    %error,
                    "the topology was not checked, since the broker failed; the next consumer \
                     checks it"
                );
                return false;
            }
            self.worker.breakers.note_topology(kind, consumer.mismatch().map(str::to_owned));
        }
        true
    }

    /// Takes no more and parks what has not begun. Where no queue takes it, it waits in hand, and
    /// nobody waits for it.
    async fn park(&self, consumer: &mut QueueConsumer) {
        // One pause follows another: a consumer that was cancelled has nothing more to give.
        if !consumer.is_consuming() {
            return;
        }
        consumer.cancel();
        let kind = consumer.kind;
        while let Some(delivery) = consumer.next().await {
            let worker = Arc::clone(&self.worker);
            self.spawn(kind, async move { worker.park(delivery, kind).await });
        }
    }

    /// Requeues what has not begun, unless the broker takes too long to take it.
    pub(super) async fn let_go(&self, consumer: &mut QueueConsumer) {
        if tokio::time::timeout(REQUEUE_TIMEOUT, self.requeue(consumer)).await.is_err() {
            tracing::debug!("the broker does not answer: what was not requeued comes again");
        }
    }

    /// Takes no more and requeues what has not begun.
    async fn requeue(&self, consumer: &mut QueueConsumer) {
        consumer.cancel();
        while let Some(delivery) = consumer.next().await {
            if let Err(error) = delivery.requeue().await {
                tracing::debug!(%error, "a delivery was not requeued; it comes again all the same");
            }
        }
    }
}
