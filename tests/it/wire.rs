//! What goes over the wire to Eko, byte for byte.

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::rig::command::{
    CUSTOMER, Edit, OTP, OTP_REF, command, refund, refund_otp, transfer_otp,
};
use crate::rig::script::{found, http, otp_sent, refunded, transfer_otp_sent};
use crate::rig::stub::{self, Request, TRANSFER_OTP};
use crate::rig::{ACCESS_KEY, DEVELOPER_KEY, INITIATOR, Rig, USER_CODE};

/// The signature as Eko's documents describe it.
fn secret_key(stamp: &str) -> String {
    let key = STANDARD.encode(ACCESS_KEY);
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).unwrap();
    mac.update(stamp.as_bytes());
    STANDARD.encode(mac.finalize().into_bytes())
}

fn check_signed(request: &Request) {
    assert_eq!(request.header("developer_key"), Some(DEVELOPER_KEY), "{request:?}");
    let stamp = request.header("secret-key-timestamp").unwrap();
    assert!(stamp.len() == 13 && stamp.bytes().all(|byte| byte.is_ascii_digit()), "{stamp}");
    assert_eq!(request.header("secret-key"), Some(secret_key(stamp).as_str()));
}

async fn body_of(rig: &mut Rig, command: &Value, line: &str) -> Value {
    let event = rig.outcome_of(command).await;
    assert_eq!(event.outcome(), "succeeded", "{}", event.body);
    let request = rig.stub().requests(line).pop().unwrap();
    check_signed(&request);
    assert_eq!(request.header("content-type"), Some("application/json"));
    request.json()
}

#[tokio::test]
async fn a_refund_is_sent_as_eko_documents_it() {
    let mut rig = Rig::builder().stub().start().await;
    rig.stub().on_refund("13192443", [refunded("13192443")]);
    let line = stub::refund("13192443");
    let body = body_of(&mut rig, &refund("defaults", "13192443"), &line).await;
    let otp: u64 = OTP.parse().unwrap();
    let expected = json!({
        "initiator_id": INITIATOR, "user_code": USER_CODE, "otp": otp, "otp_ref_id": OTP_REF,
        "service_code": 80, "state": 1,
    });
    assert_eq!(body, expected);
    rig.finish().await;
}

#[tokio::test]
async fn a_command_overrides_the_settings_and_gives_digits_as_it_likes() {
    let mut rig = Rig::builder().stub().start().await;
    rig.plant("9812345670");
    rig.stub().on_refund("501", [refunded("501")]);
    let data = json!({
        "tid": 501, "otp": "0735", "user_code": 30810300, "initiator_id": 9_812_345_670_u64,
        "service_code": 81, "state": 2,
    });
    let body = body_of(&mut rig, &command("refund", "own", data), &stub::refund("501")).await;
    let expected = json!({
        "initiator_id": "9812345670", "user_code": "30810300", "otp": "0735",
        "service_code": 81, "state": 2,
    });
    assert_eq!(body, expected, "an otp that begins with 0 keeps its digits only as a string");

    rig.stub().on_refund("9223372036854775807", [refunded("9223372036854775807")]);
    let data = json!({ "tid": "9223372036854775807", "otp": 735_193 });
    let line = stub::refund("9223372036854775807");
    let body = body_of(&mut rig, &command("refund", "long", data), &line).await;
    assert_eq!(body["otp"], 735_193);
    rig.finish().await;
}

#[tokio::test]
async fn a_refund_otp_is_asked_for_with_the_initiator_alone() {
    let mut rig = Rig::builder().stub().start().await;
    rig.stub().on(&stub::refund_otp("601"), [otp_sent("ref")]);
    let body = body_of(&mut rig, &refund_otp("otp", "601"), &stub::refund_otp("601")).await;
    assert_eq!(body, json!({ "initiator_id": INITIATOR }));
    rig.finish().await;
}

#[tokio::test]
async fn a_transfer_otp_is_asked_for_as_eko_documents_it() {
    let mut rig = Rig::builder().stub().start().await;
    rig.stub().on(TRANSFER_OTP, [transfer_otp_sent()]);
    let given = transfer_otp("given", "REQ-20260101-001");
    let body = body_of(&mut rig, &given, TRANSFER_OTP).await;
    let expected = json!({
        "initiator_id": INITIATOR, "user_code": USER_CODE, "client_ref_id": "REQ-20260101-001",
        "recipient_id": 98765, "amount": 500, "customer_id": CUSTOMER,
    });
    assert_eq!(body, expected);

    let customer: u64 = CUSTOMER.parse().unwrap();
    let other = transfer_otp("other-types", "x")
        .with("/data/recipient_id", json!("98765"))
        .with("/data/customer_id", json!(customer))
        .with("/data/client_ref_id", json!("REQ-20260101-001"));
    assert_eq!(body_of(&mut rig, &other, TRANSFER_OTP).await, expected);
    rig.finish().await;
}

#[tokio::test]
async fn a_client_ref_id_is_made_from_the_command_and_kept_for_its_re_sends() {
    let mut rig = Rig::builder().stub().start().await;
    rig.stub().on(TRANSFER_OTP, [http(503), transfer_otp_sent()]);
    let mut made = BTreeSet::new();
    for id in ["first", "second"] {
        let event = rig.outcome_of(&transfer_otp(id, "x").without("/data/client_ref_id")).await;
        let reference = event.text("/data/result/client_ref_id").to_owned();
        assert_eq!(event.text("/subject"), reference);
        let usable = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        assert!(
            (1..=20).contains(&reference.len()) && reference.bytes().all(usable),
            "{reference}"
        );
        made.insert(reference);
    }
    assert_eq!(made.len(), 2, "each command has its own");
    let sent: Vec<_> = rig
        .stub()
        .requests(TRANSFER_OTP)
        .iter()
        .map(|request| request.json()["client_ref_id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(sent.len(), 3);
    assert_eq!(sent[0], sent[1], "the re-send carries the reference of the first send");
    assert_eq!(BTreeSet::from_iter(sent), made);
    rig.finish().await;
}

#[tokio::test]
async fn an_inquiry_asks_for_the_tid_with_both_parameters() {
    let mut rig = Rig::builder().stub().impatient().start().await;
    rig.stub().on_refund("701", [http(502)]);
    rig.stub().on_inquiry("701", [found("701", 4)]);
    let event = rig.outcome_of(&refund("unclear", "701")).await;
    assert_eq!(event.told(), "succeeded inquiry");
    let request = rig.stub().requests(&stub::inquiry("701")).pop().unwrap();
    check_signed(&request);
    let query: BTreeSet<_> = request.line.split_once('?').unwrap().1.split('&').collect();
    let initiator = format!("initiator_id={INITIATOR}");
    let user_code = format!("user_code={USER_CODE}");
    assert_eq!(query, BTreeSet::from([initiator.as_str(), user_code.as_str()]));
    rig.finish().await;
}

#[tokio::test]
async fn no_two_calls_carry_the_same_timestamp() {
    let mut rig = Rig::builder().stub().start().await;
    let ids: Vec<_> = (1..=60).map(|n| format!("{}", 8000 + n)).collect();
    for tid in &ids {
        rig.stub().on(&stub::refund_otp(tid), [otp_sent(tid)]);
    }
    let commands: Vec<_> = ids.iter().map(|tid| refund_otp(tid, tid)).collect();
    rig.publish_all(&commands).await;
    let events = rig.events_of(ids.iter().map(String::as_str)).await;
    for (tid, event) in &events {
        assert_eq!(event.text("/data/result/otp_ref_id"), tid, "each got its own answer");
    }
    let requests = rig.stub().all_requests();
    requests.iter().for_each(check_signed);
    let stamps: BTreeSet<_> =
        requests.iter().map(|request| request.header("secret-key-timestamp").unwrap()).collect();
    assert_eq!(stamps.len(), 60);
    rig.finish().await;
}
