//! What a paused worker does: probe Eko, and set aside what it cannot begin.

use std::time::Duration;

use super::{Error, Worker, now, random_f64, random_u64, random_u128};
use crate::broker::{Delivery, Parking};
use crate::command::Kind;
use crate::gate::{Reason, Sight};
use crate::metrics;
use crate::trace::Trace;

impl Worker {
    /// How long to wait before the next probe: backoff from `RETRY_INITIAL` to `RETRY_MAX`.
    pub(crate) fn until_next_probe(&self, kind: Kind) -> Duration {
        self.policy.retry.delay(self.gate.next_probe(kind), random_f64())
    }

    /// One read-only call: whether Eko can be worked with. Key files are read again first, so
    /// that new keys need no restart.
    pub(crate) async fn probe(&self) -> bool {
        if let Err(error) = self.eko.reload_keys() {
            tracing::warn!(error = format!("{error:#}"), "the key files could not be read again");
        }
        let initiator_id =
            self.defaults.initiator_id.as_ref().map_or("", |initiator_id| initiator_id.expose());
        let user_code = self.defaults.user_code.as_deref().unwrap_or_default();
        let called = self.eko.probe(initiator_id, user_code).await;
        self.metrics.inquired(&called.meaning, called.took, called.is_known);
        self.note_skew(called.skew);
        !matches!(Sight::from(&called.meaning), Sight::Against(_))
    }

    /// Stops a kind for a reason that no call of Eko tells.
    pub(crate) fn pause(&self, kind: Kind, reason: Reason) {
        self.gate.close(kind, reason, now());
    }

    /// Lets commands of a kind through again.
    pub(crate) fn reopen(&self, kind: Kind) {
        self.gate.open(kind, now());
    }

    /// Puts back what was delivered but not begun. Handed back, it would count as redelivered,
    /// and a refund would have to be inquired first.
    pub(crate) async fn set_aside(&self, delivery: Delivery, kind: Kind) -> Result<(), Error> {
        let trace = Trace::new(random_u128());
        let (attempts, parked) = (delivery.envelope.attempts, delivery.envelope.parked);
        let parking = Parking {
            delay: self.policy.retry.initial,
            kind: metrics::label(Some(kind)),
            reason: "paused",
            attempts,
            parked,
            first_received: now(),
            traceparent: &trace.parent(random_u64()),
        };
        Ok(delivery.park(parking).await?)
    }
}
