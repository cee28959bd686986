//! The history of one command as support reads it: no personal data, no answer's text.

use std::fmt::Write as _;

use jiff::Timestamp;

use super::row::Row;
use super::{Settings, postgres, sqlite};
use eko_core::command::{Kind, read_tid};
use eko_core::event::Event;
use eko_core::history::{Attempt, Entry, Inquiry, SuspicionReason};
use eko_core::outcome::Answer;
use eko_core::verdict::{Fallback, Reading, Verdict};

/// Tells what the ledger knows of one id, or of all commands of a tid; `None` where it knows
/// nothing. Reads only, also beside a running worker.
///
/// # Errors
/// Where the ledger cannot be read.
pub async fn show(settings: &Settings, what: &str) -> anyhow::Result<Option<String>> {
    let mut rows = find(settings, what).await?;
    if let Some(tid) = read_tid(what).filter(|tid| *tid != what) {
        // An id may be all digits too, and is another one with a leading zero.
        let of_tid = |row: &Row| row.tid.as_deref() == Some(tid) && row.id != what;
        rows.extend(find(settings, tid).await?.into_iter().filter(of_tid));
    }
    let told: Vec<String> = rows.iter().map(tell).collect();
    Ok((!told.is_empty()).then(|| told.join("\n")))
}

async fn find(settings: &Settings, what: &str) -> anyhow::Result<Vec<Row>> {
    match settings {
        Settings::Sqlite { path } => sqlite::find(path, what),
        Settings::Postgres(server) => postgres::find(server, what).await,
        Settings::Memory => Ok(Vec::new()),
    }
}

fn tell(row: &Row) -> String {
    let tid = row.tid.as_ref().map_or_else(String::new, |tid| format!(", tid {tid}"));
    let mut text = format!("{} ({}{tid})\n", row.id, Kind::label(row.kind));
    line(&mut text, row.history.first_received, "received");
    let event = row.finished.as_ref().map(|end| Event::read(end.event.clone()));
    let event = event.and_then(Result::ok);
    let mut attempts = 0;
    for entry in &row.history.entries {
        match entry {
            Entry::Attempt(attempt) => {
                attempts += 1;
                tell_attempt(&mut text, attempts, attempt, event.as_ref());
            }
            Entry::Inquiry(inquiry) => tell_inquiry(&mut text, inquiry),
            Entry::Suspicion(suspicion) => {
                let why = match suspicion.why {
                    SuspicionReason::Redelivered => {
                        "delivered before, unknown here: inquired first"
                    }
                    SuspicionReason::LedgerAdopted => {
                        "this ledger took over from another one: inquired first"
                    }
                    SuspicionReason::LedgerForgot => "the ledger had lost commits: inquired first",
                    SuspicionReason::TidDoubted => {
                        "an earlier refund of the tid is in doubt: inquired first"
                    }
                };
                line(&mut text, suspicion.at, why);
            }
        }
    }
    tell_state(&mut text, row, event.as_ref());
    text
}

fn tell_attempt(text: &mut String, nth: u32, attempt: &Attempt, event: Option<&Event>) {
    line(text, attempt.began, &format!("attempt {nth} began"));
    let Some(ended) = &attempt.ended else {
        line(text, attempt.began, &format!("attempt {nth} has no end on record"));
        return;
    };
    let said = match &ended.verdict {
        Verdict::Done(..) => {
            event.and_then(Event::answer).map_or_else(String::new, |answer| numbers(&answer))
        }
        Verdict::Refused(refusal) => {
            format!(" ({}){}", refusal.problem.code.as_str(), numbers(&refusal.answer))
        }
        Verdict::NotNow { cause, .. } => format!(" ({})", cause.as_str()),
        Verdict::Unclear { cause, fallback, .. } => match fallback {
            Fallback::Refuse(refusal) => format!(
                " ({}; looks like {}){}",
                cause.as_str(),
                refusal.problem.code.as_str(),
                numbers(&refusal.answer)
            ),
            Fallback::Repeat | Fallback::Wait => format!(" ({})", cause.as_str()),
        },
    };
    line(text, ended.at, &format!("attempt {nth}: {}{said}", ended.verdict.as_str()));
}

fn tell_inquiry(text: &mut String, inquiry: &Inquiry) {
    let said = match &inquiry.reading {
        Reading::Refunded(_, answer) => format!("refunded{}", numbers(answer)),
        Reading::RefundPending => "refund pending".to_owned(),
        Reading::Succeeded => "the transfer succeeded".to_owned(),
        Reading::Failed => "the transfer failed".to_owned(),
        Reading::InProgress => "in progress".to_owned(),
        Reading::NotFound => "not found".to_owned(),
        Reading::Contradictory => "contradictory".to_owned(),
        Reading::NoAnswer(cause) => format!("no answer ({})", cause.as_str()),
    };
    line(text, inquiry.first, &format!("inquiry: {said}"));
    if inquiry.times > 1 {
        line(text, inquiry.last, &format!("inquiry: the same, {} times in all", inquiry.times));
    }
}

fn tell_state(text: &mut String, row: &Row, event: Option<&Event>) {
    if let Some(end) = &row.finished {
        line(text, end.at, &format!("finished: {}", end.outcome.as_str()));
        let id = event.map_or("cannot be read", |event| event.id.as_str());
        line(text, end.at, &format!("event {id}"));
    }
    if let Some(due) = row.due {
        line(text, due, "due again");
    }
    if let Some(lease) = row.lease {
        line(text, lease.until, "claimed by a worker until then");
    }
    if row.interruptions > 0 {
        // Writing to a string cannot fail.
        writeln!(text, "  claims in a row over which a worker died: {}", row.interruptions).ok();
    }
}

fn numbers(answer: &Answer) -> String {
    let mut text = format!(" http {}", answer.http_status);
    let named = [
        ("status", answer.status),
        ("response_status_id", answer.response_status_id),
        ("response_type_id", answer.response_type_id),
    ];
    for (name, number) in named {
        if let Some(number) = number {
            // Writing to a string cannot fail.
            write!(text, " {name} {number}").ok();
        }
    }
    text
}

fn line(text: &mut String, time: Timestamp, what: &str) {
    // Writing to a string cannot fail.
    writeln!(text, "  {time:.3}  {what}").ok();
}
