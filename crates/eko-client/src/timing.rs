//! What signs a call, and until when it may be sent.

use std::sync::atomic::{AtomicI64, Ordering};

use tokio::time::Instant;

/// What signs a call, and until when it may be sent.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// The timestamp, in milliseconds since the epoch. Eko refuses one that it has seen, over all who
    /// use the same key.
    pub stamp: i64,
    /// No byte leaves later.
    pub deadline: Instant,
}

/// Timestamps of which no two are equal within a process.
#[derive(Debug, Default)]
pub(super) struct OwnTimestamps(AtomicI64);

impl OwnTimestamps {
    /// A timestamp that is not before `now`, in milliseconds since the epoch.
    pub(super) fn next(&self, now: i64) -> i64 {
        let following = |last: i64| now.max(last.saturating_add(1));
        let last =
            self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(following(last)));
        last.map_or(now, following)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_timestamps_are_equal() {
        let timestamps = OwnTimestamps::default();
        assert_eq!([7, 7, 9, 3].map(|now| timestamps.next(now)), [7, 8, 9, 10]);
    }
}
