//! As whom Eko is called: for a command that names an account of its own, an initiator or a retailer,
//! or a rail of its own, what Eko has against that is the command's fault, and nobody else's.

use std::borrow::Cow;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::breaker::{HealthSignal, Reason, Witness};
use crate::clock::Now;
use crate::command::{Account, Command, Defaults, Kind};
use crate::history::{Entry, History};
use crate::outcome::{Answer, Code, Problem, Refusal};
use crate::privacy::Mobile;
use crate::verdict::{Cause, Fallback, Reading, Verdict};
use crate::worker::Worker;

/// Eko's code for an initiator that it does not know.
const UNKNOWN_INITIATOR: i64 = 319;

/// The account that Eko last took a command's call with: where the settings name none, inquiries that
/// no command's own account will do for are made with it.
#[derive(Default)]
pub(crate) struct LastTaken(Mutex<Option<Defaults>>);

impl LastTaken {
    fn get(&self) -> Option<Defaults> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, Account { initiator_id, user_code }: Account<'_>) {
        let initiator_id = Some(Mobile::new(initiator_id));
        let taken = Defaults { initiator_id, user_code: Some(user_code.to_owned()) };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(taken);
    }
}

impl Worker {
    /// As whom we ask about what no command in hand is about.
    pub(crate) fn ours(&self) -> Cow<'_, Defaults> {
        if self.defaults.initiator_id.is_some() {
            return Cow::Borrowed(&self.defaults);
        }
        self.last_taken.get().map_or(Cow::Borrowed(&self.defaults), Cow::Owned)
    }

    /// Who makes a command's own call.
    pub(super) fn witness(command: &Command) -> Witness<'_> {
        Witness { command_id: &command.id, is_own_choice: command.has_own_choice() }
    }

    /// As whom to inquire for a command: as its call was made, unless Eko refuses that account.
    pub(super) fn inquiring_account<'a>(
        command: &'a Command,
        history: &History,
        ours: &'a Defaults,
    ) -> Account<'a> {
        let ours = ours.account();
        if command.has_own_account && !ours.initiator_id.is_empty() && is_refused(history) {
            ours
        } else {
            command.account()
        }
    }

    /// What an answer to a command's own call means, given what Eko answers others.
    ///
    /// A refused account or rail of the command's own ends it, unless Eko refuses that of the settings
    /// for the same reason. An answer that does not name the account, such as a 403, does so when Eko
    /// gave it twice and took the kind's calls of others in between.
    pub(super) fn in_view_of_others(
        &self,
        command: &Command,
        history: &History,
        verdict: Verdict,
        http_status: Option<u16>,
    ) -> Verdict {
        let kind = command.kind();
        if !command.has_own_choice() {
            return verdict;
        }
        if is_refusal_of_account(&verdict) {
            return match self.breakers.refuses_ours(kind) {
                Some(Reason::Misconfigured) => of_setup(kind),
                Some(_) | None => verdict,
            };
        }
        match &verdict {
            Verdict::NotNow { cause, .. }
            | Verdict::Unclear { cause, fallback: Fallback::Repeat, .. }
                if is_of_setup(*cause) && self.others_were_taken(kind, history, self.now()) =>
            {
                refused(kind, *cause, http_status)
            }
            Verdict::Done(..)
            | Verdict::Refused(_)
            | Verdict::NotNow { .. }
            | Verdict::Unclear { .. } => verdict,
        }
    }

    /// Whether the kind's endpoint has taken calls since it last refused this command for a fault of
    /// the setup.
    fn others_were_taken(&self, kind: Kind, history: &History, now: Now) -> bool {
        let mut earlier = history.each_attempt().rev().skip(1);
        let Some(ended) = earlier.next().and_then(|attempt| attempt.ended.as_ref()) else {
            return false;
        };
        let since = history.age(now).likely.saturating_sub(ended.age.likely);
        // What happened before this process is not known to it.
        let since = now.monotonic.checked_sub(since).unwrap_or(Duration::ZERO);
        ended.verdict.cause().is_some_and(is_of_setup)
            && self.breakers.refuses_ours(kind).is_none()
            && self.breakers.has_served_since(kind, since)
    }

    /// Notes that the kind's own endpoint took a call, where the answer says so.
    pub(super) fn note_service(&self, command: &Command, verdict: &Verdict, now: Now) {
        if matches!(verdict, Verdict::Done(..) | Verdict::Refused(_))
            && !is_refusal_of_account(verdict)
        {
            self.breakers.serves(command.kind(), command.has_own_choice(), now.monotonic);
            if self.defaults.initiator_id.is_none() {
                self.last_taken.set(command.account());
            }
        }
    }
}

/// What a call of a command with an account or a rail of its own tells about Eko as a whole: its
/// refusal, nothing.
pub(super) fn account_signal(
    command: &Command,
    verdict: &Verdict,
    signal: HealthSignal,
) -> HealthSignal {
    if command.has_own_choice() && is_refusal_of_account(verdict) {
        HealthSignal::Nothing
    } else {
        signal
    }
}

const fn is_of_setup(cause: Cause) -> bool {
    matches!(cause, Cause::Misconfigured | Cause::Unauthorized)
}

/// Whether Eko has last refused a command's call, or an inquiry for it, for a fault of the setup.
fn is_refused(history: &History) -> bool {
    let last = history.each_attempt().next_back().and_then(|attempt| attempt.ended.as_ref());
    let is_refused = |verdict: &Verdict| {
        verdict.cause().is_some_and(is_of_setup) || is_refusal_of_account(verdict)
    };
    let by_inquiry = match history.entries.last() {
        Some(Entry::Inquiry(inquiry)) => {
            matches!(inquiry.reading, Reading::NoAnswer(cause) if is_of_setup(cause))
        }
        Some(Entry::Attempt(_) | Entry::Suspicion(_)) | None => false,
    };
    by_inquiry || last.is_some_and(|ended| is_refused(&ended.verdict))
}

/// Whether a verdict says that Eko refuses the command's own account.
fn is_refusal_of_account(verdict: &Verdict) -> bool {
    match verdict {
        Verdict::Refused(refusal) => is_of_account(refusal),
        Verdict::Unclear { fallback: Fallback::Refuse(refusal), .. } => is_of_account(refusal),
        Verdict::Done(..) | Verdict::NotNow { .. } | Verdict::Unclear { .. } => false,
    }
}

fn is_of_account(refusal: &Refusal) -> bool {
    let Answer { http_status, status, response_status_id, .. } = refusal.answer;
    let is_code = |code: Option<i64>| code == Some(UNKNOWN_INITIATOR);
    // Without a code of Eko's, it is what others' calls have shown.
    is_code(status) || is_code(response_status_id) || (status.is_none() && http_status > 0)
}

/// A fault of the setup, whoever's call has met it.
const fn of_setup(kind: Kind) -> Verdict {
    match kind {
        Kind::Refund => Verdict::unclear(Cause::Misconfigured),
        Kind::RefundOtp | Kind::TransferOtp => Verdict::not_now(Cause::Misconfigured),
    }
}

/// A refusal of a command's own account or rail that no code of Eko's tells.
fn refused(kind: Kind, cause: Cause, http_status: Option<u16>) -> Verdict {
    let message =
        "Eko refuses this command's own initiator_id, user_code or rail and takes those of others";
    let problem = Problem::new(Code::InvalidParams, message);
    let answer = Answer { http_status: http_status.unwrap_or_default(), ..Answer::default() };
    let refusal = Refusal { problem, answer };
    match kind {
        Kind::Refund => {
            Verdict::Unclear { cause, after: None, fallback: Fallback::Refuse(refusal) }
        }
        Kind::RefundOtp | Kind::TransferOtp => Verdict::Refused(refusal),
    }
}
