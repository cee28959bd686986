//! Whether an answer is as new as its question. A gateway on the way may keep answers and give an
//! old one to a new question, also where it was asked not to.

use std::time::Duration;

use jiff::Timestamp;

/// How much older than its question an answer may look: clocks of several servers differ, and a
/// `Date` has whole seconds.
const TOLERANCE_MS: i64 = 10_000;

/// `Age` has whole seconds.
const ROUNDING: Duration = Duration::from_secs(1);

/// What is known of Eko's clock is forgotten after one to two of these, so that a clock that is set
/// back does not make every answer look old for ever.
const REMEMBERED: Duration = Duration::from_secs(60);

/// How long a `Date` of Eko's shows that Eko's answers have one.
const DATED: Duration = Duration::from_secs(600);

/// What tells when an answer was written. `asked` is monotonic time of this process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrival {
    /// When the call began.
    pub(super) asked: Duration,
    /// How long it took.
    pub(super) took: Duration,
    /// `Age`: how long something on the way kept the answer.
    pub(super) age: Duration,
    /// Eko's clock as the answer tells it, where Eko wrote it.
    pub(super) eko_time: Option<Timestamp>,
}

/// What answers have told of Eko's clock, in milliseconds that it is ahead of the monotonic clock, at
/// least.
#[derive(Debug, Default)]
pub(super) struct EkoClock {
    began: Duration,
    current: Option<i64>,
    previous: Option<i64>,
    /// When the last answer with a `Date` of Eko's came.
    dated: Option<Duration>,
}

impl EkoClock {
    /// Notes an answer, and tells whether it is older than its question.
    pub(super) fn is_older_than_its_question(&mut self, answer: &Arrival) -> bool {
        let arrived = answer.asked.saturating_add(answer.took);
        self.forget(arrived);
        let Some(eko_time) = answer.eko_time.map(Timestamp::as_millisecond) else {
            return answer.age > answer.took.saturating_add(ROUNDING);
        };
        self.dated = self.dated.max(Some(arrived));
        let at_least = eko_time.saturating_sub(millis(arrived));
        self.current = self.current.max(Some(at_least));
        let ahead = self.current.max(self.previous).unwrap_or(at_least);
        let asked = ahead.saturating_add(millis(answer.asked));
        answer.age > answer.took.saturating_add(ROUNDING)
            || eko_time.saturating_add(TOLERANCE_MS) < asked
    }

    /// Whether an answer lacks the `Date` that others of Eko's had within the last ten minutes: then
    /// nothing shows when it was written.
    pub(super) fn misses_a_date_in(&self, answer: &Arrival) -> bool {
        let arrived = answer.asked.saturating_add(answer.took);
        let is_recent = |dated| arrived.saturating_sub(dated) <= DATED;
        answer.eko_time.is_none() && self.dated.is_some_and(is_recent)
    }

    fn forget(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.began);
        if passed >= REMEMBERED {
            let is_recent = passed < REMEMBERED.saturating_mul(2);
            self.previous = self.current.take().filter(|_| is_recent);
            self.began = now;
        }
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An answer to a question that was asked at this second and took a second, with Eko's clock at
    /// that second.
    fn answer(asked: u64, eko: i64) -> Arrival {
        Arrival {
            asked: Duration::from_secs(asked),
            took: Duration::from_secs(1),
            age: Duration::ZERO,
            eko_time: Timestamp::from_second(1_795_000_000 + eko).ok(),
        }
    }

    fn is_old(clock: &mut EkoClock, asked: u64, eko: i64) -> bool {
        clock.is_older_than_its_question(&answer(asked, eko))
    }

    #[test]
    fn an_answer_that_was_kept_longer_than_the_call_took_is_old() {
        let aged = |seconds, eko_time| Arrival {
            age: Duration::from_secs(seconds),
            eko_time,
            ..answer(0, 0)
        };
        for eko_time in [None, answer(0, 0).eko_time] {
            let is_old =
                |seconds| EkoClock::default().is_older_than_its_question(&aged(seconds, eko_time));
            assert!(!is_old(0) && !is_old(2), "it may have been asked for before it was kept");
            assert!(is_old(3) && is_old(u64::MAX));
        }
    }

    #[test]
    fn an_answer_of_an_earlier_time_of_eko_s_is_old() {
        let mut clock = EkoClock::default();
        assert!(!is_old(&mut clock, 100, 5_000));
        assert!(!is_old(&mut clock, 105, 5_005));
        assert!(!is_old(&mut clock, 110, 5_000), "within the tolerance");
        assert!(is_old(&mut clock, 112, 5_000));
        assert!(is_old(&mut clock, 145, 5_000), "the same answer for 45 s");
        assert!(!is_old(&mut clock, 146, 5_046));
    }

    #[test]
    fn an_answer_that_is_asked_for_again_and_again_gets_old() {
        let mut clock = EkoClock::default();
        let old = (0..100).filter(|asked| is_old(&mut clock, *asked, 5_000)).count();
        assert_eq!(old, 88, "all but those within the tolerance");
    }

    #[test]
    fn a_question_that_overlaps_with_a_later_one_is_answered_in_time() {
        let mut clock = EkoClock::default();
        assert!(!is_old(&mut clock, 150, 5_050));
        let slow = Arrival { took: Duration::from_secs(60), ..answer(100, 5_000) };
        assert!(!clock.is_older_than_its_question(&slow));
    }

    #[test]
    fn a_clock_of_eko_s_that_is_set_back_is_believed_again_within_two_minutes() {
        let mut clock = EkoClock::default();
        for asked in 0..100 {
            assert!(!is_old(&mut clock, asked, 5_000 + i64::try_from(asked).unwrap()));
        }
        let old: Vec<u64> = (100..400)
            .filter(|asked| is_old(&mut clock, *asked, 1_000 + i64::try_from(*asked).unwrap()))
            .collect();
        assert_eq!(old.first(), Some(&100));
        assert!((150..=220).contains(old.last().unwrap()), "{:?}", old.last());
        assert_eq!(old.len() as u64, old.last().unwrap() - 99, "and then for good");
    }

    #[test]
    fn a_long_silence_forgets_what_was_known() {
        let mut clock = EkoClock::default();
        assert!(!is_old(&mut clock, 0, 5_000));
        assert!(!is_old(&mut clock, 121, 1_000));
    }

    #[test]
    fn an_answer_without_a_date_is_missing_one_for_ten_minutes_after_another_had_one() {
        let mut clock = EkoClock::default();
        let misses = |clock: &mut EkoClock, asked| {
            let undated = Arrival { eko_time: None, ..answer(asked, 0) };
            assert!(!clock.is_older_than_its_question(&undated));
            clock.misses_a_date_in(&undated)
        };
        assert!(!misses(&mut clock, 0), "no answer had one");
        assert!(!is_old(&mut clock, 100, 5_000));
        assert!(!clock.misses_a_date_in(&answer(100, 5_000)), "it has one");
        assert!(misses(&mut clock, 50), "it was asked for before");
        assert!(misses(&mut clock, 101) && misses(&mut clock, 700), "answers without do not count");
        assert!(!misses(&mut clock, 701));
        assert!(!is_old(&mut clock, 800, 5_700));
        assert!(misses(&mut clock, 1_400));
    }

    #[test]
    fn a_clock_that_is_far_ahead_of_ours_is_no_matter() {
        let mut clock = EkoClock::default();
        assert!(!is_old(&mut clock, 0, 90_000));
        assert!(!is_old(&mut clock, 1, 90_001));
    }
}
