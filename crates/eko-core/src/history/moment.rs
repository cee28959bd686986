//! A moment as the ledger keeps it: nanoseconds since the epoch, in a quarter of the work that
//! writing it for a person takes.

use std::fmt;

use jiff::Timestamp;
use serde::de::{Error, Visitor};
use serde::{Deserializer, Serializer};

/// Writes a moment.
pub fn serialize<S: Serializer>(moment: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_i128(moment.as_nanosecond())
}

/// Reads a moment, also one that was written for a person.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
    deserializer.deserialize_any(Moment)
}

/// The same for a moment that may be absent.
pub mod optional {
    use jiff::Timestamp;
    use serde::{Deserializer, Serializer};

    /// Writes a moment that is there.
    pub fn serialize<S: Serializer>(
        moment: &Option<Timestamp>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match moment {
            Some(moment) => super::serialize(moment, serializer),
            None => serializer.serialize_none(),
        }
    }

    /// Reads a moment that is there.
    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Timestamp>, D::Error> {
        super::deserialize(deserializer).map(Some)
    }
}

struct Moment;

impl Visitor<'_> for Moment {
    type Value = Timestamp;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("nanoseconds since the epoch, or a time in RFC 3339")
    }

    fn visit_i64<E: Error>(self, nanoseconds: i64) -> Result<Timestamp, E> {
        Timestamp::from_nanosecond(nanoseconds.into()).map_err(E::custom)
    }

    fn visit_u64<E: Error>(self, nanoseconds: u64) -> Result<Timestamp, E> {
        Timestamp::from_nanosecond(nanoseconds.into()).map_err(E::custom)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Timestamp, E> {
        text.parse().map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::Now;
    use crate::history::History;

    #[test]
    fn a_moment_is_kept_to_the_nanosecond() {
        for nanoseconds in [0, 1, -1, 1_795_317_283_893_952_832] {
            let moment = Timestamp::from_nanosecond(nanoseconds).unwrap();
            let now = Now { wall: moment, process: 7, monotonic: Duration::ZERO };
            let kept = serde_json::to_string(&History::new(now)).unwrap();
            let begin = format!(r#"{{"first_received":{nanoseconds},"measured""#);
            assert!(kept.starts_with(&begin), "{kept}");
            let read: History = serde_json::from_str(&kept).unwrap();
            assert_eq!(read.first_received, moment);
        }
    }

    #[test]
    fn what_is_no_moment_is_named() {
        for (moment, why) in [("true", "nanoseconds since the epoch"), ("\"noon\"", "year")] {
            let kept = format!(r#"{{"first_received":{moment},"entries":[]}}"#);
            let error = serde_json::from_str::<History>(&kept).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
