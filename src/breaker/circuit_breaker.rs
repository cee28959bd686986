//! The circuit breaker of one kind: what was seen, whether that opens it, and for how long it was
//! open. While it is open, the kind is paused.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::concurrency_limiter::ConcurrencyLimiter;
use super::reason::{HealthSignal, Reason};

/// How many failures in a row make an outage: more than the odd lost call, fewer than what is
/// in flight. So many refusals of commands' own accounts or rails in a row are not these commands' fault.
const IN_A_ROW: u32 = 10;

/// How many times in a row a pause must be probed in vain before a command shows whether it is over.
const BLIND: u32 = 3;

/// How many past pauses of a kind are remembered: more than a day of flapping.
const REMEMBERED: usize = 512;

/// The circuit breaker of one kind: closed, it lets calls through; open, none.
pub(super) struct CircuitBreaker {
    state: Mutex<State>,
    /// Why the kind is paused, while the breaker is open. It changes only while `state` is locked.
    pause: watch::Sender<Option<Pause>>,
    /// How many calls go at a time: one, while the breaker is half-open.
    pub(super) limiter: ConcurrencyLimiter,
}

/// A pause of one kind that lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pause {
    /// Why it is paused.
    pub(crate) reason: Reason,
    /// Since when, by how long the process has run.
    pub(crate) since: Duration,
}

#[derive(Default)]
struct State {
    /// Why it is open, as calls or the worker's surroundings tell.
    fault: Option<Reason>,
    /// Whether an operator holds it open, whatever else is the case.
    is_held: bool,
    suspicion: Option<Suspicion>,
    /// When the kind's own endpoint last took a call.
    served: Option<Duration>,
    /// For what fault of ours Eko last refused a command with the settings' account, if it has taken
    /// none since.
    refuses_ours: Option<Reason>,
    /// How often it was probed since a call last went well.
    probes: u32,
    /// What is wrong with the exchanges or the queue of the kind.
    topology_problem: Option<String>,
    /// From when to when it was open before.
    past: VecDeque<(Duration, Duration)>,
}

/// Whether an operator holds a breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Held {
    /// It is open, whatever else is the case.
    Open,
    /// It is left to itself.
    Free,
}

/// What calls in a row tell that it may be that nothing works.
struct Suspicion {
    reason: Reason,
    /// How often in a row it was seen.
    times: u32,
    /// The first command with the settings' account that told it.
    by: Option<String>,
}

/// Who has made a call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Witness<'a> {
    /// The command that it was made for.
    pub(crate) command_id: &'a str,
    /// Whether it named an account or a rail of the command's own, so that its refusal says nothing of
    /// ours.
    pub(crate) is_own_choice: bool,
}

impl CircuitBreaker {
    /// A closed one.
    pub(super) fn new(concurrency: u32, is_adaptive: bool) -> Self {
        let limiter = ConcurrencyLimiter::new(concurrency, is_adaptive);
        Self { state: Mutex::default(), pause: watch::Sender::new(None), limiter }
    }

    /// Notes what a command's call told; may open.
    pub(super) fn saw(&self, witness: Witness<'_>, signal: HealthSignal, now: Duration) {
        let mut state = self.lock();
        match signal {
            HealthSignal::Nothing => {}
            HealthSignal::Fine => {
                state.suspicion = None;
                state.probes = 0;
                self.limiter.end_half_open();
            }
            HealthSignal::Against(reason) => {
                if reason.is_ours() && !witness.is_own_choice {
                    state.refuses_ours = Some(reason);
                }
                if state.fault.is_none() && self.confirms(&mut state, reason, witness) {
                    state.fault = Some(reason);
                    self.show(&mut state, now);
                }
            }
        }
    }

    /// Notes that the kind's own endpoint took a call: it was executed, or refused for what it asked.
    pub(super) fn serves(&self, is_own_choice: bool, now: Duration) {
        let mut state = self.lock();
        state.served = Some(now);
        if !is_own_choice {
            state.refuses_ours = None;
        }
    }

    /// Whether the kind's own endpoint has taken a call since then.
    pub(super) fn has_served_since(&self, since: Duration) -> bool {
        self.lock().served.is_some_and(|served| served >= since)
    }

    /// For what fault of ours Eko refuses commands with the settings' account.
    pub(super) fn refuses_ours(&self) -> Option<Reason> {
        self.lock().refuses_ours
    }

    /// Whether it was probed so often in vain that a command may show whether the pause is over: a
    /// probe may be answered otherwise than a command.
    pub(super) fn is_blind_trial_due(&self) -> bool {
        self.lock().probes.is_multiple_of(BLIND)
    }

    /// Why it is open and since when, if it is.
    pub(super) fn paused(&self) -> Option<Pause> {
        *self.pause.borrow()
    }

    /// Tells when it opens and when it closes.
    pub(super) fn watch(&self) -> watch::Receiver<Option<Pause>> {
        self.pause.subscribe()
    }

    /// Notes what is wrong with the exchanges or the queue of the kind, or that nothing is.
    pub(super) fn note_topology(&self, problem: Option<String>) {
        self.lock().topology_problem = problem;
    }

    /// What is wrong with the exchanges or the queue of the kind.
    pub(super) fn topology_problem(&self) -> Option<String> {
        self.lock().topology_problem.clone()
    }

    /// Opens it for a fault, unless it is open for one; tells whether it was not.
    pub(super) fn open(&self, reason: Reason, now: Duration) -> bool {
        let mut state = self.lock();
        let is_new = state.fault.is_none();
        if is_new {
            state.fault = Some(reason);
            self.show(&mut state, now);
        }
        is_new
    }

    /// An operator holds it open from now on, or no longer.
    pub(super) fn hold(&self, is_held: Held, now: Duration) {
        let mut state = self.lock();
        state.is_held = is_held == Held::Open;
        self.show(&mut state, now);
    }

    /// Whether an operator holds it open.
    pub(super) fn is_held(&self) -> bool {
        self.lock().is_held
    }

    /// For what fault it is open.
    pub(super) fn fault(&self) -> Option<Reason> {
        self.lock().fault
    }

    /// Its fault is over: it closes, unless an operator holds it; half-open, where calls had opened it.
    /// With a `next` reason it stays open for that one.
    pub(super) fn close(&self, next: Option<Reason>, now: Duration) {
        let mut state = self.lock();
        state.suspicion = None;
        let Some(fault) = state.fault.take() else { return };
        state.fault = next;
        if fault.is_told_by_calls() {
            self.limiter.begin_half_open();
        }
        self.show(&mut state, now);
    }

    /// Tells the reason that counts now: a fault comes first, since it is probed meanwhile.
    fn show(&self, state: &mut State, now: Duration) {
        let reason = state.fault.or_else(|| state.is_held.then_some(Reason::Operator));
        let before = self.paused();
        if before.map(|pause| pause.reason) == reason {
            return;
        }
        if let Some(Pause { since, .. }) = before {
            if state.past.len() == REMEMBERED {
                state.past.pop_front();
            }
            state.past.push_back((since, now));
        }
        self.pause.send_replace(reason.map(|reason| Pause { reason, since: now }));
    }

    /// Counts one more probe since a call last went well, from 1.
    pub(super) fn next_probe(&self) -> u32 {
        let mut state = self.lock();
        state.probes = state.probes.saturating_add(1);
        state.probes
    }

    /// How long it was open since a time.
    pub(super) fn paused_for(&self, since: Duration, now: Duration) -> Duration {
        let state = self.lock();
        let current = self.paused().map(|pause| (pause.since, now));
        let overlap = |(from, to): (Duration, Duration)| to.saturating_sub(from.max(since));
        state.past.iter().copied().chain(current).map(overlap).sum()
    }

    /// Whether this signal is enough. One odd command alone does not stop the line, and one account
    /// or rail that Eko refuses is no fault of the settings'.
    fn confirms(&self, state: &mut State, reason: Reason, witness: Witness<'_>) -> bool {
        if state.suspicion.as_ref().is_none_or(|suspicion| suspicion.reason != reason) {
            state.suspicion = Some(Suspicion { reason, times: 0, by: None });
        }
        let Some(suspicion) = &mut state.suspicion else { return false };
        suspicion.times = suspicion.times.saturating_add(1);
        if !reason.is_ours() {
            return self.limiter.is_half_open() || suspicion.times >= IN_A_ROW;
        }
        if witness.is_own_choice {
            return suspicion.times >= IN_A_ROW;
        }
        match &suspicion.by {
            Some(first) => first != witness.command_id,
            None => {
                suspicion.by = Some(witness.command_id.to_owned());
                false
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
