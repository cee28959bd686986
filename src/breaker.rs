//! May a call start now? The rate limit, the calls in flight, and pauses: whatever is wrong with
//! this worker or with Eko as a whole stops consumption, and no command pays for it.
//!
//! This module owns the pauses. `circuit_breaker` keeps why a kind is paused and since when.
//! `ledger` keeps what the ledger has to do with it. `probe` finds out whether a pause is over, and
//! reads key files again before it asks. `/readyz` and the metrics read all this here when they are
//! asked, and keep no copy.

mod circuit_breaker;
mod concurrency_limiter;
mod ledger;
mod limit;
mod notice;
mod operator;
mod pace;
mod pauses;
mod permit;
mod probe;
mod reason;
mod timestamps;

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::clock::{Now, Stamp};
use crate::command::Kind;
use crate::ledger::OperatorPause;
use crate::worker::Clock;
use circuit_breaker::CircuitBreaker;
pub(crate) use circuit_breaker::{Pause, Witness};
use ledger::LedgerProblems;
pub(crate) use ledger::Mispaired;
pub(crate) use limit::Sample;
use notice::Notice;
use pace::Pace;
pub(crate) use pace::Purpose;
pub(crate) use permit::Permit;
pub(crate) use reason::{HealthSignal, Reason};
use timestamps::Timestamps;

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
    /// `EKO_RATE_LIMIT`: calls a second, over all workers of a key.
    pub(crate) fleet_rate: Option<NonZeroU32>,
    /// `EKO_STAMP_AGE`.
    pub(crate) stamp_age: Duration,
    /// `EKO_STAMP_TOLERANCE`.
    pub(crate) stamp_tolerance: Duration,
    /// `WORKER_CONCURRENCY`: calls in flight, for each kind.
    pub(crate) concurrency: u32,
    /// `WORKER_ADAPTIVE`: whether fewer are in flight where Eko does not bear so many.
    pub(crate) is_adaptive: bool,
}

#[cfg(test)]
impl Default for Settings {
    /// Those of a worker without any.
    fn default() -> Self {
        Self {
            rate: None,
            fleet_rate: None,
            stamp_age: Duration::ZERO,
            stamp_tolerance: Duration::from_secs(120),
            concurrency: 64,
            is_adaptive: true,
        }
    }
}

/// What every call passes: the circuit breakers of all kinds, and the rate limits and timestamps that
/// they share.
pub(crate) struct Breakers {
    clock: Clock,
    pace: Pace,
    breakers: [CircuitBreaker; Kind::ALL.len()],
    ledger: Mutex<LedgerProblems>,
    /// Which kinds an operator has paused.
    operator: Mutex<Vec<OperatorPause>>,
    skewed: AtomicU32,
    /// When Eko's clock was last seen to agree with the ledger's, and what that told.
    agreed: Mutex<Option<Now>>,
    probe_now: watch::Sender<()>,
    /// That Eko refused a timestamp that somebody else has used.
    refused_timestamp: Notice,
    /// That no timestamps are left.
    no_timestamps: Notice,
    stop: CancellationToken,
}

/// Nothing begins now: the kind is paused for a reason, or the worker stops.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Rejected(pub(crate) Option<Reason>);

impl Breakers {
    /// Lets calls of all kinds through, until it is asked to stop.
    pub(crate) fn new(settings: Settings, clock: Clock, stop: CancellationToken) -> Self {
        let breaker = |_| CircuitBreaker::new(settings.concurrency, settings.is_adaptive);
        let timestamps = Timestamps::new(settings, clock);
        Self {
            clock,
            pace: Pace::new(settings.rate, timestamps),
            breakers: Kind::ALL.map(breaker),
            ledger: Mutex::default(),
            operator: Mutex::default(),
            skewed: AtomicU32::new(0),
            agreed: Mutex::new(None),
            probe_now: watch::Sender::new(()),
            refused_timestamp: Notice::default(),
            no_timestamps: Notice::default(),
            stop,
        }
    }

    /// Waits until a call of a kind may begin; whoever waits while it is paused is
    /// rejected.
    pub(crate) async fn enter(&self, kind: Kind) -> Result<Permit<'_>, Rejected> {
        let breaker = self.breaker(kind);
        let reason = self.paused(kind).map(|pause| pause.reason);
        if reason.is_some() || self.stop.is_cancelled() {
            return Err(Rejected(reason));
        }
        let purpose = Purpose::Command(kind);
        if let Some(place) = breaker.limiter.try_take()
            && let Some(stamp) = self.pace.try_pass(purpose)
        {
            return Ok(Permit::new(place, stamp));
        }
        let mut paused = breaker.watch();
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Err(Rejected(None)),
            paused = paused.wait_for(Option::is_some) => {
                Err(Rejected(paused.ok().and_then(|pause| pause.map(|pause| pause.reason))))
            }
            permit = self.wait(breaker, purpose) => Ok(permit),
        }
    }

    /// Waits until one more call for a command of a kind that is begun may be made: also while the
    /// kind is paused, since what is in flight ends.
    pub(crate) async fn reacquire<'a>(
        &'a self,
        kind: Kind,
        purpose: Purpose,
        held: Option<Permit<'a>>,
    ) -> Permit<'a> {
        match held.map(Permit::renew) {
            Some(Ok(permit)) => permit,
            Some(Err(place)) => Permit::new(place, self.pace.pass(purpose).await),
            None => self.wait(self.breaker(kind), purpose).await,
        }
    }

    /// Waits until the worker is to stop while the ledger fails: then no timestamp comes in time.
    pub(crate) async fn until_hopeless(&self, kind: Kind) {
        self.stop.cancelled().await;
        let is_of_ledger =
            |pause: &Option<Pause>| pause.is_some_and(|pause| pause.reason == Reason::Ledger);
        let mut paused = self.breaker(kind).watch();
        // It ends with the process.
        paused.wait_for(is_of_ledger).await.ok();
    }

    /// Waits until a call may be made that is for no command: its timestamp.
    async fn pass(&self, purpose: Purpose) -> Stamp {
        self.pace.pass(purpose).await
    }

    /// The timestamps of all calls.
    pub(crate) fn timestamps(&self) -> &Timestamps {
        &self.pace.timestamps
    }

    /// The clock of this process.
    pub(crate) const fn clock(&self) -> Clock {
        self.clock
    }

    async fn wait<'a>(&'a self, breaker: &'a CircuitBreaker, purpose: Purpose) -> Permit<'a> {
        let place = breaker.limiter.take().await;
        Permit::new(place, self.pace.pass(purpose).await)
    }

    /// How many calls of a kind may be in flight now.
    pub(crate) fn limit(&self, kind: Kind) -> u32 {
        self.breaker(kind).limiter.limit()
    }

    /// Notes what a command's call told; may pause its kind. All times here are how long
    /// the process has run.
    pub(crate) fn saw(
        &self,
        kind: Kind,
        witness: Witness<'_>,
        signal: HealthSignal,
        now: Duration,
    ) {
        self.breaker(kind).saw(witness, signal, now);
    }

    /// Notes that a kind's own endpoint took a call: it was executed, or refused for what it asked.
    pub(crate) fn serves(&self, kind: Kind, is_own_choice: bool, now: Duration) {
        self.breaker(kind).serves(is_own_choice, now);
    }

    /// Whether a kind's own endpoint has taken a call since then.
    pub(crate) fn has_served_since(&self, kind: Kind, since: Duration) -> bool {
        self.breaker(kind).has_served_since(since)
    }

    /// For what fault of ours Eko refuses a kind's commands with the settings' account, if it has
    /// taken none since.
    pub(crate) fn refuses_ours(&self, kind: Kind) -> Option<Reason> {
        self.breaker(kind).refuses_ours()
    }

    /// Whether a command may show whether a pause is over, though a probe was answered as if it were
    /// not. An OTP call that an outage leaves unclear may not be repeated often: there the pause must have
    /// lasted for `patience`, or another kind's endpoint have taken a call since it began.
    pub(crate) fn is_blind_trial_due(
        &self,
        kind: Kind,
        reason: Reason,
        patience: Duration,
        now: Duration,
    ) -> bool {
        let breaker = self.breaker(kind);
        let is_costly = kind != Kind::Refund && !reason.is_ours();
        let since = self.paused(kind).map_or(now, |pause| pause.since);
        let has_lasted = !is_costly || now.saturating_sub(since) >= patience;
        let others_work = || self.breakers.iter().any(|breaker| breaker.has_served_since(since));
        (has_lasted && breaker.is_blind_trial_due()) || (is_costly && others_work())
    }

    /// Notes by how many seconds Eko's clock is ahead of the ledger's; pauses all kinds where answers
    /// tell in a row that Eko will soon refuse our timestamps. Tells whether it did.
    pub(crate) fn saw_clock(&self, skew: f64, now: Now) -> bool {
        if Self::is_right(skew) {
            self.skewed.store(0, Ordering::Relaxed);
            *self.agreed.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
            return false;
        }
        let in_a_row = self.skewed.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        in_a_row >= SKEWED && self.pause_all(Reason::Clock, now.monotonic)
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

    /// Pauses all kinds; tells whether any was not paused before.
    pub(crate) fn pause_all(&self, reason: Reason, now: Duration) -> bool {
        self.breakers.iter().filter(|breaker| breaker.open(reason, now)).count() > 0
    }

    /// Pauses a kind for a reason that no call tells, unless it is paused already.
    pub(crate) fn pause(&self, kind: Kind, reason: Reason, now: Duration) {
        self.breaker(kind).open(reason, now);
    }

    /// Why a kind is paused and since when, if it is.
    pub(crate) fn paused(&self, kind: Kind) -> Option<Pause> {
        self.breaker(kind).paused()
    }

    /// Tells when a kind is paused and when it is resumed.
    pub(crate) fn watch(&self, kind: Kind) -> watch::Receiver<Option<Pause>> {
        self.breaker(kind).watch()
    }

    /// Notes what is wrong with the exchanges or the queue of a kind, or that nothing is.
    pub(crate) fn note_topology(&self, kind: Kind, problem: Option<String>) {
        self.breaker(kind).note_topology(problem);
    }

    /// What is wrong with the exchanges or the queue of a kind.
    pub(crate) fn topology_problem(&self, kind: Kind) -> Option<String> {
        self.breaker(kind).topology_problem()
    }

    /// Why consumption of a kind is paused, as an operator is told: a fault, and an operator. A queue that
    /// does not answer is a fault, though calls for what is in hand are still let through. A worker that
    /// stops is not paused.
    pub(crate) fn shown(&self, kind: Kind) -> Vec<Reason> {
        if self.stop.is_cancelled() {
            return Vec::new();
        }
        let breaker = self.breaker(kind);
        let by_topology = || breaker.topology_problem().map(|_| Reason::Topology);
        let by_operator = breaker.is_held().then_some(Reason::Operator);
        breaker.fault().or_else(by_topology).into_iter().chain(by_operator).collect()
    }

    /// Counts one more probe of a paused kind, from 1.
    pub(crate) fn next_probe(&self, kind: Kind) -> u32 {
        self.breaker(kind).next_probe()
    }

    /// Has whoever waits to probe do so at once: something has changed.
    pub(crate) fn probe_now(&self) {
        self.probe_now.send_replace(());
    }

    /// Sees every [`Self::probe_now`] from now on, also one that comes during a probe.
    pub(crate) fn probe_requests(&self) -> watch::Receiver<()> {
        self.probe_now.subscribe()
    }

    /// Lets commands of a kind through again, unless the queues are another ledger's meanwhile.
    pub(crate) fn resume(&self, kind: Kind, now: Duration) {
        let next = self.mispaired().map(|_| Reason::Ledger);
        self.breaker(kind).close(next, now);
    }

    /// How long a kind was paused in the life of a command that is so old, as far as
    /// this process knows: so long its give-up times stand still.
    pub(crate) fn paused_for(&self, kind: Kind, age: Duration, now: Duration) -> Duration {
        self.breaker(kind).paused_for(now.saturating_sub(age), now)
    }

    fn ledger(&self) -> MutexGuard<'_, LedgerProblems> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn breaker(&self, kind: Kind) -> &CircuitBreaker {
        match kind {
            Kind::RefundOtp => &self.breakers[0],
            Kind::Refund => &self.breakers[1],
            Kind::TransferOtp => &self.breakers[2],
        }
    }
}

#[cfg(test)]
mod tests;
