//! What the worker lets people see: metrics, readiness, pauses, log lines.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use lapin::BasicProperties;
use serde_json::{Value, json};

use crate::rig::command::{Edit, OTP_REF, refund, refund_otp, transfer_otp};
use crate::rig::{ACCESS_KEY, COMMAND_QUEUES, DEVELOPER_KEY, Rig, eventually};

/// The metrics with the label `kind` alone or beside a label that may have any value.
const KIND_METRICS: &str = "queue_delay_seconds_count retries_total replays_total in_flight \
    parked paused dead_lettered_total events_unrouted_total";

/// Why consumption may be paused.
const PAUSES: &str =
    "unauthorized misconfigured clock outage rate_limited broker_blocked topology ledger";

#[tokio::test]
async fn every_metric_is_there_at_0_from_the_start() {
    let mut rig = Rig::start().await;
    let metrics = rig.metrics().await;
    let zero = |name: &str, labels: &[(&str, &str)]| {
        assert_eq!(metrics.value(name, labels), 0.0, "{name} {labels:?}");
    };
    for kind in COMMAND_QUEUES {
        for outcome in ["succeeded", "rejected", "failed", "expired", "unresolved", "invalid"] {
            zero("commands_total", &[("kind", kind), ("outcome", outcome)]);
            zero("command_duration_seconds_count", &[("kind", kind), ("outcome", outcome)]);
        }
        for name in KIND_METRICS.split(' ') {
            zero(name, &[("kind", kind)]);
        }
        assert_eq!(metrics.value("consuming", &[("kind", kind)]), 1.0);
        zero("last_success_timestamp_seconds", &[("kind", kind)]);
        zero("command_codes_total", &[("kind", kind), ("code", "insufficient_balance")]);
        for reason in PAUSES.split(' ') {
            zero("paused", &[("kind", kind), ("reason", reason)]);
        }
        assert_eq!(metrics.value("concurrency_limit", &[("kind", kind)]), 64.0);
    }
    zero("commands_total", &[("kind", "unknown"), ("outcome", "invalid")]);
    zero("unsettled", &[("kind", "refund")]);
    zero("unsettled_oldest_seconds", &[("kind", "refund")]);
    for endpoint in COMMAND_QUEUES.into_iter().chain(["inquiry"]) {
        zero("eko_requests_total", &[("endpoint", endpoint)]);
        zero("eko_request_duration_seconds_count", &[("endpoint", endpoint)]);
        zero("unclassified_answers_total", &[("endpoint", endpoint)]);
    }
    for name in [
        "inquiries_total",
        "event_publish_duration_seconds_count",
        "clock_skew_seconds",
        "log_lines_dropped_total",
    ] {
        zero(name, &[]);
    }
    for name in ["broker_connected", "broker_sessions_total", "ledger_up"] {
        assert_eq!(metrics.value(name, &[]), 1.0, "{name}");
    }
    let prefix = rig.settings["AMQP_PREFIX"].as_str();
    assert_eq!(metrics.value("build_info", &[("prefix", prefix)]), 1.0);
    assert!(metrics.has("process_resident_memory_bytes"));
    rig.finish().await;
}

#[tokio::test]
async fn readiness_tells_in_json_that_nothing_is_missing() {
    let mut rig = Rig::start().await;
    let (status, body) = rig.worker().get("/readyz").await;
    assert_eq!(status, 200);
    assert!(serde_json::from_str::<Value>(&body).unwrap().is_object(), "{body}");
    rig.finish().await;
}

#[tokio::test]
async fn each_finished_command_is_one_log_line_and_no_line_shows_a_secret_at_any_level() {
    let mut rig = Rig::builder().set("RUST_LOG", "trace").start().await;
    rig.plant(OTP_REF);
    rig.simulator().fault("532", "refund", "wrong_otp", 1).await;
    let commands =
        [refund("log-no", "532"), refund_otp("log-otp", "533"), transfer_otp("log-t", "REF")];
    rig.publish_all(&commands).await;
    rig.events_of(["log-no", "log-otp", "log-t"]).await;
    let lines = rig.worker().process.stderr.all();
    for line in &lines {
        assert!(serde_json::from_str::<Value>(line).is_ok(), "a log line is JSON: {line}");
    }
    for (id, outcome) in [("log-no", "rejected"), ("log-otp", "succeeded"), ("log-t", "succeeded")]
    {
        let says = |line: &&String| {
            line.contains(&format!("{id:?}")) && line.contains(&format!("{outcome:?}"))
        };
        let finished = lines.iter().filter(|line| line.contains("\"INFO\"")).filter(says).count();
        assert_eq!(finished, 1, "{id} has {finished} lines that tell its end");
    }
    rig.finish().await;
}

#[tokio::test]
async fn the_time_in_the_queue_is_measured_from_property_or_attribute() {
    let mut rig = Rig::start().await;
    let begin = u64::try_from(Timestamp::now().as_second() - 3).unwrap();
    let properties = BasicProperties::default().with_timestamp(begin);
    rig.publish_with(&refund_otp("by-property", "551"), properties).await;
    rig.next_event().await;
    let begin = Timestamp::now() - jiff::SignedDuration::from_secs(3);
    let command = refund("by-attribute", "552").with("/time", json!(begin.to_string()));
    rig.outcome_of(&command).await;
    let metrics = rig.metrics().await;
    for kind in ["refund_otp", "refund"] {
        assert_eq!(metrics.value("queue_delay_seconds_count", &[("kind", kind)]), 1.0);
        let sum = metrics.value("queue_delay_seconds_sum", &[("kind", kind)]);
        assert!((2.0..60.0).contains(&sum), "{kind}: {sum}");
    }
    rig.finish().await;
}

#[tokio::test]
async fn wrong_keys_stop_the_line_and_cost_no_command() {
    let rig = Rig::builder().impatient().set("RETRY_GIVE_UP_REFUND", "3s");
    let mut rig = rig.start().await;
    let other = json!({ "developer_key": "other", "access_key": "other" });
    rig.simulator().control("keys", &other).await;
    let ids: Vec<_> = (541..=545).map(|tid: u32| tid.to_string()).collect();
    let commands: Vec<_> = ids.iter().map(|tid| refund(tid, tid)).collect();
    rig.publish_all(&commands).await;
    rig.until_metrics("consumption is paused", |metrics| {
        metrics.value("paused", &[("kind", "refund"), ("reason", "unauthorized")]) == 1.0
    })
    .await;
    let (status, body) = rig.worker().get("/readyz").await;
    assert_eq!(status, 200, "paused is ready, too");
    assert!(body.contains("unauthorized"), "{body}");
    outlast_the_give_up_time().await;
    let keys = json!({ "developer_key": DEVELOPER_KEY, "access_key": ACCESS_KEY });
    rig.simulator().control("keys", &keys).await;
    let events = rig.events_of(ids.iter().map(String::as_str)).await;
    let told: Vec<_> = events.values().map(|event| event.told()).collect();
    assert_eq!(told, ["succeeded response"; 5]);
    rig.until_metrics("the pause is over", |metrics| metrics.value("paused", &[]) == 0.0).await;
    rig.forgive_bad_requests();
    rig.finish().await;
}

#[tokio::test]
async fn an_outage_of_eko_stops_the_line_and_costs_no_command() {
    let mut rig = Rig::builder().set("RETRY_GIVE_UP_REFUND", "3s").start().await;
    rig.simulator().stop();
    let ids: Vec<_> = (561..=580).map(|tid: u32| tid.to_string()).collect();
    let commands: Vec<_> = ids.iter().map(|tid| refund(tid, tid)).collect();
    rig.publish_all(&commands).await;
    rig.until_metrics("consumption is paused", |metrics| {
        metrics.value("paused", &[("kind", "refund"), ("reason", "outage")]) == 1.0
    })
    .await;
    outlast_the_give_up_time().await;
    rig.simulator().start_again().await;
    let events = rig.events_of(ids.iter().map(String::as_str)).await;
    let told: Vec<_> = events.values().map(|event| event.told()).collect();
    assert_eq!(told, ["succeeded response"; 20]);
    rig.until_metrics("the pause is over", |metrics| metrics.value("paused", &[]) == 0.0).await;
    rig.finish().await;
}

/// Lets more time go by than a command may wait, were the line not stopped.
async fn outlast_the_give_up_time() {
    let begin = Instant::now();
    let over = async || (begin.elapsed() > Duration::from_secs(4)).then_some(());
    eventually("the give-up time is over", over).await;
}
