//! Commands that the ledger has begun and whose message never comes back: a queue was purged, a
//! policy or a person removed it. Each ends in an outcome all the same.
//!
//! Whether a message is lost cannot be seen, only that nobody has worked on its command for long
//! while its kind was consumed and its queue was empty. To be wrong costs nothing but patience: a
//! message that comes back later is answered with what was published.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::broker::OutcomePublisher;
use crate::command::Kind;
use crate::ledger::{Open, OpenState, Stranded};
use crate::order::End;
use crate::worker::Worker;

/// How many are looked at in one round.
const AT_ONCE: u32 = 500;

/// Between rounds: often enough that a short wait is not made much longer, seldom enough not to be
/// felt.
const SELDOM: Duration = Duration::from_secs(30);
/// No more often than that, however short the wait is.
const OFTEN: Duration = Duration::from_millis(100);

/// After so many times the wait a backlog is no reason to wait on: a queue that is never empty would
/// keep every lost message from being noticed.
const DESPITE_BACKLOG: u32 = 6;

/// Looks after commands that nobody works on.
pub(super) struct Sweep {
    worker: Arc<Worker>,
    publisher: OutcomePublisher,
    /// `ORPHAN_AFTER`.
    after: Duration,
    open: HashMap<String, Watched<OpenState>>,
    untold: HashMap<String, Watched<()>>,
    /// When each kind was last seen paused: what waited meanwhile is dealt with only now.
    paused: HashMap<&'static str, Instant>,
}

/// Since when something has not changed.
struct Watched<T> {
    state: T,
    since: Instant,
    /// It was found to be an orphan: from then on it waits for its due time only, unless its
    /// message comes back and is parked again.
    is_orphan: bool,
}

impl Sweep {
    /// A sweep of one session.
    pub(super) fn new(worker: Arc<Worker>, publisher: OutcomePublisher, after: Duration) -> Self {
        Self {
            worker,
            publisher,
            after,
            open: HashMap::new(),
            untold: HashMap::new(),
            paused: HashMap::new(),
        }
    }

    /// Sweeps until the session ends.
    pub(super) async fn run(mut self, end: CancellationToken) {
        let mut rounds = tokio::time::interval((self.after / 4).clamp(OFTEN, SELDOM));
        rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = end.cancelled() => return,
                _ = rounds.tick() => {}
            }
            tokio::select! {
                () = end.cancelled() => return,
                () = self.round() => {}
            }
        }
    }

    async fn round(&mut self) {
        let Stranded { open, untold } = match self.worker.ledger.stranded(AT_ONCE).await {
            Ok(stranded) => stranded,
            Err(error) => {
                tracing::debug!(
                    %error,
                    "the ledger could not be searched for commands without a message"
                );
                return;
            }
        };
        let now = now();
        let paused = Kind::ALL.into_iter().filter(|&kind| !self.is_consumed(kind));
        let paused: Vec<_> = paused.map(|kind| (kind.as_str(), now)).collect();
        self.paused.extend(paused);
        watch(&mut self.untold, untold.into_iter().map(|id| (id, ())), now);
        let states = open.iter().map(|open| (open.id.clone(), open.state));
        watch(&mut self.open, states, now);
        for open in &open {
            if self.is_orphan(open, open.kind.unwrap_or(Kind::Refund), now).await {
                self.settle(&open.id, open.kind).await;
            }
        }
        let is_old = |watched: &Watched<()>| now >= watched.since + self.after;
        let old = self.untold.iter().filter(|(_, watched)| is_old(watched));
        let old: Vec<String> = old.map(|(id, _)| id.clone()).collect();
        // Who has the message publishes it with a dead letter, which needs the message.
        if !old.is_empty() && self.is_quiet().await {
            for id in old {
                self.settle(&id, None).await;
            }
        }
    }

    /// Whether no message of any kind can be waiting where nobody sees it.
    async fn is_quiet(&self) -> bool {
        for kind in Kind::ALL {
            if !self.is_consumed(kind) || !self.is_empty(kind).await {
                return false;
            }
        }
        true
    }

    /// Whether a kind is consumed: while it is paused, its messages wait where nobody sees them.
    fn is_consumed(&self, kind: Kind) -> bool {
        self.worker.breakers.paused(kind).is_none()
    }

    /// Whether no message of a kind waits to be delivered.
    async fn is_empty(&self, kind: Kind) -> bool {
        matches!(self.publisher.waiting(kind).await, Ok(0))
    }

    /// Whether an open command's message is taken for lost.
    async fn is_orphan(&self, open: &Open, kind: Kind, now: Instant) -> bool {
        let Some(watched) = self.open.get(&open.id) else { return false };
        if watched.is_orphan {
            return true;
        }
        let paused = self.paused.get(kind.as_str()).copied();
        let since = paused.map_or(watched.since, |paused| paused.max(watched.since));
        if now < since + self.after || self.worker.waiting.has(&open.id) {
            return false;
        }
        let is_long = now >= since + self.after.saturating_mul(DESPITE_BACKLOG);
        self.is_consumed(kind) && (is_long || self.is_empty(kind).await)
    }

    async fn settle(&mut self, id: &str, kind: Option<Kind>) {
        match self.worker.settle_orphan(id, kind, &self.publisher).await {
            Ok(End::DueAgain) => {
                if let Some(watched) = self.open.get_mut(id) {
                    watched.is_orphan = true;
                }
            }
            Ok(End::Over) => {
                self.open.remove(id);
                self.untold.remove(id);
            }
            Err(error) => {
                tracing::warn!(
                    command_id = id,
                    %error,
                    "the event of a command without a message could not be published: it is \
                     published later"
                );
                self.open.remove(id);
                // Those whose queues took it should not get it again each round.
                self.untold
                    .insert(id.to_owned(), Watched { state: (), since: now(), is_orphan: false });
            }
        }
    }
}

/// Notes what is there now, and since when it has not changed. A command that is being settled
/// without its message is not there while it waits for its due time.
fn watch<T: Watchable>(
    watched: &mut HashMap<String, Watched<T>>,
    there: impl Iterator<Item = (String, T)>,
    now: Instant,
) {
    let mut before = std::mem::take(watched);
    for (id, state) in there {
        let known = before.remove(&id).filter(|known| known.state.goes_on(&state, known.is_orphan));
        let since = known.as_ref().map_or(now, |known| known.since);
        let is_orphan = known.is_some_and(|known| known.is_orphan);
        watched.insert(id, Watched { state, since, is_orphan });
    }
    watched.extend(before.into_iter().filter(|(_, known)| known.is_orphan));
}

/// What tells whether somebody has worked on something meanwhile.
trait Watchable {
    /// Whether nobody but this sweep has.
    fn goes_on(&self, next: &Self, is_orphan: bool) -> bool;
}

impl Watchable for () {
    fn goes_on(&self, _: &Self, _: bool) -> bool {
        true
    }
}

impl Watchable for OpenState {
    fn goes_on(&self, next: &Self, is_orphan: bool) -> bool {
        // A message that came back and was parked again counts one more.
        if is_orphan { self.parked == next.parked } else { self == next }
    }
}

#[expect(clippy::disallowed_methods, reason = "how long nobody has worked on a command")]
fn now() -> Instant {
    Instant::now()
}
