//! `eko-worker check`: whether a worker with these settings would find all that it needs.

mod stamps;

use anyhow::Context as _;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::inquire::means;
use crate::app::start::{opening, tls_provider};
use crate::app::{mispaired, outdated};
use crate::breaker::Breakers;
use crate::broker::{self, Paired, Refusals, Session};
use crate::config::{CheckArgs, Config};
use crate::eko::{CallResult, Client, reproduces_the_known_answer};
use crate::ledger::{self, Ledger, Overview};
use crate::output;
use crate::verdict::Reading;
use stamps::{Taken, TimestampSettings};

/// The first RabbitMQ that dead-letters at least once, which parked commands need.
const OLDEST_BROKER: (u32, u32) = (3, 10);

/// What stands where nothing could be asked.
const UNKNOWN: &str = "not known";

/// One thing that was looked at.
#[derive(Serialize)]
struct Finding {
    name: &'static str,
    ok: bool,
    detail: String,
}

/// All of them.
#[derive(Serialize)]
struct Report {
    ok: bool,
    checks: Vec<Finding>,
}

impl Finding {
    fn of(name: &'static str, result: anyhow::Result<String>) -> Self {
        let ok = result.is_ok();
        let detail = result.unwrap_or_else(|error| format!("{error:#}"));
        Self { name, ok, detail }
    }

    fn unknown(name: &'static str, why: &str) -> Self {
        Self { name, ok: false, detail: format!("{UNKNOWN}: {why}") }
    }
}

/// Looks at all that a worker needs, changes nothing at Eko, and tells what it saw.
///
/// # Errors
/// Wrong settings, or that not everything is in order.
pub async fn check(args: &CheckArgs) -> anyhow::Result<()> {
    tls_provider();
    let config = match Config::new(&args.settings) {
        Ok(config) => config,
        Err(problems) => {
            if args.json {
                let detail = problems.0.join("; ");
                tell(vec![Finding { name: "settings", ok: false, detail }], true)?;
            }
            return Err(problems.into());
        }
    };
    let read = ["all are valid".to_owned()];
    let told: Vec<_> = read.iter().chain(&config.warnings).map(String::as_str).collect();
    let settings = Finding::of("settings", Ok(told.join("; ")));
    let mut checks = vec![settings, check_signature()];
    let (ledger, overview) = check_ledger(&config).await;
    checks.extend(check_broker(&config, overview.as_ref()).await);
    checks.extend(check_eko(&config).await);
    checks.push(Finding::of("ledger", ledger));
    if tell(checks, args.json)? { Ok(()) } else { anyhow::bail!("at least one check has failed") }
}

/// Prints all findings; whether all are good.
fn tell(checks: Vec<Finding>, json: bool) -> anyhow::Result<bool> {
    let ok = checks.iter().all(|finding| finding.ok);
    if json {
        output::line(serde_json::to_string_pretty(&Report { ok, checks })?);
        return Ok(ok);
    }
    for Finding { name, ok, detail } in checks {
        let word = if ok { "ok" } else { "FAILED" };
        output::line(format_args!("{name:<11} {word}: {detail}"));
    }
    Ok(ok)
}

fn check_signature() -> Finding {
    let result = if reproduces_the_known_answer() {
        Ok("Eko's published example is signed as published".to_owned())
    } else {
        Err(anyhow::anyhow!(
            "Eko's published example is not signed as published: do not use this build"
        ))
    };
    Finding::of("signature", result)
}

async fn check_broker(config: &Config, ledger: Option<&Overview>) -> Vec<Finding> {
    let refusals = Refusals::new(&config.broker.prefix, CancellationToken::new());
    let session = match broker::connect(&config.broker, &refusals, 0).await {
        Ok(session) => session,
        Err(error) => {
            let unknown = |name| Finding::unknown(name, "the broker could not be reached");
            return vec![
                Finding::of("broker", Err(error.into())),
                unknown("topology"),
                unknown("permissions"),
                unknown("pairing"),
            ];
        }
    };
    let findings = vec![
        Finding::of("broker", check_version(config, session.node).await),
        Finding::of("topology", check_topology(&session)),
        Finding::of("permissions", check_permissions(config, &session).await),
        check_pairing(config, &session, ledger).await,
    ];
    session.close().await;
    findings
}

async fn check_version(config: &Config, node: usize) -> anyhow::Result<String> {
    let (product, version) = broker::version(&config.broker, node).await?;
    let mut numbers = version.split(['.', '-']).map(str::parse);
    if let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) {
        let (least, is_known) = (OLDEST_BROKER, product == "RabbitMQ");
        anyhow::ensure!(
            !is_known || (major, minor) >= least,
            "{product} {version} is too old: parked commands could get lost in one before {}.{}",
            least.0,
            least.1
        );
    }
    Ok(format!("{product} {version}"))
}

fn check_topology(session: &Session) -> anyhow::Result<String> {
    let mismatches = session.mismatches();
    anyhow::ensure!(mismatches.is_empty(), mismatches.join("; "));
    Ok(if session.is_unchecked {
        "it exists, but this user may not compare its arguments"
    } else {
        "it is declared"
    }
    .to_owned())
}

async fn check_permissions(config: &Config, session: &Session) -> anyhow::Result<String> {
    let holds = config.ledger.serves_one();
    let missing = session.missing_permissions(&config.broker, holds).await?;
    anyhow::ensure!(missing.is_empty(), "the user of AMQP_URL has {}", missing.join(", "));
    Ok("this user may read commands, and write events, dead letters and waiting commands"
        .to_owned())
}

/// Whether the queues belong to the ledger, changing nothing.
async fn check_pairing(config: &Config, session: &Session, ledger: Option<&Overview>) -> Finding {
    let Some(Overview { place, meta, .. }) = ledger else {
        return Finding::unknown("pairing", "the ledger was not read");
    };
    let looked = async {
        let pairing = session.pairing()?;
        let paired = pairing.look(&meta.id).await?;
        let read = pairing.read().await?;
        let newer = read.of(&meta.id).filter(|register| register.is_newer_than(meta.timeline));
        Ok::<_, broker::Error>((paired, newer.and_then(|register| register.timeline)))
    };
    let prefix = &config.broker.prefix;
    let told = match looked.await {
        Ok((_, Some(timeline))) => {
            Err(anyhow::anyhow!("{}", outdated(place, meta.timeline, Some(timeline))))
        }
        Ok((Paired::Ours, _)) => {
            Ok(format!("the queues of {prefix} belong to this ledger, {}", meta.id))
        }
        Ok((Paired::Nobody, _)) => Ok(format!(
            "the queues of {prefix} belong to no ledger yet: they will belong to the first worker's"
        )),
        Ok((Paired::Unknown, _)) => {
            Ok(format!("{UNKNOWN}: this user may neither declare nor read {prefix}.ledger"))
        }
        Ok((Paired::Other(other), _)) => {
            Err(anyhow::anyhow!("{}", mispaired(prefix, &other, &meta.id, place)))
        }
        Err(error) => Err(error.into()),
    };
    Finding::of("pairing", told)
}

async fn check_eko(config: &Config) -> Vec<Finding> {
    let client = match Client::new(config.eko.clone()) {
        Ok(client) => client,
        Err(error) => {
            let inquiry = Finding::of("inquiry", Err(error));
            let unknown = |name| Finding::unknown(name, "Eko was not called");
            return vec![inquiry, unknown("clock"), unknown("stamps")];
        }
    };
    let account = config.defaults.account();
    let result = client.probe(account, client.timing()).await;
    let skew = result.skew.unwrap_or_default();
    let probe = async |age| {
        let result = client.probe_aged(account, age, skew).await;
        Taken::of(&result.meaning)
    };
    let settings =
        TimestampSettings { age: config.eko.stamp_age, tolerance: config.policy.stamp_tolerance };
    let stamps = Finding::of("stamps", stamps::check(settings, probe).await);
    vec![Finding::of("inquiry", tell_inquiry(&result)), tell_clock(&result), stamps]
}

fn tell_inquiry(result: &CallResult<Reading>) -> anyhow::Result<String> {
    let told = means(&result.meaning);
    if let Reading::NoAnswer(_) = result.meaning {
        let status =
            result.http_status.map_or_else(String::new, |status| format!(" (HTTP {status})"));
        anyhow::bail!("{told}{status}");
    }
    let took = result.took.as_millis();
    Ok(format!("Eko accepted our signature and answered in {took} ms"))
}

/// An answer without a time is no fault; no answer tells nothing.
fn tell_clock(result: &CallResult<Reading>) -> Finding {
    let Some(skew) = result.skew else {
        let is_answered = !matches!(result.meaning, Reading::NoAnswer(_));
        let unknown = Finding::unknown("clock", "Eko's answer has no Date");
        return Finding { ok: is_answered, ..unknown };
    };
    let detail = format!("Eko's clock differs from ours by {skew:+.1} s");
    Finding { name: "clock", ok: Breakers::is_right(skew), detail }
}

/// Whether the ledger can be used, and what it says of itself. That of a running worker is in use:
/// that is no fault.
async fn check_ledger(config: &Config) -> (anyhow::Result<String>, Option<Overview>) {
    let store = config.ledger.store();
    let opened = match opening(config.retention) {
        Ok(opening) => Ledger::open(&config.ledger, &opening).await.map(drop),
        Err(error) => Err(error),
    };
    let overview = Ledger::look(&config.ledger).await.ok();
    let promise = overview.as_ref().map_or("", |overview| &overview.promise);
    let told = match opened {
        Ok(()) => Ok(format!("can be opened: {store}; {promise}")),
        Err(error) => match error.downcast_ref() {
            Some(ledger::Error::InUse(_)) => Ok(format!("in use by a running worker: {store}")),
            _ => Err(error).context("cannot be used"),
        },
    };
    (told, overview)
}
