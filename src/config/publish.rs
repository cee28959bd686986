//! What `publish` takes: the fields of a command, and where the broker is.

use std::time::Duration;

use super::parts::AmqpArgs;
use super::{Problems, read};

/// A command to publish; what its fields may hold the contract says.
#[derive(Clone, Debug, clap::Args)]
pub struct PublishArgs {
    /// The kind of command
    #[arg(value_name = "KIND", value_parser = ["refund_otp", "refund", "transfer_otp"])]
    pub kind: String,
    /// Id of the command. The same id is the same command and is never executed twice [default: a
    /// new id]
    #[arg(long)]
    pub id: Option<String>,
    /// Time after which the command is not started, such as 2026-11-21T09:10:00Z [default: none]
    #[arg(long, value_name = "TIME")]
    pub expirytime: Option<String>,
    /// Text that the event repeats as its `correlationid`
    #[arg(long, value_name = "ID")]
    pub correlationid: Option<String>,
    /// Eko's id of the failed transfer
    #[arg(long)]
    pub tid: Option<String>,
    /// File with the OTP of a refund, or - for standard input. There is no flag for the OTP itself,
    /// since other users of the machine can read arguments [default: ask on the terminal]
    #[arg(long, value_name = "PATH")]
    pub otp_file: Option<String>,
    /// Public key of the worker, as `eko-worker public-key` prints it: the OTP is sealed for it
    /// [default: the OTP is sent open]
    #[arg(long, value_name = "KEY")]
    pub otp_public_key: Option<String>,
    /// `otp_ref_id` from the event of the `refund_otp` command
    #[arg(long, value_name = "REF")]
    pub otp_ref_id: Option<String>,
    /// `user_code` of the retailer [default: the worker's]
    #[arg(long, value_name = "CODE")]
    pub user_code: Option<String>,
    /// `initiator_id`: the API user's registered number, 10 digits [default: the worker's]
    #[arg(long, value_name = "NUMBER")]
    pub initiator_id: Option<String>,
    /// Eko's service code [default: 80]
    #[arg(long, value_name = "N")]
    pub service_code: Option<String>,
    /// Eko's `state` field [default: 1]
    #[arg(long, value_name = "N")]
    pub state: Option<String>,
    /// Eko's id of the recipient
    #[arg(long, value_name = "ID")]
    pub recipient_id: Option<String>,
    /// Amount in whole rupees
    #[arg(long, value_name = "RUPEES")]
    pub amount: Option<String>,
    /// The sender's mobile number
    #[arg(long, value_name = "NUMBER")]
    pub customer_id: Option<String>,
    /// `client_ref_id`: our reference at Eko [default: made from the id]
    #[arg(long, value_name = "REF")]
    pub client_ref_id: Option<String>,
    /// Rail of the transfer: dmt-fino, ppi-digikhata or ppi-levin [default: dmt-fino]
    #[arg(long, value_name = "RAIL")]
    pub rail: Option<String>,
    /// Eko's id of the recipient's bank account, for a ppi rail
    #[arg(long, value_name = "ID")]
    pub beneficiary_id: Option<String>,
    /// Longest time to wait for the outcome
    #[arg(long, value_name = "DURATION", default_value = "2m")]
    pub timeout: String,
    /// Print the event as it is, on one line
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
