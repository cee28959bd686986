//! A restart with other settings than those that a command in doubt began with.

use serde_json::json;

use crate::rig::command::{Edit, refund};
use crate::rig::script::{found, http};
use crate::rig::stub;
use crate::rig::{INITIATOR, Rig, USER_CODE, eventually};

/// A refund is in doubt and parked when the worker is started again without a setting that it
/// needed.
async fn settled_without(setting: &str) {
    let mut rig = Rig::builder().stub().impatient().start().await;
    rig.stub().on_refund("6501", [http(500)]);
    rig.stub().on_inquiry("6501", [found("6501", 2)]);
    rig.publish(&refund("in-doubt", "6501")).await;
    let asked = async || (rig.stub().requests(&stub::inquiry("6501")).len() > 1).then_some(());
    eventually("it is being settled", asked).await;
    rig.stop_worker().await;
    rig.settings.remove(setting).unwrap();
    rig.stub().on_inquiry("6501", [found("6501", 4)]);
    rig.start_worker().await;
    let event = rig.next_event().await;
    assert_eq!((event.told().as_str(), event.attempts()), ("succeeded inquiry", 1), "{setting}");
    assert_eq!(rig.stub().requests(&stub::refund("6501")).len(), 1);
    // Its tid is nobody's any more.
    let another = refund("another", "6501")
        .with("/data/user_code", json!(USER_CODE))
        .with("/data/initiator_id", json!(INITIATOR));
    assert_eq!(rig.outcome_of(&another).await.told(), "succeeded ledger");
    rig.finish().await;
}

#[tokio::test]
async fn a_refund_in_doubt_is_settled_though_the_user_code_is_no_longer_set() {
    settled_without("EKO_USER_CODE").await;
}

#[tokio::test]
async fn a_refund_in_doubt_is_settled_though_the_initiator_is_no_longer_set() {
    settled_without("EKO_INITIATOR_ID").await;
}
