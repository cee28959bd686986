//! The journey of one delivery: the only file that knows the order.

mod account;
mod alone;
mod pause;
mod refuse;
mod settle;
mod tell;
mod waiting;

pub(crate) use account::LastTaken;
pub(crate) use alone::Looked;
pub(crate) use pause::Mispaired;
pub(crate) use waiting::Waiting;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::broker::{Delivery, Error};
use crate::clock::Now;
use crate::command::{self, Command, Defaults, Invalid, Kind};
use crate::decision::{self, Policy, Step, Task, Turn};
use crate::eko::Client;
use crate::gate::{Gate, Permit, Shut};
use crate::history::History;
use crate::ledger::{self, Ask, Case, Claim, Ledger, Waited};
use crate::metrics::{self, Metrics};
use crate::otel::{self, Span, Tracer};
use crate::outcome::{Code, ConfirmedBy, Outcome, Problem};
use crate::trace::Trace;

/// How many claims in a row the worker may die over before it gives a command up.
const MAX_INTERRUPTIONS: u32 = 5;

/// All that deliveries share.
pub(crate) struct Worker {
    pub(crate) ledger: Ledger,
    pub(crate) eko: Client,
    pub(crate) gate: Gate,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) tracer: Tracer,
    pub(crate) policy: Policy,
    pub(crate) defaults: Defaults,
    /// How long a claim lasts.
    pub(crate) lease: Duration,
    /// What time it is.
    pub(crate) clock: Clock,
    /// Ends that were counted, and that the ledger does not know to be told yet.
    pub(crate) counted: Counted,
    /// Whose messages wait here for a call.
    pub(crate) waiting: Waiting,
    /// As whom to inquire where the settings name no account.
    pub(crate) last_taken: LastTaken,
    /// Why nothing may be consumed, where that is so.
    pub(crate) mispaired: watch::Sender<Option<Mispaired>>,
    /// Why the ledger cannot be used, as it was last seen.
    pub(crate) ledger_problem: watch::Sender<Option<ledger::Error>>,
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

/// What is told about a message besides its outcome.
struct Subject<'a> {
    /// What the ledger and the event know it by: the command's id but for `id_reused`.
    id: &'a str,
    command_id: &'a str,
    kind: Option<Kind>,
    subject: Option<&'a str>,
    correlation_id: Option<&'a str>,
    /// After it, the command is not started any more.
    expiry: Option<Timestamp>,
}

impl<'a> Subject<'a> {
    fn of(command: &'a Command) -> Self {
        Self {
            id: &command.id,
            command_id: &command.id,
            kind: Some(command.kind()),
            subject: Some(command.subject()),
            correlation_id: command.correlation_id.as_deref(),
            expiry: command.expiry,
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
        let span = self.journey(&delivery, &command, parent.as_ref());
        let trace = parent.unwrap_or_else(|| match span.place() {
            Some(place) => Trace::begun(place.trace_id, place.is_sampled),
            None => Trace::new(random_u128()),
        });
        let received = Received { at, trace, span, published: envelope.published(parsed.time, at) };
        let handled = match command {
            Ok(command) => self.handle_command(delivery, &command, &received).await,
            Err(invalid) => self.handle_invalid(delivery, &invalid, &received).await,
        };
        if handled.is_err() {
            received.span.failed();
        }
        handled
    }

    /// The span of a delivery; one that comes back from parking tells which journey parked it.
    fn journey(
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
                former: envelope.former.as_deref().and_then(|former| Trace::read(former, None)),
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
        let subject = Subject::of(command);
        // Before the claim: whoever waits holds nothing but the delivery.
        // Only a command that was seen before can have a row whose message is looked for.
        let envelope = delivery.envelope();
        let is_known = envelope.redelivered || envelope.parked > 0;
        let waits = is_known.then(|| self.waiting.note(&command.id));
        let admitted = tokio::select! {
            biased;
            admitted = self.admit(command, is_known) => admitted,
            // It comes again, and must not wait behind itself for its turn.
            () = delivery.lost() => return Ok(()),
        };
        drop(waits);
        let permit = match admitted {
            Ok(permit) => permit,
            Err(shut) => return self.turn_away(delivery, command.kind(), shut).await,
        };
        // The claim begins after whatever the gate held back.
        let ask = self.ask_for(&delivery, command).await;
        let clock = clock();
        let claim = match self.claim(ask, command).await {
            Ok(claim) => claim,
            Err(error) => return self.do_without_ledger(delivery, &subject, 0, &error).await,
        };
        let permit = permit.filter(|_| claim.is_held());
        match claim {
            Claim::Fresh(case) => {
                self.count_receipt(Some(command.kind()), received);
                let begun = case.history.in_flight().then_some(clock);
                self.settle(delivery, command, received, case, begun, permit).await
            }
            Claim::Due(case) => self.settle(delivery, command, received, case, None, permit).await,
            Claim::Interrupted(case) if case.interruptions >= MAX_INTERRUPTIONS => {
                let outcome = given_up(&case);
                self.conclude(delivery, &subject, received, case, outcome).await
            }
            Claim::Interrupted(case) => {
                self.settle(delivery, command, received, case, None, permit).await
            }
            Claim::Refunded(case, receipt) => {
                self.count_receipt(Some(command.kind()), received);
                let confirmed_by = ConfirmedBy::Ledger;
                let outcome = Outcome::Succeeded { confirmed_by, receipt, answer: None };
                self.conclude(delivery, &subject, received, case, outcome).await
            }
            Claim::Busy { wait } => self.park_busy(delivery, &subject, received, wait).await,
            Claim::Early { wait } => self.park_early(delivery, &subject, received, wait).await,
            Claim::Stale => Ok(delivery.ack().await?),
            Claim::Finished { event, is_untold } => {
                self.replay(delivery, &subject, received, &event, is_untold).await
            }
            Claim::Conflict => self.handle_reused(delivery, &subject, received).await,
            Claim::Unknown => self.forget(delivery, &subject).await,
        }
    }

    /// Claims a command, also one that an earlier version began under a tid with leading zeros.
    async fn claim(&self, ask: Ask, command: &Command) -> Result<Claim, ledger::Error> {
        let Some(former) = command.former_canonical() else {
            return self.ledger.claim(ask, random_u32()).await;
        };
        match self.ledger.claim(ask.clone(), random_u32()).await? {
            Claim::Conflict => {
                let digest = self.ledger.digest(former.as_bytes());
                self.ledger.claim(Ask { digest: Some(digest), ..ask }, random_u32()).await
            }
            claim => Ok(claim),
        }
    }

    /// Leave for a call, where one may follow: none follows where a command that was seen before has
    /// ended, and is only told again.
    async fn admit(&self, command: &Command, is_known: bool) -> Result<Option<Permit<'_>>, Shut> {
        if is_known && self.has_ended(command).await {
            return Ok(None);
        }
        match self.first_step(command, self.now()) {
            Step::Attempt | Step::Inquire => self.gate.enter(command.kind()).await.map(Some),
            Step::RetryAfter { .. } | Step::InquireAfter { .. } | Step::Finish(_) => Ok(None),
        }
    }

    /// Whether a command has ended, as far as the ledger says; it is claimed afterwards.
    async fn has_ended(&self, command: &Command) -> bool {
        let ask = Ask::known(&command.id, command.kind().as_str(), self.now(), self.lease);
        let ended = self.ledger.claim(Ask { only_ended: true, ..ask }, random_u32()).await;
        matches!(ended, Ok(Claim::Finished { .. }))
    }

    /// What a command begins with that was never seen before.
    fn first_step(&self, command: &Command, now: Now) -> Step {
        let (task, history) = (Task::of(command), History::new(now));
        decision::decide(task, &history, &self.policy, Turn::Ready, 0.0, now)
    }

    /// What time it is.
    fn now(&self) -> Now {
        self.clock.now()
    }

    /// What signs a first attempt is drawn before that is recorded: what is sent later than Eko
    /// takes it then, it refuses.
    async fn ask_for(&self, delivery: &Delivery, command: &Command) -> Ask {
        let is_refund = command.kind() == Kind::Refund;
        let was_seen = delivery.envelope().redelivered || delivery.envelope().attempts > 0;
        let digest = self.ledger.digest(command.canonical().as_bytes());
        let stamp = match self.first_step(command, self.now()) {
            Step::Attempt => Some(self.eko.stamp().await),
            Step::Inquire
            | Step::RetryAfter { .. }
            | Step::InquireAfter { .. }
            | Step::Finish(_) => None,
        };
        let ask = self.ask(delivery, &command.id, metrics::label(Some(command.kind())));
        Ask {
            is_suspect: is_refund && was_seen,
            has_expired: command.expiry.is_some_and(|expiry| ask.now.wall >= expiry),
            stamp,
            tid: command.tid().map(str::to_owned),
            digest: Some(digest),
            ..ask
        }
    }

    /// Asks for what is known of the id of a delivery, and for nothing new.
    fn ask(&self, delivery: &Delivery, id: &str, kind: &'static str) -> Ask {
        let envelope = delivery.envelope();
        Ask {
            parked: envelope.parked,
            waited: envelope.age.map(|age| Waited {
                first_received: age.first_received,
                // The broker tells the time that was asked for: a policy of the queue may have let
                // the copy go before. The ledger therefore counts it once the command is due.
                age: age.proven.saturating_add(envelope.waited),
            }),
            has_reply_to: envelope.has_reply_to,
            has_ended: envelope.refused.is_some(),
            ..Ask::known(id, kind, self.now(), self.lease)
        }
    }

    fn count_receipt(&self, kind: Option<Kind>, received: &Received) {
        let Some(published) = received.published else {
            return;
        };
        let delay = received.at.duration_since(published);
        self.metrics.received(kind, Duration::try_from(delay).unwrap_or_default());
    }
}

/// The worker died over it too often: it is put where a person looks.
fn given_up(case: &Case) -> Outcome {
    let message = "the worker stopped over it several times in a row: a person must look";
    let problem = Problem::new(Code::DeliveryLimit, message);
    match case.history.doubted_since() {
        Some(_) => Outcome::Unresolved(problem),
        None => Outcome::Failed(problem),
    }
}

/// Tells what time it is: by the wall clock, and since the process began by one that only goes
/// forward.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    process: u64,
    began: Instant,
}

impl Clock {
    /// A clock that begins now, of a process with a number of its own.
    pub(crate) fn begin() -> Self {
        Self { process: random_u64(), began: clock() }
    }

    /// What time it is.
    #[expect(clippy::disallowed_methods, reason = "the worker tells the rest what time it is")]
    pub(crate) fn now(self) -> Now {
        let Self { process, began } = self;
        Now { wall: Timestamp::now(), process, monotonic: began.elapsed() }
    }
}

/// Ends that were counted and are not known to be told. Who sees one again, after an answer of the
/// ledger or a session was lost, counts it unless it stands here.
#[derive(Debug, Default)]
pub(crate) struct Counted(Mutex<HashSet<String>>);

impl Counted {
    /// Notes that an end is counted; tells whether it was not yet.
    fn insert(&self, event_id: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(event_id.to_owned())
    }

    /// It is told, and will not be seen again as untold.
    fn remove(&self, event_id: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(event_id);
    }
}

#[expect(clippy::disallowed_methods, reason = "the worker tells the rest what time it is")]
fn clock() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "the worker draws the chance that others take")]
fn random_f64() -> f64 {
    fastrand::f64()
}

fn random_u32() -> u32 {
    fastrand::u32(..)
}

#[expect(clippy::disallowed_methods, reason = "the worker draws the chance that others take")]
fn random_u64() -> u64 {
    fastrand::u64(..)
}

#[expect(clippy::disallowed_methods, reason = "the worker draws the chance that others take")]
fn random_u128() -> u128 {
    fastrand::u128(..)
}
