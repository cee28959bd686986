//! `eko-worker ledger …`: which ledger it is, and whose the queues are.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use serde::Serialize;

use super::audit::{Auditor, Subject};
use crate::app::outdated;
use crate::app::start::{opening, tls_provider};
use crate::broker::{self, OperatorConnection, Paired, Pairing, Read, Register};
use crate::config::{LedgerAdoptArgs, LedgerArgs, LedgerShowArgs};
use crate::ledger::{Action, ActionResult, Identity, Ledger, Meta, Overview};
use crate::output;

/// What to do where a ledger knows nothing.
const NEW: &str = "the queues stay as they are: set LEDGER_URL to the ledger that has the commands, or, only \
                   if that one is lost for good, take a new one with --new";

/// What is told of a ledger.
#[derive(Serialize)]
struct Told {
    id: String,
    place: String,
    promise: String,
    schema: usize,
    commits: u64,
    adopted: Option<String>,
    forgot: Option<String>,
    prefix: String,
    /// `ours`, `other`, `nobody` or `unknown`.
    pairing: &'static str,
    /// The ledger that the queues belong to, where it is another one.
    paired_with: Option<String>,
    /// The timeline of its PostgreSQL server.
    timeline: Option<u32>,
    /// How often the ledger had committed when the broker was last told.
    register_commits: Option<u64>,
    /// The timeline that the broker was told.
    register_timeline: Option<u32>,
    /// Why the broker could not be asked.
    problem: Option<String>,
}

/// Shows a ledger, or lets it take over the queues.
///
/// # Errors
/// Where a setting is wrong, or ledger or broker cannot be reached.
pub async fn ledger(args: &LedgerArgs) -> anyhow::Result<ExitCode> {
    tls_provider();
    match args {
        LedgerArgs::Show(args) => show(args).await,
        LedgerArgs::Adopt(args) => adopt(args).await,
    }
    .map(|()| ExitCode::SUCCESS)
}

async fn show(args: &LedgerShowArgs) -> anyhow::Result<()> {
    let (ledger, broker) = args.place.read()?;
    let overview = Ledger::look(&ledger).await?;
    let asked = ask(&broker, &overview.meta.id).await;
    let told = tell(overview, &broker.prefix, asked);
    if args.json {
        output::line(serde_json::to_string_pretty(&told)?)
    } else {
        output::print(&text(&told))
    }
    Ok(())
}

async fn ask(
    settings: &broker::Settings,
    id: &str,
) -> Result<(Paired, Option<Register>), broker::Error> {
    let connection = OperatorConnection::open(settings).await?;
    let pairing = connection.pairing();
    let asked = async { Ok((pairing.look(id).await?, says(pairing.read().await?))) }.await;
    connection.close().await;
    asked
}

fn says(read: Read) -> Option<Register> {
    match read {
        Read::Says(register) => Some(register),
        Read::Nothing | Read::Refused => None,
    }
}

fn tell(
    overview: Overview,
    prefix: &str,
    asked: Result<(Paired, Option<Register>), broker::Error>,
) -> Told {
    let Overview { place, promise, meta } = overview;
    let (paired, register, problem) = match asked {
        Ok((paired, register)) => (paired, register, None),
        Err(error) => (Paired::Unknown, None, Some(error.to_string())),
    };
    let (pairing, paired_with) = match paired {
        Paired::Ours => ("ours", None),
        Paired::Other(other) => ("other", Some(other)),
        Paired::Nobody => ("nobody", None),
        Paired::Unknown => ("unknown", None),
    };
    let register = register.filter(|register| register.ledger == meta.id);
    Told {
        timeline: meta.timeline,
        register_timeline: register.as_ref().and_then(|register| register.timeline),
        register_commits: register.map(|register| register.commits),
        id: meta.id,
        place,
        promise,
        schema: meta.schema,
        commits: meta.commits,
        adopted: meta.adopted.map(|time| format!("{time:.3}")),
        forgot: meta.forgot.map(|time| format!("{time:.3}")),
        prefix: prefix.to_owned(),
        pairing,
        paired_with,
        problem,
    }
}

fn text(told: &Told) -> String {
    let never = || "never".to_owned();
    let paired = match (told.pairing, &told.paired_with, &told.problem) {
        (_, Some(other), _) => format!("belong to another ledger, {other}"),
        (_, _, Some(problem)) => format!("not known: {problem}"),
        ("ours", ..) => "belong to this ledger".to_owned(),
        ("nobody", ..) => "belong to no ledger yet".to_owned(),
        _ => "not known: this user of AMQP_URL may not ask".to_owned(),
    };
    let timeline = |timeline: Option<u32>| timeline.map(|timeline| timeline.to_string());
    let of = timeline(told.register_timeline).map(|timeline| format!(" (timeline {timeline})"));
    let register = told.register_commits;
    let register = register.map(|commits| format!("{commits}{}", of.unwrap_or_default()));
    let rows = [
        ("ledger", told.id.clone()),
        ("place", told.place.clone()),
        ("promise", told.promise.clone()),
        ("schema", told.schema.to_string()),
        ("commits", told.commits.to_string()),
        ("timeline", timeline(told.timeline).unwrap_or_else(|| "none, or not told".to_owned())),
        ("adopted", told.adopted.clone().unwrap_or_else(never)),
        ("forgot", told.forgot.clone().unwrap_or_else(never)),
        ("prefix", told.prefix.clone()),
        ("queues", paired),
        ("register", register.unwrap_or_else(|| "says nothing of this ledger".to_owned())),
    ];
    rows.map(|(name, value)| format!("{name:<9}{value}\n")).concat()
}

async fn adopt(args: &LedgerAdoptArgs) -> anyhow::Result<()> {
    let (settings, broker) = args.place.read()?;
    let (person, why) = (args.by.person()?, args.why()?);
    if !args.new {
        // To open it would make it.
        let seen = Ledger::look(&settings).await;
        seen.with_context(|| format!("no ledger can be read at {}; {NEW}", settings.place()))?;
    }
    let connection =
        OperatorConnection::open(&broker).await.context("the broker cannot be reached")?;
    let ledger = Ledger::open(&settings, &opening(Duration::MAX)?).await;
    let ledger = ledger.context("the ledger cannot be opened")?;
    let mut auditor = Auditor::open(&settings, person, why).await?;
    let subject = Subject { id: Some(&ledger.identity().id), tid: None };
    let begun = auditor.begin(Action::LedgerAdopt, subject).await?;
    let told = take_over(&connection.pairing(), &ledger, &broker.prefix, args.new).await;
    connection.close().await;
    let (result, detail) = match &told {
        Ok(told) => (ActionResult::Done, told.trim().replace('\n', " ")),
        Err(error) => (ActionResult::Failed, format!("{error:#}")),
    };
    auditor.end(begun, result, &detail).await?;
    output::print(&told?);
    // A refusal ends what publishes on a connection, and the takeover may have met one.
    let connection =
        OperatorConnection::open(&broker).await.context("the register is not written yet")?;
    let written = register(&connection.pairing(), &ledger).await;
    connection.close().await;
    written.context("the register is not written yet: a worker with this ledger will write it")
}

async fn register(pairing: &Pairing, ledger: &Ledger) -> anyhow::Result<()> {
    let Identity { id, place, .. } = ledger.identity();
    pairing.prepare().await?;
    let read = pairing.read().await?;
    let Meta { commits, timeline, .. } = ledger.meta().await?;
    let known = read.of(id).and_then(|register| register.timeline);
    // A worker is to see that.
    let is_split = read.of(id).is_some_and(|register| register.is_split);
    if read.of(id).is_some_and(|register| register.is_newer_than(timeline)) {
        anyhow::bail!(outdated(place, timeline, known));
    }
    let ledger = id.clone();
    pairing.write(&Register { ledger, commits, timeline: timeline.or(known), is_split }).await?;
    Ok(())
}

/// The ledger first: what it does not know is doubted also if the second step is never made.
async fn take_over(
    pairing: &Pairing,
    ledger: &Ledger,
    prefix: &str,
    may_be_new: bool,
) -> anyhow::Result<String> {
    let Identity { id, place, is_new, .. } = ledger.identity();
    let before = pairing.look(id).await?;
    if before == Paired::Ours {
        return Ok(format!(
            "the queues of {prefix} belong to this ledger already: {id} ({place})\n"
        ));
    }
    anyhow::ensure!(
        may_be_new || !is_new,
        "the ledger {id} ({place}) has never kept a command; {NEW}"
    );
    ledger.adopt().await?;
    pairing.take_over(id).await?;
    let from = match before {
        Paired::Other(other) => format!("from the ledger {other}"),
        Paired::Nobody | Paired::Unknown | Paired::Ours => {
            "from no ledger that is known".to_owned()
        }
    };
    let newness =
        if *is_new { "WARNING: this ledger is NEW and knows of no earlier command.\n" } else { "" };
    Ok(format!(
        "{newness}the ledger {id} ({place}) has taken over the queues of {prefix} {from}.\n\
         Until LEDGER_RETENTION has passed, a refund that it does not know is inquired first.\n\
         A worker with another ledger stops consuming them within seconds, and says why.\n"
    ))
}
