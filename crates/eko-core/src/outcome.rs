//! How a command ends: its outcome, the codes, and what Eko said.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A reason that subscribers may branch on: stable, in `snake_case`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[expect(
    missing_docs,
    reason = "schemars would write a doc of a variant into the published schema"
)]
pub enum Code {
    WrongOtp,
    OtpExpired,
    TidNotFound,
    AlreadyRefunded,
    NotRefundable,
    UserNotFound,
    InvalidParams,
    AgentNotAllowed,
    LimitExhausted,
    InsufficientBalance,
    EkoRefused,
    DeadlinePassed,
    EkoUnavailable,
    RateLimited,
    Timeout,
    Network,
    BadResponse,
    Unauthorized,
    Misconfigured,
    MalformedJson,
    InvalidCommand,
    IdReused,
    DeliveryLimit,
    MessageLost,
}

impl Code {
    /// Every code, in the contract's order.
    pub const ALL: [Self; 24] = [
        Self::WrongOtp,
        Self::OtpExpired,
        Self::TidNotFound,
        Self::AlreadyRefunded,
        Self::NotRefundable,
        Self::UserNotFound,
        Self::InvalidParams,
        Self::AgentNotAllowed,
        Self::LimitExhausted,
        Self::InsufficientBalance,
        Self::EkoRefused,
        Self::DeadlinePassed,
        Self::EkoUnavailable,
        Self::RateLimited,
        Self::Timeout,
        Self::Network,
        Self::BadResponse,
        Self::Unauthorized,
        Self::Misconfigured,
        Self::MalformedJson,
        Self::InvalidCommand,
        Self::IdReused,
        Self::DeliveryLimit,
        Self::MessageLost,
    ];

    /// The contract's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::WrongOtp => "wrong_otp",
            Self::OtpExpired => "otp_expired",
            Self::TidNotFound => "tid_not_found",
            Self::AlreadyRefunded => "already_refunded",
            Self::NotRefundable => "not_refundable",
            Self::UserNotFound => "user_not_found",
            Self::InvalidParams => "invalid_params",
            Self::AgentNotAllowed => "agent_not_allowed",
            Self::LimitExhausted => "limit_exhausted",
            Self::InsufficientBalance => "insufficient_balance",
            Self::EkoRefused => "eko_refused",
            Self::DeadlinePassed => "deadline_passed",
            Self::EkoUnavailable => "eko_unavailable",
            Self::RateLimited => "rate_limited",
            Self::Timeout => "timeout",
            Self::Network => "network",
            Self::BadResponse => "bad_response",
            Self::Unauthorized => "unauthorized",
            Self::Misconfigured => "misconfigured",
            Self::MalformedJson => "malformed_json",
            Self::InvalidCommand => "invalid_command",
            Self::IdReused => "id_reused",
            Self::DeliveryLimit => "delivery_limit",
            Self::MessageLost => "message_lost",
        }
    }
}

/// A code and the sentence that goes with it: an event's `error`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Problem {
    /// What subscribers branch on.
    pub code: Code,
    /// What a person reads.
    pub message: String,
}

impl Problem {
    /// Pairs a code with its sentence.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

/// What Eko answered: an event's `eko`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Answer {
    /// The HTTP status.
    pub http_status: u16,
    /// The envelope's `status`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub status: Option<i64>,
    /// The envelope's `response_status_id`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub response_status_id: Option<i64>,
    /// The envelope's `response_type_id`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub response_type_id: Option<i64>,
    /// The envelope's `message`, scrubbed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub message: Option<String>,
}

/// What Eko's documents name of a success, normalised: an event's `result`. Evidence, outcome and
/// event share it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Receipt(Arc<BTreeMap<Cow<'static, str>, String>>);

impl Receipt {
    /// Adds a field unless its value is empty.
    pub fn put(&mut self, name: &'static str, value: impl Into<String>) {
        let value = value.into();
        if !value.is_empty() {
            Arc::make_mut(&mut self.0).insert(Cow::Borrowed(name), value);
        }
    }

    /// What it has under a name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Names and values, by name.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_ref(), value.as_str()))
    }
}

/// A refusal: Eko said no, and would say it again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Why.
    pub problem: Problem,
    /// In Eko's own numbers.
    pub answer: Answer,
}

/// Who confirmed a success.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(rename_all = "snake_case")]
pub enum ConfirmedBy {
    /// The call's own answer.
    Response,
    /// A later inquiry.
    Inquiry,
    /// The ledger: an earlier command refunded that tid.
    Ledger,
}

impl ConfirmedBy {
    /// The contract's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Response => "response",
            Self::Inquiry => "inquiry",
            Self::Ledger => "ledger",
        }
    }
}

/// How a command ended, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OutcomeName {
    /// Eko confirmed it.
    Succeeded,
    /// Eko refused, and the same command again would be refused again.
    Rejected,
    /// Given up, and known not to have been executed.
    Failed,
    /// Its time passed before Eko accepted it.
    Expired,
    /// Given up, and whether it was executed is not known.
    Unresolved,
    /// The message is no valid command.
    Invalid,
}

impl OutcomeName {
    /// Every one, in the contract's order.
    pub const ALL: [Self; 6] = [
        Self::Succeeded,
        Self::Rejected,
        Self::Failed,
        Self::Expired,
        Self::Unresolved,
        Self::Invalid,
    ];

    /// The contract's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Rejected => "rejected",
            Self::Failed => "failed",
            Self::Expired => "expired",
            Self::Unresolved => "unresolved",
            Self::Invalid => "invalid",
        }
    }

    /// The one with this word.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|outcome| outcome.as_str() == name)
    }

    /// Whether the command must also be put where a person looks.
    pub const fn needs_a_person(self) -> bool {
        match self {
            Self::Failed | Self::Unresolved | Self::Invalid => true,
            Self::Succeeded | Self::Rejected | Self::Expired => false,
        }
    }
}

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Eko confirmed it.
    Succeeded {
        /// Who said so.
        confirmed_by: ConfirmedBy,
        /// What it gave.
        receipt: Receipt,
        /// Eko's numbers, where Eko answered this command.
        answer: Option<Answer>,
    },
    /// Eko refused, and the same command again would be refused again.
    Rejected(Refusal),
    /// Its time passed before Eko accepted it.
    Expired(Problem),
    /// Given up, and known not to have been executed.
    Failed(Problem),
    /// Given up, and whether it was executed is not known.
    Unresolved(Problem),
    /// The message is no valid command.
    Invalid(Problem),
}

impl Outcome {
    /// How it ended, in one word.
    pub const fn name(&self) -> OutcomeName {
        match self {
            Self::Succeeded { .. } => OutcomeName::Succeeded,
            Self::Rejected(_) => OutcomeName::Rejected,
            Self::Expired(_) => OutcomeName::Expired,
            Self::Failed(_) => OutcomeName::Failed,
            Self::Unresolved(_) => OutcomeName::Unresolved,
            Self::Invalid(_) => OutcomeName::Invalid,
        }
    }

    /// The contract's word.
    pub const fn as_str(&self) -> &'static str {
        self.name().as_str()
    }

    /// What went wrong, where something did.
    pub const fn problem(&self) -> Option<&Problem> {
        match self {
            Self::Succeeded { .. } => None,
            Self::Rejected(refusal) => Some(&refusal.problem),
            Self::Expired(problem)
            | Self::Failed(problem)
            | Self::Unresolved(problem)
            | Self::Invalid(problem) => Some(problem),
        }
    }

    /// Whether the command must also be put where a person looks.
    pub const fn needs_a_person(&self) -> bool {
        self.name().needs_a_person()
    }
}
