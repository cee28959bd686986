//! The timestamps of this worker's calls.
//!
//! Eko refuses a timestamp that it has seen, and a timestamp is a millisecond. So all workers of one
//! key take their timestamps from one row of the ledger: each takes a block of slots for itself, and
//! uses a slot in time or not at all. The row also spaces the slots of a fleet's rate limit: then no
//! slot is used before its time.
//!
//! All times of slots are microseconds since the epoch by the ledger's clock, less `EKO_STAMP_AGE`.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Notify;

use super::Settings;
use crate::clock::Stamp;
use crate::ledger::{SlotBlock, SlotRequest};
use crate::worker::Clock;

/// One millisecond: no two timestamps are nearer to each other.
const MILLISECOND: i64 = 1_000;

/// For how long a slot can be used where no rate is set, and which part of `EKO_STAMP_TOLERANCE` that is
/// at most. What is older comes nearer to Eko's limit.
const KEPT: i64 = 3_000 * MILLISECOND;
const PART: i64 = 20;

/// The same where a rate is set, unless slots are further apart. A slot that was missed is not made up
/// for: more calls than allowed would go in one second.
const KEPT_PACED: i64 = 40 * MILLISECOND;

/// How many slots a worker takes at once where no rate is set.
const SMALLEST: u32 = 32;
const LARGEST: u32 = 4_096;

/// A block that lasted for less was too small, and one that lasted for more too large.
const SHORT: Duration = Duration::from_millis(250);
const LONG: Duration = Duration::from_secs(1);

/// How many microseconds of slots a worker takes at most where a rate is set: the others wait for the
/// slots behind them. It asks for the next block when half of that is left.
const SHARE: i64 = 200 * MILLISECOND;

/// A ledger's clock that moves further than this against ours was set.
const SET: u64 = 1_000 * MILLISECOND.unsigned_abs();

/// The slots that a worker wants to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Want {
    count: u32,
    spacing: i64,
    age: i64,
    generation: u32,
}

impl Want {
    /// Asks the ledger for them, by a digest of the key.
    pub(crate) const fn request(self, key: String) -> SlotRequest {
        let Self { count, spacing, age, .. } = self;
        SlotRequest { key, count, spacing, age }
    }
}

/// Why there is no slot now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    /// The next one comes after so long.
    ForTime(Duration),
    /// The ledger must give a block first.
    ForBlock,
}

/// The timestamps of one worker.
pub(crate) struct Timestamps {
    clock: Clock,
    age: i64,
    /// Microseconds between two slots.
    spacing: i64,
    /// Whether a slot must not be used before its time: a rate is set.
    is_paced: bool,
    /// For how long a slot can be used.
    kept: i64,
    state: Mutex<State>,
    /// Told when a block is wanted.
    wanting: Notify,
    /// Told when there is one.
    granted: Notify,
}

struct State {
    slots: VecDeque<Slots>,
    /// What the ledger's clock said, and how long the process had run when that was known.
    ledger_clock: Option<(i64, Duration)>,
    /// How many slots the last block had where no rate is set.
    size: u32,
    /// When the last block came.
    granted: Duration,
    /// How many calls wait for a slot.
    waiting: u32,
    /// Slots that were asked for in an earlier generation are not used.
    generation: u32,
}

/// What is left of a block.
#[derive(Clone, Copy)]
struct Slots {
    next: i64,
    left: u32,
}

impl Timestamps {
    /// None yet: the ledger gives them.
    pub(super) fn new(settings: Settings, clock: Clock) -> Self {
        let microseconds = |time: Duration| i64::try_from(time.as_micros()).unwrap_or(i64::MAX);
        let spacing = |rate: NonZeroU32| 1_000 * MILLISECOND / i64::from(rate.get());
        let spacing = settings.fleet_rate.map_or(MILLISECOND, spacing).max(MILLISECOND);
        let kept = KEPT.min(microseconds(settings.stamp_tolerance) / PART);
        Self {
            clock,
            age: microseconds(settings.stamp_age),
            spacing,
            is_paced: settings.fleet_rate.is_some(),
            kept: settings.fleet_rate.map_or(kept, |_| spacing.max(KEPT_PACED)),
            state: Mutex::new(State {
                slots: VecDeque::new(),
                ledger_clock: None,
                size: SMALLEST,
                granted: Duration::ZERO,
                waiting: 0,
                generation: 0,
            }),
            wanting: Notify::new(),
            granted: Notify::new(),
        }
    }

    /// Whether there is a timestamp that may be used now.
    pub(super) fn is_ready(&self) -> bool {
        let is_ready = self.next_slot(&mut self.lock(), self.clock.passed()).is_ok();
        self.ask();
        is_ready
    }

    /// A timestamp that may be used now, if there is one.
    pub(super) fn try_next(&self) -> Option<Stamp> {
        let drawn = self.draw(self.clock.passed()).ok();
        self.ask();
        drawn
    }

    /// The next timestamp. Waits until the ledger has given one, and until its time has come. One caller
    /// waits at a time.
    pub(super) async fn next(&self) -> Stamp {
        loop {
            let granted = self.granted.notified();
            let wait = match self.draw(self.clock.passed()) {
                Ok(stamp) => return stamp,
                Err(wait) => wait,
            };
            self.ask();
            match wait {
                Wait::ForBlock => granted.await,
                Wait::ForTime(wait) => tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    () = granted => {}
                },
            }
        }
    }

    /// Counts one more call that waits, until this is dropped.
    pub(super) fn waiting(&self) -> Waiting<'_> {
        let mut state = self.lock();
        state.waiting = state.waiting.saturating_add(1);
        Waiting(self)
    }

    /// A call counts as over by its timestamp, as if that lay in the past by no more than it is meant to.
    fn draw(&self, now: Duration) -> Result<Stamp, Wait> {
        let mut state = self.lock();
        let (slot, ledger_time) = self.next_slot(&mut state, now)?;
        state.take_first(self.spacing);
        let behind = ledger_time.saturating_sub(slot).min(self.age);
        let lead = behind.div_euclid(MILLISECOND).saturating_neg();
        Ok(Stamp { at: slot.div_euclid(MILLISECOND), lead })
    }

    /// The next slot, and the ledger's time.
    fn next_slot(&self, state: &mut State, now: Duration) -> Result<(i64, i64), Wait> {
        let Some(ledger_time) = state.ledger_time(now) else { return Err(Wait::ForBlock) };
        let base = ledger_time.saturating_sub(self.age);
        state.drop_older(base.saturating_sub(self.kept), self.spacing);
        let Some(slots) = state.slots.front() else { return Err(Wait::ForBlock) };
        let early = slots.next.saturating_sub(base);
        if self.is_paced && early > 0 {
            return Err(Wait::ForTime(Duration::from_micros(early.unsigned_abs())));
        }
        Ok((slots.next, ledger_time))
    }

    /// Has a block asked for, if one is wanted.
    fn ask(&self) {
        if self.want(&self.lock(), self.clock.passed()).is_some() {
            self.wanting.notify_one();
        }
    }

    /// The block that is wanted, if one is.
    fn want(&self, state: &State, now: Duration) -> Option<Want> {
        let left: u32 = state.slots.iter().map(|slots| slots.left).sum();
        let count = if self.is_paced {
            let most = u32::try_from(SHARE / self.spacing).unwrap_or(u32::MAX).max(1);
            let lacking = state.waiting.saturating_sub(left);
            (lacking > 0 && left <= most / 2).then(|| lacking.min(most))
        } else {
            let size = state.next_size(now);
            (left <= state.size / 2).then_some(size)
        };
        let Self { spacing, age, .. } = *self;
        count.map(|count| Want { count, spacing, age, generation: state.generation })
    }

    /// Waits until a block is wanted.
    pub(crate) async fn wanted(&self) -> Want {
        loop {
            if let Some(want) = self.want(&self.lock(), self.clock.passed()) {
                return want;
            }
            self.wanting.notified().await;
        }
    }

    /// Takes in a block that the ledger has given.
    pub(crate) fn grant(&self, want: Want, block: SlotBlock) {
        self.grant_at(want, block, self.clock.passed());
    }

    fn grant_at(&self, want: Want, block: SlotBlock, now: Duration) {
        let SlotBlock { first, count, ledger_time } = block;
        let mut state = self.lock();
        if want.generation != state.generation {
            return;
        }
        let expected = state.ledger_time(now).unwrap_or(ledger_time);
        if expected.abs_diff(ledger_time) > SET {
            state.slots.clear();
        }
        // The answer was on its way for a while: so the ledger's clock is never taken to be ahead of
        // what it is.
        state.ledger_clock = Some((ledger_time, now));
        if count > 0 {
            state.size = want.count;
            state.granted = now;
            state.slots.push_back(Slots { next: first, left: count });
        }
        drop(state);
        self.granted.notify_waiters();
    }

    /// Uses no slot any more that was asked for until now: the key is another one, or the clock was set.
    pub(crate) fn forget(&self) {
        let mut state = self.lock();
        state.generation = state.generation.wrapping_add(1);
        state.slots.clear();
        state.ledger_clock = None;
        drop(state);
        self.wanting.notify_one();
    }

    /// What the ledger's clock says now, as far as is known.
    pub(super) fn ledger_time(&self) -> Option<Timestamp> {
        let now = self.clock.passed();
        Timestamp::from_microsecond(self.lock().ledger_time(now)?).ok()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// What the ledger's clock says now.
    fn ledger_time(&self, now: Duration) -> Option<i64> {
        let (then, known) = self.ledger_clock?;
        let passed = i64::try_from(now.saturating_sub(known).as_micros()).ok()?;
        then.checked_add(passed)
    }

    fn take_first(&mut self, spacing: i64) {
        if let Some(slots) = self.slots.front_mut() {
            slots.next = slots.next.saturating_add(spacing);
            slots.left = slots.left.saturating_sub(1);
            if slots.left == 0 {
                self.slots.pop_front();
            }
        }
    }

    /// Drops the slots that are older.
    fn drop_older(&mut self, oldest: i64, spacing: i64) {
        while let Some(slots) = self.slots.front_mut() {
            let missed = oldest.saturating_sub(slots.next);
            if missed <= 0 {
                return;
            }
            let missed = missed.saturating_add(spacing - 1) / spacing;
            match u32::try_from(missed).ok().and_then(|missed| slots.left.checked_sub(missed)) {
                Some(left @ 1..) => {
                    slots.left = left;
                    slots.next = slots.next.saturating_add(missed.saturating_mul(spacing));
                    return;
                }
                Some(0) | None => drop(self.slots.pop_front()),
            }
        }
    }

    /// How many slots the next block should have, by how long the last one has lasted.
    fn next_size(&self, now: Duration) -> u32 {
        let lasted = now.saturating_sub(self.granted);
        if lasted < SHORT {
            self.size.saturating_mul(2).min(LARGEST)
        } else if lasted > LONG {
            (self.size / 2).max(SMALLEST)
        } else {
            self.size
        }
    }
}

/// Counted while it waits for a slot.
pub(super) struct Waiting<'a>(&'a Timestamps);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.waiting = state.waiting.saturating_sub(1);
        drop(state);
        self.0.ask();
    }
}

#[cfg(test)]
impl Timestamps {
    /// Timestamps that do not run out, for the tests of what needs them.
    pub(super) fn stocked() -> Self {
        let timestamps = Self::new(Settings::default(), Clock::begin());
        timestamps.stock();
        timestamps
    }

    pub(super) fn stock(&self) {
        let want = Want { count: 100_000, spacing: MILLISECOND, age: 0, generation: 0 };
        let first = 3_600_000 * MILLISECOND;
        self.grant(want, SlotBlock { first, count: want.count, ledger_time: 0 });
    }
}

#[cfg(test)]
mod tests;
