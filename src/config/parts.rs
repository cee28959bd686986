//! Settings that several subcommands share: whoever needs the broker or Eko takes these.

use super::read::Reader;
use super::{Problems, broker_settings, eko_settings};
use crate::command::Defaults;
use crate::{broker, eko};

// Plain comments: clap would take doc comments for the help of each subcommand.

// Where the broker is.
#[expect(missing_docs, reason = "see above")]
#[derive(Clone, Debug, clap::Args)]
pub struct AmqpArgs {
    /// RabbitMQ; several nodes: comma-separated; `amqps` for TLS (1.2 and up), plain `amqp` only to
    /// loopback. In a password, / ? # @ % are written as %2F %3F %23 %40 %25
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
    /// PEM file: who signs the nodes' certificates, for `amqps` [default: the system's CAs]
    #[arg(long, env, value_name = "PATH")]
    pub amqp_ca_file: Option<String>,
    /// PEM file: the worker's own certificate, for `amqps`; it then logs in by it (EXTERNAL)
    #[arg(long, env, value_name = "PATH")]
    pub amqp_client_cert_file: Option<String>,
    /// PEM file: the key of `AMQP_CLIENT_CERT_FILE`
    #[arg(long, env, value_name = "PATH")]
    pub amqp_client_key_file: Option<String>,
    /// Lets `AMQP_URL` be plain `amqp` beyond loopback
    #[arg(long, env, value_name = "BOOL", num_args = 0..=1, default_value_t = false, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub amqp_allow_plaintext: bool,
    /// First part of the names of exchanges and queues, so that environments can share one broker
    #[arg(long, env, value_name = "NAME", default_value = "eko")]
    pub amqp_prefix: String,
}

// Where Eko is, and who calls it.
#[expect(missing_docs, reason = "see above")]
#[derive(Clone, Debug, clap::Args)]
pub struct EkoArgs {
    /// Eko's API; plain http only to loopback. Production's is in your agreement with Eko, who also
    /// must allow your address
    #[arg(long, env, value_name = "URL", default_value = "https://staging.eko.in/ekoapi/v3")]
    pub eko_base_url: String,
    /// Lets `EKO_BASE_URL` be plain http beyond loopback
    #[arg(long, env, value_name = "BOOL", num_args = 0..=1, default_value_t = false, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub eko_allow_http: bool,
    /// PEM file: who signs the certificate of a private endpoint [default: the system's CAs]
    #[arg(long, env, value_name = "PATH")]
    pub eko_ca_file: Option<String>,
    /// Eko's static key of the account (required)
    #[arg(long, env, hide_env_values = true, value_name = "KEY")]
    pub eko_developer_key: Option<String>,
    /// File that holds `EKO_DEVELOPER_KEY`
    #[arg(long, env, value_name = "PATH")]
    pub eko_developer_key_file: Option<String>,
    /// Key that signs each call (required)
    #[arg(long, env, hide_env_values = true, value_name = "KEY")]
    pub eko_access_key: Option<String>,
    /// File that holds `EKO_ACCESS_KEY`
    #[arg(long, env, value_name = "PATH")]
    pub eko_access_key_file: Option<String>,
    /// `initiator_id` of commands that carry none: 10 digits
    #[arg(long, env, hide_env_values = true, value_name = "NUMBER")]
    pub eko_initiator_id: Option<String>,
    /// `user_code` of commands that carry none
    #[arg(long, env, value_name = "CODE")]
    pub eko_user_code: Option<String>,
    /// Longest a whole call of Eko may take, beyond loopback at least 5s
    #[arg(long, env, value_name = "DURATION", default_value = "30s")]
    pub eko_timeout: String,
    /// How old a call's timestamp may be when Eko accepts it: until then Eko may still execute a call
    /// that was held on its way; beyond loopback at least 60s
    #[arg(long, env, value_name = "DURATION", default_value = "120s")]
    pub eko_stamp_tolerance: String,
    /// How far in the past each call's timestamp lies, so that a refund in doubt is settled that much
    /// sooner
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
        let settings = broker_settings(self, Some(1), &mut reader);
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
