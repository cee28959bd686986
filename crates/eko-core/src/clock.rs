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
    /// How far it was meant to lie in the past when it was drawn.
    pub age: Duration,
}

impl Stamp {
    /// By how many milliseconds it lies in the future, at a time just after it was drawn: never
    /// less than it was meant to, since the wall clock may have been set in between.
    pub fn lead(self, now: Timestamp) -> i64 {
        let meant = i64::try_from(self.age.as_millis()).unwrap_or(i64::MAX).saturating_neg();
        self.at.saturating_sub(now.as_millisecond()).max(meant)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_never_taken_for_older_than_it_was_meant_to_be() {
        let stamp = Stamp { at: 1_000_000, age: Duration::from_secs(80) };
        let lead = |now| stamp.lead(Timestamp::from_millisecond(now).unwrap());
        assert_eq!(lead(1_080_000), -80_000);
        assert_eq!(lead(1_140_000), -80_000, "the clock was set forward in between");
        assert_eq!(lead(1_050_000), -50_000, "a burst ran ahead of the clock");
        assert_eq!(lead(940_000), 60_000);
    }
}
