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
    assert!(matches!(&data.otp, GivenOtp::Open(otp) if otp.expose() == "123456"));
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
fn a_tid_has_one_form() {
    let tid = |tid: Value| read(&refund(json!({"tid": tid, "otp": "1234"}))).unwrap();
    let plain = tid(json!("13"));
    assert_eq!(plain.previous_canonical(), None);
    for other in [json!("013"), json!("0000000000000000013"), json!(13), json!(13.0), json!(1.3e1)]
    {
        let read = tid(other.clone());
        assert_eq!((read.subject(), read.tid()), ("13", Some("13")), "{other}");
        assert_eq!(read.canonical(), plain.canonical(), "{other}");
    }
    assert_eq!(tid(json!("1300")).subject(), "1300");
    let previous = "refund\ntid=4:0013\notp=4:1234";
    assert_eq!(tid(json!("0013")).previous_canonical(), Some(previous));
}

#[test]
fn a_number_is_whole_however_it_is_written() {
    let amount = |number: &str| {
        let data =
            format!(r#"{{"recipient_id":7.0,"amount":{number},"customer_id":912345678.9e1}}"#);
        let body = format!(r#"{{"id":"a","type":"eko.transfer_otp.request","data":{data}}}"#);
        parse(body.as_bytes(), None, &defaults()).command.unwrap()
    };
    let plain = amount("500");
    for number in ["500.0", "5e2", "500.00", "5.0E+2", "50000e-2"] {
        let Request::TransferOtp(data) = amount(number).request else { panic!("an OTP") };
        assert_eq!((data.amount, data.customer_id.expose()), (500, "9123456789"), "{number}");
        assert_eq!(amount(number).canonical(), plain.canonical(), "{number}");
    }
}

#[test]
fn a_deadline_beyond_what_we_can_hold_is_none() {
    let expiry = |time: &str| {
        let mut body = refund(json!({"tid": "1", "otp": "1234"}));
        body["expirytime"] = json!(time);
        read(&body).map(|command| command.expiry).map_err(|invalid| invalid.problem.message)
    };
    for time in [
        "9999-12-31T23:59:59Z",
        "9999-12-31T23:59:59.999999999Z",
        "9999-12-31T23:59:59+05:30",
        "9999-12-31T23:59:59-23:59",
        "9999-12-30T23:00:00Z",
    ] {
        assert_eq!(expiry(time), Ok(None), "{time}");
    }
    // A leap second, and offsets as people write them, too.
    for (time, expected) in [
        ("2026-11-21T09:10:00+0530", "2026-11-21T03:40:00Z"),
        ("2026-11-21T09:10:00+05", "2026-11-21T04:10:00Z"),
        ("2016-12-31T23:59:60Z", "2016-12-31T23:59:59Z"),
        ("2017-01-01T05:29:60+05:30", "2016-12-31T23:59:59Z"),
    ] {
        assert_eq!(expiry(time), Ok(Some(expected.parse().unwrap())), "{time}");
    }
    for time in
        ["9999-12-31", "9999-12-31T23:59:59", "9999-13-01T00:00:00Z", "99999-01-01T00:00:00Z"]
    {
        assert!(expiry(time).is_err(), "{time}");
    }
}

#[test]
fn extension_attributes_are_let_through() {
    let mut body = refund(json!({"tid": "1", "otp": "1234"}));
    for name in ["partitionkey", "expirytimes", "x2", "subject", "datacontenttype"] {
        body[name] = json!("let through");
    }
    assert!(read(&body).is_ok());
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
fn a_rail_that_is_not_named_is_dmt_fino_also_for_what_an_earlier_version_has_begun() {
    let data = json!({"recipient_id": 98765, "amount": 500, "customer_id": "9123456789"});
    let with = |name: &str, value: Value| {
        let mut data = data.clone();
        data[name] = value;
        read(&transfer_otp(data)).unwrap()
    };
    let plain = read(&transfer_otp(data.clone())).unwrap();
    let before = "transfer_otp\nrecipient_id=5:98765\namount=3:500\ncustomer_id=10:9123456789";
    assert_eq!(plain.canonical(), before);
    for same in [with("rail", json!("dmt-fino")), with("rail", Value::Null)] {
        assert_eq!(same.canonical(), before);
    }
    let Request::TransferOtp(read) = &plain.request else { panic!("an OTP") };
    assert_eq!((read.rail, read.wallet.is_none()), (Rail::DmtFino, true));
    assert!(!plain.has_own_choice());
}

#[test]
fn each_rail_makes_another_command() {
    let of = |rail: &str, beneficiary_id: Value| {
        let data = json!({
            "recipient_id": 98765, "amount": 500, "customer_id": "9123456789",
            "rail": rail, "beneficiary_id": beneficiary_id,
        });
        read(&transfer_otp(data)).unwrap()
    };
    let levin = of("ppi-levin", json!("040367"));
    assert!(levin.has_own_choice() && !levin.has_own_account);
    let Request::TransferOtp(read) = &levin.request else { panic!("an OTP") };
    let wallet = read.wallet.as_ref().unwrap();
    let given = (read.rail, wallet.beneficiary_id.as_str(), wallet.service_code);
    assert_eq!(given, (Rail::PpiLevin, "040367", 80));
    assert_eq!(
        of("ppi-levin", json!(40367)).canonical(),
        of("ppi-levin", json!("40367")).canonical()
    );
    assert_ne!(of("ppi-levin", json!("40367")).canonical(), levin.canonical());
    assert_ne!(of("ppi-digikhata", json!("040367")).canonical(), levin.canonical());
}

#[test]
fn boxes_are_not_compared_and_not_shown() {
    let of = |data: Value| read(&refund(data));
    let one = of(json!({"tid": "1", "otp_sealed": "AAAA/+=="})).unwrap();
    let anew = of(json!({"tid": "1", "otp_sealed": "BBBB_-", "otp": null})).unwrap();
    let open = of(json!({"tid": "1", "otp": "1234"})).unwrap();
    assert_eq!(one.canonical(), anew.canonical());
    assert_ne!(one.canonical(), open.canonical());
    assert_eq!(one.secrets(), ["9962981729"]);
    assert!(!format!("{one:?}").contains("AAAA"));
    let opened = one.with_otp(Otp::new("1234"));
    assert_eq!(opened.secrets(), ["1234", "9962981729"]);
    assert_eq!(opened.canonical(), one.canonical());
    for (data, expected) in [
        (
            json!({"tid": "1", "otp": "1234", "otp_sealed": "AAAA"}),
            "data: has both otp and otp_sealed; send one of them",
        ),
        (
            json!({"tid": "1", "otp_sealed": "a b"}),
            "data.otp_sealed: must be 1 to 1024 of A-Z a-z 0-9 + / = _ -",
        ),
        (json!({"tid": "1", "otp_sealed": 5}), "data.otp_sealed: must be a string"),
        (json!({"tid": "1", "otp_sealed": null}), "data.otp: is missing"),
    ] {
        assert_eq!(problem(&refund(data)), expected);
    }
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
        (tid(json!("0")), "data.tid: must be a number above 0"),
        (tid(json!("000")), "data.tid: must be a number above 0"),
        (tid(json!(0)), "data.tid: must be a number above 0"),
        (tid(json!("00000000000000000013")), "data.tid: must have 1 to 19 digits, has 20"),
        (tid(json!(-5)), "data.tid: must be digits, as a string or a whole number"),
        (tid(json!(1.5)), "data.tid: must be digits, as a string or a whole number"),
        (tid(json!(1e30)), "data.tid: must have 1 to 19 digits, has 31"),
        (tid(json!(true)), "data.tid: must be digits, as a string or a whole number"),
        (tid(json!(["1"])), "data.tid: must be digits, as a string or a whole number"),
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
            "data.service_code: must be a JSON number, not a string: a whole number below \
             4294967296",
        ),
        (with("state", json!(-1)), "data.state: must be a whole number below 4294967296"),
        (
            with("opt", json!("1234")),
            "data: unknown field `opt`, expected one of `tid`, `otp`, `otp_sealed`, `otp_ref_id`, \
             `user_code`, `initiator_id`, `service_code`, `state`",
        ),
        (transfer("amount", json!(0)), AMOUNT),
        (transfer("amount", json!(-500)), AMOUNT),
        (transfer("amount", json!(500.5)), AMOUNT),
        (
            transfer("amount", json!("500")),
            "data.amount: must be a JSON number, not a string: a whole number of rupees above 0",
        ),
        (transfer("amount", json!(1e30)), AMOUNT),
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
        (
            transfer("rail", json!("dmt")),
            "data.rail: is none of dmt-fino, ppi-digikhata, ppi-levin",
        ),
        (transfer("rail", json!(5)), "data.rail: must be a string"),
        (transfer("rail", json!("ppi-levin")), "data.beneficiary_id: is missing"),
        (
            transfer("beneficiary_id", json!("40367")),
            "data.beneficiary_id: is only for the rails ppi-digikhata and ppi-levin",
        ),
        (
            transfer("service_code", json!(80)),
            "data.service_code: is only for the rails ppi-digikhata and ppi-levin",
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
        (
            with("expiryTime", json!("2026-11-21T09:10:00Z")),
            "expiryTime: an attribute's name has only a-z and 0-9; is expirytime meant?",
        ),
        (
            with("expiry_time", json!(1)),
            "expiry_time: an attribute's name has only a-z and 0-9; is expirytime meant?",
        ),
        (
            with("correlationId", json!("a")),
            "correlationId: an attribute's name has only a-z and 0-9; is correlationid meant?",
        ),
        (with("Data", json!({})), "Data: an attribute's name has only a-z and 0-9; is data meant?"),
        (with("shop-order", json!(1)), "shop-order: an attribute's name has only a-z and 0-9"),
        (with("", json!(1)), ": an attribute's name has only a-z and 0-9"),
        (
            with("call 98765 43210", json!(1)),
            "call XXXXX XXXXX: an attribute's name has only a-z and 0-9",
        ),
        (
            with("data_base64", json!("e30=")),
            "data_base64: is not read; send data, as a JSON object",
        ),
        (
            json!({"tid": "1", "otp": "1234", "otp_ref_id": "a"}),
            "the message has neither id, type nor data: binary mode is not supported; send \
             structured mode, one JSON object with id, type and data",
        ),
    ] {
        assert_eq!(problem(&body), expected, "{body}");
    }
}

#[test]
fn a_message_that_is_no_json_object_says_so() {
    for (body, expected) in [
        (&b""[..], "the message is empty"),
        (b"\xff\xfe{}", "the message is not UTF-8: it begins as UTF-16 does; send UTF-8"),
        (b"{\xff}", "the message is not UTF-8"),
        (b"{", "the message is not JSON"),
        (b"tid=1", "the message is not JSON"),
        (b"{} {}", "the message is not JSON"),
        (
            b"[]",
            "the message is JSON, but not an object: it is an array; send one command a message",
        ),
        (b"\xef\xbb\xbf{}", "the message begins with a byte order mark: send UTF-8 without one"),
        (b"\xfe\xff\0{\0}", "the message is not UTF-8: it begins as UTF-16 does; send UTF-8"),
        (b"\x1f\x8b\x08\0", "the message is compressed (gzip), which is not supported: send plain"),
        (b"\x28\xb5\x2f\xfd\0", "the message is compressed (zstd), which is not supported: send"),
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
    let twice = br#"{"id":null,"id":"b","type":"eko.refund.request","data":{}}"#;
    let invalid = parse(twice, None, &defaults()).command.unwrap_err();
    assert_eq!(invalid.problem.message, "duplicate field `id`");
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
                prop_assert!(command.id == id && command.subject() == tid.trim_start_matches('0'));
            }
        }
    }
}
