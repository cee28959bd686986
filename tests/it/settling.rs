//! Unclear refunds: settled by inquiry, executed at most once, told truly.

use serde_json::{Value, json};

use crate::rig::command::{refund, refund_otp};
use crate::rig::script::{found, http, refunded, said};
use crate::rig::stub::{self, Answer};
use crate::rig::{Rig, eventually};

/// Answers that leave open whether the refund happened: names of the simulator's faults.
const UNCLEAR: &str = "reset silence http_400 http_408 http_409 http_413 http_422 http_429 \
    http_500 http_502 http_503 http_504 html empty truncated cut_json not_object no_status \
    not_utf8 huge slow duplicate_keys";

/// One tid for each of these faults, and a command id that tells it.
fn cases(first: usize, faults: &str) -> Vec<(String, String)> {
    let tid = |(n, fault): (usize, &str)| ((first + n).to_string(), fault.replace('_', "-"));
    faults.split_whitespace().enumerate().map(tid).collect()
}

#[tokio::test]
async fn a_refund_that_happened_behind_an_unclear_answer_is_found_by_inquiry() {
    let mut rig = Rig::builder().impatient().start().await;
    let cases = cases(2000, &format!("{UNCLEAR} claimed claimed_null"));
    for (tid, id) in &cases {
        let fault = format!("{}_done", id.replace('-', "_"));
        rig.simulator().fault(tid, "refund", &fault, 1).await;
    }
    let messages: Vec<_> = cases.iter().map(|(tid, id)| refund(id, tid)).collect();
    rig.publish_all(&messages).await;
    let events = rig.events_of(cases.iter().map(|(_, id)| id.as_str())).await;
    for (tid, id) in &cases {
        let event = &events[id];
        // The answer breaks off only behind its JSON: the evidence is whole.
        let by = if id == "truncated" { "succeeded response" } else { "succeeded inquiry" };
        assert_eq!((event.told().as_str(), event.attempts()), (by, 1), "{id}");
        assert_eq!(event.text("/data/result/tid"), tid);
        assert_eq!(rig.simulator().executions(tid).await, 1, "{id}");
    }
    let metrics = rig.metrics().await;
    assert!(metrics.value("inquiries_total", &[]) >= 23.0, "one for each but that one");
    assert_eq!(metrics.value("unsettled", &[("kind", "refund")]), 0.0);
    rig.finish().await;
}

#[tokio::test]
async fn a_refund_that_did_not_happen_is_attempted_once_more_and_happens_once() {
    let mut rig = Rig::builder().impatient().start().await;
    let cases = cases(2100, UNCLEAR);
    for (tid, id) in &cases {
        rig.simulator().fault(tid, "refund", &id.replace('-', "_"), 1).await;
    }
    let messages: Vec<_> = cases.iter().map(|(tid, id)| refund(id, tid)).collect();
    rig.publish_all(&messages).await;
    let events = rig.events_of(cases.iter().map(|(_, id)| id.as_str())).await;
    for (tid, id) in &cases {
        let event = &events[id];
        assert_eq!((event.told().as_str(), event.attempts()), ("succeeded response", 2), "{id}");
        assert_eq!(rig.simulator().executions(tid).await, 1, "{id}");
    }
    rig.finish().await;
}

#[tokio::test]
async fn an_otp_call_that_ends_unclear_is_re_sent_without_an_inquiry() {
    let mut rig = Rig::builder().impatient().start().await;
    let cases = cases(2150, UNCLEAR);
    for (tid, id) in &cases {
        rig.simulator().fault(tid, "refund_otp", &id.replace('-', "_"), 1).await;
    }
    let messages: Vec<_> = cases.iter().map(|(tid, id)| refund_otp(id, tid)).collect();
    rig.publish_all(&messages).await;
    let events = rig.events_of(cases.iter().map(|(_, id)| id.as_str())).await;
    for (id, event) in &events {
        assert_eq!((event.told().as_str(), event.attempts()), ("succeeded response", 2), "{id}");
    }
    assert_eq!(rig.simulator().calls("inquiry").await, 0);
    rig.finish().await;
}

#[tokio::test]
async fn nothing_is_sent_again_before_refund_pending_was_read_twice_over_the_quiet_time() {
    let mut rig = Rig::builder().stub().impatient().start().await;
    rig.stub().on_refund("2201", [http(500), refunded("2201")]);
    rig.stub().on_inquiry("2201", [found("2201", 3)]);
    let event = rig.outcome_of(&refund("quiet", "2201")).await;
    assert_eq!((event.told().as_str(), event.attempts()), ("succeeded response", 2));
    let attempts = rig.stub().requests(&stub::refund("2201"));
    let inquiries = rig.stub().requests(&stub::inquiry("2201"));
    let between: Vec<_> = inquiries.iter().filter(|inquiry| inquiry.at < attempts[1].at).collect();
    assert!(between.len() >= 2, "{} inquiries before the second attempt", between.len());
    let quiet = between.last().unwrap().at.duration_since(attempts[0].at);
    assert!(quiet >= std::time::Duration::from_secs(1), "SETTLE_QUIET is 1 s, not {quiet:?}");
    rig.finish().await;
}

#[tokio::test]
async fn readings_of_refund_pending_count_only_while_they_agree() {
    let rig = Rig::builder().stub().impatient().set("SETTLE_POLL", "1200ms");
    let mut rig = rig.start().await;
    rig.stub().on_refund("2251", [http(500), refunded("2251")]);
    // With this poll each reading but the first comes after the quiet time.
    let pending = || found("2251", 3);
    let readings = [http(500), pending(), found("2251", 2), pending(), pending()];
    rig.stub().on_inquiry("2251", readings);
    let event = rig.outcome_of(&refund("undecided", "2251")).await;
    assert_eq!((event.told().as_str(), event.attempts()), ("succeeded response", 2));
    let second = rig.stub().requests(&stub::refund("2251"))[1].at;
    let inquiries = rig.stub().requests(&stub::inquiry("2251"));
    let before = inquiries.iter().filter(|inquiry| inquiry.at < second).count();
    assert!(before >= 5, "the second attempt came after {before} inquiries");
    rig.finish().await;
}

#[tokio::test]
async fn a_late_effect_within_the_quiet_time_is_not_doubled() {
    let mut rig = Rig::builder().impatient().set("SETTLE_QUIET", "3s").start().await;
    for (tid, fault) in [("2301", "late"), ("2302", "late_502")] {
        let order = json!({
            "tid": tid, "endpoint": "refund", "fault": fault, "times": 1, "after_ms": 1500,
        });
        rig.simulator().control("fault", &order).await;
    }
    rig.publish_all(&[refund("late", "2301"), refund("late-502", "2302")]).await;
    let events = rig.events_of(["late", "late-502"]).await;
    for event in events.values() {
        assert_eq!((event.told().as_str(), event.attempts()), ("succeeded inquiry", 1));
    }
    for tid in ["2301", "2302"] {
        assert_eq!(rig.simulator().executions(tid).await, 1);
    }
    rig.finish().await;
}

#[tokio::test]
async fn a_refusal_after_an_unclear_attempt_is_itself_unclear() {
    let mut rig = Rig::builder().stub().impatient().start().await;
    let refused = || [http(500), said(302, 1, "Wrong OTP")];
    let pending = |tid: &str| found(tid, 3);
    // The second attempt's refusal is true: nothing ever happened.
    rig.stub().on_refund("2401", refused());
    rig.stub().on_inquiry("2401", [pending("2401")]);
    // The first attempt took effect late and used the OTP, which is why the second is refused.
    rig.stub().on_refund("2402", refused());
    rig.publish(&refund("true-refusal", "2401")).await;
    let event = rig.next_event().await;
    assert_eq!((event.told().as_str(), event.attempts()), ("rejected wrong_otp", 2));

    rig.stub().on_inquiry("2402", [pending("2402")]);
    rig.publish(&refund("used-otp", "2402")).await;
    let second = async || (rig.stub().requests(&stub::refund("2402")).len() == 2).then_some(());
    eventually("the second attempt is made", second).await;
    rig.stub().on_inquiry("2402", [found("2402", 4)]);
    let event = rig.next_event().await;
    assert_eq!((event.told().as_str(), event.attempts()), ("succeeded inquiry", 2));
    rig.finish().await;
}

#[tokio::test]
async fn status_0_without_evidence_is_no_success_and_is_not_sent_again() {
    let mut rig = Rig::builder().impatient().set("SETTLE_GIVE_UP", "4s").start().await;
    let mut commands = Vec::new();
    for (tid, fault) in [("2501", "claimed"), ("2502", "claimed_null")] {
        rig.simulator().fault(tid, "refund", fault, 1).await;
        commands.push(refund(&format!("claimed-{tid}"), tid));
    }
    rig.publish_all(&commands).await;
    let events = rig.events_of(["claimed-2501", "claimed-2502"]).await;
    for event in events.values() {
        assert_eq!((event.outcome(), event.attempts()), ("unresolved", 1), "{}", event.body);
    }
    for _ in 0..2 {
        let dead = rig.any_dead_letter().await;
        assert_eq!(dead.header("eko-outcome").as_deref(), Some("unresolved"));
    }
    rig.finish().await;
}

#[tokio::test]
async fn status_0_with_invalid_params_of_the_otp_is_a_wrong_otp_once_inquired() {
    let mut rig = Rig::builder().impatient().start().await;
    rig.simulator().fault("2601", "refund", "zero_invalid_params", 1).await;
    let event = rig.outcome_of(&refund("template-rest", "2601")).await;
    assert_eq!((event.told().as_str(), event.attempts()), ("rejected wrong_otp", 1));
    assert_eq!(rig.simulator().executions("2601").await, 0);
    rig.finish().await;
}

#[tokio::test]
async fn a_refund_that_eko_takes_up_is_awaited() {
    let mut rig = Rig::builder().impatient().start().await;
    let mut ids = Vec::new();
    for (n, fault) in ["awaited", "hold", "response_awaited"].into_iter().enumerate() {
        let tid = (2700 + n).to_string();
        rig.simulator().fault(&tid, "refund", fault, 1).await;
        rig.publish(&refund(&tid, &tid)).await;
        ids.push(tid);
    }
    let events = rig.events_of(ids.iter().map(String::as_str)).await;
    for event in events.values() {
        assert_eq!((event.told().as_str(), event.attempts()), ("succeeded inquiry", 1));
    }
    rig.finish().await;
}

#[tokio::test]
async fn a_refund_that_never_settles_is_unresolved_and_never_failed() {
    let mut rig = Rig::builder().impatient().set("SETTLE_GIVE_UP", "3s").start().await;
    rig.simulator().fault("2801", "refund", "hold_for_good", 1).await;
    let command = refund("held", "2801");
    rig.publish(&command).await;
    rig.until_metrics("the refund counts as unsettled", |metrics| {
        metrics.value("unsettled", &[("kind", "refund")]) == 1.0
    })
    .await;
    let event = rig.next_event().await;
    assert_eq!((event.outcome(), event.attempts()), ("unresolved", 1), "{}", event.body);
    assert_eq!(rig.dead_letter(&event).await.body, command.to_string().into_bytes());
    assert_eq!(rig.simulator().calls("refund").await, 1);
    let metrics = rig.metrics().await;
    assert_eq!(metrics.value("dead_lettered_total", &[("kind", "refund")]), 1.0);
    rig.finish().await;
}

#[tokio::test]
async fn inquiries_that_tell_nothing_are_asked_again() {
    let mut rig = Rig::builder().stub().impatient().start().await;
    let disagreeing = json!({
        "status": 0, "response_status_id": 0, "response_type_id": 1388, "message": "ok",
        "tx_status": 3, "data": { "tx_status": "4", "tid": "2901" },
    });
    let none = said(69, 1, "failed!inquired.tx.not.found");
    let answers = [
        http(500),
        Answer::Hangup,
        none,
        Answer::Truncated(json!({ "status": 0 })),
        found("77777", 4),
        found("2901", 9),
        Answer::Json(200, disagreeing),
        Answer::Json(200, Value::Null),
        found("2901", 4),
    ];
    rig.stub().on_refund("2901", [http(500)]);
    rig.stub().on_inquiry("2901", answers);
    let event = rig.outcome_of(&refund("fog", "2901")).await;
    assert_eq!((event.told().as_str(), event.attempts()), ("succeeded inquiry", 1));
    assert_eq!(rig.stub().requests(&stub::inquiry("2901")).len(), 9);
    rig.finish().await;
}

#[tokio::test]
async fn a_refund_is_attempted_no_more_often_than_the_setting_says() {
    let mut rig = Rig::builder().stub().impatient().set("REFUND_MAX_ATTEMPTS", "2").start().await;
    rig.stub().on_refund("2951", [Answer::Hangup]);
    rig.stub().on_inquiry("2951", [found("2951", 3)]);
    let event = rig.outcome_of(&refund("twice-at-most", "2951")).await;
    assert_eq!((event.outcome(), event.attempts()), ("failed", 2), "known not executed: failed");
    assert_eq!(rig.stub().requests(&stub::refund("2951")).len(), 2);
    rig.dead_letter(&event).await;
    rig.finish().await;
}
