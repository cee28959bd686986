//! Events, published with or without the message that asked for them.

use std::time::Instant;

use lapin::BasicProperties;
use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;

use super::envelope::DELIVERY_MODE;
use super::publisher::{Message, Publisher, Routed};
use super::queue_consumer::Shared;
use super::topology::{Names, text};
use super::{Error, PublishedOutcome};
use crate::command::Kind;
use crate::event::Event;
use crate::order::Owed;

/// Publishes events of commands whose messages are not at hand.
#[derive(Clone)]
pub(crate) struct OutcomePublisher(Shared);

impl OutcomePublisher {
    /// One of this session.
    pub(super) const fn new(shared: Shared) -> Self {
        Self(shared)
    }

    /// Publishes an event and waits for its confirm; there is no message to wait where it is refused.
    pub(crate) async fn publish_outcome(&self, event: &Event) -> Result<PublishedOutcome, Error> {
        let began = started();
        let properties = event_properties(event, None);
        let routed = publish_event(&self.0.publisher, &self.0.names, event, properties).await?;
        let refused = Owed { event: false, dead_letter: false };
        Ok(PublishedOutcome { took: began.elapsed(), is_unrouted: routed == Routed::No, refused })
    }

    /// How many messages wait in the queue of a kind.
    pub(crate) async fn waiting(&self, kind: Kind) -> Result<u32, Error> {
        let channel = self.0.connection.create_channel();
        let channel = self.0.consuming.unless_closed(channel).await?;
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let name = self.0.names.queue(kind);
        let queue = channel.queue_declare(name.into(), options, FieldTable::default());
        let queue = self.0.consuming.unless_closed(queue).await?;
        self.0.consuming.unless_closed(channel.close(200, "looked at".into())).await?;
        Ok(queue.message_count())
    }
}

/// Publishes an event; what no binding takes is kept in the queue of unrouted ones.
pub(super) async fn publish_event(
    publisher: &Publisher,
    names: &Names,
    event: &Event,
    properties: BasicProperties,
) -> Result<Routed, Error> {
    let message = Message {
        exchange: names.events(),
        routing_key: event.message_type.clone(),
        properties: properties.clone(),
        body: event.body.clone(),
    };
    if publisher.publish(message).await? == Routed::Yes {
        return Ok(Routed::Yes);
    }
    let kept = Message {
        exchange: String::new(),
        routing_key: names.unrouted(),
        properties,
        body: event.body.clone(),
    };
    let lost = kept.refused("the queue for unrouted events is missing");
    match publisher.publish(kept).await? {
        Routed::Yes => Ok(Routed::No),
        Routed::No => Err(lost),
    }
}

/// The properties of an event that answers a message with this `correlation_id`.
pub(super) fn event_properties(event: &Event, correlation_id: Option<&str>) -> BasicProperties {
    let correlation_id =
        correlation_id.or(event.correlation_id.as_deref()).unwrap_or(&event.command_id);
    let mut headers = FieldTable::default();
    headers.insert("traceparent".into(), text(&event.traceparent));
    if let Some(state) = &event.tracestate {
        headers.insert("tracestate".into(), text(state));
    }
    let seconds = u64::try_from(event.time.as_second()).unwrap_or_default();
    BasicProperties::default()
        .with_content_type("application/cloudevents+json".into())
        .with_delivery_mode(DELIVERY_MODE)
        .with_message_id(event.id.as_str().into())
        .with_type(event.message_type.as_str().into())
        .with_correlation_id(correlation_id.into())
        .with_timestamp(seconds)
        .with_headers(headers)
}

#[expect(clippy::disallowed_methods, reason = "it measures publish to confirm")]
fn started() -> Instant {
    Instant::now()
}
