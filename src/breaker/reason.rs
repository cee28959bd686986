//! Why consumption is paused, and what one call tells about that.

use crate::verdict::{Cause, Reading, Verdict};

/// Why consumption is paused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Reason {
    /// Eko refuses our keys or our address.
    Unauthorized,
    /// The URL or the account is not set up for the call.
    Misconfigured,
    /// Eko refuses our timestamps, or soon will.
    Clock,
    /// Calls fail one after the other.
    Outage,
    /// Eko asks for fewer calls, one after the other.
    RateLimited,
    /// The broker is short of memory or disk.
    BrokerBlocked,
    /// An exchange or queue is not what this worker needs.
    Topology,
    /// The ledger cannot be written.
    Ledger,
    /// An operator wants it so.
    Operator,
}

impl Reason {
    /// Every reason, in the contract's order.
    pub(crate) const ALL: [Self; 9] = [
        Self::Unauthorized,
        Self::Misconfigured,
        Self::Clock,
        Self::Outage,
        Self::RateLimited,
        Self::BrokerBlocked,
        Self::Topology,
        Self::Ledger,
        Self::Operator,
    ];

    /// The contract's word.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Unauthorized => "unauthorized",
            Self::Misconfigured => "misconfigured",
            Self::Clock => "clock",
            Self::Outage => "outage",
            Self::RateLimited => "rate_limited",
            Self::BrokerBlocked => "broker_blocked",
            Self::Topology => "topology",
            Self::Ledger => "ledger",
            Self::Operator => "operator",
        }
    }

    /// Whether it is our own fault, which a second command confirms; else a row of failures
    /// does.
    pub(super) const fn is_ours(self) -> bool {
        match self {
            Self::Unauthorized | Self::Misconfigured | Self::Clock => true,
            Self::Outage
            | Self::RateLimited
            | Self::BrokerBlocked
            | Self::Topology
            | Self::Ledger
            | Self::Operator => false,
        }
    }

    /// Whether calls tell it, so that they have to show that it is over.
    pub(super) const fn is_told_by_calls(self) -> bool {
        !matches!(self, Self::BrokerBlocked | Self::Topology | Self::Ledger | Self::Operator)
    }

    const fn of(cause: Cause) -> Option<Self> {
        match cause {
            Cause::Unauthorized => Some(Self::Unauthorized),
            Cause::Misconfigured => Some(Self::Misconfigured),
            Cause::Clock => Some(Self::Clock),
            Cause::Network | Cause::Timeout | Cause::EkoUnavailable => Some(Self::Outage),
            Cause::RateLimited => Some(Self::RateLimited),
            Cause::BankUnavailable
            | Cause::InProgress
            | Cause::BadResponse
            | Cause::Pending
            | Cause::Interrupted => None,
        }
    }
}

/// What one call tells about Eko as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HealthSignal {
    /// Eko works.
    Fine,
    /// It may be that nothing works.
    Against(Reason),
    /// It tells nothing.
    Nothing,
}

impl HealthSignal {
    /// Whether a call has failed as calls do that are too many for Eko.
    pub(crate) const fn is_overload(self) -> bool {
        matches!(self, Self::Against(Reason::Outage | Reason::RateLimited))
    }

    /// Whether a call has told of a fault of this worker's own.
    pub(crate) const fn is_fault_of_ours(self) -> bool {
        matches!(self, Self::Against(reason) if reason.is_ours())
    }
}

impl From<&Verdict> for HealthSignal {
    fn from(verdict: &Verdict) -> Self {
        match verdict {
            Verdict::Done(..) | Verdict::Refused(_) => Self::Fine,
            Verdict::NotNow { cause, .. } | Verdict::Unclear { cause, .. } => match cause {
                // Eko itself has answered that the bank behind it is away.
                Cause::BankUnavailable => Self::Fine,
                cause => Reason::of(*cause).map_or(Self::Nothing, Self::Against),
            },
        }
    }
}

impl From<&Reading> for HealthSignal {
    fn from(reading: &Reading) -> Self {
        match reading {
            Reading::NoAnswer(cause) => Reason::of(*cause).map_or(Self::Nothing, Self::Against),
            Reading::Refunded(..)
            | Reading::RefundPending
            | Reading::Succeeded
            | Reading::Failed
            | Reading::InProgress
            | Reading::NotFound
            | Reading::Contradictory => Self::Fine,
        }
    }
}
