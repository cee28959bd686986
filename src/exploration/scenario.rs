//! What may happen in one exploration: the commands, the faults, the planted bug, the settings.

use std::time::Duration;

use crate::backoff::Backoff;
use crate::decision::Policy;

/// `EKO_TIMEOUT`, in seconds of the model.
pub(super) const CALL_TIMEOUT: u32 = 2;
/// How long a claim lasts: longer than a call.
pub(super) const LEASE: u32 = 3;
/// `SETTLE_QUIET`: at least `EKO_TIMEOUT`, as the contract says.
pub(super) const QUIET: u32 = 2;

/// `EKO_STAMP_TOLERANCE`.
pub(super) const TOLERANCE: u32 = 3;

/// A bug that can be planted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plant {
    /// An interrupted command is started anew.
    InterruptedAsFresh,
    /// One reading of "refund pending" is believed.
    OneReading,
    /// "Refund pending" is believed at once.
    NoQuiet,
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
}

/// What may happen in one exploration, and how often.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scenario {
    pub(super) name: &'static str,
    /// How many commands there are, all refunds of one tid.
    pub(super) commands: u8,
    /// How many copies of the first one upstream sends.
    pub(super) copies: u8,
    /// How many deliveries are dealt with at a time.
    pub(super) slots: u8,
    /// Whether they share a process: they die together, and their claims with them.
    pub(super) one_process: bool,
    pub(super) faults: Faults,
    pub(super) expiry: Option<u32>,
    pub(super) preflight: bool,
    /// Time ends here.
    pub(super) horizon: u32,
    pub(super) plant: Option<Plant>,
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
    /// Eko executes after its answer was lost, or inquiries lag behind. Not both in one run:
    /// that is beyond what two readings and `SETTLE_QUIET` can tell.
    pub(super) anomalies: u8,
    /// Inquiries without a final answer.
    pub(super) blanks: u8,
    /// Calls that Eko refuses for now, or that never leave.
    pub(super) refusals: u8,
    /// A message stays in its queue while others are delivered.
    pub(super) delays: u8,
    /// The ledger is lost while no worker runs.
    pub(super) losses: u8,
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
    let quiet = if scenario.plant == Some(Plant::NoQuiet) { 0 } else { QUIET };
    Policy {
        retry: backoff,
        give_up_otp: seconds(6),
        give_up_refund: seconds(6),
        otp_resend_spacing: seconds(2),
        settle: backoff,
        settle_quiet: seconds(quiet),
        settle_give_up: seconds(4),
        refund_max_attempts: 2,
        preflight: scenario.preflight,
        call_timeout: seconds(CALL_TIMEOUT),
        stamp_tolerance: seconds(TOLERANCE),
    }
}

/// So many seconds of the model.
pub(super) const fn seconds(seconds: u32) -> Duration {
    Duration::from_secs(seconds as u64)
}
