//! Messages that vanish from the broker while their commands wait.

use std::time::Duration;

use crate::load::node::Node;
use crate::rig::builder::Builder;
use crate::rig::command::{refund, refund_otp};
use crate::rig::proxy::Proxy;
use crate::rig::script::{found, http, otp_sent};
use crate::rig::stub::{self, BASE};
use crate::rig::{Rig, eventually};

/// The retry queue in which a command waits now.
async fn waiting_in(rig: &Rig) -> String {
    eventually("a command waits", async || {
        for queue in Rig::work_queues().filter(|queue| queue.starts_with("retry.")) {
            if rig.broker.count(&queue).await > Some(0) {
                return Some(queue);
            }
        }
        None
    })
    .await
}

/// A rig in which what is in doubt waits this long for its next inquiry.
fn waits_between_inquiries(time: &str) -> Builder {
    Rig::builder().stub().impatient().set("SETTLE_POLL", time).set("RETRY_MAX", time)
}

/// A refund is in doubt and waits for its next inquiry, long enough to lose its message.
async fn in_doubt(rig: &Rig, tid: &str) -> String {
    rig.stub().on_refund(tid, [http(500)]);
    rig.stub().on_inquiry(tid, [found(tid, 2)]);
    rig.publish(&refund("lost", tid)).await;
    let queue = waiting_in(rig).await;
    rig.stub().on_inquiry(tid, [found(tid, 4)]);
    queue
}

async fn settled_from_the_ledger(rig: &mut Rig, tid: &str) {
    let event = rig.next_event().await;
    assert_eq!((event.told().as_str(), event.attempts()), ("succeeded inquiry", 1));
    let orphan = [("kind", "refund"), ("outcome", "succeeded")];
    let metrics = rig.metrics().await;
    assert_eq!(metrics.value("orphans_total", &orphan), 1.0);
    rig.until_metrics("nothing counts as parked", |metrics| metrics.value("parked", &[]) == 0.0)
        .await;
    let event = rig.outcome_of(&refund("later", tid)).await;
    assert_eq!(event.told(), "succeeded ledger", "the tid is free again");
    assert_eq!(rig.stub().requests(&stub::refund(tid)).len(), 1);
}

#[tokio::test]
async fn a_refund_in_doubt_whose_message_is_purged_is_settled_from_the_ledger() {
    let rig = waits_between_inquiries("3s").set("ORPHAN_AFTER", "2s");
    let mut rig = rig.start().await;
    let queue = in_doubt(&rig, "6601").await;
    rig.broker.purge(&queue).await;
    settled_from_the_ledger(&mut rig, "6601").await;
    rig.finish().await;
}

#[tokio::test]
async fn a_refund_in_doubt_whose_retry_queue_expires_by_a_policy_is_settled_from_the_ledger() {
    let home = tempfile::tempdir().unwrap();
    let node = Node::start(home.path().join("node"));
    let rig = waits_between_inquiries("15s").set("ORPHAN_AFTER", "3s");
    let mut rig = rig.at(&node.url).start().await;
    let queue = rig.broker.name(&in_doubt(&rig, "6611").await);
    let pattern = format!("^{}$", queue.replace('.', "\\."));
    node.ctl(&["set_policy", "--apply-to", "queues", "expiring", &pattern, r#"{"expires":1000}"#]);
    let queue = queue.split_once('.').unwrap().1.to_owned();
    let gone = async || rig.broker.count(&queue).await.is_none().then_some(());
    eventually("the queue has expired", gone).await;
    node.ctl(&["clear_policy", "expiring"]);
    settled_from_the_ledger(&mut rig, "6611").await;
    rig.worker().process.terminate();
    rig.end_of_worker().await;
}

#[tokio::test]
async fn a_refund_that_never_left_and_whose_message_is_purged_fails_as_lost() {
    let rig = Rig::builder().stub().set("RETRY_INITIAL", "4s").set("RETRY_MAX", "4s");
    let mut rig = rig.set("ORPHAN_AFTER", "2s").start_without_worker().await;
    let nowhere = Proxy::closed_to(rig.stub().url()).await;
    let base = rig.settings["EKO_BASE_URL"].clone();
    let closed = format!("http://127.0.0.1:{}{BASE}", nowhere.port());
    rig.settings.insert("EKO_BASE_URL".to_owned(), closed);
    rig.start_worker().await;
    rig.publish(&refund("never-left", "6621")).await;
    let queue = waiting_in(&rig).await;
    rig.broker.purge(&queue).await;
    let event = rig.next_event().await;
    assert_eq!(event.told(), "failed message_lost");
    // The message is lost: there may be nothing to dead-letter.
    rig.broker.get("dead").await;
    let orphan = [("kind", "refund"), ("outcome", "failed")];
    assert_eq!(rig.metrics().await.value("orphans_total", &orphan), 1.0);
    rig.stop_worker().await;
    rig.settings.insert("EKO_BASE_URL".to_owned(), base);
    rig.finish().await;
    drop(nowhere);
}

/// While a kind is paused its commands wait, so that none of them has changed for long when consumption
/// goes on: those that have to wait for their turn then are no orphans.
#[tokio::test]
async fn commands_that_wait_for_their_turn_after_a_pause_are_no_orphans() {
    let rig = Rig::builder().stub().set("ORPHAN_AFTER", "2s").set("RETRY_MAX", "1m");
    let rig = rig.set("WORKER_CONCURRENCY", "1").set("WORKER_RATE_LIMIT", "2");
    let mut rig = rig.start().await;
    rig.stub().on_inquiry("1", [http(503)]);
    let tids: Vec<_> = (6641..6651).map(|tid: u32| tid.to_string()).collect();
    for tid in &tids {
        rig.stub().on(&stub::refund_otp(tid), [http(503)]);
    }
    rig.publish_all(&tids.iter().map(|tid| refund_otp(tid, tid)).collect::<Vec<_>>()).await;
    let paused = [("kind", "refund_otp"), ("reason", "outage")];
    rig.until_metrics("all have been tried", |metrics| metrics.value("paused", &paused) == 1.0)
        .await;
    // Longer than a backlog is waited for.
    tokio::time::sleep(Duration::from_secs(13)).await;
    for tid in &tids {
        rig.stub().on(&stub::refund_otp(tid), [otp_sent("again")]);
    }
    rig.stub().on_inquiry("1", [found("1", 4)]);
    let events = rig.events_of(tids.iter().map(String::as_str)).await;
    for (id, event) in events {
        assert_eq!(event.told(), "succeeded response", "{id}");
    }
    assert_eq!(rig.metrics().await.value("orphans_total", &[]), 0.0);
    rig.finish().await;
}

/// What waits in the broker is no orphan, however long it has to wait.
#[tokio::test]
async fn a_command_that_waits_longer_than_orphans_are_left_alone_is_none() {
    let rig = Rig::builder().stub().set("RETRY_INITIAL", "5s").set("RETRY_MAX", "5s");
    let mut rig = rig.set("ORPHAN_AFTER", "1s").start().await;
    let line = stub::refund_otp("6631");
    rig.stub().on(&line, [http(503), otp_sent("second")]);
    let event = rig.outcome_of(&refund_otp("waits", "6631")).await;
    assert_eq!((event.told().as_str(), event.attempts()), ("succeeded response", 2));
    let metrics = rig.metrics().await;
    assert_eq!(metrics.value("orphans_total", &[]), 0.0);
    rig.finish().await;
}
