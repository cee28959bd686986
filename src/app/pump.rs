//! One kind's queue: deliveries become journeys, unless consumption is paused.

mod care;
mod pause;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admin::Readiness;
use crate::breaker::Reason;
use crate::broker::{Delivery, QueueConsumer};
use crate::command::Kind;
use crate::worker::Worker;
use care::Care;

/// After how long without a delivery, and with nothing in flight, a consumer is registered anew:
/// it may be one that the broker has forgotten.
const IDLE: Duration = Duration::from_secs(30);

/// How long a queue may take to register a consumer before that is told: longer than an election
/// of its leader. One that has lost its leader for good may never answer.
const ANSWER: Duration = Duration::from_secs(10);

/// Moves deliveries from one queue into journeys.
pub(super) struct Pump {
    pub(super) worker: Arc<Worker>,
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
            self.readiness.not_consuming(kind);
            self.lost.cancel();
            if self.stop.is_cancelled() || session.is_cancelled() {
                return consumer;
            }
            self.worker.metrics.consumer_lost(kind);
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
            tracing::debug!(
                kind,
                %error,
                "the topology was not checked, since the broker failed; the next consumer checks it"
            );
        }
    }

    /// Consumes until the consumer is lost or the worker is asked to stop.
    async fn live(&self, consumer: &mut QueueConsumer, care: &mut Care) {
        let kind = consumer.kind;
        let mut paused = self.worker.breakers.watch(kind);
        let stop = self.stop.clone();
        let mut look = tokio::time::interval(IDLE);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut calm = std::pin::pin!(tokio::time::sleep(care::CALM));
        let mut is_idle = false;
        let mut blocked = std::pin::pin!(consumer.blocked());
        loop {
            if let Some(reason) = broken(consumer) {
                self.worker.pause(kind, reason);
            } else if self.worker.breakers.mispaired().is_some() {
                self.worker.pause(kind, Reason::Ledger);
            }
            let pause = *paused.borrow_and_update();
            if let Some(pause) = pause {
                if self.sit_out(consumer, pause).await {
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
            self.readiness.consuming(kind);
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
        tracing::info!(
            kind = kind.as_str(),
            "the consumer lasts: as many deliveries are taken at a time as usual"
        );
        let relaxed = tokio::select! {
            relaxed = consumer.relax(|delivery| self.begin(kind, delivery)) => relaxed,
            () = self.stop.cancelled() => return true,
            () = self.lost.cancelled() => return false,
        };
        if let Err(error) = &relaxed {
            tracing::warn!(
                kind = kind.as_str(),
                %error,
                "the consumer could not be registered anew; another one is begun"
            );
        }
        relaxed.is_ok()
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
                    self.worker.breakers.note_topology(kind, Some(silence.clone()));
                    is_silent = true;
                }
                () = self.stop.cancelled() => break Ok(()),
                () = self.lost.cancelled() => break Ok(()),
            }
        };
        if is_silent {
            self.worker.breakers.note_topology(kind, None);
        }
        if let Err(error) = &resumed {
            tracing::debug!(
                kind = kind.as_str(),
                %error,
                "the consumer could not be registered; it is begun anew"
            );
        }
        resumed.is_ok() && !self.stop.is_cancelled() && !self.lost.is_cancelled()
    }

    /// Has the consumer registered anew; tells whether the former one has ended by itself. A queue that
    /// does not answer may keep it from that.
    async fn renew(&self, consumer: &mut QueueConsumer) -> bool {
        let kind = consumer.kind;
        tokio::select! {
            () = consumer.renew(|delivery| self.begin(kind, delivery)) => true,
            () = tokio::time::sleep(ANSWER) => false,
            () = self.stop.cancelled() => true,
            () = self.lost.cancelled() => false,
        }
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
        let (held, worker) = (Arc::clone(&self.held), Arc::clone(&self.worker));
        let lost = self.lost.clone();
        self.worker.metrics.holds(kind, 1);
        // Boxed once, in place: moved as it is, all its states would be copied on the way.
        let journey = Box::write(Box::new_uninit(), async move {
            let handled = AssertUnwindSafe(journey).catch_unwind();
            match handled.await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    // The first of many says it; the others fail for the same reason.
                    if !lost.is_cancelled() {
                        tracing::warn!(%error, "a delivery was not settled, since the broker failed; it comes again");
                    }
                    lost.cancel();
                }
                Err(_) => {
                    tracing::error!(
                        "a delivery was left, since its journey met a bug; it comes again"
                    );
                    lost.cancel();
                }
            }
            worker.metrics.holds(kind, -1);
            drop(held);
        });
        self.journeys.spawn(Box::into_pin(journey));
    }
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
