//! Metrics of the broker.

use prometheus::{Gauge, HistogramVec, IntCounter, IntCounterVec, IntGaugeVec};

use super::families::MetricBuilder;
use super::{kinds, kinds_and_unknown};

/// Seconds from publish to confirm.
const CONFIRM: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0];

/// The broker.
pub(super) struct Broker {
    pub(super) broker_connected: Gauge,
    pub(super) broker_sessions: IntCounter,
    pub(super) event_publish_duration: HistogramVec,
    pub(super) events_unrouted: IntCounterVec,
    pub(super) events_refused: IntCounterVec,
    pub(super) events_refused_waiting: IntGaugeVec,
    pub(super) parking_refused: IntCounterVec,
    pub(super) messages_unreadable: IntCounterVec,
    pub(super) consumers_lost: IntCounterVec,
}

impl Broker {
    /// All of them, at 0.
    pub(super) fn new(builder: &MetricBuilder) -> Result<Self, prometheus::Error> {
        Ok(Self {
            broker_connected: builder
                .plain("broker_connected", "1 while the connections that all kinds share stand.")?,
            broker_sessions: builder.plain_counter(
                "broker_sessions_total",
                "Sessions with the broker that began: one, and one more after each loss.",
            )?,
            event_publish_duration: builder.histogram(
                "event_publish_duration_seconds",
                "Events, from publish to confirm.",
                CONFIRM,
                &[],
            )?,
            events_unrouted: builder.counter(
                "events_unrouted_total",
                "Events that no subscriber's binding took.",
                &[("kind", kinds_and_unknown())],
            )?,
            messages_unreadable: builder.counter(
                "messages_unreadable_total",
                "Messages whose properties cannot be read, or that are too large, by queue.",
                &[("kind", kinds())],
            )?,
            consumers_lost: builder.counter(
                "consumers_lost_total",
                "Times that a kind's consumer was lost alone.",
                &[("kind", kinds())],
            )?,
            events_refused: builder.counter(
                "events_refused_total",
                "Times that a subscriber's queue refused an event.",
                &[("kind", kinds_and_unknown())],
            )?,
            parking_refused: builder.by_waiting_queue(
                "parking_refused_total",
                "Times that a queue under the prefix took no command that should wait in it.",
            )?,
            events_refused_waiting: builder.gauge(
                "events_refused_waiting",
                "Ended commands in the broker that wait until what was refused is told again.",
                &[("kind", kinds())],
            )?,
        })
    }
}
