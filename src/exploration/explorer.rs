//! Breadth first through every state, each once.

use std::collections::HashSet;
use std::fmt;
use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};

use super::scenario::Scenario;
use super::step::Action;
use super::world::{Broken, World};

/// What an exploration found.
pub(super) struct Report {
    /// How many states were seen.
    pub(super) states: usize,
    /// How many steps the deepest of them took.
    pub(super) depth: usize,
    /// How many states were at the end of time with something still to do.
    pub(super) cut: usize,
    /// In how many states everything was done.
    pub(super) ends: usize,
    /// The shortest way to a broken promise.
    pub(super) found: Option<Found>,
}

/// A broken promise and how it came about.
pub(super) struct Found {
    pub(super) broken: Broken,
    pub(super) trace: Vec<Action>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { states, depth, cut, ends, found } = self;
        write!(f, "{states} states, depth {depth}, {ends} ends, {cut} cut off")?;
        if let Some(Found { broken, trace }) = found {
            write!(f, "; {broken:?} after {} steps:", trace.len())?;
            for (number, action) in trace.iter().enumerate() {
                write!(f, "\n  {:2}. {action:?}", number + 1)?;
            }
        }
        Ok(())
    }
}

/// Explores a scenario up to its first broken promise, or whole.
pub(super) fn explore(scenario: &Scenario) -> Report {
    // Two of a million states share one of 2^64 hashes once in 37 million runs.
    let hasher = BuildHasherDefault::<DefaultHasher>::default();
    let first = World::new(scenario);
    let mut seen = HashSet::from([hasher.hash_one(&first)]);
    let mut ways: Vec<(usize, Action)> = vec![(0, Action::Tick)];
    let mut report = Report { states: 1, depth: 0, cut: 0, ends: 0, found: None };
    let mut frontier = vec![(0, first)];
    while !frontier.is_empty() {
        let mut next = Vec::new();
        for (way, world) in frontier {
            let mut has_followers = false;
            for (action, follower) in world.followers(scenario) {
                has_followers = true;
                if let Err(broken) = follower.check(scenario) {
                    let mut trace = vec![action];
                    trace.extend(back(&ways, way));
                    trace.reverse();
                    report.states = seen.len();
                    report.found = Some(Found { broken, trace });
                    return report;
                }
                assert!(seen.len() < 2_000_000, "too many states: lower the faults or the horizon");
                if seen.insert(hasher.hash_one(&follower)) {
                    ways.push((way, action));
                    next.push((ways.len() - 1, follower));
                }
            }
            if world.is_done() {
                report.ends += 1;
            } else if !has_followers {
                report.cut += 1;
            }
        }
        report.depth += usize::from(!next.is_empty());
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
