//! What one answer of Eko says about the money, and what one inquiry says about a transaction.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::outcome::{Answer, Code, Receipt, Refusal};

/// What one answer of Eko says about the money.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It happened. The event of that tells all of it, so a history does not keep it beside.
    Done(#[serde(skip)] Receipt, #[serde(skip_serializing, default)] Answer),
    /// It did not happen, and asking again would change nothing.
    Refused(Refusal),
    /// It did not happen; worth asking again, though not before `after`. For a refund only where not
    /// a byte of the call left.
    NotNow {
        /// Why not now.
        cause: Cause,
        /// Eko's own wish, from `Retry-After`.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        after: Option<Duration>,
    },
    /// It may have happened: inquire before anything else.
    Unclear {
        /// Why that is not known.
        cause: Cause,
        /// Eko's own wish, from `Retry-After`.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        after: Option<Duration>,
        /// What follows if it turns out not to have happened.
        #[serde(rename = "if_not")]
        fallback: Fallback,
    },
}

impl Verdict {
    /// Every verdict's word, as a metric label.
    pub const NAMES: [&'static str; 4] = ["done", "refused", "not_now", "unclear"];

    /// The word, as in metrics and logs.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Done(..) => "done",
            Self::Refused(_) => "refused",
            Self::NotNow { .. } => "not_now",
            Self::Unclear { .. } => "unclear",
        }
    }

    /// A wait without a wish of Eko's.
    pub const fn not_now(cause: Cause) -> Self {
        Self::NotNow { cause, after: None }
    }

    /// Why it gave no final answer, where it gave none.
    pub const fn cause(&self) -> Option<Cause> {
        match self {
            Self::NotNow { cause, .. } | Self::Unclear { cause, .. } => Some(*cause),
            Self::Done(..) | Self::Refused(_) => None,
        }
    }

    /// An answer that leaves everything open.
    pub const fn unclear(cause: Cause) -> Self {
        Self::Unclear { cause, after: None, fallback: Fallback::Repeat }
    }
}

/// What follows when an unclear attempt turns out not to have been executed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fallback {
    /// One more attempt is allowed.
    Repeat,
    /// Eko's refusal holds.
    Refuse(Refusal),
    /// Eko claimed success without evidence, or told of an execution or of one under way beside
    /// another code: nothing short of a refund seen ends it.
    Wait,
}

/// Why a call gave no final answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// No connection came about, or it broke.
    Network,
    /// No answer within `EKO_TIMEOUT`.
    Timeout,
    /// Eko, or something on the way to it, answered 5xx.
    EkoUnavailable,
    /// Eko answered that the bank behind it is not available (544).
    BankUnavailable,
    /// Another transaction of that user is in progress (`response_status_id` -2).
    InProgress,
    /// HTTP 429.
    RateLimited,
    /// An answer that cannot be read, or that contradicts itself.
    BadResponse,
    /// Eko says it is initiated, awaited or on hold.
    Pending,
    /// HTTP 401 or 403: keys, or an address that is not allow-listed.
    Unauthorized,
    /// Eko says that our timestamp is off or was used before.
    Clock,
    /// HTTP 404, 405, 415 or a redirect: the URL, or an initiator Eko does not know.
    Misconfigured,
    /// The worker died, or lost its connection, before the answer was kept.
    Interrupted,
}

impl Cause {
    /// Every cause.
    pub const ALL: [Self; 12] = [
        Self::Network,
        Self::Timeout,
        Self::EkoUnavailable,
        Self::BankUnavailable,
        Self::InProgress,
        Self::RateLimited,
        Self::BadResponse,
        Self::Pending,
        Self::Unauthorized,
        Self::Clock,
        Self::Misconfigured,
        Self::Interrupted,
    ];

    /// The word, as in metrics, logs and the header `eko-reason`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Network => "network",
            Self::Timeout => "timeout",
            Self::EkoUnavailable => "eko_unavailable",
            Self::BankUnavailable => "bank_unavailable",
            Self::InProgress => "in_progress",
            Self::RateLimited => "rate_limited",
            Self::BadResponse => "bad_response",
            Self::Pending => "pending",
            Self::Unauthorized => "unauthorized",
            Self::Clock => "clock",
            Self::Misconfigured => "misconfigured",
            Self::Interrupted => "interrupted",
        }
    }

    /// The code of an outcome that this cause ends in.
    pub const fn code(self) -> Code {
        match self {
            Self::Network => Code::Network,
            Self::Timeout | Self::Interrupted => Code::Timeout,
            Self::EkoUnavailable | Self::BankUnavailable | Self::InProgress | Self::Pending => {
                Code::EkoUnavailable
            }
            Self::RateLimited => Code::RateLimited,
            Self::BadResponse => Code::BadResponse,
            Self::Unauthorized | Self::Clock => Code::Unauthorized,
            Self::Misconfigured => Code::Misconfigured,
        }
    }

    /// The sentence of an outcome that this cause ends in.
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::Network => "Eko could not be reached",
            Self::Timeout => "Eko did not answer in time",
            Self::EkoUnavailable => "Eko was not available",
            Self::BankUnavailable => "the bank behind Eko was not available",
            Self::InProgress => "Eko had another transaction of this user in progress",
            Self::RateLimited => "Eko asked for fewer calls",
            Self::BadResponse => "Eko's answer could not be relied on",
            Self::Pending => "Eko had not finished it",
            Self::Unauthorized => "Eko refused our keys or our address",
            Self::Clock => "Eko refused our timestamp",
            Self::Misconfigured => "Eko's address or our account is not set up for this call",
            Self::Interrupted => "the worker stopped before Eko's answer was kept",
        }
    }
}

/// What one inquiry says about a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reading {
    /// 4: it is refunded.
    Refunded(#[serde(skip)] Receipt, Answer),
    /// 3: it waits for a refund.
    RefundPending,
    /// 0: the transfer itself succeeded.
    Succeeded,
    /// 1: the transfer failed.
    Failed,
    /// 2, 5, 6 or any other value: not final.
    InProgress,
    /// Eko does not find it, which proves nothing.
    NotFound,
    /// It contradicts itself, or tells of another transaction.
    Contradictory,
    /// No answer that could be read.
    NoAnswer(Cause),
}

impl Reading {
    /// Why there was no answer, where there was none.
    pub const fn cause(&self) -> Option<Cause> {
        match self {
            Self::NoAnswer(cause) => Some(*cause),
            Self::Refunded(..)
            | Self::RefundPending
            | Self::Succeeded
            | Self::Failed
            | Self::InProgress
            | Self::NotFound
            | Self::Contradictory => None,
        }
    }

    /// Every reading's word, as a metric label.
    pub const NAMES: [&'static str; 8] = [
        "refunded",
        "refund_pending",
        "succeeded",
        "failed",
        "in_progress",
        "not_found",
        "contradictory",
        "no_answer",
    ];

    /// The word, as in metrics and logs.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Refunded(..) => "refunded",
            Self::RefundPending => "refund_pending",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::InProgress => "in_progress",
            Self::NotFound => "not_found",
            Self::Contradictory => "contradictory",
            Self::NoAnswer(_) => "no_answer",
        }
    }
}
