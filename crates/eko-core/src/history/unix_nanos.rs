//! A time as the ledger keeps it: nanoseconds since the epoch, in a quarter of the work that
//! writing it for a person takes.

use std::fmt;

use jiff::Timestamp;
use serde::de::{Error, Visitor};
use serde::{Deserializer, Serializer};

/// Writes a time.
pub fn serialize<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_i128(time.as_nanosecond())
}

/// Reads a time, also one that was written for a person.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
    deserializer.deserialize_any(UnixNanos)
}

/// The same for a time that may be absent.
pub mod optional {
    use jiff::Timestamp;
    use serde::{Deserializer, Serializer};

    /// Writes a time that is there.
    pub fn serialize<S: Serializer>(
        time: &Option<Timestamp>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match time {
            Some(time) => super::serialize(time, serializer),
            None => serializer.serialize_none(),
        }
    }

    /// Reads a time that is there.
    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Timestamp>, D::Error> {
        super::deserialize(deserializer).map(Some)
    }
}

struct UnixNanos;

impl Visitor<'_> for UnixNanos {
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
            let time = Timestamp::from_nanosecond(nanoseconds).unwrap();
            let now = Now { wall: time, process: 7, monotonic: Duration::ZERO };
            let kept = serde_json::to_string(&History::new(now)).unwrap();
            let begin = format!(r#"{{"first_received":{nanoseconds},"measured""#);
            assert!(kept.starts_with(&begin), "{kept}");
            let read: History = serde_json::from_str(&kept).unwrap();
            assert_eq!(read.first_received, time);
        }
    }

    #[test]
    fn what_is_no_moment_is_named() {
        for (time, why) in [("true", "nanoseconds since the epoch"), ("\"noon\"", "year")] {
            let kept = format!(r#"{{"first_received":{time},"entries":[]}}"#);
            let error = serde_json::from_str::<History>(&kept).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
