//! The settings as a person gives them: a flag or a variable each, its doc its help.

use super::ledger::LedgerUrlArgs;
use super::parts::{AmqpArgs, EkoArgs};

/// Settings: each is a variable of the environment, or a flag of the same name, which wins.
///
/// Durations are such as 500ms, 30s, 5m, 24h or 90d. A secret in the variable X may be given
/// as `X_FILE` instead, the path of a file that holds it.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Where the broker is
    #[command(flatten)]
    pub amqp: AmqpArgs,
    /// Where Eko is
    #[command(flatten)]
    pub eko: EkoArgs,
    /// Calls in flight at most, for each kind
    #[arg(long, env, value_name = "N", default_value = "64")]
    pub worker_concurrency: String,
    /// Bodies of messages in the worker's hands at most, all together, such as 16MiB; each kind has a
    /// third of it, and a larger body is refused
    #[arg(long, env, value_name = "BYTES", default_value = "16MiB")]
    pub worker_buffer: String,
    /// Fewer calls in flight, down to one, while Eko fails, or answers nothing as fast as usual
    #[arg(long, env, value_name = "BOOL", num_args = 0..=1, default_value_t = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub worker_adaptive: bool,
    /// Calls a second at most, over all kinds, of which each has a share [default: none]
    #[arg(long, env, value_name = "N")]
    pub worker_rate_limit: Option<String>,
    /// First wait before a retry; each is about twice the one before, with jitter
    #[arg(long, env, value_name = "DURATION", default_value = "500ms")]
    pub retry_initial: String,
    /// Longest wait before a retry; at most 1h
    #[arg(long, env, value_name = "DURATION", default_value = "5m")]
    pub retry_max: String,
    /// When an OTP command is given up
    #[arg(long, env, value_name = "DURATION", default_value = "2m")]
    pub retry_give_up_otp: String,
    /// When a refund that is known not to be executed is given up
    #[arg(long, env, value_name = "DURATION", default_value = "24h")]
    pub retry_give_up_refund: String,
    /// Least time between re-sends of an OTP whose call ended unclear
    #[arg(long, env, value_name = "DURATION", default_value = "30s")]
    pub otp_resend_spacing: String,
    /// First wait between inquiries after an unclear refund
    #[arg(long, env, value_name = "DURATION", default_value = "5s")]
    pub settle_poll: String,
    /// How long after an unclear attempt "refund pending" counts as not executed (after a crash:
    /// after its begin plus `EKO_TIMEOUT`), at least `EKO_TIMEOUT`, beyond loopback at least 15s
    #[arg(long, env, value_name = "DURATION", default_value = "30s")]
    pub settle_quiet: String,
    /// When a refund whose outcome stays unknown becomes `unresolved`
    #[arg(long, env, value_name = "DURATION", default_value = "24h")]
    pub settle_give_up: String,
    /// Attempts of a refund that may have arrived, at most
    #[arg(long, env, value_name = "N", default_value = "3")]
    pub refund_max_attempts: String,
    /// How long nobody must have worked on a command, with its queue empty, until its message is taken
    /// for lost and it is settled from the ledger: at least 2m unless `EKO_BASE_URL` is on loopback.
    /// After six times that, a backlog in its queue does not matter
    #[arg(long, env, value_name = "DURATION", default_value = "10m")]
    pub orphan_after: String,
    /// When a refund is inquired before its first attempt: `redelivered` or `always`
    #[arg(long, env, value_name = "WHEN", default_value = "redelivered")]
    pub refund_preflight: String,
    /// Where the ledger is
    #[command(flatten)]
    pub ledger: LedgerUrlArgs,
    /// Lets this ledger take over the queues from the one that they belong to: once, after a ledger
    /// was lost; refunds that it does not know are then inquired first
    #[arg(long, env, value_name = "BOOL", num_args = 0..=1, default_value_t = false, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub ledger_adopt: bool,
    /// When finished commands are forgotten, so that the same id is a new command: at least 1h, and
    /// the longest give-up time plus `EKO_STAMP_TOLERANCE` and `SETTLE_QUIET`
    #[arg(long, env, value_name = "DURATION", default_value = "90d")]
    pub ledger_retention: String,
    /// Where /metrics, /healthz and /readyz are served
    #[arg(long, env, value_name = "ADDR:PORT", default_value = "127.0.0.1:9464")]
    pub admin_addr: String,
    /// `text` or `json` [default: text on a terminal, else json]
    #[arg(long, env, value_name = "FORMAT")]
    pub log_format: Option<String>,
    /// Which log lines are shown, such as `debug` or `info,eko=trace`; those of
    /// the AMQP client only where it names `lapin`
    #[arg(long, env, value_name = "FILTER")]
    pub rust_log: Option<String>,
    /// Collector of OpenTelemetry spans (OTLP over HTTP), such as `http://127.0.0.1:4318`
    #[arg(long, env, hide_env_values = true, value_name = "URL")]
    pub otel_exporter_otlp_endpoint: Option<String>,
    /// How long calls in flight may go on after SIGTERM or SIGINT
    #[arg(long, env, value_name = "DURATION", default_value = "25s")]
    pub shutdown_grace: String,
}

/// Where the running worker is asked.
#[derive(Clone, Debug, clap::Args)]
pub struct HealthcheckArgs {
    /// Address that its `/healthz` listens on
    #[arg(long, env, value_name = "HOST:PORT", default_value = "127.0.0.1:9464")]
    pub admin_addr: std::net::SocketAddr,
}
