//! Every metric: help, labels, buckets. All label combinations exist from the start, at 0.

mod backlog;
mod broker;
mod families;

use std::time::Duration;

use prometheus::{
    Encoder as _, Gauge, GaugeVec, HistogramVec, IntCounter, IntCounterVec, IntGaugeVec, Registry,
    TextEncoder,
};

use crate::breaker::Reason;
use crate::broker::WaitingQueue;
use crate::command::Kind;
use crate::eko::Endpoint;
use crate::event::Event;
use crate::ledger::BacklogCounts;
use crate::outcome::{Code, OutcomeName};
use crate::verdict::{Cause, Reading, Verdict};
use backlog::Backlog;
use broker::Broker;
use families::{MetricBuilder, ProcessCollectors};

/// Seconds of one call: up to `EKO_TIMEOUT` and beyond.
const CALL: &[f64] = &[0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0];
/// Seconds of one command: from one call to a day of settling.
const COMMAND: &[f64] =
    &[0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 1_800.0, 7_200.0, 86_400.0];
/// Seconds in the queue.
const QUEUE: &[f64] = &[0.01, 0.05, 0.25, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3_600.0];

/// All metrics of one process.
pub(crate) struct Metrics {
    registry: Registry,
    commands: Commands,
    calls: Calls,
    broker: Broker,
    backlog: Backlog,
    ledger_regressions: IntCounter,
    log_lines_dropped: IntCounter,
}

/// Commands and their outcomes.
struct Commands {
    commands: IntCounterVec,
    command_duration: HistogramVec,
    command_codes: IntCounterVec,
    last_success: GaugeVec,
    queue_delay: HistogramVec,
    replays: IntCounterVec,
    in_flight: IntGaugeVec,
    paused: IntGaugeVec,
    dead_lettered: IntCounterVec,
    consuming: IntGaugeVec,
    orphans: IntCounterVec,
}

impl Commands {
    fn new(builder: &MetricBuilder) -> Result<Self, prometheus::Error> {
        let outcomes = outcome_names();
        Ok(Self {
            commands: builder.counter(
                "commands_total",
                "Commands that ended.",
                &[("kind", kinds_and_unknown()), ("outcome", outcomes.clone())],
            )?,
            command_duration: builder.histogram(
                "command_duration_seconds",
                "From first receipt to outcome.",
                COMMAND,
                &[("kind", kinds_and_unknown()), ("outcome", outcomes)],
            )?,
            command_codes: builder.counter(
                "command_codes_total",
                "Commands that ended with a code, which says why they did not succeed.",
                &[("kind", kinds_and_unknown()), ("code", codes())],
            )?,
            last_success: builder.float_gauge(
                "last_success_timestamp_seconds",
                "When a command last succeeded; 0 where none has since the start.",
                &[("kind", kinds())],
            )?,
            queue_delay: builder.histogram(
                "queue_delay_seconds",
                "From publish to first receipt.",
                QUEUE,
                &[("kind", kinds_and_unknown())],
            )?,
            replays: builder.counter(
                "replays_total",
                "Duplicates answered from the ledger.",
                &[("kind", kinds_and_unknown())],
            )?,
            in_flight: builder.gauge(
                "in_flight",
                "Deliveries in the worker's hands.",
                &[("kind", kinds())],
            )?,
            paused: builder.gauge(
                "paused",
                "1 while consumption is paused.",
                &[("kind", kinds()), ("reason", Reason::ALL.map(Reason::as_str).to_vec())],
            )?,
            dead_lettered: builder.counter(
                "dead_lettered_total",
                "Commands put where a person looks.",
                &[("kind", kinds_and_unknown()), ("reason", codes())],
            )?,
            consuming: builder.gauge(
                "consuming",
                "1 while the worker has a consumer of the kind.",
                &[("kind", kinds())],
            )?,
            orphans: builder.counter(
                "orphans_total",
                "Commands whose message never came back, by how they were settled.",
                &[("kind", kinds_and_unknown()), ("outcome", outcome_names())],
            )?,
        })
    }
}

/// Calls of Eko.
struct Calls {
    eko_requests: IntCounterVec,
    eko_request_duration: HistogramVec,
    retries: IntCounterVec,
    clock_skew: Gauge,
    clock_steps: IntCounterVec,
    timestamps_refused: IntCounterVec,
    inquiries: IntCounterVec,
    unclassified_answers: IntCounterVec,
    concurrency_limit: IntGaugeVec,
}

impl Calls {
    fn new(builder: &MetricBuilder) -> Result<Self, prometheus::Error> {
        Ok(Self {
            concurrency_limit: builder.gauge(
                "concurrency_limit",
                "Calls in flight at most.",
                &[("kind", kinds())],
            )?,
            eko_requests: builder.requests()?,
            eko_request_duration: builder.histogram(
                "eko_request_duration_seconds",
                "Calls of Eko, answered or not.",
                CALL,
                &[("endpoint", endpoints())],
            )?,
            retries: builder.counter(
                "retries_total",
                "Commands parked for another attempt.",
                &[("kind", kinds()), ("reason", Cause::ALL.map(Cause::as_str).to_vec())],
            )?,
            clock_skew: builder
                .plain("clock_skew_seconds", "Eko's Date less the ledger's clock.")?,
            clock_steps: builder.counter(
                "clock_steps_total",
                "Steps of the wall clock against the monotonic one.",
                &[],
            )?,
            timestamps_refused: builder.counter(
                "timestamps_refused_total",
                "Timestamps that Eko refused as used, though its clock and the ledger's agree.",
                &[("kind", kinds())],
            )?,
            inquiries: builder.counter(
                "inquiries_total",
                "Inquiries by what they read.",
                &[("result", Reading::NAMES.to_vec())],
            )?,
            unclassified_answers: builder.counter(
                "unclassified_answers_total",
                "Answers of Eko that no row of the tables names.",
                &[("endpoint", endpoints())],
            )?,
        })
    }
}

/// The label of a kind, or of a message without one.
pub(crate) fn label(kind: Option<Kind>) -> &'static str {
    Kind::label(kind)
}

fn outcome_names() -> Vec<&'static str> {
    OutcomeName::ALL.map(OutcomeName::as_str).to_vec()
}

fn kinds() -> Vec<&'static str> {
    Kind::ALL.map(Kind::as_str).to_vec()
}

fn kinds_and_unknown() -> Vec<&'static str> {
    [kinds(), vec![label(None)]].concat()
}

fn codes() -> Vec<&'static str> {
    Code::ALL.map(Code::as_str).to_vec()
}

fn endpoints() -> Vec<&'static str> {
    Endpoint::ALL.map(Endpoint::as_str).to_vec()
}

impl Metrics {
    /// Registers everything, for a worker of this `AMQP_PREFIX`.
    ///
    /// # Errors
    /// Where two metrics have one name: a mistake in this file.
    pub(crate) fn new(prefix: &str) -> Result<Self, prometheus::Error> {
        let builder = MetricBuilder::new()?;
        Ok(Self {
            commands: Commands::new(&builder)?,
            calls: Calls::new(&builder)?,
            broker: Broker::new(&builder)?,
            backlog: Backlog::new(&builder)?,
            ledger_regressions: builder.plain_counter(
                "ledger_regressions_total",
                "Times that the ledger was found to have lost commits.",
            )?,
            log_lines_dropped: builder.plain_counter(
                "log_lines_dropped_total",
                "Log lines that nobody read in time, or that could not be written.",
            )?,
            registry: builder.constants(prefix)?,
        })
    }

    /// A command ended with this event, so long after it was first received.
    pub(crate) fn finished(&self, kind: Option<Kind>, event: &Event, took: Duration) {
        let labels = [label(kind), event.outcome.as_str()];
        self.commands.commands.with_label_values(&labels).inc();
        self.commands.command_duration.with_label_values(&labels).observe(took.as_secs_f64());
        if let Some(code) = &event.code {
            self.commands.command_codes.with_label_values(&[label(kind), code.as_str()]).inc();
        }
        if event.outcome == OutcomeName::Succeeded {
            let at = event.time.as_duration().as_secs_f64();
            self.commands.last_success.with_label_values(&[label(kind)]).set(at);
        }
    }

    /// A message was received for the first time, this long after it was published.
    pub(crate) fn received(&self, kind: Option<Kind>, delay: Duration) {
        self.commands.queue_delay.with_label_values(&[label(kind)]).observe(delay.as_secs_f64());
    }

    /// A kind's endpoint was called.
    pub(crate) fn called(&self, kind: Kind, verdict: &Verdict, took: Duration, is_known: bool) {
        self.exchanged(Endpoint::Of(kind), verdict.as_str(), took, is_known);
    }

    /// A transaction was inquired.
    pub(crate) fn inquired(&self, reading: &Reading, took: Duration, is_known: bool) {
        self.exchanged(Endpoint::Inquiry, reading.as_str(), took, is_known);
        self.calls.inquiries.with_label_values(&[reading.as_str()]).inc();
    }

    fn exchanged(&self, endpoint: Endpoint, verdict: &str, took: Duration, is_known: bool) {
        let endpoint = endpoint.as_str();
        self.calls.eko_requests.with_label_values(&[endpoint, verdict]).inc();
        self.calls.eko_request_duration.with_label_values(&[endpoint]).observe(took.as_secs_f64());
        if !is_known {
            self.calls.unclassified_answers.with_label_values(&[endpoint]).inc();
        }
    }

    /// The wall clock was set.
    pub(crate) fn clock_stepped(&self) {
        self.calls.clock_steps.with_label_values::<&str>(&[]).inc();
    }

    /// Eko refused a timestamp as used, though the clocks agree.
    pub(crate) fn timestamp_refused(&self, kind: Kind) {
        self.calls.timestamps_refused.with_label_values(&[kind.as_str()]).inc();
    }

    /// A command whose message never came back has ended.
    pub(crate) fn orphaned(&self, kind: Option<Kind>, outcome: OutcomeName) {
        self.commands.orphans.with_label_values(&[label(kind), outcome.as_str()]).inc();
    }

    /// Eko's `Date` told its clock.
    pub(crate) fn skewed(&self, seconds: f64) {
        self.calls.clock_skew.set(seconds);
    }

    /// So many calls of a kind may be in flight now.
    pub(crate) fn limited(&self, kind: Kind, limit: u32) {
        self.calls.concurrency_limit.with_label_values(&[kind.as_str()]).set(i64::from(limit));
    }

    /// A command was parked for another attempt.
    pub(crate) fn retried(&self, kind: Kind, cause: Cause) {
        self.calls.retries.with_label_values(&[kind.as_str(), cause.as_str()]).inc();
    }

    /// A duplicate was answered from the ledger.
    pub(crate) fn replayed(&self, kind: Option<Kind>) {
        self.commands.replays.with_label_values(&[label(kind)]).inc();
    }

    /// An event was published.
    pub(crate) fn published(&self, kind: Option<Kind>, took: Duration, is_unrouted: bool) {
        self.broker
            .event_publish_duration
            .with_label_values::<&str>(&[])
            .observe(took.as_secs_f64());
        if is_unrouted {
            self.broker.events_unrouted.with_label_values(&[label(kind)]).inc();
        }
    }

    /// The broker refused an event.
    pub(crate) fn refused(&self, kind: Option<Kind>) {
        self.broker.events_refused.with_label_values(&[label(kind)]).inc();
    }

    /// So many ended commands of a kind wait until what was refused is published again.
    pub(crate) fn refused_waiting(&self, kind: Kind, count: u32) {
        let gauge = &self.broker.events_refused_waiting;
        gauge.with_label_values(&[kind.as_str()]).set(i64::from(count));
    }

    /// A queue in which commands wait has so often taken none since the start.
    pub(crate) fn parking_refused(&self, queue: WaitingQueue, times: u64) {
        let labels = [queue.kind().as_str(), &queue.name()];
        let counter = self.broker.parking_refused.with_label_values(&labels);
        counter.inc_by(times.saturating_sub(counter.get()));
    }

    /// A command was put where a person looks.
    pub(crate) fn dead_lettered(&self, kind: Option<Kind>, code: &str) {
        self.commands.dead_lettered.with_label_values(&[label(kind), code]).inc();
    }

    /// A message in a kind's queue cannot be read.
    pub(crate) fn unreadable(&self, kind: Kind) {
        self.broker.messages_unreadable.with_label_values(&[kind.as_str()]).inc();
    }

    /// The consumer of a kind was lost, and the session was not.
    pub(crate) fn consumer_lost(&self, kind: Kind) {
        self.broker.consumers_lost.with_label_values(&[kind.as_str()]).inc();
    }

    /// A delivery came into the worker's hands, or left them.
    pub(crate) fn holds(&self, kind: Kind, change: i64) {
        self.commands.in_flight.with_label_values(&[kind.as_str()]).add(change);
    }

    /// Consumption of a kind is paused for these reasons, or for none.
    pub(crate) fn paused(&self, kind: Kind, paused: &[Reason]) {
        for reason in Reason::ALL {
            let labels = [kind.as_str(), reason.as_str()];
            let is_paused = paused.contains(&reason);
            self.commands.paused.with_label_values(&labels).set(i64::from(is_paused));
        }
    }

    /// The ledger was found so often to have lost commits.
    pub(crate) fn forgot(&self, times: u64) {
        self.ledger_regressions.inc_by(times);
    }

    /// So many log lines were dropped since the start.
    pub(crate) fn dropped_log_lines(&self, lines: u64) {
        self.log_lines_dropped.inc_by(lines.saturating_sub(self.log_lines_dropped.get()));
    }

    /// Both connections stand, or not.
    pub(crate) fn connected(&self, is_connected: bool) {
        self.broker.broker_connected.set(if is_connected { 1.0 } else { 0.0 });
    }

    /// A session with the broker began.
    pub(crate) fn session_began(&self) {
        self.broker.broker_sessions.inc();
    }

    /// The worker has a consumer of a kind, or none.
    pub(crate) fn consuming(&self, kind: Kind, is_consuming: bool) {
        let gauge = self.commands.consuming.with_label_values(&[kind.as_str()]);
        gauge.set(i64::from(is_consuming));
    }

    /// What the ledger counts, where it answers; `age` turns a time into seconds since then.
    pub(crate) fn counted(
        &self,
        backlog_counts: Option<&BacklogCounts>,
        age: impl Fn(jiff::Timestamp) -> f64,
    ) {
        match backlog_counts {
            Some(backlog_counts) => self.backlog.counted(backlog_counts, age),
            None => self.backlog.not_counted(),
        }
    }

    /// Everything in Prometheus' text format.
    ///
    /// # Errors
    /// Where a metric cannot be encoded.
    pub(crate) fn render(&self) -> Result<Vec<u8>, prometheus::Error> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        ProcessCollectors::encode(&mut text)?;
        Ok(text)
    }
}
