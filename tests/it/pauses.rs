//! What stops the line without costing a command: faults of the worker's own surroundings.

use rusqlite::Connection;

use crate::rig::command::refund;
use crate::rig::script::{found, refunded};
use crate::rig::stub::{self, Answer};
use crate::rig::{COMMAND_QUEUES, Rig, eventually};

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
    rig.publish_all(&ids.iter().map(|tid| refund(tid, tid)).collect::<Vec<_>>()).await;
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
