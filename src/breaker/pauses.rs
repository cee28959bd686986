//! What pauses a kind beside its calls, and what lets it through again.

use jiff::{SignedDuration, Timestamp};

use super::{Breakers, Mispaired, Reason};
use crate::clock::Now;
use crate::command::Kind;
use crate::ledger;
use crate::verdict::Cause;
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

    /// Notes Eko's clock less this host's, where its answer told it; pauses all kinds where the
    /// ledger's clock, which gives the timestamps, is too far from Eko's. Gives Eko's clock less the
    /// ledger's.
    pub(crate) fn note_skew(&self, skew: Option<f64>) -> Option<f64> {
        let (skew, now) = (skew?, self.now());
        // Every call had a block of timestamps. After this host's clock was set, the next block tells.
        let ours = self.breakers.timestamps().ledger_time()?;
        let skew = skew - ours.duration_since(now.wall).as_secs_f64();
        self.metrics.skewed(skew);
        if self.breakers.saw_clock(skew, Now { wall: ours, ..now }) {
            tracing::error!(
                skew_seconds = skew,
                "Eko's clock and the ledger's are too far apart: Eko would soon refuse our \
                 timestamps; all kinds are paused until they agree"
            );
        }
        Some(skew)
    }

    /// Notes that Eko refused a timestamp though its clock and the ledger's agree, if it did: nobody of
    /// those that share the ledger has used it.
    pub(crate) fn note_timestamp(&self, kind: Kind, cause: Option<Cause>, skew: Option<f64>) {
        if cause != Some(Cause::Clock) || !skew.is_some_and(Breakers::is_right) {
            return;
        }
        self.metrics.timestamp_refused(kind);
        if self.breakers.refused_timestamp.is_due(self.now().monotonic) {
            tracing::warn!(
                kind = kind.as_str(),
                "Eko refused a timestamp as used before, and its clock agrees with the ledger's: \
                 somebody else uses the same key, such as a worker with another ledger; a refund \
                 is inquired and then sent again"
            );
        }
    }

    /// All timestamps that may be taken now are taken.
    pub(crate) fn tell_full(&self) {
        if self.breakers.no_timestamps.is_due(self.now().monotonic) {
            tracing::warn!(
                "calls wait: the timestamps of the next minute are taken; the workers of Eko's key make \
                 more calls than it bears, or the ledger's clock was set back"
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
        self.breakers.timestamps().forget();
        self.breakers.probe_now();
    }

    /// What time it is, as far as Eko has confirmed our clock.
    pub(crate) fn agreed_time(&self) -> Option<Timestamp> {
        self.breakers.agreed_time(self.now())
    }
}
