//! One event, and what holds for every event whatever it tells.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use jiff::Timestamp;
use jsonschema::Validator;
use serde_json::{Value, json};

use super::broker::Message;
use super::command::text;

/// The codes that the contract names.
const CODES: [&str; 24] = [
    "wrong_otp",
    "otp_expired",
    "tid_not_found",
    "already_refunded",
    "not_refundable",
    "user_not_found",
    "invalid_params",
    "agent_not_allowed",
    "limit_exhausted",
    "insufficient_balance",
    "eko_refused",
    "deadline_passed",
    "eko_unavailable",
    "rate_limited",
    "timeout",
    "network",
    "bad_response",
    "unauthorized",
    "misconfigured",
    "malformed_json",
    "invalid_command",
    "id_reused",
    "delivery_limit",
    "message_lost",
];

/// The schemas of `docs/schemas`, by kind, but for what a later version may add: nothing that they
/// do not name is allowed.
static SCHEMAS: LazyLock<BTreeMap<&str, Validator>> = LazyLock::new(|| {
    let schema = |kind| {
        let path = format!("{}/docs/schemas/event.{kind}.json", env!("CARGO_MANIFEST_DIR"));
        let mut schema = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        close(&mut schema);
        let validator = jsonschema::options().should_validate_formats(true).build(&schema);
        (kind, validator.unwrap())
    };
    ["refund_otp", "refund", "transfer_otp", "command"].map(schema).into()
});

fn close(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            members.values_mut().for_each(close);
            if members.contains_key("properties") {
                members.insert("additionalProperties".to_owned(), json!(false));
            }
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}

/// An event as a subscriber sees it.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    /// The message that brought it.
    pub(crate) message: Message,
    /// Its body.
    pub(crate) body: Value,
}

impl Event {
    /// Reads a message, and checks all that the contract says of any event.
    pub(crate) fn read(message: Message) -> Self {
        let body = serde_json::from_slice(&message.body)
            .unwrap_or_else(|error| panic!("event is no JSON ({error}): {message:?}"));
        let event = Self { message, body };
        event.check_schema();
        event.check_attributes();
        event.check_properties();
        event.check_data();
        event
    }

    /// The string at a JSON pointer of the body.
    pub(crate) fn text(&self, pointer: &str) -> &str {
        text(&self.body, pointer)
    }

    /// Its id.
    pub(crate) fn id(&self) -> &str {
        self.text("/id")
    }

    /// The id of the command that it answers.
    pub(crate) fn command_id(&self) -> &str {
        self.text("/data/command_id")
    }

    /// The last word of its type.
    pub(crate) fn outcome(&self) -> &str {
        self.text("/type").rsplit('.').next().unwrap()
    }

    /// The code of its error.
    pub(crate) fn code(&self) -> &str {
        self.text("/data/error/code")
    }

    /// How often the endpoint was called.
    pub(crate) fn attempts(&self) -> u64 {
        self.body.pointer("/data/attempts").and_then(Value::as_u64).unwrap()
    }

    /// Outcome and code (or who confirmed it), for tables.
    pub(crate) fn told(&self) -> String {
        let second = match self.outcome() {
            "succeeded" => self.text("/data/confirmed_by"),
            _ => self.code(),
        };
        format!("{} {second}", self.outcome())
    }

    fn check_schema(&self) {
        let kind = self.text("/type").split('.').nth(1).unwrap();
        let wrong = SCHEMAS[kind].validate(&self.body).err();
        assert!(wrong.is_none(), "{wrong:?}: {}", self.body);
    }

    fn check_attributes(&self) {
        let body = &self.body;
        assert_eq!(body["specversion"], "1.0", "{body}");
        assert_eq!(body["source"], "/eko-worker", "{body}");
        assert_eq!(body["datacontenttype"], "application/json", "{body}");
        assert_eq!(body["causationid"], body["data"]["command_id"], "{body}");
        let known = [
            "specversion",
            "id",
            "source",
            "type",
            "subject",
            "time",
            "datacontenttype",
            "correlationid",
            "causationid",
            "traceparent",
            "tracestate",
            "data",
        ];
        let odd: Vec<_> =
            body.as_object().unwrap().keys().filter(|key| !known.contains(&key.as_str())).collect();
        assert!(odd.is_empty(), "attributes that the contract does not name: {odd:?}");
        let time = self.text("/time");
        assert!(time.parse::<Timestamp>().is_ok(), "no time: {time}");
        assert!(time.len() == 24 && time.ends_with('Z'), "not UTC with milliseconds: {time}");
        let outcome = format!(".{}", self.outcome());
        let stem = self.id().strip_suffix(&outcome).unwrap_or_else(|| panic!("odd id in {body}"));
        if self.outcome() == "invalid" && self.code() == "id_reused" {
            let digest =
                stem.strip_prefix(self.command_id()).and_then(|rest| rest.strip_prefix(':'));
            assert!(digest.is_some_and(is_hex), "no digest in {}", self.id());
        } else {
            assert_eq!(stem, self.command_id(), "{body}");
        }
        let names_nothing = self.outcome() == "invalid"
            || (self.text("/type").starts_with("eko.transfer_otp.")
                && body.pointer("/data/error/code") == Some(&Value::from("message_lost")));
        assert_eq!(body.get("subject").is_none(), names_nothing, "{body}");
    }

    fn check_properties(&self) {
        let message = &self.message;
        let properties = &message.properties;
        let short = |value: &Option<lapin::types::ShortString>| {
            value.as_ref().map(|value| value.as_str().to_owned()).unwrap_or_default()
        };
        assert_eq!(short(properties.message_id()), self.id());
        assert_eq!(short(properties.kind()), self.text("/type"));
        assert_eq!(short(properties.content_type()), "application/cloudevents+json");
        assert_eq!(*properties.delivery_mode(), Some(2), "an event is persistent");
        let stamp = properties.timestamp().expect("an event has a timestamp");
        let time: Timestamp = self.text("/time").parse().unwrap();
        assert!(stamp.abs_diff(u64::try_from(time.as_second()).unwrap()) <= 1, "{stamp}, {time}");
        assert!(properties.correlation_id().is_some(), "correlation_id is always there");
        let parent = message.header("traceparent").expect("the header traceparent is always there");
        assert_eq!(parent, self.text("/traceparent"));
        let parts: Vec<_> = parent.split('-').collect();
        let lengths: Vec<_> = parts.iter().map(|part| part.len()).collect();
        assert!(parts.iter().all(|part| is_hex(part)) && lengths == [2, 32, 16, 2], "{parent}");
        assert!(parts[1] != "0".repeat(32) && parts[2] != "0".repeat(16), "{parent}");
    }

    fn check_data(&self) {
        let data = self.body["data"].as_object().unwrap();
        let keys: BTreeSet<_> = data.keys().map(String::as_str).collect();
        let required: &[&str] = match self.outcome() {
            "succeeded" => &["result", "confirmed_by"],
            "rejected" => &["error", "eko"],
            "failed" | "expired" | "unresolved" | "invalid" => &["error"],
            other => panic!("no outcome of the contract: {other}"),
        };
        let mut allowed = BTreeSet::from(["command_id", "attempts", "eko"]);
        allowed.extend(required);
        assert!(required.iter().all(|key| keys.contains(key)), "something lacks in {data:?}");
        assert!(keys.is_subset(&allowed), "something is too much in {data:?}");
        if data.contains_key("error") {
            assert!(CODES.contains(&self.code()), "no code of the contract: {}", self.code());
            assert!(!self.text("/data/error/message").is_empty());
        }
        if let Some(result) = data.get("result") {
            let odd = result.as_object().unwrap().values().find(|value| !value.is_string());
            assert_eq!(odd, None, "a result holds strings only: {result}");
        }
        assert!(self.outcome() != "invalid" || self.attempts() == 0, "{data:?}");
    }
}

fn is_hex(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}
