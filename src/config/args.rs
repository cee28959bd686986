//! The settings as a person gives them: a flag or a variable each, its doc its help.

use super::ledger::LedgerUrlArgs;
use super::otp::OtpArgs;
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
    /// How OTPs come
    #[command(flatten)]
    pub otp: OtpArgs,
    /// Highest number of calls in flight, for each kind
    #[arg(long, env, value_name = "N", default_value = "64")]
    pub worker_concurrency: String,
    /// Highest total size of the message bodies in memory, such as 16MiB. Each kind has a third of
    /// it. A larger body is refused
    #[arg(long, env, value_name = "BYTES", default_value = "16MiB")]
    pub worker_buffer: String,
    /// Lower the number of calls in flight, down to one, while Eko fails or answers slower than
    /// usual
    #[arg(long, env, value_name = "BOOL", num_args = 0..=1, default_value = "true", default_missing_value = "true")]
    pub worker_adaptive: String,
    /// Highest number of calls a second. All kinds share it [default: none]
    #[arg(long, env, value_name = "N")]
    pub worker_rate_limit: Option<String>,
    /// Highest number of calls a second of all workers together that share the ledger and Eko's
    /// key: at most 1000, which is what a key bears [default: none]
    #[arg(long, env, value_name = "N")]
    pub eko_rate_limit: Option<String>,
    /// Wait before the first retry. Each further wait is about twice as long, with jitter
    #[arg(long, env, value_name = "DURATION", default_value = "500ms")]
    pub retry_initial: String,
    /// Longest wait before a retry, at most 1h
    #[arg(long, env, value_name = "DURATION", default_value = "5m")]
    pub retry_max: String,
    /// Time after which an OTP command is given up
    #[arg(long, env, value_name = "DURATION", default_value = "2m")]
    pub retry_give_up_otp: String,
    /// Time after which a refund is given up that is known not to be executed
    #[arg(long, env, value_name = "DURATION", default_value = "24h")]
    pub retry_give_up_refund: String,
    /// Shortest time between calls for the same OTP, after a call ended unclear
    #[arg(long, env, value_name = "DURATION", default_value = "30s")]
    pub otp_resend_spacing: String,
    /// Wait before the second inquiry about an unclear refund. Further waits grow
    #[arg(long, env, value_name = "DURATION", default_value = "5s")]
    pub settle_poll: String,
    /// Time that an execution may take after Eko has accepted the call. "Refund pending" means not
    /// executed only after `EKO_STAMP_TOLERANCE` and this time. At least `EKO_TIMEOUT`, and at
    /// least 15s unless Eko is on loopback
    #[arg(long, env, value_name = "DURATION", default_value = "30s")]
    pub settle_quiet: String,
    /// Time after which a refund whose outcome is not known becomes `unresolved`
    #[arg(long, env, value_name = "DURATION", default_value = "24h")]
    pub settle_give_up: String,
    /// Highest number of attempts of a refund, counting those that may have reached Eko
    #[arg(long, env, value_name = "N", default_value = "3")]
    pub refund_max_attempts: String,
    /// Time without work on a command, while its queue is empty, after which its message counts as
    /// lost and the command is settled from the ledger. After six times as long the queue need not
    /// be empty. At least 2m unless Eko is on loopback
    #[arg(long, env, value_name = "DURATION", default_value = "10m")]
    pub orphan_after: String,
    /// Which refunds are inquired before their first attempt: those that are `redelivered`, or
    /// `always`
    #[arg(long, env, value_name = "WHEN", default_value = "redelivered")]
    pub refund_preflight: String,
    /// Where the ledger is
    #[command(flatten)]
    pub ledger: LedgerUrlArgs,
    /// Let this ledger take over the queues from another ledger that was lost. Refunds that it does
    /// not know are then inquired first. Remove the setting afterwards
    #[arg(long, env, value_name = "BOOL", num_args = 0..=1, default_value = "false", default_missing_value = "true")]
    pub ledger_adopt: String,
    /// Time for which finished commands are kept. Afterwards the same id is a new command. At least
    /// 1h, and at least the longest give-up time plus `EKO_STAMP_TOLERANCE` and `SETTLE_QUIET`
    #[arg(long, env, value_name = "DURATION", default_value = "90d")]
    pub ledger_retention: String,
    /// Time for which it is kept what people did by hand (`eko-worker audit list`)
    #[arg(long, env, value_name = "DURATION", default_value = "400d")]
    pub audit_retention: String,
    /// Address and port of /metrics, /healthz and /readyz
    #[arg(long, env, value_name = "ADDR:PORT", default_value = "127.0.0.1:9464")]
    pub admin_addr: String,
    /// Form of log lines: `text` or `json` [default: text on a terminal, else json]
    #[arg(long, env, value_name = "FORMAT")]
    pub log_format: Option<String>,
    /// Which log lines are written, such as `debug` or `info,eko=trace`. Lines of the AMQP client
    /// are written only if it names `lapin`
    #[arg(long, env, value_name = "FILTER")]
    pub rust_log: Option<String>,
    /// Collector that gets OpenTelemetry spans by OTLP over HTTP, such as `http://127.0.0.1:4318`
    #[arg(long, env, hide_env_values = true, value_name = "URL")]
    pub otel_exporter_otlp_endpoint: Option<String>,
    /// Time that calls in flight may take after SIGTERM or SIGINT
    #[arg(long, env, value_name = "DURATION", default_value = "25s")]
    pub shutdown_grace: String,
}

/// Where the running worker is asked.
#[derive(Clone, Debug, clap::Args)]
pub struct HealthcheckArgs {
    /// Address and port of its /healthz
    #[arg(long, env, value_name = "HOST:PORT", default_value = "127.0.0.1:9464")]
    pub admin_addr: std::net::SocketAddr,
}
