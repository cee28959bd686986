//! An HTTP answer of Eko → a [`Verdict`], or a [`eko_core::verdict::Reading`] of an inquiry.
//!
//! The rule behind every row: what may have happened is never read as not having happened,
//! and `status` 0 alone proves nothing. For a refund, evidence outranks every code.

mod evidence;
mod inquiry;
mod receipt;

use std::time::Duration;

use self::evidence::outranked;
pub use self::inquiry::reading;
use super::envelope::{Envelope, is_id, may_be_envelope};
use eko_core::command::{Command, Kind, normal_tid};
use eko_core::outcome::{Answer, Code, Problem, Refusal};
use eko_core::privacy::{hide_otps, scrub};
use eko_core::verdict::{Cause, Fallback, Verdict};

/// An HTTP answer, its body read up to the size limit.
pub struct HttpAnswer {
    /// The HTTP status.
    pub status: u16,
    /// `Retry-After`.
    pub after: Option<Duration>,
    /// `None` where the body was larger than the limit.
    pub body: Option<Vec<u8>>,
}

/// What an answer was read as.
#[derive(Debug, PartialEq, Eq)]
pub struct Read<T> {
    /// What it means.
    pub meaning: T,
    /// Whether a documented or observed answer looks like that; others are counted.
    pub is_known: bool,
}

impl<T> Read<T> {
    const fn known(meaning: T) -> Self {
        Self { meaning, is_known: true }
    }

    const fn unknown(meaning: T) -> Self {
        Self { meaning, is_known: false }
    }
}

/// Reads the answer to a command's call.
pub fn verdict(command: &Command, http: &HttpAnswer) -> Read<Verdict> {
    let Read { meaning, is_known } = verdict_of_code(command, http);
    let meaning = match command.kind() {
        Kind::Refund => outranked(meaning, http.body.as_deref()),
        Kind::RefundOtp | Kind::TransferOtp => meaning,
    };
    Read { meaning, is_known }
}

/// Reads the answer to a command's call by its codes: the HTTP status, and Eko's own.
fn verdict_of_code(command: &Command, http: &HttpAnswer) -> Read<Verdict> {
    let envelope = http.body.as_deref().and_then(Envelope::read);
    if let Some(cause) = envelope.as_ref().and_then(|envelope| our_fault(envelope.status)) {
        let is_of_account = cause == Cause::Misconfigured && command.has_own_account;
        return Read::known(match envelope {
            Some(envelope) if is_of_account => Answered { command, http, envelope }.of_account(),
            Some(_) | None => Verdict::not_now(cause),
        });
    }
    let answered = envelope.map(|envelope| Answered { command, http, envelope });
    match http.status {
        200..=299 => match answered {
            Some(answered) => answered.verdict(),
            None => Read::known(Verdict::unclear(cause_without_envelope(http.body.as_deref()))),
        },
        400..=428 | 430..=499
            if let Some(verdict) = answered.as_ref().and_then(Answered::refused_beside_status) =>
        {
            Read::known(verdict)
        }
        300..=399 | 404 | 405 | 415 => Read::known(Verdict::not_now(Cause::Misconfigured)),
        401 | 403 => Read::known(Verdict::not_now(Cause::Unauthorized)),
        429 => Read::known(unclear_until(Cause::RateLimited, http.after)),
        500..=599 => Read::known(unclear_until(Cause::EkoUnavailable, http.after)),
        _ => Read::unknown(Verdict::unclear(Cause::BadResponse)),
    }
}

const fn unclear_until(cause: Cause, after: Option<Duration>) -> Verdict {
    Verdict::Unclear { cause, after, fallback: Fallback::Repeat }
}

/// What a successful HTTP status means without an envelope of Eko's. A page or an empty body comes
/// from something on the way, and so does JSON that has nothing of Eko's: that is an outage, whatever
/// its status says. What may be Eko's own is an answer that cannot be read.
fn cause_without_envelope(body: Option<&[u8]>) -> Cause {
    match body {
        Some(body) if !may_be_envelope(body) => Cause::EkoUnavailable,
        Some(_) | None => Cause::BadResponse,
    }
}

/// What Eko has against this worker rather than against the command.
const fn our_fault(code: i64) -> Option<Cause> {
    match code {
        2483 | 2484 | 2487 => Some(Cause::Unauthorized),
        2485 | 2486 => Some(Cause::Clock),
        319 => Some(Cause::Misconfigured),
        _ => None,
    }
}

/// An answer whose envelope could be read.
struct Answered<'a> {
    command: &'a Command,
    http: &'a HttpAnswer,
    envelope: Envelope<'a>,
}

/// What the number or text of a refusal means, before the endpoint is looked at.
enum Meaning {
    Success,
    Refused(Code),
    AlreadyRefunded,
    NotRefundable,
    OfAccount,
    NotNow(Cause),
    Unknown,
}

impl Answered<'_> {
    fn verdict(&self) -> Read<Verdict> {
        if self.envelope.response_status_id == Some(-2) {
            return Read::known(Verdict::not_now(Cause::InProgress));
        }
        match self.meaning() {
            Meaning::Success => match self.command.kind() {
                Kind::Refund => self.refunded(),
                Kind::RefundOtp | Kind::TransferOtp => self.otp_sent(),
            },
            Meaning::NotNow(cause) => Read::known(Verdict::not_now(cause)),
            Meaning::Refused(code) => Read::known(self.refused(code)),
            Meaning::AlreadyRefunded => Read::known(match self.command.kind() {
                // Only an inquiry that says "refunded" may end this one well, and none that
                // says "refund pending" may lead to another attempt.
                Kind::Refund => self.unclear(Cause::BadResponse, Fallback::Wait),
                Kind::RefundOtp | Kind::TransferOtp => self.refused(Code::AlreadyRefunded),
            }),
            Meaning::NotRefundable => Read::known(match self.command.kind() {
                Kind::Refund => self.doubtful(Code::NotRefundable),
                Kind::RefundOtp | Kind::TransferOtp => self.refused(Code::NotRefundable),
            }),
            Meaning::OfAccount => Read::known(self.of_account()),
            Meaning::Unknown => Read::unknown(self.doubtful(Code::EkoRefused)),
        }
    }

    /// What a code that refuses the command's own data means beside an HTTP status that speaks of the
    /// setup: the code is Eko's, and the setup is fine. A refund is inquired all the same.
    fn refused_beside_status(&self) -> Option<Verdict> {
        match (self.meaning(), self.command.kind()) {
            (Meaning::Refused(code), Kind::Refund) => Some(self.doubtful(code)),
            (Meaning::Refused(code), Kind::RefundOtp | Kind::TransferOtp) => {
                Some(self.refused(code))
            }
            (Meaning::OfAccount, _) => Some(self.of_account()),
            (
                Meaning::Success
                | Meaning::AlreadyRefunded
                | Meaning::NotRefundable
                | Meaning::NotNow(_)
                | Meaning::Unknown,
                _,
            ) => None,
        }
    }

    /// The table of codes. A code stands in `status`, or in `response_status_id` beside a
    /// `status` of 1.
    fn meaning(&self) -> Meaning {
        let is_otp = self.command.kind() != Kind::Refund;
        match self.code() {
            0 => Meaning::Success,
            2133 if is_otp => Meaning::Success,
            302 => Meaning::Refused(Code::WrongOtp),
            303 => Meaning::Refused(Code::OtpExpired),
            347 => Meaning::Refused(Code::InsufficientBalance),
            69 | 168 => Meaning::Refused(Code::TidNotFound),
            463 => Meaning::Refused(Code::UserNotFound),
            346 | 1297 => Meaning::Refused(Code::AgentNotAllowed),
            461 => Meaning::Refused(self.invalid_params()),
            36 | 314 | 945 if is_otp => Meaning::Refused(Code::LimitExhausted),
            544 => Meaning::NotNow(Cause::BankUnavailable),
            319 if self.command.has_own_account => Meaning::OfAccount,
            code => match our_fault(code) {
                Some(cause) => Meaning::NotNow(cause),
                None => self.meaning_of_text(),
            },
        }
    }

    /// Some refusals have a text and no code of their own.
    fn meaning_of_text(&self) -> Meaning {
        let text = self.envelope.message.to_lowercase();
        let says = |phrase: &str| text.contains(phrase);
        if says("agent not allowed") {
            Meaning::Refused(Code::AgentNotAllowed)
        } else if says("no key for response") {
            Meaning::Refused(Code::EkoRefused)
        } else if says("already in refunded state") || says("already refunded") {
            Meaning::AlreadyRefunded
        } else if says("not in a refundable state") || says("not refundable") {
            Meaning::NotRefundable
        } else if says("kindly use your production key") {
            Meaning::NotNow(Cause::Unauthorized)
        } else {
            Meaning::Unknown
        }
    }

    fn code(&self) -> i64 {
        match (self.envelope.status, self.envelope.response_status_id) {
            // -2 to 5 are display ids of their own.
            (1, Some(code)) if !(-2..=5).contains(&code) => code,
            (status, _) => status,
        }
    }

    fn invalid_params(&self) -> Code {
        match &self.envelope.invalid_params {
            Some(names) if names.contains("otp") => Code::WrongOtp,
            Some(_) | None => Code::InvalidParams,
        }
    }

    /// A refusal of the account that the command names itself, which ends the command; a refund only
    /// once inquiries find nothing executed.
    fn of_account(&self) -> Verdict {
        let refusal = self.refusal(Code::InvalidParams);
        match self.command.kind() {
            Kind::Refund => self.unclear(Cause::Misconfigured, Fallback::Refuse(refusal)),
            Kind::RefundOtp | Kind::TransferOtp => Verdict::Refused(refusal),
        }
    }

    /// A refund that Eko says it made: a success only with evidence.
    fn refunded(&self) -> Read<Verdict> {
        let envelope = &self.envelope;
        if envelope.invalid_params.is_some() {
            return Read::known(self.doubtful(self.invalid_params()));
        }
        if !envelope.tx_statuses.iter().all(|tx| matches!(tx, Some(0 | 4))) {
            return Read::known(self.unclear(Cause::Pending, Fallback::Wait));
        }
        match envelope.response_status_id {
            None | Some(-1 | 0 | 4) => {}
            Some(2 | 3 | 5) => return Read::known(self.unclear(Cause::Pending, Fallback::Wait)),
            Some(_) => return Read::unknown(self.unclear(Cause::BadResponse, Fallback::Wait)),
        }
        if !self.tells_of_a_refund() || self.tells_of_another_transaction() {
            return Read::known(self.unclear(Cause::BadResponse, Fallback::Wait));
        }
        Read::known(Verdict::Done(receipt::refund(self.command.subject(), envelope), self.answer()))
    }

    fn tells_of_a_refund(&self) -> bool {
        !self.envelope.data.refund_tid.is_empty() || self.envelope.tx_statuses.contains(&Some(4))
    }

    /// QR answers have the refund's own id as `data.tid`; any third id is somebody else's.
    fn tells_of_another_transaction(&self) -> bool {
        let data = &self.envelope.data;
        let is_qr = data.refund_tid.is_empty() || data.tid == data.refund_tid;
        self.names_another_id() && !is_qr
    }

    fn names_another_id(&self) -> bool {
        let tid = &self.envelope.data.tid;
        is_id(tid) && is_another(tid, self.command.subject())
    }

    fn otp_sent(&self) -> Read<Verdict> {
        let envelope = &self.envelope;
        if envelope.invalid_params.is_some() {
            return Read::known(self.refused(Code::InvalidParams));
        }
        let has_reference = !envelope.data.otp_ref_id.is_empty();
        if !has_reference && self.command.kind() == Kind::TransferOtp {
            return Read::known(Verdict::unclear(Cause::BadResponse));
        }
        Read::known(Verdict::Done(receipt::otp(self.command, envelope), self.answer()))
    }

    /// A refusal; of a refund only where the answer names no other transaction.
    fn refused(&self, code: Code) -> Verdict {
        match self.command.kind() {
            Kind::Refund if self.names_another_id() => self.doubtful(code),
            Kind::Refund | Kind::RefundOtp | Kind::TransferOtp => {
                Verdict::Refused(self.refusal(code))
            }
        }
    }

    /// A refusal that only holds if an inquiry finds nothing executed.
    fn doubtful(&self, code: Code) -> Verdict {
        self.unclear(Cause::BadResponse, Fallback::Refuse(self.refusal(code)))
    }

    fn unclear(&self, cause: Cause, fallback: Fallback) -> Verdict {
        Verdict::Unclear { cause, after: None, fallback }
    }

    fn refusal(&self, code: Code) -> Refusal {
        let answer = self.answer();
        let message = match &answer.message {
            Some(message) => format!("Eko refused: {message}"),
            None => "Eko refused without a message".to_owned(),
        };
        Refusal { problem: Problem::new(code, message), answer }
    }

    fn answer(&self) -> Answer {
        let mut answer = answer(self.http.status, &self.envelope, &self.command.secrets());
        if self.command.kind() != Kind::Refund {
            // Whoever sends an OTP may also say it.
            answer.message = answer.message.as_deref().map(hide_otps);
        }
        answer
    }
}

/// Whether Eko names another transaction than the one asked about; its tids have no one form.
fn is_another(named: &str, tid: &str) -> bool {
    normal_tid(named) != normal_tid(tid)
}

fn answer(http_status: u16, envelope: &Envelope<'_>, secrets: &[&str]) -> Answer {
    let secrets = [secrets, &[envelope.data.otp.as_ref()]].concat();
    let message = scrub(&envelope.message, &secrets);
    Answer {
        http_status,
        status: Some(envelope.status),
        response_status_id: envelope.response_status_id,
        response_type_id: envelope.response_type_id,
        message: (!message.is_empty()).then_some(message),
    }
}

#[cfg(test)]
mod tests;
