//! May a call start now? The rate limit, and pauses: whatever is wrong with this worker or with
//! Eko as a whole stops consumption, and no command pays for it.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use jiff::Timestamp;
use tokio::sync::watch;

use crate::command::Kind;
use crate::verdict::{Cause, Reading, Verdict};

/// How many failures in a row make an outage: more than the odd lost call, fewer than what is
/// in flight.
const OUTAGE: u32 = 10;

/// How many past pauses of a kind are remembered: more than a day of flapping.
const REMEMBERED: usize = 512;

/// Why consumption is paused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Reason {
    /// Eko refuses our keys or our address.
    Unauthorized,
    /// The URL or the account is not set up for the call.
    Misconfigured,
    /// Eko refuses our timestamps.
    Clock,
    /// Calls fail one after the other.
    Outage,
    /// Eko asks for fewer calls, one after the other.
    RateLimited,
    /// The broker is short of memory or disk.
    BrokerBlocked,
    /// An exchange or queue is not what this worker needs.
    Topology,
}

impl Reason {
    /// Every reason, in the contract's order.
    pub(crate) const ALL: [Self; 7] = [
        Self::Unauthorized,
        Self::Misconfigured,
        Self::Clock,
        Self::Outage,
        Self::RateLimited,
        Self::BrokerBlocked,
        Self::Topology,
    ];

    /// The contract's word.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Unauthorized => "unauthorized",
            Self::Misconfigured => "misconfigured",
            Self::Clock => "clock",
            Self::Outage => "outage",
            Self::RateLimited => "rate_limited",
            Self::BrokerBlocked => "broker_blocked",
            Self::Topology => "topology",
        }
    }

    /// Whether it is our own fault, which a second command confirms; else a row of failures
    /// does.
    const fn is_ours(self) -> bool {
        match self {
            Self::Unauthorized | Self::Misconfigured | Self::Clock => true,
            Self::Outage | Self::RateLimited | Self::BrokerBlocked | Self::Topology => false,
        }
    }

    /// Whether calls tell it, so that they have to show that it is over.
    const fn is_told_by_calls(self) -> bool {
        !matches!(self, Self::BrokerBlocked | Self::Topology)
    }

    const fn of(cause: Cause) -> Option<Self> {
        match cause {
            Cause::Unauthorized => Some(Self::Unauthorized),
            Cause::Misconfigured => Some(Self::Misconfigured),
            Cause::Clock => Some(Self::Clock),
            Cause::Network | Cause::Timeout | Cause::EkoUnavailable => Some(Self::Outage),
            Cause::RateLimited => Some(Self::RateLimited),
            Cause::InProgress | Cause::BadResponse | Cause::Pending | Cause::Interrupted => None,
        }
    }
}

/// What one call tells about Eko as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sight {
    /// Eko works.
    Fine,
    /// It may be that nothing works.
    Against(Reason),
    /// It tells nothing.
    Nothing,
}

impl From<&Verdict> for Sight {
    fn from(verdict: &Verdict) -> Self {
        match verdict {
            Verdict::Done(..) | Verdict::Refused(_) => Self::Fine,
            // Eko itself has answered that the bank behind it is away.
            Verdict::NotNow { cause: Cause::EkoUnavailable, .. } => Self::Fine,
            Verdict::NotNow { cause, .. } | Verdict::Unclear { cause, .. } => {
                Reason::of(*cause).map_or(Self::Nothing, Self::Against)
            }
        }
    }
}

impl From<&Reading> for Sight {
    fn from(reading: &Reading) -> Self {
        match reading {
            Reading::NoAnswer(cause) => Reason::of(*cause).map_or(Self::Nothing, Self::Against),
            Reading::Refunded(..)
            | Reading::RefundPending
            | Reading::Succeeded
            | Reading::Failed
            | Reading::InProgress
            | Reading::NotFound
            | Reading::Contradictory => Self::Fine,
        }
    }
}

/// What every call passes. Concurrency needs no permit here: no more deliveries are in the
/// worker's hands than calls may be in flight.
pub(crate) struct Gate {
    limiter: Option<DefaultDirectRateLimiter>,
    lanes: [Lane; Kind::ALL.len()],
}

/// The gate of one kind.
struct Lane {
    state: Mutex<State>,
    closed: watch::Sender<Option<Reason>>,
}

#[derive(Default)]
struct State {
    /// The reason that was last seen, how often in a row, and by which command first.
    suspicion: Option<(Reason, u32, String)>,
    /// Whether it has just been opened: the next failure closes it again.
    is_on_trial: bool,
    /// How often it was probed since a call last went well.
    probes: u32,
    closed_since: Option<Timestamp>,
    past: VecDeque<(Timestamp, Timestamp)>,
}

impl Gate {
    /// An open gate that lets through `rate` calls a second, over all kinds.
    pub(crate) fn new(rate: Option<NonZeroU32>) -> Self {
        let limiter = rate.map(|rate| {
            // Without a burst, calls are spread evenly over each second.
            let quota = Quota::per_second(rate).allow_burst(NonZeroU32::MIN);
            RateLimiter::direct(quota)
        });
        let lane = |_| Lane { state: Mutex::default(), closed: watch::Sender::new(None) };
        Self { limiter, lanes: Kind::ALL.map(lane) }
    }

    /// Waits until one more call may be made.
    pub(crate) async fn pass(&self) {
        if let Some(limiter) = &self.limiter {
            limiter.until_ready().await;
        }
    }

    /// Notes what a command's call told; may close the gate of its kind.
    pub(crate) fn saw(&self, kind: Kind, command_id: &str, sight: Sight, now: Timestamp) {
        let lane = self.lane(kind);
        let mut state = lane.lock();
        let reason = match sight {
            Sight::Nothing => return,
            Sight::Fine => {
                state.suspicion = None;
                (state.is_on_trial, state.probes) = (false, 0);
                return;
            }
            Sight::Against(reason) => reason,
        };
        if state.closed_since.is_none() && state.confirms(reason, command_id) {
            state.closed_since = Some(now);
            lane.closed.send_replace(Some(reason));
        }
    }

    /// Closes the gate of a kind for a reason that no call tells, unless it is closed already.
    pub(crate) fn close(&self, kind: Kind, reason: Reason, now: Timestamp) {
        let lane = self.lane(kind);
        let mut state = lane.lock();
        if state.closed_since.is_none() {
            state.closed_since = Some(now);
            lane.closed.send_replace(Some(reason));
        }
    }

    /// Tells when the gate of a kind closes or opens.
    pub(crate) fn watch(&self, kind: Kind) -> watch::Receiver<Option<Reason>> {
        self.lane(kind).closed.subscribe()
    }

    /// Counts one more probe of a closed gate, from 1.
    pub(crate) fn next_probe(&self, kind: Kind) -> u32 {
        let mut state = self.lane(kind).lock();
        state.probes = state.probes.saturating_add(1);
        state.probes
    }

    /// Opens the gate of a kind; on trial, where calls had closed it.
    pub(crate) fn open(&self, kind: Kind, now: Timestamp) {
        let lane = self.lane(kind);
        let mut state = lane.lock();
        if let Some(since) = state.closed_since.take() {
            if state.past.len() == REMEMBERED {
                state.past.pop_front();
            }
            state.past.push_back((since, now));
        }
        let was = lane.closed.send_replace(None);
        (state.suspicion, state.is_on_trial) = (None, was.is_some_and(Reason::is_told_by_calls));
    }

    /// How long the gate of a kind was closed since a time, as far as this process knows: so
    /// long its give-up times stand still.
    pub(crate) fn stood_still(&self, kind: Kind, since: Timestamp, now: Timestamp) -> Duration {
        let state = self.lane(kind).lock();
        let current = state.closed_since.map(|closed| (closed, now));
        let overlap = |(from, to): (Timestamp, Timestamp)| {
            Duration::try_from(to.duration_since(from.max(since))).unwrap_or_default()
        };
        state.past.iter().copied().chain(current).map(overlap).sum()
    }

    fn lane(&self, kind: Kind) -> &Lane {
        match kind {
            Kind::RefundOtp => &self.lanes[0],
            Kind::Refund => &self.lanes[1],
            Kind::TransferOtp => &self.lanes[2],
        }
    }
}

impl Lane {
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

#[cfg(test)]
mod tests {
    use super::*;

    const UNAUTHORIZED: Sight = Sight::Against(Reason::Unauthorized);
    const OUTAGE_SEEN: Sight = Sight::Against(Reason::Outage);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_795_000_000 + second).unwrap()
    }

    fn closed(gate: &Gate, kind: Kind) -> Option<Reason> {
        *gate.watch(kind).borrow()
    }

    #[test]
    fn a_second_command_with_the_same_fault_closes_its_kind_only() {
        let gate = Gate::new(None);
        gate.saw(Kind::Refund, "a", UNAUTHORIZED, at(0));
        gate.saw(Kind::Refund, "a", UNAUTHORIZED, at(1));
        assert_eq!(closed(&gate, Kind::Refund), None, "one odd command does not stop the line");
        gate.saw(Kind::Refund, "b", UNAUTHORIZED, at(2));
        assert_eq!(closed(&gate, Kind::Refund), Some(Reason::Unauthorized));
        assert_eq!(closed(&gate, Kind::RefundOtp), None);
    }

    #[test]
    fn a_call_that_goes_well_clears_a_suspicion() {
        let gate = Gate::new(None);
        gate.saw(Kind::Refund, "a", UNAUTHORIZED, at(0));
        gate.saw(Kind::Refund, "c", Sight::Fine, at(1));
        gate.saw(Kind::Refund, "b", UNAUTHORIZED, at(2));
        assert_eq!(closed(&gate, Kind::Refund), None);
    }

    #[test]
    fn ten_failures_in_a_row_are_an_outage() {
        let gate = Gate::new(None);
        for second in 0..9 {
            gate.saw(Kind::TransferOtp, "a", OUTAGE_SEEN, at(second));
        }
        assert_eq!(closed(&gate, Kind::TransferOtp), None);
        gate.saw(Kind::TransferOtp, "a", OUTAGE_SEEN, at(9));
        assert_eq!(closed(&gate, Kind::TransferOtp), Some(Reason::Outage));
    }

    #[test]
    fn after_opening_the_next_failure_closes_again_and_probes_go_on_counting() {
        let gate = Gate::new(None);
        gate.saw(Kind::Refund, "a", UNAUTHORIZED, at(0));
        gate.saw(Kind::Refund, "b", UNAUTHORIZED, at(0));
        assert_eq!((gate.next_probe(Kind::Refund), gate.next_probe(Kind::Refund)), (1, 2));
        gate.open(Kind::Refund, at(10));
        assert_eq!(closed(&gate, Kind::Refund), None);
        gate.saw(Kind::Refund, "c", UNAUTHORIZED, at(11));
        assert_eq!(closed(&gate, Kind::Refund), Some(Reason::Unauthorized));
        assert_eq!(gate.next_probe(Kind::Refund), 3);
        gate.open(Kind::Refund, at(20));
        gate.saw(Kind::Refund, "c", Sight::Fine, at(21));
        assert_eq!(gate.next_probe(Kind::Refund), 1);
    }

    #[test]
    fn a_pause_that_no_call_told_is_over_without_a_trial() {
        let gate = Gate::new(None);
        gate.close(Kind::Refund, Reason::BrokerBlocked, at(10));
        gate.close(Kind::Refund, Reason::Topology, at(12));
        assert_eq!(closed(&gate, Kind::Refund), Some(Reason::BrokerBlocked), "the first holds");
        gate.open(Kind::Refund, at(3_610));
        gate.saw(Kind::Refund, "a", UNAUTHORIZED, at(3_611));
        assert_eq!(closed(&gate, Kind::Refund), None, "one odd command does not stop the line");
        let still = gate.stood_still(Kind::Refund, at(0), at(4_000));
        assert_eq!(still, Duration::from_secs(3_600));
    }

    #[test]
    fn give_up_times_stand_still_while_it_is_closed() {
        let gate = Gate::new(None);
        let still = |since, now| gate.stood_still(Kind::Refund, at(since), at(now)).as_secs();
        assert_eq!(still(0, 100), 0);
        gate.saw(Kind::Refund, "a", UNAUTHORIZED, at(10));
        gate.saw(Kind::Refund, "b", UNAUTHORIZED, at(10));
        assert_eq!(still(0, 15), 5);
        gate.open(Kind::Refund, at(30));
        assert_eq!((still(0, 100), still(20, 100), still(40, 100)), (20, 10, 0));
    }
}
