//! A batch that was sent, and what the broker has said to it so far.

use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::{BoxFuture, try_join_all};
use futures_util::stream::FuturesUnordered;
use lapin::message::Delivery;
use lapin::options::BasicPublishOptions;
use lapin::types::ShortString;
use lapin::{Channel, Confirmation};

use super::{Answer, Error, Message, Routed, overdue};
use crate::broker::connection_monitor::ConnectionMonitor;

/// A batch whose bytes are written.
pub(super) struct Sent {
    channel: Channel,
    /// In the batch's order; none where it is answered.
    messages: Vec<Option<SentMessage>>,
    confirms: FuturesUnordered<BoxFuture<'static, (usize, lapin::Result<Confirmation>)>>,
    returned: Vec<Delivery>,
    is_refused: bool,
}

struct SentMessage {
    message: Box<Message>,
    id: Option<ShortString>,
    answer: Answer,
    confirm: Confirm,
}

/// What came of a message's confirm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Confirm {
    /// Nothing yet.
    Missing,
    /// The broker has the message, or has returned it before that.
    Alone,
    /// The same, and a returned message came with it, maybe another one.
    WithReturned,
    /// The broker does not take it.
    Refused,
}

/// Writes a batch, which is left as it is where that fails.
pub(super) async fn send(
    channel: Channel,
    batch: &mut Vec<(Box<Message>, Answer)>,
) -> lapin::Result<Sent> {
    let mandatory = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let mut ids = Vec::with_capacity(batch.len());
    let sent = batch.iter_mut().map(|(message, _)| {
        let properties = std::mem::take(&mut message.properties);
        ids.push(properties.message_id().clone());
        let (exchange, key) = (message.exchange.as_str(), message.routing_key.as_str());
        channel.basic_publish(exchange.into(), key.into(), mandatory, &message.body, properties)
    });
    // Each of them ends once its bytes are written: one after the other would be one write each.
    let confirms = try_join_all(sent).await?.into_iter().enumerate();
    let numbered = |(nth, confirm)| {
        let confirmed = async move { (nth, confirm.await) };
        Box::pin(confirmed) as BoxFuture<'static, _>
    };
    let confirms = confirms.map(numbered).collect();
    let messages = batch.drain(..).zip(ids).map(|((message, answer), id)| {
        Some(SentMessage { message, id, answer, confirm: Confirm::Missing })
    });
    let messages = messages.collect();
    Ok(Sent { channel, messages, confirms, returned: Vec::new(), is_refused: false })
}

impl Sent {
    /// Waits until all is confirmed or refused, or for so long.
    pub(super) async fn confirmed(
        &mut self,
        monitor: &ConnectionMonitor,
        limit: Duration,
    ) -> Result<(), Error> {
        let mut late = std::pin::pin!(overdue(monitor, limit));
        loop {
            let confirmed = tokio::select! {
                biased;
                confirmed = self.confirms.next() => confirmed,
                why = monitor.gone() => return Err(Error::Lost(why)),
                () = &mut late => return Ok(()),
            };
            let Some((nth, confirmation)) = confirmed else { return Ok(()) };
            self.note(nth, confirmation?);
        }
    }

    fn note(&mut self, nth: usize, confirmation: Confirmation) {
        let is_taken = confirmation.is_ack();
        self.is_refused |= !is_taken;
        let mut confirm = if is_taken { Confirm::Alone } else { Confirm::Refused };
        if let Confirmation::Ack(Some(message)) | Confirmation::Nack(Some(message)) = confirmation {
            self.returned.push(message.delivery);
            confirm = if is_taken { Confirm::WithReturned } else { Confirm::Refused };
        }
        if let Some(Some(message)) = self.messages.get_mut(nth) {
            message.confirm = confirm;
        }
    }

    /// Whether the broker has refused something.
    pub(super) const fn is_refused(&self) -> bool {
        self.is_refused
    }

    /// Whether nobody waits for an answer any more.
    pub(super) fn is_answered(&self) -> bool {
        self.messages.iter().all(Option::is_none)
    }

    /// Answers for what is known. A return comes before the confirm of its own message, and lapin gives
    /// it to the next confirm. So where a confirm comes without a return, all earlier returns are there.
    /// Where it comes with one, another one may be left for the next confirm.
    pub(super) fn answer_known(&mut self) {
        let is_last = self.confirms.is_empty();
        for place in &mut self.messages {
            let is_known = |sent: &mut SentMessage| match sent.confirm {
                Confirm::Missing => false,
                Confirm::WithReturned => is_last || sent.is_among(&self.returned),
                Confirm::Alone | Confirm::Refused => true,
            };
            if let Some(sent) = place.take_if(is_known) {
                sent.answer(&self.returned);
            }
        }
    }

    /// Answers all; gives the channel back. What is not known now counts as not confirmed.
    pub(super) fn answer(mut self) -> Channel {
        self.answer_known();
        for sent in self.messages.into_iter().flatten() {
            let unconfirmed = sent.message.unconfirmed();
            // Whoever asked may have given up waiting.
            drop(sent.answer.send(Err(unconfirmed)));
        }
        self.channel
    }

    /// Whoever waits for an answer.
    pub(super) fn answers(self) -> impl Iterator<Item = Answer> {
        self.messages.into_iter().flatten().map(|sent| sent.answer)
    }
}

impl SentMessage {
    fn is_among(&self, returned: &[Delivery]) -> bool {
        returned.iter().any(|delivery| {
            delivery.exchange.as_str() == self.message.exchange
                && delivery.routing_key.as_str() == self.message.routing_key
                && *delivery.properties.message_id() == self.id
        })
    }

    fn answer(self, returned: &[Delivery]) {
        let result = match self.confirm {
            Confirm::Missing => Err(self.message.unconfirmed()),
            Confirm::Refused => Err(self.message.refused("it was not confirmed")),
            Confirm::Alone | Confirm::WithReturned if self.is_among(returned) => Ok(Routed::No),
            Confirm::Alone | Confirm::WithReturned => Ok(Routed::Yes),
        };
        // Whoever asked may have given up waiting.
        drop(self.answer.send(result));
    }
}
