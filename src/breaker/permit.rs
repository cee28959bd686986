//! Leave for calls, one at a time.

use std::time::{Duration, Instant};

use super::concurrency_limiter::Place;
use super::limit::Sample;
use crate::clock::Stamp;
use crate::worker::clock;

/// A timestamp that was drawn so long ago signs no call that is not recorded with it: Eko might soon
/// refuse it.
const STALE: Duration = Duration::from_secs(3);

/// Leave for one call: a place among those in flight, and the timestamp that signs it.
#[must_use = "a permit that is dropped lets somebody else call"]
pub(crate) struct Permit<'a> {
    place: Place<'a>,
    stamp: Stamp,
    drawn: tokio::time::Instant,
}

impl<'a> Permit<'a> {
    /// With a timestamp that was drawn just now.
    pub(super) fn new(place: Place<'a>, stamp: Stamp) -> Self {
        Self { place, stamp, drawn: clock() }
    }

    /// The timestamp that signs the next call: of one call only.
    pub(crate) const fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// The place without the timestamp, where that cannot sign another call.
    pub(super) fn renew(self) -> Result<Self, Place<'a>> {
        let is_fresh = self.place.is_fresh() && self.drawn.elapsed() < STALE;
        if is_fresh { Ok(self) } else { Err(self.place) }
    }

    /// A call begins.
    pub(crate) fn begin(&mut self) {
        self.place.begin();
    }

    /// The call has ended and told this much about how busy Eko is.
    pub(crate) fn end(&self, sample: Sample, now: Instant) {
        self.place.end(sample, now);
    }
}
