//! What the ledger counts. Without an answer of the ledger there is no figure: an old one would hide
//! what has changed since.

use jiff::Timestamp;
use prometheus::{Gauge, GaugeVec};

use super::families::MetricBuilder;
use super::kinds;
use crate::ledger::BacklogCounts;

/// What waits, as the ledger knows it.
pub(super) struct Backlog {
    ledger_up: Gauge,
    parked: GaugeVec,
    unsettled: GaugeVec,
    unsettled_oldest: GaugeVec,
}

impl Backlog {
    /// No figures yet.
    pub(super) fn new(builder: &MetricBuilder) -> Result<Self, prometheus::Error> {
        Ok(Self {
            ledger_up: builder.plain("ledger_up", "1 where the ledger answers.")?,
            parked: builder.late_gauge("parked", "Commands waiting for a retry.", &["kind"])?,
            unsettled: builder.late_gauge(
                "unsettled",
                "Commands whose outcome is not known yet.",
                &["kind"],
            )?,
            unsettled_oldest: builder.late_gauge(
                "unsettled_oldest_seconds",
                "Age of the oldest command whose outcome is not known yet.",
                &["kind"],
            )?,
        })
    }

    /// The ledger has counted; `age` turns a time into seconds since then.
    pub(super) fn counted(&self, counts: &BacklogCounts, age: impl Fn(Timestamp) -> f64) {
        self.ledger_up.set(1.0);
        for kind in kinds() {
            let unsettled = counts.unsettled.get(kind);
            let (count, oldest) =
                unsettled.map_or((0, 0.0), |&(count, since)| (count, age(since).max(0.0)));
            self.unsettled.with_label_values(&[kind]).set(f64::from(count));
            self.unsettled_oldest.with_label_values(&[kind]).set(oldest);
            let parked = counts.parked.get(kind).copied().unwrap_or_default();
            self.parked.with_label_values(&[kind]).set(f64::from(parked));
        }
    }

    /// The ledger did not answer.
    pub(super) fn not_counted(&self) {
        self.ledger_up.set(0.0);
        for gauge in [&self.unsettled, &self.unsettled_oldest, &self.parked] {
            gauge.reset();
        }
    }
}
