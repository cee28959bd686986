//! Limits that the settings draw: calls at a time, calls a second, one worker a ledger.

use std::time::{Duration, Instant};

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};

use crate::rig::command::{refund, refund_otp};
use crate::rig::script::{otp_sent, refunded};
use crate::rig::stub::{self, Answer};
use crate::rig::worker::Worker;
use crate::rig::{Rig, eventually};

#[tokio::test]
async fn no_more_calls_of_a_kind_are_in_flight_than_allowed_and_kinds_do_not_wait_for_each_other() {
    let rig = Rig::builder().stub().patient().set("WORKER_CONCURRENCY", "2");
    let mut rig = rig.start().await;
    let tids: Vec<_> = (601..=606).map(|tid: u32| tid.to_string()).collect();
    for tid in &tids {
        rig.stub().on_refund(tid, [Answer::Held(Box::new(refunded(tid)))]);
    }
    rig.stub().on(&stub::refund_otp("607"), [otp_sent("at once")]);
    let refunds = |rig: &Rig| {
        let requests = rig.stub().all_requests();
        requests.iter().filter(|request| !request.line.ends_with("/otp")).count()
    };
    let commands: Vec<_> = tids.iter().map(|tid| refund(tid, tid)).collect();
    rig.publish_all(&commands).await;
    eventually("two are in flight", async || (refunds(&rig) == 2).then_some(())).await;
    for n in 0..5 {
        let event = rig.outcome_of(&refund_otp(&format!("passes-{n}"), "607")).await;
        assert_eq!(event.told(), "succeeded response");
    }
    assert_eq!(refunds(&rig), 2, "the others wait");
    rig.stub().release();
    rig.events_of(tids.iter().map(String::as_str)).await;
    rig.finish().await;
}

#[tokio::test]
async fn calls_keep_to_the_rate_limit() {
    let mut rig = Rig::builder().stub().set("WORKER_RATE_LIMIT", "5").start().await;
    let tids: Vec<_> = (621..=640).map(|tid: u32| tid.to_string()).collect();
    for tid in &tids {
        rig.stub().on(&stub::refund_otp(tid), [otp_sent(tid)]);
    }
    let commands: Vec<_> = tids.iter().map(|tid| refund_otp(tid, tid)).collect();
    rig.publish_all(&commands).await;
    rig.events_of(tids.iter().map(String::as_str)).await;
    let requests = rig.stub().all_requests();
    assert_eq!(requests.len(), 20);
    // 20 calls at 5 a second, a second's worth of them at once: 3 seconds at least.
    let took = requests[19].at.duration_since(requests[0].at);
    assert!(took >= Duration::from_millis(2_900), "20 calls in {took:?}");
    rig.finish().await;
}

/// A copy whose command has ended meanwhile is told again, and nothing is called for it.
#[tokio::test]
async fn what_is_only_told_again_uses_up_no_call_of_the_rate_limit() {
    let rig = Rig::builder().stub().at_least_once().set("WORKER_RATE_LIMIT", "1");
    let mut rig = rig.start().await;
    rig.stub().on_refund("651", [refunded("651")]);
    let command = refund("told", "651");
    let first = rig.outcome_of(&command).await;
    let mut headers = FieldTable::default();
    headers.insert("eko-parked".into(), AMQPValue::LongString("1".into()));
    let properties = BasicProperties::default().with_headers(headers);
    let began = Instant::now();
    for _ in 0..20 {
        rig.publish_with(&command, properties.clone()).await;
    }
    for _ in 0..20 {
        assert_eq!(rig.next_event().await.body, first.body);
    }
    assert!(began.elapsed() < Duration::from_secs(15), "after {:?}", began.elapsed());
    assert_eq!(rig.stub().all_requests().len(), 1);
    rig.finish().await;
}

#[tokio::test]
async fn a_second_worker_on_one_sqlite_ledger_is_refused() {
    let mut rig = Rig::start().await;
    let (code, _, said) = Worker::output(&["run"], &rig.settings).await;
    assert_ne!(code, 0, "{said}");
    let why = "an SQLite ledger serves one worker";
    assert!(said.contains(why) && said.contains("one PostgreSQL ledger (postgres://)"), "{said}");
    assert_eq!(rig.outcome_of(&refund("undisturbed", "651")).await.told(), "succeeded response");
    rig.finish().await;
}

/// Refund OTPs of these transactions, which move no money.
fn otps(tids: std::ops::Range<u32>) -> Vec<serde_json::Value> {
    tids.map(|tid| refund_otp(&tid.to_string(), &tid.to_string())).collect()
}

async fn outcomes(rig: &mut Rig, tids: std::ops::Range<u32>) {
    let ids: Vec<_> = tids.map(|tid| tid.to_string()).collect();
    let events = rig.events_of(ids.iter().map(String::as_str)).await;
    assert!(events.values().all(|event| event.outcome() == "succeeded"));
}

const OTP_LIMIT: (&str, &[(&str, &str)]) = ("concurrency_limit", &[("kind", "refund_otp")]);

#[tokio::test]
async fn fewer_calls_are_in_flight_while_eko_is_slow() {
    let mut rig = Rig::start().await;
    rig.simulator().latency(20).await;
    rig.publish_all(&otps(1_000..1_200)).await;
    outcomes(&mut rig, 1_000..1_200).await;
    let limit = rig.metrics().await.value(OTP_LIMIT.0, OTP_LIMIT.1);
    assert_eq!(limit, 64.0, "a healthy Eko is not throttled");
    rig.simulator().latency(1_000).await;
    rig.publish_all(&otps(1_200..1_500)).await;
    rig.until_metrics("the limit falls", |metrics| metrics.value(OTP_LIMIT.0, OTP_LIMIT.1) <= 32.0)
        .await;
    let other = rig.worker().metrics().await.value("concurrency_limit", &[("kind", "refund")]);
    assert_eq!(other, 64.0, "each kind has its own");
    rig.simulator().latency(0).await;
    outcomes(&mut rig, 1_200..1_500).await;
    rig.finish().await;
}

#[tokio::test]
async fn without_adaptation_the_limit_stays() {
    let mut rig = Rig::builder().set("WORKER_ADAPTIVE", "false").start().await;
    rig.simulator().latency(20).await;
    rig.publish_all(&otps(2_000..2_200)).await;
    outcomes(&mut rig, 2_000..2_200).await;
    rig.simulator().latency(1_000).await;
    rig.publish_all(&otps(2_200..2_400)).await;
    outcomes(&mut rig, 2_200..2_400).await;
    assert_eq!(rig.metrics().await.value(OTP_LIMIT.0, OTP_LIMIT.1), 64.0);
    rig.finish().await;
}
