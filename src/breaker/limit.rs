//! How many calls may be in flight: as many as Eko bears. More by one while calls go well,
//! fewer by half when they fail, and fewer too, for a while, when all of them take much longer than
//! usual.
//!
//! Pure: latencies and times are arguments. Calls are judged in windows of about as many as are
//! in flight, by the fastest of them and by how many failed. An overload makes every call slow; where
//! some are as fast as ever, it is none, however slow the others are. And fewer calls at a time are
//! there to make them fast again: if they have not become so in a minute, that was not the cause.
//! Calls that began before a cut say nothing about the limit after it.

use std::time::{Duration, Instant};

/// Calls are slow where the fastest of a window took so many times the usual…
const SLOW_FACTOR: f64 = 3.0;
/// …and by so many seconds longer: below that, it is the noise of a busy machine.
const SLOW_SECONDS: f64 = 0.1;

/// What is left of the limit when calls fail, and when they are slow.
const AFTER_FAILURES: f64 = 0.5;
const AFTER_SLOWNESS: f64 = 0.7;

/// How long fewer calls may be in flight because they are slow…
const TRIED: Duration = Duration::from_secs(60);
/// …and how long after that slow calls change nothing.
const NOT_TRIED: Duration = Duration::from_secs(600);

/// What is added to the limit after a window that went well, at least one.
const GROWTH: f64 = 0.05;

/// How soon what is usual follows calls that get slower: more slowly than an overload of our
/// own making would last, so that it is not taken for usual.
const SLOWER: Duration = Duration::from_secs(300);
/// And calls that get faster: the first ones also had to connect.
const FASTER: Duration = Duration::from_secs(10);

/// How many calls a window has: as many as are in flight, within these. In a shorter one there may
/// be no fast call though there are some.
const SHORTEST: u32 = 20;
const LONGEST: u32 = 50;

/// A window is over at once where half of so many calls or more have failed.
const CLEAR: u32 = 5;

/// What one call told about how busy Eko is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    /// How long it took, where it was answered and can be compared with others.
    pub(crate) took: Option<Duration>,
    /// Whether it failed as calls do that are too many: 429, 5xx, no answer.
    pub(crate) has_failed: bool,
}

/// The limit of one kind.
#[derive(Debug)]
pub(super) struct Limit {
    most: f64,
    limit: f64,
    /// The usual latency of the fastest calls in seconds, and when it was last adapted.
    usual: Option<(f64, Instant)>,
    slowness: Slowness,
    window: Window,
    generation: u32,
}

/// What is done about slow calls.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Slowness {
    /// Nothing: they are as fast as usual.
    None,
    /// Fewer calls are in flight since then; so many were before.
    Since(Instant, f64),
    /// Fewer calls at a time did not help: nothing until then.
    NotUntil(Instant),
}

#[derive(Debug, Default)]
struct Window {
    calls: u32,
    failed: u32,
    /// The most calls that were in flight at once.
    peak: u32,
    fastest: Option<f64>,
}

impl Limit {
    /// Begins with all that is allowed: nothing speaks against it yet.
    pub(super) fn new(most: u32) -> Self {
        let most = f64::from(most.max(1));
        let (slowness, window) = (Slowness::None, Window::default());
        Self { most, limit: most, usual: None, slowness, window, generation: 0 }
    }

    /// How many calls may be in flight, from 1.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is between 1 and what came as u32"
    )]
    pub(super) fn get(&self) -> u32 {
        self.limit as u32
    }

    /// How often it was cut, as a generation: what a call that begins now must tell with its sample.
    pub(super) const fn generation(&self) -> u32 {
        self.generation
    }

    /// Learns from a call that began in a generation of the limit and ended among `in_flight` others.
    pub(super) fn learn(&mut self, sample: Sample, generation: u32, in_flight: u32, now: Instant) {
        if generation != self.generation {
            return;
        }
        let window = &mut self.window;
        window.calls += 1;
        window.failed += u32::from(sample.has_failed);
        window.peak = window.peak.max(in_flight);
        if let Some(took) = sample.took.filter(|_| !sample.has_failed) {
            let took = took.as_secs_f64();
            window.fastest = Some(window.fastest.map_or(took, |fastest| fastest.min(took)));
        }
        let (calls, failed) = (window.calls, window.failed);
        let is_over = calls >= self.get().clamp(SHORTEST, LONGEST);
        if (calls >= CLEAR && failed * 2 >= calls) || (is_over && failed * 4 >= calls) {
            // What it was before calls were slow is too much for one that fails.
            if matches!(self.slowness, Slowness::Since(..)) {
                self.slowness = Slowness::None;
            }
            self.cut_to(self.limit * AFTER_FAILURES);
        } else if is_over {
            self.judge(now);
        }
    }

    /// Judges a window in which few calls failed.
    fn judge(&mut self, now: Instant) {
        let window = std::mem::take(&mut self.window);
        let Some(fastest) = window.fastest else {
            return;
        };
        let (usual, _) = self.usual.unwrap_or((fastest, now));
        let is_slow = fastest > usual * SLOW_FACTOR && fastest > usual + SLOW_SECONDS;
        if is_slow && self.may_help(now) {
            // By Little's law: with calls that are slow for a reason other than their number,
            // fewer than that would do less than Eko does.
            let least = self.most * usual / fastest;
            self.cut_to((self.limit * AFTER_SLOWNESS).max(least));
        } else if f64::from(window.peak) * 2.0 >= self.limit {
            self.limit = (self.limit + (self.limit * GROWTH).max(1.0)).min(self.most);
        }
        if !is_slow && self.limit >= self.most && matches!(self.slowness, Slowness::Since(..)) {
            self.slowness = Slowness::None;
        }
        self.adapt(fastest, now);
    }

    /// Whether fewer slow calls at a time may make them fast. Where they did not in a while, as many
    /// as before are allowed again.
    fn may_help(&mut self, now: Instant) -> bool {
        match self.slowness {
            Slowness::NotUntil(until) if now < until => false,
            Slowness::None | Slowness::NotUntil(_) => {
                self.slowness = Slowness::Since(now, self.limit);
                true
            }
            Slowness::Since(since, _) if now.duration_since(since) < TRIED => true,
            Slowness::Since(_, before) => {
                self.slowness = Slowness::NotUntil(now + NOT_TRIED);
                self.limit = before;
                false
            }
        }
    }

    fn cut_to(&mut self, limit: f64) {
        self.window = Window::default();
        let limit = limit.max(1.0);
        if limit < self.limit {
            self.limit = limit;
            self.generation = self.generation.wrapping_add(1);
        }
    }

    fn adapt(&mut self, fastest: f64, now: Instant) {
        let (usual, since) = self.usual.unwrap_or((fastest, now));
        let pace = if fastest > usual { SLOWER } else { FASTER };
        let elapsed = now.duration_since(since).as_secs_f64() / pace.as_secs_f64();
        let usual = fastest + (usual - fastest) * (-elapsed).exp();
        self.usual = Some((usual, now));
    }
}

#[cfg(test)]
mod tests;
