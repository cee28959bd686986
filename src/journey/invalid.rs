//! Messages that are no command of their own: what is wrong with them is published, unless the ledger has
//! begun a command under their id.

use std::borrow::Cow;

use serde_json::Value;

use super::{Error, Journey, Received, Subject, delivered};
use crate::broker::Delivery;
use crate::command::{Command, Invalid, Kind, read_tid};
use crate::order::{Asking, Order};
use crate::outcome::{Code, Outcome, Problem};
use crate::worker::{Worker, clock};

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
            bytes = delivery.size(),
            command_id = id,
            why,
            "a message cannot be read: Eko is not asked to execute it"
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
        let outcome = Outcome::Invalid(invalid.problem.clone());
        let delivered = delivered(&delivery, None);
        let tid_of_begun = tid_of_begun(&delivery, invalid);
        let order = match &invalid.id {
            None => Order::refuse(outcome, delivered),
            Some(_) => {
                let unknown = match tid_of_begun {
                    Some(_) => Outcome::Unresolved(begun_elsewhere(&invalid.problem)),
                    None => outcome.clone(),
                };
                let digest = digest.clone();
                Order::receive_invalid(Asking::Invalid { digest, outcome, unknown }, delivered)
            }
        };
        let id = invalid.id.as_deref().unwrap_or(&digest);
        let subject = Subject {
            id: Cow::Borrowed(id),
            command_id: id,
            kind: invalid.kind,
            correlation_id: invalid.correlation_id.as_deref(),
            tid_of_begun,
        };
        let journey = Journey {
            worker: self,
            delivery,
            command: None,
            received,
            subject,
            permit: None,
            began: clock(),
            publication: None,
        };
        journey.run(order).await
    }
}

/// The tid of a refund that Eko was called for, as its copy says: another ledger than this one, which
/// does not know it, has begun it.
fn tid_of_begun(delivery: &Delivery, invalid: &Invalid) -> Option<String> {
    let is_refund = invalid.kind == Some(Kind::Refund);
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
