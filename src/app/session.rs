//! One session with the broker, from its first delivery to its end.

use std::sync::Arc;

use futures_util::future::join_all;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::pump::Pump;
use super::sweep::Sweep;
use super::{App, caretaking, pairing};
use crate::broker::{QueueConsumer, Session};

/// How a session ended.
pub(super) struct End {
    pub(super) why: String,
    /// The user may not publish: another session will end as this one.
    pub(super) is_refused: bool,
}

impl App {
    /// Serves one session until it is lost or the worker is asked to stop; tells why it ended.
    pub(super) async fn serve(&self, mut session: Session) -> End {
        let journeys = TaskTracker::new();
        let lost = CancellationToken::new();
        self.readiness.connected();
        self.worker.metrics.session_began();
        tracing::info!("connected to the broker; consuming");
        for why in session.mismatches() {
            tracing::error!(
                why,
                "an exchange or queue is not what this worker needs; the kinds that need it are \
                 paused until it is repaired"
            );
        }
        let pairing = session.pairing().ok();
        let keeping = pairing.clone();
        let keeping = keeping.map(|pairing| tokio::spawn(Arc::clone(&self.keeper).keep(pairing)));
        let pumps = session.consumers.drain(..).map(|consumer| {
            let pump = Pump {
                worker: Arc::clone(&self.worker),
                readiness: self.readiness.clone(),
                journeys: journeys.clone(),
                stop: self.stop.clone(),
                lost: lost.clone(),
                held: Arc::default(),
            };
            tokio::spawn(pump.run(consumer))
        });
        let swept = lost.child_token();
        if let Some(publisher) = session.outcome_publisher.take() {
            let sweep = Sweep::new(Arc::clone(&self.worker), publisher, self.orphan_after);
            journeys.spawn(sweep.run(swept.clone()));
        }
        let mut pumps = std::pin::pin!(join_all(pumps.collect::<Vec<_>>()));
        let mut why = "a consumer or a channel was lost".to_owned();
        // The consumers are kept until the journeys have ended: with their channels goes
        // whatever is not acknowledged yet.
        let consumers = tokio::select! {
            consumers = &mut pumps => consumers,
            reason = self.over(&session) => {
                why = reason;
                lost.cancel();
                pumps.await
            }
        };
        swept.cancel();
        keeping.iter().for_each(JoinHandle::abort);
        journeys.close();
        if self.stop.is_cancelled() {
            self.drain(&journeys).await;
            if let Some(pairing) = &pairing {
                pairing::end(&self.keeper, pairing).await;
            }
        }
        let is_refused = session.is_refused();
        let mut consumers: Vec<_> = consumers.into_iter().filter_map(Result::ok).collect();
        join_all(consumers.iter_mut().map(QueueConsumer::leave)).await;
        session.close().await;
        End { why, is_refused }
    }

    /// Looks after what is declared until another session is due; tells why it is.
    async fn over(&self, session: &Session) -> String {
        let (metrics, known) = (Arc::clone(&self.worker.metrics), session.mismatches());
        tokio::select! {
            gone = session.gone() => gone,
            why = caretaking::take_care(session.caretaker(&self.refusals), metrics, known) => why,
        }
    }

    async fn drain(&self, journeys: &TaskTracker) {
        if tokio::time::timeout(self.grace, journeys.wait()).await.is_err() {
            tracing::warn!(
                in_flight = journeys.len(),
                "the grace time is over; what is in flight is settled after the next start"
            );
        }
    }
}
