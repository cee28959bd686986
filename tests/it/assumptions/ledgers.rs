//! Another ledger than the one that knows what was begun.

use crate::rig::Rig;
use crate::rig::command::refund;
use crate::rig::worker::Settings;

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
    for said in ["ledger", "LEDGER_ADOPT", "postgres"] {
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
    let former = rig.settings.clone();
    rig.settings = with_ledger(&rig, "ledger-2.db");
    rig.settings.insert("LEDGER_ADOPT".to_owned(), "true".to_owned());
    rig.start_worker().await;
    let mut old = rig.spawn_beside(&former);
    assert_eq!(old.ready_or_ended().await, Some(2), "it consumes:\n{}", old.log());
    rig.finish().await;
}
