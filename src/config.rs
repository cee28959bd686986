//! Every setting: flags and environment → [`Config`]. Only this file reads the environment.

mod amqp;
mod args;
mod blank;
mod bytes;
mod cli;
mod dead;
mod floors;
mod ledger;
mod operator;
mod otp;
mod parts;
mod publish;
mod read;
mod secrets;
mod show;
mod source;
mod tls;
mod tools;
mod unknown;
mod unsettled;
mod urls;

use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::Duration;

pub use self::ledger::{
    LedgerAdoptArgs, LedgerArgs, LedgerPlaceArgs, LedgerShowArgs, LedgerUrlArgs,
};
pub use args::{Args, HealthcheckArgs};
pub use blank::without_blanks;
pub use cli::{CheckArgs, InquireArgs};
pub use dead::{
    DeadArgs, DeadAuditArgs, DeadChoice, DeadDropArgs, DeadListArgs, DeadReplayArgs, DeadShowArgs,
};
pub use operator::{AuditArgs, AuditListArgs, ByArgs, PauseArgs, ResumeArgs};
pub use otp::{KeygenArgs, OtpArgs, OtpKeyArgs, PublicKeyArgs};
pub use parts::{AmqpArgs, EkoArgs};
pub use publish::PublishArgs;
pub use show::ShowArgs;
pub(crate) use source::{Setting, Source, arguments, has_file, in_effect, variable};
pub use tools::{CompletionsArgs, ConfigArgs, Contract, ManArgs, SchemaArgs};
pub use unsettled::{UnsettledArgs, UnsettledInquireArgs, UnsettledListArgs, UnsettledShowArgs};
use url::Url;

use crate::command::Defaults;
use crate::decision::Policy;
use crate::log::Format;
use crate::otp_keys::OtpKeys;
use crate::{breaker, broker, eko};
use read::Reader;

/// The lease of a claim lasts this much longer than a call can: time to publish, so that a
/// claim is seldom taken from a worker that is alive.
const LEASE_MARGIN: Duration = Duration::from_secs(25);

/// A valid configuration, one section a consumer.
#[derive(Clone, Debug)]
pub struct Config {
    pub(crate) broker: broker::Settings,
    pub(crate) eko: eko::Settings,
    pub(crate) ledger: crate::ledger::Settings,
    pub(crate) policy: Policy,
    pub(crate) defaults: Defaults,
    /// How OTPs come, and what opens them.
    pub(crate) otp_keys: OtpKeys,
    /// How long a claim lasts.
    pub(crate) lease: Duration,
    pub(crate) retention: Duration,
    /// `AUDIT_RETENTION`.
    pub(crate) audit_retention: Duration,
    /// `ORPHAN_AFTER`.
    pub(crate) orphan_after: Duration,
    /// Whether this ledger takes the queues over from another one.
    pub(crate) adopts_ledger: bool,
    pub(crate) breaker: breaker::Settings,
    pub(crate) admin_addr: SocketAddr,
    pub(crate) shutdown_grace: Duration,
    pub(crate) log_format: Format,
    pub(crate) log_filter: Option<String>,
    /// What is set and looks like a setting, but is none: a sentence each.
    pub(crate) warnings: Vec<String>,
    /// Where spans are exported to, if anywhere.
    pub(crate) otlp_endpoint: Option<Url>,
}

/// What is wrong with the settings: one sentence each, all at once.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct Problems(pub Vec<String>);

impl Config {
    /// The same with a ledger that forgets, to measure what a store costs (`crates/eko-bench`).
    #[must_use]
    pub fn with_ledger_in_memory(self) -> Self {
        Self { ledger: crate::ledger::Settings::Memory, ..self }
    }

    /// Reads and checks all settings.
    ///
    /// # Errors
    /// Each setting that is missing or wrong, by name, with the reason.
    pub fn new(args: &Args) -> Result<Self, Problems> {
        let mut reader = Reader::default();
        let concurrency = reader.concurrency("WORKER_CONCURRENCY", &args.worker_concurrency);
        let broker = amqp::worker_settings(args, concurrency, &mut reader);
        let eko = eko_settings(&args.eko, &mut reader);
        let policy = policy(args, &mut reader);
        let defaults = args.eko.defaults(&mut reader);
        let otp_keys = args.otp.read(&mut reader);
        let ledger = args.ledger.settings(&mut reader);
        let retention = reader.duration("LEDGER_RETENTION", &args.ledger_retention);
        let audit_retention = reader.duration("AUDIT_RETENTION", &args.audit_retention);
        let orphan_after = reader.duration("ORPHAN_AFTER", &args.orphan_after);
        let is_adaptive =
            reader.truth("WORKER_ADAPTIVE", &args.worker_adaptive).unwrap_or_default();
        let adopts_ledger = reader.truth("LEDGER_ADOPT", &args.ledger_adopt).unwrap_or_default();
        let [rate, fleet_rate] = rates(args, &mut reader);
        let admin_addr = reader.address("ADMIN_ADDR", &args.admin_addr);
        let shutdown_grace = reader.duration("SHUTDOWN_GRACE", &args.shutdown_grace);
        let log_format =
            reader.log_format(args.log_format.as_deref(), std::io::stderr().is_terminal());
        let collector = args.otel_exporter_otlp_endpoint.as_deref();
        let otlp_endpoint =
            collector.and_then(|url| reader.otlp("OTEL_EXPORTER_OTLP_ENDPOINT", url));
        check_floors(args, &mut reader, policy.as_ref(), [retention, orphan_after]);
        reader.finish()?;
        let (Some(broker), Some(eko), Some(policy), Some(ledger), Some(concurrency)) =
            (broker, eko, policy, ledger, concurrency)
        else {
            return Err(Problems(vec!["a setting could not be read".to_owned()]));
        };
        let breaker = breaker::Settings {
            rate,
            fleet_rate,
            stamp_age: eko.stamp_age,
            stamp_tolerance: policy.stamp_tolerance,
            concurrency: concurrency.into(),
            is_adaptive,
        };
        Ok(Self {
            lease: eko.timeout + LEASE_MARGIN,
            broker,
            eko,
            ledger,
            policy,
            defaults,
            otp_keys: otp_keys.unwrap_or_default(),
            retention: retention.unwrap_or_default(),
            audit_retention: audit_retention.unwrap_or_default(),
            orphan_after: orphan_after.unwrap_or_default(),
            adopts_ledger,
            breaker,
            admin_addr: admin_addr.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 9464))),
            shutdown_grace: shutdown_grace.unwrap_or_default(),
            log_format: log_format.unwrap_or(Format::Json),
            log_filter: args.rust_log.clone(),
            warnings: Self::warnings(),
            otlp_endpoint,
        })
    }

    /// A sentence for each variable of the environment that looks like a setting and is none.
    pub(crate) fn warnings() -> Vec<String> {
        let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
        unknown::unknown(names, &source::variables())
    }
}

/// The calls a second of this worker, and of all workers of a key.
fn rates(args: &Args, reader: &mut Reader) -> [Option<NonZeroU32>; 2] {
    let (own, fleet) = (args.worker_rate_limit.as_ref(), args.eko_rate_limit.as_ref());
    let own = own.and_then(|text| reader.rate("WORKER_RATE_LIMIT", text));
    [own, fleet.and_then(|text| reader.fleet_rate("EKO_RATE_LIMIT", text))]
}

/// Notes what would break a guarantee, where all of it could be read.
fn check_floors(
    args: &Args,
    reader: &mut Reader,
    policy: Option<&Policy>,
    periods: [Option<Duration>; 2],
) {
    if let (Some(policy), [Some(retention), Some(orphan_after)], Ok(base_url)) =
        (policy, periods, Url::parse(args.eko.eko_base_url.trim()))
    {
        for (name, why) in floors::below(policy, retention, orphan_after, &base_url) {
            reader.wrong(name, &why);
        }
    }
}

fn eko_settings(args: &EkoArgs, reader: &mut Reader) -> Option<eko::Settings> {
    let allow_http = reader.truth("EKO_ALLOW_HTTP", &args.eko_allow_http).unwrap_or_default();
    let base_url = reader.base_url("EKO_BASE_URL", &args.eko_base_url, allow_http);
    let timeout = reader.duration("EKO_TIMEOUT", &args.eko_timeout);
    let stamp_age = reader.age("EKO_STAMP_AGE", &args.eko_stamp_age);
    check_stamp_age(args, stamp_age, timeout, reader);
    let developer_key = reader.key(
        "EKO_DEVELOPER_KEY",
        args.eko_developer_key.as_deref(),
        args.eko_developer_key_file.as_deref(),
    );
    let access_key = reader.key(
        "EKO_ACCESS_KEY",
        args.eko_access_key.as_deref(),
        args.eko_access_key_file.as_deref(),
    );
    let keys = eko::Keys { developer_key: developer_key?, access_key: access_key? };
    let ca_bundle = args.eko_ca_file.as_deref().filter(|path| !path.is_empty());
    let ca_bundle = ca_bundle.and_then(|path| reader.ca_bundle("EKO_CA_FILE", path));
    let base_url = base_url?;
    if ca_bundle.is_some() && base_url.scheme() != "https" {
        reader.wrong(
            "EKO_CA_FILE",
            "is only used with https, but EKO_BASE_URL is http: remove it, or use https",
        );
    }
    let user_agent = concat!("eko-worker/", env!("CARGO_PKG_VERSION"));
    let (timeout, stamp_age) = (timeout?, stamp_age?);
    Some(eko::Settings { base_url, timeout, stamp_age, keys, ca_bundle, user_agent })
}

/// A call may leave at the last moment of its time: Eko must still take its timestamp then.
fn check_stamp_age(
    args: &EkoArgs,
    age: Option<Duration>,
    timeout: Option<Duration>,
    reader: &mut Reader,
) {
    let tolerance = read::duration(&args.eko_stamp_tolerance).ok();
    let (Some(age), Some(timeout), Some(tolerance)) = (age, timeout, tolerance) else { return };
    let sum = age.saturating_add(timeout);
    if sum > tolerance {
        let [age, timeout, sum, tolerance] = [age, timeout, sum, tolerance].map(read::shown);
        let why = format!(
            "EKO_STAMP_AGE {age} + EKO_TIMEOUT {timeout} = {sum} is more than EKO_STAMP_TOLERANCE \
             {tolerance}: Eko would refuse a call that leaves at the last moment of its time"
        );
        reader.wrong("EKO_STAMP_AGE", &why);
    }
}

/// Nothing proves that a refund was not executed before its timestamp has expired and the quiet
/// time after that has passed.
fn check_settle_give_up(policy: &Policy, reader: &mut Reader) {
    let (tolerance, quiet) = (policy.stamp_tolerance, policy.settle_quiet);
    let sum = tolerance.saturating_add(quiet);
    if policy.settle_give_up <= sum {
        let [tolerance, quiet, sum] = [tolerance, quiet, sum].map(read::shown);
        let why = format!(
            "must be more than EKO_STAMP_TOLERANCE {tolerance} + SETTLE_QUIET {quiet} = {sum}: no \
             refund could be proven not executed before it is given up"
        );
        reader.wrong("SETTLE_GIVE_UP", &why);
    }
}

fn policy(args: &Args, reader: &mut Reader) -> Option<Policy> {
    let retry_max = reader.delay("RETRY_MAX", &args.retry_max);
    let retry = reader.backoff("RETRY_INITIAL", &args.retry_initial, retry_max);
    let settle = reader.backoff("SETTLE_POLL", &args.settle_poll, retry_max);
    let give_up_otp = reader.duration("RETRY_GIVE_UP_OTP", &args.retry_give_up_otp);
    let give_up_refund = reader.duration("RETRY_GIVE_UP_REFUND", &args.retry_give_up_refund);
    let otp_resend_spacing = reader.duration("OTP_RESEND_SPACING", &args.otp_resend_spacing);
    let settle_quiet = reader.duration("SETTLE_QUIET", &args.settle_quiet);
    let settle_give_up = reader.duration("SETTLE_GIVE_UP", &args.settle_give_up);
    let refund_max_attempts = reader.count("REFUND_MAX_ATTEMPTS", &args.refund_max_attempts);
    let preflight = reader.preflight("REFUND_PREFLIGHT", &args.refund_preflight);
    let call_timeout = read::duration(&args.eko.eko_timeout).ok();
    let stamp_tolerance = reader.duration("EKO_STAMP_TOLERANCE", &args.eko.eko_stamp_tolerance);
    if let (Some(quiet), Some(timeout)) = (settle_quiet, call_timeout)
        && quiet < timeout
    {
        reader.wrong(
            "SETTLE_QUIET",
            "must be at least EKO_TIMEOUT: a call may still be under way at Eko that long",
        );
    }
    let policy = Policy {
        retry: retry?,
        give_up_otp: give_up_otp?,
        give_up_refund: give_up_refund?,
        otp_resend_spacing: otp_resend_spacing?,
        settle: settle?,
        settle_quiet: settle_quiet?,
        settle_give_up: settle_give_up?,
        refund_max_attempts: refund_max_attempts?,
        preflight: preflight?,
        call_timeout: call_timeout?,
        stamp_tolerance: stamp_tolerance?,
    };
    check_settle_give_up(&policy, reader);
    Some(policy)
}

#[cfg(test)]
mod tests;
