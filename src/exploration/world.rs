//! One state of the world: ledger, broker, Eko and workers, and what must hold in it.

use std::hash::{Hash, Hasher};
use std::rc::Rc;
use std::time::Duration;

use jiff::Timestamp;

use crate::backoff::Backoff;
use crate::command::{self, Command, Defaults};
use crate::decision::{Policy, later};
use crate::event::Event;
use crate::ledger::model::Store;

use super::step::{Action, Slot};

/// `EKO_TIMEOUT`, in seconds of the model.
pub(super) const CALL_TIMEOUT: u32 = 2;
/// How long a claim lasts: longer than a call.
pub(super) const LEASE: u32 = 3;
/// `SETTLE_QUIET`: at least `EKO_TIMEOUT`, as the contract says.
pub(super) const QUIET: u32 = 2;

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

/// A message in the broker, or in a worker's hands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Message {
    pub(super) command: u8,
    pub(super) parked: u32,
    pub(super) attempts: u32,
    pub(super) redelivered: bool,
    /// The retry queue holds it until then.
    pub(super) due: u32,
    /// The broker takes its time.
    pub(super) is_held: bool,
}

impl Message {
    /// Whether it could be delivered at once.
    pub(super) fn is_ready(&self, now: u32) -> bool {
        self.due <= now && !self.is_held
    }
}

/// What Eko knows of the tid.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Eko {
    /// How often each command's calls were executed.
    pub(super) executed: [u8; 2],
    /// Calls that may still be executed: whose, and before when.
    pub(super) late: Vec<(u8, u32)>,
}

impl Eko {
    pub(super) fn is_refunded(&self) -> bool {
        self.executed.iter().any(|&times| times > 0)
    }
}

/// A promise that does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// 1: a tid was refunded twice.
    ExecutedTwice,
    /// 2: told as not executed, and it was, or may yet be.
    DeniedAnExecution,
    /// 3: told as executed, and it was not.
    SuccessWithoutExecution,
    /// 4: two different events for one command.
    TwoOutcomes,
    /// 5: neither an event nor a copy of the command is left.
    Forgotten,
    /// It needs a person and none will see it.
    NotBuried,
    /// Nothing is left to do and something is left undone.
    Unfinished,
}

/// One state.
#[derive(Clone)]
pub(super) struct World {
    /// What is asked for; the same in every state of a run.
    pub(super) commands: Rc<[Command]>,
    pub(super) now: u32,
    pub(super) store: Store,
    pub(super) epoch: u64,
    pub(super) messages: Vec<Message>,
    pub(super) slots: Vec<Slot>,
    pub(super) eko: Eko,
    pub(super) told: [Option<u64>; 2],
    pub(super) buried: [bool; 2],
    pub(super) left: Faults,
    pub(super) has_lost_ledger: bool,
    pub(super) broken: Option<Broken>,
}

impl World {
    pub(super) fn new(scenario: &Scenario) -> Self {
        let message = |command| Message {
            command,
            parked: 0,
            attempts: 0,
            redelivered: false,
            due: 0,
            is_held: false,
        };
        let copies = (0..scenario.copies).map(|_| message(0));
        Self {
            commands: (0..scenario.commands).map(|at| command(at, scenario.expiry)).collect(),
            now: 0,
            store: Store::default(),
            epoch: 1 << 32,
            messages: copies.chain((1..scenario.commands).map(message)).collect(),
            slots: vec![Slot::default(); scenario.slots.into()],
            eko: Eko::default(),
            told: [None; 2],
            buried: [false; 2],
            left: scenario.faults,
            has_lost_ledger: false,
            broken: None,
        }
    }

    /// Whether nothing is left to do.
    pub(super) fn is_done(&self) -> bool {
        self.messages.is_empty() && self.slots.iter().all(Slot::is_idle)
    }

    /// What must hold in every state.
    pub(super) fn check(&self, scenario: &Scenario) -> Result<(), Broken> {
        if let Some(broken) = self.broken {
            return Err(broken);
        }
        if self.eko.executed.iter().sum::<u8>() > 1 {
            return Err(Broken::ExecutedTwice);
        }
        for command in 0..scenario.commands {
            let at = usize::from(command);
            let outcome = self.store.outcome(id(command));
            match outcome {
                Some("succeeded") if !self.eko.is_refunded() => {
                    return Err(Broken::SuccessWithoutExecution);
                }
                Some("rejected" | "failed" | "expired") if self.may_be_executed(command) => {
                    return Err(Broken::DeniedAnExecution);
                }
                Some(_) | None => {}
            }
            if self.told[at].is_none() && !self.is_held(command) {
                return Err(Broken::Forgotten);
            }
            if !self.is_done() {
                continue;
            }
            if outcome.is_none() && !self.has_lost_ledger {
                return Err(Broken::Unfinished);
            }
            if matches!(outcome, Some("failed" | "unresolved")) && !self.buried[at] {
                return Err(Broken::NotBuried);
            }
        }
        Ok(())
    }

    /// Whether a command's own calls were executed, or one may yet be.
    fn may_be_executed(&self, command: u8) -> bool {
        self.eko.executed[usize::from(command)] > 0
            || self.eko.late.iter().any(|&(caller, _)| caller == command)
    }

    /// Whether the broker still has a copy, in a queue or not acknowledged yet.
    fn is_held(&self, command: u8) -> bool {
        self.messages.iter().any(|message| message.command == command)
            || self.slots.iter().any(|slot| slot.holds(command))
    }

    /// Everything that may happen next.
    pub(super) fn followers(&self, scenario: &Scenario) -> Vec<(Action, Self)> {
        let mut followers = Vec::new();
        self.deliveries(scenario, &mut followers);
        self.steps(scenario, &mut followers);
        self.failures(scenario, &mut followers);
        self.late_effects(&mut followers);
        self.tick(scenario, &mut followers);
        followers
    }

    fn late_effects(&self, followers: &mut Vec<(Action, Self)>) {
        for (at, &(command, _)) in self.eko.late.iter().enumerate() {
            let mut world = self.clone();
            world.eko.late.remove(at);
            world.eko.executed[usize::from(command)] += 1;
            followers.push((Action::ExecuteLate { command }, world));
        }
    }

    /// A second passes once nobody has anything to do at once.
    fn tick(&self, scenario: &Scenario, followers: &mut Vec<(Action, Self)>) {
        let is_busy = self.slots.iter().any(|slot| slot.is_at_work(self.now))
            || self.slots.iter().any(Slot::is_idle)
                && self.messages.iter().any(|message| message.is_ready(self.now));
        if self.now >= scenario.horizon || self.is_done() || is_busy {
            return;
        }
        let mut world = self.clone();
        world.now += 1;
        world.eko.late.retain(|&(_, until)| world.now < until);
        followers.push((Action::Tick, world));
    }
}

impl Hash for World {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.now, self.epoch, self.told, self.buried).hash(state);
        (self.left, self.has_lost_ledger).hash(state);
        self.store.hash(state);
        self.eko.hash(state);
        let mut messages = self.messages.clone();
        messages.sort_unstable();
        messages.hash(state);
        // Slots are alike: which of them does what makes no difference.
        let mut slots: Vec<u64> = self.slots.iter().map(Slot::digest).collect();
        slots.sort_unstable();
        slots.hash(state);
    }
}

/// A command's id.
pub(super) const fn id(command: u8) -> &'static str {
    if command == 0 { "a" } else { "b" }
}

/// A command, read from a message.
fn command(command: u8, expiry: Option<u32>) -> Command {
    let expiry = expiry.map(|at| format!(r#""expirytime":"{}","#, time(at))).unwrap_or_default();
    let body = format!(
        r#"{{"id":"{}",{expiry}"type":"eko.refund.request","data":{{"tid":"13192443",
            "otp":"123456","user_code":"20810200","initiator_id":"9962981729"}}}}"#,
        id(command)
    );
    command::parse(body.as_bytes(), None, &Defaults::default()).command.unwrap()
}

/// A second of the model on the calendar.
pub(super) fn time(second: u32) -> Timestamp {
    let start = Timestamp::from_second(1_800_000_000).unwrap();
    later(start, seconds(second))
}

/// A time on the calendar as a second of the model.
pub(super) fn second(time: Timestamp) -> u32 {
    u32::try_from(time.as_second() - 1_800_000_000).unwrap()
}

pub(super) const fn seconds(seconds: u32) -> Duration {
    Duration::from_secs(seconds as u64)
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
    }
}

/// What tells two events apart.
pub(super) fn fingerprint(event: &Event) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    (&event.id, &event.body).hash(&mut hasher);
    hasher.finish()
}
