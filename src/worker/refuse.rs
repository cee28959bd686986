//! Messages that are no command of their own: what is wrong with them is told, unless the ledger has
//! begun a command under their id.

use serde_json::Value;

use super::{Error, Received, Subject, Worker, random_u32};
use crate::broker::Delivery;
use crate::command::{Command, Invalid, Kind, read_tid};
use crate::ledger::{Ask, Claim};
use crate::metrics;
use crate::outcome::{Code, Outcome, Problem};

impl Worker {
    /// A message whose properties or headers cannot be read is no command, whatever its body says:
    /// what was left out may have mattered.
    pub(super) fn unless_unread(
        &self,
        delivery: &Delivery,
        command: Result<Command, Invalid>,
    ) -> Result<Command, Invalid> {
        let Some(why) = &delivery.envelope().unread else { return command };
        let (id, kind, correlation_id) = match command {
            Ok(command) => (Some(command.id.clone()), Some(command.kind()), command.correlation_id),
            Err(Invalid { id, kind, correlation_id, .. }) => (id, kind, correlation_id),
        };
        tracing::warn!(
            queue = delivery.queue(),
            bytes = delivery.body().len(),
            command_id = id,
            why,
            "a message cannot be read and is set aside"
        );
        self.metrics.unreadable(delivery.kind());
        let message = format!("the message cannot be read: {why}");
        let problem = Problem::new(Code::InvalidCommand, message);
        Err(Invalid { kind, id, correlation_id, problem })
    }

    pub(super) async fn handle_invalid(
        &self,
        delivery: Delivery,
        invalid: &Invalid,
        received: &Received,
    ) -> Result<(), Error> {
        let digest = self.ledger.digest(delivery.body());
        let id = invalid.id.clone().unwrap_or_else(|| digest.clone());
        let subject = Subject {
            id: &id,
            command_id: &id,
            kind: invalid.kind,
            subject: None,
            correlation_id: invalid.correlation_id.as_deref(),
            expiry: None,
        };
        if invalid.id.is_none() {
            let outcome = Outcome::Invalid(invalid.problem.clone());
            return self.refuse(delivery, &subject, received, digest, outcome).await;
        }
        // What was begun outranks what can be read now.
        let ask = self.ask(&delivery, &id, metrics::label(subject.kind));
        match self.ledger.claim(ask, random_u32()).await {
            Err(error) => self.do_without_ledger(delivery, &subject, 0, &error).await,
            // A worker died before it had told what is wrong with this very message.
            Ok(Claim::Due(case) | Claim::Interrupted(case)) if case.was_asked_by(&digest) => {
                let outcome = Outcome::Invalid(invalid.problem.clone());
                self.conclude(delivery, &subject, received, case, outcome).await
            }
            Ok(Claim::Due(case) | Claim::Interrupted(case)) => {
                self.settle_unreadable(delivery, &subject, received, case).await
            }
            Ok(Claim::Busy { wait }) => self.park_busy(delivery, &subject, received, wait).await,
            Ok(Claim::Early { wait }) => self.park_early(delivery, &subject, received, wait).await,
            Ok(Claim::Unknown) => {
                let tid = tid_of_begun(&delivery, &subject);
                let outcome = match tid {
                    Some(_) => Outcome::Unresolved(begun_elsewhere(&invalid.problem)),
                    None => Outcome::Invalid(invalid.problem.clone()),
                };
                let subject = Subject { subject: tid.as_deref(), ..subject };
                self.refuse(delivery, &subject, received, digest, outcome).await
            }
            Ok(
                Claim::Finished { .. }
                | Claim::Fresh(_)
                | Claim::Refunded(..)
                | Claim::Stale
                | Claim::Conflict,
            ) => {
                let outcome = Outcome::Invalid(invalid.problem.clone());
                self.refuse(delivery, &subject, received, digest, outcome).await
            }
        }
    }

    /// The message asks for something else than the command that has its id.
    pub(super) async fn handle_reused(
        &self,
        delivery: Delivery,
        subject: &Subject<'_>,
        received: &Received,
    ) -> Result<(), Error> {
        let digest = self.ledger.digest(delivery.body());
        let id = format!("{}:{digest}", subject.command_id);
        let subject = Subject { id: &id, subject: None, ..*subject };
        let message = "id: belongs to an earlier command of another type or with other data; \
                       a new command needs a new id";
        let problem = Problem::new(Code::IdReused, message);
        self.refuse(delivery, &subject, received, digest, Outcome::Invalid(problem)).await
    }

    async fn refuse(
        &self,
        delivery: Delivery,
        subject: &Subject<'_>,
        received: &Received,
        digest: String,
        outcome: Outcome,
    ) -> Result<(), Error> {
        let ask = self.ask(&delivery, subject.id, metrics::label(subject.kind));
        let ask = Ask { digest: Some(digest), ..ask };
        let claim = match self.ledger.claim(ask, random_u32()).await {
            Ok(claim) => claim,
            Err(error) => return self.do_without_ledger(delivery, subject, 0, &error).await,
        };
        match claim {
            Claim::Fresh(case) => {
                self.count_receipt(subject.kind, received);
                self.conclude(delivery, subject, received, case, outcome).await
            }
            Claim::Due(case) | Claim::Interrupted(case) | Claim::Refunded(case, _) => {
                self.conclude(delivery, subject, received, case, outcome).await
            }
            Claim::Busy { wait } => self.park_busy(delivery, subject, received, wait).await,
            Claim::Early { wait } => self.park_early(delivery, subject, received, wait).await,
            Claim::Stale => Ok(delivery.ack().await?),
            Claim::Finished { event, is_untold } => {
                self.replay(delivery, subject, received, &event, is_untold).await
            }
            Claim::Unknown => self.forget(delivery, subject).await,
            // Boxed, since the event of a reused id is told the same way.
            Claim::Conflict => Box::pin(self.handle_reused(delivery, subject, received)).await,
        }
    }
}

/// The tid of a refund that Eko was called for, as its copy says: another ledger than this one, which
/// does not know it, has begun it.
fn tid_of_begun(delivery: &Delivery, subject: &Subject<'_>) -> Option<String> {
    let is_refund = subject.kind == Some(Kind::Refund);
    if !is_refund || delivery.envelope().attempts == 0 {
        return None;
    }
    let message: Value = serde_json::from_slice(delivery.body()).ok()?;
    let tid = message.pointer("/data/tid")?;
    let tid = tid.as_str().map_or_else(|| tid.to_string(), str::to_owned);
    read_tid(&tid).map(str::to_owned)
}

/// What cannot be read now could be read when it was begun: that it is invalid is not proven.
fn begun_elsewhere(problem: &Problem) -> Problem {
    let message = format!(
        "Eko may have been called for it, this ledger does not know it, and it cannot be read with \
         these settings ({}): a person must look",
        problem.message
    );
    Problem::new(Code::Misconfigured, message)
}
