//! `eko-worker inquire`: one read-only inquiry, in words.

use std::process::ExitCode;

use serde::Serialize;

use crate::app::start::tls_provider;
use crate::command::Defaults;
use crate::config::InquireArgs;
use crate::eko::{CallResult, Client, Settings};
use crate::outcome::{Answer, Receipt};
use crate::output;
use crate::verdict::Reading;

/// What is told of an inquiry: nothing of the customer's.
#[derive(Serialize)]
struct Told<'a> {
    tid: &'a str,
    reading: &'static str,
    means: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<&'a Receipt>,
    #[serde(skip_serializing_if = "Option::is_none")]
    eko: Option<&'a Answer>,
    #[serde(skip_serializing_if = "Option::is_none")]
    http_status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    clock_skew_seconds: Option<f64>,
}

/// Asks Eko what became of a transaction, and prints it. The exit code is 1 where Eko gave no
/// answer that could be read.
///
/// # Errors
/// Wrong settings.
pub async fn inquire(args: &InquireArgs) -> anyhow::Result<ExitCode> {
    tls_provider();
    ask(args.eko.eko()?, args.tid()?, args.json).await
}

/// Asks Eko, prints what it says, and tells the exit code.
pub(super) async fn ask(
    (settings, defaults): (Settings, Defaults),
    tid: &str,
    json: bool,
) -> anyhow::Result<ExitCode> {
    let client = Client::new(settings)?;
    let call = client.look_up(tid, defaults.account(), client.timing()).await;
    let told = told(tid, &call);
    if json {
        output::line(serde_json::to_string_pretty(&told)?)
    } else {
        output::line(format_args!("tid {tid}: {}: {}", told.reading, told.means));
        for (name, value) in told.result.into_iter().flat_map(Receipt::fields) {
            output::line(format_args!("  {name}: {value}"));
        }
    }
    let is_answered = !matches!(call.meaning, Reading::NoAnswer(_));
    Ok(if is_answered { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn told<'a>(tid: &'a str, call: &'a CallResult<Reading>) -> Told<'a> {
    let (result, eko) = match &call.meaning {
        Reading::Refunded(receipt, answer) => (Some(receipt), Some(answer)),
        _ => (None, None),
    };
    Told {
        tid,
        reading: call.meaning.as_str(),
        means: means(&call.meaning),
        result,
        eko,
        http_status: call.http_status,
        clock_skew_seconds: call.skew,
    }
}

/// What a reading says about the refund, with Eko's number for it.
pub(super) fn means(reading: &Reading) -> String {
    match reading {
        Reading::Refunded(..) => "4, refunded: nothing is left to do",
        Reading::RefundPending => {
            "3, refund pending: not refunded as of now; if a second inquiry says the same half a \
             minute later or more, no refund is under way"
        }
        Reading::Succeeded => "0, the transfer itself succeeded: there is nothing to refund",
        Reading::Failed => "1, the transfer failed: there is nothing to refund",
        Reading::InProgress => "2, 5, 6 or another number, not final: wait and inquire again",
        Reading::NotFound => "Eko does not find the tid, which proves nothing: ask Eko",
        Reading::Contradictory => {
            "the answer contradicts itself or names another transaction: ask Eko"
        }
        Reading::NoAnswer(cause) => return format!("no answer: {}", cause.sentence()),
    }
    .to_owned()
}
