//! May a call start now?

use std::num::NonZeroU32;

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

/// What every call passes. Concurrency needs no permit here: no more deliveries are in the
/// worker's hands than calls may be in flight.
pub(crate) struct Gate {
    limiter: Option<DefaultDirectRateLimiter>,
}

impl Gate {
    /// A gate that lets through `rate` calls a second, over all kinds.
    pub(crate) fn new(rate: Option<NonZeroU32>) -> Self {
        let limiter = rate.map(|rate| {
            // Without a burst, calls are spread evenly over each second.
            let quota = Quota::per_second(rate).allow_burst(NonZeroU32::MIN);
            RateLimiter::direct(quota)
        });
        Self { limiter }
    }

    /// Waits until one more call may be made.
    pub(crate) async fn pass(&self) {
        if let Some(limiter) = &self.limiter {
            limiter.until_ready().await;
        }
    }
}
