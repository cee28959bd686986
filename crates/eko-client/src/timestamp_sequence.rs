//! The timestamps of calls. Eko refuses one that it has seen before, so no two calls share one: not
//! within a process, however many begin in one millisecond, nor across a restart.
//!
//! All times are epoch milliseconds. What is called the base is the wall clock less `EKO_STAMP_AGE`.
//! Timestamps may run ahead of it, since more than 1,000 calls a second take more than there are
//! milliseconds. A process uses timestamps up to [`FREE`] after the base as it likes, and a new one
//! begins behind those. Later ones must be reserved first: whoever keeps the reservation
//! ([`TimestampSequence::wanted`], [`TimestampSequence::reserve`]) gives the highest one to the next process
//! ([`TimestampSequence::start`]).

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, Notify};

/// How far timestamps may run ahead of the base without a reservation.
const FREE: i64 = 1_000;

/// How far they may run ahead at all: Eko refuses what is 2 minutes ahead.
const MAX_AHEAD: i64 = 60_000;

/// How far the first reservation of a process reaches beyond the newest timestamp, and how far any
/// does: each reaches twice as far as the one before. What a process reserves is lost to the next one,
/// which must not come to stand still where a worker is restarted again and again.
const FIRST_STEP: i64 = 250;
const LAST_STEP: i64 = 4_000;

/// A reservation is wanted once less is left than its step divided by this: far less than the one
/// before it, which is half as long, has just given.
const LEAST: i64 = 8;

/// What lies so far ahead of the wall clock is left over from a clock that was wrong. Eko has accepted
/// no such timestamp yet, so it does not hold back those that follow.
const WRONG: i64 = 2 * MAX_AHEAD;

/// The timestamps of one process.
#[derive(Debug)]
pub(super) struct TimestampSequence {
    age: Duration,
    newest: AtomicI64,
    reserved: AtomicI64,
    /// How far the next reservation reaches.
    step: AtomicI64,
    /// Told when a reservation is wanted.
    wanting: Notify,
    /// Told when there is a reservation.
    granted: Notify,
    /// Held by the one that waits for time or a reservation; the others wait for their turn.
    turn: Mutex<()>,
}

impl TimestampSequence {
    /// Timestamps that lie so far in the past: `EKO_STAMP_AGE`.
    pub(super) fn new(age: Duration) -> Self {
        Self {
            age,
            newest: AtomicI64::new(0),
            reserved: AtomicI64::new(0),
            step: AtomicI64::new(FIRST_STEP),
            wanting: Notify::new(),
            granted: Notify::new(),
            turn: Mutex::new(()),
        }
    }

    /// How far they lie in the past.
    pub(super) const fn age(&self) -> Duration {
        self.age
    }

    /// Begins behind what an earlier process may have used; `ceiling` is its highest reservation.
    pub(super) fn start(&self, now: i64, ceiling: Option<i64>) {
        self.raise(self.base(now).saturating_add(FREE));
        if let Some(ceiling) = ceiling.filter(|ceiling| !is_wrong(*ceiling, now)) {
            self.raise(ceiling);
        }
    }

    /// Has every timestamp from now on be later than this one.
    fn raise(&self, newest: i64) {
        self.newest.fetch_max(newest, Ordering::Relaxed);
    }

    /// The latest timestamp that was used, or that none may follow before.
    pub(super) fn newest(&self) -> i64 {
        self.newest.load(Ordering::Relaxed)
    }

    /// The next timestamp; waits while the next one is neither free nor reserved.
    pub(super) async fn next(&self, now: impl Fn() -> i64) -> i64 {
        if let Ok(stamp) = self.draw(now()) {
            return stamp;
        }
        let _turn = self.turn.lock().await;
        loop {
            let granted = self.granted.notified();
            match self.draw(now()) {
                Ok(stamp) => return stamp,
                Err(wait) => drop(tokio::time::timeout(wait, granted).await),
            }
        }
    }

    /// The next timestamp, or how long it takes until time alone allows it.
    pub(super) fn draw(&self, now: i64) -> Result<i64, Duration> {
        let base = self.base(now);
        let reserved = self.reserved(now);
        let limit = reserved.min(base.saturating_add(MAX_AHEAD)).max(base.saturating_add(FREE));
        let following = |newest: i64| {
            if is_wrong(newest, now) { base } else { base.max(newest.saturating_add(1)) }
        };
        let next = |newest: i64| Some(following(newest)).filter(|next| *next <= limit);
        let drawn = self.newest.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        if self.wants(now).is_some() {
            self.wanting.notify_one();
        }
        drawn.map(following).map_err(|newest| {
            let next = following(newest);
            let ahead = if next <= reserved { MAX_AHEAD } else { FREE };
            let wait = next.saturating_sub(base.saturating_add(ahead));
            Duration::from_millis(u64::try_from(wait).unwrap_or_default().max(1))
        })
    }

    /// The reservation that is wanted, if one is: timestamps run ahead of the base, and little is
    /// left of what is free or reserved.
    pub(super) fn wants(&self, now: i64) -> Option<i64> {
        let (base, newest) = (self.base(now), self.newest());
        let is_ahead = newest > base.saturating_add(FREE / 2);
        let is_too_far = newest > base.saturating_add(MAX_AHEAD);
        let limit = self.reserved(now).max(base.saturating_add(FREE));
        let step = self.step.load(Ordering::Relaxed);
        let is_wanted = is_ahead && !is_too_far && newest.saturating_add(step / LEAST) > limit;
        is_wanted.then(|| newest.saturating_add(step))
    }

    /// Waits until a reservation is wanted, and tells up to where.
    pub(super) async fn wanted(&self, now: impl Fn() -> i64) -> i64 {
        loop {
            if let Some(until) = self.wants(now()) {
                return until;
            }
            self.wanting.notified().await;
        }
    }

    /// Notes that timestamps up to this one are reserved.
    pub(super) fn reserve(&self, until: i64) {
        let longer = |reserved| if is_wrong(reserved, until) { until } else { until.max(reserved) };
        let longer = |reserved| Some(longer(reserved));
        self.reserved.fetch_update(Ordering::Relaxed, Ordering::Relaxed, longer).ok();
        let longer = |step: i64| Some(step.saturating_mul(2).min(LAST_STEP));
        self.step.fetch_update(Ordering::Relaxed, Ordering::Relaxed, longer).ok();
        self.granted.notify_waiters();
    }

    fn base(&self, now: i64) -> i64 {
        now.saturating_sub(i64::try_from(self.age.as_millis()).unwrap_or(i64::MAX))
    }

    fn reserved(&self, now: i64) -> i64 {
        let reserved = self.reserved.load(Ordering::Relaxed);
        if is_wrong(reserved, now) { 0 } else { reserved }
    }
}

const fn is_wrong(stamp: i64, now: i64) -> bool {
    stamp > now.saturating_add(WRONG)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::Mutex;

    use super::*;

    const NOW: i64 = 1_700_000_000_000;

    fn timestamps() -> TimestampSequence {
        TimestampSequence::new(Duration::ZERO)
    }

    /// Draws until none is left; how many there were.
    fn drain(timestamps: &TimestampSequence, now: i64) -> usize {
        std::iter::from_fn(|| timestamps.draw(now).ok()).count()
    }

    #[test]
    fn no_two_stamps_are_equal_under_concurrency() {
        let timestamps = timestamps();
        timestamps.reserve(NOW + MAX_AHEAD);
        let seen = Mutex::new(HashSet::new());
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let mine: Vec<i64> =
                        (0..5_000).map(|_| timestamps.draw(NOW).unwrap()).collect();
                    assert!(mine.windows(2).all(|pair| pair[0] < pair[1]));
                    seen.lock().unwrap().extend(mine);
                });
            }
        });
        assert_eq!(seen.lock().unwrap().len(), 40_000);
    }

    #[test]
    fn a_stamp_never_goes_back_with_the_clock() {
        let timestamps = timestamps();
        assert_eq!(timestamps.draw(NOW), Ok(NOW));
        assert_eq!(timestamps.draw(NOW - 500), Ok(NOW + 1));
        assert_eq!(timestamps.draw(NOW + 1_000), Ok(NOW + 1_000));
    }

    #[test]
    fn an_aged_stamp_lies_in_the_past() {
        let timestamps = TimestampSequence::new(Duration::from_secs(80));
        assert_eq!(timestamps.draw(NOW), Ok(NOW - 80_000));
        assert_eq!(timestamps.draw(NOW), Ok(NOW - 79_999));
    }

    #[test]
    fn stamps_run_ahead_only_where_they_are_free_or_reserved() {
        let timestamps = timestamps();
        assert_eq!(drain(&timestamps, NOW), 1_001, "this millisecond's and a second of free ones");
        assert_eq!(timestamps.draw(NOW), Err(Duration::from_millis(1)));
        assert_eq!(timestamps.draw(NOW + 1), Ok(NOW + 1_001), "time allows it");
        timestamps.reserve(NOW + 3_000);
        assert_eq!(drain(&timestamps, NOW + 1), 1_999);
        assert_eq!(timestamps.newest(), NOW + 3_000);
        assert_eq!(timestamps.draw(NOW + 1), Err(Duration::from_millis(2_000)));
    }

    #[test]
    fn no_reservation_lets_stamps_run_a_minute_ahead() {
        let timestamps = timestamps();
        timestamps.reserve(NOW + 100_000);
        timestamps.raise(NOW + MAX_AHEAD - 1);
        assert_eq!(timestamps.draw(NOW), Ok(NOW + MAX_AHEAD));
        assert_eq!(timestamps.draw(NOW), Err(Duration::from_millis(1)));
        assert_eq!(timestamps.draw(NOW - 500), Err(Duration::from_millis(501)));
        assert_eq!(timestamps.draw(NOW + 1), Ok(NOW + MAX_AHEAD + 1));
    }

    #[test]
    fn a_restart_repeats_no_stamp() {
        let age = Duration::from_secs(10);
        for (burst, reservation) in [(1, None), (1_001, None), (30_000, Some(NOW + 25_000))] {
            let previous = TimestampSequence::new(age);
            reservation.into_iter().for_each(|until| previous.reserve(until));
            let used: HashSet<i64> = (0..burst).map(|_| previous.draw(NOW).unwrap()).collect();
            let new = TimestampSequence::new(age);
            new.start(NOW, reservation);
            new.reserve(NOW + MAX_AHEAD);
            assert!((0..5_000).all(|_| !used.contains(&new.draw(NOW).unwrap())), "{burst}");
        }
    }

    #[test]
    fn a_worker_that_is_restarted_again_and_again_does_not_come_to_stand_still() {
        let mut ceiling = None;
        for start in 0..1_000 {
            let now = NOW + 400 * start;
            let timestamps = timestamps();
            timestamps.start(now, ceiling);
            for call in 0..20 {
                let now = now + 10 * call;
                if let Some(until) = timestamps.wants(now) {
                    timestamps.reserve(until);
                    ceiling = ceiling.max(Some(until));
                }
                let stamp = timestamps.draw(now);
                assert!(stamp.is_ok_and(|stamp| stamp < now + 2_000), "{stamp:?} at {now}");
            }
        }
    }

    #[test]
    fn a_reservation_is_wanted_only_while_stamps_run_ahead() {
        let timestamps = timestamps();
        assert_eq!(timestamps.wants(NOW), None, "nothing was drawn yet");
        (0..500).for_each(|_| assert!(timestamps.draw(NOW).is_ok()));
        assert_eq!(timestamps.wants(NOW), None, "half a second ahead");
        (0..471).for_each(|_| assert!(timestamps.draw(NOW).is_ok()));
        assert_eq!(timestamps.wants(NOW), Some(NOW + 970 + FIRST_STEP));
        assert_eq!(timestamps.wants(NOW + 500), None, "time has caught up");
        let mut until = NOW + 970 + FIRST_STEP;
        for step in [500, 1_000, 2_000, 4_000, 4_000] {
            timestamps.reserve(until);
            timestamps.raise(until - step / LEAST);
            assert_eq!(timestamps.wants(NOW), None, "there is one");
            timestamps.raise(until - step / LEAST + 1);
            until += step - step / LEAST + 1;
            assert_eq!(timestamps.wants(NOW), Some(until));
        }
        timestamps.raise(NOW + MAX_AHEAD + 1);
        assert_eq!(timestamps.wants(NOW), None, "none would help");
    }

    #[test]
    fn a_clock_that_was_far_ahead_holds_nothing_back_once_it_is_right() {
        let timestamps = timestamps();
        let hour = 3_600_000;
        assert_eq!(timestamps.draw(NOW + hour), Ok(NOW + hour));
        assert_eq!(timestamps.draw(NOW), Ok(NOW));
        assert_eq!(timestamps.draw(NOW), Ok(NOW + 1));
        timestamps.reserve(NOW + hour);
        assert_eq!(drain(&timestamps, NOW), 999, "and allows nothing");
        timestamps.reserve(NOW + 2_000);
        assert_eq!(drain(&timestamps, NOW), 1_000);
        timestamps.start(NOW + 5_000, Some(NOW + hour));
        assert_eq!(timestamps.draw(NOW + 5_001), Ok(NOW + 6_001));
    }

    #[tokio::test]
    async fn who_waits_goes_on_with_a_reservation_or_with_time() {
        let timestamps = timestamps();
        assert_eq!(drain(&timestamps, NOW), 1_001);
        assert_eq!(timestamps.wanted(|| NOW).await, NOW + 1_000 + FIRST_STEP);
        let next = timestamps.next(|| NOW);
        tokio::pin!(next);
        assert!(futures_util::poll!(&mut next).is_pending());
        timestamps.reserve(NOW + 2_000);
        assert_eq!(next.await, NOW + 1_001);
        assert_eq!(drain(&timestamps, NOW), 999);
        let asked = AtomicI64::new(0);
        let clock = || NOW + 500 * asked.fetch_add(1, Ordering::Relaxed);
        assert_eq!(timestamps.next(clock).await, NOW + 2_001);
        assert_eq!(asked.into_inner(), 4, "0, 500 and 1,000 ms do not allow it, 1,500 ms do");
    }
}
