//! Commands that must wait: where they wait, for how long, and how waiting ends.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;

use crate::rig::command::{Edit, refund, refund_otp, transfer_otp};
use crate::rig::script::{found, http, otp_sent, refunded, said, transfer_otp_sent};
use crate::rig::stub::{self, Answer, Stub, TRANSFER_OTP};
use crate::rig::{Rig, eventually};

/// The times between the requests of one path.
fn gaps(stub: &Stub, line: &str) -> Vec<Duration> {
    let requests = stub.requests(line);
    requests.windows(2).map(|pair| pair[1].at.duration_since(pair[0].at)).collect()
}

fn in_seconds(seconds: i64) -> serde_json::Value {
    let then = Timestamp::now() + jiff::SignedDuration::from_secs(seconds);
    json!(then.to_string())
}

#[tokio::test]
async fn a_refused_connection_is_retried_until_eko_is_back() {
    let mut rig = Rig::start().await;
    rig.simulator().stop();
    rig.publish(&refund("patient", "101")).await;
    rig.until_metrics("the call was tried", |metrics| {
        metrics.value("eko_requests_total", &[("endpoint", "refund")]) >= 1.0
    })
    .await;
    rig.simulator().start_again().await;
    let event = rig.next_event().await;
    assert_eq!(event.told(), "succeeded response");
    assert_eq!(rig.simulator().executions("101").await, 1);
    rig.finish().await;
}

#[tokio::test]
async fn refusals_for_now_are_waited_out_beyond_the_attempts_of_an_unclear_refund() {
    let rig = Rig::builder().stub().impatient().set("REFUND_MAX_ATTEMPTS", "2");
    let mut rig = rig.start().await;
    let busy = || said(1, -2, "Another transaction in progress");
    let bank = || said(544, 1, "Transaction not processed, bank not available");
    rig.stub().on_refund("111", [busy(), busy(), busy(), refunded("111")]);
    rig.stub().on_refund("112", [bank(), bank(), bank(), refunded("112")]);
    for tid in ["111", "112"] {
        rig.stub().on_inquiry(tid, [found(tid, 3)]);
    }
    rig.publish_all(&[refund("busy", "111"), refund("bank", "112")]).await;
    let events = rig.events_of(["busy", "bank"]).await;
    for event in events.values() {
        assert_eq!((event.told().as_str(), event.attempts()), ("succeeded response", 4));
    }
    // Each refusal for now is inquired before the next attempt: it may not be true.
    for tid in ["111", "112"] {
        assert!(rig.stub().requests(&stub::inquiry(tid)).len() >= 6, "{tid}");
    }
    let metrics = rig.metrics().await;
    assert_eq!(metrics.value("parked", &[("kind", "refund")]), 0.0);
    rig.finish().await;
}

#[tokio::test]
async fn a_parked_command_comes_back_as_it_was_with_headers_for_people() {
    let mut rig = Rig::builder().stub().set("RETRY_INITIAL", "1s").start().await;
    let mut tap = rig.broker.inbox("test-tap", Some(("commands", "#"))).await;
    let bank = said(544, 1, "Transaction not processed, bank not available");
    rig.stub().on(TRANSFER_OTP, [bank, transfer_otp_sent()]);
    rig.publish(&transfer_otp("parked", "REF-1")).await;
    let first = tap.next("the command").await;
    let waiting = async || rig.broker.look("retry.transfer_otp.1000ms").await;
    let again = eventually("a copy waits", waiting).await;
    assert_eq!(again.body, first.body);
    assert!(again.header("eko-attempt").is_some(), "{again:?}");
    assert!(again.header("eko-reason").is_some(), "{again:?}");
    let received = again.header("eko-first-received").unwrap();
    assert!(received.parse::<Timestamp>().is_ok() || received.parse::<u64>().is_ok(), "{received}");
    assert_eq!(rig.next_event().await.told(), "succeeded response");
    assert_eq!(rig.broker.drain(&mut tap).await.len(), 0, "nobody else sees a retry");
    rig.finish().await;
}

#[tokio::test]
async fn properties_and_headers_of_a_command_survive_its_parking() {
    let mut rig = Rig::builder().stub().start().await;
    let mut replies = rig.broker.inbox("test-replies", None).await;
    let bank = said(544, 1, "Transaction not processed, bank not available");
    rig.stub().on(TRANSFER_OTP, [bank, transfer_otp_sent()]);
    let properties = lapin::BasicProperties::default()
        .with_reply_to(rig.broker.name("test-replies").as_str().into())
        .with_correlation_id("call-9".into());
    rig.publish_with(&transfer_otp("asked", "REF-2"), properties).await;
    let event = rig.next_event().await;
    let reply = replies.next("the reply after parking").await;
    assert_eq!(reply.body, event.message.body);
    assert_eq!(reply.properties.correlation_id().as_ref().unwrap().as_str(), "call-9");
    rig.finish().await;
}

#[tokio::test]
async fn a_retry_after_is_honoured() {
    let mut rig = Rig::builder().stub().start().await;
    let limited = Answer::Text(
        429,
        "retry-after: 1\r\ncontent-type: text/plain\r\n",
        "Limits exceeded".into(),
    );
    let line = stub::refund_otp("121");
    rig.stub().on(&line, [limited, otp_sent("late")]);
    let event = rig.outcome_of(&refund_otp("limited", "121")).await;
    assert_eq!((event.told().as_str(), event.attempts()), ("succeeded response", 2));
    let waited = gaps(rig.stub(), &line)[0];
    assert!(waited >= Duration::from_secs(1), "only {waited:?}");
    rig.finish().await;
}

#[tokio::test]
async fn an_unclear_otp_call_is_re_sent_with_space_and_its_last_reference_wins() {
    let mut rig = Rig::builder().stub().start().await;
    let line = stub::refund_otp("131");
    rig.stub().on(&line, [http(503), Answer::Hangup, otp_sent("the-last")]);
    let event = rig.outcome_of(&refund_otp("re-sent", "131")).await;
    assert_eq!((event.told().as_str(), event.attempts()), ("succeeded response", 3));
    assert_eq!(event.text("/data/result/otp_ref_id"), "the-last");
    for gap in gaps(rig.stub(), &line) {
        assert!(gap >= Duration::from_millis(500), "OTP_RESEND_SPACING is 500 ms: {gap:?}");
    }
    rig.finish().await;
}

#[tokio::test]
async fn an_otp_call_that_stays_unclear_ends_unresolved_after_a_few_re_sends() {
    let mut rig = Rig::builder().stub().start().await;
    let line = stub::refund_otp("141");
    rig.stub().on(&line, [http(503)]);
    let command = refund_otp("never-clear", "141");
    let event = rig.outcome_of(&command).await;
    assert_eq!(event.told(), "unresolved eko_unavailable");
    let calls = rig.stub().requests(&line).len();
    assert!((3..=4).contains(&calls), "at most 3 re-sends, not {calls} calls");
    assert_eq!(event.attempts(), u64::try_from(calls).unwrap());
    assert_eq!(rig.dead_letter(&event).await.body, command.to_string().into_bytes());
    rig.finish().await;
}

#[tokio::test]
async fn an_otp_known_to_be_refused_for_now_to_the_end_is_failed() {
    let mut rig = Rig::builder().stub().set("RETRY_GIVE_UP_OTP", "2s").start().await;
    let line = stub::refund_otp("151");
    rig.stub().on(&line, [said(544, 1, "Transaction not processed, bank not available")]);
    let event = rig.outcome_of(&refund_otp("no-bank", "151")).await;
    assert_eq!(event.told(), "failed eko_unavailable");
    assert!(event.attempts() >= 2, "{}", event.body);
    rig.dead_letter(&event).await;
    rig.finish().await;
}

#[tokio::test]
async fn a_refund_known_to_be_refused_for_now_to_the_end_is_failed() {
    let mut rig = Rig::builder().stub().set("RETRY_GIVE_UP_REFUND", "2s").start().await;
    rig.stub().on_refund("161", [said(1, -2, "Another transaction in progress")]);
    rig.stub().on_inquiry("161", [found("161", 3)]);
    let event = rig.outcome_of(&refund("always-busy", "161")).await;
    assert_eq!(event.outcome(), "failed", "{}", event.body);
    rig.dead_letter(&event).await;
    rig.finish().await;
}

#[tokio::test]
async fn a_command_whose_time_passed_is_not_started() {
    let mut rig = Rig::builder().stub().start().await;
    let commands =
        [refund("late-1", "171"), refund_otp("late-2", "171"), transfer_otp("late-3", "R")];
    for command in commands {
        let event = rig.outcome_of(&command.with("/expirytime", in_seconds(-1))).await;
        assert_eq!((event.told().as_str(), event.attempts()), ("expired deadline_passed", 0));
    }
    assert!(rig.stub().all_requests().is_empty());
    rig.finish().await;
}

#[tokio::test]
async fn a_command_whose_time_passes_while_it_waits_expires() {
    let mut rig = Rig::builder().stub().start().await;
    let bank = || said(544, 1, "Transaction not processed, bank not available");
    rig.stub().on_refund("181", [bank()]);
    rig.stub().on_inquiry("181", [found("181", 3)]);
    rig.stub().on(TRANSFER_OTP, [bank()]);
    let commands = [refund("waits", "181"), transfer_otp("waits-too", "R")]
        .map(|command| command.with("/expirytime", in_seconds(3)));
    rig.publish_all(&commands).await;
    let events = rig.events_of(["waits", "waits-too"]).await;
    for event in events.values() {
        assert_eq!(event.told(), "expired deadline_passed");
        assert!(event.attempts() >= 1, "{}", event.body);
    }
    rig.finish().await;
}

#[tokio::test]
async fn a_timestamp_that_eko_refuses_is_replaced_by_a_fresh_one() {
    let mut rig = Rig::start().await;
    rig.simulator().fault("191", "refund", "stamp_refused", 1).await;
    let event = rig.outcome_of(&refund("re-stamped", "191")).await;
    assert_eq!(event.told(), "succeeded response");
    rig.finish().await;
}

/// What becomes of one odd command that alone meets `answer`, for ever.
async fn alone_with(answer: Answer) -> String {
    let mut rig = Rig::builder().stub().set("RETRY_GIVE_UP_REFUND", "2s").start().await;
    rig.stub().on_refund("195", [answer]);
    rig.stub().on_refund("196", [refunded("196")]);
    rig.stub().on_inquiry("195", [found("195", 3)]);
    rig.publish_all(&[refund("odd", "195"), refund("even", "196")]).await;
    let events = rig.events_of(["odd", "even"]).await;
    assert_eq!(events["even"].told(), "succeeded response", "one odd command stops no line");
    rig.dead_letter(&events["odd"]).await;
    rig.finish().await;
    events["odd"].told()
}

#[tokio::test]
async fn one_odd_command_that_eko_finds_unauthorized_fails_in_the_end() {
    let body = r#"{"message":"Invalid developer_key","status":2483,"response_status_id":1}"#;
    let answer = Answer::Text(401, "content-type: application/json\r\n", body.to_owned());
    assert_eq!(alone_with(answer).await, "failed unauthorized");
}

#[tokio::test]
async fn one_odd_command_that_is_redirected_is_not_followed_and_fails_in_the_end() {
    // The rig fails on any request that is in no script.
    let away = Answer::Text(307, "location: /ekoapi/v3/customer/away\r\n", String::new());
    assert_eq!(alone_with(away).await, "failed misconfigured");
}
