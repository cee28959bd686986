//! Whether a connection leads to one process of the server, or to a pool such as `PgBouncer`, which
//! gives each transaction another one. A pool makes up the number by which a client cancels.

use std::future::{Ready, ready};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, ReadBuf,
};
use tokio_postgres::Client;
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};

use super::ConnectionError;

/// Bytes of a cancel request: length, code, process, secret.
const CANCEL_REQUEST: usize = 16;

/// Whether every statement goes to the same process of the server.
pub(super) async fn is_direct(client: &Client) -> Result<bool, ConnectionError> {
    let row = client.query_typed_one("SELECT pg_backend_pid()", &[]).await?;
    let process: i32 = row.get(0);
    Ok(cancelled_process(client).await == Some(process))
}

/// Whom the client would have cancelled. The library tells it only in the request, which goes nowhere.
async fn cancelled_process(client: &Client) -> Option<i32> {
    let (mut kept, given) = tokio::io::duplex(256);
    // The request begins with a question for TLS, unless there is none.
    kept.write_all(b"S").await.ok()?;
    client.cancel_token().cancel_query_raw(given, Nowhere).await.ok()?;
    let mut request = Vec::new();
    kept.read_to_end(&mut request).await.ok()?;
    let at = request.len().checked_sub(CANCEL_REQUEST)?;
    let process = request.get(at + 8..at + 12)?.try_into().ok()?;
    Some(i32::from_be_bytes(process))
}

/// TLS to nobody.
struct Nowhere;

struct Bare(DuplexStream);

impl TlsConnect<DuplexStream> for Nowhere {
    type Stream = Bare;
    type Error = io::Error;
    type Future = Ready<io::Result<Bare>>;

    fn connect(self, stream: DuplexStream) -> Self::Future {
        ready(Ok(Bare(stream)))
    }
}

impl TlsStream for Bare {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl AsyncRead for Bare {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, into)
    }
}

impl AsyncWrite for Bare {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
