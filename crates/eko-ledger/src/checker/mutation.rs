//! Mutations that change what the order is told, or what it is given: the order itself is always
//! the real one.

use super::scenario::{Mutation, Scenario};
use super::slot::Slot;
use crate::Claim;
use eko_core::history::{Entry, History};
use eko_core::order::LeaseStatus;
use eko_core::outcome::{Answer, Code, Problem, Refusal};
use eko_core::verdict::{Cause, Verdict};

/// What the ledger says.
pub(super) fn claim(scenario: &Scenario, slot: &Slot, mut claim: Claim, now: u32) -> Claim {
    match &mut claim {
        Claim::Interrupted(claimed)
            if scenario.has(Mutation::InterruptedAsFresh) && claimed.history.in_flight() =>
        {
            claimed.history.entries.pop();
        }
        Claim::Finished { event, .. } if scenario.has(Mutation::NewEventEachTime) => {
            event.body.extend(now.to_be_bytes());
        }
        _ => {}
    }
    if let Claim::Due(claimed) | Claim::Interrupted(claimed) = &mut claim
        && slot.is_orphan
        && scenario.has(Mutation::FailOrphans)
    {
        claimed.history.entries.clear();
    }
    claim
}

/// Whether a write was accepted.
pub(super) fn held(scenario: &Scenario, held: LeaseStatus, mutation: Mutation) -> LeaseStatus {
    if scenario.has(mutation) { LeaseStatus::Held } else { held }
}

/// What is known when something is decided.
pub(super) fn evidence(scenario: &Scenario, history: &mut History) {
    if scenario.has(Mutation::OneReading)
        && let Some(Entry::Inquiry(inquiry)) = history.entries.last_mut()
    {
        inquiry.times += 1;
    }
}

/// What an answer says.
pub(super) fn verdict(scenario: &Scenario, verdict: Verdict) -> Verdict {
    let Verdict::Unclear { cause, .. } = verdict else { return verdict };
    let is_taken_for_refused = match cause {
        Cause::Unauthorized => scenario.has(Mutation::GatewayAsRefused),
        Cause::Clock => scenario.has(Mutation::ResentAsRefused),
        _ => false,
    };
    if is_taken_for_refused || scenario.has(Mutation::ResendUnclear) {
        return Verdict::not_now(cause);
    }
    if scenario.has(Mutation::FailOnTimeout) {
        let problem = Problem::new(Code::Timeout, "planted");
        return Verdict::Refused(Refusal { problem, answer: Answer::default() });
    }
    verdict
}
