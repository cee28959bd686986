//! Publishing: one task owns the channel and publishes in closed batches.
//!
//! With lapin 4.12, tasks that share a confirm channel can get each other's confirms, and a
//! returned message is attached to whichever confirm comes next. So nobody else publishes on
//! this channel, a batch is sent and confirmed whole before the next begins, and returns are
//! matched by exchange, routing key and `message_id`.

use std::time::Duration;

use futures_util::future::try_join_all;
use lapin::message::Delivery;
use lapin::options::BasicPublishOptions;
use lapin::{BasicProperties, Channel, Confirmation};
use tokio::sync::{mpsc, oneshot};

use super::Error;
use super::link::Link;

/// How many messages are confirmed together: enough to keep the broker busy.
const BATCH: usize = 200;

/// How long a confirm may take while the broker does not block the connection: a broker short
/// of memory confirms once it is not, and another connection would be blocked as well.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(60);

/// How long what has failed waits for the connection to tell why.
const REASON_TIMEOUT: Duration = Duration::from_secs(1);

/// A message to publish: persistent and mandatory.
#[derive(Clone, Debug)]
pub(super) struct Message {
    pub(super) exchange: String,
    pub(super) routing_key: String,
    pub(super) properties: BasicProperties,
    pub(super) body: Vec<u8>,
}

/// Where a message went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Routed {
    /// Into a queue.
    Yes,
    /// Nowhere: no binding took it.
    No,
}

type Answer = oneshot::Sender<Result<Routed, Error>>;

/// A handle on the publishing task.
#[derive(Clone)]
pub(super) struct Publisher(mpsc::Sender<(Box<Message>, Answer)>);

impl Publisher {
    /// Starts the task on a channel that is in confirm mode and nobody else uses. The task
    /// ends with the channel or with the last handle.
    pub(super) fn start(channel: Channel, link: Link) -> Self {
        let (publisher, inbox) = mpsc::channel(BATCH * 2);
        tokio::spawn(run(channel, link, inbox));
        Self(publisher)
    }

    /// Publishes a message and waits for its confirm.
    pub(super) fn publish(
        &self,
        message: Message,
    ) -> impl Future<Output = Result<Routed, Error>> + use<'_> {
        // Boxed before the future holds it: many are in flight.
        self.send(Box::new(message))
    }

    async fn send(&self, message: Box<Message>) -> Result<Routed, Error> {
        let (answer, confirmed) = oneshot::channel();
        let lost = || Error::Lost("the publishing channel is closed".to_owned());
        self.0.send((message, answer)).await.map_err(|_| lost())?;
        confirmed.await.map_err(|_| lost())?
    }
}

async fn run(channel: Channel, link: Link, mut inbox: mpsc::Receiver<(Box<Message>, Answer)>) {
    let mut batch = Vec::with_capacity(BATCH);
    while inbox.recv_many(&mut batch, BATCH).await > 0 {
        let outcome = tokio::select! {
            biased;
            outcome = send(&channel, &mut batch) => outcome,
            why = link.gone() => Err(Error::Lost(why)),
            () = overdue(&link, CONFIRM_TIMEOUT) => {
                Err(Error::Lost(format!("no confirm within {CONFIRM_TIMEOUT:?}")))
            }
        };
        let failure = outcome.as_ref().err().cloned();
        if failure.is_some() {
            // Why the channel was closed comes right behind, and tells what to do next.
            tokio::time::timeout(REASON_TIMEOUT, link.gone()).await.ok();
        }
        let results = outcome.unwrap_or_default();
        for (index, (_, answer)) in batch.drain(..).enumerate() {
            let result = match (&failure, results.get(index)) {
                (Some(error), _) => Err(error.clone()),
                (None, Some(result)) => result.clone(),
                (None, None) => Err(Error::Lost("a confirm is missing".to_owned())),
            };
            // Whoever asked may have given up waiting.
            drop(answer.send(result));
        }
        if failure.is_some() {
            return;
        }
    }
}

/// Waits until the connection has not been blocked for that long.
async fn overdue(link: &Link, limit: Duration) {
    loop {
        link.unblocked().await;
        if tokio::time::timeout(limit, link.blocked()).await.is_err() {
            return;
        }
    }
}

/// Sends one batch and waits for all its confirms; the results are in the batch's order.
async fn send(
    channel: &Channel,
    batch: &mut [(Box<Message>, Answer)],
) -> Result<Vec<Result<Routed, Error>>, Error> {
    let mandatory = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let mut ids = Vec::with_capacity(batch.len());
    let sent = batch.iter_mut().map(|(message, _)| {
        let properties = std::mem::take(&mut message.properties);
        ids.push(properties.message_id().clone());
        let (exchange, key) = (message.exchange.as_str(), message.routing_key.as_str());
        channel.basic_publish(exchange.into(), key.into(), mandatory, &message.body, properties)
    });
    // Each of them ends once its bytes are written: one after the other would be one write each.
    let confirms = try_join_all(sent).await?;
    let mut returned = Vec::new();
    let mut refused = Vec::with_capacity(batch.len());
    for confirm in confirms {
        let confirmation = confirm.await?;
        refused.push(!confirmation.is_ack());
        if let Confirmation::Ack(Some(message)) | Confirmation::Nack(Some(message)) = confirmation {
            returned.push(message.delivery);
        }
    }
    let results = batch.iter().zip(ids).zip(refused).map(|(((message, _), id), is_refused)| {
        let is_it = |delivery: &Delivery| {
            delivery.exchange.as_str() == message.exchange
                && delivery.routing_key.as_str() == message.routing_key
                && *delivery.properties.message_id() == id
        };
        if is_refused {
            Err(message.refused("it was not confirmed"))
        } else if returned.iter().any(is_it) {
            Ok(Routed::No)
        } else {
            Ok(Routed::Yes)
        }
    });
    Ok(results.collect())
}

impl Message {
    pub(super) fn refused(&self, why: &'static str) -> Error {
        let (exchange, routing_key) = (self.exchange.clone(), self.routing_key.clone());
        Error::Refused { exchange, routing_key, why }
    }
}

#[cfg(test)]
mod tests {
    use super::super::link::Standing;
    use super::*;

    #[tokio::test]
    async fn a_confirm_is_not_overdue_while_the_broker_blocks() {
        let link = Link::new(Standing::Blocked);
        let limit = Duration::from_millis(20);
        let much_longer = limit * 20;
        let waited = tokio::time::timeout(much_longer, overdue(&link, limit)).await;
        assert!(waited.is_err(), "blocked for long is not overdue");
        link.stand(Standing::Fine);
        overdue(&link, limit).await;
    }
}
