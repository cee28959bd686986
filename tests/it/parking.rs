//! Queues of the worker's own that take no commands, since somebody has given them a limit.

mod silent;

use std::time::Duration;

use lapin::BasicProperties;
use serde_json::Value;

use crate::load::node::Node;
use crate::rig::builder::Builder;
use crate::rig::command::{refund, transfer_otp};
use crate::rig::metrics::Metrics;
use crate::rig::script::{refunded, said, transfer_otp_sent};
use crate::rig::stub::{Answer, TRANSFER_OTP};
use crate::rig::{Rig, eventually};

/// Where an OTP command may wait that is to wait for about an hour.
const LEVELS: [u32; 3] = [3_600_000, 1_800_000, 900_000];

/// Where an OTP command may wait that is to wait for a moment.
const MOMENTS: [u32; 3] = [250, 500, 1_000];

fn own_node() -> Node {
    Node::start_in(tempfile::Builder::new().prefix("it-node-").tempdir().unwrap(), Vec::new())
}

/// A rig whose OTP commands wait for about an hour, so that what fills a queue stays there.
fn waits_for_an_hour(node: &Node) -> Builder {
    let hours = ["RETRY_INITIAL", "RETRY_MAX"].map(|name| (name, "1h"));
    let rig = Rig::builder().at(&node.url).stub().set("RETRY_GIVE_UP_OTP", "24h");
    hours.into_iter().fold(rig, |rig, (name, time)| rig.set(name, time))
}

fn queue(level: u32) -> String {
    format!("retry.transfer_otp.{level}ms")
}

/// An operator limits a queue, and it is full.
async fn fill(node: &Node, rig: &Rig, level: u32) {
    let queue = queue(level);
    let pattern = format!("^{}$", rig.broker.name(&queue).replace('.', "\\."));
    let limit = r#"{"max-length":1,"overflow":"reject-publish"}"#;
    let name = format!("full-{level}");
    node.ctl(&["set_policy", &name, &pattern, limit, "--apply-to", "queues"]);
    rig.broker.fill(&queue).await;
}

async fn until_refused(rig: &mut Rig, level: u32) {
    let labels = [("kind", "transfer_otp"), ("queue", &*queue(level))]
        .map(|(name, value)| (name, value.to_owned()));
    rig.until_metrics("a refusal is counted", |metrics| {
        let labels = labels.each_ref().map(|(name, value)| (*name, value.as_str()));
        metrics.value("parking_refused_total", &labels) >= 1.0
    })
    .await;
}

/// All queues in which an OTP command may wait that is to wait for about an hour are full.
async fn fill_all(node: &Node, rig: &Rig) {
    for level in LEVELS {
        fill(node, rig, level).await;
    }
}

/// Starts the worker as a user who may read no transfer OTPs. It reads the other kinds only once that kind
/// is paused: a strayed command must not be called for before.
async fn spawn_that_may_not_read_transfer_otps(node: &Node, rig: &mut Rig) {
    let limited = node.user("limited", [".*", ".*", r"^.*\.(ledger|commands|dead|retry)$"]);
    rig.settings.insert("AMQP_URL".to_owned(), limited);
    rig.spawn_worker();
    let paused = [("kind", "transfer_otp"), ("reason", "topology")];
    rig.until_metrics("the kind is paused", |now| now.value("paused", &paused) == 1.0).await;
    let may_read = r"^.*\.(refund|refund_otp|ledger|commands|dead|retry)$";
    node.permit("limited", [".*", ".*", may_read]);
}

async fn until_all_refuse(rig: &mut Rig) {
    for level in LEVELS {
        until_refused(rig, level).await;
    }
}

/// Purges one of the full queues: what waits in hand goes there.
async fn until_it_waits_in(rig: &Rig, free: &str) {
    rig.broker.purge(free).await;
    let waits = async || rig.broker.count(free).await.filter(|&count| count == 1);
    eventually("it waits where there is room again", waits).await;
}

/// The queues that `/readyz` says refuse.
async fn refusing(rig: &mut Rig) -> Vec<String> {
    let (status, body) = rig.worker().get("/readyz").await;
    assert_eq!(status, 200, "what is consumed is: {body}");
    let body: Value = serde_json::from_str(&body).unwrap();
    let refusing = body["refusing"].as_array().cloned().unwrap_or_default();
    refusing.iter().map(|queue| queue.as_str().unwrap().to_owned()).collect()
}

/// Commands that must wait, as Eko refuses their first calls for now.
async fn publish_some_that_wait(rig: &Rig, count: usize) {
    let bank = said(544, 1, "Transaction not processed, bank not available");
    let answers = std::iter::repeat_n(bank, count).chain([transfer_otp_sent()]);
    rig.stub().on(TRANSFER_OTP, answers);
    for nth in 0..count {
        let id = format!("waits-{nth}");
        rig.publish(&transfer_otp(&id, &id)).await;
    }
}

#[tokio::test]
async fn commands_whose_retry_queue_takes_nothing_wait_in_the_next_one() {
    let node = own_node();
    // Two deliveries at a time.
    let mut rig = waits_for_an_hour(&node).set("WORKER_CONCURRENCY", "1").start().await;
    fill(&node, &rig, 3_600_000).await;
    publish_some_that_wait(&rig, 5).await;
    let waits = async || rig.broker.count(&queue(1_800_000)).await.filter(|&count| count == 5);
    eventually("they wait in the next queue", waits).await;
    let other = rig.outcome_of(&transfer_otp("other", "other")).await;
    assert_eq!(other.told(), "succeeded response");
    until_refused(&mut rig, 3_600_000).await;
    let full = rig.broker.name(&queue(3_600_000));
    assert_eq!(refusing(&mut rig).await, std::slice::from_ref(&full));
    let log = rig.worker().log();
    let warning = log.lines().find(|line| line.contains("\"WARN\"") && line.contains(&full));
    assert!(warning.is_some(), "{full} is named: {log}");
    let parked = rig.broker.look(&queue(1_800_000)).await.unwrap();
    let expiry = parked.properties.expiration().clone().unwrap();
    let expiry: u64 = expiry.as_str().parse().unwrap();
    assert!((1_440_000..=2_160_000).contains(&expiry), "{expiry}: it fits the queue");
}

#[tokio::test]
async fn a_command_that_waits_in_hand_for_long_is_no_orphan() {
    let node = own_node();
    let rig = Rig::builder().at(&node.url).stub().at_least_once().set("ORPHAN_AFTER", "2s");
    let mut rig = rig.set("RETRY_INITIAL", "250ms").start().await;
    // They take nothing, as those that have lost their majority.
    do_to_servers(&node, &rig, ("suspend", &MOMENTS));
    publish_some_that_wait(&rig, 1).await;
    // Its row is due after a quarter of a second; that a confirm is missing is seen after ten.
    until_refused(&mut rig, 250).await;
    do_to_servers(&node, &rig, ("resume", &MOMENTS));
    assert_eq!(rig.next_event().await.told(), "succeeded response");
    assert_eq!(rig.worker().metrics().await.value("orphans_total", &[]), 0.0);
}

/// Stops the servers of retry queues (`suspend`), or lets them go on (`resume`).
fn do_to_servers(node: &Node, rig: &Rig, (what, levels): (&str, &[u32])) {
    for &level in levels {
        let server = format!("'%2F_{}'", rig.broker.name(&queue(level)));
        let said = node.eval(&format!("sys:{what}({server})."));
        assert!(said.contains("ok"), "no such queue: {said}");
    }
}

#[tokio::test]
async fn what_a_paused_kind_cannot_park_waits_in_hand_and_is_not_dead_lettered() {
    let node = own_node();
    let mut rig = waits_for_an_hour(&node).start().await;
    fill_all(&node, &rig).await;
    rig.stop_worker().await;
    spawn_that_may_not_read_transfer_otps(&node, &mut rig).await;
    let strayed = transfer_otp("strayed", "strayed").to_string().into_bytes();
    rig.broker.command("eko.refund.request", strayed, BasicProperties::default()).await;
    until_all_refuse(&mut rig).await;
    rig.stub().on_refund("772", [refunded("772")]);
    assert_eq!(rig.outcome_of(&refund("refund", "772")).await.told(), "succeeded response");
    assert_eq!(rig.broker.count("dead").await, Some(0));
    until_it_waits_in(&rig, &queue(1_800_000)).await;
}

#[tokio::test]
async fn a_copy_that_a_paused_kind_holds_in_hand_is_no_orphan_once_the_pause_is_over() {
    let node = own_node();
    let rig = waits_for_an_hour(&node).at_least_once().set("ORPHAN_AFTER", "2s");
    let mut rig = rig.start().await;
    fill_all(&node, &rig).await;
    rig.stub().on(TRANSFER_OTP, [Answer::Held(Box::new(transfer_otp_sent()))]);
    let strayed = transfer_otp("strayed", "strayed").to_string().into_bytes();
    rig.broker.command("eko.refund.request", strayed, BasicProperties::default()).await;
    rig.publish(&transfer_otp("lost", "lost")).await;
    let called = async || (rig.stub().requests(TRANSFER_OTP).len() == 2).then_some(());
    eventually("both have begun", called).await;
    rig.kill9();
    let back = async || rig.broker.count("transfer_otp").await.filter(|&count| count == 1);
    eventually("one is back", back).await;
    rig.broker.purge("transfer_otp").await;
    spawn_that_may_not_read_transfer_otps(&node, &mut rig).await;
    until_all_refuse(&mut rig).await;
    node.permit("limited", [".*"; 3]);
    // The other one has no message: what is in hand would be taken for lost as well.
    let orphans = |now: &Metrics| now.value("orphans_total", &[]);
    rig.until_metrics("the other one is settled", |now| orphans(now) >= 1.0).await;
    // Its message had the `client_ref_id`: nothing names the transfer.
    let event = rig.next_event().await;
    assert!(event.told().starts_with("unresolved "), "{}", event.told());
    assert_eq!(event.body.get("subject"), None);
    until_it_waits_in(&rig, &queue(1_800_000)).await;
    assert_eq!(orphans(&rig.worker().metrics().await), 1.0);
}

#[tokio::test]
async fn a_worker_that_stops_hands_back_at_once_what_waits_in_hand() {
    let node = own_node();
    let mut rig = waits_for_an_hour(&node).start().await;
    fill_all(&node, &rig).await;
    publish_some_that_wait(&rig, 1).await;
    until_all_refuse(&mut rig).await;
    let began = std::time::Instant::now();
    rig.stop_worker().await;
    // `SHUTDOWN_GRACE` is 25 s.
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    assert_eq!(rig.broker.count("transfer_otp").await, Some(1));
}

#[tokio::test]
async fn commands_that_no_queue_takes_wait_in_hand_and_hold_up_nobody() {
    let node = own_node();
    let mut rig = waits_for_an_hour(&node).start().await;
    fill_all(&node, &rig).await;
    publish_some_that_wait(&rig, 1).await;
    until_all_refuse(&mut rig).await;
    for nth in 0..20 {
        let id = format!("other-{nth}");
        let other = rig.outcome_of(&transfer_otp(&id, &id)).await;
        assert_eq!(other.told(), "succeeded response");
    }
    rig.stub().on_refund("771", [refunded("771")]);
    assert_eq!(rig.outcome_of(&refund("refund", "771")).await.told(), "succeeded response");
    assert_eq!(refusing(&mut rig).await.len(), LEVELS.len());
    let metrics = rig.worker().metrics().await;
    assert_eq!(metrics.value("in_flight", &[("kind", "transfer_otp")]), 1.0);
    assert_eq!(metrics.value("consumers_lost_total", &[]), 0.0);

    let free = queue(1_800_000);
    until_it_waits_in(&rig, &free).await;
    let metrics = rig.metrics().await;
    assert_eq!(metrics.value("commands_total", &[("kind", "transfer_otp")]), 20.0);
    let free = rig.broker.name(&free);
    assert!(!refusing(&mut rig).await.contains(&free));
}
