//! How old a command is: what was measured of it, and what is only likely.
//!
//! Whether a call can still be executed rests on what was measured: by one process's monotonic
//! clock, or by the broker, which gives a parked copy back no earlier than it was told to. The wall
//! clocks of two moments or two machines are never subtracted for that: either may have been set.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::clock::Now;

/// How old a command is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Age {
    /// At least so old: as it was measured.
    pub proven: Duration,
    /// About so old: where nothing was measured, as the wall clock says.
    pub likely: Duration,
}

impl Age {
    /// So old, all of it measured.
    pub const fn measured(age: Duration) -> Self {
        Self { proven: age, likely: age }
    }
}

/// Milliseconds: one number where all was measured, else what is proven and what is likely.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Measured(u64),
    Both(u64, u64),
}

impl Serialize for Age {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (proven, likely) = (millis(self.proven), millis(self.likely));
        let written = if proven == likely {
            Written::Measured(proven)
        } else {
            Written::Both(proven, likely)
        };
        written.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Age {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (proven, likely) = match Written::deserialize(deserializer)? {
            Written::Measured(age) => (age, age),
            Written::Both(proven, likely) => (proven, likely),
        };
        let (proven, likely) = (Duration::from_millis(proven), Duration::from_millis(likely));
        Ok(Self { proven, likely })
    }
}

/// A command's age at one moment, and what the clocks said then: they measure on from there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "(u64, u64, i64, Age)", into = "(u64, u64, i64, Age)")]
pub struct Measured {
    pub(super) age: Age,
    process: u64,
    monotonic: Duration,
    /// Milliseconds since the epoch.
    wall: i64,
}

impl Measured {
    /// What begins now.
    pub(super) fn begin(now: Now) -> Self {
        Self::at(Age::default(), now)
    }

    /// What was first seen at a time that nothing has measured since.
    pub(super) fn unmeasured(first: Timestamp, now: Now) -> Self {
        let likely = Duration::try_from(now.wall.duration_since(first)).unwrap_or_default();
        Self::at(Age { proven: Duration::ZERO, likely }, now)
    }

    fn at(age: Age, now: Now) -> Self {
        let Now { wall, process, monotonic } = now;
        // Whole milliseconds, as they are kept; rounded so that never more is measured than passed.
        let begun = u64::from(monotonic.subsec_nanos() % 1_000_000 > 0);
        let monotonic = Duration::from_millis(millis(monotonic).saturating_add(begun));
        let whole = |duration| Duration::from_millis(millis(duration));
        let age = Age { proven: whole(age.proven), likely: whole(age.likely) };
        Self { age, process, monotonic, wall: wall.as_millisecond() }
    }

    /// The same, as old as it is now. What another process has measured ends with it.
    pub(super) fn go_on(self, now: Now) -> Self {
        if self.process == now.process {
            let Some(passed) = now.monotonic.checked_sub(self.monotonic) else {
                return self;
            };
            let proven = self.age.proven.saturating_add(passed);
            let likely = self.age.likely.saturating_add(passed);
            return Self::at(Age { proven, likely }, now);
        }
        let passed = now.wall.as_millisecond().saturating_sub(self.wall);
        let passed = Duration::from_millis(u64::try_from(passed).unwrap_or_default());
        let likely = self.age.likely.saturating_add(passed);
        Self::at(Age { proven: self.age.proven, likely }, now)
    }

    /// The same, at least so old as somebody else has measured.
    pub(super) fn at_least(mut self, proven: Duration) -> Self {
        let proven = Duration::from_millis(millis(proven));
        self.age.proven = self.age.proven.max(proven);
        self.age.likely = self.age.likely.max(proven);
        self
    }
}

impl From<(u64, u64, i64, Age)> for Measured {
    fn from((process, monotonic, wall, age): (u64, u64, i64, Age)) -> Self {
        Self { age, process, monotonic: Duration::from_millis(monotonic), wall }
    }
}

impl From<Measured> for (u64, u64, i64, Age) {
    fn from(measured: Measured) -> Self {
        let Measured { age, process, monotonic, wall } = measured;
        (process, millis(monotonic), wall, age)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now(process: u64, monotonic: u64, wall: i64) -> Now {
        let wall = Timestamp::from_second(1_800_000_000 + wall).unwrap();
        Now { wall, process, monotonic: Duration::from_secs(monotonic) }
    }

    fn seconds(age: Age) -> (u64, u64) {
        (age.proven.as_secs(), age.likely.as_secs())
    }

    #[test]
    fn a_process_measures_by_its_own_clock_whatever_the_wall_clock_does() {
        let begun = Measured::begin(now(1, 100, 0));
        assert_eq!(seconds(begun.go_on(now(1, 105, 65)).age), (5, 5));
        assert_eq!(seconds(begun.go_on(now(1, 105, -3_600)).age), (5, 5));
    }

    #[test]
    fn what_no_process_has_measured_is_likely_and_not_proven() {
        let begun = Measured::begin(now(1, 100, 0)).go_on(now(1, 110, 10));
        let restarted = begun.go_on(now(2, 3, 70));
        assert_eq!(seconds(restarted.age), (10, 70));
        assert_eq!(seconds(restarted.go_on(now(2, 8, 75)).age), (15, 75));
        assert_eq!(seconds(begun.go_on(now(2, 3, -70)).age), (10, 10), "the clock was set back");
    }

    #[test]
    fn an_earlier_look_changes_nothing() {
        let begun = Measured::begin(now(1, 100, 0)).go_on(now(1, 110, 10));
        let same = begun.go_on(now(1, 105, 5));
        assert_eq!(seconds(same.go_on(now(1, 111, 11)).age), (11, 11));
    }

    #[test]
    fn what_the_broker_measured_counts_once() {
        let parked = Measured::begin(now(1, 100, 0)).go_on(now(1, 110, 10));
        let back = parked.go_on(now(2, 3, 40)).at_least(Duration::from_secs(10 + 25));
        assert_eq!(seconds(back.age), (35, 40));
        assert_eq!(seconds(back.at_least(Duration::from_secs(20)).age), (35, 40));
    }

    #[test]
    fn it_is_kept_in_few_words() {
        let begun = Measured::begin(now(7, 100, 0)).go_on(now(7, 110, 10));
        let kept = serde_json::to_string(&begun).unwrap();
        assert_eq!(kept, "[7,110000,1800000010000,10000]");
        let restarted = serde_json::from_str::<Measured>(&kept).unwrap().go_on(now(8, 3, 30));
        assert_eq!(
            serde_json::to_string(&restarted).unwrap(),
            "[8,3000,1800000030000,[10000,30000]]"
        );
    }
}
