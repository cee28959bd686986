//! Settings that several subcommands share: whoever needs the broker or Eko takes these.

use super::read::Reader;
use super::{Problems, amqp, eko_settings};
use crate::command::Defaults;
use crate::{broker, eko};

// Plain comments: clap would take doc comments for the help of each subcommand.

// Where the broker is.
#[expect(missing_docs, reason = "see above")]
#[derive(Clone, Debug, clap::Args)]
pub struct AmqpArgs {
    /// RabbitMQ: one address, or those of several nodes with commas. `amqps` uses TLS 1.2 or later.
    /// `amqp` is allowed to loopback only. In a password, write / ? # @ % as %2F %3F %23 %40 %25
    #[arg(
        long,
        env,
        hide_env_values = true,
        value_name = "URL",
        default_value = "amqp://guest:guest@127.0.0.1:5672/%2f"
    )]
    pub amqp_url: String,
    /// File that holds `AMQP_URL`
    #[arg(long, env, value_name = "PATH")]
    pub amqp_url_file: Option<String>,
    /// PEM file with the CA that signs the certificates of the nodes, for `amqps` [default: the
    /// system's CAs]
    #[arg(long, env, value_name = "PATH")]
    pub amqp_ca_file: Option<String>,
    /// PEM file with the worker's own certificate, for `amqps`. The worker then logs in with it
    /// (EXTERNAL)
    #[arg(long, env, value_name = "PATH")]
    pub amqp_client_cert_file: Option<String>,
    /// PEM file with the key of `AMQP_CLIENT_CERT_FILE`
    #[arg(long, env, value_name = "PATH")]
    pub amqp_client_key_file: Option<String>,
    /// Allow plain `amqp` in `AMQP_URL` to other machines
    #[arg(long, env, value_name = "BOOL", num_args = 0..=1, default_value = "false", default_missing_value = "true")]
    pub amqp_allow_plaintext: String,
    /// First part of the names of exchanges and queues. With different prefixes, environments can
    /// share a broker
    #[arg(long, env, value_name = "NAME", default_value = "eko")]
    pub amqp_prefix: String,
}

// Where Eko is, and who calls it.
#[expect(missing_docs, reason = "see above")]
#[derive(Clone, Debug, clap::Args)]
pub struct EkoArgs {
    /// Eko's API. Plain http is allowed to loopback only. The URL of production is in your
    /// agreement with Eko, who must also allow your IP address
    #[arg(long, env, value_name = "URL", default_value = "https://staging.eko.in/ekoapi/v3")]
    pub eko_base_url: String,
    /// Allow plain http in `EKO_BASE_URL` to other machines
    #[arg(long, env, value_name = "BOOL", num_args = 0..=1, default_value = "false", default_missing_value = "true")]
    pub eko_allow_http: String,
    /// PEM file with the CA that signs the certificate of a private endpoint [default: the system's
    /// CAs]
    #[arg(long, env, value_name = "PATH")]
    pub eko_ca_file: Option<String>,
    /// Developer key of the account at Eko (required)
    #[arg(long, env, hide_env_values = true, value_name = "KEY")]
    pub eko_developer_key: Option<String>,
    /// File that holds `EKO_DEVELOPER_KEY`
    #[arg(long, env, value_name = "PATH")]
    pub eko_developer_key_file: Option<String>,
    /// Access key of the account at Eko. It signs each call (required)
    #[arg(long, env, hide_env_values = true, value_name = "KEY")]
    pub eko_access_key: Option<String>,
    /// File that holds `EKO_ACCESS_KEY`
    #[arg(long, env, value_name = "PATH")]
    pub eko_access_key_file: Option<String>,
    /// `initiator_id` for commands without one: 10 digits
    #[arg(long, env, hide_env_values = true, value_name = "NUMBER")]
    pub eko_initiator_id: Option<String>,
    /// `user_code` for commands without one
    #[arg(long, env, value_name = "CODE")]
    pub eko_user_code: Option<String>,
    /// Longest time that a call of Eko may take. At least 5s unless Eko is on loopback
    #[arg(long, env, value_name = "DURATION", default_value = "30s")]
    pub eko_timeout: String,
    /// Age up to which Eko accepts the timestamp of a call. Until then it may still execute a call
    /// that was delayed. At least 60s unless Eko is on loopback
    #[arg(long, env, value_name = "DURATION", default_value = "120s")]
    pub eko_stamp_tolerance: String,
    /// Age of the timestamp when a call is signed. A refund in doubt is settled that much sooner
    #[arg(long, env, value_name = "DURATION", default_value = "0s")]
    pub eko_stamp_age: String,
}

impl AmqpArgs {
    /// Where the broker is, for somebody who takes one message at a time.
    ///
    /// # Errors
    /// Each setting that is wrong, by name, with the reason.
    pub(crate) fn broker(&self) -> Result<broker::Settings, Problems> {
        let mut reader = Reader::default();
        let settings = amqp::settings(self, Some(1), &mut reader);
        reader.finish()?;
        settings.ok_or_else(|| Problems(vec!["AMQP_URL: could not be read".to_owned()]))
    }
}

impl EkoArgs {
    /// Where Eko is, and what stands in for what a command does not name.
    ///
    /// # Errors
    /// Each setting that is missing or wrong, by name, with the reason.
    pub(crate) fn eko(&self) -> Result<(eko::Settings, Defaults), Problems> {
        let mut reader = Reader::default();
        let settings = eko_settings(self, &mut reader);
        let defaults = self.defaults(&mut reader);
        reader.finish()?;
        let settings = settings.map(|settings| (settings, defaults));
        settings.ok_or_else(|| Problems(vec!["EKO_BASE_URL: could not be read".to_owned()]))
    }

    /// What stands in for what a command does not name.
    pub(super) fn defaults(&self, reader: &mut Reader) -> Defaults {
        Defaults {
            initiator_id: reader.mobile("EKO_INITIATOR_ID", self.eko_initiator_id.as_deref()),
            user_code: reader.user_code("EKO_USER_CODE", self.eko_user_code.as_deref()),
        }
    }
}
