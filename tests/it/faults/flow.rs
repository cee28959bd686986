//! A steady flow of commands, and the pulse of what comes of them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex as StdMutex};
use std::time::{Duration, Instant};

use lapin::Confirmation;
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::load::orders::{Order, Orders};
use crate::load::world::EVENTS;
use crate::rig::broker::Broker;

/// How long a confirm may take before the publisher takes the connection for dead; longer than
/// any freeze of the broker.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(45);

/// A publisher that waits for a broker that is away, and publishes again whatever was not
/// confirmed, as upstream services do.
pub(super) struct Flow {
    orders: Arc<Mutex<Orders>>,
    published: Arc<AtomicUsize>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Flow {
    /// Commands of all kinds, so many a second; what an outage held back comes in a burst.
    pub(super) fn start(address: (String, Vec<String>), seed: u64, rate: u32) -> Self {
        let orders = Arc::new(Mutex::new(Orders::new(seed)));
        let stop = CancellationToken::new();
        let published = Arc::<AtomicUsize>::default();
        let (drawn, stopping) = (Arc::clone(&orders), stop.clone());
        let count = Arc::clone(&published);
        let task = tokio::spawn(async move {
            let mut pace = tokio::time::interval(Duration::from_secs(1) / rate);
            pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
            let mut link = Link { address, broker: None };
            while !stopping.is_cancelled() {
                pace.tick().await;
                let mut orders = drawn.lock().await;
                let order = orders.draw_plain();
                link.publish(&order).await;
                count.store(orders.len(), Ordering::Relaxed);
            }
        });
        Self { orders, published, stop, task }
    }

    /// Holds the flow until the guard is dropped: nothing is on its way to the broker then.
    pub(super) async fn hold(&self) -> OwnedMutexGuard<Orders> {
        Arc::clone(&self.orders).lock_owned().await
    }

    /// How many commands the broker has for certain.
    pub(super) fn published(&self) -> usize {
        self.published.load(Ordering::Relaxed)
    }

    /// Ends it once the last command is confirmed.
    pub(super) async fn end(self) -> Orders {
        self.stop.cancel();
        self.task.await.unwrap();
        let orders = Arc::into_inner(self.orders).expect("the flow is nobody else's");
        orders.into_inner()
    }
}

/// A connection that is made again whenever it is lost.
struct Link {
    address: (String, Vec<String>),
    broker: Option<Broker>,
}

impl Link {
    async fn broker(&mut self) -> &Broker {
        while self.broker.is_none() {
            let (prefix, nodes) = &self.address;
            self.broker = Broker::try_connect(nodes, prefix).await.ok();
            if self.broker.is_none() {
                // The node that failed is tried last.
                self.address.1.rotate_left(1);
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        self.broker.as_ref().unwrap()
    }

    /// Publishes until the broker has it for certain.
    async fn publish(&mut self, (key, body): &Order) {
        loop {
            let published = self.broker().await.try_publish(("commands", key), body);
            match tokio::time::timeout(CONFIRM_TIMEOUT, published).await {
                Ok(Ok(Confirmation::Ack(None))) => return,
                // No queue is bound yet.
                Ok(Ok(Confirmation::Ack(Some(_)))) => {}
                // RabbitMQ 3.10 refuses for ever on a channel that first published to a queue
                // while this had no leader.
                Ok(Ok(_) | Err(_)) | Err(_) => self.broker = None,
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// When events came.
pub(super) struct Pulse {
    beats: Arc<StdMutex<Vec<Instant>>>,
    task: JoinHandle<()>,
}

impl Pulse {
    /// Looks at the queue of all events, again and again; whatever the broker does.
    pub(super) fn watch(address: (String, Vec<String>)) -> Self {
        let beats = Arc::<StdMutex<Vec<Instant>>>::default();
        let noted = Arc::clone(&beats);
        let task = tokio::spawn(async move {
            let (mut link, mut most) = (Link { address, broker: None }, 0);
            loop {
                match link.broker().await.try_count(EVENTS).await {
                    Ok(count) if count > most => {
                        most = count;
                        noted.lock().unwrap().push(Instant::now());
                    }
                    Ok(_) => {}
                    Err(_) => link.broker = None,
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        Self { beats, task }
    }

    /// How often news was seen.
    pub(super) fn count(&self) -> usize {
        self.beats.lock().unwrap().len()
    }

    /// When the first news after a moment came.
    pub(super) fn first_after(&self, moment: Instant) -> Option<Instant> {
        self.beats.lock().unwrap().iter().copied().find(|beat| *beat > moment)
    }

    /// The longest time without news between two moments.
    pub(super) fn longest_gap(&self, from: Instant, to: Instant) -> Duration {
        let beats = self.beats.lock().unwrap();
        let within = beats.iter().copied().filter(|beat| (from..to).contains(beat));
        let mut longest = Duration::ZERO;
        let mut last = from;
        for beat in within.chain([to]) {
            longest = longest.max(beat.duration_since(last));
            last = beat;
        }
        longest
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        self.task.abort();
    }
}
