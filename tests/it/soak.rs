//! Crash soak: under load the worker is killed at random moments, the broker is killed and Eko
//! goes away; each command still has exactly one outcome, and each outcome is the truth.
//!
//! The short form is a test; `scripts/soak` runs the long one. All numbers come from the
//! environment: `EKO_SOAK_COMMANDS`, `_KILLS`, `_BROKER_KILLS` (0: on the tests' own RabbitMQ),
//! `_OUTAGES`, `_WORKERS` and `_SEED`.

mod chaos;
mod faults;
mod report;

use std::time::{Duration, Instant};

use serde_json::json;
use tempfile::TempDir;

use crate::load::evidence::Evidence;
use crate::load::node::Node;
use crate::load::orders::Orders;
use crate::load::report::{Failure, fail};
use crate::load::store::Store;
use crate::load::world::{Setup, World};
use chaos::{Chaos, Step};

/// The numbers of one run.
#[derive(Clone, Debug)]
struct Numbers {
    commands: usize,
    kills: usize,
    broker_kills: usize,
    outages: usize,
    workers: usize,
    seed: u64,
}

impl Numbers {
    /// The short form, or what the environment asks for.
    fn read(workers: u64, broker_kills: u64) -> Self {
        let text = |name: &str| std::env::var(format!("EKO_SOAK_{name}")).ok();
        let number = |name: &str, default: u64| {
            text(name).map_or(default, |text| {
                text.parse().unwrap_or_else(|_| panic!("EKO_SOAK_{name}: {text} is no number"))
            })
        };
        let count = |name, default| usize::try_from(number(name, default)).unwrap();
        Self {
            commands: count("COMMANDS", 500),
            kills: count("KILLS", 5),
            broker_kills: count("BROKER_KILLS", broker_kills),
            outages: count("OUTAGES", 1),
            workers: count("WORKERS", workers),
            seed: number("SEED", fastrand::u64(..1_000_000)),
        }
    }
}

#[tokio::test]
async fn whatever_goes_down_each_command_ends_once_and_truly_on_sqlite() {
    soak(&Numbers::read(1, 1), Store::Sqlite).await;
}

#[tokio::test]
async fn whatever_goes_down_each_command_ends_once_and_truly_on_postgresql() {
    if let Some(store) = Store::postgres().await {
        soak(&Numbers::read(2, 0), store).await;
    }
}

async fn soak(numbers: &Numbers, store: Store) {
    let begun = Instant::now();
    println!("{numbers:?}");
    let home = TempDir::new().unwrap();
    let node = (numbers.broker_kills > 0).then(|| Node::start(home.path().join("broker")));
    let nodes = node.iter().map(|node| node.url.clone()).collect();
    let (workers, usual) = (numbers.workers, Setup::usual("soak-").await);
    let mut world = World::start(Setup { nodes, workers, store, ..usual }).await;
    if let Some(node) = &node {
        node.write_down_its_queues();
    }
    faults::order_all(&world.simulator).await;
    let mut orders = Orders::new(numbers.seed);
    let mut chaos = Chaos::new(numbers);
    let mut victims = fastrand::Rng::with_seed(numbers.seed.rotate_left(7));
    let share = numbers.commands / (chaos.len() + 1);
    while let Some(step) = chaos.next() {
        let batch = orders.draw(share);
        let goal = world.told().await + chaos.share_of(batch.len());
        world.publish(batch).await;
        world.until_told(goal, chaos.patience()).await;
        suffer(&mut world, node.as_ref(), step, &mut victims).await;
    }
    world.publish(orders.draw(numbers.commands - orders.len())).await;
    let mut evidence = Evidence::default();
    let mut violations = world.until_all_told(&orders, &mut evidence).await;
    violations.extend(world.stop(&mut evidence).await);
    violations.extend(evidence.check(&orders, &world.simulator.state().await));
    let (took, orders, evidence) = (begun.elapsed(), &orders, &evidence);
    println!("{}", report::Run { numbers, orders, evidence, took }.table(&world).await);
    if violations.is_empty() {
        world.remove().await;
    } else {
        let title = &format!("seed {}", numbers.seed);
        let violations = &violations;
        fail(Failure { title, orders, evidence, violations }, world).await;
    }
}

/// Deals one blow, and starts again what it hit.
async fn suffer(world: &mut World, node: Option<&Node>, step: Step, victims: &mut fastrand::Rng) {
    match step {
        Step::Worker => world.replace_worker(victims.usize(..world.workers.len())),
        Step::Broker(down) => {
            let node = node.expect("only a broker of its own is killed");
            node.kill9();
            tokio::time::sleep(Duration::from_millis(down)).await;
            node.start_again();
            world.reconnect().await;
        }
        Step::Eko(way, down) => {
            world.simulator.fail_all(&json!({ "fault": way })).await;
            tokio::time::sleep(Duration::from_millis(down)).await;
            faults::end_outage(&world.simulator).await;
        }
    }
}
