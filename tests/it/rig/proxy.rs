//! A way to a server that can be missing, opened, cut and stalled.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use url::Url;

use super::broker::Broker;

/// How much of what a client says first is looked at to tell its connections apart.
const GREETING: usize = 4096;

/// A port on the way to a server.
pub(crate) struct Proxy {
    address: String,
    target: Url,
    rules: Arc<watch::Sender<Rules>>,
    cuts: Arc<AtomicUsize>,
    /// What clients have said that is held.
    heard: Arc<watch::Sender<Vec<u8>>>,
    connections: Option<tokio::task::JoinHandle<()>>,
}

/// What is done to connections.
#[derive(Clone, Debug, Default)]
struct Rules {
    /// Connections whose client said this at first get nothing from the server any more.
    stalled: Option<&'static str>,
    /// How many more connections are cut.
    cuts_left: usize,
    /// Which ones, by what their client said at first, and after how many bytes at the most.
    cut: (&'static str, usize),
    /// Connections made under a lower number are cut.
    generation: u64,
    /// Connections over which the server says this are reset.
    poison: Option<&'static str>,
    /// Connections whose client said this at first keep what it says from now on.
    held: Option<&'static str>,
}

impl Proxy {
    /// A way to the tests' broker on a port on which nobody listens yet.
    pub(crate) async fn closed() -> Self {
        Self::closed_to(&Broker::url()).await
    }

    /// A way to the server of a URL on a port on which nobody listens yet.
    pub(crate) async fn closed_to(target: &str) -> Self {
        Self::closed_at("127.0.0.1", target).await
    }

    /// As [`Self::closed_to`], at another address of this machine.
    pub(crate) async fn closed_at(host: &str, target: &str) -> Self {
        let listener = TcpListener::bind((host, 0)).await.unwrap();
        Self {
            address: listener.local_addr().unwrap().to_string(),
            target: Url::parse(target).unwrap(),
            rules: Arc::new(watch::Sender::default()),
            cuts: Arc::default(),
            heard: Arc::default(),
            connections: None,
        }
    }

    /// An open way to the server of a URL.
    pub(crate) async fn open_to(target: &str) -> Self {
        let mut proxy = Self::closed_to(target).await;
        proxy.open().await;
        proxy
    }

    /// The broker's URL through this port.
    pub(crate) fn amqp_url(&self) -> String {
        let mut url = self.target.clone();
        let (host, _) = self.address.split_once(':').unwrap();
        url.set_host(Some(host)).unwrap();
        url.set_port(Some(self.port())).unwrap();
        url.to_string()
    }

    /// The port that it listens on.
    pub(crate) fn port(&self) -> u16 {
        self.address.rsplit(':').next().unwrap().parse().unwrap()
    }

    /// Lets connections through from now on.
    pub(crate) async fn open(&mut self) {
        let listener = TcpListener::bind(&self.address).await.unwrap();
        let (host, port) = (self.target.host_str().unwrap(), self.target.port().unwrap_or(5672));
        let to = format!("{host}:{port}");
        let (rules, cuts) = (Arc::clone(&self.rules), Arc::clone(&self.cuts));
        let heard = Arc::clone(&self.heard);
        self.connections = Some(tokio::spawn(async move {
            // Dropped with this task, so that an abort cuts every connection.
            let mut pipes = JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                let (to, rules, cuts) = (to.clone(), Arc::clone(&rules), Arc::clone(&cuts));
                let heard = Arc::clone(&heard);
                pipes.spawn(async move {
                    let Ok(far) = TcpStream::connect(to).await else { return };
                    pipe(near, far, &rules, (&cuts, &heard)).await;
                });
            }
        }));
    }

    /// Cuts all connections and refuses new ones.
    pub(crate) async fn close(&mut self) {
        let connections = self.connections.take().unwrap();
        connections.abort();
        connections.await.ok();
    }

    /// Cuts all connections; new ones are let through.
    pub(crate) fn cut(&self) {
        self.rules.send_modify(|rules| rules.generation += 1);
    }

    /// From now on, connections whose client said this at first get nothing from the server.
    pub(crate) fn stall(&self, said: Option<&'static str>) {
        self.rules.send_modify(|rules| rules.stalled = said);
    }

    /// From now on, what a client says that said this at first is held; `None` passes it on.
    pub(crate) fn hold(&self, said: Option<&'static str>) {
        self.rules.send_modify(|rules| rules.held = said);
    }

    /// Waits until a client has said this while it is held.
    pub(crate) async fn until_held(&self, said: &str) {
        self.heard.subscribe().wait_for(|heard| contains(heard, said)).await.unwrap();
    }

    /// Resets one connection whose client said this at first, after a random number of bytes up
    /// to `within`.
    pub(crate) fn cut_at_random(&self, said: &'static str, within: usize) {
        self.rules.send_modify(|rules| (rules.cuts_left, rules.cut) = (1, (said, within)));
    }

    /// From now on, connections over which the server says this are reset, before it is passed on.
    pub(crate) fn poison(&self, said: &'static str) {
        self.rules.send_modify(|rules| rules.poison = Some(said));
    }

    /// How many connections were reset at random so far.
    pub(crate) fn cuts(&self) -> usize {
        self.cuts.load(Ordering::Relaxed)
    }
}

async fn pipe(
    near: TcpStream,
    far: TcpStream,
    rules: &watch::Sender<Rules>,
    (cuts, heard): (&AtomicUsize, &watch::Sender<Vec<u8>>),
) {
    let own = rules.borrow().generation;
    let mut watched = rules.subscribe();
    let (greeting, budget) = (watch::Sender::new(Vec::new()), watch::Sender::new(None));
    let passage = Passage { rules, greeting, budget };
    // The kernel sends RST where there is no time to linger, as a dead path does.
    socket2::SockRef::from(&near).set_linger(Some(Duration::ZERO)).ok();
    let (mut near_in, mut near_out) = near.into_split();
    let (mut far_in, mut far_out) = far.into_split();
    let up = async {
        let (mut chunk, mut watched) = ([0; 4096], rules.subscribe());
        let flows = |rules: &Rules| {
            rules.held.is_none_or(|needle| !contains(&passage.greeting.borrow(), needle))
        };
        let mut said = Vec::new();
        loop {
            let count = tokio::select! {
                count = read(&mut near_in, &mut chunk) => count,
                _ = watched.wait_for(flows), if !said.is_empty() => Some(0),
            };
            let Some(count) = count else { return };
            keep(&passage.greeting, &chunk[..count]);
            said.extend_from_slice(&chunk[..count]);
            if !flows(&rules.borrow()) {
                heard.send_modify(|heard| heard.extend_from_slice(&chunk[..count]));
            } else if !passage.pass(&mut far_out, &std::mem::take(&mut said)).await {
                return;
            }
        }
    };
    let down = async {
        let (mut chunk, mut watched, mut tail) = ([0; 4096], rules.subscribe(), Vec::new());
        while let Some(count) = read(&mut far_in, &mut chunk).await {
            let poison = rules.borrow().poison;
            if let Some(poison) = poison {
                tail.extend_from_slice(&chunk[..count]);
                if contains(&tail, poison) {
                    return;
                }
                tail.drain(..tail.len().saturating_sub(poison.len()));
            }
            let flows = |rules: &Rules| {
                rules.stalled.is_none_or(|needle| !contains(&passage.greeting.borrow(), needle))
            };
            watched.wait_for(flows).await.ok();
            if !passage.pass(&mut near_out, &chunk[..count]).await {
                return;
            }
        }
    };
    let is_over = watched.wait_for(|rules| rules.generation > own);
    tokio::select! { () = up => {}, () = down => {}, _ = is_over => {} }
    match *passage.budget.borrow() {
        Some(0) => {
            cuts.fetch_add(1, Ordering::Relaxed);
        }
        // It ended by itself: another one is cut in its place.
        Some(_) => rules.send_modify(|rules| rules.cuts_left += 1),
        None => {}
    }
}

/// Keeps what a client says first.
fn keep(greeting: &watch::Sender<Vec<u8>>, bytes: &[u8]) {
    greeting.send_if_modified(|said| {
        let room = GREETING.saturating_sub(said.len()).min(bytes.len());
        said.extend_from_slice(&bytes[..room]);
        room > 0
    });
}

async fn read(stream: &mut (impl AsyncReadExt + Unpin), chunk: &mut [u8]) -> Option<usize> {
    stream.read(chunk).await.ok().filter(|count| *count > 0)
}

/// What all bytes of one connection are passed on by.
struct Passage<'a> {
    rules: &'a watch::Sender<Rules>,
    /// What was said first, in both directions.
    greeting: watch::Sender<Vec<u8>>,
    /// How many bytes are left until it is cut.
    budget: watch::Sender<Option<usize>>,
}

impl Passage<'_> {
    /// Passes bytes on, as far as this connection is to live; whether it goes on.
    async fn pass(&self, to: &mut (impl AsyncWriteExt + Unpin), bytes: &[u8]) -> bool {
        if self.budget.borrow().is_none() {
            // Each cut is promised to one connection, once.
            self.rules.send_if_modified(|rules| {
                let (said, within) = rules.cut;
                if rules.cuts_left > 0 && contains(&self.greeting.borrow(), said) {
                    rules.cuts_left -= 1;
                    self.budget.send_replace(Some(fastrand::usize(1..=within)));
                }
                false
            });
        }
        let left = self.budget.borrow().unwrap_or(bytes.len());
        let count = left.min(bytes.len());
        let is_whole = to.write_all(&bytes[..count]).await.is_ok();
        self.budget.send_if_modified(|budget| {
            *budget = budget.map(|left| left.saturating_sub(count));
            true
        });
        is_whole && *self.budget.borrow() != Some(0)
    }
}

fn contains(said: &[u8], needle: &str) -> bool {
    String::from_utf8_lossy(said).contains(needle)
}
