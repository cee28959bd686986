//! What an operator has paused by hand: for all workers of the ledger, until an operator resumes it.

use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use super::circuit_breaker::Held;
use super::{Breakers, Reason};
use crate::command::Kind;
use crate::ledger::OperatorPause;
use crate::worker::Worker;

impl Breakers {
    /// Notes which kinds an operator has paused; which ones were until now.
    pub(super) fn note_operator_pauses(
        &self,
        pauses: Vec<OperatorPause>,
        now: Duration,
    ) -> Vec<OperatorPause> {
        let mut known = self.operator();
        for kind in Kind::ALL {
            let is_held = pauses.iter().any(|pause| pause.kind == kind);
            self.breaker(kind).hold(if is_held { Held::Open } else { Held::Free }, now);
        }
        std::mem::replace(&mut *known, pauses)
    }

    /// Which kinds an operator has paused.
    pub(crate) fn operator_pauses(&self) -> Vec<OperatorPause> {
        self.operator().clone()
    }

    /// Whether an operator has paused a kind: then no attempt begins, also of what is in hand.
    pub(crate) fn is_held(&self, kind: Kind) -> bool {
        self.breaker(kind).is_held()
    }

    /// Waits until an operator's pause is not what counts for a kind.
    pub(crate) async fn until_released(&self, kind: Kind) {
        let is_other = |reason: Option<Reason>| reason != Some(Reason::Operator);
        let mut paused = self.breaker(kind).watch();
        // It ends with the process.
        paused.wait_for(|pause| is_other(pause.map(|pause| pause.reason))).await.ok();
    }

    fn operator(&self) -> MutexGuard<'_, Vec<OperatorPause>> {
        self.operator.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Worker {
    /// Notes which kinds an operator has paused, and says what has changed.
    pub(crate) fn note_operator_pauses(&self, pauses: Vec<OperatorPause>) {
        let known = self.breakers.note_operator_pauses(pauses.clone(), self.now().monotonic);
        for OperatorPause { kind, since, person, reason } in &pauses {
            if !known.iter().any(|pause| pause.kind == *kind && pause.since == *since) {
                tracing::warn!(
                    kind = kind.as_str(),
                    person,
                    reason,
                    since = %since,
                    "an operator has paused the kind: no attempt begins until an operator resumes it"
                );
            }
        }
        for OperatorPause { kind, person, reason, .. } in &known {
            if !pauses.iter().any(|pause| pause.kind == *kind) {
                tracing::warn!(
                    kind = kind.as_str(),
                    paused_by = person,
                    paused_for = reason,
                    "an operator has resumed the kind"
                );
            }
        }
    }
}
