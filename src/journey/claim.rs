//! From a delivery to a claim.

use std::time::Duration;

use super::Journey;
use crate::breaker::{self, Permit, Reason};
use crate::command::{Command, Kind};
use crate::decision::Message;
use crate::ledger::{self, Claim, ClaimRequest, ClaimedCommand, Waited};
use crate::metrics;
use crate::order::{self, Asking, Claimed as _, Claiming, Entering, Order};
use crate::worker::{clock, random_u32};

impl Journey<'_> {
    /// Waits for leave to call; `None` where the delivery is lost meanwhile. Whoever waits holds
    /// nothing but the delivery.
    pub(super) async fn enter(&mut self, entering: Entering) -> Option<Order<ClaimedCommand>> {
        let Some(kind) = self.subject.kind else { return Some(entering.entered()) };
        let is_known = self.delivery.envelope().is_back();
        let waits = is_known.then(|| self.worker.waiting.note(self.subject.command_id));
        if is_known && self.has_ended(kind).await {
            return Some(entering.entered());
        }
        let entered = tokio::select! {
            biased;
            entered = self.worker.breakers.enter(kind) => entered,
            () = self.delivery.lost() => return None,
        };
        drop(waits);
        Some(match entered {
            Ok(permit) => {
                self.permit = Some(permit);
                entering.entered()
            }
            Err(rejected) => entering.rejected(self.rejected(kind, rejected)),
        })
    }

    /// Whether its command has ended, as far as the ledger says: then it is only published again, and
    /// nobody is called. It is claimed afterwards.
    async fn has_ended(&self, kind: Kind) -> bool {
        let (id, worker) = (self.subject.command_id, self.worker);
        let ask = ClaimRequest::known(id, Some(kind), worker.now(), worker.lease);
        let ended =
            worker.ledger.claim(ClaimRequest { only_ended: true, ..ask }, random_u32()).await;
        matches!(ended, Ok(Claim::Finished { .. }))
    }

    /// What may not begin now is parked, unless it is the broker that ails.
    fn rejected(
        &self,
        kind: Kind,
        breaker::Rejected(reason): breaker::Rejected,
    ) -> order::Rejected {
        match reason {
            Some(Reason::BrokerBlocked) => order::Rejected::Requeue,
            // Out of its own queue nothing more comes; out of another one it would, again and again.
            Some(Reason::Topology) if self.delivery.kind() == kind => order::Rejected::Requeue,
            Some(
                Reason::Topology
                | Reason::Unauthorized
                | Reason::Misconfigured
                | Reason::Clock
                | Reason::Outage
                | Reason::RateLimited
                | Reason::Ledger
                | Reason::Operator,
            )
            | None => order::Rejected::Park,
        }
    }

    /// Asks the ledger. The claim begins after whatever the breaker held back.
    pub(super) async fn claim(&mut self, claiming: Claiming) -> Order<ClaimedCommand> {
        let ask = self.ask_for(&claiming);
        self.began = clock();
        let claim = match self.ask_ledger(&claiming, ask).await {
            Ok(claim) => claim,
            Err(error) => {
                self.worker.pause_for_ledger(&error);
                return claiming.failed();
            }
        };
        self.note_claim(&claiming.asking, &claim);
        let order = claiming.claimed(claim);
        if let Order::Decide(deciding) = &order
            && deciding.task.message == Message::Unreadable
        {
            self.subject.kind = deciding.claim.kind();
        }
        order
    }

    /// Claims a command, also one that an earlier version began under a tid with leading zeros.
    async fn ask_ledger(
        &self,
        claiming: &Claiming,
        ask: ClaimRequest,
    ) -> Result<Claim, ledger::Error> {
        let ledger = &self.worker.ledger;
        if let Some(ended) = self.ended_before(claiming).await? {
            return Ok(ended);
        }
        let previous = match claiming.asking {
            Asking::Command(_) => self.command.and_then(Command::previous_canonical),
            Asking::Invalid { .. } | Asking::Refusal { .. } | Asking::Orphan(_) => None,
        };
        let Some(previous) = previous else {
            return ledger.claim(ask, random_u32()).await;
        };
        match ledger.claim(ask.clone(), random_u32()).await? {
            Claim::Conflict => {
                let digest = ledger.digest(previous.as_bytes());
                ledger.claim(ClaimRequest { digest: Some(digest), ..ask }, random_u32()).await
            }
            claim => Ok(claim),
        }
    }

    /// The end of a command whose OTP cannot be opened any more: what has ended is answered again.
    async fn ended_before(&self, claiming: &Claiming) -> Result<Option<Claim>, ledger::Error> {
        let Asking::Refusal { is_reused: false, .. } = claiming.asking else { return Ok(None) };
        let Some(digest) = self.unopened.clone() else { return Ok(None) };
        let ask = ClaimRequest {
            digest: Some(digest),
            only_ended: true,
            // Nothing new may come of it.
            has_ended: true,
            ..self.ask()
        };
        let claim = self.worker.ledger.claim(ask, random_u32()).await?;
        Ok(matches!(claim, Claim::Finished { .. }).then_some(claim))
    }

    fn ask_for(&mut self, claiming: &Claiming) -> ClaimRequest {
        match (&claiming.asking, self.command) {
            (Asking::Command(_), Some(command)) => self.ask_for_command(claiming, command),
            (Asking::Refusal { is_reused, .. }, _) => {
                let digest = self.worker.ledger.digest(self.delivery.body());
                if *is_reused {
                    self.subject.id = format!("{}:{digest}", self.subject.command_id).into();
                }
                ClaimRequest { digest: Some(digest), ..self.ask() }
            }
            (Asking::Command(_) | Asking::Invalid { .. } | Asking::Orphan(_), _) => self.ask(),
        }
    }

    /// What signs a first attempt was drawn before that is recorded: what is sent later than Eko
    /// takes it then, it refuses.
    fn ask_for_command(&self, claiming: &Claiming, command: &Command) -> ClaimRequest {
        let worker = self.worker;
        let digest = worker.ledger.digest(command.canonical().as_bytes());
        // An operator may have paused the kind since it entered: then it is claimed, and waits.
        let is_held = worker.breakers.is_held(command.kind());
        let permit = self.permit.as_ref().filter(|_| !is_held);
        let permit = permit.filter(|_| claiming.may_begin(&worker.policy, worker.now()));
        let ask = self.ask();
        ClaimRequest {
            is_suspect: claiming.is_suspect(),
            has_expired: claiming.has_expired(ask.now.wall),
            stamp: permit.map(Permit::stamp),
            tid: command.tid().map(str::to_owned),
            digest: Some(digest),
            ..ask
        }
    }

    /// Asks for what is known of the id of a delivery, and for nothing new.
    fn ask(&self) -> ClaimRequest {
        let envelope = self.delivery.envelope();
        let (kind, worker) = (self.subject.kind, self.worker);
        ClaimRequest {
            parked: envelope.parked,
            waited: envelope.age.map(|age| Waited {
                first_received: age.first_received,
                // The broker tells the time that was asked for: a policy of the queue may have let
                // the copy go before. The ledger therefore counts it once the command is due.
                age: age.proven.saturating_add(envelope.waited),
            }),
            has_reply_to: envelope.has_reply_to,
            has_ended: envelope.refused.is_some(),
            ..ClaimRequest::known(&self.subject.id, kind, worker.now(), worker.lease)
        }
    }

    fn note_claim(&self, asking: &Asking, claim: &Claim) {
        match (claim, asking) {
            (Claim::Fresh(_), Asking::Command(_) | Asking::Refusal { .. })
            | (Claim::Refunded(..), Asking::Command(_)) => self.count_receipt(),
            // Nothing may come of it again: it is another ledger, or `LEDGER_RETENTION` has passed.
            (Claim::Unknown, Asking::Command(_) | Asking::Refusal { .. }) => tracing::warn!(
                command_id = self.subject.command_id,
                kind = metrics::label(self.subject.kind),
                "a finished command's event was refused, and the ledger no longer has it: it is \
                 not published again"
            ),
            _ => {}
        }
    }

    fn count_receipt(&self) {
        let Some(published) = self.received.published else {
            return;
        };
        let delay = self.received.at.duration_since(published);
        let delay = Duration::try_from(delay).unwrap_or_default();
        self.worker.metrics.received(self.subject.kind, delay);
    }
}
