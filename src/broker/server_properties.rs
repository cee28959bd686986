//! What a node says of itself before anybody logs in. lapin keeps that to itself.

use std::io;
use std::net::SocketAddr;

use lapin::types::parsing::parse_field_table;
use lapin::types::{AMQPValue, FieldTable};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::connection::resolve;
use super::dial::at_first_address;
use super::node::{Encryption, Node};
use super::{Error, Settings};

/// What a client says first: AMQP 0-9-1.
const HEADER: &[u8; 8] = b"AMQP\x00\x00\x09\x01";

/// Type, channel and size of a frame.
const FRAME_HEADER: usize = 7;

/// Class, method and version, before the properties.
const METHOD_HEADER: usize = 6;

/// Longest first frame that is read; RabbitMQ's has some five hundred bytes.
const MAX_FRAME: usize = 64 * 1024;

/// Product and version of a node, such as `RabbitMQ` and `3.10.8`. It is asked on a connection
/// that ends before the login.
pub(crate) async fn version(settings: &Settings, node: usize) -> Result<(String, String), Error> {
    let urls = settings.urls.value();
    let Some(url) = urls.get(node) else {
        return Err(Error::Lost("there is no such node".to_owned()));
    };
    let (uri, encryption) = resolve(url, settings)?;
    let ask = |address| ask(address, encryption.clone());
    let properties = at_first_address(&uri, ask).await?;
    Ok((text(&properties, "product"), text(&properties, "version")))
}

async fn ask(address: SocketAddr, encryption: Option<Encryption>) -> io::Result<FieldTable> {
    let mut node = Node::connect(address, encryption.as_ref()).await?;
    node.write_all(HEADER).await?;
    node.flush().await?;
    let mut header = [0; FRAME_HEADER];
    node.read_exact(&mut header).await?;
    let [1, _, _, size @ ..] = header else {
        return Err(io::Error::other("it does not speak AMQP 0-9-1"));
    };
    let size = usize::try_from(u32::from_be_bytes(size)).unwrap_or(usize::MAX);
    if !(METHOD_HEADER..=MAX_FRAME).contains(&size) {
        return Err(io::Error::other("its first frame has an unexpected size"));
    }
    let mut frame = vec![0; size];
    node.read_exact(&mut frame).await?;
    let table = frame.get(METHOD_HEADER..).unwrap_or_default();
    let read = parse_field_table(table).map(|(_, properties)| properties);
    read.map_err(|_| io::Error::other("its first frame cannot be read"))
}

fn text(properties: &FieldTable, name: &str) -> String {
    match properties.inner().get(name) {
        Some(AMQPValue::LongString(text)) => text.to_string(),
        _ => "unknown".to_owned(),
    }
}
