//! The gate of one kind: what was seen, whether that closes it, and for how long it was closed.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::reason::{Reason, Sight};
use super::slots::Slots;

/// How many failures in a row make an outage: more than the odd lost call, fewer than what is
/// in flight.
const OUTAGE: u32 = 10;

/// How many past pauses of a kind are remembered: more than a day of flapping.
const REMEMBERED: usize = 512;

/// The gate of one kind.
pub(super) struct Lane {
    state: Mutex<State>,
    pub(super) closed: watch::Sender<Option<Reason>>,
    pub(super) slots: Slots,
}

#[derive(Default)]
struct State {
    /// The reason that was last seen, how often in a row, and by which command first.
    suspicion: Option<(Reason, u32, String)>,
    /// Whether it has just been opened: one call goes at a time, and the next failure closes
    /// it again.
    is_on_trial: bool,
    /// How often it was probed since a call last went well.
    probes: u32,
    closed: Option<(Reason, Duration)>,
    past: VecDeque<(Duration, Duration)>,
}

impl Lane {
    /// An open one.
    pub(super) fn new(concurrency: u32, is_adaptive: bool) -> Self {
        let slots = Slots::new(concurrency, is_adaptive);
        Self { state: Mutex::default(), closed: watch::Sender::new(None), slots }
    }

    /// Notes what a command's call told; may close.
    pub(super) fn saw(&self, command_id: &str, sight: Sight, now: Duration) {
        let mut state = self.lock();
        match sight {
            Sight::Nothing => {}
            Sight::Fine => {
                (state.suspicion, state.probes) = (None, 0);
                if std::mem::take(&mut state.is_on_trial) {
                    self.slots.set_trial(false);
                }
            }
            Sight::Against(reason) => {
                if state.closed.is_none() && state.confirms(reason, command_id) {
                    state.closed = Some((reason, now));
                    self.closed.send_replace(Some(reason));
                }
            }
        }
    }

    /// Closes it, if it is open; tells whether it was.
    pub(super) fn close(&self, reason: Reason, now: Duration) -> bool {
        let mut state = self.lock();
        let was_open = state.closed.is_none();
        if was_open {
            state.closed = Some((reason, now));
            self.closed.send_replace(Some(reason));
        }
        was_open
    }

    /// Opens it; on trial, where calls had closed it.
    pub(super) fn open(&self, now: Duration) {
        let mut state = self.lock();
        if let Some((reason, since)) = state.closed.take() {
            if state.past.len() == REMEMBERED {
                state.past.pop_front();
            }
            state.past.push_back((since, now));
            state.is_on_trial |= reason.is_told_by_calls();
        }
        state.suspicion = None;
        self.slots.set_trial(state.is_on_trial);
        self.closed.send_replace(None);
    }

    /// Counts one more probe since a call last went well, from 1.
    pub(super) fn next_probe(&self) -> u32 {
        let mut state = self.lock();
        state.probes = state.probes.saturating_add(1);
        state.probes
    }

    /// How long it was closed since a time.
    pub(super) fn stood_still(&self, since: Duration, now: Duration) -> Duration {
        let state = self.lock();
        let current = state.closed.map(|(_, closed)| (closed, now));
        let overlap = |(from, to): (Duration, Duration)| to.saturating_sub(from.max(since));
        state.past.iter().copied().chain(current).map(overlap).sum()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether this sight is enough. One odd command alone does not stop the line.
    fn confirms(&mut self, reason: Reason, command_id: &str) -> bool {
        if self.is_on_trial {
            return true;
        }
        match &mut self.suspicion {
            Some((suspected, times, first)) if *suspected == reason => {
                *times = times.saturating_add(1);
                if reason.is_ours() { first != command_id } else { *times >= OUTAGE }
            }
            _ => {
                self.suspicion = Some((reason, 1, command_id.to_owned()));
                false
            }
        }
    }
}
