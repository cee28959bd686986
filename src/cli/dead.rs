//! `eko-worker dead`: the commands that need a person, listed, shown, sent once more or dropped.

mod cursor;
mod drop;
mod letter;
mod replay;

use std::process::ExitCode;

use anyhow::Context as _;
use serde::Serialize;
use serde_json::{Value, json};

use super::audit::Auditor;
use super::now;
use crate::app::start::tls_provider;
use crate::broker::{DeadLetter, OperatorConnection};
use crate::config::{
    DeadArgs, DeadAuditArgs, DeadChoice, DeadDropArgs, DeadListArgs, DeadReplayArgs, DeadShowArgs,
};
use crate::ledger::{Action, ActionResult};
use crate::outcome::{Code, OutcomeName};
use crate::output;
use cursor::Cursor;
use drop::{DropDecision, DropPolicy};
use letter::{Letter, masked};
use replay::{ReplayDecision, ReplayPolicy, Sending};

/// What was done with one of them.
#[derive(Serialize)]
struct ActionReport {
    #[serde(flatten)]
    letter: Letter,
    done: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    new_id: Option<String>,
    detail: String,
}

impl ActionReport {
    fn done(letter: Letter, detail: String) -> Self {
        Self { letter, done: true, new_id: None, detail }
    }

    fn kept(letter: Letter, why: &str) -> Self {
        Self { letter, done: false, new_id: None, detail: format!("stays: {why}") }
    }
}

/// Why RabbitMQ gives a message up.
const BROKER_REASONS: [&str; 4] = ["delivery_limit", "rejected", "expired", "maxlen"];

/// Does what is asked for with the dead letters. The exit code is 1 where an id was not found,
/// or not all that were chosen could be sent once more.
///
/// # Errors
/// Wrong settings, a broker that cannot be reached, or a queue that is not there.
pub async fn dead(args: &DeadArgs) -> anyhow::Result<ExitCode> {
    tls_provider();
    match args {
        DeadArgs::List(args) => list(args).await,
        DeadArgs::Show(args) => show(args).await,
        DeadArgs::Replay(args) => replay_all(args).await,
        DeadArgs::Drop(args) => drop_all(args).await,
    }
}

async fn list(args: &DeadListArgs) -> anyhow::Result<ExitCode> {
    let connection = OperatorConnection::open(&args.amqp.broker()?).await?;
    let mut cursor = Cursor::begin(connection, &args.choice).await?;
    let mut letters = Vec::new();
    while let Some((letter, _)) = cursor.next().await? {
        letters.push(letter);
    }
    cursor.end().await?;
    if args.json {
        output::line(serde_json::to_string_pretty(&letters)?)
    } else {
        letters.iter().for_each(output::line)
    }
    if letters.is_empty() {
        output::remark(none(&args.choice));
    }
    Ok(all_found(&args.choice, &letters))
}

async fn show(args: &DeadShowArgs) -> anyhow::Result<ExitCode> {
    let choice = DeadChoice {
        ids: vec![args.id.clone()],
        reason: Vec::new(),
        tid: Vec::new(),
        older_than: None,
        newer_than: None,
        limit: u32::MAX,
    };
    let connection = OperatorConnection::open(&args.amqp.broker()?).await?;
    let mut cursor = Cursor::begin(connection, &choice).await?;
    let mut found: Vec<(Letter, Value)> = Vec::new();
    while let Some((letter, dead)) = cursor.next().await? {
        found.push((letter, masked(&dead.body)));
    }
    cursor.end().await?;
    if args.json {
        let all = found.iter().map(|(letter, message)| json!({"dead": letter, "message": message}));
        output::line(serde_json::to_string_pretty(&all.collect::<Vec<_>>())?);
    } else {
        for (letter, message) in &found {
            let message = serde_json::to_string_pretty(message)?;
            output::line(format_args!("{letter}\n{message}"));
        }
    }
    let letters: Vec<_> = found.into_iter().map(|(letter, _)| letter).collect();
    Ok(all_found(&choice, &letters))
}

/// Opens the audit, unless nothing is to be changed.
async fn auditor(args: &DeadAuditArgs, dry_run: bool) -> anyhow::Result<Option<Auditor>> {
    if dry_run {
        return Ok(None);
    }
    Auditor::open(&args.ledger.ledger()?, args.person()?, args.why()?).await.map(Some)
}

async fn replay_all(args: &DeadReplayArgs) -> anyhow::Result<ExitCode> {
    args.choice.must_be_meant(args.yes, args.dry_run)?;
    let (broker, policy) = (args.amqp.broker()?, ReplayPolicy::new(&args.eko)?);
    let mut auditor = auditor(&args.audit, args.dry_run).await?;
    let mut cursor = Cursor::begin(OperatorConnection::open(&broker).await?, &args.choice).await?;
    let mut reports = Reports::new(args.json);
    let went = replay_each(&mut cursor, &policy, &mut auditor, &mut reports).await;
    reports.conclude(cursor, went, &args.choice).await
}

async fn replay_each(
    cursor: &mut Cursor<'_>,
    policy: &ReplayPolicy,
    auditor: &mut Option<Auditor>,
    reports: &mut Reports,
) -> anyhow::Result<()> {
    while let Some((letter, dead)) = cursor.next().await? {
        cursor.progress.at("asking Eko, sending");
        let report = match auditor {
            Some(auditor) => replay_one(cursor, policy, auditor, (letter, dead)).await?,
            None => would_replay(policy, letter, &dead).await,
        };
        cursor.progress.clear();
        reports.add(report);
    }
    Ok(())
}

/// Says what would be done.
async fn would_replay(policy: &ReplayPolicy, letter: Letter, dead: &DeadLetter) -> ActionReport {
    match policy.decide(&letter, &dead.body, now()).await {
        ReplayDecision::Keep(why) => ActionReport::kept(letter, &why),
        ReplayDecision::Send(Sending { id, why, .. }) => {
            let detail = format!("would be sent as {id}: {why}");
            ActionReport { letter, done: true, new_id: Some(id), detail }
        }
    }
}

async fn replay_one(
    cursor: &Cursor<'_>,
    policy: &ReplayPolicy,
    auditor: &mut Auditor,
    (letter, dead): (Letter, DeadLetter),
) -> anyhow::Result<ActionReport> {
    let begun = auditor.begin(Action::DeadReplay, letter.subject()).await?;
    let sending = match policy.decide(&letter, &dead.body, now()).await {
        ReplayDecision::Keep(why) => {
            let report = ActionReport::kept(letter, &why);
            auditor.end(begun, ActionResult::Refused, &report.detail).await?;
            return Ok(report);
        }
        ReplayDecision::Send(sending) => sending,
    };
    let sent = replay::send(cursor, dead, letter.command_id.as_deref(), &sending).await;
    if let Err(error) = sent.with_context(|| letter.to_string()) {
        auditor.end(begun, ActionResult::Failed, &format!("{error:#}")).await?;
        return Err(error);
    }
    let Sending { id, why, .. } = sending;
    let detail = format!("sent as {id}: {why}");
    auditor.end(begun, ActionResult::Done, &detail).await?;
    Ok(ActionReport { letter, done: true, new_id: Some(id), detail })
}

async fn drop_all(args: &DeadDropArgs) -> anyhow::Result<ExitCode> {
    args.choice.must_be_meant(args.yes, args.dry_run)?;
    let (broker, policy) = (args.amqp.broker()?, DropPolicy::new(args));
    let mut auditor = auditor(&args.audit, args.dry_run).await?;
    let mut cursor = Cursor::begin(OperatorConnection::open(&broker).await?, &args.choice).await?;
    let mut reports = Reports::new(args.json);
    let went = drop_each(&mut cursor, &policy, &mut auditor, &mut reports).await;
    reports.conclude(cursor, went, &args.choice).await
}

async fn drop_each(
    cursor: &mut Cursor<'_>,
    policy: &DropPolicy<'_>,
    auditor: &mut Option<Auditor>,
    reports: &mut Reports,
) -> anyhow::Result<()> {
    while let Some((letter, dead)) = cursor.next().await? {
        let report = match auditor {
            Some(auditor) => drop_one(cursor, policy, auditor, (letter, dead)).await?,
            None => would_drop(policy, letter).await,
        };
        cursor.progress.clear();
        reports.add(report);
    }
    Ok(())
}

/// Says what would be done.
async fn would_drop(policy: &DropPolicy<'_>, letter: Letter) -> ActionReport {
    match policy.decide(&letter).await {
        DropDecision::Keep(why) => ActionReport::kept(letter, &why),
        DropDecision::Ask(said) => {
            ActionReport::done(letter, format!("would be dropped after a question: {said}"))
        }
        DropDecision::Drop(said) => ActionReport::done(letter, with("would be dropped", said)),
    }
}

async fn drop_one(
    cursor: &Cursor<'_>,
    policy: &DropPolicy<'_>,
    auditor: &mut Auditor,
    (letter, dead): (Letter, DeadLetter),
) -> anyhow::Result<ActionReport> {
    let begun = auditor.begin(Action::DeadDrop, letter.subject()).await?;
    let decided = match policy.decide(&letter).await {
        DropDecision::Ask(said) => {
            cursor.progress.clear();
            if drop::ask(&letter, &said).await {
                Ok(Some(said))
            } else {
                Err(format!("the answer was not yes; {said}"))
            }
        }
        DropDecision::Drop(said) => Ok(said),
        DropDecision::Keep(why) => Err(why),
    };
    let said = match decided {
        Ok(said) => said,
        Err(why) => {
            let report = ActionReport::kept(letter, &why);
            auditor.end(begun, ActionResult::Refused, &report.detail).await?;
            return Ok(report);
        }
    };
    if let Err(error) = cursor.settle(dead).await.with_context(|| letter.to_string()) {
        auditor.end(begun, ActionResult::Failed, &format!("{error:#}")).await?;
        return Err(error);
    }
    let detail = with("dropped", said);
    auditor.end(begun, ActionResult::Done, &detail).await?;
    Ok(ActionReport::done(letter, detail))
}

fn with(what: &str, said: Option<String>) -> String {
    said.map_or_else(|| what.to_owned(), |said| format!("{what}: {said}"))
}

/// What is said where nothing is listed.
fn none(choice: &DeadChoice) -> String {
    let words = || OutcomeName::ALL.map(OutcomeName::as_str).into_iter();
    let words = || words().chain(Code::ALL.map(Code::as_str)).chain(BROKER_REASONS);
    let unknown = choice.reason.iter().find(|reason| words().all(|word| word != reason.as_str()));
    match unknown {
        Some(unknown) => {
            let words = words().collect::<Vec<_>>().join(", ");
            format!("no dead letter matches; --reason {unknown} is not one of {words}")
        }
        None => "no dead letter, or none that matches".to_owned(),
    }
}

/// What was done with each, as it is printed: line by line, or as JSON at the end.
struct Reports {
    json: bool,
    reports: Vec<ActionReport>,
}

impl Reports {
    const fn new(json: bool) -> Self {
        Self { json, reports: Vec::new() }
    }

    /// Prints a line at once, so that what is done stands there also where the next one fails.
    fn add(&mut self, report: ActionReport) {
        if !self.json {
            output::line(format_args!("{}: {}", report.letter, report.detail));
        }
        self.reports.push(report);
    }

    /// Prints what is left to print, and tells how all went.
    async fn conclude(
        self,
        cursor: Cursor<'_>,
        went: anyhow::Result<()>,
        choice: &DeadChoice,
    ) -> anyhow::Result<ExitCode> {
        if self.json {
            output::line(serde_json::to_string_pretty(&self.reports)?);
        }
        let ended = cursor.end().await;
        went.and(ended)?;
        let is_all_done = self.reports.iter().all(|report| report.done);
        let letters: Vec<_> = self.reports.into_iter().map(|report| report.letter).collect();
        Ok(if is_all_done { all_found(choice, &letters) } else { ExitCode::FAILURE })
    }
}

/// Whether there was one for each id that was named.
fn all_found(choice: &DeadChoice, letters: &[Letter]) -> ExitCode {
    let is_missing = |id: &&String| !letters.iter().any(|letter| letter.is(id));
    let missing: Vec<_> = choice.ids.iter().filter(is_missing).map(String::as_str).collect();
    if missing.is_empty() {
        return ExitCode::SUCCESS;
    }
    output::remark(format_args!("not among the dead letters: {}", missing.join(", ")));
    ExitCode::FAILURE
}
