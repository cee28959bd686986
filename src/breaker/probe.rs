//! The probe: whether what paused a kind is over.

use secrecy::SecretString;
use tokio::sync::watch;

use super::{Breakers, HealthSignal, Purpose, Reason};
use crate::command::Kind;
use crate::credential::{Credential, Refreshed};
use crate::verdict::{Cause, Reading};
use crate::worker::{Worker, random_f64};

impl Worker {
    /// Probes a paused kind until what paused it is over, as far as a probe tells, or until a command
    /// is to show it. `requests` are those since before the pause was dealt with.
    pub(crate) async fn until_probed(
        &self,
        kind: Kind,
        reason: Reason,
        mut requests: watch::Receiver<()>,
    ) {
        loop {
            self.until_probe_is_due(kind, &mut requests).await;
            if self.probe(kind, reason).await {
                return;
            }
        }
    }

    /// Waits before the next probe: backoff from `RETRY_INITIAL` to `RETRY_MAX`, unless an
    /// operator has changed a key since these requests were last looked at.
    async fn until_probe_is_due(&self, kind: Kind, requests: &mut watch::Receiver<()>) {
        let wait = self.policy.retry.delay(self.breakers.next_probe(kind), random_f64());
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            _ = requests.changed() => {}
        }
    }

    /// Reads the key files again at once, as an operator asked for, and says what came of it; whether
    /// there are any.
    pub(crate) fn reread_keys_now(&self) -> bool {
        self.refresh_keys(Credential::refresh_as_asked);
        self.otp_keys.refresh(Credential::refresh_as_asked);
        self.breakers.probe_now();
        self.eko.has_key_files() || !self.otp_keys.files.is_empty()
    }

    /// Reads the key files again. Another key has timestamps of its own.
    fn refresh_keys(&self, refresh: impl Fn(&Credential<SecretString>) -> Refreshed) {
        if self.eko.refresh_keys(refresh) {
            self.breakers.timestamps().forget();
        }
    }

    /// Whether what paused a kind is over, as far as a probe tells; or whether a command
    /// is to show it.
    async fn probe(&self, kind: Kind, reason: Reason) -> bool {
        match reason {
            Reason::Ledger => self.probe_ledger().await,
            // Only an operator ends it.
            Reason::Operator => false,
            Reason::Unauthorized
            | Reason::Misconfigured
            | Reason::Clock
            | Reason::Outage
            | Reason::RateLimited
            | Reason::BrokerBlocked
            | Reason::Topology => self.probe_eko(kind, reason).await,
        }
    }

    /// Whether the ledger can be written, and is the queues' ledger.
    async fn probe_ledger(&self) -> bool {
        if self.breakers.mispaired().is_some() {
            return false;
        }
        let failure = self.ledger.probe().await.err();
        if let Some(error) = &failure {
            tracing::debug!(%error, "the ledger still fails");
        }
        let is_fine = failure.is_none();
        self.breakers.note_ledger(failure);
        is_fine
    }

    /// One read-only call: whether Eko can be worked with. Key files are read again first, so
    /// that new keys need no restart.
    ///
    /// Something may be wrong with the probe alone. So where it tells another reason than the pause
    /// has, or the same one for long, a command shows what holds now: after a pause one goes at a time, and
    /// what it meets pauses the kind again, for that reason.
    async fn probe_eko(&self, kind: Kind, reason: Reason) -> bool {
        self.refresh_keys(Credential::refresh);
        let stamp = self.breakers.pass(Purpose::Inquiry).await;
        let ours = self.ours();
        let called = self.eko.probe(ours.account(), self.timing(stamp)).await;
        self.metrics.inquired(&called.meaning, called.took, called.is_known);
        let skew = self.note_skew(called.skew);
        self.note_timestamp(kind, called.meaning.cause(), skew);
        let told = match told_by_probe(&called.meaning, skew) {
            HealthSignal::Against(told) => told,
            HealthSignal::Fine | HealthSignal::Nothing => return true,
        };
        // While an operator holds the kind, no command can show anything.
        let is_tried = !self.breakers.is_held(kind)
            && (told != reason || self.is_blind_trial_due(kind, reason, skew));
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

    /// Whether a command is to show whether a pause is over, though the probe tells that it is not.
    fn is_blind_trial_due(&self, kind: Kind, reason: Reason, skew: Option<f64>) -> bool {
        // Which time it is, a command would not be told otherwise.
        let is_clock_fine = skew.is_none_or(Breakers::is_right);
        let (patience, now) = (self.policy.retry.max, self.now().monotonic);
        is_clock_fine && self.breakers.is_blind_trial_due(kind, reason, patience, now)
    }
}

/// What a probe tells about Eko as a whole. A refused timestamp says nothing while Eko's `Date` agrees
/// with our clock: another worker with the same key had it.
fn told_by_probe(reading: &Reading, skew: Option<f64>) -> HealthSignal {
    match (reading, skew) {
        (_, Some(skew)) if !Breakers::is_right(skew) => HealthSignal::Against(Reason::Clock),
        (Reading::NoAnswer(Cause::Clock), Some(_)) => HealthSignal::Nothing,
        _ => reading.into(),
    }
}
