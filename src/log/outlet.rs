//! Lines on their way to standard error. A thread of its own writes them, many with one call of the
//! system. Whoever logs never waits: where nobody reads, lines are dropped and counted.

use std::io::{self, ErrorKind, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// How many bytes of lines may wait to be written, some ten thousand lines.
const WAITING: usize = 4 * 1_024 * 1_024;

/// How many bytes of them are written at once.
const BATCH: usize = 64 * 1_024;

/// How long lines are gathered after some were written. Whoever comes after a pause is written
/// at once.
const GATHER: Duration = Duration::from_millis(2);

/// Before another try where standard error does not block and takes nothing now.
const AGAIN: Duration = Duration::from_millis(10);

/// How long the end of the process waits for what was not written yet.
const END: Duration = Duration::from_secs(1);

enum Message {
    Line(Vec<u8>),
    /// The last one: whoever sent it waits until all before it is written.
    End(Sender<()>),
}

#[derive(Default)]
struct Counts {
    /// Bytes of lines that are not written yet.
    waiting: AtomicUsize,
    /// Lines that nobody will read.
    dropped: AtomicU64,
}

/// Takes lines from whoever logs.
#[derive(Clone)]
pub(super) struct Outlet {
    messages: Sender<Message>,
    counts: Arc<Counts>,
}

impl Outlet {
    /// Starts the thread that writes to `to`.
    ///
    /// # Errors
    /// Where there can be no more threads.
    pub(super) fn start(to: impl Write + Send + 'static) -> io::Result<Self> {
        let (messages, inbox) = channel();
        let counts = Arc::<Counts>::default();
        let writer = LineWriter { inbox, counts: Arc::clone(&counts), to, told: 0, is_cut: false };
        std::thread::Builder::new().name("log".to_owned()).spawn(move || writer.run())?;
        Ok(Self { messages, counts })
    }

    fn send(&self, line: &[u8]) {
        let waiting = self.counts.waiting.fetch_add(line.len(), Ordering::Relaxed);
        let has_room = waiting.saturating_add(line.len()) <= WAITING;
        if !has_room || self.messages.send(Message::Line(line.to_vec())).is_err() {
            self.counts.waiting.fetch_sub(line.len(), Ordering::Relaxed);
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many lines were dropped so far.
    pub(super) fn dropped(&self) -> u64 {
        self.counts.dropped.load(Ordering::Relaxed)
    }

    /// Waits until what was logged so far is written, but not for long.
    pub(super) fn end(&self) {
        let (done, is_done) = channel();
        if self.messages.send(Message::End(done)).is_ok() {
            is_done.recv_timeout(END).ok();
        }
    }
}

impl Write for Outlet {
    /// One call is one line.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.send(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Outlet {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// What the thread has.
struct LineWriter<W> {
    inbox: Receiver<Message>,
    counts: Arc<Counts>,
    to: W,
    /// How many dropped lines the log has told of.
    told: u64,
    /// Whether the last line that was written may lack its end.
    is_cut: bool,
}

impl<W: Write> LineWriter<W> {
    fn run(mut self) {
        let mut batch = Vec::with_capacity(BATCH);
        while let Ok(first) = self.inbox.recv() {
            let end = self.write_from(first, &mut batch);
            if let Some(waits) = end {
                waits.send(()).ok();
                return;
            }
            self.tell_dropped();
            std::thread::sleep(GATHER);
        }
    }

    /// Writes this and what waits behind it; who waits for the end, once that has come.
    fn write_from(&mut self, first: Message, batch: &mut Vec<u8>) -> Option<Sender<()>> {
        let (mut lines, mut bytes, mut end, mut next) = (0, 0, None, Some(first));
        if self.is_cut {
            batch.push(b'\n');
        }
        while let Some(message) = next.take() {
            match message {
                Message::End(waits) => end = Some(waits),
                Message::Line(line) => {
                    lines += 1;
                    bytes += line.len();
                    batch.extend_from_slice(&line);
                    if batch.len() < BATCH {
                        next = self.inbox.try_recv().ok();
                    }
                }
            }
        }
        let written = write_all(&mut self.to, batch);
        batch.clear();
        batch.shrink_to(BATCH);
        self.is_cut = written.is_err();
        self.counts.waiting.fetch_sub(bytes, Ordering::Relaxed);
        if written.is_err() {
            self.counts.dropped.fetch_add(lines, Ordering::Relaxed);
        }
        end
    }

    /// Once lines can be written again, one of them says how many are missing.
    fn tell_dropped(&mut self) {
        let dropped = self.counts.dropped.load(Ordering::Relaxed);
        let lines = dropped.saturating_sub(self.told);
        if lines > 0 && !self.is_cut {
            self.told = dropped;
            tracing::warn!(
                lines,
                "log lines were dropped here: nobody read standard error, or it could not be \
                 written"
            );
        }
    }
}

/// Writes all, also where whoever shares standard error has set it to not block.
fn write_all(to: &mut impl Write, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match to.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(AGAIN),
            Err(error) => return Err(error),
        }
    }
    to.flush()
}

#[cfg(test)]
mod tests {
    use std::sync::{Condvar, Mutex};

    use super::*;

    /// A pipe that is read or not.
    #[derive(Clone, Default)]
    struct Pipe(Arc<(Mutex<State>, Condvar)>);

    #[derive(Default)]
    struct State {
        is_stuck: bool,
        is_full: bool,
        written: Vec<u8>,
    }

    impl Pipe {
        fn set(&self, change: impl FnOnce(&mut State)) {
            change(&mut self.0.0.lock().unwrap());
            self.0.1.notify_all();
        }

        fn lines(&self) -> Vec<String> {
            let text = String::from_utf8(self.0.0.lock().unwrap().written.clone()).unwrap();
            text.lines().map(str::to_owned).collect()
        }
    }

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let (state, changed) = &*self.0;
            let mut state = changed.wait_while(state.lock().unwrap(), |s| s.is_stuck).unwrap();
            if state.is_full {
                return Err(ErrorKind::StorageFull.into());
            }
            let some = bytes.len().min(1_000);
            state.written.extend_from_slice(&bytes[..some]);
            Ok(some)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Waits until `holds`, for ten seconds or more.
    fn until(holds: impl Fn() -> bool) {
        for _ in 0..10_000 {
            if holds() {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        panic!("waited in vain");
    }

    #[test]
    fn no_line_is_lost_where_somebody_reads() {
        let pipe = Pipe::default();
        let outlet = Outlet::start(pipe.clone()).unwrap();
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                let mut outlet = outlet.clone();
                std::thread::spawn(move || {
                    let line = |n| format!("{writer} {n}\n");
                    (0..5_000).for_each(|n| outlet.write_all(line(n).as_bytes()).unwrap());
                })
            })
            .collect();
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        outlet.end();
        assert_eq!((pipe.lines().len(), outlet.dropped()), (20_000, 0));
        for writer in 0..4 {
            let lines = pipe.lines();
            let own = lines.iter().filter_map(|line| line.strip_prefix(&format!("{writer} ")));
            assert!(own.eq((0..5_000).map(|n| n.to_string())), "in their order");
        }
    }

    #[test]
    fn where_nobody_reads_nobody_waits_and_each_missing_line_is_counted() {
        let pipe = Pipe::default();
        pipe.set(|state| state.is_stuck = true);
        let mut outlet = Outlet::start(pipe.clone()).unwrap();
        let line = format!("{}\n", "x".repeat(1_023));
        let sent = 2 * WAITING / line.len();
        (0..sent).for_each(|_| outlet.write_all(line.as_bytes()).unwrap());
        let dropped = usize::try_from(outlet.dropped()).unwrap();
        assert_eq!(dropped, sent / 2, "what fits is kept");
        outlet.end();
        assert_eq!(pipe.lines().len(), 0, "the end does not wait for ever");
        pipe.set(|state| state.is_stuck = false);
        // The thread ends once it has written all.
        until(|| outlet.messages.send(Message::Line(Vec::new())).is_err());
        assert_eq!(pipe.lines().len(), sent - dropped);
    }

    #[test]
    fn what_cannot_be_written_is_counted_and_the_next_line_begins_anew() {
        let pipe = Pipe::default();
        let mut outlet = Outlet::start(pipe.clone()).unwrap();
        pipe.set(|state| state.is_full = true);
        outlet.write_all(b"lost\n").unwrap();
        until(|| outlet.dropped() == 1);
        pipe.set(|state| state.is_full = false);
        outlet.write_all(b"kept\n").unwrap();
        outlet.end();
        assert_eq!((pipe.lines(), outlet.dropped()), (vec![String::new(), "kept".to_owned()], 1));
    }
}
