//! What stops the line without costing a command: faults of the worker's own surroundings.

use std::time::{Duration, Instant};

use rusqlite::Connection;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use url::Url;

use crate::rig::command::{Edit, refund};
use crate::rig::script::{found, refunded};
use crate::rig::stub::{self, Answer};
use crate::rig::worker::Worker;
use crate::rig::{ACCESS_KEY, COMMAND_QUEUES, DEVELOPER_KEY, Rig, eventually};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// Somebody else's transaction on the ledger's file: until it ends, nobody can write.
fn lock_ledger(rig: &Rig) -> Connection {
    let connection = Connection::open(rig.path("ledger.db")).unwrap();
    connection.execute_batch("BEGIN IMMEDIATE").unwrap();
    connection
}

async fn until_paused(rig: &mut Rig, reason: &str) {
    rig.until_metrics("consumption of all kinds is paused", |metrics| {
        COMMAND_QUEUES
            .iter()
            .all(|kind| metrics.value("paused", &[("kind", kind), ("reason", reason)]) == 1.0)
    })
    .await;
}

async fn until_open(rig: &mut Rig) {
    rig.until_metrics("the pause is over", |metrics| metrics.value("paused", &[]) == 0.0).await;
}

#[tokio::test]
async fn a_ledger_that_cannot_be_written_stops_the_line_and_costs_no_command() {
    let mut rig = Rig::start().await;
    let lock = lock_ledger(&rig);
    let ids: Vec<_> = (601..=605).map(|tid: u32| tid.to_string()).collect();
    let traced = |tid: &String| refund(tid, tid).with("/traceparent", json!(PARENT));
    rig.publish_all(&ids.iter().map(traced).collect::<Vec<_>>()).await;
    until_paused(&mut rig, "ledger").await;
    let (status, body) = rig.worker().get("/readyz").await;
    assert_eq!(status, 200, "paused is ready, too");
    assert!(body.contains("\"ledger\""), "{body}");
    let metrics = rig.worker().metrics().await;
    assert_eq!(metrics.value("broker_connected", &[]), 1.0, "the session outlives it");
    assert_eq!(rig.simulator().calls("refund").await, 0, "nothing is called that is not written");

    drop(lock);
    let events = rig.events_of(ids.iter().map(String::as_str)).await;
    for event in events.values() {
        assert_eq!(event.told(), "succeeded response");
        assert!(event.text("/traceparent").contains(TRACE), "what was set aside keeps its trace");
    }
    until_open(&mut rig).await;
    // Nobody can have died over them.
    assert_eq!(rig.simulator().calls("inquiry").await, 0);
    let log = rig.worker().log();
    assert!(!log.contains("waiting for the broker"), "the session outlives it:\n{log}");
    rig.finish().await;
}

#[tokio::test]
async fn a_refund_whose_end_could_not_be_written_is_settled_by_inquiry() {
    let mut rig = Rig::builder().stub().impatient().start().await;
    rig.stub().on_refund("611", [Answer::Held(Box::new(refunded("611")))]);
    rig.stub().on_inquiry("1", [found("1", 4)]);
    rig.stub().on_inquiry("611", [found("611", 4)]);
    rig.publish(&refund("unwritten", "611")).await;
    let sent = async || (rig.stub().all_requests().len() == 1).then_some(());
    eventually("the call is in flight", sent).await;
    let lock = lock_ledger(&rig);
    rig.stub().release();
    until_paused(&mut rig, "ledger").await;
    drop(lock);
    let event = rig.next_event().await;
    assert_eq!(event.told(), "succeeded inquiry");
    assert_eq!(rig.stub().requests(&stub::refund("611")).len(), 1, "it is never sent again");
    until_open(&mut rig).await;
    rig.finish().await;
}

#[tokio::test]
async fn a_clock_near_the_end_of_eko_s_window_stops_the_line_until_it_is_right() {
    let mut rig = Rig::start().await;
    // Eko still takes it: it refuses 120 s. A clock that goes back would make its answers look old.
    rig.simulator().control("clock", &json!({ "offset_ms": -100_000 })).await;
    let ids: Vec<_> = (651..=655).map(|tid: u32| tid.to_string()).collect();
    rig.publish_all(&ids.iter().map(|tid| refund(tid, tid)).collect::<Vec<_>>()).await;
    until_paused(&mut rig, "clock").await;
    let skew = rig.worker().metrics().await.value("clock_skew_seconds", &[]);
    assert!((-101.0..=-98.0).contains(&skew), "{skew}");
    rig.publish(&refund("later", "656")).await;
    rig.simulator().control("clock", &json!({ "offset_ms": 0 })).await;
    let ids = ids.iter().map(String::as_str).chain(["later"]);
    let events = rig.events_of(ids).await;
    assert!(events.values().all(|event| event.told() == "succeeded response"));
    until_open(&mut rig).await;
    rig.finish().await;
}

#[tokio::test]
async fn a_stop_gives_back_who_waits_for_leave_to_call() {
    let mut rig = Rig::builder().set("WORKER_RATE_LIMIT", "1").start().await;
    let ids: Vec<_> = (661..=690).map(|tid: u32| tid.to_string()).collect();
    rig.publish_all(&ids.iter().map(|tid| refund(tid, tid)).collect::<Vec<_>>()).await;
    let first = rig.next_event().await;
    let begin = Instant::now();
    rig.stop_worker().await;
    assert!(begin.elapsed() < Duration::from_secs(8), "thirty calls would take thirty seconds");
    rig.settings.remove("WORKER_RATE_LIMIT");
    rig.start_worker().await;
    let rest = ids.iter().map(String::as_str).filter(|id| *id != first.command_id());
    let events = rig.events_of(rest).await;
    assert!(events.values().all(|event| event.told() == "succeeded response"));
    assert_eq!(rig.simulator().calls("inquiry").await, 0, "nobody can have died over them");
    rig.finish().await;
}

/// A way to the tests' PostgreSQL that can be missing: its address, and a ledger of its own
/// behind it. `None` where there is no server to test with.
async fn postgres_ledger() -> Option<(String, String)> {
    let Ok(server) = std::env::var("EKO_TEST_POSTGRES_URL") else {
        eprintln!("SKIPPED, EKO_TEST_POSTGRES_URL is not set");
        return None;
    };
    let schema = format!("it_{:016x}", fastrand::u64(..));
    let (client, connection) =
        tokio_postgres::connect(&server, tokio_postgres::NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    client.batch_execute(&format!("CREATE SCHEMA {schema}")).await.unwrap();
    drop(client);
    connection.await.unwrap().unwrap();
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let mut url = Url::parse(&server).unwrap();
    url.set_port(Some(free.port())).unwrap();
    url.query_pairs_mut().append_pair("options", &format!("-csearch_path={schema}"));
    // The ledger's library reads a plus as a plus.
    Some((free.to_string(), url.to_string().replace("%3D", "=")))
}

/// Lets connections to an address through to PostgreSQL; cuts them when it is dropped.
async fn let_through(address: &str) -> JoinSet<()> {
    let server = Url::parse(&std::env::var("EKO_TEST_POSTGRES_URL").unwrap()).unwrap();
    let to = format!("{}:{}", server.host_str().unwrap(), server.port().unwrap_or(5432));
    let listener = TcpListener::bind(address).await.unwrap();
    let mut way = JoinSet::new();
    way.spawn(async move {
        let mut pipes = JoinSet::new();
        while let Ok((mut near, _)) = listener.accept().await {
            let to = to.clone();
            pipes.spawn(async move {
                let mut far = TcpStream::connect(to).await.unwrap();
                tokio::io::copy_bidirectional(&mut near, &mut far).await.ok();
            });
        }
    });
    way
}

#[tokio::test]
async fn a_ledger_server_that_is_away_is_waited_for_at_start_and_later() {
    let Some((address, url)) = postgres_ledger().await else { return };
    let rig = Rig::builder().set("LEDGER_URL", &url).at_least_once();
    let mut rig = rig.start_without_worker().await;
    rig.spawn_worker();
    let worker = rig.worker();
    let mut said = String::new();
    eventually("it says what it waits for", async || {
        let (status, body) = worker.get("/readyz").await;
        assert_eq!(status, 503);
        said = body;
        said.contains("ledger: ").then_some(())
    })
    .await;
    assert_eq!(rig.worker().get("/healthz").await.0, 200);
    assert_eq!(rig.worker().get("/metrics").await.0, 200);

    assert_counted(&mut rig, false).await;

    let way = let_through(&address).await;
    rig.worker().ready().await;
    assert_eq!(rig.outcome_of(&refund("first", "621")).await.told(), "succeeded response");
    assert_counted(&mut rig, true).await;

    drop(way);
    rig.publish(&refund("meanwhile", "622")).await;
    until_paused(&mut rig, "ledger").await;
    assert_counted(&mut rig, false).await;
    assert_eq!(rig.simulator().executions("622").await, 0);
    let _way = let_through(&address).await;
    let events = rig.events_of(["meanwhile"]).await;
    assert_eq!(events["meanwhile"].told(), "succeeded response");
    until_open(&mut rig).await;
    assert_counted(&mut rig, true).await;
    rig.finish().await;
}

/// What the ledger counts is shown while it answers, and no old figure while it does not.
async fn assert_counted(rig: &mut Rig, is_up: bool) {
    let metrics = rig.metrics().await;
    assert_eq!(metrics.value("ledger_up", &[]), f64::from(u8::from(is_up)));
    for name in ["unsettled", "unsettled_oldest_seconds", "parked"] {
        assert_eq!(metrics.has(&format!("eko_worker_{name}")), is_up, "{name}");
    }
}

#[tokio::test]
async fn it_can_be_stopped_while_it_waits_for_its_ledger() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let url = format!("postgres://eko@{free}/postgres");
    let mut rig = Rig::builder().set("LEDGER_URL", &url).start_without_worker().await;
    rig.spawn_worker();
    rig.worker().get("/healthz").await;
    rig.stop_worker().await;
}

#[tokio::test]
async fn a_ledger_url_that_the_server_refuses_is_a_wrong_setting() {
    let Ok(server) = std::env::var("EKO_TEST_POSTGRES_URL") else {
        eprintln!("SKIPPED, EKO_TEST_POSTGRES_URL is not set");
        return;
    };
    let mut rig = Rig::builder().start_without_worker().await;
    let mut url = Url::parse(&server).unwrap();
    url.set_path("/no_such_database");
    rig.settings.insert("LEDGER_URL".to_owned(), url.to_string());
    let (code, _, said) = Worker::output(&["run"], &rig.settings).await;
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("LEDGER_URL: database \"no_such_database\" does not exist"), "{said}");
}

#[tokio::test]
async fn a_hangup_without_key_files_changes_nothing() {
    let mut rig = Rig::start().await;
    rig.worker().process.signal("HUP");
    let worker = rig.worker();
    eventually("it says so", async || {
        worker.log().contains("no secret is given as a file").then_some(())
    })
    .await;
    assert_eq!(rig.outcome_of(&refund("after", "631")).await.told(), "succeeded response");
    rig.finish().await;
}

#[tokio::test]
async fn a_hangup_reads_new_keys_and_ends_a_pause_at_once() {
    let other = "planted-access-key-of-tomorrow";
    let rig = Rig::builder().set("RETRY_INITIAL", "20s").set("RETRY_MAX", "20s");
    let mut rig = rig.start_without_worker().await;
    rig.plant(other);
    let path = rig.path("access-key");
    std::fs::write(&path, ACCESS_KEY).unwrap();
    rig.settings.remove("EKO_ACCESS_KEY");
    rig.settings.insert("EKO_ACCESS_KEY_FILE".to_owned(), path.display().to_string());
    rig.start_worker().await;
    let keys = json!({ "developer_key": DEVELOPER_KEY, "access_key": other });
    rig.simulator().control("keys", &keys).await;
    rig.publish_all(&[refund("one", "641"), refund("two", "642")]).await;
    rig.until_metrics("consumption is paused", |metrics| {
        metrics.value("paused", &[("kind", "refund"), ("reason", "unauthorized")]) == 1.0
    })
    .await;
    rig.publish(&refund("three", "643")).await;

    // Long enough for the second hang-up to come while the first one's probe is under way.
    rig.simulator().latency(1_000).await;
    std::fs::remove_file(&path).unwrap();
    rig.worker().process.signal("HUP");
    let worker = rig.worker();
    let says = async |what: &str| {
        eventually(what, async || worker.log().contains(what).then_some(())).await;
    };
    says("could not be read again: the old key stays in use").await;
    std::fs::write(&path, other).unwrap();
    let begin = Instant::now();
    worker.process.signal("HUP");
    says("the key's file was read again: the key is new").await;
    assert!(worker.log().contains("EKO_ACCESS_KEY"), "it is named");
    let first = rig.next_event().await;
    assert_eq!((first.command_id(), first.told().as_str()), ("three", "succeeded response"));
    assert!(begin.elapsed() < Duration::from_secs(10), "not only by the next probe");
    rig.events_of(["one", "two"]).await;
    rig.forgive_bad_requests();
    rig.finish().await;
}

#[tokio::test]
async fn refunds_that_were_executed_though_answered_by_503_pause_nothing() {
    let mut rig = Rig::start().await;
    // More than would be an outage; the simulator's code: executed, then 503 once.
    let tids: Vec<_> = (9_750_310_001..=9_750_310_040_u64).map(|tid| tid.to_string()).collect();
    rig.publish_all(&tids.iter().map(|tid| refund(tid, tid)).collect::<Vec<_>>()).await;
    let events = rig.events_of(tids.iter().map(String::as_str)).await;
    for event in events.values() {
        assert_eq!((event.told().as_str(), event.attempts()), ("succeeded inquiry", 1));
    }
    let log = rig.worker().log();
    assert!(!log.contains("consumption is paused"), "{log}");
    rig.finish().await;
}

#[tokio::test]
async fn refunds_that_were_not_executed_and_answered_by_503_are_an_outage() {
    let mut rig = Rig::start().await;
    // The simulator's code: 503 for good, and nothing executed.
    let tids: Vec<_> = (9_950_300_001..=9_950_300_020_u64).map(|tid| tid.to_string()).collect();
    rig.publish_all(&tids.iter().map(|tid| refund(tid, tid)).collect::<Vec<_>>()).await;
    rig.until_metrics("consumption is paused", |metrics| {
        metrics.value("paused", &[("kind", "refund"), ("reason", "outage")]) == 1.0
    })
    .await;
}
