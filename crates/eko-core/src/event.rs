//! Output contract: command, outcome and time → the CloudEvent that tells it.

mod example;
mod schema;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Serialize};

use crate::command::Kind;
use crate::outcome::{Answer, ConfirmedBy, Outcome, OutcomeName, Problem, Receipt};
use crate::trace::Trace;
pub use example::example;
pub use schema::{outcomes, schema};

/// Bytes of a body, as good as always: one that grows is copied.
const USUAL_LENGTH: usize = 1_024;

/// An event as it is published, and as the ledger keeps it for whoever asks again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// `<command id>.<outcome>`.
    pub id: String,
    /// `eko.<kind>.<outcome>`: also the routing key.
    pub message_type: String,
    /// The outcome that it tells.
    pub outcome: OutcomeName,
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
pub struct About<'a> {
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

#[derive(Serialize, JsonSchema)]
struct Envelope<'a> {
    /// CloudEvents' version.
    #[schemars(extend("const" = "1.0"))]
    specversion: &'static str,
    /// `<command id>.<outcome>`: the same again is the same event, so drop it.
    id: &'a str,
    /// This worker.
    source: &'static str,
    /// `eko.<kind>.<outcome>`, also the routing key.
    #[serde(rename = "type")]
    message_type: &'a str,
    /// The tid; for `transfer_otp` the `client_ref_id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    subject: Option<&'a str>,
    /// When the outcome was known, in UTC.
    #[schemars(extend("format" = "date-time"))]
    time: String,
    /// What `data` is.
    #[schemars(extend("const" = "application/json"))]
    datacontenttype: &'static str,
    /// The command's `correlationid`, else its AMQP `correlation_id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    correlationid: Option<&'a str>,
    /// The id of the command.
    causationid: &'a str,
    /// W3C trace context: the command's trace, or a new one.
    #[schemars(extend("pattern" = "^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$"))]
    traceparent: &'a str,
    /// The vendors' part of the trace context.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    tracestate: Option<&'a str>,
    /// How the command ended.
    data: Data<'a>,
}

#[derive(Serialize, JsonSchema)]
struct Data<'a> {
    /// The id of the command, or a digest of a message without a usable one.
    command_id: &'a str,
    /// Calls of the kind's endpoint at Eko.
    attempts: u32,
    /// Who said that it was done.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ConfirmedBy")]
    confirmed_by: Option<&'static str>,
    /// What Eko gave, in one form whatever form Eko used.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Receipt")]
    result: Option<&'a Receipt>,
    /// What went wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Problem")]
    error: Option<&'a Problem>,
    /// Eko's own numbers, where Eko answered this command.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Answer")]
    eko: Option<&'a Answer>,
}

impl Event {
    /// Tells an outcome.
    pub fn new(about: &About<'_>, outcome: &Outcome, now: Timestamp) -> Self {
        let id = [about.event_id, ".", outcome.as_str()].concat();
        let subject = about.kind.map_or("command", Kind::as_str);
        let message_type = ["eko.", subject, ".", outcome.as_str()].concat();
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
        let mut body = Vec::with_capacity(USUAL_LENGTH);
        serde_json::to_writer(&mut body, &envelope).unwrap_or_default();
        Self {
            outcome: outcome.name(),
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
    pub fn read(body: Vec<u8>) -> Result<Self, serde_json::Error> {
        let told: Told = serde_json::from_slice(&body)?;
        let name = told.message_type.rsplit('.').next().unwrap_or_default();
        let outcome = OutcomeName::from_name(name)
            .ok_or_else(|| serde_json::Error::custom(format_args!("{name:?} is no outcome")))?;
        Ok(Self {
            outcome,
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
    pub fn receipt(&self) -> Receipt {
        self.told().and_then(|told| told.result).unwrap_or_default()
    }

    /// What Eko answered, as far as the event tells it.
    pub fn answer(&self) -> Option<Answer> {
        self.told()?.eko
    }

    fn told(&self) -> Option<ToldData> {
        serde_json::from_slice::<Told>(&self.body).ok().map(|told| told.data)
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
    eko: Option<Answer>,
}

#[cfg(test)]
mod tests;
