//! A node's name may have several addresses: a node is asked at each of them.

use std::fmt::Display;
use std::net::SocketAddr;

use lapin::uri::{AMQPScheme, AMQPUri};
use tokio::time::timeout;

use super::Error;
use super::connection::CONNECT_TIMEOUT;
use crate::addresses::{Failed, first_that_answers};

/// What a node, or whoever answers at its port, said; with the likely mistake in the address.
fn explained(uri: &AMQPUri, said: String) -> String {
    let is_plain_port = uri.scheme == AMQPScheme::AMQPS && said.contains("InvalidContentType");
    if is_plain_port {
        return "the port does not speak TLS: use amqp://, or the broker's port for TLS (mostly 5671)"
            .to_owned();
    }
    if uri.vhost.is_empty() && said.contains("vhost") {
        return format!(
            "{said}: the address ends with /, which names a virtual host without a name; end it \
             with /%2f for the usual one"
        );
    }
    said
}

/// What `ask` gets at the first address of a node's name that answers. One that takes connections and
/// is silent then does not hold up the others either.
pub(super) async fn at_first_address<T, E, F>(
    uri: &AMQPUri,
    ask: impl FnMut(SocketAddr) -> F,
) -> Result<T, Error>
where
    E: Display,
    F: Future<Output = Result<T, E>>,
{
    let (name, port) = (uri.authority.host.as_str(), uri.authority.port);
    let lost = |why: String| Error::Lost(format!("{name}:{port}: {why}"));
    let silent = || lost(format!("no answer within {CONNECT_TIMEOUT:?}"));
    let found = timeout(CONNECT_TIMEOUT, tokio::net::lookup_host((name, port))).await;
    let found = found.map_err(|_| silent())?.map_err(|error| lost(error.to_string()))?;
    let asked = first_that_answers(found.collect(), CONNECT_TIMEOUT, ask).await;
    asked.map_err(|failed| match failed {
        Failed::Said(error) => lost(explained(uri, error.to_string())),
        Failed::Silent => silent(),
        Failed::None => lost("the host name has no address".to_owned()),
    })
}
