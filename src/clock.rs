//! What a process's clocks say at one moment. How long something took is measured by a clock that
//! only goes forward; the wall clock may be set at any time, and only tells people and publishers
//! what time it is.

use std::time::Duration;

use jiff::Timestamp;

/// What a process's clocks say at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Now {
    /// The wall clock, UTC.
    pub(crate) wall: Timestamp,
    /// Which process asks: monotonic times of two processes have nothing to do with each other.
    pub(crate) process: u64,
    /// How long that process has run, by a clock that only goes forward.
    pub(crate) monotonic: Duration,
}
