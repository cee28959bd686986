//! May a call start now? The rate limit, and pauses: whatever is wrong with this worker or with
//! Eko as a whole stops consumption, and no command pays for it.

mod lane;
mod reason;

use std::num::NonZeroU32;
use std::time::Duration;

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use jiff::Timestamp;
use tokio::sync::{Notify, watch};

use crate::command::Kind;
use lane::Lane;
pub(crate) use reason::{Reason, Sight};

/// What every call passes. Concurrency needs no permit here: no more deliveries are in the
/// worker's hands than calls may be in flight.
pub(crate) struct Gate {
    limiter: Option<DefaultDirectRateLimiter>,
    lanes: [Lane; Kind::ALL.len()],
    hurry: Notify,
}

impl Gate {
    /// An open gate that lets through `rate` calls a second, over all kinds.
    pub(crate) fn new(rate: Option<NonZeroU32>) -> Self {
        let limiter = rate.map(|rate| {
            // Without a burst, calls are spread evenly over each second.
            let quota = Quota::per_second(rate).allow_burst(NonZeroU32::MIN);
            RateLimiter::direct(quota)
        });
        Self { limiter, lanes: Kind::ALL.map(|_| Lane::new()), hurry: Notify::new() }
    }

    /// Waits until one more call may be made.
    pub(crate) async fn pass(&self) {
        if let Some(limiter) = &self.limiter {
            limiter.until_ready().await;
        }
    }

    /// Notes what a command's call told; may close the gate of its kind.
    pub(crate) fn saw(&self, kind: Kind, command_id: &str, sight: Sight, now: Timestamp) {
        self.lane(kind).saw(command_id, sight, now);
    }

    /// Closes the gates of all kinds; tells whether any was open.
    pub(crate) fn close_all(&self, reason: Reason, now: Timestamp) -> bool {
        self.lanes.iter().filter(|lane| lane.close(reason, now)).count() > 0
    }

    /// Closes the gate of a kind for a reason that no call tells, unless it is closed already.
    pub(crate) fn close(&self, kind: Kind, reason: Reason, now: Timestamp) {
        self.lane(kind).close(reason, now);
    }

    /// Tells when the gate of a kind closes or opens.
    pub(crate) fn watch(&self, kind: Kind) -> watch::Receiver<Option<Reason>> {
        self.lane(kind).closed.subscribe()
    }

    /// Counts one more probe of a closed gate, from 1.
    pub(crate) fn next_probe(&self, kind: Kind) -> u32 {
        self.lane(kind).next_probe()
    }

    /// Has whoever waits to probe do so at once: something has changed.
    pub(crate) fn hurry(&self) {
        self.hurry.notify_waiters();
    }

    /// Waits for [`Self::hurry`].
    pub(crate) async fn hurried(&self) {
        self.hurry.notified().await;
    }

    /// Opens the gate of a kind.
    pub(crate) fn open(&self, kind: Kind, now: Timestamp) {
        self.lane(kind).open(now);
    }

    /// How long the gate of a kind was closed since a time, as far as this process knows: so
    /// long its give-up times stand still.
    pub(crate) fn stood_still(&self, kind: Kind, since: Timestamp, now: Timestamp) -> Duration {
        self.lane(kind).stood_still(since, now)
    }

    fn lane(&self, kind: Kind) -> &Lane {
        match kind {
            Kind::RefundOtp => &self.lanes[0],
            Kind::Refund => &self.lanes[1],
            Kind::TransferOtp => &self.lanes[2],
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

    #[test]
    fn a_ledger_that_fails_closes_every_kind_at_once_and_leaves_no_trial_behind() {
        let gate = Gate::new(None);
        assert!(gate.close_all(Reason::Ledger, at(0)));
        assert!(!gate.close_all(Reason::Ledger, at(1)), "they were closed before");
        assert_eq!(Kind::ALL.map(|kind| closed(&gate, kind)), [Some(Reason::Ledger); 3]);
        gate.open(Kind::Refund, at(5));
        gate.saw(Kind::Refund, "a", UNAUTHORIZED, at(6));
        assert_eq!(closed(&gate, Kind::Refund), None, "one odd command does not stop the line");
        assert_eq!(gate.stood_still(Kind::Refund, at(0), at(9)).as_secs(), 5);
    }
}
