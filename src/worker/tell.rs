//! What follows from an outcome, and from a copy that has nothing to do now.

use std::time::Duration;

use jiff::Timestamp;

use super::{Error, Received, Subject, Worker, random_f64, span_id};
use crate::broker::{CopyAge, Delivery, Owed, Parking};
use crate::command::Kind;
use crate::event::{About, Event};
use crate::ledger::{Case, Held};
use crate::metrics;
use crate::otel::{Span, Telling};
use crate::outcome::Outcome;
use crate::trace::Trace;

/// How a copy waits that replaces no other one.
pub(super) struct Copy {
    pub(super) delay: Duration,
    /// How often it was parked, so that older ones can be told from it.
    pub(super) parked: u32,
    /// How old its command is, as far as that is known.
    pub(super) age: Option<CopyAge>,
}

impl Worker {
    /// Ends a command: ledger, then event, then ack.
    pub(super) async fn conclude(
        &self,
        delivery: Delivery,
        subject: &Subject<'_>,
        received: &Received,
        case: Case,
        outcome: Outcome,
    ) -> Result<(), Error> {
        let telling = received.span.telling(|| Telling {
            exchange: delivery.exchange(),
            former: None,
            command_id: subject.command_id,
        });
        let about = About {
            command_id: subject.command_id,
            event_id: subject.id,
            kind: subject.kind,
            subject: subject.subject,
            correlation_id: subject.correlation_id,
            attempts: case.history.attempts(),
            trace: &received.trace,
            span: span_id(&telling),
        };
        let event = Event::new(&about, &outcome, self.now().wall);
        let took = event.time.duration_since(case.history.first_received);
        let took = Duration::try_from(took).unwrap_or_default();
        let needs_a_person = outcome.needs_a_person();
        match self.ledger.finish(case, &event, needs_a_person).await {
            Ok(Held::Yes) => {}
            Ok(Held::Lost) => return self.park_busy(delivery, subject, received, None).await,
            Err(error) => {
                return self.do_without_ledger(delivery, subject, about.attempts, &error).await;
            }
        }
        self.metrics.finished(subject.kind, outcome.as_str(), took);
        if needs_a_person {
            self.counted.insert(&event.id);
        }
        log_finished(subject, &event, about.attempts, took, received.trace.id());
        received.span.ended(&event.outcome, event.code.as_deref(), needs_a_person);
        let owed = Owed { event: true, dead_letter: needs_a_person };
        self.tell(delivery, subject.kind, &event, owed, telling).await
    }

    /// Says again what was said before. Where it may not have been told yet, what follows from it
    /// is done now: the ledger may have kept it while its answer was lost, or whoever told it died
    /// before its copy was where a person looks. A copy that waited since the broker
    /// refused something is owed just that.
    pub(super) async fn replay(
        &self,
        delivery: Delivery,
        subject: &Subject<'_>,
        received: &Received,
        event: &Event,
        is_untold: bool,
    ) -> Result<(), Error> {
        let refused = delivery.envelope().refused;
        match refused {
            Some(_) => {}
            None => self.metrics.replayed(subject.kind),
        }
        if is_untold && self.counted.insert(&event.id) {
            let took = event.time.duration_since(received.at);
            let took = Duration::try_from(took).unwrap_or_default();
            self.metrics.finished(subject.kind, &event.outcome, took);
        }
        tracing::info!(
            command_id = subject.command_id,
            event_id = event.id,
            kind = metrics::label(subject.kind),
            refused = refused.is_some(),
            "command seen before: answered from the ledger"
        );
        let needs_a_person = matches!(event.outcome.as_str(), "failed" | "unresolved" | "invalid");
        let bury = needs_a_person && (is_untold || delivery.envelope().redelivered);
        // Something is owed in any case, or the copy would not have waited.
        let owed = Owed {
            event: !needs_a_person || refused.is_none_or(|refused| refused.event),
            dead_letter: bury || (needs_a_person && refused.is_some_and(|it| it.dead_letter)),
        };
        let telling = received.span.telling(|| Telling {
            exchange: delivery.exchange(),
            former: Trace::read(&event.traceparent, None),
            command_id: subject.command_id,
        });
        received.span.ended(&event.outcome, event.code.as_deref(), needs_a_person);
        self.tell(delivery, subject.kind, event, owed, telling).await
    }

    /// The command has ended, and this ledger does not know how: it is another one, or
    /// `LEDGER_RETENTION` has passed. Nothing may come of it again.
    pub(super) async fn forget(
        &self,
        delivery: Delivery,
        subject: &Subject<'_>,
    ) -> Result<(), Error> {
        tracing::warn!(
            command_id = subject.command_id,
            kind = metrics::label(subject.kind),
            "the event of a command that has ended was refused, and the ledger does not know it any \
             more: it is not told again"
        );
        delivery.ack().await
    }

    async fn tell(
        &self,
        delivery: Delivery,
        kind: Option<Kind>,
        event: &Event,
        owed: Owed,
        span: Span,
    ) -> Result<(), Error> {
        let told = delivery.tell(event, owed).await.inspect_err(|_| span.failed())?;
        if told.refused.event {
            span.failed();
            self.refused(kind, event);
        } else if owed.event {
            span.told(&event.id, &event.message_type);
            self.metrics.told(kind, told.took, told.is_unrouted);
        }
        if told.refused.dead_letter {
            tracing::error!(
                event_id = event.id,
                "the queue for dead letters refuses a command: it waits and is put there later"
            );
        } else if owed.dead_letter {
            self.metrics.buried(kind, event.code.as_deref().unwrap_or_default());
            self.note_told(event).await;
        }
        Ok(())
    }

    /// The broker did not take an event since a subscriber's queue refused it.
    pub(super) fn refused(&self, kind: Option<Kind>, event: &Event) {
        self.metrics.refused(kind);
        tracing::warn!(
            event_id = event.id,
            message_type = event.message_type,
            "a queue refuses an event, or does not confirm it (which one, the broker does not say): \
             it waits and is told again"
        );
    }

    /// The ledger learns that what follows from an end was done. Without this note it is done once
    /// more: nothing is lost with it.
    pub(super) async fn note_told(&self, event: &Event) {
        // What the ledger knows it by: `<id>.<outcome>`.
        let id = event.id.rsplit_once('.').map_or(event.id.as_str(), |(id, _)| id);
        match self.ledger.told(id).await {
            Ok(()) => self.counted.remove(&event.id),
            Err(error) => self.close_for_ledger(&error),
        }
    }

    /// Somebody else has the command, or its tid: this copy looks again later, and once what it
    /// waits for is over there is something to see.
    pub(super) async fn park_busy(
        &self,
        delivery: Delivery,
        subject: &Subject<'_>,
        received: &Received,
        wait: Option<Duration>,
    ) -> Result<(), Error> {
        let parked = delivery.envelope().parked.saturating_add(1);
        let again = self.policy.retry.delay(parked, random_f64());
        let until_expiry = |expiry: Timestamp| {
            let left = expiry.duration_since(self.now().wall);
            Duration::try_from(left).unwrap_or_default()
        };
        let ends = [wait, subject.expiry.map(until_expiry)];
        let wait = ends.into_iter().flatten().fold(again, Duration::min);
        let copy = Copy { delay: wait, parked, age: delivery.envelope().age };
        self.park_copy(delivery, subject, received, copy).await
    }

    /// A copy that came before its time waits on.
    pub(super) async fn park_early(
        &self,
        delivery: Delivery,
        subject: &Subject<'_>,
        received: &Received,
        wait: Duration,
    ) -> Result<(), Error> {
        let envelope = delivery.envelope();
        let copy = Copy { delay: wait, parked: envelope.parked, age: envelope.age };
        self.park_copy(delivery, subject, received, copy).await
    }

    /// Parks a copy that replaces no other one.
    pub(super) async fn park_copy(
        &self,
        delivery: Delivery,
        subject: &Subject<'_>,
        received: &Received,
        Copy { delay, parked, age }: Copy,
    ) -> Result<(), Error> {
        let parking = Parking {
            delay,
            kind: subject.kind,
            reason: "busy",
            attempts: delivery.envelope().attempts,
            parked,
            first_received: received.at,
            age,
            traceparent: Some(&received.traceparent()),
        };
        received.span.parked("busy");
        let _waits = self.waiting.note(subject.id);
        delivery.park(parking).await
    }
}

/// One line a command.
fn log_finished(subject: &Subject<'_>, event: &Event, attempts: u32, took: Duration, trace: &str) {
    tracing::info!(
        command_id = subject.command_id,
        event_id = event.id,
        kind = metrics::label(subject.kind),
        outcome = event.outcome,
        code = event.code,
        subject = subject.subject,
        attempts,
        took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        trace_id = trace,
        "command finished"
    );
}
