//! What an operator asks for by hand: `check`, `inquire`, `publish` and `dead`.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::rig::command::{CUSTOMER, Edit, OTP, command, refund, refund_otp, text, transfer_otp};
use crate::rig::dead::{until_dead, with_unresolved};
use crate::rig::process::Process;
use crate::rig::proxy::Proxy;
use crate::rig::worker::{Settings, Worker};
use crate::rig::{ACCESS_KEY, DEVELOPER_KEY, INITIATOR, Rig, eventually};

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

/// The command ids that `dead list` tells, in their order.
async fn listed(rig: &Rig, filters: &[&str]) -> Vec<String> {
    let (code, list) = run_json(rig, &[&["dead", "list"], filters].concat()).await;
    assert_eq!(code, 0, "{list}");
    list.as_array().unwrap().iter().map(|dead| text(dead, "/command_id").to_owned()).collect()
}

#[tokio::test]
async fn check_tells_of_each_thing_whether_it_is_good() {
    let rig = Rig::builder().set("EKO_STAMP_TOLERANCE", "120s");
    let mut rig = rig.start_without_worker().await;
    let (code, report) = run_json(&rig, &["check"]).await;
    let all = [
        "settings",
        "signature",
        "broker",
        "topology",
        "permissions",
        "pairing",
        "inquiry",
        "clock",
        "stamps",
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
    assert_eq!((code, failed(&report)), (1, vec!["inquiry", "stamps"]), "{report}");
    rig.forgive_bad_requests();
    let keys = json!({ "developer_key": DEVELOPER_KEY, "access_key": ACCESS_KEY });
    rig.simulator().control("keys", &keys).await;

    let closed = Proxy::closed().await.amqp_url();
    let open = rig.settings.insert("AMQP_URL".to_owned(), closed).unwrap();
    let (code, report) = run_json(&rig, &["check"]).await;
    assert_eq!(
        (code, failed(&report)),
        (1, vec!["broker", "topology", "permissions", "pairing"]),
        "{report}"
    );
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

    let prefix = rig.settings.insert("AMQP_PREFIX".to_owned(), "nobody-s".to_owned()).unwrap();
    let (code, _, said) = run(&rig, &["publish", "refund_otp", "--tid", "1"]).await;
    assert_eq!(code, 1, "{said}");
    let why = "nothing is published: NOT_FOUND - no exchange 'nobody-s.commands'";
    assert!(said.contains(why), "{said}");
    let (code, _, said) = run(&rig, &["dead", "list"]).await;
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("no queue 'nobody-s.dead'"), "{said}");
    rig.settings.insert("AMQP_PREFIX".to_owned(), prefix);
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

#[tokio::test]
async fn a_list_leaves_the_dead_letters_as_they_were() {
    // More than RabbitMQ 3.10 gives back in their order when they come back together.
    let ids: Vec<_> = (0..40).map(|n| format!("bad-{n}")).collect();
    let mut rig = Rig::start().await;
    for id in &ids {
        rig.publish(&refund_otp(id, "331").with("/data/amount", json!(OTP))).await;
        assert_eq!(rig.next_event().await.command_id(), id);
    }
    until_dead(&rig, 40).await;
    for _ in 0..3 {
        assert_eq!(listed(&rig, &[]).await, ids);
        until_dead(&rig, 40).await;
    }
    let (code, out, said) = run(&rig, &["dead", "list", "--limit", "2"]).await;
    assert_eq!((code, out.lines().count()), (0, 2), "{out}");
    assert!(said.contains("38 more were not looked at"), "{said}");
    assert!(out.starts_with("bad-0  refund_otp  tid 331  invalid (invalid_command)  2"), "{out}");
    until_dead(&rig, 40).await;
    for id in &ids {
        let dead = rig.any_dead_letter().await;
        assert_eq!(dead.header("eko-event-id"), Some(format!("{id}.invalid")), "their order");
    }
    rig.finish().await;
}

#[tokio::test]
async fn dead_letters_are_chosen_by_id_reason_tid_and_age() {
    let rig = Rig::builder().set("RETRY_GIVE_UP_OTP", "300ms");
    let mut rig = rig.start().await;
    rig.simulator().fault("341", "refund_otp", "bank_unavailable", 99).await;
    assert_eq!(rig.outcome_of(&refund_otp("gone", "341")).await.told(), "failed eko_unavailable");
    let bad = transfer_otp("bad", "REF").with("/data/otp", json!(OTP));
    assert_eq!(rig.outcome_of(&bad).await.outcome(), "invalid");
    rig.publish_raw(OTP.as_bytes()).await;
    let nameless = rig.next_event().await.command_id().to_owned();
    until_dead(&rig, 3).await;
    let of =
        async |filters: &[&str]| listed(&rig, filters).await.into_iter().collect::<BTreeSet<_>>();
    let set = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(of(&[]).await, set(&["gone", "bad", &nameless]));
    assert_eq!(of(&["--reason", "failed"]).await, set(&["gone"]));
    assert_eq!(of(&["--reason", "eko_unavailable"]).await, set(&["gone"]));
    assert_eq!(
        of(&["--reason", "invalid_command", "--reason", "failed"]).await,
        set(&["gone", "bad"])
    );
    assert_eq!(of(&["--tid", "341"]).await, set(&["gone"]));
    assert_eq!(of(&["--tid", "0341"]).await, set(&["gone"]));
    assert_eq!(of(&["--tid", "0"]).await, set(&[]));
    assert_eq!(of(&["bad"]).await, set(&["bad"]));
    assert_eq!(of(&["bad.invalid"]).await, set(&["bad"]));
    assert_eq!(of(&["--older-than", "1h"]).await, set(&[]));
    assert_eq!(of(&["--newer-than", "1h"]).await, set(&["gone", "bad", &nameless]));
    assert_eq!(of(&["--newer-than", "1h", "--tid", "342"]).await, set(&[]));
    let (code, _, said) = run(&rig, &["dead", "list", "other"]).await;
    assert_eq!(code, 1, "{said}");

    let (code, out, said) = run(&rig, &["dead", "show", "bad"]).await;
    assert_eq!(code, 0, "{said}");
    for part in ["\"otp\": \"(hidden)\"", "XXXXXX6789", "\"recipient_id\": 98765"] {
        assert!(out.contains(part), "{part} is not in {out}");
    }
    let (code, shown) = run_json(&rig, &["dead", "show", &nameless]).await;
    assert_eq!(
        (code, shown[0]["message"].as_str()),
        (0, Some("8 bytes that are not a JSON object"))
    );
    until_dead(&rig, 3).await;

    let (code, _, said) = run(&rig, &["dead", "drop", "--reason", "failed"]).await;
    assert_eq!(code, 2, "many at a time must be meant: {said}");
    let (code, out, _) = run(&rig, &["dead", "drop", "--dry-run"]).await;
    assert_eq!((code, out.matches(": would be dropped").count()), (0, 3), "{out}");
    until_dead(&rig, 3).await;
    let (code, out, _) = run(&rig, &["dead", "drop", "bad"]).await;
    assert_eq!((code, out.matches(": dropped").count()), (0, 1), "{out}");
    let (code, dropped) = run_json(&rig, &["dead", "drop", "--reason", "failed", "--yes"]).await;
    assert_eq!((code, text(&dropped, "/0/command_id")), (0, "gone"), "{dropped}");
    until_dead(&rig, 1).await;
    assert_eq!(listed(&rig, &[]).await, [nameless.as_str()]);
    let (code, ..) = run(&rig, &["dead", "drop", &nameless, "other"]).await;
    assert_eq!(code, 1, "one was not found");
    until_dead(&rig, 0).await;
    rig.finish().await;
}

#[tokio::test]
async fn a_refund_is_not_replayed_unless_eko_says_that_it_is_pending() {
    let mut rig = with_unresolved("351").await;
    let calls = rig.simulator().calls("refund").await;
    for (tx_status, why) in [
        (4, "4, refunded"),
        (0, "the transfer itself succeeded"),
        (1, "the transfer failed"),
        (2, "not final"),
        (5, "not final"),
        (6, "not final"),
    ] {
        rig.simulator().transaction("351", tx_status).await;
        let (code, out, said) = run(&rig, &["dead", "replay", "stuck"]).await;
        assert_eq!(code, 1, "{out}{said}");
        assert!(out.contains("stays: Eko says: ") && out.contains(why), "{why} is not in {out}");
        until_dead(&rig, 1).await;
    }
    rig.simulator().transaction("351", 3).await;
    for fault in ["inquiry_not_found", "inquiry_disagrees", "inquiry_500", "inquiry_silence"] {
        rig.simulator().fault("351", "inquiry", fault, 1).await;
        let (code, out, said) = run(&rig, &["dead", "replay", "stuck"]).await;
        assert_eq!(code, 1, "{out}{said}");
        let why = "a refund is not sent without knowing that it is pending";
        assert!(out.contains(why), "{fault}: {out}");
        until_dead(&rig, 1).await;
    }
    let (code, out, _) = run(&rig, &["dead", "replay", "--dry-run"]).await;
    assert_eq!(code, 0);
    assert!(out.contains("would be sent as stuck:replay-1: Eko says: 3"), "{out}");
    until_dead(&rig, 1).await;
    assert_eq!(rig.simulator().calls("refund").await, calls, "nothing was sent");
    let dead = rig.any_dead_letter().await;
    assert_eq!(dead.header("eko-event-id").as_deref(), Some("stuck.unresolved"));
    rig.finish().await;
}

#[tokio::test]
async fn a_replayed_refund_is_inquired_by_the_worker_too_also_without_its_ledger() {
    let mut rig = with_unresolved("361").await;
    rig.simulator().transaction("361", 3).await;
    rig.stop_worker().await;
    for entry in std::fs::read_dir(rig.path("")).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap().to_string_lossy().starts_with("ledger") {
            std::fs::remove_file(path).unwrap();
        }
    }
    rig.settings.insert("SETTLE_GIVE_UP".to_owned(), "60s".to_owned());
    rig.settings.insert("LEDGER_ADOPT".to_owned(), "true".to_owned());
    rig.start_worker().await;
    let before = rig.simulator().calls("inquiry").await;
    let (code, out, said) = run(&rig, &["dead", "replay", "stuck"]).await;
    assert_eq!(code, 0, "{out}{said}");
    assert!(out.contains("sent as stuck:replay-1"), "{out}");
    let event = rig.next_event().await;
    assert_eq!(event.command_id(), "stuck:replay-1");
    assert_eq!((event.told().as_str(), event.attempts()), ("succeeded response", 1));
    let asked_as = event.message.properties.correlation_id().as_ref().map(ToString::to_string);
    assert_eq!(asked_as.as_deref(), Some("stuck"), "whoever asked finds it by what it asked");
    // One of the operator's, two at least of the worker's own.
    assert!(rig.simulator().calls("inquiry").await >= before + 3);
    assert_eq!(rig.simulator().executions("361").await, 1);
    until_dead(&rig, 0).await;
    rig.finish().await;
}

#[tokio::test]
async fn a_replay_that_is_killed_before_its_ack_executes_nothing_twice() {
    let mut rig = with_unresolved("371").await;
    rig.simulator().transaction("371", 3).await;
    rig.settings.insert("SETTLE_GIVE_UP".to_owned(), "60s".to_owned());
    rig.stop_worker().await;
    rig.start_worker().await;
    // The confirm never comes: the command is published, the dead letter not acknowledged.
    let mut proxy = Proxy::closed().await;
    proxy.open().await;
    proxy.stall(Some("stuck:replay-1"));
    let mut settings = rig.settings.clone();
    settings.insert("AMQP_URL".to_owned(), proxy.amqp_url());
    let program = env!("CARGO_BIN_EXE_eko-worker");
    let mut replay = Process::spawn(program, &["dead", "replay", "stuck"], &settings);
    assert_eq!(rig.next_event().await.told(), "succeeded response");
    assert!(replay.is_running(), "it waits for the confirm: {}", replay.stdout.text());
    assert_eq!(rig.broker.count("dead").await, Some(0), "it is in its hands");
    replay.kill9();
    proxy.close().await;
    until_dead(&rig, 1).await;

    let (code, out, _) = run(&rig, &["dead", "replay", "stuck"]).await;
    assert_eq!(code, 1);
    assert!(out.contains("stays: Eko says: 4, refunded"), "{out}");
    // Even where Eko were behind, the same command is only answered again.
    rig.simulator().transaction("371", 3).await;
    let (code, out, said) = run(&rig, &["dead", "replay", "stuck"]).await;
    assert_eq!(code, 0, "{out}{said}");
    let event = rig.next_event().await;
    assert_eq!((event.command_id(), event.outcome()), ("stuck:replay-1", "succeeded"));
    assert_eq!(rig.simulator().executions("371").await, 1);
    until_dead(&rig, 0).await;
    rig.finish().await;
}

#[tokio::test]
async fn what_the_broker_gave_up_goes_on_under_its_own_id() {
    let mut rig = Rig::builder().impatient().start().await;
    rig.stop_worker().await;
    rig.publish(&refund("lost", "381")).await;
    rig.broker.reject_one("refund").await;
    until_dead(&rig, 1).await;
    let (code, out, _) = run(&rig, &["dead", "list", "--reason", "rejected"]).await;
    assert_eq!(code, 0);
    assert!(out.starts_with("lost  refund  tid 381  given up by the broker (rejected)"), "{out}");
    rig.start_worker().await;
    let (code, replayed) = run_json(&rig, &["dead", "replay", "lost"]).await;
    assert_eq!((code, text(&replayed, "/0/new_id")), (0, "lost"), "{replayed}");
    let event = rig.next_event().await;
    assert_eq!((event.command_id(), event.outcome()), ("lost", "succeeded"), "{}", event.body);
    assert_eq!(rig.simulator().executions("381").await, 1);
    until_dead(&rig, 0).await;

    // Somebody died over it after Eko had executed it: only the event is missing.
    rig.stop_worker().await;
    rig.simulator().transaction("382", 4).await;
    rig.publish(&refund("done", "382")).await;
    rig.broker.reject_one("refund").await;
    until_dead(&rig, 1).await;
    rig.start_worker().await;
    let (code, out, _) = run(&rig, &["dead", "replay", "done"]).await;
    assert_eq!(code, 0, "{out}");
    assert!(out.contains("sent as done: Eko says: 4, refunded"), "{out}");
    assert_eq!(rig.next_event().await.told(), "succeeded inquiry");
    assert_eq!(rig.simulator().executions("382").await, 0, "nothing was sent to Eko");
    until_dead(&rig, 0).await;
    rig.finish().await;
}

#[tokio::test]
async fn commands_that_move_no_money_are_replayed_and_invalid_ones_never() {
    let rig = Rig::builder().set("RETRY_GIVE_UP_OTP", "300ms");
    let mut rig = rig.start().await;
    rig.simulator().fault("391", "refund_otp", "bank_unavailable", 99).await;
    rig.simulator().fault("392", "refund_otp", "bank_unavailable", 99).await;
    assert_eq!(rig.outcome_of(&refund_otp("a", "391")).await.outcome(), "failed");
    let soon = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(5);
    let late = refund_otp("late", "392").with("/expirytime", json!(soon.to_string()));
    assert_eq!(rig.outcome_of(&late).await.outcome(), "failed");
    let bad = command("refund_otp", "bad", json!({ "tid": "x" }));
    assert_eq!(rig.outcome_of(&bad).await.outcome(), "invalid");
    until_dead(&rig, 3).await;
    rig.simulator().behave().await;
    eventually("the deadline passes", async || (jiff::Timestamp::now() > soon).then_some(())).await;

    let (code, out, said) = run(&rig, &["dead", "replay", "--yes"]).await;
    assert_eq!(code, 1, "not all of them could be: {out}{said}");
    assert!(out.contains("sent as a:replay-1: it moves no money"), "{out}");
    assert!(out.contains("its expirytime has passed"), "{out}");
    assert!(out.contains("the same message would be invalid again"), "{out}");
    assert_eq!(rig.next_event().await.id(), "a:replay-1.succeeded");
    until_dead(&rig, 2).await;
    assert_eq!(listed(&rig, &[]).await, ["late", "bad"]);
    let (code, ..) = run(&rig, &["dead", "drop", "--yes"]).await;
    assert_eq!(code, 0);
    rig.finish().await;
}
