//! Deliveries: each is settled once, by the method that consumes it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use lapin::BasicProperties;
use lapin::types::FieldTable;

use super::acks::Ack;
use super::envelope::{
    AGE, ATTEMPT, CopyAge, Envelope, FORMER, PARKED, copy_of, own_headers, read_envelope, waited,
};
use super::publisher::{Message, Publisher, Routed};
use super::teller::{event_properties, publish_event};
use super::topology::{self, DELAY_HEADER, Names, text};
use super::{Error, Told};
use crate::command::Kind;
use crate::event::Event;

/// Why and how long a command is parked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parking<'a> {
    /// At least how long.
    pub(crate) delay: Duration,
    /// The kind, which leads the copy back.
    pub(crate) kind: &'a str,
    /// Why, in a word.
    pub(crate) reason: &'a str,
    /// How often Eko was called so far.
    pub(crate) attempts: u32,
    /// How often it was parked, this time included.
    pub(crate) parked: u32,
    /// When it was first received.
    pub(crate) first_received: Timestamp,
    /// How old it is, as far as that is known.
    pub(crate) age: Option<CopyAge>,
    /// The journey that parks it; its trace is what the copy carries on, where the message has
    /// no header that names one. None for what has not begun.
    pub(crate) traceparent: Option<&'a str>,
}

/// A message in the worker's hands. Unless it is settled, the broker delivers it again once
/// the channel is gone.
#[must_use = "a delivery that is not settled comes again"]
pub(crate) struct Delivery(Box<Parts>);

/// Apart, since every future of a journey holds its delivery, and is moved as a whole.
struct Parts {
    body: Vec<u8>,
    envelope: Envelope,
    properties: BasicProperties,
    ack: Ack,
    /// Whose queue it came from.
    kind: Kind,
    publisher: Publisher,
    names: Arc<Names>,
}

impl Delivery {
    pub(super) fn new(
        kind: Kind,
        delivery: lapin::message::Delivery,
        ack: Ack,
        publisher: Publisher,
        names: Arc<Names>,
    ) -> Self {
        let waited = waited(&delivery.properties, &names);
        let envelope = read_envelope(&delivery.properties, delivery.redelivered);
        let envelope = Envelope { waited, ..envelope };
        Self(Box::new(Parts {
            body: delivery.data,
            envelope,
            properties: delivery.properties,
            ack,
            kind,
            publisher,
            names,
        }))
    }

    /// What it says, byte for byte.
    pub(crate) fn body(&self) -> &[u8] {
        &self.0.body
    }

    /// What its properties say.
    pub(crate) fn envelope(&self) -> &Envelope {
        &self.0.envelope
    }

    /// Whose queue it came from; it may be of another kind.
    pub(crate) fn kind(&self) -> Kind {
        self.0.kind
    }

    /// The queue it came from.
    pub(crate) fn queue(&self) -> String {
        self.0.names.queue(self.0.kind)
    }

    /// The exchange that its event goes to.
    pub(crate) fn exchange(&self) -> String {
        self.0.names.events()
    }

    /// Publishes the event, a copy to whoever asked for one, and, with `bury`, the command
    /// itself to where a person looks; then acknowledges.
    pub(crate) async fn tell(self, event: &Event, bury: bool) -> Result<Told, Error> {
        let began = started();
        let told = self.publish_event(event);
        let reply = self.reply(event);
        let buried = async {
            match bury && !self.0.envelope.is_cut {
                true => self.publish_dead(event).await,
                false => Ok(()),
            }
        };
        let (told, reply, buried) = tokio::join!(told, reply, buried);
        let is_unrouted = told? == Routed::No;
        reply?;
        buried?;
        let took = began.elapsed();
        self.ack().await?;
        Ok(Told { took, is_unrouted })
    }

    /// Puts a copy where it waits, then acknowledges. What cannot be copied goes back.
    pub(crate) async fn park(self, parking: Parking<'_>) -> Result<(), Error> {
        if self.0.envelope.is_cut {
            return self.hand_back().await;
        }
        let message = self.parked_copy(parking);
        let unrouted = message.refused("no retry queue takes it");
        match self.0.publisher.publish(message).await? {
            Routed::Yes => self.ack().await,
            Routed::No => Err(unrouted),
        }
    }

    /// Acknowledges: nothing more follows from it. A message whose body is not at hand the broker
    /// itself puts where a person looks, whole.
    pub(crate) async fn ack(self) -> Result<(), Error> {
        match self.0.envelope.is_cut {
            true => self.0.ack.bury().await,
            false => self.0.ack.ack().await,
        }
    }

    /// Hands it back untouched.
    pub(crate) async fn hand_back(self) -> Result<(), Error> {
        self.0.ack.hand_back().await
    }

    async fn publish_event(&self, event: &Event) -> Result<Routed, Error> {
        let properties = self.event_properties(event);
        publish_event(&self.0.publisher, &self.0.names, event, properties).await
    }

    async fn reply(&self, event: &Event) -> Result<(), Error> {
        let Some(reply_to) =
            self.0.properties.reply_to().as_ref().filter(|to| !to.as_str().is_empty())
        else {
            return Ok(());
        };
        let message = Message {
            exchange: String::new(),
            routing_key: reply_to.to_string(),
            properties: self.event_properties(event),
            body: event.body.clone(),
        };
        if self.0.publisher.publish(message).await? == Routed::No {
            // Whoever asked has gone; the event itself is safe.
            tracing::info!(event_id = event.id, "the queue named by reply_to is gone");
        }
        Ok(())
    }

    async fn publish_dead(&self, event: &Event) -> Result<(), Error> {
        let mut headers = own_headers(&self.0.properties);
        headers.insert("eko-outcome".into(), text(&event.outcome));
        if let Some(code) = &event.code {
            headers.insert("eko-code".into(), text(code));
        }
        headers.insert("eko-event-id".into(), text(&event.id));
        headers.insert("eko-time".into(), text(&format!("{:.3}", event.time)));
        let message = Message {
            exchange: self.0.names.dead(),
            routing_key: event.message_type.clone(),
            properties: copy_of(&self.0.properties).with_headers(FieldTable::from(headers)),
            body: self.0.body.clone(),
        };
        let lost = message.refused("the queue for dead letters is missing");
        match self.0.publisher.publish(message).await? {
            Routed::Yes => Ok(()),
            Routed::No => Err(lost),
        }
    }

    fn event_properties(&self, event: &Event) -> BasicProperties {
        event_properties(event, self.0.envelope.correlation_id.as_deref())
    }

    fn parked_copy(&self, parking: Parking<'_>) -> Message {
        let (level, expiry) = topology::level(parking.delay);
        let mut headers = own_headers(&self.0.properties);
        if let Some(journey) = parking.traceparent {
            headers.insert(FORMER.into(), text(journey));
            headers.entry("traceparent".into()).or_insert_with(|| text(journey));
        }
        headers.remove(AGE);
        if let Some(age) = parking.age {
            headers.insert(AGE.into(), text(&age.written()));
        }
        for (name, value) in [
            (DELAY_HEADER, level.to_string()),
            (PARKED, parking.parked.to_string()),
            (ATTEMPT, self.0.envelope.attempts_of_copy(parking.attempts).to_string()),
            ("eko-first-received", format!("{:.3}", parking.first_received)),
            ("eko-reason", parking.reason.to_owned()),
        ] {
            headers.insert(name.into(), text(&value));
        }
        Message {
            exchange: self.0.names.retry(),
            routing_key: topology::command_key(parking.kind),
            properties: copy_of(&self.0.properties)
                .with_headers(FieldTable::from(headers))
                .with_expiration(expiry.to_string().into()),
            body: self.0.body.clone(),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "it measures publish to confirm")]
fn started() -> Instant {
    Instant::now()
}
