//! `eko-worker dead`: the commands that need a person, listed, shown, sent once more or dropped.

mod cursor;
mod letter;
mod replay;

use std::process::ExitCode;

use anyhow::Context as _;
use serde::Serialize;
use serde_json::{Value, json};

use super::now;
use crate::app::start::tls_provider;
use crate::broker::OperatorConnection;
use crate::config::{
    DeadArgs, DeadChoice, DeadDropArgs, DeadListArgs, DeadReplayArgs, DeadShowArgs,
};
use crate::output;
use cursor::Cursor;
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

async fn replay_all(args: &DeadReplayArgs) -> anyhow::Result<ExitCode> {
    args.choice.must_be_meant(args.yes, args.dry_run)?;
    let (broker, policy) = (args.amqp.broker()?, ReplayPolicy::new(&args.eko)?);
    let mut cursor = Cursor::begin(OperatorConnection::open(&broker).await?, &args.choice).await?;
    let mut reports = Reports::new(args.json);
    let went = replay_each(&mut cursor, &policy, args, &mut reports).await;
    reports.conclude(cursor, went, &args.choice).await
}

async fn replay_each(
    cursor: &mut Cursor<'_>,
    policy: &ReplayPolicy,
    args: &DeadReplayArgs,
    reports: &mut Reports,
) -> anyhow::Result<()> {
    while let Some((letter, dead)) = cursor.next().await? {
        cursor.progress.at("asking Eko, sending");
        let (done, new_id, detail) = match policy.decide(&letter, &dead.body, now()).await {
            ReplayDecision::Keep(why) => (false, None, format!("stays: {why}")),
            ReplayDecision::Send(Sending { id, why, .. }) if args.dry_run => {
                let detail = format!("would be sent as {id}: {why}");
                (true, Some(id), detail)
            }
            ReplayDecision::Send(sending) => {
                let sent = replay::send(cursor, dead, letter.command_id.as_deref(), &sending).await;
                sent.with_context(|| letter.to_string())?;
                let Sending { id, why, .. } = sending;
                let detail = format!("sent as {id}: {why}");
                (true, Some(id), detail)
            }
        };
        cursor.progress.clear();
        reports.add(ActionReport { letter, done, new_id, detail });
    }
    Ok(())
}

async fn drop_all(args: &DeadDropArgs) -> anyhow::Result<ExitCode> {
    args.choice.must_be_meant(args.yes, args.dry_run)?;
    let connection = OperatorConnection::open(&args.amqp.broker()?).await?;
    let mut cursor = Cursor::begin(connection, &args.choice).await?;
    let mut reports = Reports::new(args.json);
    let went = drop_each(&mut cursor, args, &mut reports).await;
    reports.conclude(cursor, went, &args.choice).await
}

async fn drop_each(
    cursor: &mut Cursor<'_>,
    args: &DeadDropArgs,
    reports: &mut Reports,
) -> anyhow::Result<()> {
    while let Some((letter, dead)) = cursor.next().await? {
        if !args.dry_run {
            cursor.settle(dead).await.with_context(|| letter.to_string())?;
        }
        cursor.progress.clear();
        let detail = if args.dry_run { "would be dropped" } else { "dropped" }.to_owned();
        reports.add(ActionReport { letter, done: true, new_id: None, detail });
    }
    Ok(())
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
