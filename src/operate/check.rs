//! `eko-worker check`: whether a worker with these settings would find all that it needs.

use anyhow::Context as _;

use crate::app::start::{new_digest_key, tls_provider};
use crate::broker;
use crate::config::Config;
use crate::eko::Client;
use crate::ledger::Ledger;
use crate::verdict::Reading;

/// Reaches broker and Eko once and tells what it saw.
///
/// # Errors
/// What could not be reached, and why.
pub async fn check(config: Config) -> anyhow::Result<()> {
    tls_provider();
    println!("settings  ok");
    let broker = check_broker(&config).await;
    let eko = check_eko(&config).await;
    let ledger = check_ledger(&config).await;
    for (name, result) in [("broker", &broker), ("Eko", &eko), ("ledger", &ledger)] {
        match result {
            Ok(told) => println!("{name:<9} ok: {told}"),
            Err(error) => println!("{name:<9} FAILED: {error:#}"),
        }
    }
    broker.and(eko).and(ledger).map(drop).context("not everything is in order")
}

async fn check_broker(config: &Config) -> anyhow::Result<String> {
    let session = broker::connect(&config.broker, 0).await?;
    let (mismatches, is_unchecked) = (session.mismatches(), session.is_unchecked);
    session.close().await;
    anyhow::ensure!(mismatches.is_empty(), mismatches.join("; "));
    Ok(match is_unchecked {
        true => "connected; the topology is there, but this user may not compare its arguments",
        false => "connected; the topology is declared",
    }
    .to_owned())
}

async fn check_eko(config: &Config) -> anyhow::Result<String> {
    let client = Client::new(config.eko.clone())?;
    let initiator_id = config.defaults.initiator_id.as_ref().map_or("", |mobile| mobile.expose());
    let user_code = config.defaults.user_code.as_deref().unwrap_or_default();
    let called = client.probe(initiator_id, user_code).await;
    if let Reading::NoAnswer(cause) = called.meaning {
        let status =
            called.http_status.map_or_else(String::new, |status| format!(" (HTTP {status})"));
        anyhow::bail!("{}{status}", cause.sentence());
    }
    let skew = called
        .skew
        .map_or_else(String::new, |skew| format!("; its clock is {skew:+.1} s off ours"));
    Ok(format!("took our signature and answered an inquiry{skew}"))
}

/// The ledger of a running worker is in use: that is no fault.
async fn check_ledger(config: &Config) -> anyhow::Result<String> {
    let store = config.ledger.store();
    match Ledger::open(&config.ledger, 0, new_digest_key()?).await {
        Ok(_) => Ok(format!("can be opened: {store}")),
        Err(error) if error.to_string().contains("in use by another worker") => {
            Ok(format!("in use by a running worker: {store}"))
        }
        Err(error) => Err(error),
    }
}
