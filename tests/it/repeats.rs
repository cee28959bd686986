//! The same command again, and other commands for the same transaction.

use hmac::{Hmac, KeyInit as _, Mac as _};
use rusqlite::Connection;
use serde_json::json;
use sha2::Sha256;

use crate::rig::Rig;
use crate::rig::command::{Edit, OTP, OTP_REF, refund, refund_otp, transfer_otp};
use crate::rig::script::{found, http};
use crate::rig::stub;

#[tokio::test]
async fn the_same_command_again_is_answered_with_the_same_event_and_not_executed_again() {
    let mut rig = Rig::start().await;
    for command in [refund("r", "301"), refund_otp("o", "302"), transfer_otp("t", "REF-1")] {
        let first = rig.outcome_of(&command).await;
        // As a publisher repeats it that lost the confirm: other attributes, digits as a number.
        let mut again = command.with("/time", json!("2026-11-21T09:00:00Z"));
        if again.pointer("/data/otp").is_some() {
            again["data"]["otp"] = json!(OTP.parse::<u64>().unwrap());
            again["data"]["tid"] = json!(301);
        }
        let second = rig.outcome_of(&again).await;
        assert_eq!(first.message.body, second.message.body);
    }
    assert_eq!(rig.simulator().executions("301").await, 1);
    for endpoint in ["refund", "refund_otp", "transfer_otp"] {
        assert_eq!(rig.simulator().calls(endpoint).await, 1, "{endpoint}");
    }
    let metrics = rig.metrics().await;
    for kind in ["refund", "refund_otp", "transfer_otp"] {
        assert_eq!(metrics.value("replays_total", &[("kind", kind)]), 1.0, "{kind}");
    }
    rig.finish().await;
}

#[tokio::test]
async fn a_tid_with_leading_zeros_is_the_same_transaction() {
    let mut rig = Rig::start().await;
    let first = rig.outcome_of(&refund("zeros-1", "00307")).await;
    assert_eq!((first.outcome(), first.text("/subject")), ("succeeded", "307"));
    assert_eq!(first.text("/data/result/tid"), "307");
    let again = rig.outcome_of(&refund("zeros-1", "307")).await;
    assert_eq!(again.message.body, first.message.body);
    let other = rig.outcome_of(&refund("zeros-2", "0307")).await;
    assert_eq!((other.outcome(), other.text("/data/confirmed_by")), ("succeeded", "ledger"));
    assert_eq!(rig.simulator().executions("307").await, 1);
    assert_eq!(rig.simulator().calls("refund").await, 1);
    rig.finish().await;
}

/// Gives a command's row the digest and the tid that versions wrote which kept leading zeros.
fn as_earlier_versions_wrote(rig: &Rig, id: &str, tid: &str) {
    let ledger = Connection::open(rig.path("ledger.db")).unwrap();
    let key: Vec<u8> =
        ledger.query_row("SELECT digest_key FROM meta", (), |row| row.get(0)).unwrap();
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
    let (tid_length, reference_length) = (tid.len(), OTP_REF.len());
    let canonical = format!(
        "refund\ntid={tid_length}:{tid}\notp={}:{OTP}\notp_ref_id={reference_length}:{OTP_REF}",
        OTP.len()
    );
    mac.update(canonical.as_bytes());
    let digest = mac.finalize().into_bytes();
    let digest: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    let sql = "UPDATE commands SET digest = ?1, tid = ?2 WHERE id = ?3";
    assert_eq!(ledger.execute(sql, (&digest, tid, id)).unwrap(), 1);
}

#[tokio::test]
async fn a_command_that_an_earlier_version_began_with_leading_zeros_is_the_same_still() {
    let mut rig = Rig::start().await;
    let command = refund("zeros-3", "00308");
    let first = rig.outcome_of(&command).await;
    rig.stop_worker().await;
    as_earlier_versions_wrote(&rig, "zeros-3", "00308");
    rig.start_worker().await;
    let again = rig.outcome_of(&command).await;
    assert_eq!(again.message.body, first.message.body);
    rig.publish(&command.with("/data/tid", json!("00309"))).await;
    let reused = rig.next_event().await;
    assert_eq!(reused.code(), "id_reused");
    rig.dead_letter(&reused).await;
    assert_eq!(rig.simulator().executions("308").await, 1);
    rig.finish().await;
}

#[tokio::test]
async fn a_repeat_is_answered_where_it_asks_though_the_first_was_not() {
    let mut rig = Rig::start().await;
    let first = rig.outcome_of(&refund("asked-later", "303")).await;
    let mut replies = rig.broker.inbox("test-replies", None).await;
    let properties = lapin::BasicProperties::default()
        .with_reply_to(rig.broker.name("test-replies").as_str().into())
        .with_correlation_id("second-try".into());
    rig.publish_with(&refund("asked-later", "303"), properties).await;
    let reply = replies.next("the reply").await;
    assert_eq!(reply.body, first.message.body);
    assert_eq!(reply.properties.correlation_id().as_ref().unwrap().as_str(), "second-try");
    rig.next_event().await;
    rig.finish().await;
}

#[tokio::test]
async fn a_restart_forgets_no_answer() {
    let mut rig = Rig::start().await;
    rig.simulator().fault("305", "refund", "wrong_otp", 1).await;
    for command in [refund("yes", "304"), refund("no", "305")] {
        let first = rig.outcome_of(&command).await;
        rig.stop_worker().await;
        rig.start_worker().await;
        let second = rig.outcome_of(&command).await;
        assert_eq!(first.message.body, second.message.body);
    }
    assert_eq!(rig.simulator().calls("refund").await, 2);
    rig.finish().await;
}

#[tokio::test]
async fn an_id_used_for_other_data_is_invalid_and_leaves_the_first_alone() {
    let mut rig = Rig::start().await;
    let original = refund("once", "311");
    let first = rig.outcome_of(&original).await;
    let others = [
        refund("once", "312"),
        original.clone().with("/data/otp", json!("8642")),
        original.clone().with("/data/user_code", json!("20810299")),
        refund_otp("once", "311"),
    ];
    let mut ids = std::collections::BTreeSet::new();
    for other in others {
        let event = rig.outcome_of(&other).await;
        assert_eq!(event.told(), "invalid id_reused");
        assert!(ids.insert(event.id().to_owned()), "each other message has its own event id");
        let dead = rig.dead_letter(&event).await;
        assert_eq!(dead.body, other.to_string().into_bytes());
    }
    let again = rig.outcome_of(&original).await;
    assert_eq!(again.message.body, first.message.body);
    assert_eq!(rig.simulator().executions("312").await, 0);
    rig.finish().await;
}

#[tokio::test]
async fn another_command_for_a_refunded_tid_is_answered_from_the_ledger() {
    let mut rig = Rig::start().await;
    let first = rig.outcome_of(&refund("first", "321")).await;
    let second = rig.outcome_of(&refund("second", "321")).await;
    assert_eq!((second.told().as_str(), second.attempts()), ("succeeded ledger", 0));
    assert_eq!(second.body["data"].get("eko"), None, "Eko did not answer this command");
    assert_eq!(second.text("/data/result/tid"), "321");
    assert_eq!(second.text("/data/result/refund_tid"), first.text("/data/result/refund_tid"));
    assert_eq!(rig.simulator().calls("refund").await, 1);
    rig.finish().await;
}

#[tokio::test]
async fn of_many_commands_for_one_tid_at_once_one_is_executed() {
    let mut rig = Rig::start().await;
    rig.simulator().latency(300).await;
    let ids: Vec<_> = (0..8).map(|n| format!("rival-{n}")).collect();
    let commands: Vec<_> = ids.iter().map(|id| refund(id, "331")).collect();
    rig.publish_all(&commands).await;
    let events = rig.events_of(ids.iter().map(String::as_str)).await;
    let mut told: Vec<_> = events.values().map(|event| event.told()).collect();
    told.sort();
    let mut expected = vec!["succeeded ledger"; 7];
    expected.push("succeeded response");
    assert_eq!(told, expected);
    assert_eq!(rig.simulator().executions("331").await, 1);
    rig.finish().await;
}

#[tokio::test]
async fn of_many_copies_of_one_command_at_once_one_is_executed() {
    let mut rig = Rig::builder().at_least_once().start().await;
    rig.simulator().latency(300).await;
    let commands = vec![refund("copied", "341"); 8];
    rig.publish_all(&commands).await;
    let event = rig.next_event().await;
    assert_eq!(event.told(), "succeeded response");
    rig.simulator().latency(0).await;
    // A copy that found the first one busy waits in the broker, where no metric counts it: it
    // is dealt with once it is answered.
    rig.until_metrics("every copy is answered", |metrics| {
        metrics.value("replays_total", &[("kind", "refund")]) == 7.0
            && metrics.value("in_flight", &[("kind", "refund")]) == 0.0
    })
    .await;
    assert_eq!(rig.simulator().calls("refund").await, 1);
    rig.finish().await;
}

#[tokio::test]
async fn a_rejected_refund_may_be_asked_for_again_under_another_id() {
    let mut rig = Rig::start().await;
    rig.simulator().fault("351", "refund", "wrong_otp", 1).await;
    assert_eq!(rig.outcome_of(&refund("mistyped", "351")).await.told(), "rejected wrong_otp");
    assert_eq!(rig.outcome_of(&refund("corrected", "351")).await.told(), "succeeded response");
    rig.finish().await;
}

#[tokio::test]
async fn a_redelivered_refund_that_the_ledger_does_not_know_is_inquired_first() {
    let mut rig = Rig::start().await;
    rig.stop_worker().await;
    for (tid, tx_status) in [("361", 4), ("362", 3)] {
        rig.simulator().transaction(tid, tx_status).await;
        rig.publish(&refund(&format!("lost-{tid}"), tid)).await;
        // Another worker took it and died over it.
        rig.broker.return_one("refund").await;
        rig.start_worker().await;
        let event = rig.next_event().await;
        let expected = if tx_status == 4 { "succeeded inquiry" } else { "succeeded response" };
        assert_eq!(event.told(), expected);
        rig.stop_worker().await;
    }
    assert_eq!(rig.simulator().calls("refund").await, 1, "only the one that was still pending");
    assert!(rig.simulator().calls("inquiry").await >= 2);
    rig.finish().await;
}

#[tokio::test]
async fn with_preflight_always_a_first_attempt_is_inquired_too() {
    let mut rig = Rig::builder().set("REFUND_PREFLIGHT", "always").start().await;
    rig.simulator().transaction("371", 4).await;
    assert_eq!(rig.outcome_of(&refund("done-elsewhere", "371")).await.told(), "succeeded inquiry");
    assert_eq!(rig.outcome_of(&refund("pending", "372")).await.told(), "succeeded response");
    assert_eq!(rig.simulator().calls("refund").await, 1);
    rig.finish().await;
}

#[tokio::test]
async fn a_tid_whose_last_refund_ended_unresolved_is_inquired_first() {
    let mut rig = Rig::builder().stub().impatient().set("SETTLE_GIVE_UP", "3s").start().await;
    rig.stub().on_refund("381", [http(500)]);
    rig.stub().on_inquiry("381", [found("381", 5)]);
    let event = rig.outcome_of(&refund("unresolved", "381")).await;
    assert_eq!(event.outcome(), "unresolved");
    rig.dead_letter(&event).await;
    rig.stub().on_inquiry("381", [found("381", 4)]);
    let event = rig.outcome_of(&refund("looked-again", "381")).await;
    assert_eq!((event.told().as_str(), event.attempts()), ("succeeded inquiry", 0));
    assert_eq!(rig.stub().requests(&stub::refund("381")).len(), 1);
    rig.finish().await;
}
