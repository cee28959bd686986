//! A stream to a node, with or without TLS.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// A stream to a node.
pub(super) enum Node {
    /// As it is.
    Plain(TcpStream),
    /// Through TLS.
    Encrypted(Box<TlsStream<TcpStream>>),
}

/// How a node's stream is encrypted: by what, and the name that its certificate must bear.
#[derive(Clone)]
pub(super) struct Encryption {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl Encryption {
    /// # Errors
    /// `host` is neither a host name nor an address.
    pub(super) fn new(connector: TlsConnector, host: &str) -> io::Result<Self> {
        let name = ServerName::try_from(host.to_owned())
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        Ok(Self { connector, name })
    }
}

impl Node {
    /// Connects to `address`.
    ///
    /// # Errors
    /// The network's, or the handshake's, which say so.
    pub(super) async fn connect(
        address: SocketAddr,
        encryption: Option<&Encryption>,
    ) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        // A frame must not wait for the confirmation of the one before.
        stream.set_nodelay(true)?;
        let Some(Encryption { connector, name }) = encryption else {
            return Ok(Self::Plain(stream));
        };
        match connector.connect(name.clone(), stream).await {
            Ok(stream) => Ok(Self::Encrypted(Box::new(stream))),
            Err(error) => {
                let why = format!("the TLS handshake failed: {error}");
                Err(io::Error::new(error.kind(), why))
            }
        }
    }
}

impl AsyncRead for Node {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, into),
            Self::Encrypted(stream) => Pin::new(stream).poll_read(context, into),
        }
    }
}

impl AsyncWrite for Node {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Encrypted(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(context, parts),
            Self::Encrypted(stream) => Pin::new(stream).poll_write_vectored(context, parts),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Encrypted(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Encrypted(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
