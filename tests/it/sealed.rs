//! OTPs that only the worker can read: boxes of libsodium, opened for the signed call.

use std::path::Path;
use std::process::Command;

use eko_seal::PublicKey;
use lapin::BasicProperties;
use serde_json::{Value, json};

use crate::rig::builder::Builder;
use crate::rig::command::{Edit, OTP, command, refund};
use crate::rig::script::{found, http, refunded, said};
use crate::rig::stub;
use crate::rig::worker::Worker;
use crate::rig::{Rig, eventually};

/// Makes a key file, as an operator does, and gives what OTPs are to be sealed for.
async fn keygen(path: &Path) -> PublicKey {
    let (code, out, err) = Worker::output(&["keygen", path.to_str().unwrap()], &[].into()).await;
    assert_eq!(code, 0, "{out}{err}");
    PublicKey::read(&out).unwrap()
}

/// A refund whose OTP is sealed for a key, and for the command with the id `sealed_for`.
fn sealed_as(id: &str, tid: &str, key: &PublicKey, sealed_for: &str) -> Value {
    let text = key.seal(sealed_for, &OTP.into()).unwrap();
    command("refund", id, json!({ "tid": tid, "otp_sealed": text }))
}

fn sealed(id: &str, tid: &str, key: &PublicKey) -> Value {
    sealed_as(id, tid, key, id)
}

/// A rig without a worker, whose settings name a key file.
async fn with_key(rig: Builder) -> (Rig, PublicKey) {
    let mut rig = rig.start_without_worker().await;
    let path = rig.path("otp-key");
    let key = keygen(&path).await;
    rig.settings.insert("OTP_KEY_FILE".to_owned(), path.display().to_string());
    (rig, key)
}

#[tokio::test]
async fn a_sealed_otp_is_opened_for_the_call_and_is_nowhere_else() {
    let rig = Rig::builder().stub().impatient().set("RUST_LOG", "trace");
    let (mut rig, key) = with_key(rig).await;
    rig.start_worker().await;
    let parked = rig.broker.watch_parked().await;
    rig.stub().on_refund("901", [http(502), refunded("901")]);
    rig.stub().on_inquiry("901", [found("901", 3)]);
    let event = rig.outcome_of(&sealed("sealed", "901", &key)).await;
    assert_eq!((event.told().as_str(), event.attempts()), ("succeeded response", 2));
    let otp: u64 = OTP.parse().unwrap();
    for request in rig.stub().requests(&stub::refund("901")) {
        assert_eq!(request.json()["otp"], json!(otp));
    }
    // Whatever Eko repeats of it.
    rig.stub().on_refund("902", [said(302, 1, &format!("Wrong OTP {OTP}"))]);
    let event = rig.outcome_of(&sealed("wrong", "902", &key)).await;
    assert_eq!(event.told(), "rejected wrong_otp");
    rig.stub().on_refund("903", [http(502)]);
    rig.stub().on_inquiry("903", [found("903", 9)]);
    rig.stop_worker().await;
    rig.settings.insert("SETTLE_GIVE_UP".to_owned(), "3s".to_owned());
    rig.start_worker().await;
    let event = rig.outcome_of(&sealed("unresolved", "903", &key)).await;
    assert_eq!(event.outcome(), "unresolved");
    let dead = rig.dead_letter(&event).await;
    let copies = parked.stop().await;
    assert!(!copies.is_empty());
    for message in copies.iter().chain([&dead]) {
        let whole = format!("{} {:?}", String::from_utf8_lossy(&message.body), message.properties);
        assert!(whole.contains("otp_sealed") && !whole.contains(OTP), "{whole}");
    }
    // The rig looks for the OTP in events, ledger, metrics and log.
    rig.finish().await;
}

#[tokio::test]
async fn a_box_that_cannot_be_used_is_invalid_and_says_why() {
    let (mut rig, key) = with_key(Rig::builder()).await;
    rig.start_worker().await;
    let other = keygen(&rig.path("another-key")).await;
    let good = key.seal("damaged", &OTP.into()).unwrap();
    let with_text =
        |id: &str, text: &str| command("refund", id, json!({ "tid": "911", "otp_sealed": text }));
    let foreign = format!(
        "data.otp_sealed: was sealed for another public key, or is damaged; this worker opens \
         those for {key}"
    );
    for (message, why) in [
        (sealed("foreign", "911", &other), foreign.as_str()),
        (with_text("damaged", &good.replacen(|c: char| c.is_ascii_lowercase(), "A", 1)), &foreign),
        (
            sealed_as("moved", "911", &key, "another"),
            "data.otp_sealed: was sealed for another command: the id in it is not this one's",
        ),
        (
            with_text("short", "AAAA"),
            "data.otp_sealed: is damaged: it is too short for a sealed box",
        ),
        (with_text("odd", "AAAAA"), "data.otp_sealed: is damaged: it is not base64"),
        (
            with_text("words", "not a box"),
            "data.otp_sealed: must be 1 to 1024 of A-Z a-z 0-9 + / = _ -",
        ),
        (
            sealed("both", "911", &key).with("/data/otp", json!(OTP)),
            "data: has both otp and otp_sealed; send one of them",
        ),
    ] {
        let event = rig.outcome_of(&message).await;
        assert_eq!(event.told(), "invalid invalid_command");
        assert_eq!(event.text("/data/error/message"), why);
        rig.dead_letter(&event).await;
    }
    assert_eq!(rig.simulator().calls("refund").await, 0);
    rig.finish().await;
}

#[tokio::test]
async fn a_repeat_may_be_sealed_anew_and_is_answered_also_when_its_key_is_gone() {
    let (mut rig, key) = with_key(Rig::builder()).await;
    rig.start_worker().await;
    let event = rig.outcome_of(&sealed("once", "921", &key)).await;
    assert_eq!(event.told(), "succeeded response");
    rig.publish(&sealed("once", "921", &key)).await;
    assert_eq!(rig.next_event().await.body, event.body);
    rig.stop_worker().await;
    std::fs::remove_file(rig.path("otp-key")).unwrap();
    keygen(&rig.path("otp-key")).await;
    rig.start_worker().await;
    rig.publish(&sealed("once", "921", &key)).await;
    assert_eq!(rig.next_event().await.body, event.body);
    let other = rig.outcome_of(&sealed("once", "922", &key)).await;
    assert_eq!(other.told(), "invalid id_reused");
    rig.dead_letter(&other).await;
    assert_eq!(rig.simulator().executions("921").await, 1);
    rig.finish().await;
}

#[tokio::test]
async fn a_refund_in_doubt_whose_key_is_gone_is_settled_from_the_ledger() {
    let rig = Rig::builder().stub().impatient();
    let (mut rig, key) = with_key(rig).await;
    rig.start_worker().await;
    rig.stub().on_refund("931", [http(502)]);
    rig.stub().on_inquiry("931", [found("931", 2)]);
    rig.publish(&sealed("doubt", "931", &key)).await;
    let asked = async || (rig.stub().requests(&stub::inquiry("931")).len() > 1).then_some(());
    eventually("the refund is in doubt", asked).await;
    rig.stop_worker().await;
    std::fs::remove_file(rig.path("otp-key")).unwrap();
    keygen(&rig.path("otp-key")).await;
    rig.stub().on_inquiry("931", [found("931", 4)]);
    rig.start_worker().await;
    let event = rig.next_event().await;
    assert_eq!((event.told().as_str(), event.attempts()), ("succeeded inquiry", 1));
    assert_eq!(rig.stub().requests(&stub::refund("931")).len(), 1);
    rig.finish().await;
}

#[tokio::test]
async fn a_worker_without_a_key_lets_sealed_refunds_wait_and_fails_none() {
    let (mut rig, key) = with_key(Rig::builder()).await;
    let file = rig.settings.remove("OTP_KEY_FILE").unwrap();
    rig.start_worker().await;
    rig.publish(&sealed("early", "941", &key)).await;
    let says = "this worker has no OTP_KEY_FILE: the command waits";
    eventually("the worker says why it waits", async || rig.log().contains(says).then_some(()))
        .await;
    let waits = [("kind", "refund"), ("reason", "misconfigured")];
    assert!(rig.metrics().await.value("retries_total", &waits) >= 1.0);
    // Neither others nor open OTPs wait for it.
    assert_eq!(rig.outcome_of(&refund("open", "942")).await.told(), "succeeded response");
    let expired = sealed("expired", "943", &key).with("/expirytime", json!("2026-01-01T00:00:00Z"));
    assert_eq!(rig.outcome_of(&expired).await.told(), "expired deadline_passed");
    rig.stop_worker().await;
    rig.settings.insert("OTP_KEY_FILE".to_owned(), file);
    rig.start_worker().await;
    let event = rig.next_event().await;
    assert_eq!((event.command_id(), event.told().as_str()), ("early", "succeeded response"));
    assert_eq!(event.attempts(), 1);
    rig.finish().await;
}

#[tokio::test]
async fn keys_are_rotated_without_a_restart() {
    let (mut rig, old) = with_key(Rig::builder()).await;
    rig.start_worker().await;
    let new = keygen(&rig.path("new-key")).await;
    assert_eq!(rig.outcome_of(&sealed("before", "951", &old)).await.outcome(), "succeeded");
    let both = ["new-key", "otp-key"].map(|name| std::fs::read(rig.path(name)).unwrap()).concat();
    std::fs::write(rig.path("otp-key"), both).unwrap();
    for (id, tid, key) in [("new", "952", &new), ("old", "953", &old)] {
        assert_eq!(rig.outcome_of(&sealed(id, tid, key)).await.outcome(), "succeeded");
    }
    let (code, out, err) = Worker::output(&["public-key"], &rig.settings).await;
    assert_eq!((code, out.trim()), (0, format!("{new}\n{old}").as_str()), "{err}");
    rig.finish().await;
}

#[tokio::test]
async fn a_worker_that_wants_sealed_otps_refuses_open_ones() {
    let (mut rig, key) = with_key(Rig::builder().set("OTP_SEALED", "required")).await;
    rig.start_worker().await;
    let event = rig.outcome_of(&refund("open", "961")).await;
    assert_eq!(event.told(), "invalid invalid_command");
    let why = "data.otp: is not taken by this worker (OTP_SEALED=required); send otp_sealed";
    assert_eq!(event.text("/data/error/message"), why);
    rig.dead_letter(&event).await;
    assert_eq!(rig.outcome_of(&sealed("sealed", "961", &key)).await.told(), "succeeded response");

    // As an operator publishes, and as one replays.
    std::fs::write(rig.path("otp"), OTP).unwrap();
    let otp = rig.path("otp").display().to_string();
    let key = key.to_string();
    let arguments = ["publish", "refund", "--tid", "962", "--otp-file", &otp, "--id", "by-hand"];
    let arguments = [&arguments[..], &["--otp-public-key", &key]].concat();
    let (code, out, err) = Worker::output(&arguments, &rig.settings).await;
    assert_eq!(code, 0, "{out}{err}");
    assert_eq!(rig.next_event().await.told(), "succeeded response");
    rig.finish().await;
}

#[tokio::test]
async fn a_replayed_command_keeps_its_box() {
    let rig = Rig::builder().stub().impatient().set("SETTLE_GIVE_UP", "3s");
    let (mut rig, key) = with_key(rig).await;
    rig.start_worker().await;
    rig.stub().on_refund("971", [http(502), refunded("971")]);
    rig.stub().on_inquiry("971", [found("971", 9)]);
    let event = rig.outcome_of(&sealed("lost", "971", &key)).await;
    assert_eq!(event.outcome(), "unresolved");
    rig.stub().on_inquiry("971", [found("971", 3)]);
    let (code, out, err) =
        Worker::output(&["dead", "replay", "lost", "--yes"], &rig.settings).await;
    assert_eq!(code, 0, "{out}{err}");
    let event = rig.next_event().await;
    assert_eq!((event.command_id(), event.outcome()), ("lost:replay-1", "succeeded"));
    rig.finish().await;
}

#[tokio::test]
async fn keygen_leaves_an_existing_file_alone_and_settings_name_what_is_wrong() {
    use std::os::unix::fs::PermissionsExt as _;

    let (mut rig, _) = with_key(Rig::builder()).await;
    let path = rig.path("otp-key");
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let before = std::fs::read(&path).unwrap();
    let (code, out, err) = Worker::output(&["keygen", path.to_str().unwrap()], &rig.settings).await;
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.contains("cannot create") && err.contains("exists"), "{err}");
    assert_eq!(std::fs::read(&path).unwrap(), before);

    std::fs::write(rig.path("odd"), "hunter2").unwrap();
    let odd = rig.path("odd").display().to_string();
    let why = format!(
        "OTP_KEY_FILE: {odd}: line 1 is not a key: 32 bytes in base64, as keygen writes it"
    );
    for (name, value, why) in [
        ("OTP_KEY_FILE", odd.as_str(), why.as_str()),
        ("OTP_KEY_FILE", "/nonexistent", "OTP_KEY_FILE: cannot read /nonexistent"),
        ("OTP_SEALED", "always", "OTP_SEALED: must be optional or required"),
    ] {
        let mut settings = rig.settings.clone();
        settings.insert(name.to_owned(), value.to_owned());
        let (code, out, err) = Worker::output(&["run"], &settings).await;
        assert_eq!(code, 2, "{out}{err}");
        assert!(err.contains(why) && !err.contains("hunter2"), "{err}");
    }
    rig.settings.remove("OTP_KEY_FILE");
    rig.settings.insert("OTP_SEALED".to_owned(), "required".to_owned());
    let (code, _, err) = Worker::output(&["run"], &rig.settings).await;
    assert_eq!(code, 2);
    assert!(err.contains("OTP_SEALED: required needs OTP_KEY_FILE"), "{err}");
    let (code, _, err) = Worker::output(&["public-key"], &rig.settings).await;
    assert_eq!(code, 2);
    assert!(err.contains("OTP_KEY_FILE: is missing"), "{err}");
}

/// The code of a language in the page about sealed OTPs.
fn snippet(language: &str) -> String {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/sealed-otps.md");
    let page = std::fs::read_to_string(page).unwrap();
    let code = page.split(&format!("```{language}\n")).nth(1).unwrap();
    code.split("```").next().unwrap().to_owned()
}

/// A box that the usual library of a language makes, by the code of the page. `None` where it cannot
/// be had here.
fn box_of(library: &str, code: &str, arguments: [&str; 3]) -> Option<String> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/example-tools");
    let tools = Command::new("bash").args([script, library]).output().unwrap();
    if !tools.status.success() {
        eprintln!("!!! SKIPPED: no {library}: that its boxes open is not shown");
        return None;
    }
    let words = String::from_utf8(tools.stdout).unwrap();
    let (program, path) = words.trim().split_once('\n').unwrap();
    std::fs::write(path, code).unwrap();
    let made = Command::new(program).arg(path).args(arguments).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    Some(String::from_utf8(made.stdout).unwrap().trim().to_owned())
}

async fn opens(library: &str, code: &str) {
    let (mut rig, key) = with_key(Rig::builder()).await;
    rig.start_worker().await;
    if let Some(text) = box_of(library, code, [&key.to_string(), "by-library", OTP]) {
        let message = command("refund", "by-library", json!({ "tid": "981", "otp_sealed": text }));
        rig.publish_with(&message, BasicProperties::default()).await;
        assert_eq!(rig.next_event().await.told(), "succeeded response");
        let sent = rig.simulator().record("981").await;
        assert!(sent.contains(OTP), "{sent}");
    }
    rig.finish().await;
}

#[tokio::test]
async fn a_box_that_pynacl_made_as_the_page_says_opens() {
    let code = snippet("python") + "\nimport sys\nprint(sealed(*sys.argv[1:]))\n";
    opens("pynacl", &code).await;
}

#[tokio::test]
async fn a_box_that_libsodium_for_node_made_as_the_page_says_opens() {
    let code = snippet("js") + "\nconsole.log(sealed(...process.argv.slice(2)));\n";
    opens("libsodium", &code).await;
}
