//! Which of the queues in which commands wait take no copies now: somebody may have given one a limit,
//! or it may have lost its leader.
//!
//! Who finds that out says it for all. Each of these queues is tried by few, and seldom: a refusal
//! costs a message, and a missing confirm holds up all that is published for its kind.

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

/// What is known of the queues that took nothing, for as long as the process lives.
#[derive(Clone, Debug)]
pub(crate) struct Refusals {
    names: Arc<Names>,
    stop: CancellationToken,
    known: Arc<Mutex<BTreeMap<WaitingQueue, Refusal>>>,
}

#[derive(Clone, Copy, Debug)]
struct Refusal {
    /// How often it took nothing, in all.
    times: u64,
    /// After how many tries in a row; 0 where it has taken a copy since.
    tries: u32,
    last: Instant,
    /// Until then it is not tried.
    until: Instant,
}

impl Refusals {
    /// Nothing is known of the queues under a prefix.
    ///
    /// `stop`: the worker is asked to stop.
    pub(crate) fn new(prefix: &str, stop: CancellationToken) -> Self {
        Self { names: Arc::new(Names::new(prefix)), stop, known: Arc::default() }
    }

    /// Waits until the worker is asked to stop.
    pub(super) async fn stopped(&self) {
        self.stop.cancelled().await;
    }

    /// Whether a queue may be tried now.
    pub(super) fn may_try(&self, queue: WaitingQueue) -> bool {
        self.until(queue).is_none_or(|until| now() >= until)
    }

    /// How long it takes until one of these queues may be tried.
    pub(super) fn wait(&self, queues: impl Iterator<Item = WaitingQueue>) -> Duration {
        let now = now();
        let waits = queues.map(|queue| self.until(queue).map_or(now, |until| until.max(now)) - now);
        waits.min().unwrap_or_default()
    }

    /// Notes that a queue took nothing.
    pub(super) fn refused(&self, queue: WaitingQueue, error: &Error) {
        let again = match error {
            Error::Unconfirmed { .. } => UNCONFIRMED_AGAIN,
            Error::Refused { .. } | Error::Lost(_) | Error::Topology(_) => REFUSED_AGAIN,
        };
        let now = now();
        let mut refusals = self.known();
        let new = Refusal { times: 0, tries: 0, last: now, until: now };
        let refusal = refusals.entry(queue).or_insert(new);
        refusal.times = refusal.times.saturating_add(1);
        refusal.last = now;
        // Others may have tried it together with this one.
        if refusal.tries == 0 || now >= refusal.until {
            refusal.tries = refusal.tries.saturating_add(1);
            refusal.until = now + again.delay(refusal.tries, 0.5);
            if refusal.tries.is_power_of_two() {
                let (queue, tries) = (self.names.waiting(queue), refusal.tries);
                tracing::warn!(
                    queue,
                    tries,
                    %error,
                    "a queue for waiting commands refuses them: they are put into the next one"
                );
            }
        }
    }

    /// Notes that a queue took a copy.
    pub(super) fn took(&self, queue: WaitingQueue) {
        let mut refusals = self.known();
        let Some(refusal) = refusals.get_mut(&queue).filter(|refusal| refusal.tries > 0) else {
            return;
        };
        let now = now();
        (refusal.tries, refusal.until) = (0, now);
        let queue = self.names.waiting(queue);
        tracing::info!(queue, "a queue for waiting commands accepts them again");
    }

    /// How often each queue took nothing.
    pub(crate) fn counts(&self) -> Vec<(WaitingQueue, u64)> {
        let refusals = self.known();
        refusals.iter().map(|(&queue, refusal)| (queue, refusal.times)).collect()
    }

    /// The names of the queues that take nothing now, as far as that is known.
    pub(crate) fn refusing(&self) -> Vec<String> {
        let now = now();
        let refusals = self.known();
        let is_now =
            |refusal: &Refusal| refusal.tries > 0 && now < refusal.until.max(refusal.last + RECENT);
        let refusing = refusals.iter().filter(|(_, it)| is_now(it));
        refusing.map(|(&queue, _)| self.names.waiting(queue)).collect()
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<WaitingQueue, Refusal>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn until(&self, queue: WaitingQueue) -> Option<Instant> {
        let refusals = self.known();
        refusals.get(&queue).filter(|refusal| refusal.tries > 0).map(|refusal| refusal.until)
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

    #[test]
    fn many_that_try_a_queue_at_once_are_one_try() {
        let (refusals, queue) = (
            Refusals::new("eko", CancellationToken::new()),
            WaitingQueue::retry(Kind::Refund, Duration::ZERO),
        );
        let refused =
            Error::Refused { exchange: String::new(), routing_key: String::new(), why: "full" };
        assert!(refusals.may_try(queue));
        for _ in 0..100 {
            refusals.refused(queue, &refused);
        }
        assert!(!refusals.may_try(queue));
        assert_eq!(refusals.counts(), [(queue, 100)]);
        assert_eq!(refusals.refusing(), ["eko.retry.refund.250ms"]);
        let wait = |queue| refusals.wait([queue].into_iter());
        assert!(wait(queue) <= REFUSED_AGAIN.initial, "{:?}", wait(queue));
        let other = WaitingQueue::retry(Kind::RefundOtp, Duration::ZERO);
        assert_eq!((refusals.may_try(other), wait(other)), (true, Duration::ZERO));
        refusals.took(queue);
        assert!(refusals.may_try(queue));
        assert_eq!(refusals.counts(), [(queue, 100)]);
        assert!(refusals.refusing().is_empty());
    }
}
