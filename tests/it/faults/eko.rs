//! Faults of Eko and of the way to it.

use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;

use super::pick;
use super::row::skip;
use super::scene::{LATENCY, Scene};
use crate::load::world::Setup;
use crate::rig::gateway::{Gateway, Trick};
use crate::rig::proxy::Proxy;
use crate::rig::{ACCESS_KEY, DEVELOPER_KEY, stub};

/// How many calls an outage may cost a command, however long it lasts: the one that met it, those
/// of the trials, and the last one.
const OUTAGE_CALLS: u64 = 5;

/// A world that reaches Eko through a proxy.
async fn through_a_proxy() -> (Proxy, Setup) {
    let setup = Setup::usual("fault-").await;
    let proxy = Proxy::open_to(setup.simulator.url()).await;
    let url = format!("http://127.0.0.1:{}{}", proxy.port(), stub::BASE);
    (proxy, setup.set("EKO_BASE_URL", &url))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eko_refuses_connections() {
    let (mut proxy, setup) = through_a_proxy().await;
    let mut scene = Scene::begin(201, "Eko: connection refused", setup).await;
    scene.at_most_calls(OUTAGE_CALLS);
    scene.strike();
    proxy.close().await;
    scene.last(3_000, 30).await;
    proxy.open().await;
    scene.relieve();
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eko_is_frozen() {
    let setup = Setup::usual("fault-").await;
    let mut scene = Scene::begin(202, "Eko: frozen (SIGSTOP)", setup).await;
    scene.at_most_calls(OUTAGE_CALLS);
    scene.strike();
    scene.world.simulator.freeze(true);
    scene.last(4_000, 30).await;
    scene.world.simulator.freeze(false);
    scene.relieve();
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eko_resets_one_call_in_ten_after_executing_it() {
    let setup = Setup::usual("fault-").await;
    let mut scene =
        Scene::begin(203, "Eko: 10 % of calls reset after executing, 5 % before", setup).await;
    // An OTP whose calls all stay without an answer may not be sent for ever.
    scene.allow(&["unresolved network", "unresolved timeout"]);
    scene.strike();
    for (fault, probability) in [("reset_done", 0.10), ("reset", 0.05)] {
        let order = json!({ "fault": fault, "probability": probability });
        scene.world.simulator.control("fault", &order).await;
    }
    scene.last(4_000, 30).await;
    scene.world.simulator.behave().await;
    scene.relieve();
    scene.finish().await;
}

/// Every call ends in this fault for four seconds, or for so many in the long form.
async fn every_call(row: u32, name: &'static str, order: serde_json::Value, long_s: u64) {
    let mut scene = Scene::begin(row, name, Setup::usual("fault-").await).await;
    scene.at_most_calls(OUTAGE_CALLS);
    scene.strike();
    scene.world.simulator.fail_all(&order).await;
    scene.last(4_000, long_s).await;
    scene.world.simulator.behave().await;
    scene.relieve();
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eko_answers_503_to_everything() {
    every_call(204, "Eko: every call 503", json!({ "fault": "http_503" }), 60).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eko_answers_429_with_retry_after() {
    let order = json!({ "fault": "http_429", "retry_after": "2" });
    every_call(205, "Eko: every call 429 with Retry-After: 2", order, 30).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eko_answers_drop_by_drop() {
    let order = json!({ "fault": "slow_done" });
    every_call(206, "Eko: executes, then one byte each 100 ms", order, 30).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eko_is_ten_times_slower() {
    let setup = Setup::usual("fault-").await;
    let mut scene = Scene::begin(207, "Eko: latency × 10", setup).await;
    scene.strike();
    scene.world.simulator.latency(LATENCY * 10).await;
    scene.last(4_000, 30).await;
    scene.world.simulator.latency(LATENCY).await;
    scene.relieve();
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eko_knows_other_keys_until_the_key_files_are_replaced() {
    const NEW: [&str; 2] = ["planted-developer-key-rotated", "planted-access-key-rotated"];
    let dir = TempDir::new().unwrap();
    let file = |name: &str| dir.path().join(name);
    let write = |[developer, access]: [&str; 2]| {
        std::fs::write(file("developer"), developer).unwrap();
        std::fs::write(file("access"), access).unwrap();
    };
    write([DEVELOPER_KEY, ACCESS_KEY]);
    let setup = Setup::usual("fault-")
        .await
        .set("EKO_DEVELOPER_KEY", "")
        .set("EKO_ACCESS_KEY", "")
        .set("EKO_DEVELOPER_KEY_FILE", file("developer").to_str().unwrap())
        .set("EKO_ACCESS_KEY_FILE", file("access").to_str().unwrap());
    let mut scene = Scene::begin(208, "Eko: 403 until the key files are replaced", setup).await;
    scene.strike();
    let keys = json!({ "developer_key": NEW[0], "access_key": NEW[1], "http": 403 });
    scene.world.simulator.control("keys", &keys).await;
    scene.last(4_000, 30).await;
    write(NEW);
    scene.relieve();
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_clocks_are_five_minutes_apart() {
    let setup = Setup::usual("fault-").await;
    let mut scene = Scene::begin(209, "clock 5 minutes off", setup).await;
    scene.strike();
    let clock = async |offset: i64| {
        let order = json!({ "offset_ms": offset });
        scene.world.simulator.control("clock", &order).await;
    };
    // Forward at the end, as a clock is set right: Eko's own never goes back.
    clock(-300_000).await;
    scene.last(4_000, 30).await;
    scene.world.simulator.control("clock", &json!({ "offset_ms": 0 })).await;
    scene.relieve();
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_name_of_eko_is_not_resolved() {
    const FAULT: &str = "Eko: DNS failure";
    let dir = TempDir::new().unwrap();
    let (hosts, resolv) = (dir.path().join("hosts"), dir.path().join("resolv.conf"));
    // Written in place: the mount holds on to the file, not to its name.
    let resolve = |is_known: bool| {
        let line = if is_known { "127.0.0.1 eko.test\n" } else { "" };
        std::fs::write(&hosts, format!("127.0.0.1 localhost\n{line}")).unwrap();
    };
    resolve(true);
    // Nobody listens there, so that what is not in the file fails at once.
    std::fs::write(&resolv, "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n").unwrap();
    let script = format!(
        "mount --bind {} /etc/hosts && mount --bind {} /etc/resolv.conf && exec \"$@\"",
        hosts.display(),
        resolv.display()
    );
    let Some(wrapper) = super::worker::in_own_mounts(&script) else {
        return skip(210, FAULT, "no mounts of its own for the worker (unshare -m, as root)");
    };
    let (proxy, setup) = through_a_proxy().await;
    let url = format!("http://eko.test:{}{}", proxy.port(), stub::BASE);
    let setup = setup.set("EKO_BASE_URL", &url).set("EKO_ALLOW_HTTP", "true");
    // Beyond loopback nothing shorter is taken.
    let setup = setup.set("EKO_TIMEOUT", "5s").set("EKO_STAMP_TOLERANCE", "60s");
    let setup = setup.set("SETTLE_QUIET", "15s").set("SETTLE_GIVE_UP", "10m");
    let mut scene = Scene::begin(210, FAULT, Setup { wrapper, ..setup }).await;
    scene.strike();
    resolve(false);
    // A connection that is kept alive needs no name.
    proxy.cut();
    scene.last(4_000, 30).await;
    resolve(true);
    scene.relieve();
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_holds_some_refunds_sends_some_twice_and_answers_in_place_of_eko() {
    let setup = Setup::usual("fault-").await;
    let gateway = Gateway::open_to(setup.simulator.url()).await;
    let setup = setup
        .set("EKO_BASE_URL", gateway.url())
        .set("EKO_TIMEOUT", pick("1s", "30s"))
        .set("EKO_STAMP_TOLERANCE", pick("5s", "120s"))
        .set("SETTLE_QUIET", pick("1s", "30s"))
        .set("SETTLE_GIVE_UP", "10m");
    let fault = "gateway: some refunds held on their way, some sent twice, some answered by it";
    let mut scene = Scene::begin(211, fault, setup).await;
    scene.strike();
    let held = Duration::from_millis(pick(3_500, 75_000));
    gateway.by_chance(vec![
        (0.05, Trick::Hold(held)),
        (0.05, Trick::TellAndHold(503, held)),
        (0.10, Trick::Twice),
        (0.10, Trick::Instead(502)),
    ]);
    scene.last(4_000, 60).await;
    gateway.by_chance(Vec::new());
    scene.relieve();
    scene.finish().await;
}
