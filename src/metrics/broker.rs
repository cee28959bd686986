//! Metrics of the broker.

use prometheus::{Gauge, HistogramVec, IntCounterVec, IntGaugeVec};

use super::families::Maker;
use super::{CONFIRM, kinds, kinds_and_unknown};

/// The broker.
pub(super) struct Broker {
    pub(super) broker_connected: Gauge,
    pub(super) event_publish_duration: HistogramVec,
    pub(super) events_unrouted: IntCounterVec,
    pub(super) events_refused: IntCounterVec,
    pub(super) events_refused_waiting: IntGaugeVec,
}

impl Broker {
    pub(super) fn new(make: &Maker) -> Result<Self, prometheus::Error> {
        Ok(Self {
            broker_connected: make.plain("broker_connected", "1 while both connections stand.")?,
            event_publish_duration: make.histogram(
                "event_publish_duration_seconds",
                "Events, from publish to confirm.",
                CONFIRM,
                &[],
            )?,
            events_unrouted: make.counter(
                "events_unrouted_total",
                "Events that no subscriber's binding took.",
                &[("kind", kinds_and_unknown())],
            )?,
            events_refused: make.counter(
                "events_refused_total",
                "Times that a subscriber's queue refused an event.",
                &[("kind", kinds_and_unknown())],
            )?,
            events_refused_waiting: make.gauge(
                "events_refused_waiting",
                "Ended commands in the broker that wait until what was refused is told again.",
                &[("kind", kinds())],
            )?,
        })
    }
}
