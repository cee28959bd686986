//! One kind's queue: deliveries become journeys, unless consumption is paused.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admin::Readiness;
use crate::backoff::Backoff;
use crate::broker::{Delivery, Inlet};
use crate::command::Kind;
use crate::gate::Reason;
use crate::metrics::Metrics;
use crate::worker::Worker;

/// Between looks at an exchange or queue that is not what the worker needs: each declares all
/// that a kind needs, and a person has to repair it.
const RECHECK: Backoff = Backoff { initial: Duration::from_secs(1), max: Duration::from_secs(30) };

/// Time to hand back what has not begun at the end: a broker that does not answer may not use
/// up the grace time of what has.
const HAND_BACK: Duration = Duration::from_secs(2);

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
    /// The session is lost.
    pub(super) lost: CancellationToken,
    /// Each journey of this pump holds it, too.
    pub(super) held: Arc<()>,
}

impl Pump {
    /// Runs until the worker is asked to stop or the session is lost; gives the inlet back,
    /// which must outlive the journeys.
    pub(super) async fn run(self, mut inlet: Inlet) -> Inlet {
        let kind = inlet.kind;
        let mut closed = self.worker.gate.watch(kind);
        let stop = self.stop.clone();
        let mut look = tokio::time::interval(IDLE);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_idle = false;
        let mut blocked = std::pin::pin!(inlet.blocked());
        loop {
            if let Some(reason) = broken(&inlet) {
                self.worker.pause(kind, reason);
            } else if self.worker.mispaired().is_some() {
                self.worker.pause(kind, Reason::Ledger);
            }
            let reason = *closed.borrow_and_update();
            if let Some(reason) = reason {
                if self.sit_out(&mut inlet, reason).await {
                    continue;
                }
                break;
            }
            if !inlet.is_consuming() && !self.resume(&mut inlet).await {
                break;
            }
            if inlet.mismatch().is_some() {
                continue;
            }
            self.readiness.consuming(kind, true);
            tokio::select! {
                () = stop.cancelled() => {
                    self.let_go(&mut inlet).await;
                    break;
                }
                () = self.lost.cancelled() => break,
                _ = closed.changed() => {}
                () = &mut blocked => blocked.set(inlet.blocked()),
                _ = look.tick() => if is_idle && !self.renew(&mut inlet).await {
                    break;
                } else {
                    is_idle = self.in_flight() == 0;
                },
                delivery = inlet.next() => match delivery {
                    Some(delivery) => {
                        is_idle = false;
                        self.begin(kind, delivery);
                    }
                    None => break,
                },
            }
        }
        self.readiness.consuming(kind, false);
        if !stop.is_cancelled() {
            self.lost.cancel();
        }
        inlet
    }

    /// Has the broker deliver; tells whether that went well.
    async fn resume(&self, inlet: &mut Inlet) -> bool {
        let (kind, silence) = (inlet.kind, inlet.silence());
        let mut resumed = std::pin::pin!(inlet.resume());
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
            tracing::warn!(kind = kind.as_str(), %error, "consumption could not go on");
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
    async fn renew(&self, inlet: &mut Inlet) -> bool {
        let kind = inlet.kind;
        let renewed = tokio::select! {
            renewed = inlet.renew() => renewed,
            () = self.stop.cancelled() => return true,
        };
        match renewed {
            Ok(left) => {
                left.into_iter().for_each(|delivery| self.begin(kind, delivery));
                true
            }
            Err(error) => {
                tracing::warn!(kind = kind.as_str(), %error, "the consumer could not be renewed");
                false
            }
        }
    }

    /// How many journeys of this pump there are.
    fn in_flight(&self) -> usize {
        Arc::strong_count(&self.held) - 1
    }

    fn begin(&self, kind: Kind, delivery: Delivery) {
        let held = Arc::clone(&self.held);
        let (worker, metrics) = (Arc::clone(&self.worker), Arc::clone(&self.metrics));
        let lost = self.lost.clone();
        self.metrics.holds(kind, 1);
        // Boxed once, in place: moved as it is, all its states would be copied on the way.
        let journey = Box::write(Box::new_uninit(), async move {
            let handled = AssertUnwindSafe(worker.handle(delivery)).catch_unwind();
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

    /// Gives back what has not begun, unless the broker takes too long to take it.
    async fn let_go(&self, inlet: &mut Inlet) {
        if tokio::time::timeout(HAND_BACK, self.hand_back(inlet)).await.is_err() {
            tracing::debug!("the broker does not answer; what is left comes again");
        }
    }

    /// Takes no more and gives back what has not begun.
    async fn hand_back(&self, inlet: &mut Inlet) {
        inlet.cancel().await;
        while let Some(delivery) = inlet.next().await {
            if let Err(error) = delivery.hand_back().await {
                tracing::debug!(%error, "a delivery was not handed back; it comes again anyway");
            }
        }
    }

    /// Takes no more and parks what has not begun.
    async fn set_aside(&self, inlet: &mut Inlet) -> bool {
        inlet.cancel().await;
        while let Some(delivery) = inlet.next().await {
            if let Err(error) = self.worker.set_aside(delivery, inlet.kind).await {
                tracing::warn!(%error, "a delivery could not be set aside; it comes again");
                return false;
            }
        }
        true
    }

    /// Leaves everything in the broker until it can be worked with again. Tells whether
    /// consumption goes on.
    async fn sit_out(&self, inlet: &mut Inlet, reason: Reason) -> bool {
        let kind = inlet.kind;
        tracing::warn!(
            kind = kind.as_str(),
            reason = reason.as_str(),
            "consumption is paused; commands stay in the broker"
        );
        self.shows(kind, reason, true, inlet.mismatch());
        let goes_on = tokio::select! {
            () = self.stop.cancelled() => false,
            () = self.lost.cancelled() => false,
            is_fine = self.wait_until_fine(inlet, reason) => is_fine,
        };
        if goes_on {
            self.worker.reopen(kind);
        }
        self.shows(kind, reason, false, None);
        if goes_on {
            tracing::info!(kind = kind.as_str(), reason = reason.as_str(), "consumption goes on");
        }
        goes_on
    }

    async fn wait_until_fine(&self, inlet: &mut Inlet, reason: Reason) -> bool {
        match reason {
            Reason::BrokerBlocked => {
                // Nothing can be parked. After a lost session there may be nothing to wait for.
                if inlet.is_blocked() {
                    self.hand_back(inlet).await;
                }
                inlet.unblocked().await;
                true
            }
            Reason::Topology => self.wait_until_repaired(inlet).await,
            Reason::Unauthorized
            | Reason::Misconfigured
            | Reason::Clock
            | Reason::Outage
            | Reason::RateLimited
            | Reason::Ledger => {
                let hurries = self.worker.gate.hurries();
                self.set_aside(inlet).await
                    && self.wait_for_probe(inlet.kind, reason, hurries).await
            }
        }
    }

    async fn wait_until_repaired(&self, inlet: &mut Inlet) -> bool {
        for nth in 1.. {
            if inlet.mismatch().is_none() {
                break;
            }
            tokio::time::sleep(RECHECK.delay(nth, fastrand::f32().into())).await;
            if let Err(error) = inlet.recheck().await {
                let kind = inlet.kind.as_str();
                tracing::warn!(kind, %error, "the topology could not be checked again");
                return false;
            }
            self.readiness.mismatch(inlet.kind, inlet.mismatch());
        }
        true
    }

    async fn wait_for_probe(
        &self,
        kind: Kind,
        reason: Reason,
        mut hurries: watch::Receiver<()>,
    ) -> bool {
        loop {
            self.worker.until_next_probe(kind, &mut hurries).await;
            if self.worker.probe(kind, reason).await {
                return true;
            }
        }
    }
}

/// What of the broker's keeps a kind from being consumed.
fn broken(inlet: &Inlet) -> Option<Reason> {
    match (inlet.mismatch(), inlet.is_blocked()) {
        (Some(_), _) => Some(Reason::Topology),
        (None, true) => Some(Reason::BrokerBlocked),
        (None, false) => None,
    }
}
