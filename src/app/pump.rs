//! One kind's queue: deliveries become journeys, unless consumption is paused.

mod care;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admin::Readiness;
use crate::backoff::Backoff;
use crate::broker::{Delivery, QueueConsumer};
use crate::command::Kind;
use crate::gate::Reason;
use crate::metrics::Metrics;
use crate::worker::Worker;
use care::Care;

/// Between looks at an exchange or queue that is not what the worker needs: each declares all
/// that a kind needs, and a person has to repair it.
const RECHECK: Backoff = Backoff { initial: Duration::from_secs(1), max: Duration::from_secs(30) };

/// Time to requeue what has not begun at the end: a broker that does not answer may not use
/// up the grace time of what has.
const REQUEUE_TIMEOUT: Duration = Duration::from_secs(2);

/// After how long without a delivery, and with nothing in flight, a consumer is registered anew:
/// it may be one that the broker has forgotten.
const IDLE: Duration = Duration::from_secs(30);

/// How long a queue may take to register a consumer before that is told: longer than an election
/// of its leader. One that has lost its leader for good may never answer.
const ANSWER: Duration = Duration::from_secs(10);

/// Moves deliveries from one queue into journeys.
pub(super) struct Pump {
    pub(super) worker: Arc<Worker>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) readiness: Readiness,
    pub(super) journeys: TaskTracker,
    /// The worker is asked to stop.
    pub(super) stop: CancellationToken,
    /// The session is lost; while it runs, of its consumer: that is lost, alone or with the session.
    pub(super) lost: CancellationToken,
    /// Each journey of this pump holds it, too.
    pub(super) held: Arc<()>,
}

impl Pump {
    /// Runs until the worker is asked to stop or the session is lost; gives the consumer back,
    /// which must outlive the journeys.
    pub(super) async fn run(mut self, mut consumer: QueueConsumer) -> QueueConsumer {
        let (kind, session, mut care) = (consumer.kind, self.lost.clone(), Care::default());
        loop {
            self.lost = session.child_token();
            consumer.carefully(care.is_needed());
            let began = clock();
            self.live(&mut consumer, &mut care).await;
            self.readiness.consuming(kind, false);
            self.lost.cancel();
            if self.stop.is_cancelled() || session.is_cancelled() {
                return consumer;
            }
            self.metrics.consumer_lost(kind);
            care.lost_after(began.elapsed());
            tokio::select! {
                () = self.begin_anew(&mut consumer, &care) => {}
                () = self.stop.cancelled() => return consumer,
                () = session.cancelled() => return consumer,
            }
        }
    }

    /// Gives the connection of a consumer that was lost up, and looks at what it needs where it was
    /// not the connection that was lost.
    async fn begin_anew(&self, consumer: &mut QueueConsumer, care: &Care) {
        let (kind, why) = (consumer.kind.as_str(), consumer.why_gone());
        let is_careful = care.is_needed();
        if care.lost == 0 || care.lost.is_power_of_two() {
            let (why, times) = (why.as_deref().unwrap_or("it was cancelled"), care.lost);
            tracing::warn!(kind, why, times, is_careful, "a consumer was lost and is begun anew");
        }
        consumer.leave().await;
        tokio::time::sleep(care.wait()).await;
        if why.is_none()
            && let Err(error) = consumer.recheck().await
        {
            tracing::debug!(kind, %error, "the topology could not be checked again");
        }
    }

    /// Consumes until the consumer is lost or the worker is asked to stop.
    async fn live(&self, consumer: &mut QueueConsumer, care: &mut Care) {
        let kind = consumer.kind;
        let mut paused = self.worker.gate.watch(kind);
        let stop = self.stop.clone();
        let mut look = tokio::time::interval(IDLE);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut calm = std::pin::pin!(tokio::time::sleep(care::CALM));
        let mut is_idle = false;
        let mut blocked = std::pin::pin!(consumer.blocked());
        loop {
            if let Some(reason) = broken(consumer) {
                self.worker.pause(kind, reason);
            } else if self.worker.mispaired().is_some() {
                self.worker.pause(kind, Reason::Ledger);
            }
            let reason = *paused.borrow_and_update();
            if let Some(reason) = reason {
                if self.sit_out(consumer, reason).await {
                    continue;
                }
                return;
            }
            if !consumer.is_consuming() && !self.resume(consumer).await {
                return;
            }
            if consumer.mismatch().is_some() {
                continue;
            }
            self.readiness.consuming(kind, true);
            tokio::select! {
                () = stop.cancelled() => return self.let_go(consumer).await,
                () = self.lost.cancelled() => return,
                _ = paused.changed() => {}
                () = &mut blocked => blocked.set(consumer.blocked()),
                _ = look.tick() => if is_idle && !self.renew(consumer).await {
                    return;
                } else {
                    is_idle = self.in_flight() == 0;
                },
                () = &mut calm, if care.is_needed() => if !self.relax(consumer, care).await {
                    return;
                },
                delivery = consumer.next() => match delivery {
                    Some(delivery) => {
                        is_idle = false;
                        self.begin(kind, delivery);
                        care.taken = care.taken.saturating_add(1);
                        if care.is_needed()
                            && care.taken > consumer.most()
                            && !self.relax(consumer, care).await
                        {
                            return;
                        }
                    }
                    None => return,
                },
            }
        }
    }

    /// Consumes as usual again, since whatever a consumer was lost over has not come back; tells
    /// whether that went well.
    async fn relax(&self, consumer: &mut QueueConsumer, care: &mut Care) -> bool {
        let kind = consumer.kind;
        *care = Care::default();
        tracing::info!(kind = kind.as_str(), "the consumer lasts; as many at a time as usual");
        is_renewed(kind, consumer.relax(|delivery| self.begin(kind, delivery)).await)
    }

    /// Has the broker deliver; tells whether that went well.
    async fn resume(&self, consumer: &mut QueueConsumer) -> bool {
        let (kind, silence) = (consumer.kind, consumer.silence());
        let mut resumed = std::pin::pin!(consumer.resume());
        let mut is_silent = false;
        let resumed = loop {
            tokio::select! {
                resumed = &mut resumed => break resumed,
                () = tokio::time::sleep(ANSWER), if !is_silent => {
                    tracing::warn!(kind = kind.as_str(), "{silence}");
                    self.shows(kind, Reason::Topology, true, Some(&silence));
                    is_silent = true;
                }
                () = self.stop.cancelled() => break Ok(()),
                () = self.lost.cancelled() => break Ok(()),
            }
        };
        if is_silent {
            self.shows(kind, Reason::Topology, false, None);
        }
        if let Err(error) = &resumed {
            tracing::debug!(kind = kind.as_str(), %error, "consumption could not go on");
        }
        resumed.is_ok() && !self.stop.is_cancelled() && !self.lost.is_cancelled()
    }

    /// Shows that a kind is paused, and why, or no longer.
    fn shows(&self, kind: Kind, reason: Reason, is_paused: bool, why: Option<&str>) {
        self.metrics.paused(kind, reason, is_paused);
        self.readiness.paused(kind, is_paused.then_some(reason));
        self.readiness.mismatch(kind, why);
    }

    /// Registers the consumer anew; tells whether that went well.
    async fn renew(&self, consumer: &mut QueueConsumer) -> bool {
        let kind = consumer.kind;
        let renewed = tokio::select! {
            renewed = consumer.renew(|delivery| self.begin(kind, delivery)) => renewed,
            () = self.stop.cancelled() => return true,
        };
        is_renewed(kind, renewed)
    }

    /// How many journeys of this pump there are.
    fn in_flight(&self) -> usize {
        Arc::strong_count(&self.held) - 1
    }

    fn begin(&self, kind: Kind, delivery: Delivery) {
        let worker = Arc::clone(&self.worker);
        self.spawn(kind, async move { worker.handle(delivery).await });
    }

    fn spawn(
        &self,
        kind: Kind,
        journey: impl Future<Output = Result<(), crate::broker::Error>> + Send + 'static,
    ) {
        let (held, metrics) = (Arc::clone(&self.held), Arc::clone(&self.metrics));
        let lost = self.lost.clone();
        self.metrics.holds(kind, 1);
        // Boxed once, in place: moved as it is, all its states would be copied on the way.
        let journey = Box::write(Box::new_uninit(), async move {
            let handled = AssertUnwindSafe(journey).catch_unwind();
            match handled.await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    // The first of many says it; the others fail for the same reason.
                    if !lost.is_cancelled() {
                        tracing::warn!(%error, "a delivery could not be settled; it comes again");
                    }
                    lost.cancel();
                }
                Err(_) => {
                    tracing::error!("a delivery met a bug and was left; it comes again");
                    lost.cancel();
                }
            }
            metrics.holds(kind, -1);
            drop(held);
        });
        self.journeys.spawn(Box::into_pin(journey));
    }

    /// Requeues what has not begun, unless the broker takes too long to take it.
    async fn let_go(&self, consumer: &mut QueueConsumer) {
        if tokio::time::timeout(REQUEUE_TIMEOUT, self.requeue(consumer)).await.is_err() {
            tracing::debug!("the broker does not answer; what is left comes again");
        }
    }

    /// Takes no more and requeues what has not begun.
    async fn requeue(&self, consumer: &mut QueueConsumer) {
        consumer.cancel();
        while let Some(delivery) = consumer.next().await {
            if let Err(error) = delivery.requeue().await {
                tracing::debug!(%error, "a delivery was not handed back; it comes again anyway");
            }
        }
    }

    /// Takes no more and parks what has not begun. Where no queue takes it, it waits in hand, and
    /// nobody waits for it.
    async fn park(&self, consumer: &mut QueueConsumer) {
        consumer.cancel();
        let kind = consumer.kind;
        while let Some(delivery) = consumer.next().await {
            let worker = Arc::clone(&self.worker);
            self.spawn(kind, async move { worker.park(delivery, kind).await });
        }
    }

    /// Leaves everything in the broker until it can be worked with again. Tells whether
    /// consumption goes on.
    async fn sit_out(&self, consumer: &mut QueueConsumer, reason: Reason) -> bool {
        let kind = consumer.kind;
        tracing::warn!(
            kind = kind.as_str(),
            reason = reason.as_str(),
            "consumption is paused; commands stay in the broker"
        );
        self.shows(kind, reason, true, consumer.mismatch());
        let goes_on = tokio::select! {
            () = self.stop.cancelled() => false,
            () = self.lost.cancelled() => false,
            is_fine = self.wait_until_fine(consumer, reason) => is_fine,
        };
        if goes_on {
            self.worker.resume(kind);
        }
        self.shows(kind, reason, false, None);
        if goes_on {
            tracing::info!(kind = kind.as_str(), reason = reason.as_str(), "consumption goes on");
        }
        goes_on
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
            Reason::Unauthorized
            | Reason::Misconfigured
            | Reason::Clock
            | Reason::Outage
            | Reason::RateLimited
            | Reason::Ledger => {
                let requests = self.worker.gate.probe_requests();
                self.park(consumer).await;
                self.wait_for_probe(consumer.kind, reason, requests).await
            }
        }
    }

    async fn wait_until_repaired(&self, consumer: &mut QueueConsumer) -> bool {
        for nth in 1.. {
            if consumer.mismatch().is_none() {
                break;
            }
            tokio::time::sleep(RECHECK.delay(nth, fastrand::f32().into())).await;
            if let Err(error) = consumer.recheck().await {
                let kind = consumer.kind.as_str();
                tracing::warn!(kind, %error, "the topology could not be checked again");
                return false;
            }
            self.readiness.mismatch(consumer.kind, consumer.mismatch());
        }
        true
    }

    async fn wait_for_probe(
        &self,
        kind: Kind,
        reason: Reason,
        mut requests: watch::Receiver<()>,
    ) -> bool {
        loop {
            self.worker.until_next_probe(kind, &mut requests).await;
            if self.worker.probe(kind, reason).await {
                return true;
            }
        }
    }
}

/// Whether a consumer was registered anew.
fn is_renewed(kind: Kind, renewed: Result<(), crate::broker::Error>) -> bool {
    if let Err(error) = &renewed {
        tracing::warn!(kind = kind.as_str(), %error, "the consumer could not be renewed");
    }
    renewed.is_ok()
}

/// What of the broker's keeps a kind from being consumed.
fn broken(consumer: &QueueConsumer) -> Option<Reason> {
    match (consumer.mismatch(), consumer.is_blocked()) {
        (Some(_), _) => Some(Reason::Topology),
        (None, true) => Some(Reason::BrokerBlocked),
        (None, false) => None,
    }
}

#[expect(clippy::disallowed_methods, reason = "how long a consumer lasted")]
fn clock() -> Instant {
    Instant::now()
}
