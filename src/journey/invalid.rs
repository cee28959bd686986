//! Messages that are no command of their own: what is wrong with them is published, unless the ledger has
//! begun a command under their id.

use std::borrow::Cow;

use jiff::Timestamp;
use serde_json::Value;

use super::{Error, Journey, Received, Subject, delivered};
use crate::broker::Delivery;
use crate::command::{Command, Invalid, Kind, read_tid};
use crate::order::{Asking, Order, Unknown};
use crate::otp_keys::OtpProblem;
use crate::outcome::{Code, Outcome, Problem};
use crate::worker::{Worker, clock};

/// A message that is no command, or one whose OTP cannot be used.
pub(super) struct Refusal {
    invalid: Invalid,
    /// The digest of the command that it would be, could its OTP be used.
    unopened: Option<String>,
    /// Whether it waits until our setup is mended, and until when it may.
    waits_until: Option<Option<Timestamp>>,
}

impl Refusal {
    /// A message that is no command.
    pub(super) const fn of(invalid: Invalid) -> Self {
        Self { invalid, unopened: None, waits_until: None }
    }
}

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

    /// What is wrong with the OTP of a command. One whose time is over needs none.
    pub(super) fn otp_problem(&self, command: &Command, now: Timestamp) -> Option<OtpProblem> {
        let problem = self.otp_keys.check(command).err()?;
        let has_expired = command.expiry.is_some_and(|expiry| now >= expiry);
        (problem != OtpProblem::NoKey || !has_expired).then_some(problem)
    }

    /// A command whose OTP cannot be used: what the ledger has begun is settled without it.
    pub(super) async fn handle_unopened(
        &self,
        delivery: Delivery,
        command: &Command,
        why: OtpProblem,
        received: &Received,
    ) -> Result<(), Error> {
        let (message, waits_until) = match why {
            OtpProblem::Invalid(message) => (message, None),
            OtpProblem::NoKey => {
                tracing::warn!(
                    command_id = command.id,
                    tid = command.tid(),
                    "the OTP is sealed, but this worker has no OTP_KEY_FILE: the command waits; \
                     set OTP_KEY_FILE"
                );
                let message = "data.otp_sealed: the worker has no OTP_KEY_FILE";
                (message.to_owned(), Some(command.expiry))
            }
        };
        let invalid = Invalid {
            kind: Some(command.kind()),
            id: Some(command.id.clone()),
            correlation_id: command.correlation_id.clone(),
            problem: Problem::new(Code::InvalidCommand, message),
        };
        let unopened = Some(self.ledger.digest(command.canonical().as_bytes()));
        let refusal = Refusal { invalid, unopened, waits_until };
        self.handle_invalid(delivery, refusal, received).await
    }

    pub(super) async fn handle_invalid(
        &self,
        delivery: Delivery,
        refusal: Refusal,
        received: &Received,
    ) -> Result<(), Error> {
        let Refusal { invalid, unopened, waits_until } = &refusal;
        let digest = self.ledger.digest(delivery.body());
        let outcome = Outcome::Invalid(invalid.problem.clone());
        let delivered = delivered(&delivery, waits_until.flatten());
        let tid_of_begun = tid_of_begun(&delivery, invalid);
        let order = match &invalid.id {
            None => Order::refuse(outcome, delivered),
            Some(_) => {
                let unknown = match (waits_until, &tid_of_begun) {
                    (Some(_), _) => Unknown::Waits,
                    (None, Some(_)) => {
                        Unknown::Ends(Outcome::Unresolved(begun_elsewhere(&invalid.problem)))
                    }
                    (None, None) => Unknown::Ends(outcome.clone()),
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
            unopened: unopened.clone(),
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
