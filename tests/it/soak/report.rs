//! What a soak prints: a small table, or, of a command that went wrong, all that is known.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use super::Numbers;
use super::evidence::{Evidence, Violation};
use super::orders::Orders;
use super::world::World;
use crate::rig::worker::Worker;

/// How many commands are told in full: the first ones show what is wrong.
const IN_FULL: usize = 4;

/// The figures of a run.
pub(super) async fn table(
    numbers: &Numbers,
    orders: &Orders,
    evidence: &Evidence,
    world: &World,
    took: Duration,
) -> String {
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

/// Fails the test with all that is known about what went wrong.
pub(super) async fn fail(
    numbers: &Numbers,
    orders: &Orders,
    evidence: &Evidence,
    world: World,
    violations: &[Violation],
) -> ! {
    let mut told = String::new();
    for violation in violations.iter().take(100) {
        writeln!(told, "{}: {}", violation.command, violation.what).unwrap();
    }
    let commands = violations.iter().map(|violation| violation.command.as_str());
    let commands: BTreeSet<_> = commands.filter(|command| !command.is_empty()).collect();
    for command in commands.into_iter().take(IN_FULL) {
        told.push_str(&all_about(command, orders, evidence, &world).await);
    }
    let (seed, count) = (numbers.seed, violations.len());
    let files = world.keep_files();
    panic!("seed {seed}: {count} violations; files: {}\n{told}", files.display());
}

/// All about one command and those that share its tid.
async fn all_about(id: &str, orders: &Orders, evidence: &Evidence, world: &World) -> String {
    let mut told = format!("\n=== {id}\n");
    let at_eko = orders.known.get(id).map(|known| known.at_eko.clone()).unwrap_or_default();
    let related = orders
        .known
        .iter()
        .filter(|(other, known)| *other == id || (!at_eko.is_empty() && known.at_eko == at_eko));
    for (id, known) in related {
        writeln!(told, "--- {id}").unwrap();
        for body in &known.bodies {
            writeln!(told, "published  {}", String::from_utf8_lossy(body)).unwrap();
        }
        for event in evidence.of_command.get(id).into_iter().flatten() {
            writeln!(told, "event      {}", evidence.events[event].body).unwrap();
        }
        for dead in &evidence.dead {
            if known.bodies.contains(&dead.body) {
                writeln!(told, "dead       {:?}", dead.properties.headers()).unwrap();
            }
        }
        let quoted = format!("{id:?}");
        for (n, log) in world.logs.iter().enumerate() {
            for line in log.all().iter().filter(|line| line.contains(&quoted)) {
                writeln!(told, "worker {n:<3} {line}").unwrap();
            }
        }
        let (_, ledger, problem) = Worker::output(&["show", id], &world.settings).await;
        writeln!(told, "ledger     {ledger}{problem}").unwrap();
    }
    writeln!(told, "Eko        {}", world.simulator.record(&at_eko).await).unwrap();
    told
}
