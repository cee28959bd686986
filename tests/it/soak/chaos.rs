//! What goes down, and when: drawn from the seed.

use std::time::Duration;

use super::Numbers;

/// One blow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A worker is killed and started again.
    Worker,
    /// The broker is killed and, after this many milliseconds, started again.
    Broker(u64),
    /// Eko answers nothing of use, in one of three ways, for this many milliseconds.
    Eko(&'static str, u64),
}

/// The blows that are still to come.
pub(super) struct Chaos {
    rng: fastrand::Rng,
    steps: Vec<Step>,
}

impl Chaos {
    /// As many as the numbers say, in an order of the seed.
    pub(super) fn new(numbers: &Numbers) -> Self {
        let mut rng = fastrand::Rng::with_seed(numbers.seed);
        let mut steps = vec![Step::Worker; numbers.kills];
        steps.extend((0..numbers.broker_kills).map(|_| Step::Broker(rng.u64(..1_000))));
        for _ in 0..numbers.outages {
            let way = ["http_503", "silence", "reset"][rng.usize(..3)];
            steps.push(Step::Eko(way, rng.u64(2_000..5_000)));
        }
        rng.shuffle(&mut steps);
        Self { rng, steps }
    }

    /// How many are still to come.
    pub(super) fn len(&self) -> usize {
        self.steps.len()
    }

    /// The next one.
    pub(super) fn next(&mut self) -> Option<Step> {
        self.steps.pop()
    }

    /// How many of a batch's commands may end before the blow: none, or most of them.
    pub(super) fn share_of(&mut self, batch: usize) -> usize {
        self.rng.usize(..=batch * 9 / 10)
    }

    /// How long to wait for that; so short that blows also fall on what waits or is settled.
    pub(super) fn patience(&mut self) -> Duration {
        Duration::from_millis(self.rng.u64(500..3_000))
    }
}
