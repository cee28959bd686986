//! Another ledger than the one that knows what was begun, and one that has forgotten it.

use std::time::Duration;

use crate::load::store::Pair;
use crate::rig::command::refund;
use crate::rig::gateway::{Gateway, Trick};
use crate::rig::proxy::Proxy;
use crate::rig::stub::BASE;
use crate::rig::worker::Settings;
use crate::rig::{Rig, eventually, stub};

/// The settings with a ledger of this name in the rig's directory.
fn with_ledger(rig: &Rig, name: &str) -> Settings {
    let mut settings = rig.settings.clone();
    let url = format!("sqlite://{}", rig.path(name).display());
    settings.insert("LEDGER_URL".to_owned(), url);
    settings
}

#[tokio::test]
async fn a_second_worker_with_a_ledger_of_its_own_does_not_consume() {
    let mut rig = Rig::start().await;
    let settings = with_ledger(&rig, "ledger-2.db");
    let mut second = rig.spawn_beside(&settings);
    assert_eq!(second.ready_or_ended().await, Some(2), "it consumes:\n{}", second.log());
    let path = rig.path("ledger-2.db").display().to_string();
    for said in ["LEDGER_URL", "LEDGER_ADOPT", "AMQP_PREFIX", path.as_str()] {
        assert!(second.log().contains(said), "{said} is not said:\n{}", second.log());
    }
    let event = rig.outcome_of(&refund("the-first-goes-on", "6401")).await;
    assert_eq!(event.told(), "succeeded response");
    rig.finish().await;
}

#[tokio::test]
async fn a_new_ledger_is_taken_on_purpose_only_and_then_refunds_are_inquired_first() {
    let mut rig = Rig::builder().impatient().start().await;
    let (first, second) = (refund("before", "6411"), refund("untouched", "6412"));
    assert_eq!(rig.outcome_of(&first).await.told(), "succeeded response");
    rig.stop_worker().await;
    rig.settings = with_ledger(&rig, "ledger-2.db");
    let settings = rig.settings.clone();
    let mut refused = rig.spawn_beside(&settings);
    assert_eq!(refused.ready_or_ended().await, Some(2), "it consumes:\n{}", refused.log());
    assert!(refused.log().contains("LEDGER_ADOPT"), "{}", refused.log());

    rig.settings.insert("LEDGER_ADOPT".to_owned(), "true".to_owned());
    rig.start_worker().await;
    let path = rig.path("ledger-2.db").display().to_string();
    assert!(rig.worker().log().contains(&path), "the new ledger's path is not said");
    rig.forget_events();
    let event = rig.outcome_of(&first).await;
    assert_eq!((event.told().as_str(), event.attempts()), ("succeeded inquiry", 0));
    assert_eq!(rig.simulator().calls("refund").await, 1, "nothing was sent again");
    let event = rig.outcome_of(&second).await;
    assert_eq!((event.told().as_str(), event.attempts()), ("succeeded response", 1));
    let asked = rig.simulator().state().await["inquiries"]["6412"].as_u64();
    assert!(asked >= Some(2), "{asked:?} inquiries before the refund");
    rig.finish().await;
}

#[tokio::test]
async fn the_adopted_ledger_keeps_the_former_one_out() {
    let mut rig = Rig::start().await;
    assert_eq!(rig.outcome_of(&refund("first", "6421")).await.told(), "succeeded response");
    rig.stop_worker().await;
    let previous = rig.settings.clone();
    rig.settings = with_ledger(&rig, "ledger-2.db");
    rig.settings.insert("LEDGER_ADOPT".to_owned(), "true".to_owned());
    rig.start_worker().await;
    let mut old = rig.spawn_beside(&previous);
    assert_eq!(old.ready_or_ended().await, Some(2), "it consumes:\n{}", old.log());
    rig.finish().await;
}

/// An asynchronous standby takes over that lacks the last commits: the row of what was told, of
/// what is parked, and of what is under way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ledger_that_has_lost_its_last_commits_is_noticed_and_nothing_is_executed_twice() {
    if std::env::var("EKO_TEST_POSTGRES_URL").is_err() {
        eprintln!("!!! SKIPPED: a failover that loses commits: no PostgreSQL");
        return;
    }
    let pair = Pair::start();
    let rig = Rig::builder().at_least_once().set("LEDGER_URL", &pair.url());
    let mut rig = rig.start_without_worker().await;
    let gateway = Gateway::open_to(rig.simulator().url()).await;
    rig.settings.insert("EKO_BASE_URL".to_owned(), gateway.url().to_owned());
    rig.start_worker().await;
    assert_eq!(rig.outcome_of(&refund("kept", "6430")).await.told(), "succeeded response");
    pair.cut_standby_off();
    let told = refund("told", "6431");
    assert_eq!(rig.outcome_of(&told).await.told(), "succeeded response");
    rig.simulator().late_fault("6432", "awaited", Duration::from_secs(4)).await;
    gateway.once(&stub::refund("6433"), Trick::Hold(Duration::from_secs(3)));
    rig.publish_all(&[refund("parked", "6432"), refund("under-way", "6433")]).await;
    rig.until_state("one is being settled", |state| state["inquiries"]["6432"].as_u64() > Some(1))
        .await;
    let held = async || (gateway.received(&stub::refund("6433")) == 1).then_some(());
    eventually("the other one is on its way", held).await;
    pair.fail_over();
    let events = rig.events_of(["parked", "under-way"]).await;
    for event in events.values() {
        assert_eq!(event.outcome(), "succeeded", "{}", event.body);
    }
    rig.forget_events();
    assert_eq!(rig.outcome_of(&told).await.outcome(), "succeeded");
    for tid in ["6430", "6431", "6432", "6433"] {
        assert_eq!(rig.simulator().executions(tid).await, 1, "{tid}");
        assert_eq!(gateway.delivered(&stub::refund(tid)), 1, "{tid} was sent again");
    }
    rig.until_metrics("it is noticed", |metrics| {
        metrics.sum("ledger_regressions_total", &[]) >= Some(1.0)
    })
    .await;
    let is_said = rig.log().lines().any(|line| line.contains(r#""level":"ERROR""#));
    assert!(is_said, "no ERROR says that the ledger has forgotten:\n{}", rig.log());
    rig.finish().await;
    drop(pair);
}

/// The standby has a row that is older than what happened: of a refund that had not left, and left
/// only later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ledger_whose_row_is_older_than_the_last_attempt_does_not_repeat_it() {
    if std::env::var("EKO_TEST_POSTGRES_URL").is_err() {
        eprintln!("!!! SKIPPED: a failover that loses commits: no PostgreSQL");
        return;
    }
    let pair = Pair::start();
    let rig = Rig::builder().impatient().at_least_once().set("LEDGER_URL", &pair.url());
    let rig = rig.set("RETRY_INITIAL", "2s").set("EKO_TIMEOUT", "3s");
    let rig = rig.set("EKO_STAMP_TOLERANCE", "3s").set("SETTLE_QUIET", "3s");
    let mut rig = rig.start_without_worker().await;
    let gateway = Gateway::open_to(rig.simulator().url()).await;
    let mut way = Proxy::closed_to(gateway.url().strip_suffix(BASE).unwrap()).await;
    let base = format!("http://127.0.0.1:{}{BASE}", way.port());
    rig.settings.insert("EKO_BASE_URL".to_owned(), base);
    rig.start_worker().await;
    let tids = ["6441", "6442"];
    rig.publish_all(&tids.map(|tid| refund(tid, tid))).await;
    rig.until_metrics("both wait, not sent", |metrics| {
        metrics.value("parked", &[("kind", "refund")]) == 2.0
    })
    .await;
    pair.cut_standby_off();
    gateway.once(&stub::refund("6441"), Trick::Hold(Duration::from_secs(2)));
    gateway.once(&stub::refund("6442"), Trick::TellAndHold(503, Duration::from_secs(2)));
    way.open().await;
    for tid in tids {
        let sent = async || (gateway.received(&stub::refund(tid)) == 1).then_some(());
        eventually("it is on its way", sent).await;
    }
    pair.fail_over();
    let events = rig.events_of(tids).await;
    for tid in tids {
        assert_eq!(events[tid].outcome(), "succeeded", "{}", events[tid].body);
        assert_eq!(rig.simulator().executions(tid).await, 1, "{tid}");
        assert_eq!(gateway.delivered(&stub::refund(tid)), 1, "{tid} was sent again");
    }
    rig.finish().await;
    drop((pair, way));
}
