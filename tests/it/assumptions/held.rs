//! A refund that a gateway holds on its way may be executed for as long as its timestamp is
//! accepted, whatever the client was told meanwhile.

use std::time::Duration;

use crate::rig::command::refund;
use crate::rig::gateway::{Caching, Gateway, Trick};
use crate::rig::stub;
use crate::rig::{Rig, eventually};

/// How long a request is on its way: past the answer's timeout and the quiet time, but not past
/// the timestamp's tolerance.
const ON_ITS_WAY: Duration = Duration::from_secs(4);

#[tokio::test]
async fn a_refund_that_is_held_on_its_way_is_not_sent_again_while_it_can_still_be_executed() {
    let rig = Rig::builder().impatient().set("EKO_STAMP_TOLERANCE", "6s");
    let mut rig = rig.start_without_worker().await;
    let gateway = Gateway::open_to(rig.simulator().url()).await;
    rig.settings.insert("EKO_BASE_URL".to_owned(), gateway.url().to_owned());
    rig.start_worker().await;
    for (tid, fault) in [("6101", "held"), ("6102", "held_reset"), ("6103", "held_503")] {
        rig.simulator().late_fault(tid, fault, ON_ITS_WAY).await;
    }
    gateway.once(&stub::refund("6104"), Trick::Hold(ON_ITS_WAY));
    gateway.once(&stub::refund("6105"), Trick::TellAndHold(403, ON_ITS_WAY));
    let tids = ["6101", "6102", "6103", "6104", "6105"];
    rig.publish_all(&tids.map(|tid| refund(tid, tid))).await;
    let events = rig.events_of(tids).await;
    for tid in tids {
        let event = &events[tid];
        assert_eq!((event.told().as_str(), event.attempts()), ("succeeded inquiry", 1), "{tid}");
        assert_eq!(rig.simulator().executions(tid).await, 1, "{tid}");
    }
    rig.finish().await;
}

#[tokio::test]
async fn a_refund_whose_timestamp_expires_on_its_way_is_sent_again_and_executed_once() {
    let rig = Rig::builder().impatient().set("EKO_STAMP_TOLERANCE", "3s").eko_tolerates("3s");
    let mut rig = rig.start().await;
    rig.simulator().late_fault("6111", "held", Duration::from_secs(6)).await;
    let event = rig.outcome_of(&refund("expired-on-its-way", "6111")).await;
    assert_eq!((event.told().as_str(), event.attempts()), ("succeeded response", 2));
    rig.until_state("the first request arrived and was refused", |state| {
        state["rejected_signatures"].as_u64() == Some(1)
    })
    .await;
    assert_eq!(rig.simulator().executions("6111").await, 1);
    rig.finish().await;
}

/// A refund takes effect late while a gateway answers inquiries from its cache; how many it did.
async fn settled_through_a_cache(caching: Caching) -> usize {
    let mut rig = Rig::builder().impatient().start_without_worker().await;
    let gateway = Gateway::open_to(rig.simulator().url()).await;
    gateway.cache(caching, Duration::from_secs(5));
    rig.settings.insert("EKO_BASE_URL".to_owned(), gateway.url().to_owned());
    rig.start_worker().await;
    rig.simulator().late_fault("6121", "late_502", Duration::from_secs(1)).await;
    let event = rig.outcome_of(&refund("behind-a-cache", "6121")).await;
    assert_eq!((event.told().as_str(), event.attempts()), ("succeeded inquiry", 1), "{caching:?}");
    assert_eq!(rig.simulator().executions("6121").await, 1, "{caching:?}");
    rig.finish().await;
    gateway.cache_hits()
}

#[tokio::test]
async fn a_cache_that_honours_what_inquiries_say_answers_none() {
    assert_eq!(settled_through_a_cache(Caching::Honest).await, 0);
}

#[tokio::test]
async fn a_reading_from_a_cache_that_tells_its_age_says_nothing_of_the_time_since() {
    let cache_hits = settled_through_a_cache(Caching::WithAge).await;
    assert!(cache_hits > 0, "the cache answered nothing: the test shows nothing");
}

#[tokio::test]
async fn a_reading_from_a_cache_with_an_old_date_says_nothing_of_the_time_since() {
    let cache_hits = settled_through_a_cache(Caching::WithDateOnly).await;
    assert!(cache_hits > 0, "the cache answered nothing: the test shows nothing");
}

#[tokio::test]
async fn a_gateway_that_answers_in_place_of_eko_after_delivering_is_not_believed() {
    let statuses = [301, 302, 307, 401, 403, 404, 405, 415];
    let mut rig = Rig::builder().impatient().start_without_worker().await;
    let gateway = Gateway::open_to(rig.simulator().url()).await;
    rig.settings.insert("EKO_BASE_URL".to_owned(), gateway.url().to_owned());
    rig.start_worker().await;
    let mut ids = Vec::new();
    for status in statuses {
        let tid = format!("6{status}");
        gateway.once(&stub::refund(&tid), Trick::Instead(status));
        rig.publish(&refund(&tid, &tid)).await;
        ids.push(tid);
    }
    let events = rig.events_of(ids.iter().map(String::as_str)).await;
    for tid in &ids {
        let event = &events[tid];
        assert_eq!((event.told().as_str(), event.attempts()), ("succeeded inquiry", 1), "{tid}");
        assert_eq!(gateway.delivered(&stub::refund(tid)), 1, "{tid}");
    }
    rig.finish().await;
}

#[tokio::test]
async fn a_request_that_is_sent_twice_on_its_way_is_not_sent_a_third_time() {
    let rig = Rig::builder().impatient().set("EKO_STAMP_TOLERANCE", "3s");
    let mut rig = rig.start_without_worker().await;
    let gateway = Gateway::open_to(rig.simulator().url()).await;
    rig.settings.insert("EKO_BASE_URL".to_owned(), gateway.url().to_owned());
    rig.start_worker().await;
    // The copy is refused with 2485: the first one was executed, or is executed only later.
    gateway.once(&stub::refund("6131"), Trick::Twice);
    rig.simulator().late_fault("6132", "resent", Duration::from_secs(2)).await;
    let tids = ["6131", "6132"];
    rig.publish_all(&tids.map(|tid| refund(tid, tid))).await;
    let events = rig.events_of(tids).await;
    for tid in tids {
        let event = &events[tid];
        assert_eq!((event.told().as_str(), event.attempts()), ("succeeded inquiry", 1), "{tid}");
        assert_eq!(rig.simulator().executions(tid).await, 1, "{tid}");
    }
    let paused = rig.metrics().await.value("paused", &[("reason", "clock")]);
    assert_eq!(paused, 0.0, "Eko's clock agrees with ours");
    let delivered = async || (gateway.delivered(&stub::refund("6131")) == 2).then_some(());
    eventually("both copies were delivered", delivered).await;
    rig.finish().await;
}
