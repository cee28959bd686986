//! What a process's clocks say at one moment.
//!
//! How long something took is measured by a clock that only goes forward. The wall clock may be set
//! at any time, and only tells people and publishers what time it is.

use std::time::Duration;

use jiff::Timestamp;

/// What a process's clocks say at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// The wall clock, UTC.
    pub wall: Timestamp,
    /// Which process asks: monotonic times of two processes have nothing to do with each other.
    pub process: u64,
    /// How long that process has run, by a clock that only goes forward.
    pub monotonic: Duration,
}

/// The timestamp that a call is signed with: Eko executes the call until this is older than it
/// accepts, and not later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Milliseconds since the epoch.
    pub at: i64,
    /// By how many milliseconds it lay in the future when it was drawn, by the clock that it was drawn
    /// from; negative in the past.
    pub lead: i64,
}
