//! A refund that waits for another one of its tid, and a message that uses its id.

use jiff::{SignedDuration, Timestamp};
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use serde_json::json;

use crate::rig::command::{Edit, refund};
use crate::rig::script::{found, http, refunded};
use crate::rig::stub;
use crate::rig::{Rig, eventually};

#[tokio::test]
async fn a_refund_that_waits_for_its_tid_expires_in_time() {
    let mut rig = Rig::builder().stub().impatient().set("RETRY_MAX", "30s").start().await;
    rig.stub().on_refund("6701", [http(500)]);
    rig.stub().on_inquiry("6701", [found("6701", 2)]);
    rig.publish(&refund("first", "6701")).await;
    let asked = async || (rig.stub().requests(&stub::inquiry("6701")).len() > 1).then_some(());
    eventually("the first one is in doubt", asked).await;
    let deadline = Timestamp::now() + SignedDuration::from_secs(3);
    let second = refund("second", "6701").with("/expirytime", json!(deadline.to_string()));
    let event = rig.outcome_of(&second).await;
    assert_eq!((event.outcome(), event.code()), ("expired", "deadline_passed"));
    let late = Timestamp::now().duration_since(deadline);
    assert!(late < SignedDuration::from_secs(10), "told {late:?} after its time");
    rig.stub().on_inquiry("6701", [found("6701", 4)]);
    assert_eq!(rig.next_event().await.told(), "succeeded inquiry", "the first one goes on");
    assert_eq!(rig.stub().requests(&stub::refund("6701")).len(), 1);
    rig.finish().await;
}

#[tokio::test]
async fn a_message_that_cannot_be_read_does_not_take_the_place_of_the_command_that_has_its_id() {
    let mut rig = Rig::builder().stub().impatient().start().await;
    rig.stub().on_refund("6702", [http(503), refunded("6702")]);
    rig.stub().on_inquiry("6702", [found("6702", 3)]);
    rig.publish(&refund("mine", "6702")).await;
    let begun = async || (!rig.stub().requests(&stub::refund("6702")).is_empty()).then_some(());
    eventually("the command has begun", begun).await;
    for _ in 0..40 {
        rig.publish_raw(br#"{"id":"mine","type":"eko.refund.request","data":{"tid":"6702"}}"#)
            .await;
    }
    let event = rig.next_event().await;
    assert_eq!((event.command_id(), event.outcome()), ("mine", "succeeded"));
    assert_eq!(rig.stub().requests(&stub::refund("6702")).len(), 2);
    // The others learn that the id is used, each once it is free.
    let others = async || (rig.broker.count("dead").await >= Some(1)).then_some(());
    eventually("they are told, too", others).await;
    rig.stop_worker().await;
}

/// The copy tells of a call that this ledger does not know, and what it needs to be read is a setting
/// that is missing now.
#[tokio::test]
async fn a_refund_that_another_ledger_began_and_that_cannot_be_read_is_not_called_invalid() {
    let mut rig = Rig::builder().stub().start().await;
    let mut command = refund("began-elsewhere", "6703");
    command["data"].as_object_mut().unwrap().remove("otp");
    for (attempt, expected) in [("0", "invalid invalid_command"), ("1", "unresolved misconfigured")]
    {
        let command = command.clone().with("/id", json!(format!("began-elsewhere-{attempt}")));
        let mut headers = FieldTable::default();
        headers.insert("eko-attempt".into(), AMQPValue::LongString(attempt.into()));
        rig.publish_with(&command, BasicProperties::default().with_headers(headers)).await;
        assert_eq!(rig.next_event().await.told(), expected, "{attempt}");
        rig.any_dead_letter().await;
    }
    assert_eq!(rig.stub().requests(&stub::refund("6703")).len(), 0);
    rig.finish().await;
}
