//! The audit: what a person is about to do is recorded first, and what came of it afterwards. Where
//! the first cannot be recorded, nothing is done.

use std::io::IsTerminal as _;

use anyhow::Context as _;

use super::now;
use crate::app::start::tls_provider;
use crate::config::{AuditArgs, AuditListArgs};
use crate::ledger::{self, Action, ActionResult, AuditEntry, Intent, OperatorLedger};
use crate::log::{self, Format, Lines};
use crate::output;

/// Only the audit's own lines are written: whatever else there is to say, a subcommand prints.
const LINES: &str = "off,audit=info";

/// Records what a person does.
pub(super) struct Auditor {
    /// Where it is recorded.
    pub(super) ledger: OperatorLedger,
    person: String,
    reason: Option<String>,
    _lines: Lines,
}

/// What an action is about.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subject<'a> {
    /// A command's id, a kind, a ledger.
    pub(super) id: Option<&'a str>,
    /// The transaction, where it is about one.
    pub(super) tid: Option<&'a str>,
}

/// An action whose intent was recorded.
#[must_use = "what came of it is to be recorded"]
pub(super) struct Begun {
    entry: i64,
    action: Action,
    subject: Option<String>,
    tid: Option<String>,
}

impl Auditor {
    /// Opens the ledger for what this person does.
    ///
    /// # Errors
    /// Where the ledger cannot be used.
    pub(super) async fn open(
        settings: &ledger::Settings,
        person: String,
        reason: Option<String>,
    ) -> anyhow::Result<Self> {
        let format = if std::io::stderr().is_terminal() { Format::Text } else { Format::Json };
        let lines = log::start(format, Some(LINES)).map_err(anyhow::Error::msg)?;
        let ledger = OperatorLedger::open(settings).await;
        let ledger =
            ledger.context("nothing was done, since it could not be recorded in the ledger")?;
        Ok(Self { ledger, person, reason, _lines: lines })
    }

    /// Records what is about to be done.
    ///
    /// # Errors
    /// Where that fails: then it must not be done.
    pub(super) async fn begin(
        &mut self,
        action: Action,
        subject: Subject<'_>,
    ) -> anyhow::Result<Begun> {
        let Self { person, reason, .. } = &*self;
        let (person, reason) = (person.clone(), reason.clone());
        let Subject { id: subject, tid } = subject;
        let reason = reason.as_deref();
        let intent = Intent { person: &person, action, subject, tid, reason };
        let entry = self.ledger.begin_action(intent).await;
        let entry = entry.context("nothing was done, since it could not be recorded")?;
        let what = action.as_str();
        tracing::info!(
            target: "audit", entry, person, action = what, subject, tid, reason, "an action begins"
        );
        let (subject, tid) = (subject.map(str::to_owned), tid.map(str::to_owned));
        Ok(Begun { entry, action, subject, tid })
    }

    /// Records what came of it.
    ///
    /// # Errors
    /// Where that fails: what was done is done, and its entry has no result.
    pub(super) async fn end(
        &mut self,
        begun: Begun,
        result: ActionResult,
        detail: &str,
    ) -> anyhow::Result<()> {
        let Begun { entry, action, subject, tid } = begun;
        let (person, action, result_word) = (&self.person, action.as_str(), result.as_str());
        tracing::info!(
            target: "audit",
            entry, person, action, subject, tid, result = result_word, detail,
            "an action has ended"
        );
        let ended = self.ledger.end_action(entry, result, detail).await;
        ended
            .with_context(|| format!("it was {result_word}, which could not be recorded: {detail}"))
    }
}

/// Lists what people did.
///
/// # Errors
/// Wrong settings, or a ledger that cannot be read.
pub async fn audit(args: &AuditArgs) -> anyhow::Result<()> {
    tls_provider();
    match args {
        AuditArgs::List(args) => list(args).await,
    }
}

async fn list(args: &AuditListArgs) -> anyhow::Result<()> {
    let filter = args.filter(now())?;
    let entries = OperatorLedger::open(&args.url.ledger()?).await?.audit(&filter).await?;
    if args.json {
        output::line(serde_json::to_string_pretty(&entries)?);
    } else if entries.is_empty() {
        output::remark("no action was recorded, or none that matches");
    } else {
        entries.iter().for_each(|entry| output::line(text(entry)));
    }
    Ok(())
}

fn text(entry: &AuditEntry) -> String {
    let AuditEntry { at, person, action, subject, tid, reason, result, detail, .. } = entry;
    let subject = subject.as_deref().unwrap_or("(no id)");
    let tid = tid.as_ref().map_or_else(String::new, |tid| format!("  tid {tid}"));
    let reason = reason.as_ref().map_or_else(String::new, |reason| format!("  why: {reason}"));
    let result = match (result, detail) {
        (Some(result), Some(detail)) => format!("{result}: {detail}"),
        (Some(result), None) => result.clone(),
        (None, _) => "no result: it was cut off, or is under way".to_owned(),
    };
    format!("{at:.3}  {person}  {action}  {subject}{tid}{reason}  {result}")
}
