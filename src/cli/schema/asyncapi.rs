//! The contract as an AsyncAPI 3 document: what is where on the broker, and what it looks like.
//!
//! It describes the worker: what it receives, others send. Names are those of the prefix `eko`.

use serde_json::{Map, Value, json};

use crate::broker::Names;
use crate::command::{self, Kind};
use crate::event;

/// The newest version of the AMQP binding.
const BINDING: &str = "0.3.0";
const CONTENT_TYPE: &str = "application/cloudevents+json";
const SCHEMA_FORMAT: &str = "application/schema+json;version=draft-07";

const ABOUT: &str = "Takes commands from RabbitMQ, makes the signed calls of Eko's v3 API and \
    publishes exactly one true outcome event for each.\n\n\
    Commands are published to the exchange `eko.commands`: persistent, `mandatory`, with publisher \
    confirms. Events come from the exchange `eko.events`; each may come twice with the same `id`, \
    and with AMQP's `reply_to` it goes to that queue, too. `eko` in the names of exchanges and \
    queues is `AMQP_PREFIX`; types and routing keys always begin with `eko.`. The queues \
    `eko.retry.*`, `eko.refused.*` are the worker's own.\n\n\
    Schemas describe this version; a later one may add fields and codes to events.";

/// The whole document.
pub(super) fn document() -> Value {
    json!({
        "asyncapi": "3.1.0",
        "info": {
            "title": "eko-worker",
            "version": env!("CARGO_PKG_VERSION"),
            "description": ABOUT,
            "license": {"name": env!("CARGO_PKG_LICENSE")},
        },
        "defaultContentType": CONTENT_TYPE,
        "servers": {
            "rabbitmq": {
                "host": "{host}",
                "protocol": "amqps",
                "protocolVersion": "0.9.1",
                "description": "RabbitMQ 3.10 or later, the one of `AMQP_URL`.",
                "variables": {"host": {"default": "rabbitmq.example.com:5671"}},
            },
        },
        "channels": channels(),
        "operations": operations(),
        "components": {"messages": messages(), "schemas": schemas()},
    })
}

/// Kinds that events tell of: also none, where a message's kind cannot be read.
fn told_of() -> impl Iterator<Item = Option<Kind>> {
    Kind::ALL.into_iter().map(Some).chain([None])
}

/// The type of each event, with kind, outcome and meaning.
fn event_types() -> impl Iterator<Item = (String, Option<Kind>, &'static str, &'static str)> {
    told_of().flat_map(|kind| {
        let name = kind.map_or("command", Kind::as_str);
        event::outcomes(kind)
            .map(move |(outcome, says)| (format!("eko.{name}.{outcome}"), kind, outcome, says))
    })
}

fn reference(path: &str) -> Value {
    json!({"$ref": format!("#/{path}")})
}

/// The messages of a channel, by name.
fn named(names: impl Iterator<Item = String>) -> Value {
    let named = names.map(|name| {
        let value = reference(&format!("components/messages/{name}"));
        (name, value)
    });
    Value::Object(named.collect())
}

fn keyed(exchange: &str) -> Value {
    json!({"amqp": {
        "is": "routingKey",
        "exchange": {"name": exchange, "type": "topic", "durable": true, "autoDelete": false},
        "bindingVersion": BINDING,
    }})
}

fn queued(name: &str) -> Value {
    json!({"amqp": {
        "is": "queue",
        "queue": {"name": name, "durable": true, "exclusive": false, "autoDelete": false},
        "bindingVersion": BINDING,
    }})
}

fn channels() -> Value {
    let names = Names::new("eko");
    let mut channels = Map::new();
    for kind in Kind::ALL {
        let queue = names.queue(kind);
        let channel = json!({
            "address": kind.message_type(),
            "description": format!("Its routing key leads it to the quorum queue `{queue}`."),
            "messages": named([kind.message_type()].into_iter()),
            "bindings": keyed(&names.commands()),
        });
        channels.insert(format!("{}.commands", kind.as_str()), channel);
    }
    for kind in told_of() {
        let name = kind.map_or("command", Kind::as_str);
        let outcomes: Vec<_> = event::outcomes(kind).map(|(outcome, _)| outcome).collect();
        let types = outcomes.iter().map(|outcome| format!("eko.{name}.{outcome}"));
        let channel = json!({
            "address": format!("eko.{name}.{{outcome}}"),
            "description": "Bind a queue of your own to it, with `*` or `#` for any outcome.",
            "parameters": {"outcome": {"enum": outcomes, "description": "How it ended."}},
            "messages": named(types),
            "bindings": keyed(&names.events()),
        });
        channels.insert(format!("{name}.events"), channel);
    }
    channels.insert("dead".to_owned(), json!({
        "address": names.dead(),
        "description": "Commands that need a person, body and properties as they came. Bound to the \
            topic exchange of the same name; the routing key is the event's type.",
        "messages": {"dead": reference("components/messages/dead")},
        "bindings": queued(&names.dead()),
    }));
    channels.insert(
        "unrouted".to_owned(),
        json!({
            "address": names.unrouted(),
            "description": "Events that no subscriber's binding takes.",
            "messages": named(event_types().map(|(name, ..)| name)),
            "bindings": queued(&names.unrouted()),
        }),
    );
    Value::Object(channels)
}

fn operations() -> Value {
    let sent = json!({"amqp": {
        "deliveryMode": 2, "mandatory": true, "timestamp": true, "bindingVersion": BINDING,
    }});
    let received = json!({"amqp": {"ack": true, "bindingVersion": BINDING}});
    let mut operations = Map::new();
    for kind in Kind::ALL {
        let name = kind.as_str();
        let operation = json!({
            "action": "receive",
            "channel": reference(&format!("channels/{name}.commands")),
            "summary": format!("Takes commands of the kind {name}: publish them there."),
            "bindings": received,
        });
        operations.insert(format!("take.{name}"), operation);
    }
    let mut send = |name: &str, channel: &str, summary: &str| {
        let channel = reference(&format!("channels/{channel}"));
        let operation = json!({
            "action": "send", "channel": channel, "summary": summary, "bindings": sent,
        });
        operations.insert(name.to_owned(), operation);
    };
    for kind in told_of() {
        let name = kind.map_or("command", Kind::as_str);
        let summary = "Tells how a command ended, once it is known for good.";
        send(&format!("tell.{name}"), &format!("{name}.events"), summary);
    }
    send("bury", "dead", "Keeps the command of an `invalid`, `failed` or `unresolved` event.");
    send("keep", "unrouted", "Keeps an event that nobody takes.");
    Value::Object(operations)
}

fn messages() -> Value {
    let trace = json!({
        "type": "object",
        "properties": {
            "traceparent": {"type": "string", "description": "W3C trace context."},
            "tracestate": {"type": "string", "description": "The vendors' part of it."},
        },
    });
    let mut messages = Map::new();
    for kind in Kind::ALL {
        let name = kind.message_type();
        let examples = super::examples::commands(kind);
        let examples: Vec<_> = examples
            .into_iter()
            .map(|(name, payload)| json!({"name": name, "payload": payload}))
            .collect();
        let message = Message {
            name: &name,
            summary: "A command.",
            headers: &trace,
            correlation: "id",
            examples: &examples,
        };
        messages.insert(name.clone(), message.to_json());
    }
    for (name, kind, outcome, says) in event_types() {
        let example: Value =
            serde_json::from_slice(&event::example(kind, outcome)).unwrap_or_default();
        let mut headers = trace.clone();
        headers["required"] = json!(["traceparent"]);
        let examples = [json!({"name": outcome, "payload": example})];
        let message = Message {
            name: &name,
            summary: says,
            headers: &headers,
            correlation: "causationid",
            examples: &examples,
        };
        messages.insert(name.clone(), message.to_json());
    }
    messages.insert("dead".to_owned(), dead_letter());
    Value::Object(messages)
}

fn dead_letter() -> Value {
    json!({
        "name": "dead",
        "summary": "A command as it came, valid or not; it may be there twice.",
        "headers": {
            "type": "object",
            "properties": {
                "eko-outcome": {"type": "string", "enum": ["invalid", "failed", "unresolved"]},
                "eko-code": {"type": "string", "description": "The event's `error.code`."},
                "eko-event-id": {"type": "string", "description": "The event's `id`."},
            "eko-time": {
                "type": "string", "format": "date-time", "description": "The event's `time`.",
            },
            },
            "required": ["eko-outcome", "eko-code", "eko-event-id"],
        },
        "payload": {"description": "The command's body, byte for byte."},
    })
}

/// What the document says of one type of message.
struct Message<'a> {
    name: &'a str,
    summary: &'a str,
    headers: &'a Value,
    /// Which attribute names the command.
    correlation: &'a str,
    examples: &'a [Value],
}

impl Message<'_> {
    fn to_json(&self) -> Value {
        let Self { name, summary, headers, correlation, examples } = self;
        json!({
            "name": name,
            "summary": summary,
            "contentType": CONTENT_TYPE,
            "correlationId": {
                "location": format!("$message.payload#/{correlation}"),
                "description": "The id of the command.",
            },
            "headers": headers,
            "payload": {
                "schemaFormat": SCHEMA_FORMAT,
                "schema": reference(&format!("components/schemas/{name}/schema")),
            },
            "bindings": {"amqp": {"messageType": name, "bindingVersion": BINDING}},
            "examples": examples,
        })
    }
}

fn schemas() -> Value {
    let formatted = |schema: Value| json!({"schemaFormat": SCHEMA_FORMAT, "schema": schema});
    let commands = Kind::ALL.map(|kind| (kind.message_type(), formatted(command::schema(kind))));
    let events = event_types()
        .map(|(name, kind, outcome, _)| (name, formatted(event::schema(kind, outcome))));
    Value::Object(commands.into_iter().chain(events).collect())
}
