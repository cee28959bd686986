//! Command + evidence + now → [`Step`]: a pure function, and the only place that decides.

mod otp;
mod refund;

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::backoff::Backoff;
use crate::clock::Now;
use crate::command::{Command, Kind};
use crate::history::{Age, Attempt, History};
use crate::outcome::{Code, Outcome, Problem};
use crate::verdict::Cause;

/// The settings that decisions follow.
#[derive(Clone, Debug)]
pub struct Policy {
    /// `RETRY_INITIAL`, `RETRY_MAX`: between calls that are known not to have been executed.
    pub retry: Backoff,
    /// `RETRY_GIVE_UP_OTP`, since the first receipt.
    pub give_up_otp: Duration,
    /// `RETRY_GIVE_UP_REFUND`, since the first receipt.
    pub give_up_refund: Duration,
    /// `OTP_RESEND_SPACING`.
    pub otp_resend_spacing: Duration,
    /// `SETTLE_POLL`, `RETRY_MAX`: between inquiries.
    pub settle: Backoff,
    /// `SETTLE_QUIET`.
    pub settle_quiet: Duration,
    /// `SETTLE_GIVE_UP`.
    pub settle_give_up: Duration,
    /// `REFUND_MAX_ATTEMPTS`.
    pub refund_max_attempts: u32,
    /// `REFUND_PREFLIGHT=always`: inquire before a first attempt.
    pub preflight: bool,
    /// `EKO_TIMEOUT`: an attempt without an end has ended this long after its begin.
    pub call_timeout: Duration,
    /// `EKO_STAMP_TOLERANCE`: how old a call's timestamp may be when Eko accepts it.
    pub stamp_tolerance: Duration,
}

impl Policy {
    /// The same, with all give-up times later: they stand still while consumption is paused.
    pub fn extended(&self, by: Duration) -> Self {
        Self {
            give_up_otp: self.give_up_otp.saturating_add(by),
            give_up_refund: self.give_up_refund.saturating_add(by),
            settle_give_up: self.settle_give_up.saturating_add(by),
            ..self.clone()
        }
    }
}

/// Why a decision is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// The command has just come in, or its wait is over.
    Ready,
    /// Eko has just answered.
    Answered,
}

/// What time it is, and what decisions rest on.
#[derive(Clone, Copy, Debug)]
pub struct Conditions<'a> {
    /// The settings that decisions follow.
    pub policy: &'a Policy,
    /// What time it is.
    pub now: Now,
    /// Drawn evenly from 0 to 1: it spreads delays.
    pub jitter: f64,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Call the kind's endpoint.
    Attempt,
    /// Ask Eko what became of the transaction.
    Inquire,
    /// Park the command; then another attempt may be due.
    RetryAfter {
        /// How long.
        delay: Duration,
        /// What is waited out.
        cause: Cause,
    },
    /// Park the command; then inquire.
    InquireAfter {
        /// How long.
        delay: Duration,
        /// What left the outcome open.
        cause: Cause,
    },
    /// It has ended.
    Finish(Outcome),
}

/// What a decision has to know of a command besides its evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Task {
    /// What is asked of Eko.
    pub kind: Kind,
    /// After it, nothing is started any more.
    pub expiry: Option<Timestamp>,
    /// Whether its endpoint can be called.
    pub message: Message,
}

/// Whether a command's own message is at hand: without it, it can be inquired and no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// It is.
    Here,
    /// It is, but what it leaves to our settings is no longer set.
    Unreadable,
    /// It never came back from the broker: only the ledger knows of it.
    Lost,
}

impl Task {
    /// A command whose message is at hand.
    pub fn of(command: &Command) -> Self {
        Self { kind: command.kind(), expiry: command.expiry, message: Message::Here }
    }

    /// A command that only the ledger knows.
    pub const fn without(message: Message, kind: Kind) -> Self {
        Self { kind, expiry: None, message }
    }
}

/// Decides what follows from the evidence.
pub fn decide(
    task: Task,
    history: &History,
    trigger: Trigger,
    conditions: &Conditions<'_>,
) -> Step {
    let Conditions { policy, now, jitter } = *conditions;
    let age = history.age(now);
    let Task { kind, expiry, message } = task;
    let input = DecisionInput { expiry, history, policy, trigger, jitter, age, wall: now.wall };
    let step = match kind {
        Kind::Refund => refund::decide(&input),
        Kind::RefundOtp | Kind::TransferOtp => otp::decide(&input),
    };
    match (message, &step) {
        (Message::Lost, Step::Attempt | Step::RetryAfter { .. }) => {
            Step::Finish(message_lost(kind, history))
        }
        (Message::Unreadable, Step::Attempt) => input.wait_for_settings(),
        (Message::Here | Message::Unreadable | Message::Lost, _) => step,
    }
}

/// The end of a command whose message never came back: a refund only comes to this where it is
/// known not to have been executed, an OTP may have been sent.
fn message_lost(kind: Kind, history: &History) -> Outcome {
    let code = Code::MessageLost;
    if kind != Kind::Refund && history.each_attempt().any(Attempt::is_unclear) {
        let message = "its message is lost, and whether the OTP was sent is not known";
        return Outcome::Unresolved(Problem::new(code, message));
    }
    let message = "its message is lost: it never came back from the broker; not executed";
    Outcome::Failed(Problem::new(code, message))
}

/// All that one decision rests on.
struct DecisionInput<'a> {
    expiry: Option<Timestamp>,
    history: &'a History,
    policy: &'a Policy,
    trigger: Trigger,
    jitter: f64,
    /// How old the command is now.
    age: Age,
    /// What publishers' deadlines are held against.
    wall: Timestamp,
}

impl DecisionInput<'_> {
    fn has_expired(&self) -> bool {
        self.expiry.is_some_and(|expiry| self.wall >= expiry)
    }

    /// Nothing of it is executed, and it cannot be called with the settings as they are.
    fn wait_for_settings(&self) -> Step {
        let (cause, give_up) = (Cause::Misconfigured, self.policy.give_up_refund);
        if self.has_lasted(give_up) {
            return Step::Finish(failed(cause));
        }
        let delay = self.no_longer(self.policy.retry.max, give_up);
        Step::RetryAfter { delay, cause }
    }

    /// Whether `give_up` has passed since the first receipt.
    fn has_lasted(&self, give_up: Duration) -> bool {
        self.age.likely >= give_up
    }

    /// The delay before the `nth` retry: Eko's own wish counts up to the longest delay, and
    /// nobody waits beyond the deadline or the give-up time.
    fn retry_delay(&self, nth: u32, after: Option<Duration>, give_up: Duration) -> Duration {
        let wish = after.unwrap_or_default().min(self.policy.retry.max);
        self.no_longer(self.policy.retry.delay(nth, self.jitter).max(wish), give_up)
    }

    /// A delay, but not beyond the deadline or the give-up time.
    fn no_longer(&self, delay: Duration, give_up: Duration) -> Duration {
        let delay = delay.min(self.until_likely(give_up));
        match self.expiry {
            Some(expiry) => {
                delay.min(Duration::try_from(expiry.duration_since(self.wall)).unwrap_or_default())
            }
            None => delay,
        }
    }

    /// How long until the command is likely to be so old.
    fn until_likely(&self, age: Duration) -> Duration {
        age.saturating_sub(self.age.likely)
    }
}

fn expired() -> Outcome {
    let message = "its expirytime passed before Eko accepted it";
    Outcome::Expired(Problem::new(Code::DeadlinePassed, message))
}

fn failed(cause: Cause) -> Outcome {
    let message = format!("{}; given up, not executed", cause.sentence());
    Outcome::Failed(Problem::new(cause.code(), message))
}

fn unresolved(cause: Cause) -> Outcome {
    let message = format!(
        "{}; given up without knowing whether it was executed: a person must look",
        cause.sentence()
    );
    Outcome::Unresolved(Problem::new(cause.code(), message))
}

/// `time` and a duration after it; beyond the calendar's end, its end.
pub fn saturating_add(time: Timestamp, by: Duration) -> Timestamp {
    SignedDuration::try_from(by)
        .ok()
        .and_then(|by| time.checked_add(by).ok())
        .unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests;
