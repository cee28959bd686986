//! Commands whose message never came back: settled from what the ledger knows of them, by
//! inquiries, which need the tid and our own initiator, and no OTP.

use std::time::Duration;

use super::call::note_load;
use crate::breaker::{Permit, Purpose};
use crate::broker::{Error, OutcomePublisher};
use crate::command::Kind;
use crate::event::{About, Event};
use crate::ledger::{ClaimRequest, ClaimedCommand};
use crate::metrics;
use crate::order::{Claiming, End, Finishing, Noting, Order, Publishing};
use crate::trace::Trace;
use crate::worker::{Worker, random_u32, random_u64, random_u128};

/// A command without its message.
struct Orphan<'a> {
    worker: &'a Worker,
    id: &'a str,
    kind: Option<Kind>,
    publisher: &'a OutcomePublisher,
    permit: Option<Permit<'a>>,
}

impl Worker {
    /// Settles a command whose message never came back, as far as that goes now.
    ///
    /// # Errors
    /// Where the broker did not take its event: it stays untold, and is published later.
    pub(crate) async fn settle_orphan(
        &self,
        id: &str,
        kind: Option<Kind>,
        publisher: &OutcomePublisher,
    ) -> Result<End, Error> {
        let orphan = Orphan { worker: self, id, kind, publisher, permit: None };
        orphan.run(Order::settle_orphan(kind)).await
    }
}

impl<'a> Orphan<'a> {
    /// Goes the way that the order says.
    async fn run(mut self, mut order: Order<ClaimedCommand>) -> Result<End, Error> {
        loop {
            if !order.may_call() {
                self.permit = None;
            }
            order = match order {
                Order::Claim(claiming) => self.claim(claiming).await,
                Order::Decide(deciding) => self.worker.decide(deciding),
                Order::Acquire(acquiring) => {
                    self.acquire(acquiring.task.kind).await;
                    acquiring.acquired()
                }
                Order::Begin(beginning) => self.worker.begin(beginning).await,
                Order::Inquire(inquiring) => {
                    let permit = self.acquire(inquiring.task.kind).await;
                    permit.begin();
                    let stamp = permit.stamp();
                    let (order, sample) = self.worker.inquire_alone(inquiring, stamp).await;
                    if let Some(permit) = &self.permit {
                        note_load(permit, sample);
                    }
                    order
                }
                Order::Note(noting) => self.note(noting).await,
                Order::Finish(finishing) => self.finish(finishing).await,
                Order::Publish(publishing) => self.publish(publishing).await?,
                Order::NotePublished(noting) => {
                    self.worker.note_published(&noting.event).await;
                    noting.noted()
                }
                Order::End(end) => return Ok(end),
                // What follows from a message: there is none.
                Order::Enter(_)
                | Order::Stamp(_)
                | Order::Call(_)
                | Order::ParkRefused(_)
                | Order::Wait(_)
                | Order::Park(_)
                | Order::Acknowledge(_)
                | Order::Requeue(_)
                | Order::NoteParked(_) => return Ok(End::Over),
            };
        }
    }

    /// Claims the command by its id alone.
    async fn claim(&self, claiming: Claiming) -> Order<ClaimedCommand> {
        let worker = self.worker;
        let ask = ClaimRequest::known(self.id, self.kind, worker.now(), worker.lease);
        match worker.ledger.claim(ask, random_u32()).await {
            Ok(claim) => claiming.claimed(claim),
            Err(error) => {
                worker.pause_for_ledger(&error);
                claiming.failed()
            }
        }
    }

    async fn acquire(&mut self, kind: Kind) -> &mut Permit<'a> {
        let permit =
            self.worker.breakers.reacquire(kind, Purpose::Inquiry, self.permit.take()).await;
        self.permit.insert(permit)
    }

    async fn note(&self, noting: Noting<ClaimedCommand>) -> Order<ClaimedCommand> {
        let ledger = &self.worker.ledger;
        match ledger.note(&noting.claim, noting.due_in(), noting.unsettled).await {
            Ok(held) => noting.noted(held),
            Err(error) => {
                self.worker.pause_for_ledger(&error);
                noting.failed()
            }
        }
    }

    async fn finish(&self, finishing: Finishing<ClaimedCommand>) -> Order<ClaimedCommand> {
        let (worker, kind) = (self.worker, self.kind);
        let Finishing { claim, outcome, ending } = finishing;
        let about = About {
            command_id: &claim.id,
            event_id: &claim.id,
            kind,
            subject: claim.tid(),
            correlation_id: None,
            attempts: claim.history.attempts(),
            trace: &Trace::new(random_u128()),
            span: random_u64(),
        };
        let event = Event::new(&about, &outcome, worker.now().wall);
        let tid = claim.tid().map(str::to_owned);
        let order = match worker.ledger.finish(claim, &event, ending.is_untold()).await {
            Ok(held) => ending.finished(held, event),
            Err(error) => {
                worker.pause_for_ledger(&error);
                ending.failed()
            }
        };
        if let Order::Publish(Publishing { event, .. }) = &order {
            tracing::warn!(
                command_id = event.command_id,
                kind = metrics::label(kind),
                tid,
                outcome = event.outcome.as_str(),
                code = event.code,
                "a command's message never came back from the broker: the command was settled from \
                 the ledger"
            );
            worker.metrics.orphaned(kind, event.outcome);
        }
        order
    }

    /// Publishes an end that nobody else will publish: its message is gone.
    async fn publish(&self, publishing: Publishing) -> Result<Order<ClaimedCommand>, Error> {
        let (worker, kind, event) = (self.worker, self.kind, &publishing.event);
        let published = self.publisher.publish_outcome(event).await.inspect_err(|error| {
            if matches!(error, Error::Refused { .. } | Error::Unconfirmed { .. }) {
                worker.refused(kind, event);
            }
        })?;
        worker.metrics.published(kind, published.took, published.is_unrouted);
        if worker.counted.insert(&event.id) {
            worker.metrics.finished(kind, event, Duration::ZERO);
        }
        Ok(publishing.published(published.refused))
    }
}
