//! Wall clocks that step and disagree.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::load::store::Store;
use crate::rig::broker::Broker;
use crate::rig::clock::Clock;
use crate::rig::command::refund;
use crate::rig::gateway::{Gateway, Trick};
use crate::rig::proxy::Proxy;
use crate::rig::stub;
use crate::rig::{Rig, eventually};

/// A step is noticed within a second; a busy machine may take longer to tell.
const NOTICED: Duration = Duration::from_secs(5);

#[tokio::test]
async fn a_step_of_the_clock_does_not_count_as_waiting() {
    let rig = Rig::builder().impatient().set("EKO_STAMP_TOLERANCE", "6s");
    let mut rig = rig.start_without_worker().await;
    let Some(clock) = Clock::new(rig.path("clock")) else { return };
    rig.settings = clock.of(&rig.settings);
    rig.start_worker().await;
    rig.simulator().late_fault("6201", "held_reset", Duration::from_secs(4)).await;
    rig.publish(&refund("stepped", "6201")).await;
    rig.until_state("Eko has the call", |state| state["calls"]["refund"] == 1).await;
    clock.step_to(60);
    let stepped = Instant::now();
    let event = rig.next_event().await;
    assert_eq!((event.told().as_str(), event.attempts()), ("succeeded inquiry", 1));
    assert_eq!(rig.simulator().executions("6201").await, 1);
    assert!(stepped.elapsed() < Duration::from_secs(30), "{:?}", stepped.elapsed());
    rig.finish().await;
}

#[tokio::test]
async fn a_step_of_the_clock_is_told_within_a_second() {
    let mut rig = Rig::builder().start_without_worker().await;
    let Some(clock) = Clock::new(rig.path("clock")) else { return };
    rig.settings = clock.of(&rig.settings);
    rig.start_worker().await;
    for (steps, offset) in [(1.0, 60), (2.0, 20)] {
        clock.step_to(offset);
        let stepped = Instant::now();
        rig.until_metrics("the step is counted", |metrics| {
            metrics.value("clock_steps_total", &[]) == steps
        })
        .await;
        assert!(stepped.elapsed() < NOTICED, "{:?}", stepped.elapsed());
    }
    assert_eq!(rig.outcome_of(&refund("after", "6211")).await.told(), "succeeded response");
    rig.finish().await;
}

#[tokio::test]
async fn a_clock_that_steps_back_does_not_hold_up_what_is_being_settled() {
    let mut rig = Rig::builder().impatient().start_without_worker().await;
    let Some(clock) = Clock::new(rig.path("clock")) else { return };
    rig.settings = clock.of(&rig.settings);
    rig.start_worker().await;
    rig.simulator().fault("6221", "refund", "http_500", 1).await;
    rig.publish(&refund("stepped-back", "6221")).await;
    rig.until_state("Eko has the call", |state| state["calls"]["refund"] == 1).await;
    clock.step_to(-40);
    let stepped = Instant::now();
    let event = rig.next_event().await;
    assert_eq!((event.told().as_str(), event.attempts()), ("succeeded response", 2));
    assert!(stepped.elapsed() < Duration::from_secs(30), "{:?}", stepped.elapsed());
    assert_eq!(rig.simulator().executions("6221").await, 1);
    rig.finish().await;
}

/// As a machine without a battery starts, before it has asked anybody for the time.
#[tokio::test]
async fn a_clock_far_in_the_past_at_the_start_costs_no_command() {
    let mut rig = Rig::builder().start_without_worker().await;
    let Some(clock) = Clock::new(rig.path("clock")) else { return };
    clock.step_to(-800_000_000);
    rig.settings = clock.of(&rig.settings);
    rig.start_worker().await;
    rig.publish_all(&[refund("early-1", "6251"), refund("early-2", "6252")]).await;
    rig.until_metrics("refunds are paused", |metrics| {
        metrics.value("paused", &[("kind", "refund"), ("reason", "clock")]) == 1.0
    })
    .await;
    clock.step_to(0);
    let events = rig.events_of(["early-1", "early-2"]).await;
    for event in events.values() {
        assert_eq!(event.outcome(), "succeeded", "{}", event.body);
    }
    assert_eq!(rig.simulator().executions("6251").await, 1);
    assert_eq!(rig.simulator().executions("6252").await, 1);
    rig.forgive_bad_requests();
    rig.finish().await;
}

/// One worker loses its broker while a refund of its own is on its way; the other one, whose clock
/// is a minute ahead, gets the command meanwhile.
#[tokio::test]
async fn a_worker_whose_clock_is_ahead_does_not_take_over_what_another_one_still_does() {
    let Some(store) = Store::postgres().await else { return };
    let times = ["EKO_TIMEOUT", "EKO_STAMP_TOLERANCE", "SETTLE_QUIET"];
    let rig = Rig::builder().at_least_once().set("LEDGER_URL", &store.url(Path::new("")));
    let rig = times.into_iter().fold(rig, |rig, name| rig.set(name, "8s"));
    let mut rig = rig.start_without_worker().await;
    let Some(clock) = Clock::new(rig.path("clock")) else { return };
    clock.step_to(60);
    let ahead = clock.of(&rig.settings);
    let gateway = Gateway::open_to(rig.simulator().url()).await;
    let mut proxy = Proxy::open_to(&Broker::url()).await;
    rig.settings.insert("EKO_BASE_URL".to_owned(), gateway.url().to_owned());
    rig.settings.insert("AMQP_URL".to_owned(), proxy.amqp_url());
    rig.start_worker().await;
    gateway.once(&stub::refund("6231"), Trick::Hold(Duration::from_secs(5)));
    rig.publish(&refund("under-way", "6231")).await;
    let held = async || (gateway.received(&stub::refund("6231")) == 1).then_some(());
    eventually("the call is on its way", held).await;
    proxy.close().await;
    let mut other = rig.spawn_beside(&ahead);
    other.ready().await;
    let event = rig.next_event().await;
    assert_eq!((event.told().as_str(), event.attempts()), ("succeeded response", 1));
    assert_eq!(rig.simulator().executions("6231").await, 1);
    other.process.terminate();
    assert_eq!(other.process.exit_code().await, 0, "{}", other.log());
    proxy.open().await;
    rig.worker().ready().await;
    rig.finish().await;
    store.remove().await;
}
