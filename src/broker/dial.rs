//! The bytes' way to a node: every address of its name is tried.

use std::io;
use std::time::Duration;

use lapin::uri::{AMQPScheme, AMQPUri};

use super::connection::CONNECT_TIMEOUT;
use crate::addresses::{Failed, first_that_answers};

/// Of the time to connect, what is left for the AMQP handshake.
const FOR_THE_HANDSHAKE: Duration = Duration::from_secs(2);

/// Connects by `connect` to the first address of a node's name that answers; each is a plain URI with
/// the address for the name.
pub(super) async fn dial<T, F>(uri: &AMQPUri, connect: impl FnMut(AMQPUri) -> F) -> io::Result<T>
where
    F: Future<Output = io::Result<T>>,
{
    let (name, port) = (uri.authority.host.as_str(), uri.authority.port);
    let addresses = tokio::net::lookup_host((name, port)).await?.map(|address| {
        let mut plain = AMQPUri { scheme: AMQPScheme::AMQP, ..uri.clone() };
        plain.authority.host = address.ip().to_string();
        plain
    });
    let time = CONNECT_TIMEOUT - FOR_THE_HANDSHAKE;
    first_that_answers(addresses.collect(), time, connect).await.map_err(|failed| match failed {
        Failed::Said(error) => error,
        Failed::Silent => io::Error::new(io::ErrorKind::TimedOut, "none of its addresses answers"),
        Failed::None => io::Error::new(io::ErrorKind::NotFound, "its name has no address"),
    })
}
