//! OTP calls move no money: an unclear one is sent again, a bounded number of times.

use std::time::Duration;

use super::{DecisionInput, Step, Trigger, expired, failed, saturating_add, unresolved};
use crate::history::Attempt;
use crate::outcome::{ConfirmedBy, Outcome};
use crate::verdict::{Cause, Verdict};

/// How often an OTP whose call ended unclear is sent again: each costs the customer an SMS.
const MAX_RESENDS: u32 = 3;

pub(super) fn decide(input: &DecisionInput<'_>) -> Step {
    let Some(last) = input.history.each_attempt().next_back() else {
        return if input.has_expired() { Step::Finish(expired()) } else { Step::Attempt };
    };
    match last.ended.as_ref().map(|ended| &ended.verdict) {
        Some(Verdict::Done(receipt, answer)) => Step::Finish(Outcome::Succeeded {
            confirmed_by: ConfirmedBy::Response,
            receipt: receipt.clone(),
            answer: Some(answer.clone()),
        }),
        Some(Verdict::Refused(refusal)) => Step::Finish(Outcome::Rejected(refusal.clone())),
        Some(Verdict::NotNow { cause, after }) => retry(input, *cause, *after),
        Some(Verdict::Unclear { cause, after, .. }) => resend(input, last, *cause, *after),
        None => resend(input, last, Cause::Interrupted, None),
    }
}

fn retry(input: &DecisionInput<'_>, cause: Cause, after: Option<Duration>) -> Step {
    let unclear = input.history.each_attempt().any(Attempt::is_unclear);
    let give_up = input.policy.give_up_otp;
    if input.has_expired() {
        return Step::Finish(if unclear { unresolved(cause) } else { expired() });
    }
    if input.has_lasted(give_up) {
        return Step::Finish(if unclear { unresolved(cause) } else { failed(cause) });
    }
    match input.trigger {
        Trigger::Ready => Step::Attempt,
        // Somebody else's call with the same key may have had the same timestamp: a fresh one will do.
        Trigger::Answered if is_first_refused_timestamp(input) => Step::Attempt,
        Trigger::Answered => {
            let nth = input.history.refused_for_now();
            Step::RetryAfter { delay: input.retry_delay(nth, after, give_up), cause }
        }
    }
}

/// Whether Eko refused the last attempt's timestamp, and not that of the one before.
fn is_first_refused_timestamp(input: &DecisionInput<'_>) -> bool {
    let is_refused = |attempt: &Attempt| {
        let cause = attempt.ended.as_ref().and_then(|ended| ended.verdict.cause());
        cause == Some(Cause::Clock)
    };
    let mut latest = input.history.each_attempt().rev().map(is_refused);
    latest.next() == Some(true) && latest.next() != Some(true)
}

fn resend(
    input: &DecisionInput<'_>,
    last: &Attempt,
    cause: Cause,
    after: Option<Duration>,
) -> Step {
    let resends = input.history.each_attempt().filter(|attempt| attempt.is_unclear()).count();
    let ended = last.ended.as_ref().map_or(last.age, |ended| ended.age).likely;
    let wish = after.unwrap_or_default().min(input.policy.retry.max);
    let due = ended.saturating_add(input.policy.otp_resend_spacing.max(wish));
    // It may also have come back too late: the broker or the worker was away meanwhile.
    let give_up = input.policy.give_up_otp;
    let is_given_up = due >= give_up || input.has_lasted(give_up);
    let wait = input.until_likely(due);
    let has_no_time = input.expiry.is_some_and(|expiry| saturating_add(input.wall, wait) >= expiry);
    let too_late = is_given_up || has_no_time || input.has_expired();
    if too_late || resends > MAX_RESENDS as usize {
        return Step::Finish(unresolved(cause));
    }
    if wait.is_zero() {
        return Step::Attempt;
    }
    Step::RetryAfter { delay: wait, cause }
}
