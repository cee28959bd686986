//! What pauses a kind beside its calls, and what lets it through again.

use jiff::{SignedDuration, Timestamp};

use super::{Mispaired, Reason};
use crate::command::Kind;
use crate::ledger;
use crate::worker::Worker;

impl Worker {
    /// Pauses a kind for a reason that no call of Eko tells.
    pub(crate) fn pause(&self, kind: Kind, reason: Reason) {
        self.breakers.pause(kind, reason, self.now().monotonic);
    }

    /// Lets commands of a kind through again.
    pub(crate) fn resume(&self, kind: Kind) {
        self.breakers.resume(kind, self.now().monotonic);
    }

    /// Notes why nothing may be consumed, and pauses all kinds; or that the queues are this ledger's.
    pub(crate) fn pair(&self, problem: Option<Mispaired>) {
        let is_mispaired = problem.is_some();
        let had_problem = self.breakers.note_pairing(problem);
        if is_mispaired {
            self.breakers.pause_all(Reason::Ledger, self.now().monotonic);
        } else if had_problem {
            self.breakers.probe_now();
        }
    }

    /// Pauses all kinds until the ledger can be written.
    pub(crate) fn pause_for_ledger(&self, error: &ledger::Error) {
        self.breakers.note_ledger(Some(error.clone()));
        if self.breakers.pause_all(Reason::Ledger, self.now().monotonic) {
            tracing::error!(
                %error,
                "the ledger failed: all kinds are paused, and are resumed when it can be written"
            );
        }
    }

    /// Notes Eko's clock less ours, where its answer told it; pauses all kinds where they are too far
    /// apart.
    pub(crate) fn note_skew(&self, skew: Option<f64>) {
        let Some(skew) = skew else { return };
        self.metrics.skewed(skew);
        if self.breakers.saw_clock(skew, self.now()) {
            tracing::error!(
                skew_seconds = skew,
                "Eko's clock and ours are too far apart: Eko would soon refuse our timestamps; all \
                 kinds are paused until they agree"
            );
        }
    }

    /// The wall clock was set: what rests on it is asked again. How long something took does not.
    pub(crate) fn clock_stepped(&self, step: SignedDuration) {
        self.metrics.clock_stepped();
        tracing::warn!(
            step_seconds = step.as_secs_f64(),
            "the wall clock was set; waiting times do not change, since another clock measures them; \
             Eko's clock is compared again"
        );
        self.breakers.forget_skew();
        self.breakers.probe_now();
    }

    /// What time it is, as far as Eko has confirmed our clock.
    pub(crate) fn agreed_time(&self) -> Option<Timestamp> {
        self.breakers.agreed_time(self.now())
    }
}
