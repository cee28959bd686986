//! What a message's properties say, and what a copy of it keeps of them.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, ShortString};

use super::topology::{Family, Names};
use super::wire::{CUT, UNREAD};
use crate::order::{CopyAge, Owed};

/// Persistent.
pub(super) const DELIVERY_MODE: u8 = 2;

/// How often a copy was parked.
pub(super) const PARKED: &str = "eko-parked";
/// How often Eko was called for the command.
pub(super) const ATTEMPT: &str = "eko-attempt";
/// How old its command was when a copy was parked, as it was measured: when the command was first
/// received, and so long after it, in milliseconds.
pub(super) const AGE: &str = "eko-age";
/// The `traceparent` of the journey that parked a copy.
pub(super) const PREVIOUS: &str = "eko-traceparent";
/// What the broker refused of its command's end, and how often.
pub(super) const REFUSED: &str = "eko-refused";
/// How often.
pub(super) const REFUSALS: &str = "eko-refusals";

/// No message is older: the start of 2020.
const EARLIEST: i64 = 1_577_836_800;

/// A publisher's clock may be ahead by so much.
const SKEW: SignedDuration = SignedDuration::from_secs(60);

/// What the message's properties say.
#[derive(Clone, Debug, Default)]
pub(crate) struct Envelope {
    /// Its `correlation_id`.
    pub(crate) correlation_id: Option<String>,
    /// Whether it wants an answer of its own.
    pub(crate) has_reply_to: bool,
    /// Its `timestamp`.
    pub(crate) timestamp: Option<Timestamp>,
    /// The header `traceparent`.
    pub(crate) traceparent: Option<String>,
    /// The header `tracestate`.
    pub(crate) tracestate: Option<String>,
    /// The journey that parked it.
    pub(crate) previous: Option<String>,
    /// How often a copy of it was parked.
    pub(crate) parked: u32,
    /// How often Eko had been called when it was parked.
    pub(crate) attempts: u32,
    /// What a parked copy proves of its command's age when it was parked.
    pub(crate) age: Option<CopyAge>,
    /// For how long the broker says that it has kept the copy since.
    pub(crate) waited: Duration,
    /// Whether the broker delivered it before: somebody may have died over it.
    pub(crate) redelivered: bool,
    /// How often it came back to its queue, as the broker counts.
    pub(super) returned: u32,
    /// What the broker has refused of its command's end, if the copy waited for that: it has ended.
    pub(crate) refused: Option<Owed>,
    /// How often it has refused that.
    pub(super) refusals: u32,
    /// What of it could not be read or is too large, in words.
    pub(crate) unread: Option<String>,
    /// How large its body was, where it was too large: only what tells it from others stands in its
    /// place.
    pub(super) cut: Option<usize>,
}

/// What is owed, as a copy carries it.
pub(super) const fn written_owed(owed: Owed) -> &'static str {
    match (owed.event, owed.dead_letter) {
        (true, true) => "event, dead letter",
        (false, true) => "dead letter",
        (_, false) => "event",
    }
}

/// What a copy says is owed; anything else than what is written is an event, which may be published twice.
fn read_owed(text: &str) -> Owed {
    let dead_letter = text.contains("dead letter");
    Owed { event: !dead_letter || text.contains("event"), dead_letter }
}

/// An age, as a copy carries it.
pub(super) fn written_age(age: CopyAge) -> String {
    format!("{}:{}", age.first_received.as_millisecond(), age.proven.as_millis())
}

fn read_age(text: &str) -> Option<CopyAge> {
    let (first_received, proven) = text.split_once(':')?;
    let first_received = Timestamp::from_millisecond(first_received.parse().ok()?).ok()?;
    Some(CopyAge { first_received, proven: Duration::from_millis(proven.parse().ok()?) })
}

impl Envelope {
    /// Whether it was delivered before, itself or as a copy: only then can its command have a row.
    pub(crate) const fn is_back(&self) -> bool {
        self.redelivered || self.parked > 0
    }

    /// What a copy says of the calls, where `known` were made. A copy is never redelivered
    /// itself: that its message was, so that somebody may have died over a call, would be
    /// forgotten with a lost ledger.
    pub(super) fn attempts_of_copy(&self, known: u32) -> u32 {
        known.max(self.attempts).max(self.redelivered.into())
    }

    /// When the message was published, as its property or its attribute `time` tells; `None`
    /// where neither can be true: a program that sets no time sends 0, one that mistakes the
    /// unit a time far away.
    pub(crate) fn published(&self, time: Option<Timestamp>, now: Timestamp) -> Option<Timestamp> {
        let latest = now.checked_add(SKEW).unwrap_or(now);
        let told = [self.timestamp, time].into_iter().flatten();
        told.into_iter().find(|time| time.as_second() >= EARLIEST && *time <= latest)
    }
}

/// Where a publisher by AMQP 1.0 wants its answer: only its own session has a queue of that name, and
/// RabbitMQ ends a channel that publishes with it.
const OWN_SESSION: &str = "amq.rabbitmq.reply-to";

/// The properties of a copy. `user_id` is left out: the broker refuses one that is not the
/// publishing connection's own. An `expiration` was meant for the queue it came from.
pub(super) fn copy_of(properties: &BasicProperties) -> BasicProperties {
    let mut copy = BasicProperties::default().with_delivery_mode(DELIVERY_MODE);
    if let Some(value) = properties.content_type() {
        copy = copy.with_content_type(value.clone());
    }
    if let Some(value) = properties.content_encoding() {
        copy = copy.with_content_encoding(value.clone());
    }
    if let Some(value) = properties.priority() {
        copy = copy.with_priority(*value);
    }
    if let Some(value) = properties.correlation_id() {
        copy = copy.with_correlation_id(value.clone());
    }
    if let Some(value) = properties.reply_to()
        && value.as_str() != OWN_SESSION
    {
        copy = copy.with_reply_to(value.clone());
    }
    if let Some(value) = properties.message_id() {
        copy = copy.with_message_id(value.clone());
    }
    if let Some(value) = properties.timestamp() {
        copy = copy.with_timestamp(*value);
    }
    if let Some(value) = properties.kind() {
        copy = copy.with_type(value.clone());
    }
    if let Some(value) = properties.app_id() {
        copy = copy.with_app_id(value.clone());
    }
    copy
}

/// Headers that the broker writes itself; 4.x ignores a client's, 3.x would count on.
const BROKER_HEADERS: [&str; 5] =
    ["x-death", "x-first-death-", "x-last-death-", "x-delivery-count", "x-acquired-count"];

/// The headers that a copy keeps: not the broker's own, nor `CC` and `BCC`, which would send
/// the copy elsewhere too.
pub(super) fn own_headers(properties: &BasicProperties) -> BTreeMap<ShortString, AMQPValue> {
    let Some(headers) = properties.headers() else { return BTreeMap::new() };
    let kept = headers.inner().iter().filter(|(name, _)| {
        let name = name.as_str();
        !BROKER_HEADERS.iter().any(|own| name.starts_with(own)) && name != "CC" && name != "BCC"
    });
    kept.map(|(name, value)| (name.clone(), value.clone())).collect()
}

pub(super) fn read_envelope(properties: &BasicProperties, redelivered: bool) -> Envelope {
    let owned = |value: &Option<ShortString>| {
        value.as_ref().map(ToString::to_string).filter(|value| !value.is_empty())
    };
    let header = |name: &str| properties.headers().as_ref().and_then(|table| read(table, name));
    let count = |name| header(name).and_then(|text| text.parse().ok()).unwrap_or_default();
    let seconds = properties.timestamp().and_then(|seconds| i64::try_from(seconds).ok());
    Envelope {
        correlation_id: owned(properties.correlation_id()),
        has_reply_to: owned(properties.reply_to()).is_some(),
        timestamp: seconds.and_then(|seconds| Timestamp::from_second(seconds).ok()),
        traceparent: header("traceparent"),
        tracestate: header("tracestate"),
        previous: header(PREVIOUS),
        parked: count(PARKED),
        attempts: count(ATTEMPT),
        age: header(AGE).as_deref().and_then(read_age),
        waited: Duration::ZERO,
        redelivered,
        returned: properties.headers().as_ref().map_or(0, returned),
        refused: header(REFUSED).as_deref().map(read_owed),
        refusals: count(REFUSALS),
        unread: header(UNREAD),
        cut: header(CUT).map(|size| size.parse().unwrap_or(usize::MAX)),
    }
}

/// How long the broker has kept a copy in a retry queue, where a message comes back from a queue in which
/// a worker's copies wait: nobody else may write there. It says so itself when the copy's time there is
/// over; one that somebody took out earlier has waited for nothing.
pub(super) fn back_after(properties: &BasicProperties, names: &Names) -> Option<Duration> {
    let death = last_death(properties)?;
    let queue = names.waiting_queue(&read(death, "queue")?)?;
    let is_over = read(death, "reason").as_deref() == Some("expired");
    let expiration = read(death, "original-expiration").and_then(|text| text.parse().ok());
    let waited = expiration.filter(|_| is_over && queue.family == Family::Retry);
    Some(Duration::from_millis(waited.unwrap_or_default()))
}

/// What the broker says of the queue that it last left.
fn last_death(properties: &BasicProperties) -> Option<&FieldTable> {
    match properties.headers().as_ref()?.inner().get("x-death")? {
        AMQPValue::FieldArray(deaths) => match deaths.as_slice().first()? {
            AMQPValue::FieldTable(death) => Some(death),
            _ => None,
        },
        _ => None,
    }
}

/// How often the broker says that a message came back.
fn returned(headers: &FieldTable) -> u32 {
    let count = match headers.inner().get("x-delivery-count") {
        Some(AMQPValue::LongLongInt(count)) => u32::try_from(*count).ok(),
        Some(AMQPValue::LongInt(count)) => u32::try_from(*count).ok(),
        Some(AMQPValue::LongUInt(count)) => Some(*count),
        Some(AMQPValue::ShortInt(count)) => u32::try_from(*count).ok(),
        Some(AMQPValue::ShortShortInt(count)) => u32::try_from(*count).ok(),
        Some(AMQPValue::ShortShortUInt(count)) => Some((*count).into()),
        _ => None,
    };
    count.unwrap_or_default()
}

pub(super) fn read(table: &FieldTable, name: &str) -> Option<String> {
    match table.inner().get(name)? {
        AMQPValue::LongString(text) => std::str::from_utf8(text.as_bytes()).ok().map(str::to_owned),
        AMQPValue::ShortString(text) => Some(text.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_that_cannot_be_true_is_ignored() {
        let now: Timestamp = "2026-11-21T09:00:00Z".parse().unwrap();
        let time = |text: &str| text.parse::<Timestamp>().ok();
        let published = |property: &str, attribute: &str| {
            let envelope = Envelope { timestamp: time(property), ..Envelope::default() };
            envelope.published(time(attribute), now)
        };
        let (before, ahead) = ("2026-11-21T08:59:00Z", "2026-11-21T09:00:59Z");
        for (property, attribute, expected) in [
            (before, "", time(before)),
            (ahead, before, time(ahead)),
            ("1970-01-01T00:00:00Z", "", None),
            ("1970-01-01T00:00:00Z", before, time(before)),
            ("2019-12-31T23:59:59Z", before, time(before)),
            ("2020-01-01T00:00:00Z", before, time("2020-01-01T00:00:00Z")),
            ("2026-11-21T09:01:01Z", before, time(before)),
            ("", "9999-01-01T00:00:00Z", None),
            ("", "", None),
        ] {
            assert_eq!(published(property, attribute), expected, "{property} {attribute}");
        }
    }

    #[test]
    fn a_copy_tells_what_the_broker_has_refused() {
        for (event, dead_letter) in [(true, false), (false, true), (true, true)] {
            let owed = Owed { event, dead_letter };
            assert_eq!(read_owed(written_owed(owed)), owed);
        }
        assert_eq!(read_owed("anything"), Owed { event: true, dead_letter: false });
    }

    #[test]
    fn a_copy_names_no_reply_queue_of_another_session() {
        let of = |name: &str| copy_of(&BasicProperties::default().with_reply_to(name.into()));
        assert_eq!(*of("amq.rabbitmq.reply-to").reply_to(), None);
        for name in ["replies", "amq.rabbitmq.reply-to.g1h2AA5yZXBseUAx"] {
            assert_eq!(of(name).reply_to().as_ref().map(ShortString::as_str), Some(name));
        }
    }

    #[test]
    fn a_copy_tells_that_its_message_may_have_been_called_for() {
        let envelope =
            |attempts, redelivered| Envelope { attempts, redelivered, ..Envelope::default() };
        assert_eq!(envelope(0, false).attempts_of_copy(0), 0);
        assert_eq!(envelope(0, false).attempts_of_copy(2), 2);
        assert_eq!(envelope(0, true).attempts_of_copy(0), 1);
        assert_eq!(envelope(3, false).attempts_of_copy(0), 3);
        assert_eq!(envelope(3, true).attempts_of_copy(4), 4);
    }
}
