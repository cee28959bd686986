//! How a kind is consumed after its consumer was lost.

use std::time::Duration;

/// A consumer that is lost sooner may be lost over a message that comes again at once.
const SOON: Duration = Duration::from_secs(5);

/// After so many consumers in a row that were lost soon, one delivery is taken at a time, so that
/// only the one that they are lost over is counted, until the broker gives it up.
const TWICE: u32 = 2;

/// After so many it is no message: each is given up before.
const MANY: u32 = 256;

/// A careful consumer that lasts so long has nothing to be careful of.
pub(super) const CALM: Duration = Duration::from_secs(10);

/// How carefully a kind is consumed: a message over which its consumer is lost comes back, and each
/// time all that was in hand with it is delivered once more.
#[derive(Debug, Default)]
pub(super) struct Care {
    /// How many consumers in a row were lost soon.
    pub(super) lost: u32,
    /// How many deliveries came since it was careful.
    pub(super) taken: u32,
}

impl Care {
    /// Whether one delivery is to be taken at a time.
    pub(super) const fn is_needed(&self) -> bool {
        self.lost >= TWICE
    }

    /// A consumer was lost after that long.
    pub(super) fn lost_after(&mut self, lasted: Duration) {
        let is_soon = lasted < SOON || self.is_needed();
        self.lost = if is_soon { self.lost.saturating_add(1) } else { 0 };
        self.taken = 0;
    }

    /// A while before the next consumer, so that one that never lasts does not keep the broker busy.
    pub(super) fn wait(&self) -> Duration {
        match self.lost {
            0..TWICE => Duration::ZERO,
            TWICE..=MANY => Duration::from_millis(10),
            _ => Duration::from_secs(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_that_are_lost_soon_ask_for_care_until_one_lasts() {
        let mut care = Care::default();
        for _ in 0..3 {
            care.lost_after(SOON);
            assert!(!care.is_needed(), "each of them lasted");
        }
        care.lost_after(Duration::ZERO);
        assert!(!care.is_needed());
        care.lost_after(Duration::ZERO);
        assert!(care.is_needed());
        care.lost_after(SOON);
        assert!(care.is_needed(), "only what ends the care does");
        assert!(care.wait() < Duration::from_millis(50));
        (0..MANY).for_each(|_| care.lost_after(Duration::ZERO));
        assert!(care.wait() >= Duration::from_secs(1));
    }
}
