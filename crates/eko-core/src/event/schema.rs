//! The output contract for machines: a JSON Schema of each kind's events, derived from the type
//! that they are written from.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Value, json};

use super::Envelope;
use crate::command::Kind;

/// A plain decimal.
const AMOUNT: &str = r"^-?[0-9]+\.[0-9]{2,}$";
/// Anything but nothing: an empty value is left out.
const SOME: &str = ".";

/// The fields of a `result`: name, pattern, what it is.
type Fields = [(&'static str, &'static str, &'static str)];

const REFUND: &Fields = &[
    ("tid", "^[0-9]{1,19}$", "The command's."),
    ("refund_tid", SOME, "Eko's id of the refund."),
    ("refunded_amount", AMOUNT, "What the customer got back."),
    ("amount", AMOUNT, "Of the transfer."),
    ("fee", AMOUNT, "Of the transfer."),
    ("tds", AMOUNT, "Tax deducted at source."),
    ("commission_reverse", AMOUNT, "The commission that went back."),
    ("balance", AMOUNT, "Of the account, afterwards."),
    ("gst", AMOUNT, "In answers about QR payments."),
    ("currency", SOME, "Such as `INR`."),
    ("timestamp", SOME, "Eko's, in its own form."),
    ("bank_ref_num", SOME, "In answers about QR payments."),
    ("client_ref_id", SOME, "In answers about QR payments."),
];
const REFUND_OTP: &Fields = &[
    ("tid", "^[0-9]{1,19}$", "The command's."),
    ("otp_ref_id", SOME, "Pass it on in the refund."),
    ("unconfirmed", "^true$", "Eko answered success without an `otp_ref_id`."),
];
const TRANSFER_OTP: &Fields = &[
    ("otp_ref_id", SOME, "Eko's reference of the OTP."),
    ("mobile", SOME, "Whom it was sent to, masked."),
    ("client_ref_id", "^[A-Za-z0-9_-]{1,20}$", "The command's, or the one made for it."),
];

/// What an outcome says, and what its `data` must and may have besides id and attempts.
struct Shape {
    outcome: &'static str,
    says: &'static str,
    required: &'static [&'static str],
    optional: &'static [&'static str],
}

/// In the contract's order.
const SHAPES: [Shape; 6] = [
    Shape {
        outcome: "succeeded",
        says: "Eko confirmed it.",
        required: &["confirmed_by", "result"],
        optional: &["eko"],
    },
    Shape {
        outcome: "rejected",
        says: "Eko refused, and the same command again would be refused again: nothing happened.",
        required: &["error", "eko"],
        optional: &[],
    },
    Shape {
        outcome: "failed",
        says: "Given up after all retries, and known not to have been executed.",
        required: &["error"],
        optional: &[],
    },
    Shape {
        outcome: "expired",
        says: "Its time passed before Eko accepted it: nothing happened.",
        required: &["error"],
        optional: &[],
    },
    Shape {
        outcome: "unresolved",
        says: "Given up, and whether it was executed is not known: a person must look.",
        required: &["error"],
        optional: &[],
    },
    Shape {
        outcome: "invalid",
        says: "The message is no valid command; `error.message` names field and reason.",
        required: &["error"],
        optional: &[],
    },
];

/// The outcomes that events of a kind tell, each with its meaning; of no kind, only `invalid`.
pub fn outcomes(kind: Option<Kind>) -> impl Iterator<Item = (&'static str, &'static str)> {
    let shapes = SHAPES.iter().map(|shape| (shape.outcome, shape.says));
    shapes.filter(move |(outcome, _)| kind.is_some() || *outcome == "invalid")
}

/// The JSON Schema of the event that tells this outcome of a command of this kind.
pub fn schema(kind: Option<Kind>, outcome: &str) -> Value {
    let mut schema = derived::<Envelope<'_>>();
    let Some(shape) = SHAPES.iter().find(|shape| shape.outcome == outcome) else {
        return json!(false);
    };
    let name = format!("eko.{}.{outcome}", kind.map_or("command", Kind::as_str));
    schema["title"] = json!(name);
    schema["description"] = json!(shape.says);
    let properties = &mut schema["properties"];
    properties["type"]["const"] = json!(name);
    properties["id"]["pattern"] = json!(format!(r"\.{outcome}$"));
    let data = &mut properties["data"];
    data["properties"]["result"] = result(kind);
    if let Some(code) = data.pointer_mut("/properties/error/properties/code") {
        open(code);
    }
    for (name, is_there) in ["confirmed_by", "result", "error", "eko"]
        .map(|name| (name, shape.required.contains(&name) || shape.optional.contains(&name)))
    {
        if !is_there {
            data["properties"].as_object_mut().map(|members| members.remove(name));
        }
    }
    let required = ["command_id", "attempts"].iter().chain(shape.required);
    data["required"] = required.copied().collect();
    match (outcome, kind) {
        ("invalid", _) => drop(properties.as_object_mut().map(|members| members.remove("subject"))),
        // A `client_ref_id` is in the message alone, which may be lost.
        ("failed" | "unresolved", Some(Kind::TransferOtp)) => {}
        _ => drop(schema["required"].as_array_mut().map(|names| names.push(json!("subject")))),
    }
    schema
}

/// A later version may add codes: those of this one are examples.
fn open(code: &mut Value) {
    code["examples"] = code["enum"].take();
    code.as_object_mut().map(|members| members.remove("enum"));
    code["pattern"] = json!("^[a-z][a-z0-9_]*$");
}

fn result(kind: Option<Kind>) -> Value {
    let (fields, always) = match kind {
        Some(Kind::Refund) => (REFUND, "tid"),
        Some(Kind::RefundOtp) => (REFUND_OTP, "tid"),
        Some(Kind::TransferOtp) | None => (TRANSFER_OTP, "client_ref_id"),
    };
    let property = |(name, pattern, about): &(&str, &str, &str)| {
        let value = json!({"type": "string", "pattern": pattern, "description": about});
        ((*name).to_owned(), value)
    };
    let properties: serde_json::Map<_, _> = fields.iter().map(property).collect();
    json!({
        "description": "What Eko gave, in one form whatever form Eko used.",
        "type": "object",
        "properties": properties,
        "required": [always],
        "additionalProperties": {"type": "string"},
    })
}

fn derived<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft07().with(|settings| settings.inline_subschemas = true);
    let mut schema =
        SchemaGenerator::new(settings.for_serialize()).into_root_schema_for::<T>().to_value();
    tidy(&mut schema);
    schema
}

/// Takes out what derives add and events do not need: formats such as `uint32`, which are none of
/// JSON Schema's so that some validators refuse to read them, and nulls, since what is absent is
/// left out.
fn tidy(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            let format = members.get("format").and_then(Value::as_str);
            if format.is_some_and(|format| format.contains("int")) {
                members.remove("format");
            }
            if let Some(Value::Array(types)) = members.get_mut("type") {
                types.retain(|name| name != "null");
                if let [name] = types.as_slice() {
                    let name = name.clone();
                    members.insert("type".to_owned(), name);
                }
            }
            members.values_mut().for_each(tidy);
        }
        Value::Array(items) => items.iter_mut().for_each(tidy),
        _ => {}
    }
}

#[cfg(test)]
mod tests;
