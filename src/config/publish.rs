//! What `publish` takes: the fields of a command, and where the broker is.

use std::time::Duration;

use super::parts::AmqpArgs;
use super::{Problems, read};

/// A command to publish; what its fields may hold the contract says.
#[derive(Clone, Debug, clap::Args)]
pub struct PublishArgs {
    /// What to ask of Eko
    #[arg(value_name = "KIND", value_parser = ["refund_otp", "refund", "transfer_otp"])]
    pub kind: String,
    /// Its id; the same again is the same command, and is never executed twice [default: a new one]
    #[arg(long)]
    pub id: Option<String>,
    /// After it, the command is not started any more, such as 2026-11-21T09:10:00Z
    #[arg(long, value_name = "TIME")]
    pub expirytime: Option<String>,
    /// What the event repeats as its `correlationid`
    #[arg(long, value_name = "ID")]
    pub correlationid: Option<String>,
    /// Eko's id of the failed transfer
    #[arg(long)]
    pub tid: Option<String>,
    /// File that holds the OTP of a refund, or - for standard input [default: it is asked for on
    /// the terminal]. There is no flag for the OTP itself: everybody on the machine can read
    /// another's arguments
    #[arg(long, value_name = "PATH")]
    pub otp_file: Option<String>,
    /// Reference of the OTP, from the event of its `refund_otp`
    #[arg(long, value_name = "REF")]
    pub otp_ref_id: Option<String>,
    /// Retailer that the service is run for [default: the worker's]
    #[arg(long, value_name = "CODE")]
    pub user_code: Option<String>,
    /// Registered number of the API user [default: the worker's]
    #[arg(long, value_name = "NUMBER")]
    pub initiator_id: Option<String>,
    /// Eko's service code [default: 80]
    #[arg(long, value_name = "N")]
    pub service_code: Option<String>,
    /// Eko's state [default: 1]
    #[arg(long, value_name = "N")]
    pub state: Option<String>,
    /// Eko's id of the recipient
    #[arg(long, value_name = "ID")]
    pub recipient_id: Option<String>,
    /// Whole rupees
    #[arg(long, value_name = "RUPEES")]
    pub amount: Option<String>,
    /// The sender's mobile number
    #[arg(long, value_name = "NUMBER")]
    pub customer_id: Option<String>,
    /// Our reference at Eko [default: made from the id]
    #[arg(long, value_name = "REF")]
    pub client_ref_id: Option<String>,
    /// How long to wait for the outcome
    #[arg(long, value_name = "DURATION", default_value = "2m")]
    pub timeout: String,
    /// The event as it is, on one line
    #[arg(long)]
    pub json: bool,
    /// Where the broker is
    #[command(flatten)]
    pub amqp: AmqpArgs,
}

impl PublishArgs {
    /// How long to wait for the outcome.
    pub(crate) fn timeout(&self) -> Result<Duration, Problems> {
        duration("--timeout", &self.timeout)
    }
}

/// A duration that a flag gives.
pub(super) fn duration(name: &str, text: &str) -> Result<Duration, Problems> {
    read::duration(text).map_err(|why| Problems(vec![format!("{name}: {why}")]))
}
