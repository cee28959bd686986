//! Many commands at once: none lost, none doubled, and the numbers agree.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::rig::Rig;
use crate::rig::command::{Edit, refund, refund_otp, transfer_otp};

const COMMANDS: usize = 1_000;

/// The command with this number, and how it must end: outcome, and how often it is executed.
fn mixed(n: usize) -> (Value, &'static str, u64) {
    let id = format!("bulk-{n}");
    // Tids whose first digits tell the simulator how to misbehave, and how often.
    let tid = |mood: &str| format!("{mood}{n:04}");
    match n % 20 {
        0..=6 => (refund(&id, &tid("1")), "succeeded", 1),
        7 => (refund(&id, &tid("993020")), "rejected", 0),
        8 => (refund(&id, &tid("983030")), "rejected", 0),
        9 => (refund(&id, &tid("995031")), "succeeded", 1),
        10 => (refund(&id, &tid("976011")), "succeeded", 1),
        11 => (refund(&id, &tid("995442")), "succeeded", 1),
        12 => (refund_otp(&id, &tid("991680")), "rejected", 0),
        13 => (refund_otp(&id, &tid("995031")), "succeeded", 0),
        14..=15 => (refund_otp(&id, &tid("2")), "succeeded", 0),
        16 => {
            let limited = transfer_otp(&id, &format!("R-{n}"));
            (limited.with("/data/recipient_id", json!(tid("99036"))), "rejected", 0)
        }
        17..=18 => (transfer_otp(&id, &format!("R-{n}")), "succeeded", 0),
        _ => (refund(&id, &tid("3")).with("/data/otp", json!("12")), "invalid", 0),
    }
}

#[tokio::test]
async fn a_thousand_mixed_commands_have_a_thousand_true_outcomes() {
    let mut rig = Rig::builder().impatient().start().await;
    let cases: Vec<_> = (0..COMMANDS).map(mixed).collect();
    let commands: Vec<_> = cases.iter().map(|(command, ..)| command.clone()).collect();
    rig.publish_all(&commands).await;
    let ids: Vec<_> = (0..COMMANDS).map(|n| format!("bulk-{n}")).collect();
    let events = rig.events_of(ids.iter().map(String::as_str)).await;
    assert_eq!(events.len(), COMMANDS);

    let executions: BTreeMap<String, u64> =
        serde_json::from_value(rig.simulator().state().await["executions"].clone()).unwrap();
    let mut told = BTreeMap::<(String, String), f64>::new();
    for (id, (command, outcome, times)) in ids.iter().zip(&cases) {
        let event = &events[id];
        let tid = command.pointer("/data/tid").and_then(Value::as_str).unwrap_or_default();
        let executed = executions.get(tid).copied().unwrap_or(0);
        assert_eq!((event.outcome(), executed), (*outcome, *times), "{}", event.body);
        let kind = event.text("/type").split('.').nth(1).unwrap().to_owned();
        *told.entry((kind, event.outcome().to_owned())).or_default() += 1.0;
    }

    let metrics = rig.metrics().await;
    for ((kind, outcome), count) in told {
        let labels = [("kind", kind.as_str()), ("outcome", outcome.as_str())];
        assert_eq!(metrics.value("commands_total", &labels), count, "{labels:?}");
    }
    assert_eq!(metrics.value("commands_total", &[]), 1_000.0);
    assert_eq!(metrics.value("parked", &[]), 0.0);
    assert_eq!(metrics.value("in_flight", &[]), 0.0);
    assert_eq!(metrics.value("replays_total", &[]), 0.0);
    for _ in 0..COMMANDS / 20 {
        let dead = rig.any_dead_letter().await;
        assert_eq!(dead.routing_key, "eko.refund.invalid");
    }
    rig.finish().await;
}
