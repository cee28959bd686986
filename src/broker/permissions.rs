//! Whether the user may do what the worker must, asked without doing it: requests that the
//! broker refuses for another reason once it has let the user pass.

use lapin::Connection;
use lapin::options::{BasicConsumeOptions, ExchangeUnbindOptions, QueueDeclareOptions};
use lapin::protocol::AMQPSoftError;
use lapin::types::FieldTable;

use super::connection::Session;
use super::declare::{said, soft_error};
use super::topology::{Names, text};
use super::{Error, Settings};
use crate::command::Kind;

impl Session {
    /// What the user of `AMQP_URL` may not do though the worker must. That it may write to the
    /// default exchange the session itself has shown. `holds`: its ledger serves one process.
    pub(crate) async fn missing_permissions(
        &self,
        settings: &Settings,
        holds: bool,
    ) -> Result<Vec<String>, Error> {
        let names = Names::new(&settings.prefix);
        let mut missing = Vec::new();
        for exchange in [names.events(), names.dead()] {
            missing.extend(write(&self.consuming, &exchange, &names.nowhere()).await?);
        }
        for kind in Kind::ALL {
            missing.extend(read(&self.consuming, &names.queue(kind)).await?);
        }
        // Whose the queues are is told by the register where this user may not declare.
        missing.extend(read(&self.consuming, &names.ledger()).await?);
        if holds {
            missing.extend(configure(&self.consuming, &names.holder()).await?);
        }
        Ok(missing)
    }
}

/// Unbinding an exchange from one that is not there changes nothing; it needs the permission to
/// write to the first, which is looked at before anything else.
async fn write(
    connection: &Connection,
    exchange: &str,
    nowhere: &str,
) -> Result<Option<String>, Error> {
    let channel = connection.create_channel().await?;
    let (to, from, options) = (exchange.into(), nowhere.into(), ExchangeUnbindOptions::default());
    let unbound = channel.exchange_unbind(to, from, "".into(), options, FieldTable::default());
    match unbound.await {
        Ok(()) => close(&channel).await.map(|()| None),
        Err(error) => match soft_error(&error) {
            // It may also be that only the other exchange may not be read.
            Some(AMQPSoftError::ACCESSREFUSED) if said(&error).contains(&quoted(exchange)) => {
                Ok(Some(format!("no write on exchange {exchange}")))
            }
            Some(_) => Ok(None),
            None => Err(error.into()),
        },
    }
}

/// A consumer whose priority is no number is never registered, so that no message is taken.
async fn read(connection: &Connection, queue: &str) -> Result<Option<String>, Error> {
    let channel = connection.create_channel().await?;
    let mut arguments = FieldTable::default();
    arguments.insert("x-priority".into(), text("none"));
    let options = BasicConsumeOptions::default();
    match channel.basic_consume(queue.into(), "".into(), options, arguments).await {
        Ok(_) => close(&channel).await.map(|()| None),
        Err(error) => match soft_error(&error) {
            Some(AMQPSoftError::ACCESSREFUSED) if said(&error).contains(&quoted(queue)) => {
                Ok(Some(format!("no read on queue {queue}")))
            }
            Some(_) => Ok(None),
            None => Err(error.into()),
        },
    }
}

/// An exclusive queue whose expiry is no number is never declared.
async fn configure(connection: &Connection, queue: &str) -> Result<Option<String>, Error> {
    let channel = connection.create_channel().await?;
    let mut arguments = FieldTable::default();
    arguments.insert("x-expires".into(), text("none"));
    let options = QueueDeclareOptions { auto_delete: true, ..QueueDeclareOptions::exclusive() };
    match channel.queue_declare(queue.into(), options, arguments).await {
        Ok(_) => close(&channel).await.map(|()| None),
        Err(error) => match soft_error(&error) {
            Some(AMQPSoftError::ACCESSREFUSED) if said(&error).contains(&quoted(queue)) => {
                Ok(Some(format!("no configure on queue {queue}")))
            }
            Some(_) => Ok(None),
            None => Err(error.into()),
        },
    }
}

async fn close(channel: &lapin::Channel) -> Result<(), Error> {
    Ok(channel.close(200, "asked".into()).await?)
}

fn quoted(name: &str) -> String {
    format!("'{name}'")
}
