//! Deliveries: each is settled once, by the method that consumes it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use lapin::BasicProperties;
use lapin::types::FieldTable;

use super::acks::Ack;
use super::connection_monitor::ConnectionMonitor;
use super::envelope::{
    AGE, ATTEMPT, Envelope, PARKED, PREVIOUS, REFUSALS, REFUSED, back_after, copy_of, own_headers,
    read_envelope, written_age, written_owed,
};
use super::outcome_publisher::{event_properties, publish_event};
use super::publisher::{Message, Publisher, Routed};
use super::queue_consumer::Shared;
use super::refusals::Refusals;
use super::replier::Replier;
use super::topology::{Names, WaitingQueue, text};
use super::{Error, PublishedOutcome};
use crate::backoff::Backoff;
use crate::command::Kind;
use crate::event::Event;
use crate::order::{Copy, Owed, Placed};
use crate::outcome::OutcomeName;

/// How long a delivery is held at most while no queue takes its copy: shorter than the broker waits
/// for an ack.
const LONGEST_HELD: Duration = Duration::from_secs(20 * 60);

/// How long it is held at least, by how often it came back already: when it is requeued, the
/// broker counts that, and gives it up at some count.
const HELD: Backoff = Backoff { initial: Duration::from_secs(2 * 60), max: LONGEST_HELD };

/// A copy that is to be parked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parking<'a> {
    /// How and how long it waits.
    pub(crate) copy: Copy,
    /// The kind, to whose queue the copy comes back; that of its own queue where none could be read.
    pub(crate) kind: Option<Kind>,
    /// When its command was first received.
    pub(crate) first_received: Timestamp,
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
    /// The connection that it came by.
    line: ConnectionMonitor,
    /// Whose queue it came from.
    kind: Kind,
    publisher: Publisher,
    replier: Replier,
    refusals: Refusals,
    names: Arc<Names>,
}

impl Delivery {
    pub(super) fn new(
        kind: Kind,
        delivery: lapin::message::Delivery,
        (ack, line): (Ack, ConnectionMonitor),
        shared: &Shared,
    ) -> Self {
        let names = Arc::clone(&shared.names);
        let mut envelope = read_envelope(&delivery.properties, delivery.redelivered);
        match back_after(&delivery.properties, &names) {
            Some(waited) => envelope.waited = waited,
            // Anybody can write that: it would have a command end without a word, or a call be over early.
            None => (envelope.refused, envelope.refusals, envelope.age) = (None, 0, None),
        }
        Self(Box::new(Parts {
            body: delivery.data,
            envelope,
            properties: delivery.properties,
            ack,
            line,
            kind,
            publisher: shared.publisher.clone(),
            replier: shared.replier.clone(),
            refusals: shared.refusals.clone(),
            names,
        }))
    }

    /// What it says, byte for byte.
    pub(crate) fn body(&self) -> &[u8] {
        &self.0.body
    }

    /// How many bytes its publisher sent; the body may be too large to be held.
    pub(crate) fn size(&self) -> usize {
        self.0.envelope.cut.unwrap_or(self.0.body.len())
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

    /// Waits until the connection is gone that it came by: it can be settled no more, and comes again.
    pub(crate) async fn lost(&self) {
        self.0.line.gone().await;
    }

    /// Publishes what is owed: the event, with a copy to whoever asked for one, and the command
    /// itself to where a person looks. Tells what the broker has refused of that.
    pub(crate) async fn publish_outcome(
        &self,
        event: &Event,
        owed: Owed,
    ) -> Result<PublishedOutcome, Error> {
        let began = started();
        let event_published =
            async { if owed.event { self.publish_event(event).await } else { Ok(Routed::Yes) } };
        let dead_lettered = async {
            if owed.dead_letter && self.0.envelope.cut.is_none() {
                self.publish_dead(event).await
            } else {
                Ok(())
            }
        };
        self.reply(event);
        let (event_published, dead_lettered) = tokio::join!(event_published, dead_lettered);
        let (event_published, dead_lettered) =
            (unless_refused(event_published)?, unless_refused(dead_lettered)?);
        let refused =
            Owed { event: event_published.is_none(), dead_letter: dead_lettered.is_none() };
        Ok(PublishedOutcome {
            took: began.elapsed(),
            is_unrouted: event_published == Some(Routed::No),
            refused,
        })
    }

    /// Puts a copy where it waits until what the broker has refused of its end is published again:
    /// until then nobody else waits for it.
    pub(crate) async fn park_refused(&self, event: &Event, refused: Owed) -> Result<Placed, Error> {
        let times = self.0.envelope.refusals.saturating_add(1);
        let queue = WaitingQueue::refused(self.0.kind, times);
        let copy = |it: &Self, queue| it.refused_copy((event, times), refused, queue);
        // What cannot be copied cannot wait: it would come again at once, and all would get it again.
        if self.0.envelope.cut.is_some() {
            Ok(Placed::Left)
        } else {
            self.put(queue, LONGEST_HELD, copy).await
        }
    }

    /// Puts a copy into a retry queue, where it waits. Where no queue takes it, it waits in hand until
    /// its time is over.
    pub(crate) async fn park(&self, parking: Parking<'_>) -> Result<Placed, Error> {
        let copy = parking.copy;
        let shortest = HELD.delay(self.0.envelope.returned.saturating_add(1), 0.5);
        let patience = copy.delay.max(shortest).min(LONGEST_HELD);
        let queue = WaitingQueue::retry(parking.kind.unwrap_or(self.0.kind), copy.delay);
        // What cannot be copied, since its body is not at hand, goes back.
        if self.0.envelope.cut.is_some() {
            Ok(Placed::No)
        } else {
            self.put(queue, patience, |it, queue| it.parked_copy(parking, queue)).await
        }
    }

    /// Puts a copy into its queue, or into one beside it where that one takes nothing. Where none
    /// takes it, since somebody has given them limits, they are asked again for as long as `patience`.
    async fn put(
        &self,
        queue: WaitingQueue,
        patience: Duration,
        copy: impl Fn(&Self, WaitingQueue) -> Message + Send + Sync,
    ) -> Result<Placed, Error> {
        let began = started();
        while self.try_put(queue, &copy).await? == Placed::No {
            let wait = self.0.refusals.wait(queue.and_beside());
            if began.elapsed() + wait >= patience {
                return Ok(Placed::No);
            }
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                // The next worker has it sooner.
                () = self.0.refusals.stopped() => return Ok(Placed::No),
            }
        }
        Ok(Placed::Yes)
    }

    /// Whether one of these queues takes a copy now.
    async fn try_put(
        &self,
        queue: WaitingQueue,
        copy: &(impl Fn(&Self, WaitingQueue) -> Message + Send + Sync),
    ) -> Result<Placed, Error> {
        for queue in queue.and_beside() {
            let Some(asked) = self.0.refusals.ask(queue) else { continue };
            let copy = copy(self, queue);
            let missing = copy.refused("there is no such queue");
            match self.0.publisher.publish(copy).await {
                Ok(Routed::Yes) => {
                    asked.took();
                    return Ok(Placed::Yes);
                }
                Ok(Routed::No) => asked.found_none(&missing),
                Err(error @ (Error::Refused { .. } | Error::Unconfirmed { .. })) => {
                    asked.took_nothing(&error);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Placed::No)
    }

    /// Acknowledges: nothing more follows from it. A message whose body is not at hand the broker
    /// itself puts where a person looks, whole.
    pub(crate) async fn ack(self) -> Result<(), Error> {
        if self.0.envelope.cut.is_some() {
            self.0.ack.dead_letter().await
        } else {
            self.0.ack.ack().await
        }
    }

    /// Requeues it untouched.
    pub(crate) async fn requeue(self) -> Result<(), Error> {
        self.0.ack.requeue().await
    }

    async fn publish_event(&self, event: &Event) -> Result<Routed, Error> {
        let properties = self.event_properties(event);
        publish_event(&self.0.publisher, &self.0.names, event, properties).await
    }

    /// Has the event sent to the queue that the message names by `reply_to`. One of the worker's
    /// own is none: what is in it would be taken for a command, or be in the way of commands.
    fn reply(&self, event: &Event) {
        let Some(reply_to) =
            self.0.properties.reply_to().as_ref().filter(|to| !to.as_str().is_empty())
        else {
            return;
        };
        if self.0.names.is_own(reply_to.as_str()) {
            tracing::warn!(
                event_id = event.id,
                reply_to = reply_to.as_str(),
                "reply_to names a queue of the worker itself: no reply is sent; the event is \
                 published as always"
            );
            return;
        }
        self.0.replier.reply(Message {
            exchange: String::new(),
            routing_key: reply_to.to_string(),
            properties: self.event_properties(event),
            body: event.body.clone(),
        });
    }

    async fn publish_dead(&self, event: &Event) -> Result<(), Error> {
        let mut headers = own_headers(&self.0.properties);
        headers.retain(|name, _| ![REFUSED, REFUSALS].contains(&name.as_str()));
        headers.insert("eko-outcome".into(), text(event.outcome.as_str()));
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

    fn parked_copy(&self, parking: Parking<'_>, queue: WaitingQueue) -> Message {
        let Parking { copy, first_received, traceparent, .. } = parking;
        let mut headers = own_headers(&self.0.properties);
        if let Some(journey) = traceparent {
            headers.insert(PREVIOUS.into(), text(journey));
            headers.entry("traceparent".into()).or_insert_with(|| text(journey));
        }
        if self.0.envelope.refused.is_none() {
            headers.retain(|name, _| ![REFUSED, REFUSALS].contains(&name.as_str()));
        }
        headers.remove(AGE);
        if let Some(age) = copy.age {
            headers.insert(AGE.into(), text(&written_age(age)));
        }
        for (name, value) in [
            (PARKED, copy.parked.to_string()),
            (ATTEMPT, self.0.envelope.attempts_of_copy(copy.attempts).to_string()),
            ("eko-first-received", format!("{first_received:.3}")),
            ("eko-reason", copy.reason.as_str().to_owned()),
        ] {
            headers.insert(name.into(), text(&value));
        }
        Message {
            exchange: String::new(),
            routing_key: self.0.names.waiting(queue),
            properties: copy_of(&self.0.properties)
                .with_headers(FieldTable::from(headers))
                .with_expiration(queue.expiry(copy.delay).to_string().into()),
            body: self.0.body.clone(),
        }
    }

    /// A copy of a command that has ended, until what the broker refused of its end is published again.
    /// Who asked for a reply has got one.
    fn refused_copy(
        &self,
        (event, times): (&Event, u32),
        refused: Owed,
        queue: WaitingQueue,
    ) -> Message {
        // A ledger that is lost meanwhile does not know that Eko may have been called for it.
        let attempts =
            self.0.envelope.attempts_of_copy((event.outcome != OutcomeName::Invalid).into());
        let mut headers = own_headers(&self.0.properties);
        for (name, value) in [
            (REFUSED, written_owed(refused).to_owned()),
            (REFUSALS, times.to_string()),
            (ATTEMPT, attempts.to_string()),
            ("eko-reason", "refused".to_owned()),
        ] {
            headers.insert(name.into(), text(&value));
        }
        let properties = copy_of(&self.0.properties).with_headers(FieldTable::from(headers));
        Message {
            exchange: String::new(),
            routing_key: self.0.names.waiting(queue),
            properties: properties.with_reply_to("".into()),
            body: self.0.body.clone(),
        }
    }
}

/// What came of it, or nothing where the broker refused it; an error where that is not known.
fn unless_refused<T>(result: Result<T, Error>) -> Result<Option<T>, Error> {
    match result {
        Ok(done) => Ok(Some(done)),
        Err(Error::Refused { .. } | Error::Unconfirmed { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

#[expect(clippy::disallowed_methods, reason = "it measures publish to confirm")]
fn started() -> Instant {
    Instant::now()
}
