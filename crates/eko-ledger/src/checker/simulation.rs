//! One way through the model at a time, drawn by a seed: deeper than every way can be followed, with
//! more commands, workers and faults, and for as long as one likes (`scripts/simulate`).

use std::fmt;
use std::time::{Duration, Instant};

use fastrand::Rng;

use super::action::Action;
use super::eko::{Does, Reads};
use super::explorer::Found;
use super::mutation_tests::{MUTATION_TESTS, MutationTest};
use super::promise::Broken;
use super::scenario::{Faults, Mutation, Scenario};
use super::world::{MOST, World};
use eko_core::order::Placed;

/// So many steps are enough for any run.
const STEPS: usize = 5_000;

/// What a run came to.
struct Run {
    scenario: Scenario,
    /// How many steps it took.
    steps: usize,
    /// Whether everything was done in the end.
    is_done: bool,
    /// The broken promise, and the way to it.
    found: Option<Found>,
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

/// Goes one way through a scenario of the seed's own.
fn run(seed: u64) -> Run {
    let mut random = Rng::with_seed(seed);
    let scenario = draw(&mut random);
    walk(scenario, &mut random)
}

/// Goes one way through a scenario.
fn walk(scenario: Scenario, random: &mut Rng) -> Run {
    // How often something goes wrong, where it may, and how long what is slow takes.
    let odds = Odds { fault: 0.02 + 0.4 * random.f64() * random.f64(), slow: 0.2 * random.f64() };
    let mut world = World::new(&scenario);
    let mut trace = Vec::new();
    while trace.len() < STEPS {
        let choices = world.choices(&scenario);
        let Some(action) = choose(random, &choices, odds) else { break };
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

/// How often what is not usual happens.
#[derive(Clone, Copy)]
struct Odds {
    fault: f64,
    slow: f64,
}

/// One of what may happen: mostly what goes well.
fn choose(random: &mut Rng, choices: &[Action], odds: Odds) -> Option<Action> {
    let of = |sort: Sort| choices.iter().copied().filter(move |&it| sort_of(it) == sort);
    let draw = random.f64();
    let (faults, slow) = (of(Sort::Fault).count(), of(Sort::Slow).count());
    let usual = choices.len() - faults - slow;
    let sort = if faults > 0 && (draw < odds.fault || usual + slow == 0) {
        Sort::Fault
    } else if slow > 0 && (draw < odds.fault + odds.slow || usual == 0) {
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
        | Action::HoldBack { .. }
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

/// A scenario of the seed's own, in which every promise can be kept.
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
        pauses: upto(2),
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

#[expect(clippy::disallowed_methods, reason = "a simulation runs for so long")]
fn simulate(first: u64, lasting: Duration) {
    let began = Instant::now();
    let (mut steps, mut done, mut seed) = (0, 0_u64, first);
    loop {
        let run = run(seed);
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
    assert!(runs < 100 || done * 10 > runs * 8, "only {done} of {runs} ended");
}

#[test]
fn no_promise_is_broken_on_the_way_of_many_seeds() {
    simulate(1, Duration::from_secs(20));
}

#[test]
#[ignore = "scripts/simulate runs it for as long as one likes"]
fn no_promise_is_broken_for_as_long_as_one_likes() {
    #[expect(clippy::disallowed_methods, reason = "it is asked for by a script")]
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let seconds = number("SIMULATE_SECONDS").unwrap_or(60);
    simulate(number("SIMULATE_SEED").unwrap_or(1), Duration::from_secs(seconds));
}

/// The first seed that shows a mutation.
fn seed_that_shows(test: &MutationTest, most: u64) -> Option<(u64, Broken)> {
    (1..=most).find_map(|seed| {
        let mut random = Rng::with_seed(seed);
        let Scenario { mutations, faults, .. } = test.scenario;
        // In its own scenario more is drawn that shows it, in others there is more to draw.
        let scenario = match seed % 2 {
            0 => Scenario { mutations, ..draw(&mut random) },
            _ => {
                let faults = Faults { all: faults.all + random.u8(..3), ..faults };
                Scenario { is_fine: random.bool(), faults, ..test.scenario }
            }
        };
        let found = walk(scenario, &mut random).found?;
        Some((seed, found.broken))
    })
}

/// Those that show in one of many thousand seeds: the checker finds them, and
/// `scripts/simulate --planted`.
const RARE: [Mutation; 5] = [
    Mutation::OneReading,
    Mutation::NoQuiet,
    Mutation::WallClockMeasures,
    Mutation::StaleReadingCounts,
    Mutation::CallWithoutClaim,
];

/// Those that need so exact a way that chance has not found it in 100,000 seeds. The checker, which goes
/// every way, finds them.
const EXACT: [Mutation; 2] = [Mutation::SignWhenSent, Mutation::RegisterLags];

/// Looks for mutations, and tells which are not shown by so many seeds.
fn missed(is_rare: bool, most: u64) -> Vec<&'static [Mutation]> {
    let all_of = |test: &MutationTest, sort: &[Mutation]| {
        test.scenario.mutations.iter().all(|mutation| sort.contains(mutation))
    };
    let is_meant = |it: &&MutationTest| all_of(it, &RARE) == is_rare && !all_of(it, &EXACT);
    let is_missed = |test: &&MutationTest| {
        let found = seed_that_shows(test, most);
        println!("{:?}: {found:?}", test.scenario.mutations);
        found.is_none()
    };
    let missed = MUTATION_TESTS.iter().filter(is_meant).filter(is_missed);
    missed.map(|test| test.scenario.mutations).collect()
}

#[test]
fn planted_bugs_are_found() {
    assert_eq!(missed(false, 5_000), [&[] as &[Mutation]; 0]);
}

#[test]
#[ignore = "takes minutes: scripts/simulate --planted"]
fn planted_bugs_that_show_rarely_are_found() {
    assert_eq!(missed(true, 100_000), [&[] as &[Mutation]; 0]);
}
