//! One state of the world: ledger, broker, Eko and workers, and what must hold in it.

use std::hash::{Hash, Hasher};
use std::rc::Rc;
use std::time::Duration;

use jiff::Timestamp;

use crate::clock::Now;
use crate::command::{self, Command, Defaults};
use crate::decision::later;
use crate::event::Event;
use crate::ledger::model::Store;

use super::scenario::{Faults, Scenario, seconds};
use super::step::{Action, Slot};

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
    /// What a parked copy says of the calls: never less than what the message itself showed.
    pub(super) fn seen(self, attempts: u32) -> u32 {
        attempts.max(self.attempts).max(self.redelivered.into())
    }

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
    /// How often each slot's process was started.
    pub(super) lives: Vec<u64>,
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
            lives: vec![0; scenario.slots.into()],
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

    /// What the clocks of a slot's process say.
    pub(super) fn clocks(&self, slot: usize) -> Now {
        let process = self.lives[slot] * 100 + u64::try_from(slot).unwrap();
        Now { wall: time(self.now), process, monotonic: seconds(self.now) }
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
        (self.now, self.epoch, &self.lives, self.told, self.buried).hash(state);
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
    later(start, Duration::from_secs(second.into()))
}

/// A time on the calendar as a second of the model.
pub(super) fn second(time: Timestamp) -> u32 {
    u32::try_from(time.as_second() - 1_800_000_000).unwrap()
}

/// What tells two events apart.
pub(super) fn fingerprint(event: &Event) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    (&event.id, &event.body).hash(&mut hasher);
    hasher.finish()
}
