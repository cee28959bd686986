//! Each kind end to end, and what the event says beside the result.

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use serde_json::{Value, json};

use crate::rig::command::{Edit, refund, refund_otp, transfer_otp};
use crate::rig::event::Event;
use crate::rig::script::{found, refunded, said};
use crate::rig::{Rig, eventually};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn trace_of(event: &Event) -> &str {
    event.text("/traceparent").split('-').nth(1).unwrap()
}

fn correlation_property(event: &Event) -> &str {
    event.message.properties.correlation_id().as_ref().unwrap().as_str()
}

fn headers(pairs: &[(&str, &str)]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in pairs {
        table.insert((*name).into(), AMQPValue::LongString((*value).into()));
    }
    table
}

#[tokio::test]
async fn each_kind_ends_in_one_event_that_carries_all_that_the_contract_names() {
    let mut rig = Rig::start().await;
    let cases = [
        (refund_otp("ord-1-otp", "13192443"), "refund_otp", "13192443"),
        (refund("ord-1-refund", "13192443"), "refund", "13192443"),
        (transfer_otp("ord-2-otp", "REQ-20260101-001"), "transfer_otp", "REQ-20260101-001"),
    ];
    for (command, kind, subject) in cases {
        let command =
            command.with("/correlationid", json!("ord")).with("/traceparent", json!(PARENT));
        let event = rig.outcome_of(&command).await;
        let id = command["id"].as_str().unwrap();
        assert_eq!(event.id(), format!("{id}.succeeded"));
        assert_eq!(event.text("/type"), format!("eko.{kind}.succeeded"));
        assert_eq!(event.message.routing_key, event.text("/type"));
        assert_eq!(event.text("/subject"), subject);
        assert_eq!(event.text("/correlationid"), "ord");
        assert_eq!(event.text("/causationid"), id);
        assert_eq!(correlation_property(&event), "ord");
        assert_eq!(event.attempts(), 1);
        assert_eq!(event.text("/data/confirmed_by"), "response");
        assert_eq!(event.body["data"]["eko"]["http_status"], 200);
        assert_eq!(trace_of(&event), TRACE);
        assert_ne!(event.text("/traceparent"), PARENT, "a span of its own");
    }
    assert_eq!(rig.simulator().executions("13192443").await, 1);
    let metrics = rig.metrics().await;
    for kind in ["refund_otp", "refund", "transfer_otp"] {
        let labels = [("kind", kind), ("outcome", "succeeded")];
        assert_eq!(metrics.value("commands_total", &labels), 1.0);
        assert_eq!(metrics.value("command_duration_seconds_count", &labels), 1.0);
        assert_eq!(metrics.value("eko_request_duration_seconds_count", &[("endpoint", kind)]), 1.0);
    }
    rig.finish().await;
}

#[tokio::test]
async fn correlation_falls_back_from_attribute_to_property_to_the_id() {
    let mut rig = Rig::start().await;
    let property = BasicProperties::default().with_correlation_id("of-amqp".into());

    let command = refund_otp("both", "1").with("/correlationid", json!("of-cloudevents"));
    rig.publish_with(&command, property.clone()).await;
    let event = rig.next_event().await;
    assert_eq!(event.text("/correlationid"), "of-cloudevents");
    assert_eq!(correlation_property(&event), "of-amqp");

    rig.publish_with(&refund_otp("amqp-only", "2"), property).await;
    let event = rig.next_event().await;
    assert_eq!(event.text("/correlationid"), "of-amqp");
    assert_eq!(correlation_property(&event), "of-amqp");

    let event = rig.outcome_of(&refund_otp("neither", "3")).await;
    assert_eq!(event.body.get("correlationid"), None);
    assert_eq!(correlation_property(&event), "neither");
    rig.finish().await;
}

#[tokio::test]
async fn the_trace_of_a_header_wins_over_that_of_an_attribute() {
    let mut rig = Rig::start().await;
    let parent = "00-11111111111111111111111111111111-2222222222222222-01";
    let table = headers(&[("traceparent", parent), ("tracestate", "vendor=header")]);
    let command = refund_otp("both", "1")
        .with("/traceparent", json!(PARENT))
        .with("/tracestate", json!("vendor=attribute"));
    rig.publish_with(&command, BasicProperties::default().with_headers(table)).await;
    let event = rig.next_event().await;
    assert_eq!(trace_of(&event), "1".repeat(32));
    assert_eq!(event.text("/tracestate"), "vendor=header");
    rig.finish().await;
}

#[tokio::test]
async fn a_traceparent_that_cannot_be_read_is_replaced_by_a_new_trace() {
    let mut rig = Rig::start().await;
    for (id, parent) in [("words", "nonsense"), ("zeros", &format!("00-{:032}-{:016}-01", 0, 0))] {
        // The rig checks that what stands in the event is a valid one.
        let event = rig.outcome_of(&refund_otp(id, "1").with("/traceparent", json!(parent))).await;
        assert_ne!(trace_of(&event), "0".repeat(32));
    }
    rig.finish().await;
}

#[tokio::test]
async fn a_command_with_headers_as_large_as_brokers_take_is_parked_and_answered() {
    let mut rig = Rig::builder().stub().start().await;
    rig.stub().on_inquiry("78", [found("78", 3)]);
    rig.stub().on_refund("78", [said(1, -2, "Another transaction in progress"), refunded("78")]);
    let table = headers(&[("baggage", &"x".repeat(120_000))]);
    let command = refund("laden", "78");
    rig.publish_with(&command, BasicProperties::default().with_headers(table)).await;
    let event = rig.next_event().await;
    assert_eq!((event.told().as_str(), event.attempts()), ("succeeded response", 2));
    let others = ["79", "80"].map(|tid| refund(tid, tid));
    for tid in ["79", "80"] {
        rig.stub().on_refund(tid, [refunded(tid)]);
    }
    rig.publish_all(&others).await;
    rig.events_of(["79", "80"]).await;
    rig.finish().await;
}

#[tokio::test]
async fn a_command_with_reply_to_is_answered_there_too() {
    let mut rig = Rig::start().await;
    let mut replies = rig.broker.inbox("test-replies", None).await;
    let properties = BasicProperties::default()
        .with_reply_to(rig.broker.name("test-replies").as_str().into())
        .with_correlation_id("call-7".into());
    rig.publish_with(&refund("asked", "77"), properties).await;
    let event = rig.next_event().await;
    let reply = Event::read(replies.next("the reply").await);
    assert_eq!(reply.body, event.body);
    assert_eq!(correlation_property(&reply), "call-7");
    assert_eq!(rig.broker.drain(&mut replies).await.len(), 0, "one reply, not two");
    rig.finish().await;
}

#[tokio::test]
async fn a_reply_queue_that_is_gone_holds_up_nothing() {
    let mut rig = Rig::start().await;
    let gone = BasicProperties::default().with_reply_to("it-no-such-queue".into());
    rig.publish_with(&refund("asked", "78"), gone).await;
    assert_eq!(rig.next_event().await.told(), "succeeded response");
    rig.finish().await;
}

#[tokio::test]
async fn an_event_that_no_subscriber_binds_is_kept_and_counted() {
    let mut rig = Rig::builder().subscribe("eko.refund.*").start().await;
    rig.publish(&refund_otp("nobody-listens", "5")).await;
    let kept = eventually("the event is kept", async || rig.broker.get("unrouted").await).await;
    let kept = Event::read(kept);
    assert_eq!(kept.text("/type"), "eko.refund_otp.succeeded");
    assert_eq!(kept.command_id(), "nobody-listens");
    let event = rig.outcome_of(&refund("somebody-listens", "5")).await;
    assert_eq!(event.told(), "succeeded response");
    let metrics = rig.metrics().await;
    assert_eq!(metrics.value("events_unrouted_total", &[("kind", "refund_otp")]), 1.0);
    assert_eq!(metrics.value("events_unrouted_total", &[("kind", "refund")]), 0.0);
    rig.finish().await;
}

#[tokio::test]
async fn a_subscriber_chooses_by_outcome_over_all_kinds() {
    let mut rig = Rig::start().await;
    let mut rejected = rig.broker.inbox("test-rejected", Some(("events", "*.*.rejected"))).await;
    rig.simulator().fault("21", "refund", "wrong_otp", 1).await;
    let commands = [refund("no", "21"), refund("yes", "22"), refund_otp("sent", "23")];
    rig.publish_all(&commands).await;
    let events = rig.events_of(["no", "yes", "sent"]).await;
    assert_eq!(events["no"].told(), "rejected wrong_otp");
    let chosen = Event::read(rejected.next("the rejected one").await);
    assert_eq!(chosen.body, events["no"].body);
    assert_eq!(rig.broker.drain(&mut rejected).await.len(), 0);
    rig.finish().await;
}

#[tokio::test]
async fn the_type_and_not_the_routing_key_decides_the_kind() {
    let mut rig = Rig::start().await;
    let body = refund("astray", "31").to_string().into_bytes();
    rig.broker.command("eko.transfer_otp.request", body, BasicProperties::default()).await;
    let event = rig.next_event().await;
    assert_eq!(event.text("/type"), "eko.refund.succeeded");
    assert_eq!(rig.simulator().executions("31").await, 1);
    rig.finish().await;
}

#[tokio::test]
async fn only_id_type_and_data_are_required_and_other_attributes_are_let_through() {
    let mut rig = Rig::start().await;
    let bare = refund("bare", "41").without("/specversion").without("/source");
    assert_eq!(rig.outcome_of(&bare).await.told(), "succeeded response");
    let rich = refund("rich", "42")
        .with("/dataschema", json!("https://example.org/refund.json"))
        .with("/partitionkey", json!("p1"))
        .with("/time", json!("2026-11-21T09:00:00Z"))
        .with("/expirytime", json!("2126-11-21T09:10:00+05:30"))
        .with("/odd", Value::Null);
    assert_eq!(rig.outcome_of(&rich).await.told(), "succeeded response");
    rig.finish().await;
}
