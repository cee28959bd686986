//! Results, normalised: Eko's own examples in, the contract's form out.

use serde_json::{Value, json};

use crate::rig::Rig;
use crate::rig::command::{OTP, refund, refund_otp, transfer_otp};
use crate::rig::script::{otp_sent, refund_body, refunded, said_body, transfer_otp_sent};
use crate::rig::stub::{self, Answer, TRANSFER_OTP};

#[tokio::test]
async fn the_example_of_initiate_refund_becomes_the_example_of_the_contract() {
    let mut rig = Rig::builder().stub().start().await;
    rig.stub().on_refund("13192443", [refunded("13192443")]);
    let event = rig.outcome_of(&refund("ord-7731-refund", "13192443")).await;
    let expected = json!({
        "command_id": "ord-7731-refund",
        "attempts": 1,
        "confirmed_by": "response",
        "result": {
            "tid": "13192443", "refund_tid": "2147591637", "refunded_amount": "5050.00",
            "amount": "5000.00", "fee": "50.00", "tds": "7.10", "commission_reverse": "28.38",
            "balance": "2222637312.86", "currency": "INR", "timestamp": "2018-10-30T12:00:14.058Z",
        },
        "eko": {
            "http_status": 200, "status": 0, "response_status_id": 0, "response_type_id": 74,
            "message": "Refund done",
        },
    });
    assert_eq!(event.body["data"], expected);
    rig.finish().await;
}

#[tokio::test]
async fn the_examples_of_the_otp_calls_become_their_results() {
    let mut rig = Rig::builder().stub().start().await;
    let reference = "zCISyglexo0Pjqp4YrS2ssweuD9v1c3aLKGxjTW8wU7An8Wem1UyNws5830yh7q/sf5J4R3BY=";
    rig.stub().on(&stub::refund_otp("13192443"), [otp_sent(reference)]);
    let event = rig.outcome_of(&refund_otp("refund-otp", "13192443")).await;
    assert_eq!(event.body["data"]["result"], json!({ "tid": "13192443", "otp_ref_id": reference }));
    let eko = json!({
        "http_status": 200, "status": 2133, "response_status_id": 1, "response_type_id": 2133,
        "message": "Send OTP",
    });
    assert_eq!(event.body["data"]["eko"], eko);

    rig.stub().on(TRANSFER_OTP, [transfer_otp_sent()]);
    let event = rig.outcome_of(&transfer_otp("transfer-otp", "REQ-20260101-001")).await;
    let expected = json!({
        "otp_ref_id": "TXNOTP20240101001", "mobile": "XXXXXX6789",
        "client_ref_id": "REQ-20260101-001",
    });
    assert_eq!(event.body["data"]["result"], expected);
    rig.finish().await;
}

/// The result of a refund that Eko answers with `body`; the id ends with the tid.
async fn refund_result(rig: &mut Rig, id: &str, body: Value) -> Value {
    let tid = id.rsplit('-').next().unwrap();
    rig.stub().on_refund(tid, [Answer::Json(200, body)]);
    let event = rig.outcome_of(&refund(id, tid)).await;
    assert_eq!(event.told(), "succeeded response", "{}", event.body);
    event.body["data"]["result"].clone()
}

#[tokio::test]
async fn a_refund_of_the_qr_edition_has_its_id_in_the_tid_of_its_data() {
    let mut rig = Rig::builder().stub().start().await;
    let body = json!({
        "status": 0, "response_status_id": 0, "message": "Refund initiated successfully.",
        "tx_status": "4",
        "data": {
            "tid": 2_147_591_999_u32, "tx_status": "4", "amount": 499, "bank_ref_num": "BR7781",
            "gst": 1.5, "client_ref_id": "CR-1",
        },
    });
    let result = refund_result(&mut rig, "qr-901", body).await;
    let expected = json!({
        "tid": "901", "refund_tid": "2147591999", "amount": "499.00", "bank_ref_num": "BR7781",
        "gst": "1.50", "client_ref_id": "CR-1",
    });
    assert_eq!(result, expected);
    rig.finish().await;
}

#[tokio::test]
async fn amounts_become_plain_decimals_and_ids_strings_in_whatever_form_they_come() {
    let mut rig = Rig::builder().stub().start().await;
    let cases = [
        ("amount-911", "amount", json!("1045.0"), "1045.00"),
        ("amount-912", "amount", json!(1045), "1045.00"),
        ("amount-913", "amount", json!("0.125"), "0.125"),
        ("balance-914", "balance", json!("2.22263731286E9"), "2222637312.86"),
        ("balance-915", "balance", json!("1E2"), "100.00"),
        ("fee-916", "fee", json!(0), "0.00"),
        ("refund_tid-917", "refund_tid", json!(2_147_591_637_u32), "2147591637"),
        ("refund_tid-918", "refund_tid", json!("9007199254740993"), "9007199254740993"),
    ];
    for (id, field, given, expected) in cases {
        let mut body = refund_body(id.rsplit('-').next().unwrap());
        body["data"][field] = given;
        assert_eq!(refund_result(&mut rig, id, body).await[field], expected, "{id}");
    }
    rig.finish().await;
}

#[tokio::test]
async fn a_success_is_not_spoiled_by_odd_types_and_fields() {
    let mut rig = Rig::builder().stub().start().await;
    let mut odd = refund_body("921");
    odd["status"] = json!("0");
    odd["response_status_id"] = json!("-1");
    odd["response_type_id"] = json!("74");
    odd["tx_status"] = json!(4);
    odd["data"]["tid"] = json!(921);
    odd["data"]["tds"] = json!("");
    odd["data"]["fee"] = json!("n/a");
    odd["data"]["surprise"] = json!({ "nested": [1, 2, 3] });
    odd["invalid_params"] = Value::Null;
    let result = refund_result(&mut rig, "odd-921", odd).await;
    assert_eq!(result["refund_tid"], "2147591637");
    assert_eq!(result["refunded_amount"], "5050.00");
    assert_eq!(result.get("surprise"), None, "only what Eko documents");
    assert_eq!(result.get("tds"), None, "an empty value is no value");

    let wrong_type =
        Answer::Text(200, "content-type: text/html\r\n", refund_body("922").to_string());
    rig.stub().on_refund("922", [wrong_type]);
    let event = rig.outcome_of(&refund("content-type", "922")).await;
    assert_eq!(event.told(), "succeeded response");
    rig.finish().await;
}

#[tokio::test]
async fn an_otp_that_eko_sent_without_a_reference_is_unconfirmed() {
    let mut rig = Rig::builder().stub().start().await;
    let mut body = said_body(0, -1, "OTP for failed transaction has been sent {2} {3}");
    body["data"] = json!({ "tid": "", "otp_ref_id": "" });
    body["invalid_params"] = Value::Null;
    rig.stub().on(&stub::refund_otp("931"), [Answer::Json(200, body)]);
    let event = rig.outcome_of(&refund_otp("stale", "931")).await;
    assert_eq!(event.body["data"]["result"], json!({ "tid": "931", "unconfirmed": "true" }));
    rig.finish().await;
}

#[tokio::test]
async fn an_otp_that_staging_shows_goes_nowhere() {
    let mut rig = Rig::builder().stub().start().await;
    let mut body = said_body(2133, 1, &format!("Send OTP {OTP}"));
    body["data"] = json!({ "otp_ref_id": "REF-1", "otp": OTP });
    rig.stub().on(&stub::refund_otp("941"), [Answer::Json(200, body)]);
    let event = rig.outcome_of(&refund_otp("shown", "941")).await;
    assert_eq!(event.body["data"]["result"], json!({ "tid": "941", "otp_ref_id": "REF-1" }));
    rig.finish().await;
}
