//! Between a node and lapin: all that a node sends goes through a scanner, and no more bodies than
//! there is room for.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use async_rs::traits::{Executor, Reactor, RuntimeKit};
use async_rs::util::Task;
use async_rs::{Runtime, Tokio};
use futures_io::{AsyncRead, AsyncWrite};
use futures_util::Stream;
use futures_util::task::AtomicWaker;
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};

use super::node::Node;
use super::wire::{HEARTBEAT, Part, Scanner};

/// Bytes read from a node at a time.
const CHUNK: usize = 32 * 1024;

/// While a body waits for room, lapin hears from us as it would from the node.
const PULSE: Duration = Duration::from_millis(500);

/// Room for the bodies of one connection's messages.
#[derive(Debug)]
pub(super) struct Room {
    most: u64,
    taken: AtomicU64,
    freed: AtomicWaker,
}

/// The part of the room that one body takes, until it is dropped.
#[derive(Debug)]
pub(super) struct Taken {
    room: Arc<Room>,
    size: u64,
}

impl Room {
    /// Room for so many bytes.
    pub(super) fn new(most: u64) -> Arc<Self> {
        Arc::new(Self { most, taken: AtomicU64::new(0), freed: AtomicWaker::new() })
    }

    /// Room for whatever comes.
    pub(super) fn unlimited() -> Arc<Self> {
        Self::new(u64::MAX)
    }

    /// Whether a body fits beside the others; alone, any does.
    fn has_room(&self, size: u64) -> bool {
        let taken = self.taken.load(Ordering::Acquire);
        taken == 0 || taken.saturating_add(size) <= self.most
    }

    /// Waits for room for a body, and takes it.
    fn poll_take(&self, context: &Context<'_>, size: u64) -> Poll<()> {
        if !self.has_room(size) {
            self.freed.register(context.waker());
            // Room that came free in between woke nobody.
            if !self.has_room(size) {
                return Poll::Pending;
            }
        }
        self.take(size);
        Poll::Ready(())
    }

    fn take(&self, size: u64) {
        self.taken.fetch_add(size, Ordering::AcqRel);
    }

    /// What a body has taken that came out of lapin.
    pub(super) fn taken(self: &Arc<Self>, size: usize) -> Taken {
        Taken { room: Arc::clone(self), size: size as u64 }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let _ = self.room.taken.fetch_sub(self.size, Ordering::AcqRel);
        self.room.freed.wake();
    }
}

/// What lapin reads from: a node's stream, of which it gets what can be read.
pub(super) struct Relay {
    node: Node,
    tokio: Tokio,
    scanner: Scanner,
    room: Arc<Room>,
    /// What the node sent: the first bytes of it are those that the scanner has not passed.
    sent: Vec<u8>,
    unread: usize,
    /// What lapin may read, from this byte on.
    passed: Vec<u8>,
    at: usize,
    /// The header of a message whose body waits for room, and the body's size.
    waiting: Option<(Vec<u8>, u64)>,
    pulse: Option<Pin<Box<<Tokio as Reactor>::Sleep>>>,
}

impl Relay {
    /// A stream that carries what can be read of this one.
    pub(super) fn new(node: Node, tokio: Tokio, room: Arc<Room>) -> Self {
        let scanner = Scanner::new(room.most);
        let (sent, passed) = (Vec::new(), Vec::new());
        let (unread, at, waiting, pulse) = (0, 0, None, None);
        Self { node, tokio, scanner, room, sent, unread, passed, at, waiting, pulse }
    }

    /// Passes on what there is: all frames that are there, up to a body that has no room.
    fn scan(&mut self) {
        let mut at = 0;
        while self.waiting.is_none() {
            let rest = self.sent.get(at..self.unread).unwrap_or_default();
            at += match self.scanner.next(rest) {
                Part::Incomplete => break,
                Part::Skip(count) => count,
                Part::Raw(count) => {
                    self.passed.extend_from_slice(rest.get(..count).unwrap_or_default());
                    count
                }
                Part::Made(count, frame) => {
                    self.passed.extend(frame);
                    count
                }
                Part::Message(count, frame, size) => {
                    if self.room.has_room(size) {
                        self.room.take(size);
                        self.passed.extend(frame);
                    } else {
                        self.waiting = Some((frame, size));
                    }
                    count
                }
            };
        }
        self.sent.copy_within(at..self.unread, 0);
        self.unread -= at;
    }

    /// Waits until the body that waits has room, and lets lapin know now and then that the connection
    /// lives.
    fn poll_room(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some((frame, size)) = &mut self.waiting else { return Poll::Ready(()) };
        if self.room.poll_take(context, *size).is_ready() {
            self.passed.append(frame);
            (self.waiting, self.pulse) = (None, None);
            return Poll::Ready(());
        }
        let pulse = self.pulse.get_or_insert_with(|| Box::pin(self.tokio.sleep(PULSE)));
        ready!(pulse.as_mut().poll(context));
        self.pulse = None;
        self.passed.extend(HEARTBEAT);
        Poll::Ready(())
    }

    /// Reads more from the node; how many bytes, none at the end.
    fn poll_node(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.sent.len() < self.unread + CHUNK / 4 {
            self.sent.resize(self.unread + CHUNK, 0);
        }
        let free = self.sent.get_mut(self.unread..).unwrap_or_default();
        let mut free = ReadBuf::new(free);
        ready!(Pin::new(&mut self.node).poll_read(context, &mut free))?;
        let count = free.filled().len();
        self.unread += count;
        Poll::Ready(Ok(count))
    }
}

impl AsyncRead for Relay {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        while this.at == this.passed.len() {
            this.passed.clear();
            this.at = 0;
            ready!(this.poll_room(context));
            if this.passed.is_empty() {
                this.scan();
            }
            if this.passed.is_empty()
                && this.waiting.is_none()
                && ready!(this.poll_node(context))? == 0
            {
                return Poll::Ready(Ok(0));
            }
        }
        let passed = this.passed.get(this.at..).unwrap_or_default();
        let count = passed.len().min(buffer.len());
        let (into, passed) = (buffer.get_mut(..count), passed.get(..count));
        into.unwrap_or_default().copy_from_slice(passed.unwrap_or_default());
        this.at += count;
        Poll::Ready(Ok(count))
    }
}

impl AsyncWrite for Relay {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.node).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.node).poll_write_vectored(context, parts)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.node).poll_flush(context)
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.node).poll_shutdown(context)
    }
}

/// tokio, with streams of ours: lapin takes streams of its runtime alone.
#[derive(Clone, Debug)]
pub(super) struct Relaying(Tokio);

/// The runtime for lapin, bound to the runtime of the caller.
pub(super) fn runtime() -> Runtime<Relaying> {
    Runtime::new(Relaying(Tokio::current()))
}

impl RuntimeKit for Relaying {}

impl Executor for Relaying {
    type Task<T: Send + 'static> = <Tokio as Executor>::Task<T>;

    fn block_on<T, F: Future<Output = T>>(&self, future: F) -> T {
        self.0.block_on(future)
    }

    fn spawn<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
        &self,
        future: F,
    ) -> Task<Self::Task<T>> {
        self.0.spawn(future)
    }

    fn spawn_blocking<T: Send + 'static, F: FnOnce() -> T + Send + 'static>(
        &self,
        work: F,
    ) -> Task<Self::Task<T>> {
        self.0.spawn_blocking(work)
    }
}

impl Reactor for Relaying {
    type TcpStream = Relay;
    type Sleep = <Tokio as Reactor>::Sleep;

    /// lapin connects by address alone.
    fn register<H: io::Read + io::Write + Send + 'static>(
        &self,
        _: H,
    ) -> io::Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static> {
        Err::<Relay, _>(io::ErrorKind::Unsupported.into())
    }

    fn sleep(&self, time: Duration) -> Self::Sleep {
        self.0.sleep(time)
    }

    fn interval(&self, time: Duration) -> impl Stream<Item = Instant> + Send + 'static {
        self.0.interval(time)
    }

    fn tcp_connect_addr(
        &self,
        address: SocketAddr,
    ) -> impl Future<Output = io::Result<Self::TcpStream>> + Send + 'static {
        let tokio = self.0.clone();
        async move {
            let node = Node::connect(address, None).await?;
            Ok(Relay::new(node, tokio, Room::unlimited()))
        }
    }
}
