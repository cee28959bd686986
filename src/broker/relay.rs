//! Between a node and lapin: all that a node sends goes through a scanner, and no more bodies than
//! there is room for.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_compat::Compat;
use lapin::tcp::AsyncTcpStream;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use super::wire::{HEARTBEAT, Part, Scanner};

/// What lapin reads from.
pub(super) type Stream = AsyncTcpStream<Compat<TcpStream>>;

/// Read from a node at a time.
const CHUNK: usize = 64 * 1024;

/// While a body waits for room, lapin hears from us as it would from the node.
const PULSE: Duration = Duration::from_millis(500);

/// Room for the bodies of one connection's messages.
#[derive(Debug)]
pub(super) struct Room {
    most: u64,
    taken: AtomicU64,
    freed: Notify,
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
        Arc::new(Self { most, taken: AtomicU64::new(0), freed: Notify::new() })
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
        self.room.freed.notify_waiters();
    }
}

/// A stream for lapin that carries what can be read of this one. It is one end of a pair of
/// sockets, since lapin takes no other kind of stream.
///
/// # Errors
/// Where there are no more sockets to be had.
pub(super) fn through(node: Stream, room: Arc<Room>) -> io::Result<Stream> {
    let (ours, theirs) = UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    theirs.set_nonblocking(true)?;
    let ours = tokio::net::UnixStream::from_std(ours)?;
    let theirs = TcpStream::from_std(OwnedFd::from(theirs).into())?;
    tokio::spawn(async move {
        let (from_node, mut to_node) = tokio::io::split(Compat::new(node));
        let (mut from_lapin, to_lapin) = ours.into_split();
        // Whichever side ends, the other one is told by the end of its stream.
        tokio::select! {
            _ = scanned(from_node, to_lapin, &room) => {}
            _ = tokio::io::copy(&mut from_lapin, &mut to_node) => {}
        }
        drop(to_node.shutdown().await);
    });
    Ok(AsyncTcpStream::Plain(Compat::new(theirs)))
}

async fn scanned(
    mut node: impl AsyncRead + Unpin,
    mut lapin: impl AsyncWrite + Unpin,
    room: &Room,
) -> io::Result<()> {
    let mut scanner = Scanner::new(room.most);
    let mut bytes = Vec::with_capacity(CHUNK);
    loop {
        bytes.reserve(CHUNK / 4);
        if node.read_buf(&mut bytes).await? == 0 {
            return Ok(());
        }
        let (mut at, mut out) = (0, Vec::new());
        loop {
            let rest = bytes.get(at..).unwrap_or_default();
            let count = match scanner.next(rest) {
                Part::Incomplete => break,
                Part::Skip(count) => count,
                Part::Raw(count) => {
                    out.extend_from_slice(rest.get(..count).unwrap_or_default());
                    count
                }
                Part::Made(count, frame) => {
                    out.extend(frame);
                    count
                }
                Part::Message(count, frame, size) => {
                    if !room.has_room(size) {
                        lapin.write_all(&out).await?;
                        out.clear();
                        wait_for_room(room, size, &mut lapin).await?;
                    }
                    room.take(size);
                    out.extend(frame);
                    count
                }
            };
            at += count;
        }
        lapin.write_all(&out).await?;
        bytes.drain(..at);
    }
}

async fn wait_for_room(
    room: &Room,
    size: u64,
    lapin: &mut (impl AsyncWrite + Unpin),
) -> io::Result<()> {
    loop {
        let mut freed = std::pin::pin!(room.freed.notified());
        freed.as_mut().enable();
        if room.has_room(size) {
            return Ok(());
        }
        tokio::select! {
            () = freed => {}
            () = tokio::time::sleep(PULSE) => lapin.write_all(&HEARTBEAT).await?,
        }
    }
}
