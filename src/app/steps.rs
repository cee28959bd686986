//! Steps of the wall clock: seen at once by holding it against a clock that only goes forward.

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;

use crate::clock::Now;
use crate::worker::Worker;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(500);

/// What a clock is corrected by gradually, and what a look may come late, is less.
const STEP: Duration = Duration::from_secs(1);

/// Watches the wall clock as long as the process runs.
pub(super) async fn watch(worker: Arc<Worker>) {
    let mut last = worker.clock.now();
    loop {
        tokio::time::sleep(LOOK).await;
        let now = worker.clock.now();
        if let Some(step) = step(last, now) {
            worker.clock_stepped(step);
        }
        last = now;
    }
}

/// By how much the wall clock was set between two looks, if it was.
fn step(last: Now, now: Now) -> Option<SignedDuration> {
    let passed = SignedDuration::try_from(now.monotonic.saturating_sub(last.monotonic)).ok()?;
    let step = now.wall.duration_since(last.wall).checked_sub(passed)?;
    (step.unsigned_abs() > STEP).then_some(step)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn now(wall: i64, monotonic: u64) -> Now {
        let wall = Timestamp::from_millisecond(1_800_000_000_000 + wall).unwrap();
        Now { wall, process: 1, monotonic: Duration::from_millis(monotonic) }
    }

    #[test]
    fn a_step_is_what_the_wall_clock_moved_beyond_the_time_that_passed() {
        let seconds = |last, now| step(last, now).map(|step| step.as_millis());
        assert_eq!(seconds(now(0, 0), now(500, 500)), None);
        assert_eq!(seconds(now(0, 0), now(9_000, 9_000)), None, "the process stood still");
        assert_eq!(seconds(now(0, 0), now(1_500, 500)), None, "a correction");
        assert_eq!(seconds(now(0, 0), now(60_500, 500)), Some(60_000));
        assert_eq!(seconds(now(0, 0), now(-3_599_500, 500)), Some(-3_600_000));
        assert_eq!(seconds(now(0, 0), now(1_501, 500)), Some(1_001));
    }
}
