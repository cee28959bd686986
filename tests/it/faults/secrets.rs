//! A server takes another password from now on, and the worker's file is replaced a while later.

use tempfile::TempDir;

use super::is_long;
use super::scene::Scene;
use crate::load::node::Node;
use crate::load::store::{Server, execute};
use crate::load::world::Setup;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_brokers_password_changes() {
    let dir = TempDir::new().unwrap();
    let node = Node::start(dir.path().join("broker"));
    let url = node.user("rotating", [".*", ".*", ".*"]);
    let file = dir.path().join("amqp-url");
    std::fs::write(&file, &url).unwrap();
    let setup = Setup { nodes: vec![node.url.clone()], ..Setup::usual("fault-").await };
    let setup = setup.set("AMQP_URL", "").set("AMQP_URL_FILE", file.to_str().unwrap());
    let mut scene = Scene::begin(113, "broker: another password", setup).await;
    scene.strike();
    node.eval(
        "rabbit_auth_backend_internal:change_password(<<\"rotating\">>, <<\"of-tomorrow\">>, <<\"a test\">>),
         [(catch rabbit_networking:close_connection(Pid, \"rotated\")) || [{pid, Pid}, {user, <<\"rotating\">>}]
             <- rabbit_networking:connection_info_all([pid, user])].",
    );
    scene.last(2_000, 15).await;
    std::fs::write(&file, url.replace("rotating:rotating", "rotating:of-tomorrow")).unwrap();
    scene.relieve();
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_ledgers_password_changes() {
    let dir = TempDir::new().unwrap();
    let server = Server::start(dir.path().join("postgres"));
    server.hba("host all rotating 127.0.0.1/32 scram-sha-256");
    let role = "CREATE ROLE rotating LOGIN PASSWORD 'first';
        GRANT CREATE ON DATABASE postgres TO rotating";
    execute(&server.url, role).await;
    let url = |password: &str| server.url.replace("eko@", &format!("rotating:{password}@"));
    let file = dir.path().join("ledger-url");
    std::fs::write(&file, url("first")).unwrap();
    let setup = Setup::usual("fault-").await.set("SETTLE_GIVE_UP", "45s");
    let setup = setup.set("LEDGER_URL", "").set("LEDGER_URL_FILE", file.to_str().unwrap());
    let mut scene = Scene::begin(308, "ledger: another password (PostgreSQL)", setup).await;
    if !is_long() {
        // What is in hand when the ledger refuses waits for the end of its lease.
        let held = scene.flow.hold().await;
        scene.until_idle(&held).await;
    }
    scene.strike();
    // One after the other: who connects again before the first is committed is let in.
    execute(&server.url, "ALTER ROLE rotating PASSWORD 'of-tomorrow'").await;
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'rotating'";
    execute(&server.url, end).await;
    scene.last(2_000, 15).await;
    std::fs::write(&file, url("of-tomorrow")).unwrap();
    scene.relieve();
    scene.finish().await;
}
