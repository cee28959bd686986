//! Messages that are no command of their own: what is wrong with them is told, unless the ledger has
//! begun a command under their id.

use super::{Error, Received, Subject, Worker, random_u32};
use crate::broker::Delivery;
use crate::command::{Invalid, Kind};
use crate::ledger::{Ask, Claim};
use crate::metrics;
use crate::outcome::{Code, Outcome, Problem};

impl Worker {
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
            Ok(Claim::Due(case) | Claim::Interrupted(case)) => {
                self.settle_unreadable(delivery, &subject, received, case).await
            }
            Ok(Claim::Busy { wait }) => self.park_busy(delivery, &subject, received, wait).await,
            Ok(Claim::Early { wait }) => self.park_early(delivery, &subject, received, wait).await,
            Ok(Claim::Unknown) => {
                let outcome = unread(&delivery, &subject, &invalid.problem);
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
            // Only who names no digest is answered so.
            Claim::Unknown => self.park_busy(delivery, subject, received, None).await,
            // Boxed, since the event of a reused id is told the same way.
            Claim::Conflict => Box::pin(self.handle_reused(delivery, subject, received)).await,
        }
    }
}

/// The end of a message that cannot be read, of a command that this ledger does not know. A copy whose
/// refund Eko was called for is no fault of the command: another ledger had begun it.
fn unread(delivery: &Delivery, subject: &Subject<'_>, problem: &Problem) -> Outcome {
    let was_called = delivery.envelope().attempts > 0;
    if subject.kind.is_none_or(|kind| kind == Kind::Refund) && was_called {
        let message = format!(
            "Eko may have been called for it, this ledger does not know it, and it cannot be read \
             with these settings ({}): a person must look",
            problem.message
        );
        return Outcome::Unresolved(Problem::new(Code::Misconfigured, message));
    }
    Outcome::Invalid(problem.clone())
}
