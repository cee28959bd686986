//! What may happen in one run of the model checker: commands, faults, mutations, the settings.

use std::time::Duration;

use eko_core::backoff::Backoff;
use eko_core::decision::Policy;

/// `EKO_TIMEOUT`, in seconds of the model.
pub(super) const CALL_TIMEOUT: u32 = 2;
/// How long a claim lasts: longer than a call.
pub(super) const LEASE: u32 = 3;
/// `EKO_STAMP_TOLERANCE`.
pub(super) const TOLERANCE: u32 = 2;
/// `SETTLE_QUIET`. The contract wants at least `EKO_TIMEOUT`; the shortest shows most.
pub(super) const QUIET: u32 = 1;
/// `ORPHAN_AFTER`.
pub(super) const ORPHAN: u32 = 2;

/// A bug that the checker must find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mutation {
    /// An interrupted command is started anew.
    InterruptedAsFresh,
    /// One reading of "refund pending" is believed.
    OneReading,
    /// What Eko begins to execute at the last moment is not waited for.
    NoQuiet,
    /// That a signature lives on after its call has ended is not waited for.
    NoTolerance,
    /// Waits are measured by the wall clock.
    WallClockMeasures,
    /// Claims and waits go by the wall clock of whoever asks.
    LeaseByWallClock,
    /// A call is signed when it is sent.
    SignWhenSent,
    /// "This timestamp was used before" is read as "not executed".
    ResentAsRefused,
    /// A gateway's 403 is read as "not executed".
    GatewayAsRefused,
    /// A reading counts whatever Eko's clock said when it was true.
    StaleReadingCounts,
    /// What the broker has measured is added to what the process has measured meanwhile.
    TtlCountsTwice,
    /// The command is acknowledged before its event is confirmed.
    AckBeforeConfirm,
    /// Any number of unfinished refunds for one tid.
    NoTidLock,
    /// An unclear attempt is repeated.
    ResendUnclear,
    /// Older copies are dropped before the parked one is safe.
    DropBeforeConfirm,
    /// A timeout is told as a failure.
    FailOnTimeout,
    /// A worker that has lost its claim calls all the same.
    CallWithoutClaim,
    /// A worker that has lost its claim tells all the same what it saw.
    TellWithoutClaim,
    /// A call's bytes leave however late it is.
    SendLate,
    /// A redelivered refund that the ledger does not know is started at once.
    TrustRedelivered,
    /// An event is made anew for each delivery.
    NewEventEachTime,
    /// That the ledger knows of a tid's refund is forgotten in a crash.
    ForgetRefunded,
    /// Nobody looks after commands whose message is lost.
    NoOrphans,
    /// A command whose message is lost is told as failed without an inquiry.
    FailOrphans,
    /// A refund that a ledger has forgotten is started at once.
    NoCautionAfterFailover,
    /// A command that a ledger knows as it was before is taken up as if that were all.
    TrustRewound,
    /// The counter in the broker does not know what was committed in the last second, and no worker
    /// was there when the ledger forgot that.
    RegisterLags,
    /// What a worker holds is not written back to a ledger that has forgotten it.
    NoWriteBack,
    /// A refund that an adopted ledger does not know is started at once.
    AdoptWithoutCaution,
    /// A worker consumes whatever its ledger is.
    NoPairing,
}

/// What may happen in one run of the model checker, and how often.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scenario {
    pub(super) name: &'static str,
    /// How many commands there are, all of them refunds.
    pub(super) commands: u8,
    /// Of how many tids.
    pub(super) tids: u8,
    /// How many copies of the first one upstream sends.
    pub(super) copies: u8,
    /// How many deliveries are dealt with at a time.
    pub(super) slots: u8,
    /// Whether they share a process: they die together, and their claims with them.
    pub(super) one_process: bool,
    /// Whether each has a ledger of its own.
    pub(super) own_ledgers: bool,
    /// By how many seconds the last one's wall clock is ahead of true time.
    pub(super) ahead: i32,
    /// By how many seconds a wall clock may be set.
    pub(super) steps: &'static [i32],
    /// Whether Eko's answers tell its time.
    pub(super) is_dated: bool,
    /// Whether whoever runs a new ledger after a loss says that it takes over.
    pub(super) is_adopted: bool,
    pub(super) faults: Faults,
    pub(super) expiry: Option<u32>,
    pub(super) preflight: bool,
    /// Whether something may come between any two things that a worker does, also where nobody
    /// else sees the first.
    pub(super) is_fine: bool,
    /// Time ends here.
    pub(super) horizon: u32,
    pub(super) mutations: &'static [Mutation],
}

impl Scenario {
    pub(super) fn has(&self, mutation: Mutation) -> bool {
        self.mutations.contains(&mutation)
    }

    /// Whether it makes no difference which slot does what.
    pub(super) const fn is_symmetric(&self) -> bool {
        self.ahead == 0 && !self.own_ledgers && (self.steps.is_empty() || self.one_process)
    }
}

/// How much may go wrong in one run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Faults {
    /// Workers die.
    pub(super) crashes: u8,
    /// Channels break while the worker lives on.
    pub(super) cuts: u8,
    /// A worker stands still in the middle of its work, as long as it likes.
    pub(super) stalls: u8,
    /// Answers are lost, whether Eko executed the call or not.
    pub(super) silences: u8,
    /// A gateway answers 403, whether Eko executed the call or not.
    pub(super) gateways: u8,
    /// A proxy sends a call twice: Eko executes the first copy and refuses the second one's
    /// timestamp.
    pub(super) resends: u8,
    /// A call is held on its way and executed as late as its signature lives, or never.
    pub(super) lates: u8,
    /// An inquiry reads what was true before.
    pub(super) stales: u8,
    /// Inquiries without a final answer.
    pub(super) blanks: u8,
    /// Calls that never leave.
    pub(super) refusals: u8,
    /// A queue refuses what is published.
    pub(super) nacks: u8,
    /// A message stays in its queue while others are delivered.
    pub(super) delays: u8,
    /// A wall clock is set.
    pub(super) steps: u8,
    /// A message vanishes from its queue.
    pub(super) purges: u8,
    /// A command is taken for an orphan while its message is there.
    pub(super) sweeps: u8,
    /// The ledger loses its last commits.
    pub(super) regressions: u8,
    /// The ledger is lost while no worker runs.
    pub(super) losses: u8,
    /// An operator pauses the kind just before an attempt begins, and resumes it.
    pub(super) pauses: u8,
    /// All of them together.
    pub(super) all: u8,
}

impl Faults {
    /// What is left once one of a sort has happened; `None` where none may happen any more.
    pub(super) fn less(mut self, sort: impl Fn(&mut Self) -> &mut u8) -> Option<Self> {
        self.all = self.all.checked_sub(1)?;
        let left = sort(&mut self);
        *left = left.checked_sub(1)?;
        if self.all == 0 {
            // One way to say that nothing is left.
            return Some(Self::default());
        }
        Some(self)
    }
}

/// Short times, so that a whole life fits into some seconds of the model.
pub(super) fn policy(scenario: &Scenario) -> Policy {
    let backoff = Backoff { initial: seconds(1), max: seconds(2) };
    let unless = |mutation, length| if scenario.has(mutation) { 0 } else { length };
    Policy {
        retry: backoff,
        give_up_otp: seconds(6),
        give_up_refund: seconds(6),
        otp_resend_spacing: seconds(2),
        settle: backoff,
        settle_quiet: seconds(unless(Mutation::NoQuiet, QUIET)),
        // A suspicion is over after 5 s, by the times above.
        settle_give_up: seconds(6),
        refund_max_attempts: 2,
        preflight: scenario.preflight,
        call_timeout: seconds(CALL_TIMEOUT),
        stamp_tolerance: seconds(unless(Mutation::NoTolerance, TOLERANCE)),
    }
}

/// So many seconds of the model.
pub(super) const fn seconds(seconds: u32) -> Duration {
    Duration::from_secs(seconds as u64)
}
