//! A refund is executed at most once: an unclear one is inquired before anything else.

use std::time::Duration;

use jiff::Timestamp;

use super::{Matter, Step, Turn, expired, failed, later, unresolved};
use crate::history::{Attempt, Entry, Inquiry, Why};
use crate::outcome::{Answer, Code, ConfirmedBy, Outcome, Receipt, Refusal};
use crate::verdict::{Cause, IfNot, Reading, Verdict};

/// How many readings must agree before "not executed" is believed.
const READINGS: u32 = 2;

pub(super) fn decide(matter: &Matter<'_>) -> Step {
    if let Some(outcome) = seen_refunded(matter) {
        return Step::Finish(outcome);
    }
    if let Some(doubt) = Doubt::of(matter) {
        return settle(matter, &doubt);
    }
    match last_verdict(matter) {
        Some(Verdict::Refused(refusal)) => Step::Finish(Outcome::Rejected(refusal.clone())),
        Some(Verdict::NotNow { cause, after }) => retry(matter, *cause, *after),
        Some(Verdict::Done(..) | Verdict::Unclear { .. }) | None => start(matter),
    }
}

fn last_verdict<'a>(matter: &'a Matter<'_>) -> Option<&'a Verdict> {
    let last = matter.history.each_attempt().next_back()?;
    last.ended.as_ref().map(|ended| &ended.verdict)
}

/// The success that an answer or an inquiry has proven.
fn seen_refunded(matter: &Matter<'_>) -> Option<Outcome> {
    let (confirmed_by, receipt, answer) = matter.history.entries.iter().rev().find_map(proof)?;
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
fn start(matter: &Matter<'_>) -> Step {
    if matter.has_expired() {
        return Step::Finish(expired());
    }
    let Some(reading) = last_reading(matter) else {
        return if matter.policy.preflight { Step::Inquire } else { Step::Attempt };
    };
    match reading {
        // Nobody has asked for this refund yet as far as we know: Eko itself judges.
        Reading::RefundPending | Reading::Succeeded | Reading::Failed | Reading::NotFound => {
            Step::Attempt
        }
        Reading::Refunded(..)
        | Reading::InProgress
        | Reading::Contradictory
        | Reading::NoAnswer(_) => wait_for_reading(matter, Cause::Pending),
    }
}

/// Another attempt after one that is known not to have been executed.
fn retry(matter: &Matter<'_>, cause: Cause, after: Option<Duration>) -> Step {
    let give_up = matter.policy.give_up_refund;
    if matter.has_expired() {
        return Step::Finish(expired());
    }
    if matter.has_lasted(give_up) {
        return Step::Finish(failed(cause));
    }
    let nth = matter.history.refused_for_now();
    let wait = Step::RetryAfter { delay: matter.retry_delay(nth, after, give_up), cause };
    // Another transaction of the user in progress may be this very refund.
    let inquire_first = cause == Cause::InProgress;
    match (matter.turn, last_reading(matter)) {
        (Turn::Answered, None) => wait,
        (Turn::Ready, _) if inquire_first => Step::Inquire,
        (Turn::Ready, _) | (Turn::Answered, Some(Reading::RefundPending)) => Step::Attempt,
        (Turn::Answered, Some(_)) => wait_for_reading(matter, cause),
    }
}

/// Parks until the next inquiry of a refund that no attempt of ours leaves open.
fn wait_for_reading(matter: &Matter<'_>, cause: Cause) -> Step {
    if matter.turn == Turn::Ready {
        return Step::Inquire;
    }
    let give_up = matter.policy.give_up_refund;
    if matter.has_lasted(give_up) {
        return Step::Finish(failed(cause));
    }
    let delay = matter.policy.settle.delay(inquiries(&matter.history.entries), matter.chance);
    Step::InquireAfter { delay: matter.no_longer(delay, give_up), cause }
}

fn last_reading<'a>(matter: &'a Matter<'_>) -> Option<&'a Reading> {
    match matter.history.entries.last()? {
        Entry::Inquiry(inquiry) => Some(&inquiry.reading),
        Entry::Attempt(_) | Entry::Suspicion(_) => None,
    }
}

/// A refund that may have been executed.
struct Doubt<'a> {
    /// The latest time at which the attempt in doubt can have ended.
    since: Timestamp,
    cause: Cause,
    after: Option<Duration>,
    if_not: IfNot,
    /// What was seen since: inquiries only.
    seen: &'a [Entry],
}

impl<'a> Doubt<'a> {
    /// The last attempt, or suspicion of one, if it may have been executed.
    fn of(matter: &'a Matter<'_>) -> Option<Self> {
        let entries = &matter.history.entries;
        let last = entries.iter().rposition(|entry| !matches!(entry, Entry::Inquiry(_)))?;
        let seen = entries.get(last + 1..).unwrap_or_default();
        let (since, cause, after, if_not) = match entries.get(last)? {
            Entry::Inquiry(_) => return None,
            Entry::Suspicion(suspicion) => {
                let cause = match suspicion.why {
                    Why::Redelivered | Why::LedgerAdopted | Why::LedgerForgot => Cause::Interrupted,
                    Why::TidDoubted => Cause::Timeout,
                };
                (suspicion.at, cause, None, IfNot::Repeat)
            }
            Entry::Attempt(Attempt { began, ended: None }) => {
                let since = later(*began, matter.policy.call_timeout);
                (since, Cause::Interrupted, None, IfNot::Repeat)
            }
            Entry::Attempt(Attempt { ended: Some(ended), .. }) => match &ended.verdict {
                Verdict::Unclear { cause, after, if_not } => {
                    (ended.at, *cause, *after, if_not.clone())
                }
                Verdict::Refused(refusal) => {
                    // An earlier attempt may have used the OTP: its success would look
                    // like a refusal now.
                    let cause = earlier_doubt(entries.get(..last)?)?;
                    (ended.at, cause, None, IfNot::Refuse(refusal.clone()))
                }
                Verdict::Done(..) | Verdict::NotNow { .. } => return None,
            },
        };
        Some(Self { since, cause, after, if_not, seen })
    }

    /// Whether the readings prove that it was not executed: the last ones agree, and the
    /// latest of them came when nothing of the attempt can still have been under way.
    fn is_disproven(&self, quiet: Duration) -> bool {
        let mut latest = None;
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
            latest = latest.max(Some(inquiry.last));
            agreeing += inquiry.times;
        }
        agreeing >= READINGS && latest >= Some(later(self.since, quiet))
    }

    fn disproves(&self, reading: &Reading) -> bool {
        match (reading, &self.if_not) {
            (_, IfNot::Wait) => false,
            (Reading::RefundPending, _) => true,
            // A transfer that succeeded is what Eko means by "not refundable".
            (Reading::Succeeded, IfNot::Refuse(refusal)) => {
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

fn settle(matter: &Matter<'_>, doubt: &Doubt<'_>) -> Step {
    let policy = matter.policy;
    if doubt.is_disproven(policy.settle_quiet) {
        return not_executed(matter, doubt);
    }
    let seen = inquiries(doubt.seen);
    let gave_up = matter.now >= later(doubt.since, policy.settle_give_up);
    match matter.turn {
        Turn::Ready => Step::Inquire,
        Turn::Answered if seen == 0 && doubt.after.is_none() => Step::Inquire,
        Turn::Answered if gave_up => Step::Finish(unresolved(doubt.cause)),
        Turn::Answered => {
            Step::InquireAfter { delay: poll_delay(matter, doubt, seen), cause: doubt.cause }
        }
    }
}

/// The wait before the next inquiry: growing, but no longer than until the last reading that
/// is missing, or the give-up time.
fn poll_delay(matter: &Matter<'_>, doubt: &Doubt<'_>, seen: u32) -> Duration {
    let policy = matter.policy;
    let wish = doubt.after.filter(|_| seen == 0).unwrap_or_default().min(policy.retry.max);
    let mut delay = policy.settle.delay(seen.max(1), matter.chance).max(wish);
    let pending = doubt.seen.last().is_some_and(
        |entry| matches!(entry, Entry::Inquiry(inquiry) if doubt.disproves(&inquiry.reading)),
    );
    if pending {
        let quiet = matter.until(later(doubt.since, policy.settle_quiet));
        delay = delay.min(quiet.max(policy.settle.initial));
    }
    delay.min(matter.until(later(doubt.since, policy.settle_give_up)))
}

fn not_executed(matter: &Matter<'_>, doubt: &Doubt<'_>) -> Step {
    if let IfNot::Refuse(refusal) = &doubt.if_not {
        return Step::Finish(Outcome::Rejected(Refusal::clone(refusal)));
    }
    let unclear = matter.history.each_attempt().filter(|attempt| attempt.is_unclear()).count();
    if matter.has_expired() {
        return Step::Finish(expired());
    }
    if unclear >= matter.policy.refund_max_attempts as usize {
        return Step::Finish(failed(doubt.cause));
    }
    Step::Attempt
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
