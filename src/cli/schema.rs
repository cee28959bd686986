//! `eko-worker schema`: the contract for machines.

mod asyncapi;
mod examples;

use serde_json::{Value, json};

use crate::command::{self, Kind};
use crate::config::{Contract, SchemaArgs};
use crate::event;
use crate::output;

/// Prints a JSON Schema of commands or events, or the whole contract as AsyncAPI.
///
/// # Errors
/// Where it cannot be written.
pub fn schema(args: &SchemaArgs) -> anyhow::Result<()> {
    let document = match &args.of {
        Contract::Command { kind } => Kind::from_name(kind).map(command::schema),
        Contract::Event { kind } => Some(events(Kind::from_name(kind))),
        Contract::Asyncapi => Some(asyncapi::document()),
    };
    output::line(serde_json::to_string_pretty(&document)?);
    Ok(())
}

/// The schema of all events of a kind: one of those of its outcomes, told apart by `type`.
fn events(kind: Option<Kind>) -> Value {
    let about = match kind {
        Some(_) => "What became of a command: one event each, `type` tells which.",
        None => "What became of a message whose kind cannot be read.",
    };
    let mut one_of = Vec::new();
    for (outcome, _) in event::outcomes(kind) {
        let mut schema = event::schema(kind, outcome);
        schema.as_object_mut().map(|schema| schema.remove("$schema"));
        one_of.push(schema);
    }
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": format!("eko.{}.*", kind.map_or("command", Kind::as_str)),
        "description": about,
        "oneOf": one_of,
    })
}
