//! What Eko refuses: the code of each, in both encodings.

use serde_json::json;

use crate::rig::Rig;
use crate::rig::command::{OTP, refund, refund_otp, transfer_otp};
use crate::rig::script::{found, said, said_body};
use crate::rig::stub::{self, Answer, TRANSFER_OTP};

/// A refusal with Eko's number in `status` (production) and in `response_status_id` (older).
fn both(number: i64, message: &str) -> [Answer; 2] {
    [said(number, 1, message), said(1, number, message)]
}

/// A refusal that names a parameter.
fn naming(number: i64, parameter: &str) -> Answer {
    let mut body = said_body(number, 1, "Invalid params");
    body["invalid_params"] = json!({ parameter: "is not valid" });
    Answer::Json(200, body)
}

fn mismatches(told: Vec<(String, String, &str)>) {
    let wrong: Vec<_> = told.iter().filter(|(_, told, expected)| told != expected).collect();
    assert!(wrong.is_empty(), "(case, told, expected): {wrong:#?}");
}

#[tokio::test]
async fn a_refused_refund_is_rejected_with_the_code_of_its_number() {
    let mut rig = Rig::builder().stub().start().await;
    let numbers = [
        (302, "Wrong OTP", "wrong_otp"),
        (303, "OTP expired", "otp_expired"),
        (347, "Insufficient balance", "insufficient_balance"),
        (168, "TID does not exist", "tid_not_found"),
        (463, "User not found", "user_not_found"),
        (346, "Invalid user code", "agent_not_allowed"),
        (1297, "Invalid agent", "agent_not_allowed"),
    ];
    let numbered = numbers.into_iter().flat_map(|(number, message, code)| {
        both(number, message).map(|answer| (format!("{number} {message}"), answer, code))
    });
    let others = [
        ("461".to_owned(), naming(461, "user_code"), "invalid_params"),
        ("461 of an otp".to_owned(), naming(461, "otp"), "wrong_otp"),
        ("text".to_owned(), said(1, -1, "Agent not allowed"), "agent_not_allowed"),
    ];
    let mut told = Vec::new();
    for (n, (case, answer, code)) in numbered.chain(others).enumerate() {
        let tid = format!("{}", 1000 + n);
        rig.stub().on_refund(&tid, [answer]);
        let event = rig.outcome_of(&refund(&format!("refused-{n}"), &tid)).await;
        assert_eq!((event.attempts(), event.text("/subject")), (1, tid.as_str()));
        told.push((case, event.told(), code));
    }
    let told = told.into_iter().map(|(case, told, code)| {
        (case, told.strip_prefix("rejected ").unwrap_or(&told).to_owned(), code)
    });
    mismatches(told.collect());
    rig.finish().await;
}

#[tokio::test]
async fn a_rejected_event_repeats_ekos_numbers_without_the_otp() {
    let mut rig = Rig::builder().stub().start().await;
    let mut body = said_body(302, 1, &format!("Wrong OTP {OTP} for 9962981729"));
    body["invalid_params"] = json!({ "otp": format!("{OTP} is wrong") });
    rig.stub().on_refund("1100", [Answer::Json(200, body)]);
    let event = rig.outcome_of(&refund("echoed", "1100")).await;
    assert_eq!(event.told(), "rejected wrong_otp");
    let eko = &event.body["data"]["eko"];
    assert_eq!(eko["http_status"], 200);
    assert_eq!((&eko["status"], &eko["response_status_id"]), (&json!(302), &json!(1)));
    rig.finish().await;
}

#[tokio::test]
async fn a_refusal_that_no_table_names_is_believed_only_after_inquiries() {
    let mut rig = Rig::builder().stub().impatient().start().await;
    let cases = [
        ("1201", said(1999, 1, "Something new"), 3, "rejected eko_refused"),
        ("1202", said(1, 1999, "Something new"), 3, "rejected eko_refused"),
        ("1203", said(1999, 1, "Something new"), 4, "succeeded inquiry"),
        ("1204", said(1, -1, "Transaction is already in refunded state."), 4, "succeeded inquiry"),
        (
            "1205",
            said(1, -1, "Transaction is not in a refundable state."),
            0,
            "rejected not_refundable",
        ),
    ];
    for (tid, answer, tx_status, _) in &cases {
        rig.stub().on_refund(tid, [answer.clone()]);
        rig.stub().on_inquiry(tid, [found(tid, *tx_status)]);
    }
    let commands: Vec<_> = cases.iter().map(|(tid, ..)| refund(tid, tid)).collect();
    rig.publish_all(&commands).await;
    let events = rig.events_of(cases.iter().map(|(tid, ..)| *tid)).await;
    let told =
        cases.iter().map(|(tid, .., expected)| ((*tid).to_owned(), events[*tid].told(), *expected));
    mismatches(told.collect());
    for (tid, _, tx_status, _) in &cases {
        assert_eq!(rig.stub().requests(&stub::refund(tid)).len(), 1, "{tid}: not sent again");
        let inquiries = rig.stub().requests(&stub::inquiry(tid)).len();
        let least = if *tx_status == 3 { 2 } else { 1 };
        assert!(inquiries >= least, "{tid}: {inquiries} inquiries");
    }
    rig.finish().await;
}

#[tokio::test]
async fn a_refused_refund_otp_is_rejected_with_the_code_of_its_reason() {
    let mut rig = Rig::builder().stub().start().await;
    let mut zero = said_body(0, -1, "OTP for failed transaction has been sent {2} {3}");
    zero["data"] = json!({ "tid": "", "otp_ref_id": "" });
    zero["invalid_params"] = json!({ "tid": "Invalid_tid_Length.." });
    let mut cases: Vec<(&str, Answer, &str)> = vec![
        ("refunded", said(1, -1, "Transaction is already in refunded state."), "already_refunded"),
        (
            "not refundable",
            said(1, -1, "Transaction is not in a refundable state."),
            "not_refundable",
        ),
        ("status 0 with invalid_params", Answer::Json(200, zero), "invalid_params"),
        ("461", naming(461, "tid"), "invalid_params"),
        ("text", said(1, -1, "Agent not allowed"), "agent_not_allowed"),
    ];
    cases.extend(both(168, "TID does not exist").map(|answer| ("168", answer, "tid_not_found")));
    cases.extend(both(463, "User not found").map(|answer| ("463", answer, "user_not_found")));
    cases.extend(both(346, "No such agent").map(|answer| ("346", answer, "agent_not_allowed")));
    let mut told = Vec::new();
    for (n, (case, answer, code)) in cases.into_iter().enumerate() {
        let tid = format!("{}", 1300 + n);
        rig.stub().on(&stub::refund_otp(&tid), [answer]);
        let event = rig.outcome_of(&refund_otp(&format!("refused-{n}"), &tid)).await;
        assert_eq!((event.outcome(), event.attempts()), ("rejected", 1), "{case}: {}", event.body);
        told.push((case.to_owned(), event.code().to_owned(), code));
    }
    mismatches(told);
    rig.finish().await;
}

#[tokio::test]
async fn a_refused_transfer_otp_is_rejected_with_the_code_of_its_number() {
    let mut rig = Rig::builder().stub().start().await;
    let mut customer = said_body(463, -1, "Customer not found");
    customer["invalid_params"] = json!({ "customer_id": "Customer does not exist" });
    let mut cases: Vec<(&str, Answer, &str)> = vec![
        ("463 of the customer", Answer::Json(200, customer), "user_not_found"),
        ("461", naming(461, "amount"), "invalid_params"),
    ];
    for (name, number) in [("36", 36), ("945", 945), ("314", 314)] {
        cases.extend(
            both(number, "Limit exhausted").map(|answer| (name, answer, "limit_exhausted")),
        );
    }
    let mut told = Vec::new();
    for (n, (case, answer, code)) in cases.into_iter().enumerate() {
        rig.stub().on(TRANSFER_OTP, [answer]);
        let event = rig.outcome_of(&transfer_otp(&format!("refused-{n}"), "REF-1")).await;
        assert_eq!((event.outcome(), event.attempts()), ("rejected", 1), "{case}: {}", event.body);
        told.push((case.to_owned(), event.code().to_owned(), code));
    }
    mismatches(told);
    rig.finish().await;
}
