//! Output contract: command, outcome and time → the CloudEvent that tells it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::command::Kind;
use crate::outcome::{Answer, Outcome, Problem, Receipt};
use crate::trace::Trace;

/// An event as it is published, and as the ledger keeps it for whoever asks again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    /// `<command id>.<outcome>`.
    pub id: String,
    /// `eko.<kind>.<outcome>`: also the routing key.
    pub message_type: String,
    /// The outcome's word.
    pub outcome: String,
    /// The problem's code, where there is one.
    pub code: Option<String>,
    /// The trace that the event carries on.
    pub traceparent: String,
    /// The vendors' part of it.
    pub tracestate: Option<String>,
    /// When the outcome was known.
    pub time: Timestamp,
    /// The command's `correlationid`.
    pub correlation_id: Option<String>,
    /// The command that it answers.
    pub command_id: String,
    /// The CloudEvent in structured JSON mode.
    pub body: Vec<u8>,
}

/// What an event tells besides the outcome.
#[derive(Clone, Copy, Debug)]
pub(crate) struct About<'a> {
    /// The command's id, or what stands in for it.
    pub command_id: &'a str,
    /// The event's id without the outcome: the command's id but for `id_reused`.
    pub event_id: &'a str,
    /// The kind, where the message's type could be read.
    pub kind: Option<Kind>,
    /// The tid or our reference; none in `invalid`.
    pub subject: Option<&'a str>,
    /// The command's `correlationid`.
    pub correlation_id: Option<&'a str>,
    /// Calls of the kind's endpoint.
    pub attempts: u32,
    /// The command's trace.
    pub trace: &'a Trace,
    /// The id of the span that publishes.
    pub span: u64,
}

#[derive(Serialize)]
struct Envelope<'a> {
    specversion: &'static str,
    id: &'a str,
    source: &'static str,
    #[serde(rename = "type")]
    message_type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<&'a str>,
    time: String,
    datacontenttype: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlationid: Option<&'a str>,
    causationid: &'a str,
    traceparent: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    tracestate: Option<&'a str>,
    data: Data<'a>,
}

#[derive(Serialize)]
struct Data<'a> {
    command_id: &'a str,
    attempts: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    confirmed_by: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<&'a Receipt>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a Problem>,
    #[serde(skip_serializing_if = "Option::is_none")]
    eko: Option<&'a Answer>,
}

impl Event {
    /// Tells an outcome.
    pub(crate) fn new(about: &About<'_>, outcome: &Outcome, now: Timestamp) -> Self {
        let id = format!("{}.{}", about.event_id, outcome.as_str());
        let subject = about.kind.map_or("command", Kind::as_str);
        let message_type = format!("eko.{subject}.{}", outcome.as_str());
        let traceparent = about.trace.parent(about.span);
        let envelope = Envelope {
            specversion: "1.0",
            id: &id,
            source: "/eko-worker",
            message_type: &message_type,
            subject: about.subject,
            time: format!("{now:.3}"),
            datacontenttype: "application/json",
            correlationid: about.correlation_id,
            causationid: about.command_id,
            traceparent: &traceparent,
            tracestate: about.trace.state.as_deref(),
            data: data(about, outcome),
        };
        // Strings, integers and a map of strings always serialise.
        let body = serde_json::to_vec(&envelope).unwrap_or_default();
        Self {
            outcome: outcome.as_str().to_owned(),
            code: outcome.problem().map(|problem| problem.code.as_str().to_owned()),
            tracestate: about.trace.state.clone(),
            time: now,
            correlation_id: about.correlation_id.map(str::to_owned),
            command_id: about.command_id.to_owned(),
            body,
            id,
            message_type,
            traceparent,
        }
    }

    /// Reads back an event that was told before; its body stays what it was, byte for byte.
    ///
    /// # Errors
    /// Where the body is no event of ours.
    pub(crate) fn read(body: Vec<u8>) -> Result<Self, serde_json::Error> {
        let told: Told = serde_json::from_slice(&body)?;
        Ok(Self {
            outcome: told.message_type.rsplit('.').next().unwrap_or_default().to_owned(),
            code: told.data.error.map(|problem| problem.code.as_str().to_owned()),
            id: told.id,
            message_type: told.message_type,
            traceparent: told.traceparent,
            tracestate: told.tracestate,
            time: told.time,
            correlation_id: told.correlationid,
            command_id: told.causationid,
            body,
        })
    }

    /// The result that the event of a success tells.
    pub(crate) fn receipt(&self) -> Receipt {
        serde_json::from_slice::<Told>(&self.body)
            .ok()
            .and_then(|told| told.data.result)
            .unwrap_or_default()
    }
}

fn data<'a>(about: &About<'a>, outcome: &'a Outcome) -> Data<'a> {
    let (confirmed_by, result, eko) = match outcome {
        Outcome::Succeeded { confirmed_by, receipt, answer } => {
            (Some(confirmed_by.as_str()), Some(receipt), answer.as_ref())
        }
        Outcome::Rejected(refusal) => (None, None, Some(&refusal.answer)),
        Outcome::Expired(_) | Outcome::Failed(_) | Outcome::Unresolved(_) | Outcome::Invalid(_) => {
            (None, None, None)
        }
    };
    let (command_id, attempts) = (about.command_id, about.attempts);
    Data { command_id, attempts, confirmed_by, result, error: outcome.problem(), eko }
}

#[derive(Deserialize)]
struct Told {
    id: String,
    #[serde(rename = "type")]
    message_type: String,
    time: Timestamp,
    correlationid: Option<String>,
    causationid: String,
    traceparent: String,
    tracestate: Option<String>,
    data: ToldData,
}

#[derive(Deserialize)]
struct ToldData {
    result: Option<Receipt>,
    error: Option<Problem>,
}

#[cfg(test)]
mod tests;
