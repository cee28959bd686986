//! Standard output and standard error that nobody reads, or that are full.

use std::fs::OpenOptions;
use std::process::{Command, Stdio};

use crate::rig::command::{OTP, refund};
use crate::rig::worker::Settings;
use crate::rig::{Rig, eventually};

/// The exit code that says that the output is not complete.
const OUTPUT_FAILED: i32 = 74;

/// Where a program writes to.
#[derive(Clone, Copy, Debug)]
enum Sink {
    /// Somebody who reads it all.
    Reader,
    /// A pipe whose reader is gone.
    Closed,
    /// A disk that is full.
    Full,
}

impl Sink {
    fn open(self) -> Stdio {
        match self {
            Self::Reader => Stdio::piped(),
            Self::Closed => std::io::pipe().unwrap().1.into(),
            Self::Full => OpenOptions::new().write(true).open("/dev/full").unwrap().into(),
        }
    }
}

/// Runs `eko-worker` to its end: exit code, and what could be read of its outputs.
fn run(settings: &Settings, arguments: &[&str], sinks: [Sink; 2]) -> (i32, String) {
    let [stdout, stderr] = sinks.map(Sink::open);
    let child = Command::new(env!("CARGO_BIN_EXE_eko-worker"))
        .args(arguments)
        .env_clear()
        .envs(settings)
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(stderr)
        .spawn();
    let output = child.unwrap().wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(said).unwrap())
}

/// Sees that a command that ends with `code` does so wherever its outputs go.
fn hold(settings: &Settings, arguments: &[&str], code: i32) {
    use Sink::{Closed, Full, Reader};
    let run = |sinks| run(settings, arguments, sinks);
    for sinks in [[Reader, Reader], [Closed, Reader], [Reader, Closed], [Reader, Full]] {
        let (ended, said) = run(sinks);
        assert_eq!(ended, code, "{arguments:?} to {sinks:?}: {said}");
        let is_quiet = !said.contains("panicked") && !said.contains("cannot be written");
        assert!(is_quiet, "{arguments:?} to {sinks:?}: {said}");
    }
    let (ended, said) = run([Closed, Closed]);
    assert_eq!(ended, code, "{arguments:?} to nobody: {said}");
    let (ended, said) = run([Full, Reader]);
    assert_eq!(ended, OUTPUT_FAILED, "{arguments:?} to a full disk: {said}");
    let is_told = said.contains("standard output cannot be written") && said.contains("No space");
    assert!(is_told && !said.contains("panicked"), "{arguments:?} to a full disk: {said}");
    let itself = if code == 0 { "itself has succeeded" } else { "itself has not succeeded" };
    assert!(said.contains(itself), "{arguments:?} to a full disk: {said}");
    assert_eq!(run([Full, Full]).0, OUTPUT_FAILED, "{arguments:?} to full disks");
}

#[test]
fn what_needs_no_service_ends_with_its_own_code_wherever_it_writes_to() {
    let settings = Settings::new();
    for arguments in [
        &["--help"][..],
        &["--version"],
        &["help", "dead", "replay"],
        &["config", "--markdown"],
        &["schema", "asyncapi"],
        &["completions", "bash"],
        &["man"],
    ] {
        hold(&settings, arguments, 0);
    }
    hold(&settings, &["config"], 2);
    let (code, said) = run(&settings, &["dead"], [Sink::Full, Sink::Reader]);
    assert_eq!(code, 2, "what is wrong with the arguments goes to standard error: {said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_done_is_not_told_otherwise_where_nobody_reads_it() {
    let mut rig = Rig::builder().at_least_once().start().await;
    rig.outcome_of(&refund("known", "6601")).await;
    rig.publish_raw(b"no command").await;
    assert_eq!(rig.next_event().await.outcome(), "invalid");
    let there = async || (rig.broker.count("dead").await == Some(1)).then_some(());
    eventually("it is a dead letter", there).await;
    let settings = rig.settings.clone();
    hold(&settings, &["config"], 0);
    hold(&settings, &["show", "known"], 0);
    hold(&settings, &["ledger", "show"], 0);
    hold(&settings, &["dead", "list"], 0);
    hold(&settings, &["dead", "list", "unknown", "--json"], 1);
    hold(&settings, &["inquire", "6601"], 0);
    let nowhere = [("AMQP_URL".to_owned(), "amqp://127.0.0.1:1".to_owned())];
    hold(&settings.clone().into_iter().chain(nowhere).collect(), &["check"], 1);

    let otp = rig.path("otp");
    std::fs::write(&otp, OTP).unwrap();
    let otp = otp.display().to_string();
    let publish = ["publish", "refund", "--id", "once", "--tid", "6602", "--otp-file", &otp];
    hold(&settings, &publish, 0);
    rig.events_of(["once"]).await;
    assert_eq!(rig.simulator().executions("6602").await, 1);
    rig.any_dead_letter().await;
    rig.finish().await;
}

#[tokio::test]
async fn a_first_start_logs_no_fault() {
    let mut rig = Rig::builder().stub().set("RUST_LOG", "info").start().await;
    rig.stop_worker().await;
    let log = rig.log();
    let is_fault = |line: &&str| !line.is_empty() && !line.contains("\"INFO\"");
    let faults: Vec<_> = log.lines().filter(is_fault).collect();
    let [only] = faults.as_slice() else { panic!("one warning: {faults:#?}") };
    assert!(only.contains("this ledger is new"), "{only}");
    rig.finish().await;
}
