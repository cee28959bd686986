//! What the program tells of its settings.

use serde_json::Value;

use crate::rig::worker::Worker;
use crate::rig::{ACCESS_KEY, DEVELOPER_KEY, INITIATOR, Rig, eventually};

#[tokio::test]
async fn config_tells_what_is_in_effect_and_no_secret() {
    let mut rig = Rig::builder().stub().set("EKO_TIMEOUTS", "5s").start_without_worker().await;
    let path = rig.path("key");
    std::fs::write(&path, ACCESS_KEY).unwrap();
    rig.settings.remove("EKO_ACCESS_KEY");
    rig.settings.insert("EKO_ACCESS_KEY_FILE".to_owned(), path.display().to_string());
    let arguments = ["config", "--json", "--settle-poll", "700ms"];
    let (code, out, said) = Worker::output(&arguments, &rig.settings).await;
    assert_eq!(code, 0, "{out}{said}");
    let told: Value = serde_json::from_str(&out).unwrap();
    let source = |name: &str| {
        let settings = told["settings"].as_array().unwrap();
        let found = settings.iter().find(|setting| setting["name"] == name).unwrap();
        format!("{} by {}", found["value"], found["source"]).replace('"', "")
    };
    assert_eq!(source("SETTLE_POLL"), "700ms by flag");
    assert_eq!(source("EKO_TIMEOUT"), "5s by environment");
    assert_eq!(source("EKO_ACCESS_KEY"), "*** by file");
    assert_eq!(source("EKO_DEVELOPER_KEY"), "*** by environment");
    assert_eq!(source("REFUND_PREFLIGHT"), "redelivered by default");
    assert_eq!(source("WORKER_RATE_LIMIT"), "null by unset");
    let warning = "EKO_TIMEOUTS is set, but there is no such setting; did you mean EKO_TIMEOUT?";
    assert_eq!(told["warnings"], serde_json::json!([warning]));
    for secret in [ACCESS_KEY, DEVELOPER_KEY, INITIATOR, "guest"] {
        assert!(!out.contains(secret) && !said.contains(secret), "{secret}: {out}{said}");
    }
}

#[tokio::test]
async fn config_shows_settings_that_are_wrong_and_says_so() {
    let rig = Rig::builder().stub().set("EKO_TIMEOUT", "soon").start_without_worker().await;
    let (code, out, said) = Worker::output(&["config"], &rig.settings).await;
    assert_eq!(code, 2, "{out}{said}");
    assert!(out.lines().any(|line| line.starts_with("EKO_TIMEOUT ") && line.contains(" soon ")));
    assert!(said.contains("EKO_TIMEOUT: must be"), "{said}");
}

#[tokio::test]
async fn a_mistyped_setting_is_warned_about_at_the_start_and_by_check() {
    let mut rig = Rig::builder().set("AMPQ_PREFIX", "shop").start().await;
    let log = rig.worker().process.stderr.clone();
    let warned = async || {
        log.find(|line| {
            let is_it = line.contains(
                "AMPQ_PREFIX is set, but there is no such setting; did you mean AMQP_PREFIX?",
            );
            (is_it && line.contains("WARN")).then_some(())
        })
    };
    eventually("the worker warns", warned).await;
    let (_, out, said) = Worker::output(&["check"], &rig.settings).await;
    assert!(out.contains("AMPQ_PREFIX is set, but there is no such setting"), "{out}{said}");
    rig.finish().await;
}
