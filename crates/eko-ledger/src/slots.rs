//! Slots of time for calls: each is the timestamp of one call at most, over all workers that share a
//! ledger and a key of Eko.
//!
//! The ledger keeps one row for a key: the first slot that nobody has taken. A worker takes a
//! block of slots from there on, each `spacing` behind the one before, and none before the ledger's own
//! time. So slots stay unique across workers, restarts and steps of a worker's clock, and a wide spacing
//! is a limit of calls for all workers together.
//!
//! The ledger's own clock may be set, too. The row therefore remembers where it was before the clock was
//! last set, and passes over what was taken there.
//!
//! All times here are microseconds since the epoch, by the ledger's clock.

use crate::request::UpkeepRequest;
use crate::{Error, Ledger};

/// No slot that is taken lies further ahead of the clock: Eko refuses a timestamp that is 2 minutes
/// ahead.
const AHEAD: i64 = 60_000_000;

/// A gap that is longer was left by a clock that was set forward, or while nobody called. In the latter
/// case all that was taken before the gap lies in the past.
const GAP: i64 = AHEAD;

/// What lies so far ahead of the clock is left over from a clock that was wrong. A clock that was set
/// forward by so little that it left no gap had taken no slot there: from [`AHEAD`] of the right time on,
/// it was set by at most [`GAP`], and gave slots up to [`AHEAD`] of its own time.
const WRONG: i64 = AHEAD + GAP + AHEAD;

/// How far a version before this one used timestamps ahead of its clock without a note of that.
const UNNOTED: i64 = 1_000_000;

/// The slots that a worker wants to take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotRequest {
    /// Whose slots: a digest of the key, never the key.
    pub key: String,
    /// How many.
    pub count: u32,
    /// How many microseconds lie between two of them.
    pub spacing: i64,
    /// By how many microseconds the first may lie behind the ledger's time.
    pub age: i64,
}

/// The slots that a worker has taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotBlock {
    /// The first one.
    pub first: i64,
    /// How many there are: fewer than were wanted, or none, where all that lie a minute ahead are taken.
    pub count: u32,
    /// What the ledger's clock said when they were taken.
    pub ledger_time: i64,
}

/// What the ledger keeps of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SlotRow {
    /// The first slot that nobody has taken.
    pub(super) next: i64,
    /// The same where the clock was before it was last set, or before nobody had called for long.
    pub(super) earlier: Option<i64>,
}

impl Ledger {
    /// Takes slots that nobody else takes.
    ///
    /// # Errors
    /// Where the store fails. Slots that were taken nevertheless are used by nobody.
    pub async fn take_slots(&self, request: SlotRequest) -> Result<SlotBlock, Error> {
        self.keep_up(|reply| UpkeepRequest::TakeSlots { request, reply }).await
    }
}

impl SlotRow {
    /// The first row of a key. A version before this one has used timestamps up to `stamps_until`, in
    /// milliseconds, if there was one.
    pub(super) fn behind(stamps_until: Option<i64>, ledger_time: i64) -> Option<Self> {
        let until = stamps_until?.saturating_add(1).saturating_mul(1_000);
        let next = until.max(ledger_time.saturating_add(UNNOTED));
        Some(Self { next, earlier: None })
    }
}

/// The block that a request gets, and the row after it.
pub(super) fn take(
    row: Option<SlotRow>,
    request: &SlotRequest,
    ledger_time: i64,
) -> (SlotBlock, SlotRow) {
    let SlotRequest { count, age, .. } = *request;
    let spacing = request.spacing.max(1);
    let floor = ledger_time.saturating_sub(age);
    let is_usable = |slot: &i64| *slot <= ledger_time.saturating_add(WRONG);
    let marks = row.map_or([None; 2], |row| [Some(row.next), row.earlier]);
    let taken_until = marks.into_iter().flatten().filter(is_usable).max();
    let first = taken_until.map_or(floor, |taken_until| taken_until.max(floor));
    let room = ledger_time.saturating_add(AHEAD).saturating_sub(first);
    let most = if room < 0 { 0 } else { (room / spacing).saturating_add(1) };
    let count = u32::try_from(most).map_or(count, |most| most.min(count));
    let next = first.saturating_add(i64::from(count).saturating_mul(spacing));
    let block = SlotBlock { first, count, ledger_time };
    let Some(row) = row else { return (block, SlotRow { next, earlier: None }) };
    let goes_on = is_usable(&row.next) && first <= row.next.saturating_add(GAP);
    let earlier = if goes_on { row.earlier } else { Some(row.next) };
    (block, SlotRow { next, earlier })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    const NOW: i64 = 1_700_000_000_000_000;
    const SECOND: i64 = 1_000_000;

    fn request(count: u32, age: i64) -> SlotRequest {
        SlotRequest { key: "k".to_owned(), count, spacing: 20_000, age }
    }

    fn row(next: i64) -> Option<SlotRow> {
        Some(SlotRow { next, earlier: None })
    }

    #[test]
    fn slots_follow_those_that_were_taken_and_are_not_in_the_past() {
        let first = |row, age| take(row, &request(10, age), NOW).0.first;
        assert_eq!(first(None, 0), NOW);
        assert_eq!(first(row(NOW - 1), 0), NOW);
        assert_eq!(first(row(NOW + 7), 0), NOW + 7);
        assert_eq!(first(None, 80 * SECOND), NOW - 80 * SECOND);
        assert_eq!(first(row(NOW), 80 * SECOND), NOW, "the age was smaller before");
        assert_eq!(take(row(NOW), &request(10, 0), NOW).1.next, NOW + 200_000);
    }

    #[test]
    fn no_slot_lies_more_than_a_minute_ahead() {
        let taken = |ahead| take(row(NOW + ahead), &request(10, 0), NOW);
        assert_eq!(taken(AHEAD - 200_000).0.count, 10);
        assert_eq!(taken(AHEAD - 40_000).0.count, 3);
        assert_eq!(taken(AHEAD).0.count, 1);
        let (block, row) = taken(AHEAD + 1);
        assert_eq!((block.count, row.next), (0, NOW + AHEAD + 1));
    }

    #[test]
    fn slots_of_a_clock_that_was_far_ahead_hold_nothing_back() {
        let hour = 3_600 * SECOND;
        let before = take(None, &request(10, 0), NOW).1;
        let (ahead, wrong) = take(Some(before), &request(10, 0), NOW + hour);
        assert_eq!(ahead.first, NOW + hour);
        let (right, row) = take(Some(wrong), &request(10, 0), NOW + 1);
        assert_eq!(right.first, before.next, "behind those that were taken before");
        let (again, _) = take(Some(row), &request(10, 0), NOW + hour);
        assert_eq!(again.first, wrong.next, "and so when the clock is wrong again");
    }

    #[test]
    fn a_key_of_a_version_before_begins_behind_its_timestamps() {
        let next = |until| SlotRow::behind(until, NOW).map(|row| row.next);
        assert_eq!(next(None), None);
        assert_eq!(next(Some(NOW / 1_000 + 30_000)), Some(NOW + 30 * SECOND + 1_000));
        assert_eq!(next(Some(0)), Some(NOW + SECOND), "what it did not have to note");
    }

    proptest! {
        /// Workers of one spacing and age take slots in any order while the clock goes on, and is set
        /// and set back.
        #[test]
        fn no_slot_is_taken_twice(
            takes in prop::collection::vec((1_u32..700, 0_i64..2_000), 1..60),
            step in -7_200_i64..7_200,
            set in 0_usize..60,
            back in 0_usize..60,
            spacing in prop::sample::select(vec![1_000, 20_000, 1_000_000]),
        ) {
            let (mut row, mut time) = (None, NOW);
            let mut seen = HashSet::new();
            for (number, (count, passed)) in takes.into_iter().enumerate() {
                time += passed * 1_000;
                let is_wrong = (set..set.saturating_add(back)).contains(&number);
                let clock = if is_wrong { time + step * SECOND } else { time };
                let wanted = SlotRequest { spacing, ..request(count, 0) };
                let (block, next) = take(row, &wanted, clock);
                row = Some(next);
                for slot in (0..block.count).map(|slot| block.first + i64::from(slot) * spacing) {
                    prop_assert!(slot <= clock + AHEAD, "{slot} is too far ahead of {clock}");
                    prop_assert!(slot >= clock, "{slot} lies in the past of {clock}");
                    prop_assert!(seen.insert(slot.div_euclid(1_000)), "{slot} twice");
                }
            }
        }
    }
}
