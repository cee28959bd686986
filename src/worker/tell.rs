//! What follows from an outcome, and from a copy that has nothing to do now.

use std::time::Duration;

use jiff::Timestamp;

use super::{Error, Received, Subject, Worker, now, random_f64, span_id};
use crate::broker::{Delivery, Parking};
use crate::command::Kind;
use crate::decision;
use crate::event::{About, Event};
use crate::ledger::{Case, Held};
use crate::metrics;
use crate::otel::{Span, Telling};
use crate::outcome::Outcome;
use crate::trace::Trace;

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
        let event = Event::new(&about, &outcome, now());
        let took = event.time.duration_since(case.history.first_received);
        let took = Duration::try_from(took).unwrap_or_default();
        match self.ledger.finish(case, &event).await {
            Ok(Held::Yes) => {}
            Ok(Held::Lost) => return self.park_busy(delivery, subject, received, None).await,
            Err(error) => {
                return self.do_without_ledger(delivery, subject, about.attempts, &error).await;
            }
        }
        self.metrics.finished(subject.kind, &outcome, took);
        log_finished(subject, &event, about.attempts, took, received.trace.id());
        let bury = outcome.needs_a_person();
        received.span.ended(&event.outcome, event.code.as_deref(), bury);
        self.tell(delivery, subject.kind, &event, bury, telling).await
    }

    /// Says again what was said before. A delivery that the broker marks redelivered may be
    /// the one whose copy was never put where a person looks.
    pub(super) async fn replay(
        &self,
        delivery: Delivery,
        subject: &Subject<'_>,
        received: &Received,
        event: &Event,
    ) -> Result<(), Error> {
        self.metrics.replayed(subject.kind);
        tracing::info!(
            command_id = subject.command_id,
            event_id = event.id,
            kind = metrics::label(subject.kind),
            "command seen before: answered from the ledger"
        );
        let needs_a_person = matches!(event.outcome.as_str(), "failed" | "unresolved" | "invalid");
        let bury = needs_a_person && delivery.envelope().redelivered;
        let telling = received.span.telling(|| Telling {
            exchange: delivery.exchange(),
            former: Trace::read(&event.traceparent, None),
            command_id: subject.command_id,
        });
        received.span.ended(&event.outcome, event.code.as_deref(), needs_a_person);
        self.tell(delivery, subject.kind, event, bury, telling).await
    }

    async fn tell(
        &self,
        delivery: Delivery,
        kind: Option<Kind>,
        event: &Event,
        bury: bool,
        span: Span,
    ) -> Result<(), Error> {
        let told = delivery.tell(event, bury).await.inspect_err(|_| span.failed())?;
        span.told(&event.id, &event.message_type);
        self.metrics.told(kind, told.took, told.is_unrouted);
        if bury {
            self.metrics.buried(kind, event.code.as_deref().unwrap_or_default());
        }
        Ok(())
    }

    /// Somebody else has the command, or its tid: this copy looks again later.
    pub(super) async fn park_busy(
        &self,
        delivery: Delivery,
        subject: &Subject<'_>,
        received: &Received,
        until: Option<Timestamp>,
    ) -> Result<(), Error> {
        let parked = delivery.envelope().parked.saturating_add(1);
        let wait = self.policy.retry.delay(parked, random_f64());
        let again = decision::later(now(), wait);
        // Once the claim is over there is something to see.
        let due = until.map_or(again, |until| again.min(until));
        self.park_copy(delivery, subject, received, due, parked).await
    }

    /// A copy that came before its time waits on.
    pub(super) async fn park_early(
        &self,
        delivery: Delivery,
        subject: &Subject<'_>,
        received: &Received,
        due: Timestamp,
    ) -> Result<(), Error> {
        let parked = delivery.envelope().parked;
        self.park_copy(delivery, subject, received, due, parked).await
    }

    async fn park_copy(
        &self,
        delivery: Delivery,
        subject: &Subject<'_>,
        received: &Received,
        due: Timestamp,
        parked: u32,
    ) -> Result<(), Error> {
        let parking = Parking {
            delay: Duration::try_from(due.duration_since(now())).unwrap_or_default(),
            kind: subject.kind.map_or(Kind::Refund.as_str(), Kind::as_str),
            reason: "busy",
            attempts: delivery.envelope().attempts,
            parked,
            first_received: received.at,
            traceparent: Some(&received.traceparent()),
        };
        received.span.parked("busy");
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
