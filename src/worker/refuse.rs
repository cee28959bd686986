//! Messages that are no command of their own: what is wrong with them is told, unless the ledger has
//! begun a command under their id.

use super::{Error, Received, Subject, Worker, random_u32};
use crate::broker::Delivery;
use crate::command::Invalid;
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
            return self.refuse(delivery, &subject, received, digest, &invalid.problem).await;
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
            Ok(
                Claim::Unknown
                | Claim::Finished { .. }
                | Claim::Fresh(_)
                | Claim::Refunded(..)
                | Claim::Stale
                | Claim::Conflict,
            ) => self.refuse(delivery, &subject, received, digest, &invalid.problem).await,
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
        self.refuse(delivery, &subject, received, digest, &problem).await
    }

    async fn refuse(
        &self,
        delivery: Delivery,
        subject: &Subject<'_>,
        received: &Received,
        digest: String,
        problem: &Problem,
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
                let outcome = Outcome::Invalid(problem.clone());
                self.conclude(delivery, subject, received, case, outcome).await
            }
            Claim::Due(case) | Claim::Interrupted(case) | Claim::Refunded(case, _) => {
                let outcome = Outcome::Invalid(problem.clone());
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
