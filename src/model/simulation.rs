//! One way through the world at a time, drawn by a seed: deeper than every way can be followed, with
//! more commands, workers and faults, and for as long as one likes (`scripts/simulate`).

use std::fmt;

use fastrand::Rng;

use super::action::Action;
use super::eko::{Does, Reads};
use super::explorer::Found;
use super::promise::Broken;
use super::scenario::{Faults, Mutation, Scenario};
use super::world::{MOST, World};
use crate::order::Placed;

/// So many steps are enough for any run.
const STEPS: usize = 5_000;

/// What a run came to.
pub(super) struct Run {
    pub(super) scenario: Scenario,
    /// How many steps it took.
    pub(super) steps: usize,
    /// Whether everything was done in the end.
    pub(super) is_done: bool,
    /// The broken promise, and the way to it.
    pub(super) found: Option<Found>,
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.scenario)?;
        match &self.found {
            Some(found) => write!(f, "\n{found}"),
            None => write!(f, ": {} steps", self.steps),
        }
    }
}

/// Goes one way through a world of the seed's own.
pub(super) fn run(seed: u64, mutations: &'static [Mutation]) -> Run {
    let mut random = Rng::with_seed(seed);
    let scenario = Scenario { mutations, ..draw(&mut random) };
    // How often something goes wrong, where it may.
    let fault = 0.02 + 0.3 * random.f64() * random.f64();
    let mut world = World::new(&scenario);
    let mut trace = Vec::new();
    while trace.len() < STEPS {
        let choices = world.choices(&scenario);
        let Some(action) = choose(&mut random, &choices, fault) else { break };
        world.act(&scenario, action);
        trace.push(action);
        if let Err(broken) = world.check(&scenario) {
            let (steps, found) = (trace.len(), Some(Found { broken, trace }));
            return Run { scenario, steps, is_done: false, found };
        }
    }
    let is_done = world.is_done(&scenario);
    // Time enough is left for all to end, whatever goes wrong.
    let is_stuck = !is_done && world.now < scenario.horizon && trace.len() < STEPS;
    let steps = trace.len();
    let found = is_stuck.then_some(Found { broken: Broken::Unfinished, trace });
    Run { scenario, steps, is_done, found }
}

/// One of what may happen: mostly what goes well.
fn choose(random: &mut Rng, choices: &[Action], fault: f64) -> Option<Action> {
    let of = |sort: Sort| choices.iter().copied().filter(move |&it| sort_of(it) == sort);
    let draw = random.f64();
    let (faults, slow) = (of(Sort::Fault).count(), of(Sort::Slow).count());
    let usual = choices.len() - faults - slow;
    let sort = if faults > 0 && (draw < fault || usual + slow == 0) {
        Sort::Fault
    } else if slow > 0 && (draw < fault + 0.1 || usual == 0) {
        Sort::Slow
    } else {
        Sort::Usual
    };
    let count = of(sort).count();
    (count > 0).then(|| of(sort).nth(random.usize(..count))).flatten()
}

/// How often an action is taken.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sort {
    Usual,
    /// It comes some time.
    Slow,
    /// Something goes wrong.
    Fault,
}

fn sort_of(action: Action) -> Sort {
    match action {
        Action::Wake { .. } | Action::Release { .. } | Action::ExecuteLate { .. } => Sort::Slow,
        Action::Call { eko: Does::Execute | Does::Refuse | Does::OutOfTime, .. }
        | Action::Inquire { reads: Reads::Truth, .. }
        | Action::Park { placed: Placed::Yes, .. }
        | Action::Tick
        | Action::Deliver { .. }
        | Action::Sweep { .. }
        | Action::Step { .. }
        | Action::Answer { .. }
        | Action::AckTooSoon { .. } => Sort::Usual,
        Action::Publish { refused, .. } if refused.is_nothing() => Sort::Usual,
        Action::Call { .. }
        | Action::Inquire { .. }
        | Action::Park { .. }
        | Action::Publish { .. }
        | Action::Crash { .. }
        | Action::Hold { .. }
        | Action::Stall { .. }
        | Action::Cut { .. }
        | Action::Bounce { .. }
        | Action::Purge { .. }
        | Action::SetClock { .. }
        | Action::Forget { .. }
        | Action::LoseLedger => Sort::Fault,
    }
}

/// A world of the seed's own, in which every promise can be kept.
fn draw(random: &mut Rng) -> Scenario {
    let mut upto = |most: u8| random.u8(0..=most);
    let commands = 1 + upto(u8::try_from(MOST).unwrap() - 1);
    let (slots, tids) = (1 + upto(3), 1 + upto(commands - 1).min(upto(2)));
    let is_dated = upto(4) > 0;
    let steps: &[i32] = match (is_dated, upto(2)) {
        (_, 0) => &[],
        (true, _) => &[2, -2],
        (false, _) => &[9, -9],
    };
    // Where Eko does not tell its time, no more than one reading that is stale can be told.
    let stales = if is_dated { upto(2) } else { u8::from(steps.is_empty() && upto(1) == 0) };
    let lates = if is_dated || stales == 0 { upto(2) } else { 0 };
    let faults = Faults {
        crashes: upto(3),
        cuts: upto(2),
        stalls: upto(2),
        silences: upto(3),
        gateways: upto(2),
        resends: upto(2),
        lates,
        stales,
        blanks: upto(3),
        refusals: upto(2),
        nacks: upto(3),
        delays: upto(3),
        steps: upto(2),
        purges: upto(1),
        sweeps: upto(1),
        regressions: upto(1),
        losses: upto(1) * upto(1),
        all: 1 + upto(9),
    };
    Scenario {
        name: "simulated",
        commands,
        tids,
        copies: 1 + upto(1) * upto(2),
        slots,
        one_process: upto(1) == 0,
        own_ledgers: upto(9) == 0,
        ahead: if is_dated && upto(3) == 0 { 2 } else { 0 },
        steps,
        is_dated,
        is_adopted: true,
        faults,
        expiry: (upto(4) == 0).then(|| 3 + u32::from(upto(5))),
        preflight: upto(4) == 0,
        is_fine: true,
        horizon: 200,
        mutations: &[],
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[expect(clippy::disallowed_methods, reason = "a simulation runs for so long")]
    fn simulate(first: u64, lasting: Duration) {
        let began = Instant::now();
        let (mut steps, mut done, mut seed) = (0, 0_u64, first);
        loop {
            let run = run(seed, &[]);
            assert!(run.found.is_none(), "seed {seed}: {run}");
            steps += run.steps;
            done += u64::from(run.is_done);
            seed += 1;
            if began.elapsed() >= lasting {
                break;
            }
        }
        let runs = seed - first;
        println!("seeds {first} to {}: {steps} steps, {done} of {runs} ended", seed - 1);
        assert!(runs < 100 || done * 10 > runs * 9, "only {done} of {runs} ended");
    }

    #[test]
    #[ignore = "scripts/simulate runs it"]
    fn runs_as_long_as_one_likes() {
        let number = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
        let seconds = number("SIMULATE_SECONDS").unwrap_or(60);
        simulate(number("SIMULATE_SEED").unwrap_or(1), Duration::from_secs(seconds));
    }

    #[test]
    #[ignore = "x"]
    fn find_all() {
        use Mutation::*;
        for mutation in [
            [InterruptedAsFresh],
            [OneReading],
            [NoQuiet],
            [NoTolerance],
            [WallClockMeasures],
            [SignWhenSent],
            [ResentAsRefused],
            [GatewayAsRefused],
            [StaleReadingCounts],
            [TtlCountsTwice],
            [AckBeforeConfirm],
            [NoTidLock],
            [ResendUnclear],
            [DropBeforeConfirm],
            [FailOnTimeout],
            [CallWithoutClaim],
            [TellWithoutClaim],
            [TrustRedelivered],
            [NewEventEachTime],
            [ForgetRefunded],
            [NoOrphans],
            [FailOrphans],
            [NoCautionAfterFailover],
            [TrustRewound],
            [RegisterLags],
            [AdoptWithoutCaution],
            [NoPairing],
        ] {
            let mutation: &'static [Mutation] = Box::leak(Box::new(mutation));
            let found = (1..200_000).find(|&seed| run(seed, mutation).found.is_some());
            println!(
                "{mutation:?}: {found:?} {:?}",
                found.and_then(|seed| run(seed, mutation).found.map(|it| it.broken))
            );
        }
    }
}
