//! Commits whose answer is lost: what they say stands, and everybody who must learn of it does.

use std::path::Path;

use serde_json::json;

use crate::load::store::Store;
use crate::rig::Rig;
use crate::rig::command::{Edit, refund};
use crate::rig::lossy::LossyWay;

#[tokio::test]
async fn an_outcome_whose_commit_is_not_answered_reaches_dead_letters_and_counters_all_the_same() {
    let Some(store) = Store::postgres().await else { return };
    let way = LossyWay::open_to(&store.url(Path::new(""))).await;
    let rig = Rig::builder().impatient().at_least_once().set("LEDGER_URL", way.url());
    let mut rig = rig.set("SETTLE_GIVE_UP", "4s").start().await;
    rig.simulator().fault("6701", "refund", "claimed", 1).await;

    way.lose_commit_of("unanswered.unresolved");
    let event = rig.outcome_of(&refund("unanswered", "6701")).await;
    assert_eq!((event.outcome(), way.lost()), ("unresolved", 1), "{}", event.body);
    rig.dead_letter(&event).await;

    way.lose_commit_of("no-command.invalid");
    let invalid = refund("no-command", "6702").with("/data/tid", json!("x"));
    let event = rig.outcome_of(&invalid).await;
    assert_eq!((event.outcome(), way.lost()), ("invalid", 2), "{}", event.body);
    rig.dead_letter(&event).await;

    let metrics = rig.metrics().await;
    for outcome in ["unresolved", "invalid"] {
        let labels = [("kind", "refund"), ("outcome", outcome)];
        assert_eq!(metrics.value("commands_total", &labels), 1.0, "{outcome}");
    }
    assert_eq!(metrics.value("dead_lettered_total", &[("kind", "refund")]), 2.0);
    rig.finish().await;
    store.remove().await;
}
