//! Commands that need a person.

use super::command::refund;
use super::{Rig, eventually};

/// Waits until as many dead letters are there and in nobody's hands.
pub(crate) async fn until_dead(rig: &Rig, count: u32) {
    let check = async || (rig.broker.count("dead").await == Some(count)).then_some(());
    eventually("the dead letters are in their queue", check).await;
}

/// A rig in which a refund of this tid, `stuck`, has just become unresolved.
pub(crate) async fn with_unresolved(tid: &str) -> Rig {
    let rig = Rig::builder().impatient().set("SETTLE_GIVE_UP", "3s").at_least_once();
    let mut rig = rig.start().await;
    rig.simulator().transaction(tid, 2).await;
    rig.simulator().fault(tid, "refund", "http_500", 1).await;
    let event = rig.outcome_of(&refund("stuck", tid)).await;
    assert_eq!(event.outcome(), "unresolved", "{}", event.body);
    until_dead(&rig, 1).await;
    rig
}
