//! A refund is executed at most once: an unclear one is inquired before anything else.

use std::time::Duration;

use jiff::Timestamp;

use super::{DecisionInput, Policy, Step, Trigger, expired, failed, saturating_add, unresolved};
use crate::history::{Age, Attempt, Entry, Inquiry, Signed, Suspicion, SuspicionReason};
use crate::outcome::{Answer, Code, ConfirmedBy, Outcome, Receipt, Refusal};
use crate::verdict::{Cause, Fallback, Reading, Verdict};

/// How many readings must agree before "not executed" is believed.
const READINGS: u32 = 2;

pub(super) fn decide(input: &DecisionInput<'_>) -> Step {
    if let Some(outcome) = seen_refunded(input) {
        return Step::Finish(outcome);
    }
    if let Some(doubt) = Doubt::of(input) {
        return settle(input, &doubt);
    }
    match last_verdict(input) {
        Some(Verdict::Refused(refusal)) => Step::Finish(Outcome::Rejected(refusal.clone())),
        Some(Verdict::NotNow { cause, after }) => retry(input, *cause, *after),
        Some(Verdict::Done(..) | Verdict::Unclear { .. }) | None => start(input),
    }
}

fn last_verdict<'a>(input: &'a DecisionInput<'_>) -> Option<&'a Verdict> {
    let last = input.history.each_attempt().next_back()?;
    last.ended.as_ref().map(|ended| &ended.verdict)
}

/// The success that an answer or an inquiry has proven.
fn seen_refunded(input: &DecisionInput<'_>) -> Option<Outcome> {
    let (confirmed_by, receipt, answer) = input.history.entries.iter().rev().find_map(proof)?;
    let (receipt, answer) = (receipt.clone(), Some(answer.clone()));
    Some(Outcome::Succeeded { confirmed_by, receipt, answer })
}

fn proof(entry: &Entry) -> Option<(ConfirmedBy, &Receipt, &Answer)> {
    match entry {
        Entry::Attempt(Attempt { ended: Some(ended), .. }) => match &ended.verdict {
            Verdict::Done(receipt, answer) => Some((ConfirmedBy::Response, receipt, answer)),
            Verdict::Refused(_) | Verdict::NotNow { .. } | Verdict::Unclear { .. } => None,
        },
        Entry::Inquiry(Inquiry { reading: Reading::Refunded(receipt, answer), .. }) => {
            Some((ConfirmedBy::Inquiry, receipt, answer))
        }
        Entry::Attempt(_) | Entry::Inquiry(_) | Entry::Suspicion(_) => None,
    }
}

/// A first attempt, with an inquiry before it where the settings ask for one.
fn start(input: &DecisionInput<'_>) -> Step {
    if input.has_expired() {
        return Step::Finish(expired());
    }
    let Some(reading) = last_reading(input) else {
        return if input.policy.preflight { Step::Inquire } else { Step::Attempt };
    };
    match reading {
        Reading::RefundPending => after_preflight(input),
        // Nobody has asked for this refund yet as far as we know: Eko itself judges.
        Reading::Succeeded | Reading::Failed | Reading::NotFound => Step::Attempt,
        Reading::Refunded(..)
        | Reading::InProgress
        | Reading::Contradictory
        | Reading::NoAnswer(_) => wait_for_reading(input, Cause::Pending),
    }
}

/// Who inquires before a first attempt suspects somebody else's: the same rule holds as for any
/// call that may still be executed.
fn after_preflight(input: &DecisionInput<'_>) -> Step {
    let since = Suspicion {
        at: input.history.first_received,
        age: Age::default(),
        before: Duration::ZERO,
        why: SuspicionReason::Redelivered,
    };
    let doubt = Doubt {
        over: Over::of_suspicion(&since, input.policy),
        since: Age::default(),
        cause: Cause::Pending,
        after: None,
        fallback: Fallback::Repeat,
        seen: &input.history.entries,
    };
    if doubt.is_disproven() { Step::Attempt } else { wait_for_reading(input, Cause::Pending) }
}

/// Another attempt after one that is known not to have been executed: not a byte of it left.
fn retry(input: &DecisionInput<'_>, cause: Cause, after: Option<Duration>) -> Step {
    let give_up = input.policy.give_up_refund;
    if input.has_expired() {
        return Step::Finish(expired());
    }
    if input.has_lasted(give_up) {
        return Step::Finish(failed(cause));
    }
    let nth = input.history.refused_for_now();
    // What an older version took for refused may be this very refund, in progress.
    let inquire_first = cause == Cause::InProgress;
    match (input.trigger, last_reading(input)) {
        (Trigger::Answered, None) => {
            Step::RetryAfter { delay: input.retry_delay(nth, after, give_up), cause }
        }
        (Trigger::Ready, _) if inquire_first => Step::Inquire,
        (Trigger::Ready, _) | (Trigger::Answered, Some(Reading::RefundPending)) => Step::Attempt,
        (Trigger::Answered, Some(_)) => wait_for_reading(input, cause),
    }
}

/// Parks until the next inquiry of a refund that no attempt of ours leaves open.
fn wait_for_reading(input: &DecisionInput<'_>, cause: Cause) -> Step {
    if input.trigger == Trigger::Ready {
        return Step::Inquire;
    }
    let give_up = input.policy.give_up_refund;
    if input.has_lasted(give_up) {
        return Step::Finish(failed(cause));
    }
    let delay = input.policy.settle.delay(inquiries(&input.history.entries), input.jitter);
    Step::InquireAfter { delay: input.no_longer(delay, give_up), cause }
}

fn last_reading<'a>(input: &'a DecisionInput<'_>) -> Option<&'a Reading> {
    match input.history.entries.last()? {
        Entry::Inquiry(inquiry) => Some(&inquiry.reading),
        Entry::Attempt(_) | Entry::Suspicion(_) => None,
    }
}

/// When a call can no longer be executed.
///
/// Eko executes a call as long as its timestamp is not older than `EKO_STAMP_TOLERANCE`, whoever
/// held it on its way, and may begin to at the last moment: `SETTLE_QUIET` is for that.
struct Over {
    /// How old the command is then, as it was measured.
    age: Duration,
    /// What Eko's own clock says then.
    eko_time: Timestamp,
}

impl Over {
    fn of_attempt(attempt: &Attempt, policy: &Policy) -> Self {
        let lasting = policy.stamp_tolerance.saturating_add(policy.settle_quiet);
        let ended = attempt.ended.as_ref().map_or(attempt.age, |ended| ended.age);
        let no_earlier = ended.proven.saturating_add(policy.settle_quiet);
        let (age, eko_time) = match attempt.signed {
            Some(Signed { stamp, lead }) => {
                let signed = Timestamp::from_millisecond(stamp).unwrap_or(attempt.began);
                (
                    shifted(attempt.age.proven.saturating_add(lasting), lead),
                    saturating_add(signed, lasting),
                )
            }
            // An older version signed when it sent, up to `EKO_TIMEOUT` later.
            None => {
                let lasting = lasting.saturating_add(policy.call_timeout);
                (attempt.age.proven.saturating_add(lasting), saturating_add(attempt.began, lasting))
            }
        };
        Self { age: age.max(no_earlier), eko_time }
    }

    /// Somebody else's attempt, of which nothing is known but when it began at the latest. An
    /// older version may have signed it when it sent it.
    fn of_suspicion(suspicion: &Suspicion, policy: &Policy) -> Self {
        let lasting = policy.stamp_tolerance.saturating_add(policy.settle_quiet);
        let lasting = lasting.saturating_add(policy.call_timeout).saturating_sub(suspicion.before);
        let age = suspicion.age.proven.saturating_add(lasting);
        Self { age, eko_time: saturating_add(suspicion.at, lasting) }
    }

    /// Whether an inquiry was asked after it.
    fn is_before(&self, inquiry: &Inquiry) -> bool {
        inquiry.age.proven >= self.age
            && inquiry.eko_time.is_none_or(|eko_time| eko_time >= self.eko_time)
    }
}

/// A time, so many milliseconds later; earlier where they are negative.
fn shifted(time: Duration, milliseconds: i64) -> Duration {
    let by = Duration::from_millis(milliseconds.unsigned_abs());
    if milliseconds < 0 { time.saturating_sub(by) } else { time.saturating_add(by) }
}

/// A refund that may have been executed.
struct Doubt<'a> {
    /// When the call in doubt can no longer be executed.
    over: Over,
    /// How old the command was when the call began.
    since: Age,
    cause: Cause,
    after: Option<Duration>,
    fallback: Fallback,
    /// What was seen since: inquiries only.
    seen: &'a [Entry],
}

impl<'a> Doubt<'a> {
    /// The last attempt, or suspicion of one, if it may have been executed.
    fn of(input: &'a DecisionInput<'_>) -> Option<Self> {
        Self::among(&input.history.entries, input.policy)
    }

    fn among(entries: &'a [Entry], policy: &Policy) -> Option<Self> {
        let last = entries.iter().rposition(|entry| !matches!(entry, Entry::Inquiry(_)))?;
        let (before, seen) = (entries.get(..last)?, entries.get(last + 1..).unwrap_or_default());
        let attempt = match entries.get(last)? {
            Entry::Inquiry(_) => return None,
            Entry::Suspicion(suspicion) => {
                let earlier = Self::among(before, policy).filter(|doubt| !doubt.is_disproven());
                let doubt = Self::of_suspicion(suspicion, policy, seen);
                return Some(match earlier {
                    Some(earlier) => doubt.beside(earlier),
                    None => doubt,
                });
            }
            Entry::Attempt(attempt) => attempt,
        };
        let (cause, after, fallback) = match attempt.ended.as_ref().map(|ended| &ended.verdict) {
            None => (Cause::Interrupted, None, Fallback::Repeat),
            Some(Verdict::Unclear { cause, after, fallback }) => (*cause, *after, fallback.clone()),
            // An earlier attempt may have used the OTP: its success would look like a refusal now.
            Some(Verdict::Refused(refusal)) => {
                (earlier_doubt(before)?, None, Fallback::Refuse(refusal.clone()))
            }
            Some(Verdict::Done(..) | Verdict::NotNow { .. }) => return None,
        };
        let (over, since) = (Over::of_attempt(attempt, policy), attempt.age);
        Some(Self { over, since, cause, after, fallback, seen })
    }

    fn of_suspicion(suspicion: &Suspicion, policy: &Policy, seen: &'a [Entry]) -> Self {
        let cause = match suspicion.why {
            SuspicionReason::Redelivered
            | SuspicionReason::LedgerAdopted
            | SuspicionReason::LedgerForgot => Cause::Interrupted,
            SuspicionReason::TidDoubted => Cause::Timeout,
        };
        let (over, since) = (Over::of_suspicion(suspicion, policy), suspicion.age);
        Self { over, since, cause, after: None, fallback: Fallback::Repeat, seen }
    }

    /// The same where an attempt of ours was in doubt before: both must be over, and what follows
    /// from that attempt's own answer stays.
    fn beside(self, earlier: Self) -> Self {
        let over = Over {
            age: self.over.age.max(earlier.over.age),
            eko_time: self.over.eko_time.max(earlier.over.eko_time),
        };
        Self { over, seen: self.seen, ..earlier }
    }

    /// Whether the readings prove that it was not executed: the last ones agree, and the latest of
    /// them was asked for when the call could no longer be executed.
    fn is_disproven(&self) -> bool {
        let mut is_over = false;
        let mut agreeing = 0;
        for entry in self.seen.iter().rev() {
            let Entry::Inquiry(inquiry) = entry else {
                break;
            };
            if matches!(inquiry.reading, Reading::NoAnswer(_)) {
                continue;
            }
            if !self.disproves(&inquiry.reading) {
                break;
            }
            is_over |= self.over.is_before(inquiry);
            agreeing += inquiry.times;
        }
        is_over && agreeing >= READINGS
    }

    fn disproves(&self, reading: &Reading) -> bool {
        match (reading, &self.fallback) {
            (_, Fallback::Wait) => false,
            (Reading::RefundPending, _) => true,
            // A transfer that succeeded is what Eko means by "not refundable".
            (Reading::Succeeded, Fallback::Refuse(refusal)) => {
                refusal.problem.code == Code::NotRefundable
            }
            _ => false,
        }
    }
}

/// The cause of the last doubt among these entries.
fn earlier_doubt(entries: &[Entry]) -> Option<Cause> {
    entries.iter().rev().find_map(|entry| match entry {
        Entry::Inquiry(_) => None,
        Entry::Suspicion(_) | Entry::Attempt(Attempt { ended: None, .. }) => {
            Some(Cause::Interrupted)
        }
        Entry::Attempt(Attempt { ended: Some(ended), .. }) => match &ended.verdict {
            Verdict::Unclear { cause, .. } => Some(*cause),
            Verdict::Done(..) | Verdict::Refused(_) | Verdict::NotNow { .. } => None,
        },
    })
}

fn settle(input: &DecisionInput<'_>, doubt: &Doubt<'_>) -> Step {
    if doubt.is_disproven() {
        return not_executed(input, doubt);
    }
    let seen = inquiries(doubt.seen);
    match input.trigger {
        Trigger::Ready => Step::Inquire,
        Trigger::Answered if seen == 0 && doubt.after.is_none() => Step::Inquire,
        Trigger::Answered if until_given_up(input, doubt).is_zero() => {
            Step::Finish(unresolved(doubt.cause))
        }
        Trigger::Answered => {
            Step::InquireAfter { delay: poll_delay(input, doubt, seen), cause: doubt.cause }
        }
    }
}

/// How long a doubt may still last.
fn until_given_up(input: &DecisionInput<'_>, doubt: &Doubt<'_>) -> Duration {
    input.until_likely(doubt.since.likely.saturating_add(input.policy.settle_give_up))
}

/// The wait before the next inquiry: growing, but no longer than until the last reading that
/// is missing, or the give-up time.
fn poll_delay(input: &DecisionInput<'_>, doubt: &Doubt<'_>, seen: u32) -> Duration {
    let policy = input.policy;
    let wish = doubt.after.filter(|_| seen == 0).unwrap_or_default().min(policy.retry.max);
    let mut delay = policy.settle.delay(seen.max(1), input.jitter).max(wish);
    let pending = doubt.seen.last().is_some_and(
        |entry| matches!(entry, Entry::Inquiry(inquiry) if doubt.disproves(&inquiry.reading)),
    );
    if pending {
        let over = doubt.over.age.saturating_sub(input.age.proven);
        delay = delay.min(over.max(policy.settle.initial));
    }
    delay.min(until_given_up(input, doubt))
}

fn not_executed(input: &DecisionInput<'_>, doubt: &Doubt<'_>) -> Step {
    if let Fallback::Refuse(refusal) = &doubt.fallback {
        return Step::Finish(Outcome::Rejected(Refusal::clone(refusal)));
    }
    if input.has_expired() {
        return Step::Finish(expired());
    }
    let silent = input.history.each_attempt().filter(|attempt| was_silent(attempt)).count();
    let is_given_up = input.has_lasted(input.policy.give_up_refund);
    if is_given_up || silent >= input.policy.refund_max_attempts as usize {
        return Step::Finish(failed(doubt.cause));
    }
    Step::Attempt
}

/// Whether an attempt may have been executed and nobody said why it was not: what our own setup or
/// an outage of Eko refuses is tried until the give-up time instead.
fn was_silent(attempt: &Attempt) -> bool {
    match attempt.ended.as_ref().map(|ended| &ended.verdict) {
        None => true,
        Some(Verdict::Unclear { cause, .. }) => match cause {
            Cause::Network
            | Cause::Timeout
            | Cause::BadResponse
            | Cause::Pending
            | Cause::Interrupted => true,
            Cause::EkoUnavailable
            | Cause::BankUnavailable
            | Cause::InProgress
            | Cause::RateLimited
            | Cause::Unauthorized
            | Cause::Clock
            | Cause::Misconfigured => false,
        },
        Some(Verdict::Done(..) | Verdict::Refused(_) | Verdict::NotNow { .. }) => false,
    }
}

fn inquiries(entries: &[Entry]) -> u32 {
    entries
        .iter()
        .map(|entry| match entry {
            Entry::Inquiry(inquiry) => inquiry.times,
            Entry::Attempt(_) | Entry::Suspicion(_) => 0,
        })
        .sum()
}
