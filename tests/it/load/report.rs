//! What is known of commands that went wrong.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::evidence::{Evidence, Violation};
use super::orders::Orders;
use super::world::World;
use crate::rig::worker::Worker;

/// How many commands are told in full: the first ones show what is wrong.
const IN_FULL: usize = 4;

/// A run in which something went wrong.
pub(crate) struct Failure<'a> {
    pub(crate) title: &'a str,
    pub(crate) orders: &'a Orders,
    pub(crate) evidence: &'a Evidence,
    pub(crate) violations: &'a [Violation],
}

/// Fails the test with all that is known about what went wrong.
pub(crate) async fn fail(
    Failure { title, orders, evidence, violations }: Failure<'_>,
    world: World,
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
    let count = violations.len();
    let files = world.keep_files();
    panic!("{title}: {count} violations; files: {}\n{told}", files.display());
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
        for (n, log) in world.logs.0.iter().enumerate() {
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
