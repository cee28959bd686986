//! The journey of one delivery: the order of `order`, with real effects.

mod account;
mod call;
mod claim;
mod finish;
mod health_signal;
mod invalid;
mod orphan;
mod park;

use std::borrow::Cow;

use jiff::Timestamp;
use tokio::time::Instant;

pub(crate) use account::LastTaken;

use crate::breaker::Permit;
use crate::broker::{Delivery, Error};
use crate::command::{self, Command, Invalid, Kind};
use crate::decision::Task;
use crate::ledger::ClaimedCommand;
use crate::metrics;
use crate::order::{Conditions, Deciding, Delivered, Order};
use crate::otel::{self, Span};
use crate::trace::Trace;
use crate::worker::{Worker, clock, random_f64, random_u64, random_u128};
use finish::Publication;
use invalid::Refusal;

/// One delivery, from its receipt to its acknowledgement.
struct Journey<'a> {
    worker: &'a Worker,
    delivery: Delivery,
    /// What it asks for, unless it is no valid command.
    command: Option<&'a Command>,
    received: &'a Received,
    /// The digest of the command that it would be, could its OTP be used.
    unopened: Option<String>,
    subject: Subject<'a>,
    /// Leave for a call.
    permit: Option<Permit<'a>>,
    /// When the call that is next was recorded.
    began: Instant,
    /// What was published.
    publication: Option<Publication>,
}

/// One message as it came in.
struct Received {
    at: Timestamp,
    trace: Trace,
    /// The journey of this delivery.
    span: Span,
    published: Option<Timestamp>,
}

impl Received {
    /// The `traceparent` of what this journey leaves behind.
    fn traceparent(&self) -> String {
        self.trace.parent(span_id(&self.span))
    }
}

/// The id of a span, or one that stands for it where none is made.
fn span_id(span: &Span) -> u64 {
    span.place().map_or_else(random_u64, |place| place.span_id)
}

/// What is published about a message besides its outcome.
struct Subject<'a> {
    /// What the ledger and the event know it by: the command's id but for `id_reused`.
    id: Cow<'a, str>,
    command_id: &'a str,
    kind: Option<Kind>,
    correlation_id: Option<&'a str>,
    /// The tid of an invalid message that Eko may have been called for.
    tid_of_begun: Option<String>,
}

impl<'a> Subject<'a> {
    fn of(command: &'a Command) -> Self {
        Self {
            id: Cow::Borrowed(&command.id),
            command_id: &command.id,
            kind: Some(command.kind()),
            correlation_id: command.correlation_id.as_deref(),
            tid_of_begun: None,
        }
    }
}

impl Worker {
    /// Deals with one delivery.
    ///
    /// # Errors
    /// Where the broker failed: the delivery is not settled.
    pub(crate) async fn handle(&self, delivery: Delivery) -> Result<(), Error> {
        let at = self.now().wall;
        let envelope = delivery.envelope();
        let correlation_id = envelope.correlation_id.as_deref();
        let parsed = command::parse(delivery.body(), correlation_id, &self.defaults);
        let state = envelope.tracestate.as_deref().or(parsed.tracestate.as_deref());
        let parent = [envelope.traceparent.as_deref(), parsed.traceparent.as_deref()]
            .into_iter()
            .flatten()
            .find_map(|parent| Trace::read(parent, state));
        let command = self.unless_unread(&delivery, parsed.command);
        let span = self.span_of(&delivery, &command, parent.as_ref());
        let trace = parent.unwrap_or_else(|| match span.place() {
            Some(place) => Trace::begun(place.trace_id, place.is_sampled),
            None => Trace::new(random_u128()),
        });
        let received = Received { at, trace, span, published: envelope.published(parsed.time, at) };
        let handled = match command {
            Ok(command) => match self.otp_problem(&command, at) {
                None => self.handle_command(delivery, &command, &received).await,
                Some(why) => self.handle_unopened(delivery, &command, why, &received).await,
            },
            Err(invalid) => self.handle_invalid(delivery, Refusal::of(invalid), &received).await,
        };
        if handled.is_err() {
            received.span.failed();
        }
        handled
    }

    /// The span of a delivery; one that comes back from parking tells which journey parked it.
    fn span_of(
        &self,
        delivery: &Delivery,
        command: &Result<Command, Invalid>,
        parent: Option<&Trace>,
    ) -> Span {
        self.tracer.journey(|| {
            let envelope = delivery.envelope();
            let (id, kind) = match command {
                Ok(command) => (Some(command.id.as_str()), Some(command.kind())),
                Err(invalid) => (invalid.id.as_deref(), invalid.kind),
            };
            otel::Received {
                queue: delivery.queue(),
                kind: metrics::label(kind),
                command_id: id,
                parent,
                previous: envelope
                    .previous
                    .as_deref()
                    .and_then(|previous| Trace::read(previous, None)),
                attempts: envelope.attempts,
                parked: envelope.parked,
            }
        })
    }

    async fn handle_command(
        &self,
        delivery: Delivery,
        command: &Command,
        received: &Received,
    ) -> Result<(), Error> {
        let delivered = delivered(&delivery, command.expiry);
        let order = Order::receive(Task::of(command), delivered, &self.policy, self.now());
        let journey = Journey {
            worker: self,
            delivery,
            command: Some(command),
            received,
            unopened: None,
            subject: Subject::of(command),
            permit: None,
            began: clock(),
            publication: None,
        };
        journey.run(order).await
    }

    /// What time it is, and what decides how long a copy waits.
    fn conditions(&self) -> Conditions<'_> {
        Conditions { policy: &self.policy, now: self.now(), jitter: random_f64() }
    }

    /// Decides what the evidence leads to: with give-up times that stood still while the kind was
    /// paused.
    fn decide(&self, deciding: Deciding<ClaimedCommand>) -> Order<ClaimedCommand> {
        let (now, kind) = (self.now(), deciding.task.kind);
        let age = deciding.claim.history.age(now).likely;
        let policy = self.policy.extended(self.breakers.paused_for(kind, age, now.monotonic));
        deciding.decided(&Conditions { policy: &policy, now, jitter: random_f64() })
    }

    /// What follows once a delivery is settled, or has none. Without these notes it is done once
    /// more: nothing is lost with it.
    async fn note_settled(&self, id: &str, mut order: Order<ClaimedCommand>) {
        loop {
            order = match order {
                Order::NoteParked(noting) => {
                    if let Err(error) = self.ledger.parked(id, noting.parked).await {
                        self.pause_for_ledger(&error);
                    }
                    noting.noted()
                }
                Order::NotePublished(noting) => {
                    self.note_published(&noting.event).await;
                    noting.noted()
                }
                _ => return,
            }
        }
    }
}

/// What the order has to know of a delivery.
fn delivered(delivery: &Delivery, expiry: Option<Timestamp>) -> Delivered {
    let envelope = delivery.envelope();
    Delivered {
        parked: envelope.parked,
        attempts: envelope.attempts,
        is_redelivered: envelope.redelivered,
        age: envelope.age,
        refused: envelope.refused,
        expiry,
    }
}

impl Journey<'_> {
    /// Goes the way that the order says.
    async fn run(mut self, mut order: Order<ClaimedCommand>) -> Result<(), Error> {
        loop {
            // A permit is for calls: whatever ends or waits gives it back first.
            if !order.may_call() {
                self.permit = None;
            }
            order = match order {
                Order::Enter(entering) => match self.enter(entering).await {
                    Some(order) => order,
                    // It comes again, and must not wait behind itself for its turn.
                    None => return Ok(()),
                },
                Order::Claim(claiming) => self.claim(claiming).await,
                Order::Decide(deciding) => self.worker.decide(deciding),
                Order::Acquire(acquiring) => self.acquire(acquiring).await,
                Order::Stamp(stamping) => self.stamp(stamping).await,
                Order::Begin(beginning) => self.worker.begin(beginning).await,
                Order::Call(calling) => self.call(calling).await?,
                Order::Inquire(inquiring) => self.inquire(inquiring).await,
                Order::Note(noting) => self.note(noting).await,
                Order::Finish(finishing) => self.finish(finishing).await,
                Order::Publish(publishing) => self.publish(publishing).await?,
                Order::ParkRefused(parking) => self.park_refused(parking).await?,
                Order::Wait(waiting) => waiting.decided(&self.worker.conditions()),
                Order::Park(parking) => self.park(parking).await?,
                Order::Acknowledge(acknowledging) => return self.acknowledge(acknowledging).await,
                Order::Requeue(requeuing) => return self.requeue(requeuing).await,
                // Only what is settled comes so far.
                Order::NoteParked(_) | Order::NotePublished(_) | Order::End(_) => return Ok(()),
            };
        }
    }
}
