//! A cluster of three nodes that loses them one by one. Long form only: it takes long to start.

use std::time::Duration;

use tempfile::TempDir;

use super::row::skip;
use super::scene::{PROMPT, Scene};
use crate::load::node::Node;
use crate::load::store::Store;
use crate::load::world::Setup;

/// Three nodes. The first one owns the port mapper of all, so it goes last.
struct Cluster {
    nodes: Vec<Node>,
    _dir: TempDir,
}

impl Cluster {
    fn start() -> Self {
        let dir = TempDir::new().unwrap();
        let epmd = Node::free_port();
        let names: Vec<_> = (1..=3).map(|n| format!("c{n}e{epmd}@localhost")).collect();
        let peers = names.join(" ");
        let starts: Vec<_> = names
            .iter()
            .enumerate()
            .map(|(n, name)| {
                let home = dir.path().join(format!("c{n}"));
                let environment = [
                    ("RMQ_COOKIE", "faults"),
                    ("RMQ_EPMD_PORT", &epmd),
                    ("RMQ_PEERS", &peers),
                    ("RMQ_NODENAME", name),
                    ("RMQ_START_TIMEOUT", "120"),
                ]
                .map(|(name, value)| (name.to_owned(), value.to_owned()));
                let start = std::thread::spawn(|| Node::start_with(home, environment.into()));
                if n == 0 {
                    std::thread::sleep(Duration::from_millis(800));
                }
                start
            })
            .collect();
        let mut nodes: Vec<_> = starts.into_iter().map(|start| start.join().unwrap()).collect();
        nodes.reverse();
        Self { nodes, _dir: dir }
    }

    /// Two workers with one ledger. A worker with an SQLite ledger holds its queues by an exclusive
    /// queue. RabbitMQ since 4.2 keeps such a queue when the node of its connection is lost, until the
    /// node is back or was forgotten: the worker has to wait for that, whatever it does.
    async fn setup(&self, store: Store) -> Setup {
        let nodes = self.nodes.iter().map(|node| node.url.clone()).collect();
        Setup { nodes, store, workers: 2, ..Setup::usual("fault-").await }
    }

    /// The place of the node that leads a queue.
    fn leader(&self, queue: &str) -> usize {
        let expression = format!(
            "{{ok, Q}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<\"/\">>, queue, <<\"{queue}\">>)), \
             {{_, N}} = amqqueue:get_pid(Q), atom_to_list(N)."
        );
        let said = self.nodes[0].eval(&expression);
        let place = self.nodes.iter().position(|node| said.contains(&node.name()));
        place.unwrap_or_else(|| panic!("no node of this cluster leads {queue}: {said}"))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "three nodes take half a minute to start: scripts/faults runs it"]
async fn the_leader_is_killed_and_then_a_second_node_restarted() {
    const FAULT: &str = "cluster of three: leader killed";
    let Some(store) = Store::postgres().await else {
        return skip(111, FAULT, "no PostgreSQL");
    };
    let cluster = Cluster::start();
    let setup = cluster.setup(store).await;
    let mut scene = Scene::begin(111, FAULT, setup).await;
    scene.until_beats(100).await;
    let leader = cluster.leader(&scene.world.broker.name("refund"));
    scene.extent("kill -9".to_owned());
    scene.strike();
    cluster.nodes[leader].kill9();
    scene.relieve();
    let setup = cluster.setup(Store::postgres().await.unwrap()).await;
    scene.at_most_gap(PROMPT);
    scene.finish().await;
    cluster.nodes[leader].start_again();
    let mut scene =
        Scene::begin(112, "cluster of three: then a second node restarted", setup).await;
    scene.until_beats(50).await;
    let leads = cluster.leader(&scene.world.broker.name("refund"));
    let other = if leads == leader { (leader + 1) % cluster.nodes.len() } else { leads };
    scene.at_most_gap(PROMPT);
    scene.extent("stop and start".to_owned());
    scene.strike();
    cluster.nodes[other].stop();
    cluster.nodes[other].start_again();
    scene.relieve();
    scene.finish().await;
}
