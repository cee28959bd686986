//! Input contract: bytes → [`Command`], or [`Invalid`] with field and reason.

mod attributes;
mod data;
mod fields;
mod number;
mod parse;
mod rail;
mod replay;
mod rules;
mod schema;

use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};

use crate::outcome::Problem;
use crate::privacy::{Mobile, Otp, OtpRef, SealedOtp};
pub use fields::{is_mobile, is_user_code};
pub use parse::parse;
pub use rail::{Rail, Wallet};
pub use replay::{is_replay_of, replay_id};
pub use rules::{normal_tid, read_tid};
pub use schema::schema;

/// What is asked of Eko.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Send the customer a refund OTP.
    RefundOtp,
    /// Refund a failed transfer.
    Refund,
    /// Send the sender a transfer OTP.
    TransferOtp,
}

impl Kind {
    /// Every kind, in the contract's order.
    pub const ALL: [Self; 3] = [Self::RefundOtp, Self::Refund, Self::TransferOtp];

    /// What stands in its place where none could be read.
    pub const UNKNOWN: &'static str = "unknown";

    /// The contract's word, as in queue names, message types and metric labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RefundOtp => "refund_otp",
            Self::Refund => "refund",
            Self::TransferOtp => "transfer_otp",
        }
    }

    /// The word of a kind, or of a message without one.
    pub fn label(kind: Option<Self>) -> &'static str {
        kind.map_or(Self::UNKNOWN, Self::as_str)
    }

    /// The kind with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// The `type` of its commands, and their routing key.
    pub fn message_type(self) -> String {
        format!("eko.{}.request", self.as_str())
    }

    fn from_type(message_type: &str) -> Option<Self> {
        Self::from_name(message_type.strip_prefix("eko.")?.strip_suffix(".request")?)
    }
}

/// A valid command.
#[derive(Clone, Debug)]
pub struct Command {
    /// The idempotency key.
    pub id: String,
    /// What Eko is asked for.
    pub request: Request,
    /// Whether it names an initiator or a retailer of its own, other than those of the settings.
    pub has_own_account: bool,
    /// After it, the command is not started any more.
    pub expiry: Option<Timestamp>,
    /// The attribute `correlationid`, else the AMQP property.
    pub correlation_id: Option<String>,
    canonical: SecretString,
    /// The normal form as versions before 0.2 kept it, where that was another.
    previous_canonical: Option<SecretString>,
}

/// The data of a command, settings filled in.
#[derive(Clone, Debug)]
pub enum Request {
    /// Get Refund OTP.
    RefundOtp(RefundOtp),
    /// Initiate Refund.
    Refund(Refund),
    /// Send Transaction OTP.
    TransferOtp(TransferOtp),
}

/// As whom Eko is called.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Account<'a> {
    /// The registered mobile number of the API user; empty where there is none.
    pub initiator_id: &'a str,
    /// The retailer that the service is run for; empty where there is none.
    pub user_code: &'a str,
}

impl Request {
    fn account(&self) -> Account<'_> {
        let (initiator_id, user_code) = match self {
            Self::RefundOtp(data) => (&data.initiator_id, ""),
            Self::Refund(data) => (&data.initiator_id, data.user_code.as_str()),
            Self::TransferOtp(data) => (&data.initiator_id, data.user_code.as_str()),
        };
        Account { initiator_id: initiator_id.expose(), user_code }
    }

    /// Whether it names another initiator or retailer than the settings.
    fn has_own_account(&self, defaults: &Defaults) -> bool {
        let (asked, ours) = (self.account(), defaults.account());
        let has_own_retailer = !asked.user_code.is_empty() && asked.user_code != ours.user_code;
        asked.initiator_id != ours.initiator_id || has_own_retailer
    }
}

/// Data of `refund_otp`.
#[derive(Clone, Debug)]
pub struct RefundOtp {
    /// Eko's id of the failed transfer.
    pub tid: String,
    /// The registered mobile number of the API user.
    pub initiator_id: Mobile,
}

/// Data of `refund`.
#[derive(Clone, Debug)]
pub struct Refund {
    /// Eko's id of the failed transfer.
    pub tid: String,
    /// What the customer read out.
    pub otp: GivenOtp,
    /// The OTP session, where upstream kept it.
    pub otp_ref_id: Option<OtpRef>,
    /// The retailer that the service is run for.
    pub user_code: String,
    /// The registered mobile number of the API user.
    pub initiator_id: Mobile,
    /// Eko's fixed service code.
    pub service_code: u32,
    /// Eko's fixed state.
    pub state: u32,
}

/// An OTP as its message brings it.
#[derive(Clone, Debug)]
pub enum GivenOtp {
    /// Everybody who reads the message can read it.
    Open(Otp),
    /// Only the worker can, by its key.
    Sealed(SealedOtp),
}

/// Data of `transfer_otp`.
#[derive(Clone, Debug)]
pub struct TransferOtp {
    /// Eko's id of the recipient.
    pub recipient_id: u64,
    /// Whole rupees.
    pub amount: u64,
    /// The sender's mobile number.
    pub customer_id: Mobile,
    /// The retailer that the service is run for.
    pub user_code: String,
    /// The registered mobile number of the API user.
    pub initiator_id: Mobile,
    /// Our reference, the same for every re-send.
    pub client_ref_id: String,
    /// Over which rail it is to go.
    pub rail: Rail,
    /// What a wallet's rail needs besides.
    pub wallet: Option<Wallet>,
}

/// Settings that stand in where a command names none.
#[derive(Clone, Debug, Default)]
pub struct Defaults {
    /// `EKO_INITIATOR_ID`.
    pub initiator_id: Option<Mobile>,
    /// `EKO_USER_CODE`.
    pub user_code: Option<String>,
}

impl Defaults {
    /// As whom Eko is called where no command says otherwise.
    pub fn account(&self) -> Account<'_> {
        let initiator_id = self.initiator_id.as_ref().map_or("", Mobile::expose);
        Account { initiator_id, user_code: self.user_code.as_deref().unwrap_or_default() }
    }
}

/// A message that is no valid command, and all that could be read of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// The kind, where the message's type could be read.
    pub kind: Option<Kind>,
    /// The id, where it is usable.
    pub id: Option<String>,
    /// The attribute `correlationid`, where it is usable.
    pub correlation_id: Option<String>,
    /// What is wrong, and with which field.
    pub problem: Problem,
}

/// One message read: what it says about itself besides the command proper.
#[derive(Clone, Debug)]
pub struct Parsed {
    /// The command, or what is wrong with it.
    pub command: Result<Command, Invalid>,
    /// The attribute `traceparent`, unchecked.
    pub traceparent: Option<String>,
    /// The attribute `tracestate`, unchecked.
    pub tracestate: Option<String>,
    /// The attribute `time`, where it can be read.
    pub time: Option<Timestamp>,
}

impl Command {
    /// What is asked of Eko.
    pub fn kind(&self) -> Kind {
        match self.request {
            Request::RefundOtp(_) => Kind::RefundOtp,
            Request::Refund(_) => Kind::Refund,
            Request::TransferOtp(_) => Kind::TransferOtp,
        }
    }

    /// The transaction that a refund or its OTP is about.
    pub fn tid(&self) -> Option<&str> {
        match &self.request {
            Request::RefundOtp(data) => Some(&data.tid),
            Request::Refund(data) => Some(&data.tid),
            Request::TransferOtp(_) => None,
        }
    }

    /// The event's `subject`: the tid, or our reference where there is none yet.
    pub fn subject(&self) -> &str {
        match &self.request {
            Request::RefundOtp(data) => &data.tid,
            Request::Refund(data) => &data.tid,
            Request::TransferOtp(data) => &data.client_ref_id,
        }
    }

    /// As whom it is called: the initiator, and the retailer where the kind has one.
    pub fn account(&self) -> Account<'_> {
        self.request.account()
    }

    /// Whether it names an account or a rail that is not the usual one: what Eko has against that says
    /// nothing of other commands.
    pub fn has_own_choice(&self) -> bool {
        let has_own_rail = match &self.request {
            Request::TransferOtp(data) => data.rail != Rail::DmtFino,
            Request::RefundOtp(_) | Request::Refund(_) => false,
        };
        self.has_own_account || has_own_rail
    }

    /// Type and data as given, normalised: equal for two messages that ask for the same. It
    /// holds personal data and must be digested under a key before it is kept.
    pub fn canonical(&self) -> &str {
        self.canonical.expose_secret()
    }

    /// The normal form of versions that kept a tid's leading zeros, where it has some: a command
    /// that one of them began is found again by its digest.
    pub fn previous_canonical(&self) -> Option<&str> {
        self.previous_canonical.as_ref().map(|canonical| canonical.expose_secret())
    }

    /// How its OTP comes, where it brings one.
    pub fn given_otp(&self) -> Option<&GivenOtp> {
        match &self.request {
            Request::Refund(data) => Some(&data.otp),
            Request::RefundOtp(_) | Request::TransferOtp(_) => None,
        }
    }

    /// The same with its OTP opened, for a signed call.
    pub fn with_otp(&self, otp: Otp) -> Self {
        let mut opened = self.clone();
        if let Request::Refund(data) = &mut opened.request {
            data.otp = GivenOtp::Open(otp);
        }
        opened
    }

    /// Digits that must not be repeated where Eko's own text is.
    pub fn secrets(&self) -> Vec<&str> {
        match &self.request {
            Request::RefundOtp(data) => vec![data.initiator_id.expose()],
            Request::Refund(data) => match &data.otp {
                GivenOtp::Open(otp) => vec![otp.expose(), data.initiator_id.expose()],
                GivenOtp::Sealed(_) => vec![data.initiator_id.expose()],
            },
            Request::TransferOtp(data) => {
                vec![data.customer_id.expose(), data.initiator_id.expose()]
            }
        }
    }
}

#[cfg(test)]
mod tests;
