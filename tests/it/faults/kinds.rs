//! When commands of each kind ended: what the fault of one message or one queue costs the others.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use crate::load::world::World;
use crate::rig::COMMAND_QUEUES;
use crate::rig::broker::Broker;
use crate::rig::event::Event;

/// What was seen last of the commands of each kind, and their longest waits for the next.
pub(super) struct Kinds {
    /// The kind of each command that ended, and when.
    ends: Arc<Mutex<Vec<(String, Instant)>>>,
    reading: JoinHandle<()>,
    /// The kinds that the fault is of.
    struck: &'static [&'static str],
}

impl Kinds {
    /// Reads each event of the flow as a subscriber does; a repeat is no news.
    pub(super) async fn watch(world: &World, struck: &'static [&'static str]) -> Self {
        let (prefix, nodes) = world.address();
        let broker = Broker::connect_to(&nodes[0], &prefix).await;
        let mut inbox = broker.inbox("each-event", Some(("events", "#"))).await;
        let ends = Arc::<Mutex<Vec<_>>>::default();
        let noted = Arc::clone(&ends);
        let reading = tokio::spawn(async move {
            let _open = broker;
            let mut known = BTreeSet::new();
            loop {
                let event = Event::read(inbox.next("an event of the flow").await);
                let is_of_the_flow = event.command_id().starts_with("load-");
                if is_of_the_flow && known.insert(event.id().to_owned()) {
                    let kind = event.message.routing_key.split('.').nth(1).unwrap().to_owned();
                    noted.lock().unwrap().push((kind, Instant::now()));
                }
            }
        });
        Self { ends, reading, struck }
    }

    /// The longest time without an end of a command between two moments: of the struck kinds, where
    /// there are any, and of the others.
    pub(super) fn longest_gaps(&self, from: Instant, to: Instant) -> (Option<Duration>, Duration) {
        let (struck, others): (Vec<_>, Vec<_>) =
            COMMAND_QUEUES.iter().partition(|kind| self.struck.contains(kind));
        let longest = |kinds: Vec<&&str>| kinds.iter().map(|kind| self.gap(kind, from, to)).max();
        (longest(struck), longest(others).unwrap_or_default())
    }

    fn gap(&self, kind: &str, from: Instant, to: Instant) -> Duration {
        let ends = self.ends.lock().unwrap();
        let of_kind = ends.iter().filter(|(of, _)| of == kind).map(|(_, end)| *end);
        let within: Vec<_> = of_kind.filter(|end| (from..to).contains(end)).collect();
        let begins = [from].into_iter().chain(within.iter().copied());
        let gaps = begins.zip(within.iter().copied().chain([to]));
        gaps.map(|(begin, end)| end.duration_since(begin)).max().unwrap_or_default()
    }
}

impl Drop for Kinds {
    fn drop(&mut self) {
        self.reading.abort();
    }
}
