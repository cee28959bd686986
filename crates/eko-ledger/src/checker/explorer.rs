//! Breadth first through every state, each once.

use std::collections::HashSet;
use std::fmt;
use std::hash::{BuildHasher as _, BuildHasherDefault, Hasher};

use super::action::Action;
use super::promise::Broken;
use super::scenario::Scenario;
use super::world::World;

/// Enough for the tests, and as many as fit into a small machine's memory.
const MOST: usize = if cfg!(debug_assertions) { 2_000_000 } else { 20_000_000 };

/// What the model checker found.
#[derive(Default)]
pub(super) struct Report {
    /// How many states were seen.
    pub(super) states: usize,
    /// How many steps the deepest of them took.
    pub(super) depth: usize,
    /// How many states were at the end of time with something still to do.
    pub(super) cut: usize,
    /// In how many states everything was done.
    pub(super) ends: usize,
    /// There were more states: those of the depth and less are seen.
    pub(super) is_partial: bool,
    /// The shortest way to a broken promise.
    pub(super) found: Option<Found>,
}

/// A broken promise and how it came about.
pub(super) struct Found {
    pub(super) broken: Broken,
    pub(super) trace: Vec<Action>,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { broken, trace } = self;
        write!(f, "{broken:?} after {} steps:", trace.len())?;
        for (number, action) in trace.iter().enumerate() {
            write!(f, "\n  {:2}. {action:?}", number + 1)?;
        }
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { states, depth, cut, ends, is_partial, found } = self;
        write!(f, "{states} states, depth {depth}, {ends} ends, {cut} cut off")?;
        if *is_partial {
            f.write_str(", and more states behind them")?;
        }
        if let Some(found) = found {
            write!(f, "; {found}")?;
        }
        Ok(())
    }
}

/// Explores a scenario up to its first broken promise, or whole.
pub(super) fn explore(scenario: &Scenario) -> Report {
    // Two of a million states share one of 2^64 hashes once in 37 million runs.
    let hasher = BuildHasherDefault::<Mixer>::default();
    let first = World::new(scenario);
    let mut seen = HashSet::with_hasher(BuildHasherDefault::<Same>::default());
    seen.insert(hasher.hash_one(&first));
    let mut ways: Vec<(usize, Action)> = vec![(0, Action::Tick)];
    let mut report = Report::default();
    let mut frontier = vec![(0, first)];
    while !frontier.is_empty() && !report.is_partial {
        let mut next = Vec::new();
        for (way, world) in frontier {
            let mut has_followers = false;
            for action in world.choices(scenario) {
                has_followers = true;
                let mut follower = world.clone();
                follower.act(scenario, action);
                if let Err(broken) = follower.check(scenario) {
                    let mut trace = vec![action];
                    trace.extend(back(&ways, way));
                    trace.reverse();
                    report.states = seen.len();
                    report.found = Some(Found { broken, trace });
                    return report;
                }
                if seen.insert(hasher.hash_one(&follower)) {
                    ways.push((way, action));
                    next.push((ways.len() - 1, follower));
                }
            }
            if world.is_done(scenario) {
                report.ends += 1;
            } else if !has_followers {
                report.cut += 1;
            }
        }
        report.depth += usize::from(!next.is_empty());
        report.is_partial = seen.len() > MOST;
        frontier = next;
    }
    report.states = seen.len();
    report
}

/// The actions that led to a state, last one first.
fn back(ways: &[(usize, Action)], mut way: usize) -> impl Iterator<Item = Action> {
    std::iter::from_fn(move || {
        if way == 0 {
            return None;
        }
        let (before, action) = ways[way];
        way = before;
        Some(action)
    })
}

/// Hashes numbers in few steps, and mixes all bits of each: without optimization, in which the
/// tests run, the standard library's hasher takes most of the checker's time.
#[derive(Clone, Copy, Default)]
pub(super) struct Mixer(u64);

impl Hasher for Mixer {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
        self.write_u64(bytes.len() as u64);
    }

    fn write_u8(&mut self, number: u8) {
        self.write_u64(number.into());
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(number.into());
    }

    fn write_u64(&mut self, number: u64) {
        // The two halves of a product with odd constants of random bits, as `wyhash` has it.
        let factor = u128::from(number ^ 0xa076_1d64_78bd_642f);
        let product = factor * u128::from(self.0 ^ 0xe703_7ed1_a0b4_28db);
        self.0 = (product as u64) ^ ((product >> 64) as u64) ^ self.0.rotate_left(23);
    }

    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }

    fn write_i32(&mut self, number: i32) {
        self.write_u64(i64::from(number).cast_unsigned());
    }

    fn write_i64(&mut self, number: i64) {
        self.write_u64(number.cast_unsigned());
    }
}

/// What is a hash already.
#[derive(Clone, Copy, Default)]
struct Same(u64);

impl Hasher for Same {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("only hashes are kept");
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}
