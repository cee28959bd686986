//! `eko-worker dead`: the commands that need a person, listed, shown, sent once more or dropped.

mod letter;
mod replay;
mod walk;

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
use letter::{Letter, masked};
use replay::{Judge, Ruling};
use walk::Walk;

/// What was done with one of them.
#[derive(Serialize)]
struct Deed {
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
    let mut walk = Walk::begin(connection, &args.choice).await?;
    let mut letters = Vec::new();
    while let Some((letter, _)) = walk.next().await? {
        letters.push(letter);
    }
    walk.end().await?;
    match args.json {
        true => output::line(serde_json::to_string_pretty(&letters)?),
        false => letters.iter().for_each(output::line),
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
    let mut walk = Walk::begin(connection, &choice).await?;
    let mut found: Vec<(Letter, Value)> = Vec::new();
    while let Some((letter, dead)) = walk.next().await? {
        found.push((letter, masked(&dead.body)));
    }
    walk.end().await?;
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
    let (broker, judge) = (args.amqp.broker()?, Judge::new(&args.eko)?);
    let mut walk = Walk::begin(OperatorConnection::open(&broker).await?, &args.choice).await?;
    let mut deeds = Vec::new();
    let went = replay_each(&mut walk, &judge, args, &mut deeds).await;
    conclude(walk, went, &args.choice, deeds, args.json).await
}

async fn replay_each(
    walk: &mut Walk<'_>,
    judge: &Judge,
    args: &DeadReplayArgs,
    deeds: &mut Vec<Deed>,
) -> anyhow::Result<()> {
    while let Some((letter, dead)) = walk.next().await? {
        walk.progress.at("asking Eko, sending");
        let (done, new_id, detail) = match judge.judge(&letter, &dead.body, now()).await {
            Ruling::Keep(why) => (false, None, format!("stays: {why}")),
            Ruling::Send { id, why, .. } if args.dry_run => {
                let detail = format!("would be sent as {id}: {why}");
                (true, Some(id), detail)
            }
            Ruling::Send { id, kind, why } => {
                let sent = replay::send(walk, dead, &letter, (&id, kind), now()).await;
                sent.with_context(|| letter.to_string())?;
                let detail = format!("sent as {id}: {why}");
                (true, Some(id), detail)
            }
        };
        walk.progress.clear();
        deeds.push(tell(Deed { letter, done, new_id, detail }, args.json));
    }
    Ok(())
}

async fn drop_all(args: &DeadDropArgs) -> anyhow::Result<ExitCode> {
    args.choice.must_be_meant(args.yes, args.dry_run)?;
    let connection = OperatorConnection::open(&args.amqp.broker()?).await?;
    let mut walk = Walk::begin(connection, &args.choice).await?;
    let mut deeds = Vec::new();
    let went = drop_each(&mut walk, args, &mut deeds).await;
    conclude(walk, went, &args.choice, deeds, args.json).await
}

async fn drop_each(
    walk: &mut Walk<'_>,
    args: &DeadDropArgs,
    deeds: &mut Vec<Deed>,
) -> anyhow::Result<()> {
    while let Some((letter, dead)) = walk.next().await? {
        if !args.dry_run {
            walk.settle(dead).await.with_context(|| letter.to_string())?;
        }
        walk.progress.clear();
        let detail = if args.dry_run { "would be dropped" } else { "dropped" }.to_owned();
        deeds.push(tell(Deed { letter, done: true, new_id: None, detail }, args.json));
    }
    Ok(())
}

/// At once, so that what is done stands there also where the next one fails.
fn tell(deed: Deed, json: bool) -> Deed {
    if !json {
        output::line(format_args!("{}: {}", deed.letter, deed.detail));
    }
    deed
}

async fn conclude(
    walk: Walk<'_>,
    went: anyhow::Result<()>,
    choice: &DeadChoice,
    deeds: Vec<Deed>,
    json: bool,
) -> anyhow::Result<ExitCode> {
    if json {
        output::line(serde_json::to_string_pretty(&deeds)?);
    }
    let ended = walk.end().await;
    went.and(ended)?;
    let is_all_done = deeds.iter().all(|deed| deed.done);
    let letters: Vec<_> = deeds.into_iter().map(|deed| deed.letter).collect();
    Ok(if is_all_done { all_found(choice, &letters) } else { ExitCode::FAILURE })
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
