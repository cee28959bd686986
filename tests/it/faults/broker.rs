//! Faults of the broker itself, on nodes of the test's own.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::pick;
use super::scene::Scene;
use crate::load::node::Node;
use crate::load::world::{Setup, World};
use crate::rig::eventually;
use crate::rig::proxy::Proxy;

/// One RabbitMQ for several faults: booting one takes longer than most of them.
struct Home {
    node: Node,
    _dir: TempDir,
}

impl Home {
    fn start() -> Self {
        let dir = TempDir::new().unwrap();
        Self { node: Node::start(dir.path().join("broker")), _dir: dir }
    }

    async fn setup(&self) -> Setup {
        Setup { nodes: vec![self.node.url.clone()], ..Setup::usual("fault-").await }
    }
}

/// In the short form a heartbeat of 1 s, so that a short freeze is noticed like a long one.
pub(super) fn impatient(mut setup: Setup) -> Setup {
    let url = match setup.nodes.first() {
        Some(url) => url.clone(),
        None => crate::rig::broker::Broker::url(),
    };
    if !super::is_long() {
        setup = setup.set("AMQP_URL", &format!("{url}?heartbeat=1"));
    }
    setup
}

/// Starts a node that was killed, and tells when its port opened.
async fn start_again(node: &Node) -> Instant {
    let url = url::Url::parse(&node.url).unwrap();
    let port = url.port().unwrap();
    // The port of a process just killed is open for a moment longer.
    let closed = async || TcpStream::connect(("127.0.0.1", port)).is_err().then_some(());
    eventually("the port is closed", closed).await;
    let opened = tokio::spawn(async move {
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Instant::now()
    });
    node.start_again();
    opened.await.unwrap()
}

async fn killed(node: &Node, setup: Setup) {
    let mut scene = Scene::begin(101, "broker: kill -9 and restart", setup).await;
    let times = pick(1, 3);
    scene.extent(format!("{times} ×"));
    node.write_down_its_queues();
    for _ in 0..times {
        scene.until_beats(5).await;
        scene.strike();
        node.kill9();
        let opened = start_again(node).await;
        scene.relieve_at(opened).await;
    }
    scene.finish().await;
}

async fn frozen(node: &Node, setup: Setup) {
    let mut scene = Scene::begin(102, "broker: frozen (SIGSTOP)", impatient(setup)).await;
    scene.strike();
    node.signal("STOP");
    scene.last(4_000, 30).await;
    node.signal("CONT");
    scene.relieve();
    scene.finish().await;
}

async fn short_of_memory(node: &Node, setup: Setup) {
    let mut scene = Scene::begin(103, "broker: memory alarm", setup).await;
    scene.strike();
    node.be_short_of_memory(true);
    scene.last(4_000, 15).await;
    node.be_short_of_memory(false);
    scene.relieve();
    scene.finish().await;
}

async fn consumers_time_out(node: &Node, setup: Setup) {
    let setup = setup.over_after("30s").set("SETTLE_GIVE_UP", "120s");
    // The broker looks at each of its channels so often only.
    let tick = pick(500, 60_000);
    node.eval(&format!("application:set_env(rabbit, channel_tick_interval, {tick})."));
    node.eval("application:set_env(rabbit, consumer_timeout, 2000).");
    let mut scene = Scene::begin(104, "consumer timeout (calls outlast it)", setup).await;
    scene.strike();
    scene.world.simulator.latency(5_000).await;
    scene.last(7_000, 70).await;
    node.eval("application:set_env(rabbit, consumer_timeout, 1800000).");
    scene.world.simulator.latency(super::scene::LATENCY).await;
    scene.relieve();
    scene.finish().await;
    node.eval("application:set_env(rabbit, channel_tick_interval, 60000).");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_broker_freezes_runs_short_of_memory_and_loses_patience() {
    let home = Home::start();
    frozen(&home.node, home.setup().await).await;
    short_of_memory(&home.node, home.setup().await).await;
    consumers_time_out(&home.node, home.setup().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_broker_is_killed() {
    let home = Home::start();
    killed(&home.node, home.setup().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_broker_is_absent_at_the_start() {
    let mut proxy = Proxy::closed().await;
    let setup = Setup::usual("fault-").await.set("AMQP_URL", &proxy.amqp_url());
    let world = World::start_without_workers(1, setup).await;
    let mut scene = Scene::over(105, "broker: absent at the start", world).await;
    scene.strike();
    scene.last(4_000, 20).await;
    assert!(scene.world.workers[0].process.is_running(), "a worker waits for its broker");
    proxy.open().await;
    scene.relieve_at(Instant::now()).await;
    scene.finish().await;
    drop(proxy);
}
