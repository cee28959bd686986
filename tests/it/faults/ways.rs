//! What lies between the worker and its servers.

use std::net::SocketAddr;

use socket2::{Domain, Socket, Type};
use tempfile::TempDir;

use super::pick;
use super::row::skip;
use super::scene::Scene;
use super::worker::in_own_mounts;
use crate::load::store::{Database, Pool, Store, ask};
use crate::load::world::Setup;
use crate::rig::broker::Broker;
use crate::rig::eventually;
use crate::rig::proxy::Proxy;

/// An address that drops what it is sent: its queue of connections is full.
struct Silent(#[expect(dead_code, reason = "held open")] Vec<Socket>);

impl Silent {
    fn at(address: SocketAddr) -> Self {
        let socket = || Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let listener = socket();
        listener.bind(&address.into()).unwrap();
        listener.listen(0).unwrap();
        let mut held = vec![listener];
        for _ in 0..4 {
            let client = socket();
            client.set_nonblocking(true).unwrap();
            client.connect(&address.into()).ok();
            held.push(client);
        }
        Self(held)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_address_of_the_brokers_name_is_silent() {
    const FAULT: &str = "broker: connection cut, the first of its name's two addresses is silent";
    let dir = TempDir::new().unwrap();
    let hosts = dir.path().join("hosts");
    let lines = "127.0.0.1 localhost\n127.0.0.1 broker.test\n127.0.0.2 broker.test\n";
    std::fs::write(&hosts, lines).unwrap();
    let script = format!("mount --bind {} /etc/hosts && exec \"$@\"", hosts.display());
    let Some(wrapper) = in_own_mounts(&script) else {
        return skip(114, FAULT, "no mounts of its own for the worker (unshare -m, as root)");
    };
    let mut proxy = Proxy::closed_at("127.0.0.2", &Broker::url()).await;
    proxy.open().await;
    let silent = Silent::at(SocketAddr::from(([127, 0, 0, 1], proxy.port())));
    let url = proxy.amqp_url().replace("127.0.0.2", "broker.test");
    let setup = Setup::usual("fault-").await;
    let setup = setup.set("AMQP_URL", &url).set("AMQP_ALLOW_PLAINTEXT", "true");
    let mut scene = Scene::begin(114, FAULT, Setup { wrapper, ..setup }).await;
    let times = pick(1, 3);
    scene.extent(format!("{times} ×"));
    for _ in 0..times {
        scene.strike();
        proxy.cut();
        scene.relieve();
        let lost = scene.sessions();
        eventually("it connects again", async || (scene.sessions() > lost).then_some(())).await;
        scene.until_beats(5).await;
    }
    scene.finish().await;
    drop(silent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_ledger_is_behind_a_pool_of_transactions() {
    const FAULT: &str = "ledger: behind PgBouncer in transaction mode, two workers";
    let (Some(pool), Some(database)) = (Pool::start(), Database::new("").await) else {
        return skip(408, FAULT, "no PgBouncer, or no PostgreSQL");
    };
    let url = pool.before(&database.url);
    let schema = "eko_worker".to_owned();
    let store = Store::Postgres { server: url.clone(), schema };
    let setup = Setup { store, workers: 2, ..Setup::usual("fault-").await };
    let mut scene = Scene::begin(408, FAULT, setup.set("LEDGER_URL", &url)).await;
    scene.of_one_cause(&[]).await;
    scene.strike();
    scene.last(4_000, 30).await;
    // Whoever comes next finds nothing of the worker's in its connection.
    for _ in 0..4 {
        let left = "SELECT concat_ws(' ', current_setting('statement_timeout'),
            current_setting('search_path'), (SELECT count(*) FROM pg_prepared_statements))";
        assert_eq!(ask(&url, left).await, "0 \"$user\", public 0");
    }
    scene.relieve();
    scene.finish().await;
    drop(pool);
    database.remove().await;
}
