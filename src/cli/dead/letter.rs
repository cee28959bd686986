//! A dead letter as a person sees it: no OTP, no mobile number, no text that nobody has checked.

use std::fmt;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::broker::DeadLetter;
use crate::cli::any_defaults;
use crate::cli::audit::Subject;
use crate::command::{Kind, is_mobile, normal_tid, parse};
use crate::privacy::{mask, scrub};

/// What stands in place of what must not be shown.
const HIDDEN: &str = "(hidden)";

/// Attributes whose text says nothing of the customer.
const ATTRIBUTES: [&str; 10] = [
    "correlationid",
    "datacontenttype",
    "expirytime",
    "id",
    "source",
    "specversion",
    "time",
    "traceparent",
    "tracestate",
    "type",
];

/// Fields of `data` that hold numbers of Eko or of the operator.
const NUMBERS: [&str; 6] =
    ["amount", "beneficiary_id", "recipient_id", "service_code", "state", "tid"];

/// What a dead letter is about.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Letter {
    /// The command's id, or what stands in for one that cannot be used.
    pub(super) command_id: Option<String>,
    /// What it asks for.
    pub(super) kind: Option<&'static str>,
    /// The transaction.
    pub(super) tid: Option<String>,
    /// How it ended; none where the broker gave it up and no event tells of it.
    pub(super) outcome: Option<String>,
    /// The code of that, or the broker's reason.
    pub(super) code: Option<String>,
    /// The event that told it.
    pub(super) event_id: Option<String>,
    /// When it ended, as far as is known.
    pub(super) since: Option<Timestamp>,
    /// The command that it is a replay of.
    pub(super) replay_of: Option<String>,
}

impl Letter {
    /// Reads a message.
    pub(super) fn of(dead: &DeadLetter) -> Self {
        let parsed = parse(&dead.body, None, &any_defaults());
        let (id, kind, tid) = match &parsed.command {
            Ok(command) => {
                (Some(command.id.clone()), Some(command.kind()), command.tid().map(str::to_owned))
            }
            Err(invalid) => (invalid.id.clone(), invalid.kind, tid_of(&dead.body)),
        };
        let envelope = dead.envelope();
        let death = dead.death();
        // A worker's copy never carries the broker's own words.
        let (outcome, event_id, code) = match &death {
            Some((reason, _)) => (None, None, Some(reason.clone())),
            None => {
                (dead.header("eko-outcome"), dead.header("eko-event-id"), dead.header("eko-code"))
            }
        };
        let told = dead.header("eko-time").and_then(|time| time.parse().ok());
        let died = death.and_then(|(_, time)| time);
        let stem = event_id.as_ref().and_then(|id| Some(id.rsplit_once('.')?.0.to_owned()));
        Self {
            command_id: id.or(stem),
            kind: kind.map(Kind::as_str),
            tid,
            outcome,
            code,
            event_id,
            since: told.or(died).or(envelope.timestamp).or(parsed.time),
            replay_of: dead.replay_of(),
        }
    }

    /// What the audit says that it is about.
    pub(super) fn subject(&self) -> Subject<'_> {
        Subject { id: self.command_id.as_deref(), tid: self.tid.as_deref() }
    }

    /// Whether this is its id, or that of its event.
    pub(super) fn is(&self, id: &str) -> bool {
        [&self.command_id, &self.event_id].into_iter().any(|own| own.as_deref() == Some(id))
    }
}

impl fmt::Display for Letter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or = |text: &Option<String>, other: &str| text.as_deref().unwrap_or(other).to_owned();
        write!(f, "{}", or(&self.command_id, "(no id)"))?;
        write!(f, "  {}", self.kind.unwrap_or("unknown"))?;
        if let Some(tid) = &self.tid {
            write!(f, "  tid {tid}")?;
        }
        write!(f, "  {}", or(&self.outcome, "given up by the broker"))?;
        if let Some(code) = &self.code {
            write!(f, " ({code})")?;
        }
        match self.since {
            Some(since) => write!(f, "  {since:.0}"),
            None => Ok(()),
        }
    }
}

/// The tid of a message that is no valid command.
fn tid_of(body: &[u8]) -> Option<String> {
    let message: Value = serde_json::from_slice(body).ok()?;
    let tid = match message.pointer("/data/tid")? {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    normal_tid(&tid).filter(|_| is_number(&tid)).map(str::to_owned)
}

fn is_number(text: &str) -> bool {
    (1..=19).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// A message without what is secret or personal: what is not known to be harmless is hidden, since
/// a mistyped field may hold anything.
pub(super) fn masked(body: &[u8]) -> Value {
    let Ok(Value::Object(message)) = serde_json::from_slice(body) else {
        return json!(format!("{} bytes that are not a JSON object", body.len()));
    };
    let show = |(name, value): (String, Value)| {
        let shown = match (name.as_str(), value) {
            ("data", Value::Object(data)) => Value::Object(masked_data(data)),
            (known, Value::String(text)) if ATTRIBUTES.contains(&known) => {
                json!(scrub(&text, &[]))
            }
            _ => json!(HIDDEN),
        };
        (scrub(&name, &[]), shown)
    };
    Value::Object(message.into_iter().map(show).collect())
}

fn masked_data(data: Map<String, Value>) -> Map<String, Value> {
    let show = |(name, value): (String, Value)| {
        let text = match &value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let shown = match name.as_str() {
            known if NUMBERS.contains(&known) && is_number(&text) => value,
            "customer_id" | "initiator_id" if is_mobile(&text) => json!(mask(&text)),
            "client_ref_id" | "rail" | "user_code" => json!(scrub(&text, &[])),
            _ => json!(HIDDEN),
        };
        (scrub(&name, &[]), shown)
    };
    data.into_iter().map(show).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shown_message_has_no_otp_and_no_mobile_number_wherever_they_stand() {
        let body = br#"{"id":"a","type":"eko.refund.request","extra":"735193","data":{"tid":13192443,
            "otp":"735193","opt":"735193","otp_ref_id":"ref","customer_id":9123456789,
            "initiator_id":"9962981729","user_code":"9123456789","amount":"735193 to 9123456789"}}"#;
        let shown = masked(body);
        let expected = json!({
            "id": "a", "type": "eko.refund.request", "extra": "(hidden)",
            "data": {
                "tid": 13_192_443, "otp": "(hidden)", "opt": "(hidden)", "otp_ref_id": "(hidden)",
                "customer_id": "XXXXXX6789", "initiator_id": "XXXXXX1729",
                "user_code": "XXXXXX6789", "amount": "(hidden)",
            },
        });
        assert_eq!(shown, expected);
        assert_eq!(masked(b"735193"), json!("6 bytes that are not a JSON object"));
    }

    #[test]
    fn only_a_number_is_a_tid() {
        assert_eq!(tid_of(br#"{"data":{"tid":13192443}}"#).as_deref(), Some("13192443"));
        assert_eq!(tid_of(br#"{"data":{"tid":"013192443"}}"#).as_deref(), Some("13192443"));
        assert_eq!(tid_of(br#"{"data":{"tid":"call 9123456789"}}"#), None);
        assert_eq!(tid_of(b"otp"), None);
    }
}
