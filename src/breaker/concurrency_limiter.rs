//! The calls of one kind that may be in flight, by a limit that moves.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::{Semaphore, SemaphorePermit, TryAcquireError};

use super::limit::{Limit, Sample};

/// The calls of one kind that may be in flight.
pub(super) struct ConcurrencyLimiter {
    semaphore: Semaphore,
    state: Mutex<State>,
    is_adaptive: bool,
}

struct State {
    limit: Limit,
    /// Whether one call at a time must show that Eko works again.
    is_half_open: bool,
    /// How many permits there are, taken ones included.
    permits: u32,
}

/// A place among the calls in flight, for one call at a time.
#[must_use = "a place that is given up lets somebody else call"]
pub(super) struct Place<'a> {
    limiter: &'a ConcurrencyLimiter,
    permit: Option<SemaphorePermit<'a>>,
    /// The generation of the limit in which the call began; `None` before the first call.
    generation: Option<u32>,
}

impl ConcurrencyLimiter {
    /// At most so many.
    pub(super) fn new(most: u32, is_adaptive: bool) -> Self {
        let limit = Limit::new(most);
        let permits = limit.get();
        let semaphore = Semaphore::new(usize::try_from(permits).unwrap_or(Semaphore::MAX_PERMITS));
        let state = Mutex::new(State { limit, is_half_open: false, permits });
        Self { semaphore, state, is_adaptive }
    }

    /// A place, if nobody has to wait for one.
    pub(super) fn try_take(&self) -> Option<Place<'_>> {
        match self.semaphore.try_acquire() {
            Ok(permit) => Some(Place { limiter: self, permit: Some(permit), generation: None }),
            Err(TryAcquireError::NoPermits | TryAcquireError::Closed) => None,
        }
    }

    /// Waits for a place, in order.
    pub(super) async fn take(&self) -> Place<'_> {
        // The semaphore is never closed; without a permit, the call would go uncounted.
        let permit = self.semaphore.acquire().await.ok();
        Place { limiter: self, permit, generation: None }
    }

    /// How many calls may be in flight now.
    pub(super) fn limit(&self) -> u32 {
        self.lock().allowed()
    }

    /// Whether one call at a time must show that Eko works again.
    pub(super) fn is_half_open(&self) -> bool {
        self.lock().is_half_open
    }

    /// Lets one call at a time through until Eko works again.
    pub(super) fn begin_half_open(&self) {
        let mut state = self.lock();
        state.is_half_open = true;
        self.resize(&mut state);
    }

    /// Eko works: as many calls go at a time as before.
    pub(super) fn end_half_open(&self) {
        let mut state = self.lock();
        if std::mem::take(&mut state.is_half_open) {
            self.resize(&mut state);
        }
    }

    /// Gives or takes permits; those that are taken now go when they come back.
    fn resize(&self, state: &mut State) {
        let allowed = state.allowed();
        if state.permits < allowed {
            self.semaphore.add_permits(count(allowed - state.permits));
            state.permits = allowed;
        } else if state.permits > allowed {
            let forgotten = self.semaphore.forget_permits(count(state.permits - allowed));
            state.permits -= u32::try_from(forgotten).unwrap_or_default();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn allowed(&self) -> u32 {
        if self.is_half_open { 1 } else { self.limit.get() }
    }
}

impl Place<'_> {
    /// Whether no call was made in it yet.
    pub(super) const fn is_fresh(&self) -> bool {
        self.generation.is_none()
    }

    /// A call begins.
    pub(super) fn begin(&mut self) {
        self.generation = Some(self.limiter.lock().limit.generation());
    }

    /// The call has ended and told this much about how busy Eko is.
    pub(super) fn end(&self, sample: Sample, now: Instant) {
        let limiter = self.limiter;
        let mut state = limiter.lock();
        if let Some(generation) = self.generation.filter(|_| limiter.is_adaptive) {
            let free = u32::try_from(limiter.semaphore.available_permits()).unwrap_or(u32::MAX);
            let in_flight = state.permits.saturating_sub(free);
            state.limit.learn(sample, generation, in_flight, now);
            limiter.resize(&mut state);
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut state = self.limiter.lock();
        if state.permits > state.allowed()
            && let Some(permit) = self.permit.take()
        {
            state.permits -= 1;
            permit.forget();
        }
    }
}

fn count(permits: u32) -> usize {
    usize::try_from(permits).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const FAILED: Sample = Sample { took: None, has_failed: true };

    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    fn now() -> Instant {
        Instant::now()
    }

    fn take_all(limiter: &ConcurrencyLimiter) -> Vec<Place<'_>> {
        std::iter::from_fn(|| limiter.try_take()).collect()
    }

    #[test]
    fn a_cut_takes_free_permits_at_once_and_taken_ones_when_they_come_back() {
        let limiter = ConcurrencyLimiter::new(16, true);
        let mut taken = take_all(&limiter);
        assert_eq!(taken.len(), 16);
        taken.iter_mut().for_each(Place::begin);
        for permit in taken.iter().take(5) {
            permit.end(FAILED, now());
        }
        assert_eq!(limiter.limit(), 8);
        taken.truncate(8);
        assert!(limiter.try_take().is_none(), "eight are still in flight");
        taken.truncate(7);
        assert!(limiter.try_take().is_some());
        drop(taken);
        assert_eq!(take_all(&limiter).len(), 8);
    }

    #[test]
    fn without_adaptation_nothing_moves() {
        let limiter = ConcurrencyLimiter::new(16, false);
        let mut taken = take_all(&limiter);
        taken.iter_mut().for_each(Place::begin);
        taken.iter().for_each(|permit| permit.end(FAILED, now()));
        assert_eq!(limiter.limit(), 16);
    }

    #[test]
    fn half_open_one_call_goes_at_a_time() {
        let limiter = ConcurrencyLimiter::new(16, true);
        let before = limiter.try_take();
        limiter.begin_half_open();
        assert!(limiter.try_take().is_none());
        drop(before);
        assert_eq!(take_all(&limiter).len(), 1);
        limiter.end_half_open();
        assert_eq!(take_all(&limiter).len(), 16);
    }

    #[tokio::test]
    async fn who_waits_is_served_when_the_limit_grows() {
        let limiter = ConcurrencyLimiter::new(2, true);
        limiter.begin_half_open();
        let first = limiter.try_take().unwrap();
        let waiting = limiter.take();
        tokio::pin!(waiting);
        assert!(futures_util::poll!(&mut waiting).is_pending());
        limiter.end_half_open();
        let second = tokio::time::timeout(Duration::from_secs(5), waiting).await.unwrap();
        drop((first, second));
    }
}
