//! What an answer holds of evidence counts before its codes, whatever they say.

use serde_json::{Value, json};

use crate::rig::Rig;
use crate::rig::command::{Edit, refund};
use crate::rig::script::{found, refund_body, refunded};
use crate::rig::stub::{self, Answer};

/// A refusal with Eko's number, and with these data beside it.
fn refused(code: i64, data: Value) -> Answer {
    let body = json!({
        "status": code, "response_status_id": 1, "response_type_id": code,
        "message": "Transaction not processed, bank not available", "data": data,
    });
    Answer::Json(200, body)
}

#[tokio::test]
async fn evidence_of_execution_beside_any_code_is_never_followed_by_another_attempt() {
    let mut rig = Rig::builder().stub().impatient().start().await;
    let done = |tid: &str| json!({ "tid": tid, "tx_status": "4", "refund_tid": "2147591637" });
    let cases = [
        ("6301", refused(544, done("6301"))),
        ("6302", refused(544, json!({ "tid": "6302", "tx_status": "2" }))),
        ("6303", refused(544, json!({ "tid": "6303", "tx_status": "5" }))),
        ("6304", refused(544, json!({ "tid": "6304", "tx_status": "6" }))),
        ("6305", refused(319, json!({ "tid": "6305", "refund_tid": "2147591637" }))),
        ("6306", refused(544, json!({ "tid": "6306", "tx_status": 4 }))),
    ];
    for (tid, answer) in &cases {
        rig.stub().on_refund(tid, [answer.clone(), refunded(tid)]);
        rig.stub().on_inquiry(tid, [found(tid, 4)]);
    }
    let tids = cases.map(|(tid, _)| tid);
    rig.publish_all(&tids.map(|tid| refund(tid, tid))).await;
    let events = rig.events_of(tids).await;
    for tid in tids {
        let event = &events[tid];
        assert_eq!((event.outcome(), event.attempts()), ("succeeded", 1), "{tid}: {}", event.body);
        assert_eq!(rig.stub().requests(&stub::refund(tid)).len(), 1, "{tid}");
    }
    rig.finish().await;
}

#[tokio::test]
async fn a_refund_id_that_is_none_proves_nothing() {
    let mut rig = Rig::builder().stub().impatient().start().await;
    let none = [json!(0), json!("0"), json!("000"), json!("{2}"), json!(""), json!(null)];
    let mut ids = Vec::new();
    for (n, refund_tid) in none.into_iter().enumerate() {
        let tid = (6311 + n).to_string();
        let body = refund_body(&tid).with("/data/refund_tid", refund_tid);
        rig.stub().on_refund(&tid, [Answer::Json(200, body)]);
        rig.stub().on_inquiry(&tid, [found(&tid, 4)]);
        rig.publish(&refund(&tid, &tid)).await;
        ids.push(tid);
    }
    let events = rig.events_of(ids.iter().map(String::as_str)).await;
    for (tid, event) in &events {
        assert_eq!((event.told().as_str(), event.attempts()), ("succeeded inquiry", 1), "{tid}");
    }
    rig.finish().await;
}

#[tokio::test]
async fn no_answer_of_eko_after_executing_is_followed_by_another_attempt_without_an_inquiry() {
    let mut rig = Rig::builder().impatient().start().await;
    let faults = [
        "redirect",
        "redirect_301",
        "redirect_307",
        "gateway_401",
        "http_401",
        "http_403",
        "auth_403",
        "auth_200",
        "http_404",
        "http_405",
        "http_415",
        "bad_signature",
        "stamp_refused",
        "invalid_sender",
        "bank_unavailable",
        "production_key",
    ];
    let mut commands = Vec::new();
    for (n, fault) in faults.into_iter().enumerate() {
        let tid = (6330 + n).to_string();
        rig.simulator().fault(&tid, "refund", &format!("{fault}_done"), 1).await;
        commands.push(refund(&fault.replace('_', "-"), &tid));
    }
    rig.publish_all(&commands).await;
    let ids = faults.map(|fault| fault.replace('_', "-"));
    let events = rig.events_of(ids.iter().map(String::as_str)).await;
    for (id, event) in &events {
        assert_eq!((event.told().as_str(), event.attempts()), ("succeeded inquiry", 1), "{id}");
    }
    let calls = rig.simulator().calls("refund").await;
    assert_eq!(usize::try_from(calls).unwrap(), faults.len());
    rig.finish().await;
}

#[tokio::test]
async fn the_forms_of_a_tid_are_one_tid() {
    let mut rig = Rig::start().await;
    rig.simulator().latency(300).await;
    let forms = ["3100000013", "03100000013", "003100000013"];
    rig.publish_all(&forms.map(|tid| refund(tid, tid))).await;
    let events = rig.events_of(forms).await;
    let mut told: Vec<_> = events.values().map(|event| event.told()).collect();
    told.sort();
    assert_eq!(told, ["succeeded ledger", "succeeded ledger", "succeeded response"]);
    for event in events.values() {
        assert_eq!(event.text("/subject"), "3100000013", "{}", event.body);
        assert_eq!(event.text("/data/result/tid"), "3100000013", "{}", event.body);
    }
    assert_eq!(rig.simulator().executions("3100000013").await, 1);
    assert_eq!(rig.simulator().calls("refund").await, 1);
    rig.finish().await;
}
