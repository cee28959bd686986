//! Copies that wait in the broker.

use super::{Journey, delivered};
use crate::broker::{self, Delivery, Error};
use crate::command::{self, Kind};
use crate::decision::Message;
use crate::ledger::ClaimedCommand;
use crate::metrics;
use crate::order::{Noting, Order, Parking, Placed, Reason, Requeuing};
use crate::worker::Worker;

impl Journey<'_> {
    /// Keeps what is known.
    pub(super) async fn note(&mut self, noting: Noting<ClaimedCommand>) -> Order<ClaimedCommand> {
        let (worker, case) = (self.worker, &noting.claim);
        let is_readable = noting.task.message == Message::Here;
        if let (true, false, Reason::Retry(cause)) = (is_readable, noting.unsettled, noting.reason)
        {
            worker.metrics.retried(noting.task.kind, cause);
        }
        let order = match worker.ledger.note(case, noting.due_in(), noting.unsettled).await {
            Ok(held) => noting.noted(held),
            Err(error) => {
                worker.pause_for_ledger(&error);
                noting.failed()
            }
        };
        if let Order::Park(parking) = &order
            && parking.copy.reason != Reason::Busy
        {
            tracing::info!(
                command_id = self.subject.command_id,
                kind = metrics::label(self.subject.kind),
                reason = parking.copy.reason.as_str(),
                attempts = parking.copy.attempts,
                delay_ms = u64::try_from(parking.copy.delay.as_millis()).unwrap_or(u64::MAX),
                trace_id = self.received.trace.id(),
                "command parked"
            );
        }
        order
    }

    /// Puts a copy where it waits.
    pub(super) async fn park(&mut self, parking: Parking) -> Result<Order<ClaimedCommand>, Error> {
        // Where no queue takes it, its message is in hand for longer than its row says.
        let _waits = self.worker.waiting.note(&self.subject.id);
        let copy = parking.copy;
        let first_received = match (copy.reason, copy.age) {
            (Reason::Retry(_), Some(age)) => age.first_received,
            (Reason::Retry(_) | Reason::Busy, _) => self.received.at,
            (Reason::Ledger | Reason::Paused, _) => {
                let kind = self.subject.kind.unwrap_or(Kind::Refund);
                let placed = self.worker.put_back(&self.delivery, &parking, kind).await?;
                return Ok(parking.parked(placed));
            }
        };
        // What only our setup keeps waiting has no row, and so no note of it was counted.
        if let (Reason::Retry(cause), None, Some(kind)) =
            (copy.reason, self.command, self.subject.kind)
        {
            self.worker.metrics.retried(kind, cause);
        }
        self.received.span.parked(copy.reason.as_str());
        let traceparent = self.received.traceparent();
        let (kind, traceparent) = (self.subject.kind, Some(traceparent.as_str()));
        let copy = broker::Parking { copy, kind, first_received, traceparent };
        Ok(parking.parked(self.delivery.park(copy).await?))
    }

    /// Requeues the delivery.
    pub(super) async fn requeue(self, requeuing: Requeuing) -> Result<(), Error> {
        self.delivery.requeue().await?;
        if let (Some(publication), Some(published)) = (self.publication, &requeuing.published) {
            self.worker.count_published(self.subject.kind, publication, published);
        }
        self.worker.note_settled(&self.subject.id, requeuing.requeued()).await;
        Ok(())
    }
}

impl Worker {
    /// Puts back what was delivered while nothing of its kind may begin.
    pub(crate) async fn park(&self, delivery: Delivery, kind: Kind) -> Result<(), Error> {
        let id = delivery.envelope().is_back().then(|| self.id_of(&delivery)).flatten();
        let _waits = id.as_deref().map(|id| self.waiting.note(id));
        let mut order: Order<ClaimedCommand> = Order::set_aside(delivered(&delivery, None));
        loop {
            order = match order {
                Order::Wait(waiting) => waiting.decided(&self.conditions()),
                Order::Park(parking) => {
                    let placed = self.put_back(&delivery, &parking, kind).await?;
                    parking.parked(placed)
                }
                Order::Acknowledge(_) => return delivery.ack().await,
                _ => return delivery.requeue().await,
            }
        }
    }

    /// The id of what was delivered, where it has one.
    fn id_of(&self, delivery: &Delivery) -> Option<String> {
        let correlation_id = delivery.envelope().correlation_id.as_deref();
        match command::parse(delivery.body(), correlation_id, &self.defaults).command {
            Ok(command) => Some(command.id),
            Err(invalid) => invalid.id,
        }
    }

    /// Parks a copy of what has not begun, or could not be written down.
    async fn put_back(
        &self,
        delivery: &Delivery,
        parking: &Parking,
        kind: Kind,
    ) -> Result<Placed, Error> {
        let parking = broker::Parking {
            copy: parking.copy,
            kind: Some(kind),
            first_received: parking
                .copy
                .age
                .map_or_else(|| self.now().wall, |age| age.first_received),
            // What has not begun stays in the trace that its message names.
            traceparent: None,
        };
        delivery.park(parking).await
    }
}
