//! What people do by hand: pauses, the audit of their actions, and a look at refunds in doubt.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::load::store::Database;
use crate::rig::command::{refund, refund_otp, text};
use crate::rig::dead::{until_dead, with_unresolved};
use crate::rig::process::Process;
use crate::rig::proxy::Proxy;
use crate::rig::script::{found, refunded};
use crate::rig::stub::{self, Answer};
use crate::rig::worker::Worker;
use crate::rig::{ACCESS_KEY, DEVELOPER_KEY, Rig, eventually};

const REASON: &str = "Eko repairs something";

/// Runs `eko-worker` with the rig's settings: exit code, standard output, standard error.
async fn run(rig: &Rig, arguments: &[&str]) -> (i32, String, String) {
    Worker::output(arguments, &rig.settings).await
}

/// Runs what must go well; what it printed.
async fn done(rig: &Rig, arguments: &[&str]) -> String {
    let (code, out, said) = run(rig, arguments).await;
    assert_eq!(code, 0, "{arguments:?}: {out}{said}");
    out
}

/// What it printed with `--json`.
async fn json_of(rig: &Rig, arguments: &[&str]) -> Value {
    let out = done(rig, &[arguments, &["--json"]].concat()).await;
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"))
}

async fn pause(rig: &Rig, kind: &str) -> String {
    done(rig, &["pause", kind, "--reason", REASON, "--by", "asha"]).await
}

async fn resume(rig: &Rig, kind: &str) -> String {
    done(rig, &["resume", kind, "--by", "asha"]).await
}

/// Waits until the worker has seen what an operator says of refunds.
async fn until_held(rig: &mut Rig, is_held: bool) {
    let expected = if is_held { 1.0 } else { 0.0 };
    rig.until_metrics("the worker has seen it", |metrics| {
        metrics.value("paused", &[("kind", "refund"), ("reason", "operator")]) == expected
    })
    .await;
}

/// The entries of the audit: action, subject and result.
async fn audit(rig: &Rig, filters: &[&str]) -> Vec<(String, String, Option<String>)> {
    let entries = json_of(rig, &[&["audit", "list"], filters].concat()).await;
    let entry = |entry: &Value| {
        let result = entry["result"].as_str().map(str::to_owned);
        (text(entry, "/action").to_owned(), text(entry, "/subject").to_owned(), result)
    };
    entries.as_array().unwrap().iter().map(entry).collect()
}

fn entry(action: &str, subject: &str, result: Option<&str>) -> (String, String, Option<String>) {
    (action.to_owned(), subject.to_owned(), result.map(str::to_owned))
}

#[tokio::test]
async fn a_paused_kind_calls_nothing_until_it_is_resumed_also_after_a_restart_and_a_hangup() {
    let mut rig = Rig::start().await;
    let said = pause(&rig, "refund").await;
    let begin = Instant::now();
    assert!(said.starts_with("refund: paused"), "{said}");
    until_held(&mut rig, true).await;
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
    let ids: Vec<_> = (7001..=7005).map(|tid: u32| tid.to_string()).collect();
    rig.publish_all(&ids.iter().map(|tid| refund(tid, tid)).collect::<Vec<_>>()).await;
    // Another kind goes on, and shows that the worker works.
    assert_eq!(rig.outcome_of(&refund_otp("other", "7006")).await.outcome(), "succeeded");
    let (status, ready) = rig.worker().get("/readyz").await;
    let ready: Value = serde_json::from_str(&ready).unwrap();
    assert_eq!((status, text(&ready, "/paused/refund")), (200, "operator"), "{ready}");
    assert_eq!(text(&ready, "/paused_by_operator/refund/reason"), REASON);
    assert_eq!(text(&ready, "/paused_by_operator/refund/by"), "asha");
    let log = rig.worker().log();
    assert!(log.contains("an operator has paused the kind") && log.contains(REASON), "{log}");

    rig.stop_worker().await;
    rig.start_worker().await;
    rig.worker().process.signal("HUP");
    assert_eq!(rig.outcome_of(&refund_otp("restarted", "7007")).await.outcome(), "succeeded");
    until_held(&mut rig, true).await;
    assert_eq!(rig.simulator().calls("refund").await, 0, "nothing is called");
    let said = pause(&rig, "refund").await;
    assert!(said.contains("was paused already since "), "{said}");

    let said = resume(&rig, "refund").await;
    assert!(said.contains(&format!("by asha: {REASON}")), "{said}");
    let events = rig.events_of(ids.iter().map(String::as_str)).await;
    assert!(events.values().all(|event| event.told() == "succeeded response"));
    until_held(&mut rig, false).await;
    assert_eq!(rig.simulator().calls("inquiry").await, 0, "nothing was in doubt");
    let said = resume(&rig, "refund").await;
    assert!(said.contains("was not paused by an operator"), "{said}");
    rig.finish().await;
}

#[tokio::test]
async fn all_workers_of_a_ledger_see_a_pause() {
    let Some(database) = Database::new("").await else { return };
    let mut rig = Rig::builder().set("LEDGER_URL", &database.url).start().await;
    let settings = rig.settings.clone();
    let mut second = rig.spawn_beside(&settings);
    second.ready().await;
    let said = pause(&rig, "all").await;
    assert_eq!(said.lines().count(), 3, "{said}");
    let is_paused = |body: &str| body.matches("\"operator\"").count() == 3;
    let first = rig.worker();
    for worker in [first, &mut second] {
        let seen = async || is_paused(&worker.get("/readyz").await.1).then_some(());
        eventually("the worker has seen it", seen).await;
    }
    rig.publish(&refund("waits", "7101")).await;
    resume(&rig, "all").await;
    assert_eq!(rig.events_of(["waits"]).await["waits"].told(), "succeeded response");
    second.process.terminate();
    assert_eq!(second.process.exit_code().await, 0);
    rig.finish().await;
    database.remove().await;
}

#[tokio::test]
async fn a_fault_and_an_operator_pause_a_kind_together_and_each_ends_by_itself() {
    // No command is tried because of probes in vain before the operator has paused the kind.
    let rig = Rig::builder().set("RETRY_INITIAL", "10s").set("RETRY_MAX", "10s");
    let mut rig = rig.start().await;
    let keys = json!({ "developer_key": DEVELOPER_KEY, "access_key": "another" });
    rig.simulator().control("keys", &keys).await;
    rig.publish_all(&[refund("a", "7201"), refund("b", "7202")]).await;
    rig.until_metrics("the keys are refused", |metrics| {
        metrics.value("paused", &[("kind", "refund"), ("reason", "unauthorized")]) == 1.0
    })
    .await;
    pause(&rig, "refund").await;
    rig.until_metrics("both are shown", |metrics| {
        let of = |reason| metrics.value("paused", &[("kind", "refund"), ("reason", reason)]);
        (of("unauthorized"), of("operator")) == (1.0, 1.0)
    })
    .await;
    let calls = rig.simulator().calls("refund").await;
    let keys = json!({ "developer_key": DEVELOPER_KEY, "access_key": ACCESS_KEY });
    rig.simulator().control("keys", &keys).await;
    rig.until_metrics("the fault is over", |metrics| {
        let of = |reason| metrics.value("paused", &[("kind", "refund"), ("reason", reason)]);
        (of("unauthorized"), of("operator")) == (0.0, 1.0)
    })
    .await;
    assert_eq!(rig.outcome_of(&refund_otp("other", "7203")).await.outcome(), "succeeded");
    assert_eq!(rig.simulator().calls("refund").await, calls, "nothing more is called");
    resume(&rig, "refund").await;
    let events = rig.events_of(["a", "b"]).await;
    assert!(events.values().all(|event| event.outcome() == "succeeded"));
    rig.forgive_bad_requests();
    rig.finish().await;
}

#[tokio::test]
async fn what_is_in_hand_when_a_kind_is_paused_begins_no_attempt() {
    let rig = Rig::builder().stub().set("REFUND_PREFLIGHT", "always");
    let mut rig = rig.start().await;
    // Where the transfer itself succeeded, Eko judges: an attempt follows at once.
    rig.stub().on_inquiry("7301", [Answer::Held(Box::new(found("7301", 0)))]);
    rig.stub().on_refund("7301", [refunded("7301")]);
    rig.publish(&refund("in-hand", "7301")).await;
    let asked = async || (rig.stub().requests(&stub::inquiry("7301")).len() == 1).then_some(());
    eventually("the inquiry is under way", asked).await;
    pause(&rig, "refund").await;
    until_held(&mut rig, true).await;
    rig.stub().release();
    let worker = rig.worker();
    let parked = async || {
        let log = worker.log();
        (log.contains("command parked") && log.contains("\"reason\":\"paused\"")).then_some(())
    };
    eventually("it waits", parked).await;
    assert_eq!(rig.stub().requests(&stub::refund("7301")).len(), 0, "no attempt has begun");
    let shown = done(&rig, &["show", "in-hand"]).await;
    assert!(!shown.contains("attempt") && shown.contains("inquiry"), "{shown}");
    resume(&rig, "refund").await;
    let event = rig.next_event().await;
    assert_eq!((event.told().as_str(), event.attempts()), ("succeeded response", 1));
    assert_eq!(rig.stub().requests(&stub::refund("7301")).len(), 1);
    rig.finish().await;
}

#[tokio::test]
async fn what_people_do_is_in_the_audit_also_where_it_was_cut_off() {
    let mut rig = with_unresolved("7401").await;
    pause(&rig, "transfer_otp").await;
    let (_, _, said) =
        run(&rig, &["resume", "transfer_otp", "--reason", "it was the wrong kind"]).await;
    let lines = said.lines().filter(|line| line.contains("\"target\":\"audit\"")).count();
    assert_eq!(lines, 2, "a line for the intent and one for the result: {said}");
    assert!(said.contains("it was the wrong kind") && said.contains('@'), "{said}");
    // Nothing is done that cannot be recorded.
    let ledger = rig.settings.insert("LEDGER_URL".to_owned(), "sqlite:///nowhere/l.db".to_owned());
    let (code, out, said) = run(&rig, &["dead", "drop", "stuck", "--yes"]).await;
    assert_eq!(code, 1, "{out}{said}");
    assert!(said.contains("nothing was done, since it could not be recorded"), "{said}");
    rig.settings.insert("LEDGER_URL".to_owned(), ledger.unwrap());
    until_dead(&rig, 1).await;
    let (code, ..) = run(&rig, &["dead", "replay", "stuck"]).await;
    assert_eq!(code, 1, "it is not pending");

    // The confirm never comes.
    rig.simulator().transaction("7401", 3).await;
    let mut proxy = Proxy::closed().await;
    proxy.open().await;
    proxy.stall(Some("stuck:replay-1"));
    let mut settings = rig.settings.clone();
    settings.insert("AMQP_URL".to_owned(), proxy.amqp_url());
    let program = env!("CARGO_BIN_EXE_eko-worker");
    let arguments = ["dead", "replay", "stuck", "--why", "its bank is back"];
    let mut replay = Process::spawn(program, &arguments, &settings);
    assert_eq!(rig.next_event().await.command_id(), "stuck:replay-1");
    replay.kill9();
    proxy.close().await;
    until_dead(&rig, 1).await;
    let expected = [
        entry("pause", "transfer_otp", Some("done")),
        entry("resume", "transfer_otp", Some("done")),
        entry("dead_replay", "stuck", Some("refused")),
        entry("dead_replay", "stuck", None),
    ];
    assert_eq!(audit(&rig, &[]).await, expected);
    assert_eq!(audit(&rig, &["--id", "stuck"]).await, expected[2..]);
    assert_eq!(audit(&rig, &["--id", "7401"]).await, expected[2..], "by its tid");
    assert_eq!(audit(&rig, &["--since", "1h", "--id", "transfer_otp"]).await, expected[..2]);
    assert_eq!(audit(&rig, &["--since", "2100-01-01"]).await, []);
    let told = done(&rig, &["audit", "list"]).await;
    let last = told.lines().last().unwrap();
    assert!(last.contains("why: its bank is back  no result: it was cut off"), "{last}");
    let (code, ..) = run(&rig, &["audit", "list", "--since", "soon"]).await;
    assert_eq!(code, 2);

    // Its time is over, as soon as Eko has told what time it is.
    rig.stop_worker().await;
    rig.settings.insert("AUDIT_RETENTION".to_owned(), "1s".to_owned());
    rig.start_worker().await;
    assert_eq!(rig.outcome_of(&refund_otp("clock", "7402")).await.outcome(), "succeeded");
    eventually("the audit is forgotten", async || audit(&rig, &[]).await.is_empty().then_some(()))
        .await;
    rig.finish().await;
}

#[tokio::test]
async fn refunds_in_doubt_are_listed_with_what_is_known_and_can_be_inquired() {
    let mut rig = with_unresolved("7501").await;
    rig.stop_worker().await;
    rig.settings.insert("SETTLE_GIVE_UP".to_owned(), "1h".to_owned());
    rig.settings.insert("SETTLE_POLL".to_owned(), "2s".to_owned());
    rig.start_worker().await;
    rig.simulator().transaction("7502", 5).await;
    rig.simulator().fault("7502", "refund", "http_500", 1).await;
    rig.publish(&refund("open", "7502")).await;
    let listed = eventually("both are listed", async || {
        let listed = json_of(&rig, &["unsettled", "list"]).await;
        let is_inquired = listed[1]["last_reading"].is_object();
        (listed.as_array().unwrap().len() == 2 && is_inquired).then_some(listed)
    })
    .await;
    let [stuck, open] = [&listed[0], &listed[1]];
    assert_eq!((text(stuck, "/id"), text(stuck, "/state")), ("stuck", "unresolved"));
    assert_eq!((text(open, "/id"), text(open, "/state")), ("open", "in_doubt"));
    assert_eq!((text(open, "/tid"), &open["attempts"]), ("7502", &json!(1)), "{open}");
    assert_eq!(text(open, "/last_reading/reading"), "in_progress");
    assert!(open["age_seconds"].is_u64() && stuck["finished"].is_string(), "{listed}");
    let (code, out, said) = run(&rig, &["unsettled", "list", "--older-than", "1h"]).await;
    assert_eq!((code, out.as_str()), (0, ""), "{said}");
    let out = done(&rig, &["unsettled", "list"]).await;
    assert!(out.starts_with("stuck  tid 7501  unresolved  for "), "{out}");

    let before = done(&rig, &["unsettled", "show", "stuck"]).await;
    assert!(before.contains("attempt 1 began") && before.contains("given up at"), "{before}");
    rig.simulator().transaction("7501", 4).await;
    let (code, out, said) = run(&rig, &["unsettled", "inquire-now", "stuck"]).await;
    assert_eq!(code, 0, "{said}");
    assert!(
        out.starts_with("tid 7501: refunded: ") && said.contains("nothing was changed"),
        "{out}{said}"
    );
    let history = |text: &str| text.lines().skip(1).map(str::to_owned).collect::<Vec<_>>();
    let after = done(&rig, &["unsettled", "show", "stuck"]).await;
    assert_eq!(history(&before), history(&after), "the ledger is only read");
    let (code, _, said) = run(&rig, &["unsettled", "inquire-now", "other"]).await;
    assert_eq!(code, 1, "{said}");

    rig.simulator().transaction("7502", 4).await;
    assert_eq!(rig.next_event().await.told(), "succeeded inquiry");
    let left = json_of(&rig, &["unsettled", "list"]).await;
    assert_eq!(left.as_array().unwrap().len(), 1, "{left}");
    rig.finish().await;
}

#[tokio::test]
async fn a_refund_in_doubt_is_dropped_only_once_eko_was_asked_and_somebody_says_so() {
    let mut rig = with_unresolved("7601").await;
    // Nobody is at a terminal here, so that nobody can be asked.
    let (code, out, said) = run(&rig, &["dead", "drop", "stuck"]).await;
    assert_eq!(code, 1, "{out}{said}");
    assert!(out.contains("stays: Eko says: 2, 5, 6") && out.contains("add --yes"), "{out}");
    let (code, out, _) = run(&rig, &["dead", "drop", "--reason", "unresolved", "--yes"]).await;
    assert_eq!(code, 1, "not in bulk while Eko has not settled it");
    assert!(out.contains("to drop it all the same, name its id, with --yes"), "{out}");
    rig.simulator().transaction("7601", 4).await;
    let (code, out, _) = run(&rig, &["dead", "drop", "--dry-run"]).await;
    assert_eq!(code, 1, "nobody could be asked");
    assert!(out.contains("stays: Eko says: 4, refunded"), "{out}");
    until_dead(&rig, 1).await;
    let (code, out, _) = run(&rig, &["dead", "drop", "--tid", "7601", "--yes"]).await;
    assert_eq!(code, 0, "{out}");
    assert!(out.contains("dropped: Eko says: 4, refunded"), "{out}");
    until_dead(&rig, 0).await;
    let results: Vec<_> = audit(&rig, &["--id", "stuck"]).await;
    let results: Vec<_> = results.iter().map(|(_, _, result)| result.as_deref()).collect();
    assert_eq!(results, [Some("refused"), Some("refused"), Some("done")]);

    let (code, out, said) = run(&rig, &["dead", "list", "--reason", "unresolvd"]).await;
    assert_eq!((code, out.as_str()), (0, ""));
    assert!(said.contains("--reason unresolvd is not one of succeeded, rejected"), "{said}");
    let (code, _, said) = run(&rig, &["dead", "list"]).await;
    assert!(code == 0 && said.contains("no dead letter"), "{said}");
    rig.finish().await;
}
