//! What an operator asks for by hand: `check`, `inquire` and `publish`.

use serde_json::{Value, json};

use crate::rig::command::{CUSTOMER, OTP, text};
use crate::rig::proxy::Proxy;
use crate::rig::worker::{Settings, Worker};
use crate::rig::{ACCESS_KEY, DEVELOPER_KEY, INITIATOR, Rig};

/// Runs `eko-worker` with the rig's settings: exit code, standard output, standard error. Neither
/// shows a secret.
async fn run(rig: &Rig, arguments: &[&str]) -> (i32, String, String) {
    run_with(&rig.settings, arguments).await
}

async fn run_with(settings: &Settings, arguments: &[&str]) -> (i32, String, String) {
    let (code, out, said) = Worker::output(arguments, settings).await;
    for secret in [OTP, CUSTOMER, DEVELOPER_KEY, ACCESS_KEY, INITIATOR] {
        assert!(!out.contains(secret) && !said.contains(secret), "{secret} shows: {out}\n{said}");
    }
    (code, out, said)
}

/// What it printed with `--json`.
async fn run_json(rig: &Rig, arguments: &[&str]) -> (i32, Value) {
    let (code, out, said) = run(rig, &[arguments, &["--json"]].concat()).await;
    let document = serde_json::from_str(&out);
    (code, document.unwrap_or_else(|error| panic!("{error}: {out}\n{said}")))
}

/// The findings of `check --json`: names, and whether each is good.
fn findings(report: &Value) -> Vec<(&str, bool)> {
    let checks = report["checks"].as_array().unwrap();
    checks.iter().map(|check| (text(check, "/name"), check["ok"].as_bool().unwrap())).collect()
}

fn failed(report: &Value) -> Vec<&str> {
    findings(report).into_iter().filter(|(_, ok)| !ok).map(|(name, _)| name).collect()
}

/// A file that holds the OTP.
fn otp_file(rig: &Rig) -> String {
    let path = rig.path("otp");
    std::fs::write(&path, format!("{OTP}\n")).unwrap();
    path.display().to_string()
}

#[tokio::test]
async fn check_tells_of_each_thing_whether_it_is_good() {
    let mut rig = Rig::builder().start_without_worker().await;
    let (code, report) = run_json(&rig, &["check"]).await;
    let all = [
        "settings",
        "signature",
        "broker",
        "topology",
        "permissions",
        "inquiry",
        "clock",
        "ledger",
    ];
    assert_eq!(findings(&report), all.map(|name| (name, true)), "{report}");
    assert_eq!((code, &report["ok"]), (0, &json!(true)));
    assert!(text(&report, "/checks/2/detail").starts_with("RabbitMQ "), "{report}");

    rig.simulator().control("clock", &json!({ "offset_ms": 100_000 })).await;
    let (code, report) = run_json(&rig, &["check"]).await;
    assert_eq!((code, failed(&report)), (1, vec!["clock"]), "{report}");
    rig.simulator().control("clock", &json!({ "offset_ms": 0 })).await;

    let keys = json!({ "developer_key": "other", "access_key": "other" });
    rig.simulator().control("keys", &keys).await;
    let (code, report) = run_json(&rig, &["check"]).await;
    assert_eq!((code, failed(&report)), (1, vec!["inquiry"]), "{report}");
    rig.forgive_bad_requests();
    let keys = json!({ "developer_key": DEVELOPER_KEY, "access_key": ACCESS_KEY });
    rig.simulator().control("keys", &keys).await;

    let closed = Proxy::closed().await.amqp_url();
    let open = rig.settings.insert("AMQP_URL".to_owned(), closed).unwrap();
    let (code, report) = run_json(&rig, &["check"]).await;
    assert_eq!((code, failed(&report)), (1, vec!["broker", "topology", "permissions"]), "{report}");
    rig.settings.insert("AMQP_URL".to_owned(), open);

    rig.settings.insert("EKO_TIMEOUT".to_owned(), "soon".to_owned());
    let (code, report) = run_json(&rig, &["check"]).await;
    assert_eq!((code, failed(&report)), (2, vec!["settings"]), "{report}");
    assert!(text(&report, "/checks/0/detail").contains("EKO_TIMEOUT"), "{report}");
    rig.finish().await;
}

#[tokio::test]
async fn inquire_says_in_words_what_eko_answers_and_changes_nothing() {
    let mut rig = Rig::builder().impatient().start_without_worker().await;
    for (tx_status, reading) in [
        (0, "succeeded"),
        (1, "failed"),
        (2, "in_progress"),
        (3, "refund_pending"),
        (4, "refunded"),
        (5, "in_progress"),
        (6, "in_progress"),
        (9, "in_progress"),
    ] {
        rig.simulator().transaction("301", tx_status).await;
        let (code, told) = run_json(&rig, &["inquire", "301"]).await;
        assert_eq!((code, text(&told, "/reading")), (0, reading), "{told}");
        let (code, said, _) = run(&rig, &["inquire", "301"]).await;
        assert_eq!(code, 0);
        assert!(said.starts_with(&format!("tid 301: {reading}: ")), "{said}");
    }
    rig.simulator().fault("302", "inquiry", "inquiry_not_found", 1).await;
    let (code, told) = run_json(&rig, &["inquire", "302"]).await;
    assert_eq!((code, text(&told, "/reading")), (0, "not_found"), "{told}");
    assert!(text(&told, "/means").contains("proves nothing"), "{told}");

    rig.simulator().fault("303", "inquiry", "inquiry_500", 1).await;
    let (code, told) = run_json(&rig, &["inquire", "303"]).await;
    assert_eq!((code, text(&told, "/reading")), (1, "no_answer"), "{told}");
    let (code, _, said) = run(&rig, &["inquire", "30x"]).await;
    assert_eq!(code, 2, "{said}");
    assert_eq!(rig.simulator().calls("refund").await, 0);
}

#[tokio::test]
async fn publish_waits_for_the_outcome_and_its_exit_code_tells_it() {
    let mut rig = Rig::start().await;
    let otp = otp_file(&rig);
    let args = ["publish", "refund", "--id", "by-hand", "--tid", "311", "--otp-file", &otp];
    let (code, event) = run_json(&rig, &args).await;
    assert_eq!((code, text(&event, "/type")), (0, "eko.refund.succeeded"), "{event}");
    let told = rig.next_event().await;
    assert_eq!(told.body, event, "the subscribers have it as well");

    rig.simulator().fault("312", "refund", "wrong_otp", 1).await;
    let args = ["publish", "refund", "--tid", "312", "--otp-file", &otp];
    let (code, out, said) = run(&rig, &args).await;
    assert_eq!(code, 3, "{out}{said}");
    assert!(out.contains("rejected") && out.contains("code: wrong_otp"), "{out}");
    assert_eq!(rig.next_event().await.told(), "rejected wrong_otp");

    let args = ["publish", "transfer_otp", "--recipient-id", "98765", "--amount", "500"];
    let args = [&args[..], &["--customer-id", CUSTOMER, "--correlationid", "ord-1"]].concat();
    let (code, event) = run_json(&rig, &args).await;
    assert_eq!((code, text(&event, "/correlationid")), (0, "ord-1"), "{event}");
    assert_eq!(rig.next_event().await.body, event);
    rig.finish().await;
}

#[tokio::test]
async fn publish_publishes_nothing_that_is_no_valid_command() {
    let mut rig = Rig::start().await;
    rig.stop_worker().await;
    let otp = otp_file(&rig);
    for (arguments, named) in [
        (&["refund_otp"][..], "data.tid: is missing"),
        (&["refund_otp", "--tid", "12x"], "data.tid: must be digits only"),
        (&["refund_otp", "--tid", "1", "--amount", "5"], "unknown field `amount`"),
        (&["refund_otp", "--tid", "1", "--id", "a b"], "id: must be 1 to 64 of"),
        (&["refund_otp", "--tid", "1", "--expirytime", "soon"], "expirytime: must be an RFC 3339"),
        (&["refund", "--tid", "1"], "--otp-file: is missing"),
        (&["refund", "--otp-file", &otp], "data.tid: is missing"),
        (
            &["transfer_otp", "--recipient-id", "1", "--customer-id", "9", "--amount", "1.5"],
            "data.amount",
        ),
        (&["refund_otp", "--tid", "1", "--timeout", "soon"], "--timeout: must be a duration"),
    ] {
        let (code, out, said) = run(&rig, &[&["publish"], arguments].concat()).await;
        assert_eq!(code, 2, "{arguments:?}: {out}{said}");
        assert!(said.contains(named), "{named} is not in: {said}");
    }
    for kind in ["refund_otp", "refund", "transfer_otp"] {
        assert_eq!(rig.broker.count(kind).await, Some(0), "nothing is published");
    }
    rig.broker.delete("refund_otp").await;
    let (code, _, said) = run(&rig, &["publish", "refund_otp", "--tid", "1"]).await;
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("nothing is published") && said.contains("no queue takes it"), "{said}");
    rig.start_worker().await;
    rig.finish().await;
}

#[tokio::test]
async fn without_an_outcome_in_time_publish_says_that_it_is_not_known() {
    let mut rig = Rig::builder().at_least_once().start().await;
    rig.stop_worker().await;
    let otp = otp_file(&rig);
    let args = ["publish", "refund", "--id", "waits", "--tid", "321", "--otp-file", &otp];
    let (code, out, said) = run(&rig, &[&args[..], &["--timeout", "300ms"]].concat()).await;
    assert_eq!((code, out.as_str()), (4, ""), "{said}");
    assert!(said.contains("it may have happened") && said.contains("--id waits"), "{said}");
    rig.start_worker().await;
    let (code, event) = run_json(&rig, &args).await;
    assert_eq!((code, text(&event, "/data/command_id")), (0, "waits"), "{event}");
    rig.events_of(["waits"]).await;
    assert_eq!(rig.simulator().executions("321").await, 1);
    rig.finish().await;
}
