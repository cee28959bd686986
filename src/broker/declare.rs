//! Declaring: what is wanted becomes what is there, or an error that says how they differ.
//!
//! A user without the configure permission may not even declare what is there already. Then
//! each object is looked for by its name; whether its arguments are right the broker does not
//! tell such a user, nor whether it is bound. Since RabbitMQ 4.2.6 it does not even tell whether an
//! object is there to a user who has no permission for it.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::protocol::{AMQPErrorKind, AMQPSoftError};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection, ErrorKind, ExchangeKind};

use super::Error;
use super::topology::{
    Names, WaitingQueue, command_key, kept_arguments, waiting_arguments, work_arguments,
};
use crate::command::Kind;

/// The objects that this user may not look for: each try is an error in the broker's log.
#[derive(Clone, Default)]
pub(super) struct Hidden(Arc<Mutex<BTreeSet<String>>>);

impl Hidden {
    fn add(&self, name: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned());
    }

    fn has(&self, name: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(name)
    }
}

/// Declares objects one by one, on a channel of its own: an error closes it.
pub(super) struct Declarer<'a> {
    connection: &'a Connection,
    names: &'a Names,
    channel: Option<Channel>,
    /// Whether it may be tried; else each object is only looked for.
    pub(super) may_declare: bool,
    /// Whether something is there that could not be compared with what is wanted.
    pub(super) is_unchecked: bool,
    /// What is not looked for.
    pub(super) hidden: Hidden,
}

impl<'a> Declarer<'a> {
    pub(super) fn new(connection: &'a Connection, names: &'a Names) -> Self {
        let hidden = Hidden::default();
        Self { connection, names, channel: None, may_declare: true, is_unchecked: false, hidden }
    }

    /// What all kinds need, in the order in which it is needed.
    pub(super) async fn shared(&mut self) -> Result<(), Error> {
        let names = self.names;
        for exchange in [names.commands(), names.events(), names.dead()] {
            self.exchange(&exchange, ExchangeKind::Topic).await?;
        }
        let dead = names.dead();
        self.queue(&dead, kept_arguments()).await?;
        self.bind(&dead, &dead, "#").await?;
        self.queue(&names.unrouted(), kept_arguments()).await
    }

    /// The binding of a kind's queue, which is there.
    pub(super) async fn bind_kind(&mut self, kind: Kind) -> Result<(), Error> {
        let (queue, exchange) = (self.names.queue(kind), self.names.commands());
        self.bind(&queue, &exchange, &command_key(kind.as_str())).await
    }

    /// What one kind needs besides: its queue, and those in which its commands wait. Kinds share
    /// none: what waits for a queue that takes nothing holds back all that is in the same one.
    pub(super) async fn kind(&mut self, kind: Kind) -> Result<(), Error> {
        let names = self.names;
        self.queue(&names.queue(kind), work_arguments(names)).await?;
        self.bind_kind(kind).await?;
        for queue in WaitingQueue::of(kind) {
            self.waiting(queue).await?;
        }
        Ok(())
    }

    /// A queue in which commands wait.
    pub(super) async fn waiting(&mut self, queue: WaitingQueue) -> Result<(), Error> {
        let names = self.names;
        self.queue(&names.waiting(queue), waiting_arguments(names, queue)).await
    }

    async fn exchange(&mut self, name: &str, kind: ExchangeKind) -> Result<(), Error> {
        let object = format!("exchange {name}");
        let wanted = format!("a durable {kind:?} exchange without arguments").to_lowercase();
        let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
        let declare = async |channel: Channel, options| {
            let (name, arguments) = (name.into(), FieldTable::default());
            channel.exchange_declare(name, kind.clone(), options, arguments).await
        };
        if self.may_declare {
            let declared = declare(self.channel().await?, options).await;
            if self.is_there(&object, &wanted, declared)? {
                return Ok(());
            }
        }
        if self.hidden.has(&object) {
            return Ok(());
        }
        let passive = ExchangeDeclareOptions { passive: true, ..Default::default() };
        let found = declare(self.channel().await?, passive).await;
        self.is_found(&object, &wanted, found)
    }

    async fn queue(&mut self, name: &str, arguments: FieldTable) -> Result<(), Error> {
        let object = format!("queue {name}");
        let wanted = format!("a durable queue with {}", shown(&arguments));
        let options = QueueDeclareOptions { durable: true, ..Default::default() };
        let declare = async |channel: Channel, options| {
            channel.queue_declare(name.into(), options, arguments.clone()).await.map(drop)
        };
        if self.may_declare {
            let declared = declare(self.channel().await?, options).await;
            if self.is_there(&object, &wanted, declared)? {
                return Ok(());
            }
        }
        if self.hidden.has(&object) {
            return Ok(());
        }
        let passive = QueueDeclareOptions { passive: true, ..Default::default() };
        let found = declare(self.channel().await?, passive).await;
        self.is_found(&object, &wanted, found)
    }

    /// A binding can not be looked for: one that this user may not make is taken for made.
    async fn bind(&mut self, queue: &str, exchange: &str, key: &str) -> Result<(), Error> {
        if !self.may_declare {
            self.is_unchecked = true;
            return Ok(());
        }
        let (channel, options) = (self.channel().await?, QueueBindOptions::default());
        let arguments = FieldTable::default();
        let (queue, exchange, key) = (queue.into(), exchange.into(), key.into());
        let Err(error) = channel.queue_bind(queue, exchange, key, options, arguments).await else {
            return Ok(());
        };
        self.channel = None;
        if soft_error(&error) == Some(AMQPSoftError::ACCESSREFUSED) {
            self.is_unchecked = true;
            return Ok(());
        }
        Err(error.into())
    }

    /// How many messages are ready in a queue; `None` where this user may not look.
    pub(super) async fn count(&mut self, name: &str) -> Result<Option<u32>, Error> {
        let object = format!("queue {name}");
        if self.hidden.has(&object) {
            return Ok(None);
        }
        let passive = QueueDeclareOptions { passive: true, ..Default::default() };
        let channel = self.channel().await?;
        match channel.queue_declare(name.into(), passive, FieldTable::default()).await {
            Ok(found) => Ok(Some(found.message_count())),
            Err(error) => {
                self.channel = None;
                if soft_error(&error) == Some(AMQPSoftError::ACCESSREFUSED) {
                    self.hidden.add(&object);
                    return Ok(None);
                }
                Err(error.into())
            }
        }
    }

    /// Lets the channel go.
    pub(super) async fn close(&mut self) -> Result<(), Error> {
        if let Some(channel) = self.channel.take() {
            channel.close(200, "declared".into()).await?;
        }
        Ok(())
    }

    async fn channel(&mut self) -> Result<Channel, Error> {
        if let Some(channel) = &self.channel {
            return Ok(channel.clone());
        }
        let channel = self.connection.create_channel().await?;
        Ok(self.channel.insert(channel).clone())
    }

    /// Whether a declaration went well; not, where this user may not declare.
    fn is_there(
        &mut self,
        object: &str,
        wanted: &str,
        declared: lapin::Result<()>,
    ) -> Result<bool, Error> {
        let Err(error) = declared else {
            return Ok(true);
        };
        self.channel = None;
        match soft_error(&error) {
            Some(AMQPSoftError::ACCESSREFUSED) => Ok(false),
            Some(AMQPSoftError::PRECONDITIONFAILED | AMQPSoftError::RESOURCELOCKED) => {
                Err(Error::Topology(format!(
                    "{object} is not what this worker needs: expected {wanted}; {}",
                    said(&error)
                )))
            }
            Some(_) | None => Err(error.into()),
        }
    }

    /// What looking for the object tells, where this user may not declare it.
    fn is_found(
        &mut self,
        object: &str,
        wanted: &str,
        found: lapin::Result<()>,
    ) -> Result<(), Error> {
        let Err(error) = found else {
            self.is_unchecked = true;
            return Ok(());
        };
        self.channel = None;
        if soft_error(&error) == Some(AMQPSoftError::ACCESSREFUSED) {
            self.hidden.add(object);
            self.is_unchecked = true;
            return Ok(());
        }
        // A queue whose node is down is not found either, but not missing.
        let (what, _) = object.split_once(' ').unwrap_or_default();
        if soft_error(&error) == Some(AMQPSoftError::NOTFOUND)
            && said(&error).contains(&format!("no {what}"))
        {
            return Err(Error::Topology(format!(
                "{object} is missing and the user of AMQP_URL may not declare it: give the user \
                 the configure permission for it, or have an administrator declare {wanted}"
            )));
        }
        Err(error.into())
    }
}

/// Which error closed a channel, if it was only that.
pub(super) fn soft_error(error: &lapin::Error) -> Option<AMQPSoftError> {
    match error.kind() {
        ErrorKind::ProtocolError(error) => match error.kind() {
            AMQPErrorKind::Soft(soft) => Some(soft.clone()),
            AMQPErrorKind::Hard(_) => None,
        },
        _ => None,
    }
}

/// The broker's own words.
pub(super) fn said(error: &lapin::Error) -> String {
    match error.kind() {
        ErrorKind::ProtocolError(error) => error.get_message().to_string(),
        _ => error.to_string(),
    }
}

fn shown(arguments: &FieldTable) -> String {
    let pairs = arguments.inner().iter().map(|(name, value)| match value {
        AMQPValue::LongString(text) => format!("{name}={text}"),
        AMQPValue::LongLongInt(number) => format!("{name}={number}"),
        _ => name.to_string(),
    });
    pairs.collect::<Vec<_>>().join(", ")
}
