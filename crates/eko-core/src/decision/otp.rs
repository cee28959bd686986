//! OTP calls move no money: an unclear one is sent again, a bounded number of times.

use std::time::Duration;

use super::{Matter, Step, Turn, expired, failed, later, unresolved};
use crate::history::Attempt;
use crate::outcome::{ConfirmedBy, Outcome};
use crate::verdict::{Cause, Verdict};

/// How often an OTP whose call ended unclear is sent again: each costs the customer an SMS.
const MAX_RESENDS: u32 = 3;

pub(super) fn decide(matter: &Matter<'_>) -> Step {
    let Some(last) = matter.history.each_attempt().next_back() else {
        return if matter.has_expired() { Step::Finish(expired()) } else { Step::Attempt };
    };
    match last.ended.as_ref().map(|ended| &ended.verdict) {
        Some(Verdict::Done(receipt, answer)) => Step::Finish(Outcome::Succeeded {
            confirmed_by: ConfirmedBy::Response,
            receipt: receipt.clone(),
            answer: Some(answer.clone()),
        }),
        Some(Verdict::Refused(refusal)) => Step::Finish(Outcome::Rejected(refusal.clone())),
        Some(Verdict::NotNow { cause, after }) => retry(matter, *cause, *after),
        Some(Verdict::Unclear { cause, after, .. }) => resend(matter, last, *cause, *after),
        None => resend(matter, last, Cause::Interrupted, None),
    }
}

fn retry(matter: &Matter<'_>, cause: Cause, after: Option<Duration>) -> Step {
    let unclear = matter.history.each_attempt().any(Attempt::is_unclear);
    let give_up = matter.policy.give_up_otp;
    if matter.has_expired() {
        return Step::Finish(if unclear { unresolved(cause) } else { expired() });
    }
    if matter.has_lasted(give_up) {
        return Step::Finish(if unclear { unresolved(cause) } else { failed(cause) });
    }
    match matter.turn {
        Turn::Ready => Step::Attempt,
        // Somebody else's call with the same key may have had the same timestamp: a fresh one will do.
        Turn::Answered if is_first_refused_timestamp(matter) => Step::Attempt,
        Turn::Answered => {
            let nth = matter.history.refused_for_now();
            Step::RetryAfter { delay: matter.retry_delay(nth, after, give_up), cause }
        }
    }
}

/// Whether Eko refused the last attempt's timestamp, and not that of the one before.
fn is_first_refused_timestamp(matter: &Matter<'_>) -> bool {
    let is_refused = |attempt: &Attempt| {
        let cause = attempt.ended.as_ref().and_then(|ended| ended.verdict.cause());
        cause == Some(Cause::Clock)
    };
    let mut latest = matter.history.each_attempt().rev().map(is_refused);
    latest.next() == Some(true) && latest.next() != Some(true)
}

fn resend(matter: &Matter<'_>, last: &Attempt, cause: Cause, after: Option<Duration>) -> Step {
    let resends = matter.history.each_attempt().filter(|attempt| attempt.is_unclear()).count();
    let ended = last.ended.as_ref().map_or(last.age, |ended| ended.age).likely;
    let wish = after.unwrap_or_default().min(matter.policy.retry.max);
    let due = ended.saturating_add(matter.policy.otp_resend_spacing.max(wish));
    // It may also have come back too late: the broker or the worker was away meanwhile.
    let give_up = matter.policy.give_up_otp;
    let is_given_up = due >= give_up || matter.has_lasted(give_up);
    let wait = matter.until_likely(due);
    let has_no_time = matter.expiry.is_some_and(|expiry| later(matter.wall, wait) >= expiry);
    let too_late = is_given_up || has_no_time || matter.has_expired();
    if too_late || resends > MAX_RESENDS as usize {
        return Step::Finish(unresolved(cause));
    }
    if wait.is_zero() {
        return Step::Attempt;
    }
    Step::RetryAfter { delay: wait, cause }
}
