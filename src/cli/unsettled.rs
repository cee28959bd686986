//! `eko-worker unsettled`: the refunds of which nobody knows whether they were executed. Nothing is
//! changed, neither at Eko nor in the ledger.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;

use super::inquire;
use crate::app::start::tls_provider;
use crate::config::{UnsettledArgs, UnsettledInquireArgs, UnsettledListArgs, UnsettledShowArgs};
use crate::ledger::{self, Unsettled, UnsettledRefund, UnsettledState};
use crate::output;

/// A refund as it is printed.
#[derive(Serialize)]
struct Told<'a> {
    #[serde(flatten)]
    refund: &'a UnsettledRefund,
    age_seconds: u64,
}

/// Lists, shows or inquires refunds in doubt. The exit code is 1 where the refund is none of them, or
/// Eko gave no answer.
///
/// # Errors
/// Wrong settings, or a ledger that cannot be read.
pub async fn unsettled(args: &UnsettledArgs) -> anyhow::Result<ExitCode> {
    tls_provider();
    match args {
        UnsettledArgs::List(args) => list(args).await,
        UnsettledArgs::Show(args) => show(args).await,
        UnsettledArgs::InquireNow(args) => inquire_now(args).await,
    }
}

async fn list(args: &UnsettledListArgs) -> anyhow::Result<ExitCode> {
    let older_than = args.older_than()?;
    let Unsettled { now, refunds } = ledger::unsettled(&args.url.ledger()?).await?;
    let told = refunds.iter().map(|refund| Told::of(refund, now));
    let told: Vec<_> = told.filter(|told| told.age_seconds >= older_than.as_secs()).collect();
    if args.json {
        output::line(serde_json::to_string_pretty(&told)?);
    } else {
        told.iter().for_each(|told| output::line(told.text()));
    }
    if told.is_empty() {
        output::remark("no refund is in doubt or unresolved, or none that old");
    }
    Ok(ExitCode::SUCCESS)
}

async fn show(args: &UnsettledShowArgs) -> anyhow::Result<ExitCode> {
    let settings = args.url.ledger()?;
    let (refund, now) = find(&settings, &args.id).await?;
    let told = Told::of(&refund, now);
    let history = ledger::show(&settings, &refund.id).await?.unwrap_or_default();
    if args.json {
        let history: Vec<_> = history.lines().map(str::trim).collect();
        let document = json!({ "unsettled": told, "history": history });
        output::line(serde_json::to_string_pretty(&document)?);
    } else {
        output::print(&format!("{}\n{history}", told.text()));
    }
    Ok(ExitCode::SUCCESS)
}

/// Asks Eko now. The ledger is only read: the worker records its own inquiries.
async fn inquire_now(args: &UnsettledInquireArgs) -> anyhow::Result<ExitCode> {
    let UnsettledInquireArgs { refund: UnsettledShowArgs { id, json, url }, eko } = args;
    let eko = eko.eko()?;
    let (refund, _) = find(&url.ledger()?, id).await?;
    let tid = refund.tid.as_deref().context("the ledger does not know its tid")?;
    let code = inquire::ask(eko, tid, *json).await?;
    output::remark(match refund.state {
        UnsettledState::InDoubt => {
            "nothing was changed: the worker inquires by itself, and settles the refund by its rules"
        }
        UnsettledState::Unresolved => {
            "nothing was changed: the worker has given the refund up; see the runbook, \
             EkoWorkerRefundUnresolved"
        }
    });
    Ok(code)
}

async fn find(
    settings: &ledger::Settings,
    id: &str,
) -> anyhow::Result<(UnsettledRefund, Timestamp)> {
    let Unsettled { now, refunds } = ledger::unsettled(settings).await?;
    let found = refunds.into_iter().find(|refund| refund.id == id);
    let found = found.with_context(|| {
        format!(
            "no refund with the id {id} is in doubt or unresolved; eko-worker show {id} says more"
        )
    })?;
    Ok((found, now))
}

impl<'a> Told<'a> {
    fn of(refund: &'a UnsettledRefund, now: Timestamp) -> Self {
        let age = Duration::try_from(now.duration_since(refund.since)).unwrap_or_default();
        Self { refund, age_seconds: age.as_secs() }
    }

    fn text(&self) -> String {
        let UnsettledRefund {
            id, tid, state, attempts, last_reading, next_inquiry, finished, ..
        } = self.refund;
        let tid = tid.as_deref().unwrap_or("unknown");
        let reading = last_reading.as_ref().map_or_else(
            || "not inquired yet".to_owned(),
            |it| format!("last reading {} at {:.0} ({} in a row)", it.reading, it.at, it.times),
        );
        let next = match (state, next_inquiry, finished) {
            (UnsettledState::Unresolved, _, Some(at)) => format!("given up at {at:.0}"),
            (_, Some(at), _) => format!("next inquiry at {at:.0}"),
            (_, None, _) => "a worker has it, or its message is on its way".to_owned(),
        };
        let age = age(self.age_seconds);
        format!(
            "{id}  tid {tid}  {}  for {age}  attempts {attempts}  {reading}  {next}",
            state.as_str()
        )
    }
}

/// An age for people.
fn age(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}
