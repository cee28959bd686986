#![expect(clippy::too_many_lines, reason = "a table is as long as what it lists")]

use proptest::prelude::*;
use serde_json::{Value, json};

use super::parse::MAX_BODY;
use super::*;
use crate::outcome::Code;

fn defaults() -> Defaults {
    Defaults {
        initiator_id: Some(Mobile::new("9962981729")),
        user_code: Some("20810200".to_owned()),
    }
}

fn read(body: &Value) -> Result<Command, Invalid> {
    parse(body.to_string().as_bytes(), None, &defaults()).command
}

fn refund(data: Value) -> Value {
    json!({"id": "ord-7731-refund", "type": "eko.refund.request", "data": data})
}

fn transfer_otp(data: Value) -> Value {
    json!({"id": "ord-7731-otp", "type": "eko.transfer_otp.request", "data": data})
}

/// What is wrong with a body, as the event will tell it.
fn problem(body: &Value) -> String {
    let invalid = read(body).expect_err(&body.to_string());
    assert_eq!(invalid.problem.code, Code::InvalidCommand);
    invalid.problem.message
}

#[test]
fn a_command_with_every_attribute_is_read() {
    let body = json!({
        "specversion": "1.0",
        "id": "ord-7731-refund",
        "source": "/shop/checkout",
        "type": "eko.refund.request",
        "time": "2026-11-21T09:00:00Z",
        "expirytime": "2026-11-21T09:10:00Z",
        "correlationid": "ord-7731",
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "tracestate": "vendor=1",
        "partitionkey": "let through",
        "data": {
            "tid": "13192443",
            "otp": "123456",
            "otp_ref_id": "zCISyglexo0Pjqp4",
            "user_code": "20810201",
            "initiator_id": "9962981728",
            "service_code": 81,
            "state": 2
        }
    });
    let parsed = parse(body.to_string().as_bytes(), Some("amqp"), &defaults());
    assert_eq!(parsed.time, Some("2026-11-21T09:00:00Z".parse().unwrap()));
    assert!(parsed.traceparent.is_some() && parsed.tracestate.is_some());
    let command = parsed.command.unwrap();
    assert_eq!(command.id, "ord-7731-refund");
    assert_eq!(command.kind(), Kind::Refund);
    assert_eq!(command.expiry, Some("2026-11-21T09:10:00Z".parse().unwrap()));
    assert_eq!(command.correlation_id.as_deref(), Some("ord-7731"));
    assert_eq!(command.subject(), "13192443");
    let Request::Refund(data) = command.request else { panic!("a refund") };
    assert_eq!(data.otp.expose(), "123456");
    assert_eq!(data.otp_ref_id.unwrap().expose(), "zCISyglexo0Pjqp4");
    assert_eq!(data.user_code, "20810201");
    assert_eq!(data.initiator_id.expose(), "9962981728");
    assert_eq!((data.service_code, data.state), (81, 2));
}

#[test]
fn what_a_command_does_not_name_comes_from_the_settings() {
    let command = read(&refund(json!({"tid": "1", "otp": "1234"}))).unwrap();
    let Request::Refund(data) = command.request else { panic!("a refund") };
    assert_eq!(data.user_code, "20810200");
    assert_eq!(data.initiator_id.expose(), "9962981729");
    assert_eq!((data.service_code, data.state), (80, 1));
    assert!(data.otp_ref_id.is_none());
}

#[test]
fn without_the_setting_the_field_is_required() {
    let body = refund(json!({"tid": "1", "otp": "1234"})).to_string();
    let invalid = parse(body.as_bytes(), None, &Defaults::default()).command.unwrap_err();
    assert_eq!(
        invalid.problem.message,
        "data.user_code: is missing, and the worker has no EKO_USER_CODE"
    );
}

#[test]
fn the_property_stands_in_for_the_attribute_correlationid() {
    let body = refund(json!({"tid": "1", "otp": "1234"})).to_string();
    let parsed = parse(body.as_bytes(), Some("from-amqp"), &defaults());
    assert_eq!(parsed.command.unwrap().correlation_id.as_deref(), Some("from-amqp"));
}

#[test]
fn digits_may_come_as_string_or_number() {
    let strings = refund(json!({"tid": "13192443", "otp": "123456", "user_code": "20810200"}));
    let numbers = refund(json!({"tid": 13192443, "otp": 123456, "user_code": 20810200}));
    let (strings, numbers) = (read(&strings).unwrap(), read(&numbers).unwrap());
    assert_eq!(strings.canonical(), numbers.canonical());
    let largest = refund(json!({"tid": 9_999_999_999_999_999_999_u64, "otp": "0123"}));
    assert_eq!(read(&largest).unwrap().subject(), "9999999999999999999");
}

#[test]
fn a_default_that_is_named_makes_another_command() {
    let short = read(&refund(json!({"tid": "1", "otp": "1234"}))).unwrap();
    let named = refund(json!({"tid": "1", "otp": "1234", "user_code": "20810200"}));
    assert_ne!(short.canonical(), read(&named).unwrap().canonical());
}

#[test]
fn a_client_ref_id_is_made_from_the_id_and_stays_the_same() {
    let data = json!({"recipient_id": 98765, "amount": 500, "customer_id": "9123456789"});
    let first = read(&transfer_otp(data.clone())).unwrap();
    assert_eq!(first.subject(), read(&transfer_otp(data.clone())).unwrap().subject());
    assert_eq!(first.subject().len(), 20);
    let mut other = transfer_otp(data);
    other["id"] = json!("ord-7732-otp");
    assert_ne!(first.subject(), read(&other).unwrap().subject());
}

#[test]
fn a_wrong_field_is_named_with_the_reason() {
    let otp = |otp: Value| refund(json!({"tid": "1", "otp": otp}));
    let tid = |tid: Value| refund(json!({"tid": tid, "otp": "1234"}));
    let with = |name: &str, value: Value| refund(json!({"tid": "1", "otp": "1234", name: value}));
    let transfer = |name: &str, value: Value| {
        let mut data = json!({"recipient_id": 1, "amount": 1, "customer_id": "9123456789"});
        data[name] = value;
        transfer_otp(data)
    };
    const AMOUNT: &str = "data.amount: must be a whole number of rupees above 0";
    for (body, expected) in [
        (tid(json!("12/34")), "data.tid: must be digits only"),
        (tid(json!("")), "data.tid: must be digits only"),
        (tid(json!(" 1")), "data.tid: must be digits only"),
        (tid(json!("12345678901234567890")), "data.tid: must have 1 to 19 digits, has 20"),
        (tid(json!(-5)), "data.tid: must be digits, as a string or a number"),
        (tid(json!(1.5)), "data.tid: must be digits only"),
        (tid(json!(1e30)), "data.tid: must be digits only"),
        (tid(json!(true)), "data.tid: must be digits, as a string or a number"),
        (tid(json!(["1"])), "data.tid: must be digits, as a string or a number"),
        (tid(Value::Null), "data.tid: is missing"),
        (tid(json!("١٢٣")), "data.tid: must be digits only"),
        (otp(json!("123")), "data.otp: must have 4 to 8 digits, has 3"),
        (otp(json!("123456789")), "data.otp: must have 4 to 8 digits, has 9"),
        (otp(json!("12a4")), "data.otp: must be digits only"),
        (refund(json!({"tid": "1"})), "data.otp: is missing"),
        (with("otp_ref_id", json!("")), "data.otp_ref_id: must have 1 to 1024 bytes"),
        (with("otp_ref_id", json!(5)), "data.otp_ref_id: must be a string"),
        (
            with("user_code", json!("a b")),
            "data.user_code: must be 1 to 32 letters, digits, _ or -",
        ),
        (with("initiator_id", json!("12345")), "data.initiator_id: must have 10 digits, has 5"),
        (
            with("service_code", json!("80")),
            "data.service_code: must be a whole number below 4294967296",
        ),
        (with("state", json!(-1)), "data.state: must be a whole number below 4294967296"),
        (
            with("opt", json!("1234")),
            "data: unknown field `opt`, expected one of `tid`, `otp`, `otp_ref_id`, `user_code`, \
             `initiator_id`, `service_code`, `state`",
        ),
        (transfer("amount", json!(0)), AMOUNT),
        (transfer("amount", json!(-500)), AMOUNT),
        (transfer("amount", json!(500.5)), AMOUNT),
        (transfer("amount", json!("500")), AMOUNT),
        (transfer("amount", Value::Null), "data.amount: is missing"),
        (
            transfer("customer_id", json!("912345678")),
            "data.customer_id: must have 10 digits, has 9",
        ),
        (
            transfer("recipient_id", json!("007")),
            "data.recipient_id: must be a number above 0, without leading 0",
        ),
        (
            transfer("client_ref_id", json!("REQ/1")),
            "data.client_ref_id: must be 1 to 20 of A-Z a-z 0-9 _ -",
        ),
        (
            transfer("client_ref_id", json!("123456789012345678901")),
            "data.client_ref_id: must be 1 to 20 of A-Z a-z 0-9 _ -",
        ),
        (refund(json!("tid")), "data: must be an object"),
        (refund(Value::Null), "data: is missing"),
    ] {
        assert_eq!(problem(&body), expected, "{body}");
    }
}

#[test]
fn a_wrong_attribute_is_named_with_the_reason() {
    let with = |name: &str, value: Value| {
        let mut body = refund(json!({"tid": "1", "otp": "1234"}));
        body[name] = value;
        body
    };
    const ID: &str = "id: must be 1 to 64 of A-Z a-z 0-9 . _ : -";
    const TYPE: &str =
        "type: is none of eko.refund_otp.request, eko.refund.request, eko.transfer_otp.request";
    for (body, expected) in [
        (with("id", json!("")), ID),
        (with("id", json!("a b")), ID),
        (with("id", json!("x".repeat(65))), ID),
        (with("id", json!(5)), "id: must be a string"),
        (with("id", Value::Null), "id: is missing"),
        (with("type", json!("eko.refund")), TYPE),
        (with("type", json!("shop.refund.request")), TYPE),
        (with("type", Value::Null), "type: is missing"),
        (
            with("expirytime", json!("tomorrow")),
            "expirytime: must be an RFC 3339 time such as 2026-11-21T09:10:00Z",
        ),
        (with("correlationid", json!("x".repeat(256))), "correlationid: must have 1 to 255 bytes"),
        (with("correlationid", json!(1)), "correlationid: must be a string"),
    ] {
        assert_eq!(problem(&body), expected, "{body}");
    }
}

#[test]
fn a_message_that_is_no_json_object_says_so() {
    for (body, expected) in [
        (&b""[..], "the message is empty"),
        (b"\xff\xfe{}", "the message is not UTF-8"),
        (b"{", "the message is not JSON"),
        (b"tid=1", "the message is not JSON"),
        (b"{} {}", "the message is not JSON"),
        (b"[]", "the message is JSON, but not an object"),
        (b"5", "the message is JSON, but not an object"),
    ] {
        let invalid = parse(body, None, &defaults()).command.unwrap_err();
        assert_eq!(invalid.problem.code, Code::MalformedJson);
        assert!(invalid.problem.message.starts_with(expected), "{}", invalid.problem.message);
        assert_eq!((invalid.kind, invalid.id), (None, None));
    }
}

#[test]
fn a_message_over_the_limit_is_not_parsed() {
    let mut body = refund(json!({"tid": "1", "otp": "1234"})).to_string().into_bytes();
    body.resize(MAX_BODY, b' ');
    assert!(parse(&body, None, &defaults()).command.is_ok());
    body.push(b' ');
    let invalid = parse(&body, None, &defaults()).command.unwrap_err();
    assert_eq!(invalid.problem.message, "the message has 65537 bytes; at most 65536 are read");
}

#[test]
fn a_field_that_stands_there_twice_is_an_error() {
    let twice =
        br#"{"id":"a","type":"eko.refund.request","data":{"tid":"1","tid":"2","otp":"1234"}}"#;
    let invalid = parse(twice, None, &defaults()).command.unwrap_err();
    assert_eq!(invalid.problem.message, "data: duplicate field `tid`");
    let twice = br#"{"id":"a","id":"b","type":"eko.refund.request","data":{}}"#;
    let invalid = parse(twice, None, &defaults()).command.unwrap_err();
    assert_eq!(invalid.problem.message, "duplicate field `id`");
    assert_eq!(invalid.kind, Some(Kind::Refund));
}

#[test]
fn what_could_be_read_of_an_invalid_message_is_kept() {
    let mut body = refund(json!({"tid": "x", "otp": "1234"}));
    body["correlationid"] = json!("ord-7731");
    let invalid = read(&body).unwrap_err();
    assert_eq!(invalid.kind, Some(Kind::Refund));
    assert_eq!(invalid.id.as_deref(), Some("ord-7731-refund"));
    assert_eq!(invalid.correlation_id.as_deref(), Some("ord-7731"));
}

#[test]
fn no_error_and_no_debug_output_repeats_a_secret() {
    let body = refund(json!({"tid": "1", "otp": "87654321x"}));
    assert!(!problem(&body).contains("87654321"));
    let body = transfer_otp(json!({"recipient_id": 1, "amount": 1, "customer_id": "91234567891"}));
    assert!(!problem(&body).contains("9123456789"));
    let body = refund(json!({"tid": "1", "otp": "87654321", "initiator_id": "9962981728"}));
    let shown = format!("{:?}", read(&body).unwrap());
    assert!(!shown.contains("87654321") && !shown.contains("9962981728"), "{shown}");
}

proptest! {
    #[test]
    fn any_bytes_are_a_command_or_invalid(body in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse(&body, None, &defaults());
    }

    #[test]
    fn any_field_values_are_a_command_or_invalid(
        id in "\\PC{0,70}",
        tid in "[0-9a-z/]{0,22}",
        otp in any::<i64>(),
        amount in any::<f64>(),
    ) {
        for name in ["eko.refund.request", "eko.refund_otp.request", "eko.transfer_otp.request"] {
            let data = json!({"tid": tid, "otp": otp, "amount": amount});
            let read = read(&json!({"id": id, "type": name, "data": data}));
            if let Ok(command) = read {
                prop_assert!(command.id == id && command.subject() == tid);
            }
        }
    }
}
