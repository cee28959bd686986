//! What a paused worker does: probe Eko or the ledger.

use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;

use super::{Worker, random_f64};
use crate::command::{Account, Kind};
use crate::credential::Credential;
use crate::gate::{Gate, HealthSignal, Reason};
use crate::ledger;
use crate::verdict::{Cause, Reading};

/// Why nothing may be consumed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mispaired {
    /// The queues belong to another ledger, as this sentence says.
    OtherLedger(String),
    /// Another worker holds the queues, as this sentence says.
    HeldElsewhere(String),
    /// Another server has taken over as the ledger's, as this sentence says.
    OldPrimary(String),
}

impl Mispaired {
    /// One sentence for whoever has to settle it.
    pub(crate) fn why(&self) -> &str {
        match self {
            Self::OtherLedger(why) | Self::HeldElsewhere(why) | Self::OldPrimary(why) => why,
        }
    }
}

impl Worker {
    /// Waits before the next probe: backoff from `RETRY_INITIAL` to `RETRY_MAX`, unless an
    /// operator has changed a key since these requests were last looked at.
    pub(crate) async fn until_next_probe(&self, kind: Kind, requests: &mut watch::Receiver<()>) {
        let wait = self.policy.retry.delay(self.gate.next_probe(kind), random_f64());
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            _ = requests.changed() => {}
        }
    }

    /// Reads the key files again at once, as an operator asked for, and says what came of it; whether
    /// there are any.
    pub(crate) fn reread_keys_now(&self) -> bool {
        self.eko.refresh_keys(Credential::refresh_as_asked);
        self.gate.probe_now();
        self.eko.has_key_files()
    }

    /// The wall clock was set: what rests on it is asked again. How long something took does not.
    pub(crate) fn clock_stepped(&self, step: SignedDuration) {
        self.metrics.clock_stepped();
        tracing::warn!(
            step_seconds = step.as_secs_f64(),
            "the wall clock was set; waiting times are measured by another clock and go on, and \
             Eko's clock is compared again"
        );
        self.gate.forget_skew();
        self.gate.probe_now();
    }

    /// What time it is, as far as Eko has confirmed our clock.
    pub(crate) fn agreed_time(&self) -> Option<Timestamp> {
        self.gate.agreed_time(self.now())
    }

    /// Whether what paused a kind is over, as far as a probe tells; or whether a command
    /// is to show it.
    pub(crate) async fn probe(&self, kind: Kind, reason: Reason) -> bool {
        match reason {
            Reason::Ledger if self.mispaired().is_some() => false,
            Reason::Ledger => match self.ledger.probe().await {
                Ok(()) => {
                    self.ledger_problem.send_replace(None);
                    true
                }
                Err(error) => {
                    tracing::debug!(%error, "the ledger still fails");
                    self.ledger_problem.send_replace(Some(error));
                    false
                }
            },
            Reason::Unauthorized
            | Reason::Misconfigured
            | Reason::Clock
            | Reason::Outage
            | Reason::RateLimited
            | Reason::BrokerBlocked
            | Reason::Topology => self.probe_eko(kind, reason).await,
        }
    }

    /// One read-only call: whether Eko can be worked with. Key files are read again first, so
    /// that new keys need no restart.
    ///
    /// Something may be wrong with the probe alone. So where it tells another reason than the pause
    /// has, or the same one for long, a command shows what holds now: after a pause one goes at a time, and
    /// what it meets pauses the kind again, for that reason.
    async fn probe_eko(&self, kind: Kind, reason: Reason) -> bool {
        self.eko.refresh_keys(Credential::refresh);
        let ours = self.ours();
        let Account { initiator_id, user_code } = ours.account();
        let called = self.eko.probe(initiator_id, user_code).await;
        self.metrics.inquired(&called.meaning, called.took, called.is_known);
        self.note_skew(called.skew);
        let told = match told_by_probe(&called.meaning, called.skew) {
            HealthSignal::Against(told) => told,
            HealthSignal::Fine | HealthSignal::Nothing => return true,
        };
        let (now, patience) = (self.now().monotonic, self.policy.retry.max);
        let is_blind_trial_due = || {
            // Which time it is, a command would not be told otherwise.
            let is_clock_fine = called.skew.is_none_or(Gate::is_right);
            is_clock_fine && self.gate.is_blind_trial_due(kind, reason, patience, now)
        };
        let is_tried = told != reason || is_blind_trial_due();
        if is_tried {
            tracing::info!(
                kind = kind.as_str(),
                reason = reason.as_str(),
                probe = told.as_str(),
                "the probe goes wrong: one command at a time shows whether the pause is over"
            );
        }
        is_tried
    }

    /// Stops a kind for a reason that no call of Eko tells.
    pub(crate) fn pause(&self, kind: Kind, reason: Reason) {
        self.gate.pause(kind, reason, self.now().monotonic);
    }

    /// Lets commands of a kind through again.
    pub(crate) fn resume(&self, kind: Kind) {
        self.gate.resume(kind, self.now().monotonic);
        self.metrics.limited(kind, self.gate.limit(kind));
    }

    /// Why nothing may be consumed, where that is so.
    pub(crate) fn mispaired(&self) -> Option<Mispaired> {
        self.mispaired.borrow().clone()
    }

    /// Notes why nothing may be consumed, and pauses all kinds; or that the queues are this ledger's.
    pub(crate) fn pair(&self, problem: Option<Mispaired>) {
        let is_mispaired = problem.is_some();
        let had_problem = self.mispaired.send_replace(problem).is_some();
        if is_mispaired {
            self.gate.pause_all(Reason::Ledger, self.now().monotonic);
        } else if had_problem {
            self.gate.probe_now();
        }
    }

    /// Pauses all kinds until the ledger can be written.
    pub(crate) fn pause_for_ledger(&self, error: &ledger::Error) {
        self.ledger_problem.send_replace(Some(error.clone()));
        if self.gate.pause_all(Reason::Ledger, self.now().monotonic) {
            tracing::error!(%error, "the ledger failed: nothing begins until it can be written");
        }
    }

    /// The ledger has answered: what was said of it holds no more, unless a kind waits until it can be
    /// written. Where its server did not let us in before, whoever waits for it looks at once.
    pub(crate) fn ledger_answers(&self) {
        use ledger::Error::{Away, Refused, Unfit};
        let let_in = |problem: &mut Option<ledger::Error>| {
            problem.take_if(|error| matches!(error, Away(_) | Refused(_) | Unfit(_))).is_some()
        };
        if self.ledger_problem.send_if_modified(let_in) {
            return self.gate.probe_now();
        }
        let waits = |kind| *self.gate.watch(kind).borrow() == Some(Reason::Ledger);
        if !Kind::ALL.into_iter().any(waits) {
            self.ledger_problem.send_if_modified(|problem| problem.take().is_some());
        }
    }
}

/// What a probe tells about Eko as a whole. A refused timestamp says nothing while Eko's `Date` agrees
/// with our clock: another worker with the same key had it.
fn told_by_probe(reading: &Reading, skew: Option<f64>) -> HealthSignal {
    match (reading, skew) {
        (_, Some(skew)) if !Gate::is_right(skew) => HealthSignal::Against(Reason::Clock),
        (Reading::NoAnswer(Cause::Clock), Some(_)) => HealthSignal::Nothing,
        _ => reading.into(),
    }
}
