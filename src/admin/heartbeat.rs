//! Whether the worker's event loop still turns: a task of it ticks, and whoever asks does so
//! from another thread.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Between ticks.
const EVERY: Duration = Duration::from_secs(1);

/// An event loop that has not ticked for so long is stuck: far more than a busy machine needs,
/// and less than an orchestrator's usual timeout of some half a minute.
const STUCK_AFTER: Duration = Duration::from_secs(10);

/// When the event loop last ticked.
#[derive(Clone, Debug)]
pub(crate) struct Heartbeat(Arc<Mutex<Instant>>);

impl Heartbeat {
    /// One that begins to tick on the runtime of whoever calls this, as long as that turns.
    pub(crate) fn start() -> Self {
        let heartbeat = Self::at(clock());
        let ticking = heartbeat.clone();
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(EVERY).await;
                ticking.tick(clock());
            }
        });
        heartbeat
    }

    /// One that has not ticked for so long, and never will again.
    #[cfg(test)]
    pub(super) fn stopped_for(age: Duration) -> Self {
        Self::at(clock().checked_sub(age).unwrap())
    }

    fn at(now: Instant) -> Self {
        Self(Arc::new(Mutex::new(now)))
    }

    fn tick(&self, now: Instant) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }

    fn age_at(&self, now: Instant) -> Duration {
        now.duration_since(*self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// How long ago it ticked: an error, where it is stuck.
    pub(crate) fn age(&self) -> Result<Duration, Duration> {
        verdict(self.age_at(clock()))
    }
}

fn verdict(age: Duration) -> Result<Duration, Duration> {
    if age < STUCK_AFTER { Ok(age) } else { Err(age) }
}

#[expect(clippy::disallowed_methods, reason = "it measures how long ago the loop ticked")]
fn clock() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_that_ticks_is_alive_and_one_that_stopped_is_stuck() {
        let begin = clock();
        let second = Duration::from_secs(1);
        let heartbeat = Heartbeat::at(begin);
        assert_eq!(verdict(heartbeat.age_at(begin + 9 * second)), Ok(9 * second));
        assert_eq!(verdict(heartbeat.age_at(begin + 10 * second)), Err(10 * second));
        heartbeat.tick(begin + 11 * second);
        assert_eq!(verdict(heartbeat.age_at(begin + 12 * second)), Ok(second));
    }
}
