//! What a soak prints.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use super::Numbers;
use crate::load::evidence::Evidence;
use crate::load::orders::Orders;
use crate::load::world::World;

/// A run that has ended.
pub(super) struct Run<'a> {
    pub(super) numbers: &'a Numbers,
    pub(super) orders: &'a Orders,
    pub(super) evidence: &'a Evidence,
    pub(super) took: Duration,
}

impl Run<'_> {
    /// Its figures.
    pub(super) async fn table(self, world: &World) -> String {
        let Self { numbers, orders, evidence, took } = self;
        let eko = world.simulator.state().await;
        let mut table = String::new();
        let mut row = |name: &str, value: String| {
            writeln!(table, "  {name:<40} {value}").unwrap();
        };
        let Numbers { kills, broker_kills, outages, workers, seed, .. } = numbers;
        row("seed", seed.to_string());
        row("ledger", world.settings["LEDGER_URL"].split(':').next().unwrap().to_owned());
        row("workers", workers.to_string());
        row("took", format!("{:.0} s", took.as_secs_f64()));
        row("commands (messages)", format!("{} ({})", orders.len(), orders.messages()));
        row("worker kills", kills.to_string());
        row("broker kills, Eko outages", format!("{broker_kills}, {outages}"));
        let mut outcomes = BTreeMap::<_, usize>::new();
        for event in evidence.events.values() {
            let kind = event.text("/type").split('.').nth(1).unwrap();
            *outcomes.entry(format!("{kind} {}", event.told())).or_default() += 1;
        }
        for (outcome, count) in outcomes {
            row(&outcome, count.to_string());
        }
        row("repeated events", evidence.repeats.to_string());
        row("dead letters", evidence.dead.len().to_string());
        for (endpoint, calls) in eko["calls"].as_object().unwrap() {
            row(&format!("calls of {endpoint}"), calls.to_string());
        }
        // Two workers may use one millisecond, which Eko refuses the second of them.
        row("timestamps refused", eko["rejected_signatures"].to_string());
        row("tids refunded", eko["executions"].as_object().unwrap().len().to_string());
        table
    }
}
