use proptest::prelude::*;

use super::*;

/// An Eko that always has as many calls in flight as the limit allows.
struct Flow {
    limit: Limit,
    now: Instant,
}

impl Flow {
    #[expect(clippy::disallowed_methods, reason = "any instant will do to count from")]
    fn new(most: u32) -> Self {
        Self { limit: Limit::new(most), now: Instant::now() }
    }

    /// One round: as many calls as are allowed begin together and end together.
    fn round(&mut self, took: Duration, calls: impl Fn(u32) -> Sample) {
        let (allowed, generation) = (self.limit.get(), self.limit.generation());
        self.now += took;
        for call in 0..allowed {
            self.limit.learn(calls(call), generation, allowed, self.now);
        }
    }

    fn answered(&mut self, milliseconds: u64) {
        let took = Duration::from_millis(milliseconds);
        self.round(took, |_| fine(took));
    }

    fn failed(&mut self) {
        self.round(Duration::from_millis(5), |_| FAILED);
    }
}

const FAILED: Sample = Sample { took: None, has_failed: true };

fn fine(took: Duration) -> Sample {
    Sample { took: Some(took), has_failed: false }
}

#[test]
fn a_steady_eko_is_never_throttled_however_fast() {
    for milliseconds in [0, 1, 50, 2_000] {
        let mut flow = Flow::new(200);
        for _ in 0..100 {
            flow.answered(milliseconds);
        }
        assert_eq!((flow.limit.get(), flow.limit.generation()), (200, 0), "{milliseconds} ms");
    }
}

#[test]
fn ten_times_slower_is_answered_within_seconds_and_forgotten_when_it_is_over() {
    let mut flow = Flow::new(64);
    for _ in 0..20 {
        flow.answered(50);
    }
    let slow = flow.now;
    while flow.limit.get() > 10 {
        flow.answered(500);
        assert!(flow.now - slow < Duration::from_secs(5), "{}", flow.limit.get());
    }
    for _ in 0..20 {
        flow.answered(500);
    }
    // A tenth: fewer would do less than Eko does.
    assert!((6..=10).contains(&flow.limit.get()), "{}", flow.limit.get());
    let fast = flow.now;
    while flow.limit.get() < 64 {
        flow.answered(50);
        assert!(flow.now - fast < Duration::from_secs(15), "{}", flow.limit.get());
    }
}

#[test]
fn what_stays_slow_becomes_usual() {
    let mut flow = Flow::new(64);
    for _ in 0..20 {
        flow.answered(50);
    }
    let slow = flow.now;
    while flow.now - slow < Duration::from_secs(1_800) {
        flow.answered(500);
    }
    assert_eq!(flow.limit.get(), 64);
}

#[test]
fn an_eko_that_only_fails_is_left_with_one_call_and_gets_all_back_by_and_by() {
    let mut flow = Flow::new(64);
    flow.answered(50);
    for _ in 0..7 {
        flow.failed();
    }
    assert!(flow.limit.get() <= 2, "{}", flow.limit.get());
    for _ in 0..20 {
        flow.failed();
    }
    assert_eq!(flow.limit.get(), 1);
    let mut rounds = 0;
    while flow.limit.get() < 64 {
        flow.answered(50);
        rounds += 1;
    }
    assert!((60..=200).contains(&rounds), "{rounds}");
}

#[test]
fn one_cut_answers_all_calls_that_were_in_flight() {
    let mut flow = Flow::new(64);
    flow.failed();
    assert_eq!((flow.limit.get(), flow.limit.generation()), (32, 1));
}

#[test]
fn one_call_in_ten_that_fails_is_eko_s_own_noise() {
    let mut flow = Flow::new(64);
    for _ in 0..100 {
        flow.round(Duration::from_millis(50), |call| match call % 10 {
            9 => FAILED,
            _ => fine(Duration::from_millis(50)),
        });
    }
    assert_eq!(flow.limit.get(), 64);
}

#[test]
fn a_limit_that_is_not_used_does_not_grow() {
    let mut flow = Flow::new(64);
    flow.failed();
    let (now, generation) = (flow.now, flow.limit.generation());
    for _ in 0..1_000 {
        flow.limit.learn(fine(Duration::from_millis(5)), generation, 1, now);
    }
    assert_eq!(flow.limit.get(), 32);
}

proptest! {
    #[test]
    fn noise_between_1_and_10_ms_never_cuts(latencies in prop::collection::vec(1u64..=10, 2_000)) {
        let mut flow = Flow::new(200);
        for latency in latencies {
            flow.now += Duration::from_micros(100);
            flow.limit.learn(fine(Duration::from_millis(latency)), 0, 200, flow.now);
        }
        prop_assert_eq!((flow.limit.get(), flow.limit.generation()), (200, 0));
    }

    #[test]
    fn it_stays_between_1_and_the_most(
        most in 1u32..=300,
        calls in prop::collection::vec((0u64..40_000, 0u8..4, 0u32..300), 0..2_000),
    ) {
        let mut flow = Flow::new(most);
        for (latency, fate, in_flight) in calls {
            let took = Duration::from_millis(latency);
            flow.now += Duration::from_millis(7);
            let sample = if fate == 0 { FAILED } else { fine(took) };
            let generation = flow.limit.generation();
            flow.limit.learn(sample, generation, in_flight, flow.now);
            prop_assert!((1..=most).contains(&flow.limit.get()));
        }
    }
}

/// A stream of calls of which each `nth` is fast and the others are slow, as in the real flow: they
/// begin when they come and may, and end when they are done.
struct Mixed {
    rate: f64,
    nth: u64,
    fast: Duration,
    slow: Duration,
}

impl Mixed {
    /// Runs for so long; gives the limit's mean over the time, its least, and how many calls still wait.
    fn run(&self, length: Duration) -> (f64, u32, u64) {
        let mut flow = Flow::new(64);
        let step = Duration::from_millis(25);
        let (mut waiting, mut come, mut begun) = (0u64, 0u64, 0u64);
        let mut in_flight: Vec<(Instant, Duration, u32)> = Vec::new();
        let (mut sum, mut least, steps) = (0.0, u32::MAX, length.as_millis() / step.as_millis());
        let begin = flow.now;
        for _ in 0..steps {
            flow.now += step;
            let due = ((flow.now - begin).as_secs_f64() * self.rate).floor();
            while (come as f64) < due {
                (come, waiting) = (come + 1, waiting + 1);
            }
            let (done, still): (Vec<_>, Vec<_>) =
                in_flight.into_iter().partition(|(ends, ..)| *ends <= flow.now);
            in_flight = still;
            let mut busy = u32::try_from(in_flight.len() + done.len()).unwrap();
            for (_, took, generation) in done {
                flow.limit.learn(fine(took), generation, busy, flow.now);
                busy -= 1;
            }
            while waiting > 0 && in_flight.len() < flow.limit.get() as usize {
                // Drawn by a fixed rule that has no period in common with a window.
                let is_fast =
                    begun.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32 < (1 << 32) / self.nth;
                let took = if is_fast { self.fast } else { self.slow };
                in_flight.push((flow.now + took, took, flow.limit.generation()));
                (begun, waiting) = (begun + 1, waiting - 1);
            }
            sum += f64::from(flow.limit.get());
            least = least.min(flow.limit.get());
        }
        (sum / steps as f64, least, waiting)
    }
}

#[test]
fn two_groups_of_latency_are_no_overload() {
    let mixed =
        Mixed { rate: 22.0, nth: 2, fast: Duration::from_millis(50), slow: Duration::from_secs(5) };
    let (_, least, waiting) = mixed.run(Duration::from_secs(420));
    assert_eq!(least, 64);
    assert!(waiting < 50, "{waiting} wait");
}

#[test]
fn a_few_fast_calls_among_slow_ones_do_not_keep_the_limit_down() {
    for (nth, rate, slow) in [(3, 15.0, 5.0), (10, 10.0, 5.0), (50, 9.0, 5.0), (50, 45.0, 1.0)] {
        let slow_time = Duration::from_secs_f64(slow);
        let mixed = Mixed { rate, nth, fast: Duration::from_millis(50), slow: slow_time };
        let (mean, _, waiting) = mixed.run(Duration::from_secs(1_200));
        assert!(mean > 56.0, "one in {nth}: {mean} on average");
        assert!(waiting < 100, "one in {nth}: {waiting} wait");
    }
}

#[test]
fn fewer_slow_calls_that_stay_slow_become_as_many_as_before_in_about_a_minute() {
    let mut flow = Flow::new(64);
    for _ in 0..20 {
        flow.answered(50);
    }
    let slow = flow.now;
    while flow.limit.get() == 64 {
        flow.answered(2_000);
    }
    while flow.limit.get() < 64 {
        flow.answered(2_000);
        assert!(flow.now - slow < Duration::from_secs(120), "{}", flow.limit.get());
    }
    while flow.now - slow < Duration::from_secs(600) {
        flow.answered(2_000);
        assert_eq!(flow.limit.get(), 64);
    }
}
