//! The timestamps of the client's calls, as those see them who record and reserve them.

use super::{Client, now};
use eko_core::clock::Stamp;

impl Client {
    /// The timestamp of the next call: later than every one before, and
    /// `EKO_STAMP_AGE` in the past unless calls come faster than milliseconds pass. Waits while
    /// timestamps run ahead of the clock further than [`Self::reserve`] allows.
    pub async fn stamp(&self) -> Stamp {
        Stamp { at: self.timestamps.next(now_ms).await, age: self.timestamps.age() }
    }

    /// Begins behind the timestamps that an earlier process may have used. `ceiling` is the highest
    /// reservation that was kept.
    pub fn start_stamps(&self, ceiling: Option<i64>) {
        self.timestamps.start(now_ms(), ceiling);
    }

    /// Waits until timestamps run so far ahead of the clock that later ones must be reserved, and
    /// tells up to where: who keeps that where the next process finds it tells it by
    /// [`Self::reserve`].
    pub async fn wanted_stamps(&self) -> i64 {
        self.timestamps.wanted(now_ms).await
    }

    /// Notes that timestamps up to this one are reserved, also for after a restart.
    pub fn reserve(&self, until: i64) {
        self.timestamps.reserve(until);
    }
}

fn now_ms() -> i64 {
    now().as_millisecond()
}
