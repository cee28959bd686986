//! Faults of the worker's own process, and of its ledger.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;

use super::pick;
use super::row::skip;
use super::scene::{LATENCY, Scene};
use crate::load::store::{Pair, Server, Store};
use crate::load::world::Setup;
use crate::rig::command::refund;
use crate::rig::{Rig, eventually};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_worker_is_stopped_with_slow_calls_in_its_hands() {
    let setup = Setup::usual("fault-").await.over_after("5s");
    let mut scene = Scene::begin(301, "worker: SIGTERM with calls of 2 s in flight", setup).await;
    scene.world.simulator.latency(2_000).await;
    // Calls of that latency are in flight now.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let times = pick(1, 3);
    scene.extent(format!("{times} ×"));
    for _ in 0..times {
        scene.strike();
        let mut worker = scene.world.workers.remove(0);
        worker.process.terminate();
        let code = worker.process.exit_code().await;
        assert_eq!(code, 0, "a clean shutdown exits with 0:\n{}", worker.log());
        scene.world.add_worker();
        scene.relieve();
        scene.until_beats(10).await;
    }
    scene.world.simulator.latency(LATENCY).await;
    // What was in flight was waited for.
    scene.at_most_calls(1);
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_worker_is_killed() {
    let mut scene = Scene::begin(302, "worker: SIGKILL", Setup::usual("fault-").await).await;
    let times = pick(3, 20);
    scene.extent(format!("{times} ×"));
    scene.strike();
    for _ in 0..times {
        scene.until_beats(fastrand::usize(3..15)).await;
        scene.world.replace_worker(0);
        scene.relieve();
    }
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_worker_is_frozen() {
    let setup = super::broker::impatient(Setup::usual("fault-").await);
    let mut scene = Scene::begin(303, "worker: frozen (SIGSTOP)", setup).await;
    scene.strike();
    scene.world.workers[0].process.signal("STOP");
    scene.last(5_000, 40).await;
    scene.world.workers[0].process.signal("CONT");
    scene.relieve();
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_two_workers_is_frozen() {
    const FAULT: &str = "one of two workers frozen (PostgreSQL)";
    let Some(store) = Store::postgres().await else {
        return skip(304, FAULT, "no PostgreSQL");
    };
    let setup = super::broker::impatient(Setup::usual("fault-").await);
    let mut scene = Scene::begin(304, FAULT, Setup { store, workers: 2, ..setup }).await;
    scene.strike();
    scene.world.workers[0].process.signal("STOP");
    scene.last(5_000, 40).await;
    scene.world.workers[0].process.signal("CONT");
    scene.relieve();
    scene.finish().await;
}

/// A command that runs another one behind mounts of its own, which go with it; `script` makes
/// them and ends in `exec "$@"`. `None` where that is not allowed.
pub(crate) fn in_own_mounts(script: &str) -> Option<Vec<String>> {
    ["-m", "-rm"].into_iter().find_map(|how| {
        let words = ["unshare", how, "sh", "-ec", script, "sh"];
        let tried =
            Command::new(words[0]).args(&words[1..]).arg("true").stderr(Stdio::null()).status();
        tried.is_ok_and(|status| status.success()).then(|| words.map(str::to_owned).to_vec())
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_ledgers_disk_is_full() {
    const FAULT: &str = "ledger: disk full (SQLite)";
    let dir = TempDir::new().unwrap();
    let disk = dir.path().display();
    let script = format!("mount -t tmpfs -o size=16m tmpfs {disk} && exec \"$@\"");
    let Some(wrapper) = in_own_mounts(&script) else {
        return skip(305, FAULT, "no small file system for the worker (unshare -m, as root)");
    };
    let setup = Setup::usual("fault-").await;
    let setup = setup.set("LEDGER_URL", &format!("sqlite://{disk}/ledger.db"));
    let mut scene = Scene::begin(305, FAULT, Setup { wrapper, ..setup }).await;
    // The worker's file system is only there for the worker.
    let worker = scene.world.workers[0].process.id();
    let filler = format!("/proc/{worker}/root{disk}/filler");
    scene.strike();
    let mut file = std::fs::File::create(&filler).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}
    drop(file);
    scene.last(4_000, 30).await;
    std::fs::remove_file(&filler).unwrap();
    scene.relieve();
    scene.finish().await;
}

#[tokio::test]
async fn a_disk_that_is_full_at_the_start_is_waited_for() {
    let dir = TempDir::new().unwrap();
    let disk = dir.path().display();
    let script = format!(
        "mount -t tmpfs -o size=16m tmpfs {disk} && {{ cat /dev/zero >{disk}/filler || true; }} \
         2>&- && exec \"$@\""
    );
    let Some(wrapper) = in_own_mounts(&script) else {
        eprintln!("!!! SKIPPED: a full disk at the start: no unshare -m, or not as root");
        return;
    };
    let url = format!("sqlite://{disk}/ledger.db");
    let mut rig = Rig::builder().set("LEDGER_URL", &url).start_without_worker().await;
    rig.spawn_worker_in(&wrapper);
    let worker = rig.worker();
    let said = eventually("it says what it waits for", async || {
        let (status, body) = worker.get("/readyz").await;
        assert_eq!(status, 503, "{body}");
        body.contains("ledger: ").then_some(body)
    })
    .await;
    assert!(said.contains(&format!("{disk}/ledger.db")) && said.contains("full"), "{said}");
    let worker = rig.worker();
    let logged = async || worker.log().contains("waiting for the ledger").then_some(());
    eventually("it logs what it waits for", logged).await;
    // The worker's file system is only there for the worker.
    let process = rig.worker().process.id();
    std::fs::remove_file(format!("/proc/{process}/root{disk}/filler")).unwrap();
    rig.worker().ready().await;
    assert_eq!(rig.outcome_of(&refund("after", "6901")).await.told(), "succeeded response");
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_ledgers_postgresql_is_restarted() {
    const FAULT: &str = "ledger: PostgreSQL crashes and is started again";
    if std::env::var("EKO_TEST_POSTGRES_URL").is_err() {
        return skip(306, FAULT, "no PostgreSQL");
    }
    let home = TempDir::new().unwrap();
    let server = Server::start(home.path().join("postgres"));
    let store = Store::postgres_at(&server.url).await;
    let setup = Setup { store, workers: 2, ..Setup::usual("fault-").await };
    let mut scene = Scene::begin(306, FAULT, setup).await;
    scene.strike();
    server.stop();
    scene.last(2_000, 10).await;
    server.start_again();
    scene.relieve();
    scene.finish().await;
    drop(server);
}

/// What was committed last is gone: what the workers have in hand, and what they have told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_ledgers_postgresql_fails_over_and_has_forgotten_the_last_commits() {
    const FAULT: &str = "ledger: PostgreSQL fails over to a standby that lacks the last commits";
    if std::env::var("EKO_TEST_POSTGRES_URL").is_err() {
        return skip(307, FAULT, "no PostgreSQL");
    }
    let pair = Pair::start();
    let store = Store::postgres_at(&pair.url()).await;
    let setup = Setup { store, workers: 2, ..Setup::usual("fault-").await }.over_after("3s");
    let mut scene = Scene::begin(307, FAULT, setup).await;
    scene.world.simulator.latency(700).await;
    for (fault, probability) in [("reset_done", 0.10), ("http_503", 0.10)] {
        let order = json!({ "endpoint": "refund", "fault": fault, "probability": probability });
        scene.world.simulator.control("fault", &order).await;
    }
    scene.until_beats(5).await;
    scene.strike();
    pair.cut_standby_off();
    scene.last(2_500, 15).await;
    pair.fail_over();
    scene.world.simulator.latency(LATENCY).await;
    scene.world.simulator.behave().await;
    scene.relieve();
    for worker in &mut scene.world.workers {
        let seen = async || {
            let metrics = worker.metrics().await;
            (metrics.sum("ledger_regressions_total", &[]) >= Some(1.0)).then_some(())
        };
        eventually("the worker notices that its ledger has forgotten", seen).await;
        let is_said = worker.log().lines().any(|line| line.contains(r#""level":"ERROR""#));
        assert!(is_said, "no ERROR says that the ledger has forgotten");
    }
    // An OTP whose row is gone may have been sent as often as it may be.
    scene.allow(&["unresolved network", "unresolved timeout"]);
    scene.finish().await;
    drop(pair);
}
