//! How long a retry waits: attempt and jitter → delay.
//!
//! The only user of the `backoff` crate, and only of its interval arithmetic
//! (`docs/decisions/0012-backoff.md`).

use std::time::Duration;

use backoff::ExponentialBackoffBuilder;
use backoff::backoff::Backoff as _;

/// Each interval is this many times the one before.
const FACTOR: f64 = 2.0;

/// A delay is at most this part above or below its interval: a retry queue expires only at its
/// head, so one with wider jitter would hold back its neighbours.
const JITTER: f64 = 0.2;

/// An exponential backoff.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The first interval.
    pub initial: Duration,
    /// The longest delay.
    pub max: Duration,
}

impl Backoff {
    /// The delay before the `nth` retry, counted from 1. `jitter` is drawn evenly from 0 to 1
    /// and spreads it by `JITTER`; no delay is longer than `max`.
    pub fn delay(&self, nth: u32, jitter: f64) -> Duration {
        let jittered = self.interval(nth).mul_f64(1.0 - JITTER + 2.0 * JITTER * jitter);
        jittered.min(self.max)
    }

    fn interval(&self, nth: u32) -> Duration {
        // The crate counts in a process and we count in the ledger, so each call starts at
        // the interval that the ledger's count stands for.
        let exponent = i32::try_from(nth.saturating_sub(1).min(64)).unwrap_or(64);
        let base = (self.initial.as_secs_f64() * FACTOR.powi(exponent)).min(self.max.as_secs_f64());
        ExponentialBackoffBuilder::new()
            .with_initial_interval(Duration::from_secs_f64(base))
            .with_max_interval(self.max)
            .with_multiplier(FACTOR)
            .with_randomization_factor(0.0)
            .with_max_elapsed_time(None)
            .build()
            .next_backoff()
            .unwrap_or(self.max)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HALF_SECOND_TO_FIVE_MINUTES: Backoff =
        Backoff { initial: Duration::from_millis(500), max: Duration::from_secs(300) };

    #[test]
    fn intervals_double_up_to_the_longest() {
        let seconds: Vec<f64> =
            (1..=12).map(|nth| HALF_SECOND_TO_FIVE_MINUTES.delay(nth, 0.5).as_secs_f64()).collect();
        assert_eq!(
            seconds,
            [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 300.0, 300.0]
        );
    }

    proptest! {
        #[test]
        fn a_delay_stays_within_the_jitter_and_the_longest(nth in 0u32.., jitter in 0.0f64..=1.0) {
            let backoff = HALF_SECOND_TO_FIVE_MINUTES;
            let middle = backoff.delay(nth, 0.5);
            let delay = backoff.delay(nth, jitter);
            prop_assert!(delay <= backoff.max);
            prop_assert!(delay >= middle.mul_f64(0.8));
            prop_assert!(delay <= middle.mul_f64(1.2001));
        }
    }
}
