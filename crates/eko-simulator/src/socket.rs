//! A connection that can be reset, and that knows what its bytes were.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::http::HeaderMap;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// More than any sensible request head has; the rest of a large body is not kept.
const KEPT: usize = 16 * 1024;

/// What a request handler can see of, and do to, its connection.
#[derive(Default)]
pub(crate) struct Wire {
    received: Mutex<Vec<u8>>,
    reset: AtomicBool,
}

impl Wire {
    /// The connection shall end with a reset, not with an orderly close.
    pub(crate) fn reset_at_end(&self) {
        self.reset.store(true, Ordering::Relaxed);
    }

    /// Takes the header names of the request at hand as they were written.
    ///
    /// The HTTP library lowers them, yet a proxy that rewrites names is just what is to be seen.
    pub(crate) fn take_names(&self, parsed: &HeaderMap) -> Vec<String> {
        let bytes =
            std::mem::take(&mut *self.received.lock().unwrap_or_else(PoisonError::into_inner));
        let names: Vec<String> = String::from_utf8_lossy(&bytes)
            .lines()
            .skip(1)
            .take_while(|line| !line.is_empty())
            .filter_map(|line| Some(line.split_once(':')?.0.to_owned()))
            .collect();
        let same = names.len() == parsed.len()
            && names.iter().all(|name| parsed.contains_key(name.as_str()));
        // A pipelined request finds no bytes of its own here.
        if same { names } else { parsed.keys().map(|name| name.as_str().to_owned()).collect() }
    }

    /// Forgets what came: the next bytes are the next request's.
    pub(crate) fn clear(&self) {
        self.received.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// A TCP connection with its `Wire`.
pub(crate) struct Socket {
    stream: TcpStream,
    wire: Arc<Wire>,
}

impl Socket {
    /// Takes over a connection.
    pub(crate) fn new(stream: TcpStream, wire: Arc<Wire>) -> Self {
        Self { stream, wire }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.wire.reset.load(Ordering::Relaxed) {
            // Without time to linger the kernel sends RST; where it cannot, it closes as ever.
            socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).ok();
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        let new = &buf.filled()[before..];
        let mut received = self.wire.received.lock().unwrap_or_else(PoisonError::into_inner);
        if received.len() < KEPT {
            received.extend_from_slice(&new[..new.len().min(KEPT)]);
        }
        polled
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
