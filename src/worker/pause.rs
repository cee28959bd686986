//! What a paused worker does: probe Eko or the ledger, and set aside what it cannot begin or
//! cannot write down.

use std::time::Duration;

use super::{Error, Subject, Worker, now, random_f64, random_u64, random_u128};
use crate::broker::{Delivery, Parking};
use crate::command::Kind;
use crate::gate::{Reason, Sight};
use crate::ledger;
use crate::trace::Trace;

impl Worker {
    /// How long to wait before the next probe: backoff from `RETRY_INITIAL` to `RETRY_MAX`.
    pub(crate) fn until_next_probe(&self, kind: Kind) -> Duration {
        self.policy.retry.delay(self.gate.next_probe(kind), random_f64())
    }

    /// Whether what closed the gate of a kind is over.
    pub(crate) async fn probe(&self, reason: Reason) -> bool {
        match reason {
            Reason::Ledger => match self.ledger.probe().await {
                Ok(()) => true,
                Err(error) => {
                    tracing::debug!(%error, "the ledger still fails");
                    false
                }
            },
            Reason::Unauthorized
            | Reason::Misconfigured
            | Reason::Clock
            | Reason::Outage
            | Reason::RateLimited
            | Reason::BrokerBlocked
            | Reason::Topology => self.probe_eko().await,
        }
    }

    /// One read-only call: whether Eko can be worked with. Key files are read again first, so
    /// that new keys need no restart.
    async fn probe_eko(&self) -> bool {
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

    /// What the ledger could not write down goes back as it came, and no event tells of it: the
    /// gates close first, so that it waits in the broker. `attempts` that were made are known
    /// by their begin in the ledger; the copy tells them too, should the ledger be lost.
    pub(super) async fn do_without_ledger(
        &self,
        delivery: Delivery,
        subject: &Subject<'_>,
        attempts: u32,
        error: &ledger::Error,
    ) -> Result<(), Error> {
        self.close_for_ledger(error);
        let kind = subject.kind.unwrap_or(Kind::Refund);
        self.put_back(delivery, kind, Reason::Ledger.as_str(), attempts).await
    }

    pub(super) fn close_for_ledger(&self, error: &ledger::Error) {
        if self.gate.close_all(Reason::Ledger, now()) {
            tracing::error!(%error, "the ledger failed: nothing begins until it can be written");
        }
    }

    /// Puts back what was delivered but not begun.
    pub(crate) async fn set_aside(&self, delivery: Delivery, kind: Kind) -> Result<(), Error> {
        self.put_back(delivery, kind, "paused", 0).await
    }

    /// Parks a copy that is no retry. A delivery that is handed back would count as redelivered,
    /// so that a refund would have to be inquired first, would raise the broker's count, and
    /// would come back at once.
    async fn put_back(
        &self,
        delivery: Delivery,
        kind: Kind,
        reason: &str,
        attempts: u32,
    ) -> Result<(), Error> {
        let trace = Trace::new(random_u128());
        let (known, parked) = (delivery.envelope.attempts, delivery.envelope.parked);
        let parking = Parking {
            delay: self.policy.retry.initial,
            kind: kind.as_str(),
            reason,
            attempts: attempts.max(known),
            parked,
            first_received: now(),
            traceparent: &trace.parent(random_u64()),
        };
        delivery.park(parking).await
    }
}
