//! May a call start now? The rate limit, the calls in flight, and pauses: whatever is wrong with
//! this worker or with Eko as a whole stops consumption, and no command pays for it.

mod lane;
mod limit;
mod reason;
mod slots;

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use jiff::Timestamp;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::clock::Now;
use crate::command::Kind;
use lane::Lane;
pub(crate) use limit::Sample;
pub(crate) use reason::{Reason, Sight};
pub(crate) use slots::Permit;

/// How far Eko's clock may be from ours, in seconds: it refuses what is 120 off, and a call may
/// be half a minute on its way.
const MAX_SKEW: f64 = 90.0;

/// How many answers in a row must tell of a skew: one may be a proxy's.
const SKEWED: u32 = 2;

/// How many calls are let through.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// `WORKER_RATE_LIMIT`: calls a second, over all kinds.
    pub(crate) rate: Option<NonZeroU32>,
    /// `WORKER_CONCURRENCY`: calls in flight, for each kind.
    pub(crate) concurrency: u32,
    /// `WORKER_ADAPTIVE`: whether fewer are in flight where Eko does not bear so many.
    pub(crate) is_adaptive: bool,
}

/// What every call passes.
pub(crate) struct Gate {
    limiter: Option<DefaultDirectRateLimiter>,
    lanes: [Lane; Kind::ALL.len()],
    skewed: AtomicU32,
    /// When Eko's clock was last seen to agree with ours.
    agreed: Mutex<Option<Now>>,
    hurry: watch::Sender<()>,
    stop: CancellationToken,
}

/// Nothing begins now: the kind is paused for a reason, or the worker stops.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Shut(pub(crate) Option<Reason>);

impl Gate {
    /// An open gate, until it is asked to stop.
    pub(crate) fn new(settings: Settings, stop: CancellationToken) -> Self {
        let limiter = settings.rate.map(|rate| {
            // Without a burst, calls are spread evenly over each second.
            let quota = Quota::per_second(rate).allow_burst(NonZeroU32::MIN);
            RateLimiter::direct(quota)
        });
        let lane = |_| Lane::new(settings.concurrency, settings.is_adaptive);
        Self {
            limiter,
            lanes: Kind::ALL.map(lane),
            skewed: AtomicU32::new(0),
            agreed: Mutex::new(None),
            hurry: watch::Sender::new(()),
            stop,
        }
    }

    /// Waits until a call of a kind may begin; whoever waits while it closes is turned away.
    pub(crate) async fn enter(&self, kind: Kind) -> Result<Permit<'_>, Shut> {
        let lane = self.lane(kind);
        let reason = *lane.closed.borrow();
        if reason.is_some() || self.stop.is_cancelled() {
            return Err(Shut(reason));
        }
        if let Some(permit) = lane.slots.try_take()
            && self.limiter.as_ref().is_none_or(|limiter| limiter.check().is_ok())
        {
            return Ok(permit);
        }
        let mut closed = lane.closed.subscribe();
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Err(Shut(None)),
            closed = closed.wait_for(Option::is_some) => Err(Shut(closed.ok().and_then(|it| *it))),
            permit = self.wait(lane) => Ok(permit),
        }
    }

    /// Waits until one more call for a command that is begun may be made: also while the gate
    /// is closed, since what is in flight ends.
    pub(crate) async fn again<'a>(&'a self, kind: Kind, held: Option<Permit<'a>>) -> Permit<'a> {
        match held {
            Some(permit) if permit.is_fresh() => permit,
            Some(permit) => {
                self.pace().await;
                permit
            }
            None => self.wait(self.lane(kind)).await,
        }
    }

    async fn wait<'a>(&'a self, lane: &'a Lane) -> Permit<'a> {
        let permit = lane.slots.take().await;
        self.pace().await;
        permit
    }

    async fn pace(&self) {
        if let Some(limiter) = &self.limiter {
            limiter.until_ready().await;
        }
    }

    /// How many calls of a kind may be in flight now.
    pub(crate) fn limit(&self, kind: Kind) -> u32 {
        self.lane(kind).slots.limit()
    }

    /// Notes what a command's call told; may close the gate of its kind. All times here are how long
    /// the process has run.
    pub(crate) fn saw(&self, kind: Kind, command_id: &str, sight: Sight, now: Duration) {
        self.lane(kind).saw(command_id, sight, now);
    }

    /// Notes by how many seconds Eko's clock is ahead of ours; closes all kinds where answers
    /// tell in a row that Eko will soon refuse our timestamps. Tells whether it did.
    pub(crate) fn saw_clock(&self, skew: f64, now: Now) -> bool {
        if Self::is_right(skew) {
            self.skewed.store(0, Ordering::Relaxed);
            *self.agreed.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
            return false;
        }
        let in_a_row = self.skewed.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        in_a_row >= SKEWED && self.close_all(Reason::Clock, now.monotonic)
    }

    /// What time it is by a wall clock that agreed with Eko's, and by what was measured since: a clock
    /// that was set meanwhile does not change it. `None` until Eko has told its own time.
    pub(crate) fn agreed_time(&self, now: Now) -> Option<Timestamp> {
        let agreed = (*self.agreed.lock().unwrap_or_else(PoisonError::into_inner))?;
        let since = now.monotonic.saturating_sub(agreed.monotonic);
        agreed.wall.checked_add(since).ok()
    }

    /// What was known of the clocks' difference does not hold any more.
    pub(crate) fn forget_skew(&self) {
        self.skewed.store(0, Ordering::Relaxed);
    }

    /// Whether Eko takes timestamps of a clock that is so far off.
    pub(crate) const fn is_right(skew: f64) -> bool {
        skew.abs() <= MAX_SKEW
    }

    /// Closes the gates of all kinds; tells whether any was open.
    pub(crate) fn close_all(&self, reason: Reason, now: Duration) -> bool {
        self.lanes.iter().filter(|lane| lane.close(reason, now)).count() > 0
    }

    /// Closes the gate of a kind for a reason that no call tells, unless it is closed already.
    pub(crate) fn close(&self, kind: Kind, reason: Reason, now: Duration) {
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
        self.hurry.send_replace(());
    }

    /// Sees every [`Self::hurry`] from now on, also one that comes during a probe.
    pub(crate) fn hurries(&self) -> watch::Receiver<()> {
        self.hurry.subscribe()
    }

    /// Opens the gate of a kind.
    pub(crate) fn open(&self, kind: Kind, now: Duration) {
        self.lane(kind).open(now);
    }

    /// How long the gate of a kind was closed in the life of a command that is so old, as far as
    /// this process knows: so long its give-up times stand still.
    pub(crate) fn stood_still(&self, kind: Kind, age: Duration, now: Duration) -> Duration {
        self.lane(kind).stood_still(now.saturating_sub(age), now)
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

    fn gate() -> Gate {
        let settings = Settings { rate: None, concurrency: 4, is_adaptive: true };
        Gate::new(settings, CancellationToken::new())
    }

    fn at(second: u64) -> Duration {
        Duration::from_secs(second)
    }

    fn closed(gate: &Gate, kind: Kind) -> Option<Reason> {
        *gate.watch(kind).borrow()
    }

    #[test]
    fn a_second_command_with_the_same_fault_closes_its_kind_only() {
        let gate = gate();
        gate.saw(Kind::Refund, "a", UNAUTHORIZED, at(0));
        gate.saw(Kind::Refund, "a", UNAUTHORIZED, at(1));
        assert_eq!(closed(&gate, Kind::Refund), None, "one odd command does not stop the line");
        gate.saw(Kind::Refund, "b", UNAUTHORIZED, at(2));
        assert_eq!(closed(&gate, Kind::Refund), Some(Reason::Unauthorized));
        assert_eq!(closed(&gate, Kind::RefundOtp), None);
    }

    #[test]
    fn a_call_that_goes_well_clears_a_suspicion() {
        let gate = gate();
        gate.saw(Kind::Refund, "a", UNAUTHORIZED, at(0));
        gate.saw(Kind::Refund, "c", Sight::Fine, at(1));
        gate.saw(Kind::Refund, "b", UNAUTHORIZED, at(2));
        assert_eq!(closed(&gate, Kind::Refund), None);
    }

    #[test]
    fn ten_failures_in_a_row_are_an_outage() {
        let gate = gate();
        for second in 0..9 {
            gate.saw(Kind::TransferOtp, "a", OUTAGE_SEEN, at(second));
        }
        assert_eq!(closed(&gate, Kind::TransferOtp), None);
        gate.saw(Kind::TransferOtp, "a", OUTAGE_SEEN, at(9));
        assert_eq!(closed(&gate, Kind::TransferOtp), Some(Reason::Outage));
    }

    #[test]
    fn after_opening_the_next_failure_closes_again_and_probes_go_on_counting() {
        let gate = gate();
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
        let gate = gate();
        gate.close(Kind::Refund, Reason::BrokerBlocked, at(10));
        gate.close(Kind::Refund, Reason::Topology, at(12));
        assert_eq!(closed(&gate, Kind::Refund), Some(Reason::BrokerBlocked), "the first holds");
        gate.open(Kind::Refund, at(3_610));
        gate.saw(Kind::Refund, "a", UNAUTHORIZED, at(3_611));
        assert_eq!(closed(&gate, Kind::Refund), None, "one odd command does not stop the line");
        let still = gate.stood_still(Kind::Refund, at(4_000), at(4_000));
        assert_eq!(still, Duration::from_secs(3_600));
    }

    #[test]
    fn give_up_times_stand_still_while_it_is_closed() {
        let gate = gate();
        let still =
            |since, now| gate.stood_still(Kind::Refund, at(now) - at(since), at(now)).as_secs();
        assert_eq!(still(0, 100), 0);
        gate.saw(Kind::Refund, "a", UNAUTHORIZED, at(10));
        gate.saw(Kind::Refund, "b", UNAUTHORIZED, at(10));
        assert_eq!(still(0, 15), 5);
        gate.open(Kind::Refund, at(30));
        assert_eq!((still(0, 100), still(20, 100), still(40, 100)), (20, 10, 0));
    }

    #[test]
    fn a_ledger_that_fails_closes_every_kind_at_once_and_leaves_no_trial_behind() {
        let gate = gate();
        assert!(gate.close_all(Reason::Ledger, at(0)));
        assert!(!gate.close_all(Reason::Ledger, at(1)), "they were closed before");
        assert_eq!(Kind::ALL.map(|kind| closed(&gate, kind)), [Some(Reason::Ledger); 3]);
        gate.open(Kind::Refund, at(5));
        gate.saw(Kind::Refund, "a", UNAUTHORIZED, at(6));
        assert_eq!(closed(&gate, Kind::Refund), None, "one odd command does not stop the line");
        assert_eq!(gate.stood_still(Kind::Refund, at(9), at(9)).as_secs(), 5);
    }

    /// The wall clock at the beginning of the process, and how long that runs.
    fn wall(begin: i64, second: u64) -> Now {
        let wall = Timestamp::from_second(begin).unwrap() + at(second);
        Now { wall, process: 1, monotonic: at(second) }
    }

    #[test]
    fn the_time_that_is_agreed_on_is_not_moved_by_a_wall_clock_that_is_set() {
        let gate = gate();
        let (right, year_ahead) = (1_800_000_000, 1_831_536_000);
        let agreed = |now| gate.agreed_time(now).map(Timestamp::as_second);
        assert_eq!(agreed(wall(right, 5)), None, "Eko has not told its time");
        gate.saw_clock(-31_536_000.0, wall(year_ahead, 6));
        assert_eq!(agreed(wall(year_ahead, 6)), None, "Eko's clock tells another time");
        gate.saw_clock(1.0, wall(right, 10));
        assert_eq!(agreed(wall(year_ahead, 70)), Some(right + 70));
        gate.saw_clock(-31_536_000.0, wall(year_ahead, 80));
        assert_eq!(agreed(wall(year_ahead, 90)), Some(right + 90));
    }

    #[test]
    fn a_clock_far_off_in_two_answers_in_a_row_closes_every_kind() {
        let gate = gate();
        let now = |second| wall(1_800_000_000, second);
        assert!(!gate.saw_clock(-91.0, now(0)), "one answer may be a proxy's");
        assert!(!gate.saw_clock(3.0, now(1)));
        assert!(!gate.saw_clock(95.0, now(2)));
        assert_eq!(closed(&gate, Kind::Refund), None);
        assert!(gate.saw_clock(95.0, now(3)));
        assert_eq!(Kind::ALL.map(|kind| closed(&gate, kind)), [Some(Reason::Clock); 3]);
        assert!(Gate::is_right(-90.0) && !Gate::is_right(-90.5));
    }

    #[tokio::test]
    async fn who_waits_for_a_permit_is_turned_away_when_it_closes() {
        let ledger_fails: fn(&Gate) = |gate| assert!(gate.close_all(Reason::Ledger, at(0)));
        let worker_stops: fn(&Gate) = |gate| gate.stop.cancel();
        for (close, shut) in
            [(ledger_fails, Shut(Some(Reason::Ledger))), (worker_stops, Shut(None))]
        {
            let gate = gate();
            let mut taken = Vec::new();
            for _ in 0..4 {
                taken.push(gate.enter(Kind::Refund).await.unwrap());
            }
            assert!(gate.enter(Kind::RefundOtp).await.is_ok(), "each kind has its own");
            let fifth = gate.enter(Kind::Refund);
            tokio::pin!(fifth);
            assert!(futures_util::poll!(&mut fifth).is_pending());
            close(&gate);
            let turned_away = tokio::time::timeout(Duration::from_secs(5), fifth).await.unwrap();
            assert_eq!(turned_away.err().as_ref(), Some(&shut));
            assert_eq!(gate.enter(Kind::Refund).await.err(), Some(shut));
            // What is begun goes on.
            drop(gate.again(Kind::Refund, taken.pop()).await);
            drop(gate.again(Kind::Refund, None).await);
        }
    }

    #[tokio::test]
    async fn after_an_outage_one_call_at_a_time_shows_whether_it_is_over() {
        let gate = gate();
        (0..10).for_each(|second| gate.saw(Kind::Refund, "a", OUTAGE_SEEN, at(second)));
        gate.open(Kind::Refund, at(20));
        assert_eq!(gate.limit(Kind::Refund), 1);
        gate.saw(Kind::Refund, "a", Sight::Nothing, at(21));
        assert_eq!(gate.limit(Kind::Refund), 1);
        gate.saw(Kind::Refund, "a", Sight::Fine, at(22));
        assert_eq!(gate.limit(Kind::Refund), 4);
    }
}
