//! Several workers of one key, or one worker after the other: no two calls share a timestamp, and all
//! together keep to the rate that Eko grants.

use std::path::Path;
use std::time::Instant;

use jiff::Timestamp;
use serde_json::Value;

use crate::load::store::{Store, execute};
use crate::rig::clock::Clock;
use crate::rig::command::{refund, refund_otp};
use crate::rig::script::otp_sent;
use crate::rig::stub;
use crate::rig::worker::{Settings, Worker};
use crate::rig::{Rig, eventually};

/// How many workers there are.
const WORKERS: usize = 4;

/// Refunds of these transactions, each under its tid.
fn refunds(tids: std::ops::Range<u32>) -> Vec<Value> {
    tids.map(|tid| refund(&tid.to_string(), &tid.to_string())).collect()
}

/// All of these refunds succeed.
async fn all_succeed(rig: &mut Rig, tids: std::ops::Range<u32>) {
    let ids: Vec<_> = tids.map(|tid| tid.to_string()).collect();
    let events = rig.events_of(ids.iter().map(String::as_str)).await;
    for event in events.values() {
        assert_eq!(event.outcome(), "succeeded", "{}", event.body);
    }
}

/// Eko has refused no timestamp, and nothing was paused.
async fn no_timestamp_was_refused(rig: &mut Rig) {
    assert_eq!(rig.simulator().state().await["rejected_signatures"], 0);
    let log = rig.log();
    assert!(!log.contains("consumption is paused"), "{log}");
}

async fn spawn_fleet(rig: &mut Rig, settings: &Settings) -> Vec<Worker> {
    let mut fleet: Vec<_> = (0..WORKERS).map(|_| rig.spawn_beside(settings)).collect();
    for worker in &mut fleet {
        worker.ready().await;
    }
    fleet
}

async fn stop_fleet(fleet: Vec<Worker>) {
    for mut worker in fleet {
        worker.process.terminate();
        assert_eq!(worker.process.exit_code().await, 0, "{}", worker.log());
    }
}

/// A burst is more than a second has milliseconds, so that timestamps run ahead of the clock.
#[tokio::test]
async fn workers_of_one_key_share_no_timestamp_though_some_are_killed_in_a_burst() {
    const COUNT: u32 = 2_500;
    let Some(store) = Store::postgres().await else { return };
    let rig = Rig::builder().at_least_once().patient();
    let rig = rig.set("LEDGER_URL", &store.url(Path::new(""))).set("EKO_TIMEOUT", "5s");
    let mut rig = rig.start_without_worker().await;
    let settings = rig.settings.clone();
    let mut fleet = spawn_fleet(&mut rig, &settings).await;
    let tids = 10_000..10_000 + COUNT;
    rig.publish_all(&refunds(tids.clone())).await;
    for (number, calls) in [300, 900, 1_500, 2_100].into_iter().enumerate() {
        let called = |state: &Value| state["calls"]["refund"].as_u64() >= Some(calls);
        rig.until_state(&format!("{calls} refunds"), called).await;
        fleet[number].process.kill9();
        fleet[number] = rig.spawn_beside(&settings);
    }
    all_succeed(&mut rig, tids).await;
    no_timestamp_was_refused(&mut rig).await;
    for worker in &mut fleet {
        worker.ready().await;
        let metrics = worker.metrics().await;
        assert_eq!(metrics.value("timestamps_refused_total", &[]), 0.0);
    }
    stop_fleet(fleet).await;
    rig.finish().await;
    store.remove().await;
}

/// With one timestamp every 20 ms, and none used before its time, no second has more than 50 calls.
#[tokio::test]
async fn all_workers_together_keep_to_the_rate_limit_in_any_second() {
    const COUNT: usize = 400;
    let Some(store) = Store::postgres().await else { return };
    let rig = Rig::builder().stub().patient().set("EKO_RATE_LIMIT", "50");
    let rig = rig.set("LEDGER_URL", &store.url(Path::new("")));
    let mut rig = rig.start_without_worker().await;
    let ids: Vec<_> = (20_000..20_000 + COUNT).map(|tid| tid.to_string()).collect();
    for tid in &ids {
        rig.stub().on(&stub::refund_otp(tid), [otp_sent(tid)]);
    }
    let settings = rig.settings.clone();
    let fleet = spawn_fleet(&mut rig, &settings).await;
    let (began, began_at) = (Instant::now(), Timestamp::now().as_millisecond());
    let commands: Vec<_> = ids.iter().map(|tid| refund_otp(tid, tid)).collect();
    rig.publish_all(&commands).await;
    let events = rig.events_of(ids.iter().map(String::as_str)).await;
    assert!(events.values().all(|event| event.outcome() == "succeeded"));

    let calls = rig.stub().all_requests();
    assert_eq!(calls.len(), COUNT);
    let mut stamps = Vec::new();
    for call in &calls {
        let stamp: i64 = call.header("secret-key-timestamp").unwrap().parse().unwrap();
        let arrived = i64::try_from((call.at - began).as_millis()).unwrap();
        // Two clocks are compared, and the ledger's is known as well as its answers are quick.
        assert!(arrived + 10 >= stamp - began_at, "{stamp} was used before its time");
        stamps.push(stamp);
    }
    stamps.sort_unstable();
    for pair in stamps.windows(2) {
        assert!(pair[1] - pair[0] >= 20, "two timestamps in {} ms", pair[1] - pair[0]);
    }
    stop_fleet(fleet).await;
    rig.finish().await;
    store.remove().await;
}

/// Two workers with a ledger each know nothing of each other.
#[tokio::test]
async fn what_others_take_of_the_key_s_timestamps_is_counted_and_is_no_pause() {
    let mut rig = Rig::builder().impatient().start().await;
    let eko = format!("{}{}", rig.simulator().url(), stub::BASE);
    let mut other = Rig::builder().impatient().set("EKO_BASE_URL", &eko).start().await;
    let (ours, theirs) = (30_000..30_400, 31_000..31_400);
    let (one, two) = (refunds(ours.clone()), refunds(theirs.clone()));
    tokio::join!(rig.publish_all(&one), other.publish_all(&two));
    all_succeed(&mut rig, ours).await;
    all_succeed(&mut other, theirs).await;
    let refused = rig.simulator().state().await["rejected_signatures"].as_f64().unwrap();
    assert!(refused > 0.0, "no two calls had the same timestamp");
    let mut counted = 0.0;
    for rig in [&mut rig, &mut other] {
        let count = rig.metrics().await.value("timestamps_refused_total", &[]);
        let log = rig.log();
        assert_eq!(log.contains("somebody else uses the same key"), count > 0.0, "{log}");
        assert!(!log.contains("consumption is paused"), "{log}");
        counted += count;
    }
    assert_eq!(counted, refused);
    rig.finish().await;
    other.finish().await;
}

/// Each time the timestamps of a burst run ahead of the clock, and the next process begins while
/// they do.
#[tokio::test]
async fn a_worker_that_is_killed_in_a_burst_and_begins_anew_repeats_no_timestamp() {
    let mut rig = Rig::builder().at_least_once().patient().start().await;
    for round in 0..3 {
        let calls = (round + 1) * 300;
        let tids = 40_000 + round * 1_000..40_000 + (round + 1) * 1_000;
        rig.publish_all(&refunds(tids)).await;
        let called = |state: &Value| state["calls"]["refund"].as_u64() >= Some(calls.into());
        rig.until_state(&format!("{calls} refunds"), called).await;
        rig.kill9();
        rig.start_worker().await;
    }
    all_succeed(&mut rig, 40_000..43_000).await;
    no_timestamp_was_refused(&mut rig).await;
    rig.finish().await;
}

#[tokio::test]
async fn a_clock_that_is_set_forth_and_back_repeats_no_timestamp() {
    let mut rig = Rig::builder().patient().start_without_worker().await;
    let Some(clock) = Clock::new(rig.path("clock")) else { return };
    rig.settings = clock.of(&rig.settings);
    rig.start_worker().await;
    let mut tids = 50_000..50_200;
    for (steps, offset) in [(0.0, 0), (1.0, 40), (2.0, -10), (3.0, 30), (4.0, 0)] {
        clock.step_to(offset);
        rig.until_metrics("the step is noticed", |metrics| {
            metrics.value("clock_steps_total", &[]) == steps
        })
        .await;
        rig.publish_all(&refunds(tids.clone())).await;
        all_succeed(&mut rig, tids.clone()).await;
        tids = tids.end..tids.end + 200;
    }
    no_timestamp_was_refused(&mut rig).await;
    rig.finish().await;
}

/// Nothing can be called then: commands wait in the broker, and an operator is told why.
#[tokio::test]
async fn a_ledger_that_gives_no_timestamps_pauses_all_kinds_until_it_does() {
    let Some(store) = Store::postgres().await else { return };
    let url = store.url(Path::new(""));
    let mut rig = Rig::builder().impatient().set("LEDGER_URL", &url).start().await;
    execute(&url, "ALTER TABLE slots RENAME TO gone").await;
    // More than the worker has taken before.
    rig.publish_all(&refunds(60_000..60_150)).await;
    let said = "the ledger failed: all kinds are paused";
    eventually("all kinds are paused", async || rig.log().contains(said).then_some(())).await;
    execute(&url, "ALTER TABLE gone RENAME TO slots").await;
    all_succeed(&mut rig, 60_000..60_150).await;
    assert_eq!(rig.simulator().state().await["rejected_signatures"], 0);
    rig.finish().await;
    store.remove().await;
}
