//! The rails of a transfer OTP: each has an endpoint of its own, and what Eko has against one is no
//! other's problem.

use serde_json::{Value, json};

use crate::rig::command::{CUSTOMER, Edit, transfer_otp};
use crate::rig::script::{http, otp_sent, transfer_otp_sent};
use crate::rig::stub::{self, TRANSFER_OTP};
use crate::rig::{INITIATOR, Rig, USER_CODE};

const WALLETS: [&str; 2] = ["ppi-digikhata", "ppi-levin"];

fn by(rail: &str, command: Value) -> Value {
    command.with("/data/rail", json!(rail)).with("/data/beneficiary_id", json!("40367"))
}

#[tokio::test]
async fn a_transfer_otp_of_a_wallet_is_asked_for_at_its_rail() {
    let mut rig = Rig::builder().stub().start().await;
    let reference = "zCISyglexo0Pjqp4YrS2ssweuD9v1c3aLKGxjTW8wU7An8Wem1UyNws5830yh7q/sf5J4R3BY=";
    for rail in WALLETS {
        let line = stub::transfer_otp(rail);
        rig.stub().on(&line, [otp_sent(reference)]);
        let event = rig.outcome_of(&by(rail, transfer_otp(rail, "REQ-20260101-001"))).await;
        assert_eq!(event.told(), "succeeded response", "{}", event.body);
        assert_eq!(event.text("/subject"), "REQ-20260101-001");
        let result = json!({ "otp_ref_id": reference, "client_ref_id": "REQ-20260101-001" });
        assert_eq!(event.body["data"]["result"], result);
        let sent = rig.stub().requests(&line);
        let expected = json!({
            "initiator_id": INITIATOR, "user_code": USER_CODE, "client_ref_id": "REQ-20260101-001",
            "recipient_id": 98765, "amount": 500, "customer_id": CUSTOMER,
            "service_code": 80, "beneficiary_id": "40367",
        });
        assert_eq!(sent.iter().map(stub::Request::json).collect::<Vec<_>>(), [expected]);
    }
    rig.finish().await;
}

#[tokio::test]
async fn each_rail_succeeds_and_the_usual_one_need_not_be_named() {
    let mut rig = Rig::start().await;
    let usual = transfer_otp("named", "named").with("/data/rail", json!("dmt-fino"));
    let commands = [
        transfer_otp("unnamed", "unnamed"),
        usual,
        by("ppi-digikhata", transfer_otp("digikhata", "digikhata")),
        by("ppi-levin", transfer_otp("levin", "levin")),
    ];
    rig.publish_all(&commands).await;
    let events = rig.events_of(["unnamed", "named", "digikhata", "levin"]).await;
    for event in events.values() {
        assert_eq!(event.told(), "succeeded response", "{}", event.body);
    }
    assert_eq!(rig.simulator().calls("transfer_otp").await, 4);
    rig.finish().await;
}

#[tokio::test]
async fn a_used_id_with_another_rail_is_a_conflict_and_with_the_usual_rail_named_a_repeat() {
    let mut rig = Rig::start().await;
    let first = transfer_otp("once", "once");
    let event = rig.outcome_of(&first).await;
    rig.publish(&first.clone().with("/data/rail", json!("dmt-fino"))).await;
    assert_eq!(rig.next_event().await.body, event.body, "the same command");
    let other = rig.outcome_of(&by("ppi-levin", first)).await;
    assert_eq!(other.told(), "invalid id_reused");
    rig.dead_letter(&other).await;
    assert_eq!(rig.simulator().calls("transfer_otp").await, 1);
    rig.finish().await;
}

#[tokio::test]
async fn a_rail_that_eko_does_not_open_to_us_ends_its_commands_and_pauses_nothing() {
    let mut rig = Rig::builder().stub().impatient().start().await;
    rig.stub().on(&stub::transfer_otp("ppi-levin"), [http(404)]);
    rig.stub().on(TRANSFER_OTP, [transfer_otp_sent()]);
    let ids = ["l1", "l2", "l3"];
    rig.publish_all(&ids.map(|id| by("ppi-levin", transfer_otp(id, id)))).await;
    let mut closed = 0;
    for n in 0.. {
        let usual = format!("usual-{n}");
        rig.publish(&transfer_otp(&usual, &usual)).await;
        loop {
            let event = rig.next_event().await;
            if event.command_id() == usual {
                assert_eq!(event.told(), "succeeded response", "{}", event.body);
                break;
            }
            assert_eq!(event.told(), "rejected invalid_params", "{}", event.body);
            assert!(event.attempts() >= 2, "once more, in case it was a moment's fault");
            closed += 1;
        }
        if closed == ids.len() {
            break;
        }
    }
    let log = rig.log();
    assert!(!log.contains("consumption is paused"), "{log}");
    rig.finish().await;
}
