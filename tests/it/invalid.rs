//! Messages that are no valid command: told in an event, kept byte for byte, never called.

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::rig::command::{Edit, command, refund, refund_otp, transfer_otp};
use crate::rig::{Rig, eventually};

/// Stands for an id of its own in each case that has it.
const GOOD_ID: &str = "good";

/// What a wrong message is told to be.
struct Case {
    body: Vec<u8>,
    /// The kind in the event's type, or `command`.
    kind: &'static str,
    code: &'static str,
    /// What `error.message` must name.
    names: &'static str,
}

fn bytes(body: impl Into<Vec<u8>>, code: &'static str) -> Case {
    Case { body: body.into(), kind: "command", code, names: "" }
}

fn json_case(kind: &'static str, names: &'static str, body: &Value) -> Case {
    Case { body: body.to_string().into_bytes(), kind, code: "invalid_command", names }
}

async fn check(rig: &mut Rig, cases: Vec<Case>) {
    for (n, mut case) in cases.into_iter().enumerate() {
        // An id that is used again for other data is another error.
        if let Ok(mut command) = serde_json::from_slice::<Value>(&case.body)
            && command["id"] == GOOD_ID
        {
            command["id"] = json!(format!("wrong-{n}"));
            case.body = command.to_string().into_bytes();
        }
        let shown = String::from_utf8_lossy(&case.body).chars().take(300).collect::<String>();
        rig.publish_raw(&case.body).await;
        let event = rig.next_event().await;
        assert_eq!(event.text("/type"), format!("eko.{}.invalid", case.kind), "{shown}");
        assert_eq!(event.code(), case.code, "{shown}");
        let message = event.text("/data/error/message");
        assert!(message.contains(case.names), "{message:?} does not name {}: {shown}", case.names);
        assert!(message.len() > case.names.len() + 5, "{message:?} gives no reason: {shown}");
        let dead = rig.dead_letter(&event).await;
        assert!(dead.body == case.body, "not byte for byte: {shown}");
    }
    assert!(rig.stub().all_requests().is_empty(), "nothing is called for what is no command");
}

#[tokio::test]
async fn bytes_that_are_no_json_object_are_malformed() {
    let mut rig = Rig::builder().stub().start().await;
    let cases = vec![
        bytes("{", "malformed_json"),
        bytes("refund 13192443, please", "malformed_json"),
        bytes("", "malformed_json"),
        bytes(*b"\xff\xfe{}", "malformed_json"),
        bytes(*b"{\"id\":\"\xc3\x28\"}", "malformed_json"),
        bytes("[1,2,3]", "malformed_json"),
        bytes("\"text\"", "malformed_json"),
        bytes("[".repeat(20_000), "malformed_json"),
        Case { names: "byte order mark", ..bytes(*b"\xef\xbb\xbf{}", "malformed_json") },
        Case { names: "gzip", ..bytes(*b"\x1f\x8b\x08\x00", "malformed_json") },
        Case { names: "one command a message", ..bytes("[{}]", "malformed_json") },
        Case { names: "binary mode", ..bytes(r#"{"tid":"1","otp":"123456"}"#, "invalid_command") },
    ];
    check(&mut rig, cases).await;
    let metrics = rig.metrics().await;
    let labels = [("kind", "unknown"), ("outcome", "invalid")];
    assert_eq!(metrics.value("commands_total", &labels), 12.0);
    assert_eq!(metrics.value("dead_lettered_total", &[("kind", "unknown")]), 12.0);
    rig.finish().await;
}

#[tokio::test]
async fn an_invalid_command_is_told_also_where_the_worker_died_over_it() {
    // Its copy may be parked when the worker dies, and come back beside it.
    let mut rig = Rig::builder().stub().at_least_once().start().await;
    let ledger = Connection::open(rig.path("ledger.db")).unwrap();
    let no_ends = "CREATE TRIGGER no_ends BEFORE INSERT ON commands WHEN NEW.finished IS NOT NULL
        BEGIN SELECT RAISE(ABORT, 'a test'); END";
    ledger.execute_batch(no_ends).unwrap();
    let wrong = [refund("wrong-refund", "411"), refund_otp("wrong-otp", "412")]
        .map(|command| command.with("/data/tidd", json!("1")));
    rig.publish_all(&wrong).await;
    rig.until_metrics("the ledger fails", |now| {
        ["refund", "refund_otp"]
            .iter()
            .all(|kind| now.value("paused", &[("kind", kind), ("reason", "ledger")]) == 1.0)
    })
    .await;
    rig.kill9();
    ledger.execute_batch("DROP TRIGGER no_ends").unwrap();
    rig.start_worker().await;
    for (id, event) in rig.events_of(["wrong-refund", "wrong-otp"]).await {
        assert_eq!(event.told(), "invalid invalid_command", "{id}");
        let dead = rig.any_dead_letter().await;
        assert_eq!(dead.header("eko-code").as_deref(), Some("invalid_command"));
    }
    assert!(rig.stub().all_requests().is_empty());
    for queue in Rig::work_queues() {
        let empty = async || (rig.broker.count(&queue).await == Some(0)).then_some(());
        eventually(&format!("queue {queue} is empty"), empty).await;
    }
    rig.finish().await;
}

#[tokio::test]
async fn a_message_of_2_megabytes_is_refused_whole() {
    let mut rig = Rig::builder().stub().start().await;
    let huge = refund("huge", "1").with("/data/otp_ref_id", json!("x".repeat(2 << 20)));
    rig.publish_raw(huge.to_string().as_bytes()).await;
    let event = rig.next_event().await;
    assert_eq!(event.outcome(), "invalid");
    assert!(event.message.body.len() < 4096, "the event does not repeat the message");
    let dead = rig.dead_letter(&event).await;
    assert!(dead.body == huge.to_string().into_bytes());
    rig.finish().await;
}

#[tokio::test]
async fn wrong_attributes_are_named() {
    let mut rig = Rig::builder().stub().start().await;
    let good = || refund(GOOD_ID, "1");
    let cases = vec![
        json_case("command", "type", &good().without("/type")),
        json_case("command", "type", &good().with("/type", json!("eko.payout.request"))),
        json_case("command", "type", &good().with("/type", json!("eko.refund.succeeded"))),
        json_case("command", "type", &good().with("/type", json!(7))),
        json_case("refund", "id", &good().without("/id")),
        json_case("refund", "id", &good().with("/id", json!(""))),
        json_case("refund", "id", &good().with("/id", json!("x".repeat(65)))),
        json_case("refund", "id", &good().with("/id", json!("with space"))),
        json_case("refund", "id", &good().with("/id", json!("ümlaut"))),
        json_case("refund", "id", &good().with("/id", json!(42))),
        json_case("refund", "data", &good().without("/data")),
        json_case("refund", "data", &good().with("/data", Value::Null)),
        json_case("refund", "data", &good().with("/data", json!(["tid"]))),
        json_case("refund", "expirytime", &good().with("/expirytime", json!("tomorrow"))),
        json_case("refund", "expirytime", &good().with("/expirytime", json!(1_795_251_600))),
        json_case("refund", "is expirytime meant?", &good().with("/expiryTime", json!("2026"))),
        json_case("refund", "is expirytime meant?", &good().with("/expiry_time", json!("2026"))),
        json_case("refund", "is correlationid meant?", &good().with("/correlationId", json!("a"))),
    ];
    check(&mut rig, cases).await;
    rig.finish().await;
}

/// `command` with each of the values, a JSON array, in one field of its data.
fn with_each(kind: &'static str, command: &Value, field: &'static str, values: &str) -> Vec<Case> {
    let values: Vec<Value> = serde_json::from_str(values).unwrap();
    let pointer = format!("/data/{field}");
    let with = |value| json_case(kind, field, &command.clone().with(&pointer, value));
    values.into_iter().map(with).collect()
}

#[tokio::test]
async fn wrong_fields_of_a_refund_are_named() {
    let mut rig = Rig::builder().stub().start().await;
    let tids = r#"["12/34", "", "12345678901234567890", "-5", -5, 1.5, "1e5", " 12", "१२३", null,
                   true, [1]]"#;
    let good = refund(GOOD_ID, "1");
    let add = |field, values| with_each("refund", &good, field, values);
    let mut cases = Vec::new();
    cases.extend(add("tid", tids));
    cases.extend(add("otp", r#"["123", "735193461", "12a4", 12.5, "", {}]"#));
    cases.extend(add("initiator_id", r#"["996298172", "99629817291", "99629x1729", []]"#));
    cases.extend(add("otp_ref_id", "[7, {}]"));
    cases.extend(add("user_code", r#"[{}, ["20810200"]]"#));
    cases.extend(add("service_code", r#"["eighty", -1, 1.5]"#));
    cases.extend(add("state", r#"["one", [1]]"#));
    cases.extend(add("opt", r#"["1234"]"#));
    cases.extend(add("amount", "[500]"));
    cases.push(json_case("refund", "tid", &good.clone().without("/data/tid")));
    cases.push(json_case("refund", "otp", &good.without("/data/otp")));
    check(&mut rig, cases).await;
    rig.finish().await;
}

#[tokio::test]
async fn wrong_fields_of_a_transfer_otp_are_named() {
    let mut rig = Rig::builder().stub().start().await;
    let good = transfer_otp(GOOD_ID, "R");
    let add = |field, values| with_each("transfer_otp", &good, field, values);
    let mut cases = Vec::new();
    cases.extend(add("amount", r#"[0, -5, 10.5, "ten", true, null, "0"]"#));
    cases.extend(add("recipient_id", r#"["abc", "", -1, 98765.5, {}]"#));
    cases.extend(add("customer_id", r#"["912345678", "09123456789", "+919123456"]"#));
    cases.extend(add("client_ref_id", r#"["", "123456789012345678901", "REQ/1", 7]"#));
    cases.extend(add("tid", r#"["1"]"#));
    for field in ["recipient_id", "amount", "customer_id"] {
        let without = good.clone().without(&format!("/data/{field}"));
        cases.push(json_case("transfer_otp", field, &without));
    }
    check(&mut rig, cases).await;
    rig.finish().await;
}

#[tokio::test]
async fn wrong_fields_of_a_refund_otp_are_named() {
    let mut rig = Rig::builder().stub().start().await;
    let good = refund_otp(GOOD_ID, "1");
    let cases = vec![
        json_case("refund_otp", "tid", &command("refund_otp", GOOD_ID, json!({}))),
        json_case("refund_otp", "otp", &good.clone().with("/data/otp", json!("1234"))),
        json_case("refund_otp", "user_code", &good.with("/data/user_code", json!("20810200"))),
        json_case("refund_otp", "tid", &refund_otp(GOOD_ID, "../../wallet")),
    ];
    check(&mut rig, cases).await;
    rig.finish().await;
}

#[tokio::test]
async fn defaults_that_the_settings_lack_are_missing_fields() {
    let mut rig = Rig::builder().stub().start_without_worker().await;
    rig.settings.remove("EKO_USER_CODE");
    rig.settings.remove("EKO_INITIATOR_ID");
    rig.start_worker().await;
    let with = |field: &str, value: &str| refund(GOOD_ID, "1").with(field, json!(value));
    let cases = vec![
        json_case("refund", "user_code", &with("/data/initiator_id", "9962981729")),
        json_case("refund", "initiator_id", &with("/data/user_code", "20810200")),
    ];
    check(&mut rig, cases).await;
    rig.finish().await;
}

#[tokio::test]
async fn an_invalid_message_is_answered_and_kept_under_what_could_be_read_of_it() {
    let mut rig = Rig::builder().stub().start().await;
    let mut replies = rig.broker.inbox("test-replies", None).await;
    let mut headers = FieldTable::default();
    headers.insert("shop".into(), AMQPValue::LongString("checkout".into()));
    let properties = BasicProperties::default()
        .with_message_id("m-1".into())
        .with_content_type("application/json".into())
        .with_reply_to(rig.broker.name("test-replies").as_str().into())
        .with_headers(headers);
    let command = refund("known", "1/2").with("/correlationid", json!("ord-1"));
    rig.publish_with(&command, properties).await;
    let event = rig.next_event().await;
    assert_eq!(event.id(), "known.invalid");
    assert_eq!(event.text("/correlationid"), "ord-1");
    assert_eq!(event.text("/causationid"), "known");
    assert_eq!(replies.next("the reply").await.body, event.message.body);
    let dead = rig.dead_letter(&event).await;
    assert_eq!(dead.properties.message_id().as_ref().unwrap().as_str(), "m-1");
    assert_eq!(dead.properties.content_type().as_ref().unwrap().as_str(), "application/json");
    assert_eq!(dead.header("shop").as_deref(), Some("checkout"));
    rig.finish().await;
}

#[tokio::test]
async fn the_same_unreadable_bytes_have_the_same_event_id_and_others_another() {
    let mut rig = Rig::builder().stub().start().await;
    let mut ids = Vec::new();
    for body in ["not json", "not json", "not json either"] {
        rig.publish_raw(body.as_bytes()).await;
        // The rig itself checks that one id has one body.
        let event = rig.next_event().await;
        if !ids.contains(&event.id().to_owned()) {
            rig.dead_letter(&event).await;
        }
        assert!(event.command_id().bytes().all(|byte| byte.is_ascii_hexdigit()));
        ids.push(event.id().to_owned());
    }
    assert_eq!(ids[0], ids[1]);
    assert_ne!(ids[0], ids[2]);
    rig.finish().await;
}
