//! One publisher's odd commands, and one kind's backlog, are no other's problem; and a pause ends when
//! its cause is gone.

use std::time::Instant;

use serde_json::{Value, json};

use crate::rig::command::{Edit, refund, refund_otp, transfer_otp};
use crate::rig::script::{found, http, otp_sent, refunded, said, transfer_otp_sent};
use crate::rig::stub::{self, Answer, TRANSFER_OTP};
use crate::rig::{INITIATOR, Rig, eventually};

/// An initiator that a command names itself.
const OWN: &str = "9812345670";

fn own(command: Value) -> Value {
    command.with("/data/initiator_id", json!(OWN))
}

fn unknown_initiator() -> Answer {
    said(319, 319, "Invalid Sender/Initiator")
}

fn assert_never_paused(rig: &Rig) {
    let log = rig.log();
    assert!(!log.contains("consumption is paused"), "{log}");
}

#[tokio::test]
async fn a_refund_whose_own_initiator_eko_refuses_is_rejected_and_leaves_its_tid() {
    let mut rig = Rig::builder().stub().impatient().start().await;
    rig.plant(OWN);
    rig.stub().on_refund("701", [unknown_initiator(), refunded("701")]);
    rig.stub().on_inquiry("701", [found("701", 3)]);
    rig.publish(&own(refund("odd", "701"))).await;
    let line = stub::refund("701");
    let called = async || (rig.stub().requests(&line).len() == 1).then_some(());
    eventually("Eko has refused it", called).await;
    rig.publish(&refund("corrected", "701")).await;
    let event = rig.next_event().await;
    assert_eq!((event.command_id(), event.told().as_str()), ("odd", "rejected invalid_params"));
    assert_eq!(event.attempts(), 1);
    assert_eq!(event.body["data"]["eko"]["status"], json!(319));
    let inquiries = rig.stub().requests(&stub::inquiry("701"));
    assert!(inquiries.len() >= 2, "it is proven not to be executed");
    let ours = format!("initiator_id={INITIATOR}");
    assert!(inquiries.iter().all(|inquiry| inquiry.line.contains(&ours)), "{inquiries:?}");
    let event = rig.next_event().await;
    assert_eq!((event.command_id(), event.outcome()), ("corrected", "succeeded"));
    assert_eq!(rig.stub().requests(&line).len(), 2);
    assert_never_paused(&rig);
    rig.finish().await;
}

#[tokio::test]
async fn a_refund_that_was_executed_though_its_own_initiator_was_refused_is_succeeded() {
    let mut rig = Rig::builder().stub().impatient().start().await;
    rig.stub().on_refund("702", [unknown_initiator()]);
    rig.stub().on_inquiry("702", [found("702", 3), found("702", 4)]);
    let event = rig.outcome_of(&own(refund("executed", "702"))).await;
    assert_eq!(event.told(), "succeeded inquiry");
    rig.finish().await;
}

#[tokio::test]
async fn without_an_account_in_the_settings_a_refused_one_is_settled_as_another_that_eko_takes() {
    let rig = Rig::builder().stub().impatient();
    let mut rig = rig.start_without_worker().await;
    rig.settings.remove("EKO_INITIATOR_ID");
    rig.start_worker().await;
    rig.stub().on_refund("703", [unknown_initiator()]);
    rig.stub().on_inquiry("703", [found("703", 3)]);
    rig.stub().on_refund("704", [refunded("704")]);
    let works = refund("good", "704").with("/data/initiator_id", json!(INITIATOR));
    assert_eq!(rig.outcome_of(&works).await.outcome(), "succeeded");
    let event = rig.outcome_of(&own(refund("odd", "703"))).await;
    assert_eq!(event.told(), "rejected invalid_params");
    let ours = format!("initiator_id={INITIATOR}");
    let inquiries = rig.stub().requests(&stub::inquiry("703"));
    assert!(inquiries.iter().all(|inquiry| inquiry.line.contains(&ours)), "{inquiries:?}");
    rig.finish().await;
}

#[tokio::test]
async fn accounts_that_commands_bring_and_eko_refuses_pause_nothing() {
    let mut rig = Rig::builder().stub().impatient().start().await;
    let refuse_by = [unknown_initiator(), http(403), http(404)];
    let mut odd = Vec::new();
    for (n, answer) in (0..6u64).zip(refuse_by.iter().cycle()) {
        let tid = (711 + n).to_string();
        rig.stub().on_refund(&tid, [answer.clone()]);
        rig.stub().on_inquiry(&tid, [found(&tid, 3)]);
        rig.stub().on(&stub::refund_otp(&tid), [answer.clone()]);
        // Each names another account: they do not confirm each other.
        let account = json!((9_800_000_000 + n).to_string());
        let commands = [refund(&format!("r{n}"), &tid), refund_otp(&format!("o{n}"), &tid)];
        odd.extend(commands.map(|command| command.with("/data/initiator_id", account.clone())));
    }
    rig.stub().on_refund("729", [refunded("729")]);
    rig.stub().on_inquiry("729", [found("729", 4)]);
    rig.stub().on(&stub::refund_otp("729"), [otp_sent("fine")]);
    rig.publish_all(&odd).await;
    let mut ends = Vec::new();
    for n in 0.. {
        let tid = format!("73{n:04}");
        rig.stub().on_refund(&tid, [refunded(&tid)]);
        let (good, otp) = (format!("good-{n}"), format!("otp-{n}"));
        rig.publish_all(&[refund(&good, &tid), refund_otp(&otp, "729")]).await;
        let (mut waits_for_good, mut waits_for_otp) = (true, true);
        while waits_for_good || waits_for_otp {
            let event = rig.next_event().await;
            match event.command_id() {
                id if id == good => waits_for_good = false,
                id if id == otp => waits_for_otp = false,
                _ => {
                    assert_eq!(event.told(), "rejected invalid_params", "{}", event.body);
                    ends.push(event);
                    continue;
                }
            }
            assert_eq!(event.outcome(), "succeeded", "{}", event.body);
        }
        if ends.len() == odd.len() {
            break;
        }
    }
    assert_never_paused(&rig);
    rig.finish().await;
}

#[tokio::test]
async fn an_account_of_the_settings_that_eko_refuses_pauses_and_rejects_nobody() {
    let mut rig = Rig::builder().stub().start().await;
    for tid in ["741", "742", "743"] {
        rig.stub().on(&stub::refund_otp(tid), [unknown_initiator()]);
    }
    rig.stub().on_inquiry("1", [unknown_initiator()]);
    rig.publish_all(&[refund_otp("a", "741"), refund_otp("b", "742")]).await;
    until_paused(&mut rig, "refund_otp", "misconfigured").await;
    rig.publish(&own(refund_otp("c", "743"))).await;
    // What is in the hands of the worker is parked, and comes back when a command may show again.
    let tried = async || (!rig.stub().requests(&stub::refund_otp("743")).is_empty()).then_some(());
    eventually("the command with an account of its own was tried", tried).await;
    for tid in ["741", "742", "743"] {
        rig.stub().on(&stub::refund_otp(tid), [otp_sent(tid)]);
    }
    let events = rig.events_of(["a", "b", "c"]).await;
    assert!(events.values().all(|event| event.told() == "succeeded response"));
    rig.finish().await;
}

#[tokio::test]
async fn a_page_in_place_of_every_answer_is_an_outage_that_otps_wait_out() {
    let times = ["EKO_TIMEOUT", "EKO_STAMP_TOLERANCE", "SETTLE_QUIET"];
    let rig = times.into_iter().fold(Rig::builder(), |rig, name| rig.set(name, "2s"));
    let mut rig = rig.start().await;
    rig.simulator().fail_all(&json!({ "fault": "html" })).await;
    let tids: Vec<_> = (751..=765).map(|tid: u32| tid.to_string()).collect();
    let otp = |tid: &String| refund_otp(&format!("otp-{tid}"), tid);
    let money = |tid: &String| refund(&format!("refund-{tid}"), tid);
    let commands: Vec<_> = tids.iter().map(otp).chain(tids.iter().map(money)).collect();
    rig.publish_all(&commands).await;
    rig.until_metrics("both kinds are paused", |metrics| {
        ["refund_otp", "refund"]
            .iter()
            .all(|kind| metrics.value("paused", &[("kind", kind), ("reason", "outage")]) == 1.0)
    })
    .await;
    rig.simulator().behave().await;
    let ids: Vec<_> =
        tids.iter().flat_map(|tid| [format!("otp-{tid}"), format!("refund-{tid}")]).collect();
    let events = rig.events_of(ids.iter().map(String::as_str)).await;
    for event in events.values() {
        assert_eq!(event.outcome(), "succeeded", "{}", event.body);
    }
    rig.finish().await;
}

async fn until_paused(rig: &mut Rig, kind: &str, reason: &str) {
    rig.until_metrics(&format!("{kind} is paused as {reason}"), |metrics| {
        metrics.value("paused", &[("kind", kind), ("reason", reason)]) == 1.0
    })
    .await;
}

/// An outage of one kind's endpoint that ends, while the probe is answered so from then on.
async fn ends_though_the_probe_is_answered(probe: Answer) {
    let mut rig = Rig::builder().stub().start().await;
    rig.stub().on(TRANSFER_OTP, [http(503)]);
    rig.stub().on_inquiry("1", [http(503)]);
    let ids: Vec<_> = (0..12).map(|n: u32| format!("t{n}")).collect();
    let commands: Vec<_> = ids.iter().map(|id| transfer_otp(id, id)).collect();
    rig.publish_all(&commands).await;
    until_paused(&mut rig, "transfer_otp", "outage").await;
    rig.stub().on_inquiry("1", [probe]);
    rig.stub().on(TRANSFER_OTP, [transfer_otp_sent()]);
    let events = rig.events_of(ids.iter().map(String::as_str)).await;
    for event in events.values() {
        assert_eq!(event.told(), "succeeded response", "{}", event.body);
    }
    rig.until_metrics("the pause is over", |metrics| metrics.value("paused", &[]) == 0.0).await;
    rig.finish().await;
}

#[tokio::test]
async fn a_pause_ends_though_the_probe_alone_is_forbidden() {
    ends_though_the_probe_is_answered(http(403)).await;
}

#[tokio::test]
async fn a_pause_ends_though_the_probe_alone_is_not_found() {
    ends_though_the_probe_is_answered(http(404)).await;
}

#[tokio::test]
async fn a_pause_ends_though_the_probe_alone_is_limited() {
    ends_though_the_probe_is_answered(http(429)).await;
}

#[tokio::test]
async fn a_pause_ends_though_eko_does_not_know_who_probes() {
    ends_though_the_probe_is_answered(unknown_initiator()).await;
}

#[tokio::test]
async fn a_pause_of_refunds_ends_though_the_probe_alone_goes_on_failing() {
    let mut rig = Rig::builder().stub().impatient().start().await;
    let tids: Vec<_> = (801..=812).map(|tid: u32| tid.to_string()).collect();
    rig.stub().on_inquiry("1", [http(503)]);
    for tid in &tids {
        rig.stub().on_refund(tid, [http(503), refunded(tid)]);
        rig.stub().on_inquiry(tid, [found(tid, 3)]);
    }
    rig.publish_all(&tids.iter().map(|tid| refund(tid, tid)).collect::<Vec<_>>()).await;
    until_paused(&mut rig, "refund", "outage").await;
    let events = rig.events_of(tids.iter().map(String::as_str)).await;
    for event in events.values() {
        assert_eq!(event.told(), "succeeded response", "{}", event.body);
    }
    rig.finish().await;
}

#[tokio::test]
async fn a_pause_shows_the_reason_that_holds_now() {
    let mut rig = Rig::builder().stub().start().await;
    rig.stub().on(TRANSFER_OTP, [http(503)]);
    rig.stub().on_inquiry("1", [http(503)]);
    let ids: Vec<_> = (0..12).map(|n: u32| format!("t{n}")).collect();
    let commands: Vec<_> = ids.iter().map(|id| transfer_otp(id, id)).collect();
    rig.publish_all(&commands).await;
    for (answer, reason) in
        [(http(503), "outage"), (http(403), "unauthorized"), (http(404), "misconfigured")]
    {
        rig.stub().on(TRANSFER_OTP, [answer.clone()]);
        rig.stub().on_inquiry("1", [answer]);
        until_paused(&mut rig, "transfer_otp", reason).await;
    }
    rig.stub().on(TRANSFER_OTP, [transfer_otp_sent()]);
    rig.stub().on_inquiry("1", [found("1", 0)]);
    let events = rig.events_of(ids.iter().map(String::as_str)).await;
    assert!(events.values().all(|event| event.outcome() == "succeeded"));
    rig.finish().await;
}

#[tokio::test]
async fn a_backlog_of_otps_at_the_rate_limit_leaves_refunds_their_share() {
    let rig = Rig::builder().stub().patient().set("WORKER_RATE_LIMIT", "20");
    let mut rig = rig.start().await;
    rig.stub().on(&stub::refund_otp("821"), [otp_sent("fine")]);
    let otps: Vec<_> = (0..150).map(|n: u32| refund_otp(&format!("otp-{n}"), "821")).collect();
    rig.publish_all(&otps).await;
    let line = stub::refund_otp("821");
    let begun = async || (rig.stub().requests(&line).len() > 5).then_some(());
    eventually("the backlog is being worked off", begun).await;
    for n in 0..5 {
        let tid = format!("83{n}");
        rig.stub().on_refund(&tid, [refunded(&tid)]);
        let published = Instant::now();
        rig.publish(&refund(&tid, &tid)).await;
        let called = async || rig.stub().requests(&stub::refund(&tid)).first().cloned();
        let called = eventually("the refund is called for", called).await;
        let before = rig.stub().requests(&line);
        let before = before.iter().filter(|otp| otp.at > published && otp.at < called.at).count();
        assert!(before <= 10, "{before} OTPs went first");
    }
    let ids: Vec<_> = (0..150).map(|n: u32| format!("otp-{n}")).collect();
    let tids: Vec<_> = (0..5).map(|n: u32| format!("83{n}")).collect();
    rig.events_of(ids.iter().chain(&tids).map(String::as_str)).await;
    rig.finish().await;
}
