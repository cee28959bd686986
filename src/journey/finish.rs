//! What follows from an outcome.

use std::borrow::Cow;
use std::time::Duration;

use super::{Journey, span_id};
use crate::broker::{Error, PublishedOutcome};
use crate::command::Kind;
use crate::event::{About, Event};
use crate::ledger::ClaimedCommand;
use crate::metrics;
use crate::order::{
    Acknowledging, Finishing, Order, ParkingRefused, Published, Publishing, Subject,
};
use crate::otel::{self, Span};
use crate::outcome::Outcome;
use crate::trace::Trace;
use crate::worker::Worker;

/// An event that is published.
pub(super) struct Publication {
    span: Span,
    published: Option<PublishedOutcome>,
}

impl Journey<'_> {
    /// Ends a command in the ledger.
    pub(super) async fn finish(
        &mut self,
        finishing: Finishing<ClaimedCommand>,
    ) -> Order<ClaimedCommand> {
        let Finishing { claim, outcome, ending } = finishing;
        let span = self.received.span.publish(|| otel::Publish {
            exchange: self.delivery.exchange(),
            previous: None,
            command_id: self.subject.command_id,
        });
        let subject = match ending.subject {
            Subject::Command => self.command.map(|command| Cow::Borrowed(command.subject())),
            Subject::Ledger => claim.tid().map(|tid| Cow::Owned(tid.to_owned())),
            Subject::Message if matches!(outcome, Outcome::Unresolved(_)) => {
                self.subject.tid_of_begun.clone().map(Cow::Owned)
            }
            Subject::Message => None,
        };
        let attempts = claim.history.attempts();
        let about = About {
            command_id: self.subject.command_id,
            event_id: &self.subject.id,
            kind: self.subject.kind,
            subject: subject.as_deref(),
            correlation_id: self.subject.correlation_id,
            attempts,
            trace: &self.received.trace,
            span: span_id(&span),
        };
        let event = Event::new(&about, &outcome, self.worker.now().wall);
        let took = event.time.duration_since(claim.history.first_received);
        let took = Duration::try_from(took).unwrap_or_default();
        let is_untold = ending.is_untold();
        let order = match self.worker.ledger.finish(claim, &event, is_untold).await {
            Ok(held) => ending.finished(held, event),
            Err(error) => {
                self.worker.pause_for_ledger(&error);
                ending.failed()
            }
        };
        if let Order::Publish(publishing) = &order {
            self.publication = Some(Publication { span, published: None });
            let finished = Finished { subject, attempts, took };
            self.note_finished(&publishing.event, &outcome, &finished);
        }
        order
    }

    /// One line a command.
    fn note_finished(&self, event: &Event, outcome: &Outcome, finished: &Finished<'_>) {
        let (worker, kind) = (self.worker, self.subject.kind);
        let needs_a_person = outcome.needs_a_person();
        worker.metrics.finished(kind, event, finished.took);
        if needs_a_person {
            worker.counted.insert(&event.id);
        }
        tracing::info!(
            command_id = self.subject.command_id,
            event_id = event.id,
            kind = metrics::label(kind),
            outcome = event.outcome.as_str(),
            code = event.code,
            subject = finished.subject.as_deref(),
            attempts = finished.attempts,
            took_ms = u64::try_from(finished.took.as_millis()).unwrap_or(u64::MAX),
            trace_id = self.received.trace.id(),
            "command finished"
        );
        self.received.span.ended(event.outcome.as_str(), event.code.as_deref(), needs_a_person);
    }

    /// Publishes what is owed.
    pub(super) async fn publish(
        &mut self,
        publishing: Publishing,
    ) -> Result<Order<ClaimedCommand>, Error> {
        if publishing.replayed.is_some() {
            self.replay(&publishing);
        }
        let published = self.delivery.publish_outcome(&publishing.event, publishing.owed).await;
        let published = published.inspect_err(|_| self.fail_publication())?;
        if let Some(publication) = &mut self.publication {
            publication.published = Some(published);
        }
        Ok(publishing.published(published.refused))
    }

    /// Notes that what was said before is said again.
    fn replay(&mut self, publishing: &Publishing) {
        let (event, kind) = (&publishing.event, self.subject.kind);
        let refused = self.delivery.envelope().refused;
        if refused.is_none() {
            self.worker.metrics.replayed(kind);
        }
        let is_untold = publishing.replayed.is_some_and(|replayed| replayed.is_untold);
        if is_untold && self.worker.counted.insert(&event.id) {
            let took = event.time.duration_since(self.received.at);
            let took = Duration::try_from(took).unwrap_or_default();
            self.worker.metrics.finished(kind, event, took);
        }
        tracing::info!(
            command_id = self.subject.command_id,
            event_id = event.id,
            kind = metrics::label(kind),
            refused = refused.is_some(),
            "command seen before: its event is published again from the ledger"
        );
        let span = self.received.span.publish(|| otel::Publish {
            exchange: self.delivery.exchange(),
            previous: Trace::read(&event.traceparent, None),
            command_id: self.subject.command_id,
        });
        self.publication = Some(Publication { span, published: None });
        let needs_a_person = event.outcome.needs_a_person();
        self.received.span.ended(event.outcome.as_str(), event.code.as_deref(), needs_a_person);
    }

    /// Puts a copy where it waits until what was refused is published again.
    pub(super) async fn park_refused(
        &mut self,
        parking: ParkingRefused,
    ) -> Result<Order<ClaimedCommand>, Error> {
        let Published { event, refused, .. } = &parking.published;
        let placed = self.delivery.park_refused(event, *refused).await;
        let placed = placed.inspect_err(|_| self.fail_publication())?;
        Ok(parking.parked(placed))
    }

    /// Acknowledges the delivery: nothing more follows from it.
    pub(super) async fn acknowledge(self, acknowledging: Acknowledging) -> Result<(), Error> {
        let Self { worker, delivery, subject, publication, .. } = self;
        let acknowledged = delivery.ack().await;
        if let Some(publication) = publication {
            match (&acknowledged, &acknowledging.published) {
                (Ok(()), Some(published)) => {
                    worker.count_published(subject.kind, publication, published);
                }
                (Ok(()), None) => {}
                (Err(_), _) => publication.span.failed(),
            }
        }
        acknowledged?;
        worker.note_settled(&subject.id, acknowledging.acknowledged()).await;
        Ok(())
    }

    fn fail_publication(&self) {
        if let Some(publication) = &self.publication {
            publication.span.failed();
        }
    }
}

/// What is logged of a command that has ended.
struct Finished<'a> {
    subject: Option<Cow<'a, str>>,
    attempts: u32,
    took: Duration,
}

impl Worker {
    /// Counts what was published, and what the broker has refused.
    pub(super) fn count_published(
        &self,
        kind: Option<Kind>,
        Publication { span, published }: Publication,
        Published { event, owed, refused }: &Published,
    ) {
        if refused.event {
            span.failed();
            self.refused(kind, event);
        } else if owed.event {
            span.published(&event.id, &event.message_type);
            if let Some(published) = published {
                self.metrics.published(kind, published.took, published.is_unrouted);
            }
        }
        if refused.dead_letter {
            tracing::error!(
                event_id = event.id,
                "the queue for dead letters refuses a command: the command waits and is published \
                 there later"
            );
        } else if owed.dead_letter {
            self.metrics.dead_lettered(kind, event.code.as_deref().unwrap_or_default());
        }
    }

    /// The broker did not take an event since a subscriber's queue refused it.
    pub(super) fn refused(&self, kind: Option<Kind>, event: &Event) {
        self.metrics.refused(kind);
        tracing::warn!(
            event_id = event.id,
            message_type = event.message_type,
            "a queue refuses an event or does not confirm it: the event waits and is published \
             again later; the broker does not say which queue"
        );
    }

    /// The ledger learns that what follows from an end was done. Without this note it is done once
    /// more: nothing is lost with it.
    pub(super) async fn note_published(&self, event: &Event) {
        // What the ledger knows it by: `<id>.<outcome>`.
        let id = event.id.rsplit_once('.').map_or(event.id.as_str(), |(id, _)| id);
        match self.ledger.told(id).await {
            Ok(()) => self.counted.remove(&event.id),
            Err(error) => self.pause_for_ledger(&error),
        }
    }
}
