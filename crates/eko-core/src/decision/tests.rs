//! The decisions of `contract.md`, `design.md` and `eko-api.md` §5 and §6, and what holds of
//! all of them.

mod otp;
mod properties;
mod refund;
mod settling;

use super::*;
use crate::command::{self, Defaults};
use crate::history::{Age, Attempt, Ended, Entry, Inquiry, Signed, Suspicion, SuspicionReason};
use crate::outcome::{Answer, ConfirmedBy, Receipt, Refusal};
use crate::verdict::{Fallback, Reading, Verdict};

/// The middle of the jitter.
const EVEN: f64 = 0.5;

/// The contract's defaults.
fn policy() -> Policy {
    let max = Duration::from_secs(300);
    Policy {
        retry: Backoff { initial: Duration::from_millis(500), max },
        give_up_otp: Duration::from_secs(120),
        give_up_refund: Duration::from_secs(86_400),
        otp_resend_spacing: Duration::from_secs(30),
        settle: Backoff { initial: Duration::from_secs(5), max },
        settle_quiet: Duration::from_secs(30),
        settle_give_up: Duration::from_secs(86_400),
        refund_max_attempts: 3,
        preflight: false,
        call_timeout: Duration::from_secs(30),
        stamp_tolerance: Duration::from_secs(120),
    }
}

/// Seconds after the first receipt.
fn at(seconds: f64) -> Timestamp {
    let start: Timestamp = "2026-11-21T09:00:00Z".parse().unwrap();
    saturating_add(start, Duration::from_secs_f64(seconds))
}

fn parsed(kind: &str, data: &str) -> Command {
    let body = format!(r#"{{"id":"c","type":"eko.{kind}.request","data":{data}}}"#);
    command::parse(body.as_bytes(), None, &Defaults::default()).command.unwrap()
}

fn a_refund() -> Command {
    parsed(
        "refund",
        r#"{"tid":"13192443","otp":"123456","user_code":"20810200","initiator_id":"9962981729"}"#,
    )
}

fn an_otp() -> Command {
    parsed("refund_otp", r#"{"tid":"13192443","initiator_id":"9962981729"}"#)
}

/// A command that expires so many seconds after its first receipt.
fn expiring(mut command: Command, seconds: f64) -> Command {
    command.expiry = Some(at(seconds));
    command
}

/// What the clocks say then: both have gone well since the first receipt.
fn now(seconds: f64) -> Now {
    let monotonic = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
    Now { wall: at(seconds), process: 1, monotonic }
}

/// How old the command is then.
fn age(seconds: f64) -> Age {
    Age::measured(now(seconds).monotonic)
}

fn history(entries: impl IntoIterator<Item = Entry>) -> History {
    let mut history = History::new(now(0.0));
    history.entries = entries.into_iter().collect();
    history
}

/// An attempt that took a second.
fn attempt(ended: f64, verdict: Verdict) -> Entry {
    let began = begun((ended - 1.0).max(0.0));
    let ended = Some(Ended { at: at(ended), age: age(ended), verdict });
    Entry::Attempt(Attempt { ended, ..began })
}

fn begun(began: f64) -> Attempt {
    let signed = Some(Signed { stamp: at(began).as_millisecond(), lead: 0 });
    Attempt { began: at(began), age: age(began), signed, ended: None }
}

fn open_attempt(began: f64) -> Entry {
    Entry::Attempt(begun(began))
}

/// Readings of which the last was asked for then, by our clock and by Eko's.
fn read(reading: Reading, last: f64, times: u32) -> Entry {
    let (first, eko_time) = (at(0.0), Some(at(last)));
    Entry::Inquiry(Inquiry { reading, first, last: at(last), times, age: age(last), eko_time })
}

fn suspicion(seconds: f64, why: SuspicionReason) -> Entry {
    let before = Duration::ZERO;
    Entry::Suspicion(Suspicion { at: at(seconds), age: age(seconds), before, why })
}

fn done() -> Verdict {
    Verdict::Done(Receipt::default(), Answer::default())
}

fn refusal(code: Code) -> Refusal {
    Refusal { problem: Problem::new(code, "Eko refused"), answer: Answer::default() }
}

fn refused(code: Code) -> Verdict {
    Verdict::Refused(refusal(code))
}

fn timed_out() -> Verdict {
    Verdict::unclear(Cause::Timeout)
}

fn unclear(fallback: Fallback) -> Verdict {
    Verdict::Unclear { cause: Cause::BadResponse, after: None, fallback }
}

fn unavailable(after: Option<u64>) -> Verdict {
    Verdict::NotNow { cause: Cause::EkoUnavailable, after: after.map(Duration::from_secs) }
}

fn refunded() -> Reading {
    Reading::Refunded(Receipt::default(), Answer::default())
}

const fn conditions(policy: &Policy, now: Now) -> Conditions<'_> {
    Conditions { policy, now, jitter: EVEN }
}

fn ready(command: &Command, history: &History, seconds: f64) -> Step {
    decide(Task::of(command), history, Trigger::Ready, &conditions(&policy(), now(seconds)))
}

fn answered(command: &Command, history: &History, seconds: f64) -> Step {
    decide(Task::of(command), history, Trigger::Answered, &conditions(&policy(), now(seconds)))
}

fn succeeded(confirmed_by: ConfirmedBy) -> Step {
    let (receipt, answer) = (Receipt::default(), Some(Answer::default()));
    Step::Finish(Outcome::Succeeded { confirmed_by, receipt, answer })
}

fn retry_after(seconds: f64, cause: Cause) -> Step {
    Step::RetryAfter { delay: Duration::from_secs_f64(seconds), cause }
}

fn inquire_after(seconds: f64, cause: Cause) -> Step {
    Step::InquireAfter { delay: Duration::from_secs_f64(seconds), cause }
}

/// How a step ends the command: outcome and code.
fn end(step: &Step) -> Option<(&'static str, Option<Code>)> {
    match step {
        Step::Finish(outcome) => {
            Some((outcome.as_str(), outcome.problem().map(|problem| problem.code)))
        }
        Step::Attempt | Step::Inquire | Step::RetryAfter { .. } | Step::InquireAfter { .. } => None,
    }
}

fn ends(outcome: &'static str, code: Code) -> Option<(&'static str, Option<Code>)> {
    Some((outcome, Some(code)))
}
