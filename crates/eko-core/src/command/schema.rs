//! The input contract for machines: a JSON Schema of each kind's commands, derived from the
//! types that the parser reads.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Value, json};

use super::attributes::Attributes;
use super::data::{RefundData, RefundOtpData, TransferOtpData};
use super::{Kind, Rail};

/// The JSON Schema of a kind's commands: draft 7, which every validator knows and AsyncAPI takes.
pub fn schema(kind: Kind) -> Value {
    let mut schema = derived::<Attributes<'_>>();
    let (data, about) = match kind {
        Kind::RefundOtp => (derived::<RefundOtpData<'_>>(), "Send the customer a refund OTP."),
        Kind::Refund => (of_otps(derived::<RefundData<'_>>()), "Refund a failed transfer."),
        Kind::TransferOtp => {
            (of_rails(derived::<TransferOtpData<'_>>()), "Send the sender a transfer OTP.")
        }
    };
    let name = kind.message_type();
    schema["title"] = json!(name);
    schema["description"] = json!(format!(
        "{about} Other attributes of CloudEvents are let through; a \
                  name that it does not allow is an error."
    ));
    schema["propertyNames"] = json!({"pattern": "^[a-z0-9]+$"});
    let properties = &mut schema["properties"];
    properties["type"]["const"] = json!(name);
    properties["specversion"] = unread("CloudEvents' version, `1.0`; not read.");
    properties["source"] = unread("Who asks, such as `/shop/checkout`; not read.");
    properties["data"] = with_description(data, "What is asked for; an unknown field is an error.");
    schema
}

/// Adds that an OTP comes either open or sealed.
fn of_otps(mut data: Value) -> Value {
    let nothing = json!({"type": "null"});
    let is_there = json!({"not": nothing});
    data["if"] = json!({"required": ["otp_sealed"], "properties": {"otp_sealed": is_there}});
    data["then"] = json!({"properties": {"otp": nothing}});
    data["else"] = json!({"required": ["otp"], "properties": {"otp": is_there}});
    data
}

/// Adds what a wallet's rail needs, and no other takes.
fn of_rails(mut data: Value) -> Value {
    let wallets = Rail::ALL.into_iter().filter(|rail| rail.is_wallet()).map(Rail::as_str);
    let wallets: Vec<_> = wallets.collect();
    let nothing = json!({"type": "null"});
    data["if"] = json!({"required": ["rail"], "properties": {"rail": {"enum": wallets}}});
    data["then"] = json!({
        "required": ["beneficiary_id"],
        "properties": {"beneficiary_id": {"not": nothing}},
    });
    data["else"] = json!({"properties": {"beneficiary_id": nothing, "service_code": nothing}});
    data
}

/// An attribute that is a string in CloudEvents, whatever the worker takes.
fn unread(about: &str) -> Value {
    json!({"type": ["string", "null"], "description": about})
}

fn with_description(mut schema: Value, about: &str) -> Value {
    for heading in ["$schema", "title"] {
        schema.as_object_mut().map(|schema| schema.remove(heading));
    }
    schema["description"] = json!(about);
    schema
}

fn derived<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft07().with(|settings| settings.inline_subschemas = true);
    let mut schema = SchemaGenerator::new(settings).into_root_schema_for::<T>().to_value();
    if let Some(properties) = schema["properties"].as_object_mut() {
        properties.values_mut().for_each(flatten);
    }
    schema
}

/// An optional field that may be written in two ways: three ways, not one of two and nothing.
fn flatten(property: &mut Value) {
    let Some(Value::Array(ways)) = property.get_mut("anyOf") else { return };
    if let Some(Value::Array(inner)) = ways.first_mut().and_then(|way| way.get_mut("anyOf")) {
        let inner = std::mem::take(inner);
        drop(ways.splice(..1, inner));
    }
}

#[cfg(test)]
mod tests;
