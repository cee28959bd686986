//! The examples in other languages do what they say: publish one command and print its outcome.
//!
//! They take their libraries from their package indexes. Where these cannot be had, a test says so and ends; `scripts/test` then
//! says it once more at its end.

use std::process::Command;

use serde_json::Value;

use crate::rig::Rig;
use crate::rig::broker::Broker;
use crate::rig::process::Process;
use crate::rig::worker::Settings;

/// An example, and what it needs to find the broker.
struct Example {
    words: Vec<String>,
    settings: Settings,
}

impl Example {
    /// `None` where it cannot be run on this machine.
    fn of(language: &str, rig: &Rig) -> Option<Self> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/example-tools");
        let tools = Command::new("bash").args([script, language]).output().unwrap();
        if !tools.status.success() {
            eprintln!("!!! SKIPPED: no {language}, or not what its example needs");
            return None;
        }
        let words = String::from_utf8(tools.stdout).unwrap().lines().map(str::to_owned).collect();
        let names = ["AMQP_URL", "AMQP_PREFIX"];
        let settings = names.map(|name| (name.to_owned(), rig.settings[name].clone())).into();
        Some(Self { words, settings })
    }

    /// Runs it to its end: exit code, standard output, standard error.
    async fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        let mut words = self.words.iter().map(String::as_str).chain(arguments.iter().copied());
        let program = words.next().unwrap();
        let mut process = Process::spawn(program, &words.collect::<Vec<_>>(), &self.settings);
        let code = process.exit_code().await;
        (code, process.stdout.text(), process.stderr.text())
    }
}

/// What is promised of an example, whatever its language.
async fn publishes_and_subscribes(language: &str) {
    let mut rig = Rig::builder().at_least_once().start().await;
    let Some(example) = Example::of(language, &rig) else { return rig.finish().await };

    let data = r#"{"tid": "601", "otp": "73519346"}"#;
    let twice = ["refund", data, "--id", "once", "--times", "2"];
    let (code, out, said) = example.run(&twice).await;
    assert_eq!(code, 0, "{out}{said}");
    let printed: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(printed["type"], "eko.refund.succeeded");
    assert!(said.contains("passed over: once.succeeded"), "told twice, printed once: {said}");
    assert_eq!(rig.simulator().executions("601").await, 1);
    assert_eq!(rig.next_event().await.body, printed);
    assert_eq!(rig.next_event().await.body, printed);

    rig.simulator().fault("602", "refund", "wrong_otp", 1).await;
    let data = data.replace("601", "602");
    let (code, out, said) = example.run(&["refund", &data, "--id", "refused"]).await;
    assert_eq!(code, 3, "{out}{said}");
    let printed: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(printed["data"]["error"]["code"], "wrong_otp");
    assert_eq!(rig.next_event().await.body, printed);

    let (code, out, said) = example.run(&["refnd", &data]).await;
    assert_eq!(code, 2, "{out}{said}");
    let names_all = ["refund_otp", "refund", "transfer_otp"].iter().all(|kind| said.contains(kind));
    assert!(names_all, "a mistyped kind: {said}");

    let nobody = rig.broker.name("nobody");
    let (code, out, said) = example.run(&["refund", &data, "--prefix", &nobody]).await;
    Broker::connect(&nobody).await.remove(&[]).await;
    assert_eq!(code, 1, "{out}{said}");
    assert!(said.contains("no queue takes the command"), "{said}");
    rig.finish().await;
}

#[tokio::test]
async fn a_service_in_python_publishes_and_subscribes() {
    publishes_and_subscribes("python").await;
}

#[tokio::test]
async fn a_service_in_node_publishes_and_subscribes() {
    publishes_and_subscribes("node").await;
}
