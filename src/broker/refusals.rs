//! Which of the queues in which commands wait take no copies now: somebody may have given one a limit,
//! or it may have lost its leader.
//!
//! Who finds that out says it for all. Each of these queues is tried by one, and seldom: a refusal
//! costs a message, and a missing confirm holds up all that is published for its kind for a moment.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::Error;
use super::topology::{Names, WaitingQueue};
use crate::backoff::Backoff;

/// Between tries of a queue that refuses.
const REFUSED_AGAIN: Backoff =
    Backoff { initial: Duration::from_millis(500), max: Duration::from_secs(30) };

/// Between tries of a queue that does not confirm.
const UNCONFIRMED_AGAIN: Backoff =
    Backoff { initial: Duration::from_secs(60), max: Duration::from_secs(600) };

/// How long after its last refusal a queue is said to refuse: nobody may have tried it since.
const RECENT: Duration = Duration::from_secs(60);

/// After how long without an answer a queue is taken for silent: from then on nobody else asks it.
const SILENT: Duration = Duration::from_secs(1);

/// Between looks at a queue that somebody asks.
const LOOK: Duration = Duration::from_millis(500);

/// What is known of the queues that took nothing, for as long as the process lives.
#[derive(Clone, Debug)]
pub(crate) struct Refusals {
    names: Arc<Names>,
    stop: CancellationToken,
    known: Arc<Mutex<BTreeMap<WaitingQueue, Known>>>,
}

/// What is known of one queue.
#[derive(Clone, Copy, Debug)]
struct Known {
    /// How often it took nothing, in all.
    times: u64,
    /// After how many tries in a row; 0 where it has taken a copy since.
    tries: u32,
    last: Instant,
    /// Until then it is not tried.
    until: Instant,
    /// Whether there was no such queue at the last try.
    is_missing: bool,
    /// How many copies it was asked to take, and has not answered for.
    asked: u32,
    /// When it last answered, or was asked first after that.
    heard: Instant,
}

impl Known {
    const fn new(now: Instant) -> Self {
        Self { times: 0, tries: 0, last: now, until: now, is_missing: false, asked: 0, heard: now }
    }

    /// For how long it is not asked; none where it may be asked now. One that took nothing the last time
    /// is tried by one.
    fn wait(&self, now: Instant) -> Duration {
        if self.tries > 0 && now < self.until {
            return self.until - now;
        }
        let is_silent = self.tries > 0 || now.duration_since(self.heard) >= SILENT;
        if self.asked > 0 && is_silent { LOOK } else { Duration::ZERO }
    }
}

/// A queue is asked to take a copy, until this is dropped.
pub(super) struct Asked<'a> {
    refusals: &'a Refusals,
    queue: WaitingQueue,
}

impl Refusals {
    /// Nothing is known of the queues under a prefix.
    ///
    /// `stop`: the worker is asked to stop.
    pub(crate) fn new(prefix: &str, stop: CancellationToken) -> Self {
        Self { names: Arc::new(Names::new(prefix)), stop, known: Arc::default() }
    }

    /// The names under the prefix.
    pub(super) fn names(&self) -> Arc<Names> {
        Arc::clone(&self.names)
    }

    /// Waits until the worker is asked to stop.
    pub(super) async fn stopped(&self) {
        self.stop.cancelled().await;
    }

    /// Leave to ask a queue, if it may be asked now.
    pub(super) fn ask(&self, queue: WaitingQueue) -> Option<Asked<'_>> {
        let (now, mut all) = (now(), self.known());
        let known = all.entry(queue).or_insert_with(|| Known::new(now));
        if known.wait(now) > Duration::ZERO {
            return None;
        }
        if known.asked == 0 {
            known.heard = now;
        }
        known.asked = known.asked.saturating_add(1);
        Some(Asked { refusals: self, queue })
    }

    /// How long it takes until one of these queues may be asked.
    pub(super) fn wait(&self, queues: impl Iterator<Item = WaitingQueue>) -> Duration {
        let (now, all) = (now(), self.known());
        let waits = queues.map(|queue| all.get(&queue).map_or(Duration::ZERO, |it| it.wait(now)));
        waits.min().unwrap_or_default()
    }

    /// Those that were not there when they were last tried.
    pub(super) fn missing(&self) -> Vec<WaitingQueue> {
        let all = self.known();
        all.iter().filter(|(_, known)| known.is_missing).map(|(&queue, _)| queue).collect()
    }

    /// Notes that a queue that was missing is there, whether or not it takes copies.
    pub(super) fn found(&self, queue: WaitingQueue) {
        if let Some(known) = self.known().get_mut(&queue) {
            known.is_missing = false;
        }
    }

    /// Notes that a queue can take copies again.
    pub(super) fn takes(&self, queue: WaitingQueue) {
        let (now, mut all) = (now(), self.known());
        let Some(known) = all.get_mut(&queue) else { return };
        known.heard = now;
        if known.tries > 0 {
            (known.tries, known.until, known.is_missing) = (0, now, false);
            let queue = self.names.waiting(queue);
            tracing::info!(queue, "a queue for waiting commands accepts them again");
        }
    }

    /// How often each queue took nothing.
    pub(crate) fn counts(&self) -> Vec<(WaitingQueue, u64)> {
        let all = self.known();
        let refused = all.iter().filter(|(_, known)| known.times > 0);
        refused.map(|(&queue, known)| (queue, known.times)).collect()
    }

    /// The names of the queues that take nothing now, as far as that is known.
    pub(crate) fn refusing(&self) -> Vec<String> {
        let (now, all) = (now(), self.known());
        let is_now = |known: &Known| known.tries > 0 && now < known.until.max(known.last + RECENT);
        let refusing = all.iter().filter(|(_, known)| is_now(known));
        refusing.map(|(&queue, _)| self.names.waiting(queue)).collect()
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<WaitingQueue, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Asked<'_> {
    /// It took the copy.
    pub(super) fn took(self) {
        self.refusals.takes(self.queue);
    }

    /// There is no such queue.
    pub(super) fn found_none(self, error: &Error) {
        if let Some(known) = self.refusals.known().get_mut(&self.queue) {
            known.is_missing = true;
        }
        self.took_nothing(error);
    }

    /// It took nothing.
    pub(super) fn took_nothing(self, error: &Error) {
        let again = match error {
            Error::Unconfirmed { .. } => UNCONFIRMED_AGAIN,
            Error::Refused { .. } | Error::Lost(_) | Error::Topology(_) => REFUSED_AGAIN,
        };
        let (now, mut all) = (now(), self.refusals.known());
        let Some(known) = all.get_mut(&self.queue) else { return };
        known.times = known.times.saturating_add(1);
        (known.last, known.heard) = (now, now);
        // Others may have tried it together with this one.
        if known.tries == 0 || now >= known.until {
            known.tries = known.tries.saturating_add(1);
            known.until = now + again.delay(known.tries, 0.5);
            if known.tries.is_power_of_two() {
                let (queue, tries) = (self.refusals.names.waiting(self.queue), known.tries);
                tracing::warn!(
                    queue,
                    tries,
                    %error,
                    "a queue for waiting commands refuses them: they are put into the next one"
                );
            }
        }
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        if let Some(known) = self.refusals.known().get_mut(&self.queue) {
            known.asked = known.asked.saturating_sub(1);
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "when a queue may be tried again")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Kind;

    fn queue() -> WaitingQueue {
        WaitingQueue::retry(Kind::Refund, Duration::ZERO)
    }

    fn refusal() -> Error {
        Error::Refused { exchange: String::new(), routing_key: String::new(), why: "full" }
    }

    fn refusals() -> Refusals {
        Refusals::new("eko", CancellationToken::new())
    }

    #[test]
    fn many_that_try_a_queue_at_once_are_one_try() {
        let (refusals, queue) = (refusals(), queue());
        let asked: Vec<_> = (0..100).filter_map(|_| refusals.ask(queue)).collect();
        assert_eq!(asked.len(), 100);
        asked.into_iter().for_each(|asked| asked.took_nothing(&refusal()));
        assert!(refusals.ask(queue).is_none());
        assert_eq!(refusals.counts(), [(queue, 100)]);
        assert_eq!(refusals.refusing(), ["eko.retry.refund.250ms"]);
        let wait = |queue| refusals.wait([queue].into_iter());
        assert!(wait(queue) <= REFUSED_AGAIN.initial, "{:?}", wait(queue));
        let other = WaitingQueue::retry(Kind::RefundOtp, Duration::ZERO);
        assert!(refusals.ask(other).is_some());
        assert_eq!(wait(other), Duration::ZERO);
        refusals.takes(queue);
        assert!(refusals.ask(queue).is_some());
        assert_eq!(refusals.counts(), [(queue, 100)]);
        assert!(refusals.refusing().is_empty());
    }

    #[test]
    fn a_queue_that_does_not_answer_is_asked_by_nobody_else() {
        let began = now();
        let mut known = Known { asked: 1, ..Known::new(began) };
        assert_eq!(known.wait(began), Duration::ZERO, "it has a moment");
        assert_eq!(known.wait(began + SILENT), LOOK);
        known.asked = 0;
        assert_eq!(known.wait(began + SILENT), Duration::ZERO, "nobody waits for it");
    }

    #[test]
    fn a_queue_that_took_nothing_is_tried_again_by_one() {
        let (refusals, queue) = (refusals(), queue());
        refusals.ask(queue).unwrap().took_nothing(&refusal());
        refusals.known().get_mut(&queue).unwrap().until = now();
        let asked = refusals.ask(queue).unwrap();
        assert!(refusals.ask(queue).is_none());
        asked.took();
        assert!(refusals.ask(queue).is_some());
    }

    #[test]
    fn a_queue_that_is_there_as_another_one_is_not_missing_and_takes_nothing() {
        let (refusals, queue) = (refusals(), queue());
        refusals.ask(queue).unwrap().found_none(&refusal());
        assert_eq!(refusals.missing(), [queue]);
        refusals.found(queue);
        assert_eq!(refusals.missing(), []);
        assert!(refusals.ask(queue).is_none(), "it is tried again later");
    }

    #[test]
    fn a_queue_that_is_missing_is_one_until_it_takes_copies_again() {
        let (refusals, queue) = (refusals(), queue());
        refusals.ask(queue).unwrap().found_none(&refusal());
        assert_eq!(refusals.missing(), [queue]);
        refusals.takes(queue);
        assert!(refusals.missing().is_empty());
        assert!(refusals.ask(queue).is_some());
    }
}
