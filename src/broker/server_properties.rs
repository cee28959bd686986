//! What a node says of itself before anybody logs in. lapin keeps that to itself.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;

use futures_io::{AsyncRead, AsyncWrite};
use lapin::tcp::{AMQPUriTcpExt as _, RustlsConnector};
use lapin::types::parsing::parse_field_table;
use lapin::types::{AMQPValue, FieldTable};
use lapin::uri::AMQPUri;

use super::connection::resolve;
use super::dial::at_first_address;
use super::{Error, Settings, tls};

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
    let (uri, connector) = resolve(url, settings)?;
    let ask = |plain| ask(plain, uri.authority.host.clone(), connector.clone());
    let properties = at_first_address(&uri, ask).await?;
    Ok((text(&properties, "product"), text(&properties, "version")))
}

async fn ask(
    plain: AMQPUri,
    name: String,
    connector: Option<RustlsConnector>,
) -> io::Result<FieldTable> {
    let runtime = lapin::runtime::default_runtime().map_err(io::Error::other)?;
    let stream = plain.connect_async(&runtime).await?;
    let mut stream = match &connector {
        Some(connector) => stream
            .into_rustls(connector, &name)
            .await
            .map_err(|error| tls::handshake_failed(&error))?,
        None => stream,
    };
    write(&mut stream, HEADER).await?;
    let mut header = [0; FRAME_HEADER];
    read(&mut stream, &mut header).await?;
    let [1, _, _, size @ ..] = header else {
        return Err(io::Error::other("it does not speak AMQP 0-9-1"));
    };
    let size = usize::try_from(u32::from_be_bytes(size)).unwrap_or(usize::MAX);
    if !(METHOD_HEADER..=MAX_FRAME).contains(&size) {
        return Err(io::Error::other("its first frame has an unexpected size"));
    }
    let mut frame = vec![0; size];
    read(&mut stream, &mut frame).await?;
    let table = frame.get(METHOD_HEADER..).unwrap_or_default();
    let read = parse_field_table(table).map(|(_, properties)| properties);
    read.map_err(|_| io::Error::other("its first frame cannot be read"))
}

async fn write(stream: &mut (impl AsyncWrite + Unpin), mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let count = poll_fn(|context| Pin::new(&mut *stream).poll_write(context, bytes)).await?;
        bytes = bytes.get(count..).unwrap_or_default();
        if count == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
    }
    poll_fn(|context| Pin::new(&mut *stream).poll_flush(context)).await
}

async fn read(stream: &mut (impl AsyncRead + Unpin), mut into: &mut [u8]) -> io::Result<()> {
    while !into.is_empty() {
        let count = poll_fn(|context| Pin::new(&mut *stream).poll_read(context, into)).await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        into = into.get_mut(count..).unwrap_or_default();
    }
    Ok(())
}

fn text(properties: &FieldTable, name: &str) -> String {
    match properties.inner().get(name) {
        Some(AMQPValue::LongString(text)) => text.to_string(),
        _ => "unknown".to_owned(),
    }
}
