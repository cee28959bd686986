//! The attributes of a command: which there are, and which names there cannot be.

use std::fmt;

use schemars::JsonSchema;
use serde::de::{Error as _, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::rules;
use crate::privacy::{hide_otps, scrub};

/// The attributes that are read; all others are let through. Raw values keep the digits of
/// numbers, and an attribute that stands there twice is refused.
#[derive(Default, JsonSchema)]
pub(super) struct Attributes<'a> {
    /// The idempotency key: the same id is the same command, and executed once.
    #[schemars(with = "rules::Id")]
    pub(super) id: Option<&'a RawValue>,
    /// Also the routing key.
    #[schemars(rename = "type", with = "String")]
    pub(super) message_type: Option<&'a RawValue>,
    /// When it was asked for, in RFC 3339; for metrics only.
    #[schemars(with = "Option<rules::Lenient>")]
    pub(super) time: Option<&'a RawValue>,
    /// After it, the command is not started any more: `expired`.
    #[schemars(with = "Option<rules::Time>")]
    pub(super) expirytime: Option<&'a RawValue>,
    /// Repeated in the event; counted in bytes.
    #[schemars(with = "Option<rules::CorrelationId>")]
    pub(super) correlationid: Option<&'a RawValue>,
    /// W3C trace context, goes on into the event; the AMQP header of that name wins.
    #[schemars(with = "Option<rules::Lenient>")]
    pub(super) traceparent: Option<&'a RawValue>,
    /// The vendors' part of the trace context.
    #[schemars(with = "Option<rules::Lenient>")]
    pub(super) tracestate: Option<&'a RawValue>,
    /// What is asked for.
    #[schemars(with = "serde_json::Map<String, serde_json::Value>")]
    pub(super) data: Option<&'a RawValue>,
    /// The first attribute whose name CloudEvents does not allow.
    #[schemars(skip)]
    pub(super) misnamed: Option<String>,
}

/// Attributes that a name may have been meant for: the ones above, and others of CloudEvents.
const KNOWN: [&str; 13] = [
    "id",
    "type",
    "time",
    "expirytime",
    "correlationid",
    "traceparent",
    "tracestate",
    "data",
    "specversion",
    "source",
    "subject",
    "datacontenttype",
    "dataschema",
];

/// A name so many letters away from an attribute's is taken for a typo.
const NEAR: usize = 2;

/// What is wrong with a name that CloudEvents does not allow.
pub(super) fn misnamed(name: &str) -> String {
    if name == "data_base64" {
        return "data_base64: is not read; send data, as a JSON object".to_owned();
    }
    let plain = name.to_lowercase().replace(|c: char| !c.is_ascii_alphanumeric(), "");
    let nearest = KNOWN.iter().map(|known| (strsim::osa_distance(&plain, known), known)).min();
    let hint = match nearest {
        Some((distance, known)) if distance <= NEAR && distance < known.len() / 2 => {
            format!("; is {known} meant?")
        }
        Some(_) | None => String::new(),
    };
    // A name may be what its value should have been.
    let shown = hide_otps(&scrub(name, &[]));
    format!("{shown}: an attribute's name has only a-z and 0-9{hint}")
}

/// A name at the top of a message.
#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "lowercase")]
enum Name {
    Specversion,
    Id,
    Source,
    Type,
    Time,
    Expirytime,
    Correlationid,
    Traceparent,
    Tracestate,
    Data,
    Other(String),
}

impl<'a> Deserialize<'a> for Attributes<'a> {
    fn deserialize<D: Deserializer<'a>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Reader)
    }
}

impl<'a> Attributes<'a> {
    fn places(&mut self) -> [&mut Option<&'a RawValue>; 8] {
        [
            &mut self.id,
            &mut self.message_type,
            &mut self.time,
            &mut self.expirytime,
            &mut self.correlationid,
            &mut self.traceparent,
            &mut self.tracestate,
            &mut self.data,
        ]
    }
}

struct Reader;

impl<'a> Visitor<'a> for Reader {
    type Value = Attributes<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<Attributes<'a>, A::Error> {
        let mut read = Attributes::default();
        while let Some(name) = map.next_key()? {
            let (place, name) = match name {
                Name::Id => (&mut read.id, "id"),
                Name::Type => (&mut read.message_type, "type"),
                Name::Time => (&mut read.time, "time"),
                Name::Expirytime => (&mut read.expirytime, "expirytime"),
                Name::Correlationid => (&mut read.correlationid, "correlationid"),
                Name::Traceparent => (&mut read.traceparent, "traceparent"),
                Name::Tracestate => (&mut read.tracestate, "tracestate"),
                Name::Data => (&mut read.data, "data"),
                Name::Specversion | Name::Source => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
                Name::Other(name) => {
                    map.next_value::<IgnoredAny>()?;
                    if read.misnamed.is_none() && !rules::is_attribute_name(&name) {
                        read.misnamed = Some(name);
                    }
                    continue;
                }
            };
            take(place, name, &mut map)?;
        }
        for place in read.places() {
            *place = place.filter(|value| value.get() != "null");
        }
        Ok(read)
    }
}

/// Reads one attribute.
fn take<'a, A: MapAccess<'a>>(
    place: &mut Option<&'a RawValue>,
    name: &'static str,
    map: &mut A,
) -> Result<(), A::Error> {
    let value: &'a RawValue = map.next_value()?;
    if place.is_some() {
        return Err(A::Error::duplicate_field(name));
    }
    *place = Some(value);
    Ok(())
}
