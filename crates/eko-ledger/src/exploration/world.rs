//! One state of the world: ledgers, broker, Eko, clocks and workers, and what must hold in it.

use std::hash::{Hash, Hasher};
use std::rc::Rc;
use std::time::Duration;

use jiff::Timestamp;

use crate::model::Store;
use eko_core::clock::Now;
use eko_core::command::{self, Command, Defaults};
use eko_core::event::Event;

use super::promise::Broken;
use super::scenario::{Faults, Plant, QUIET, Scenario, TOLERANCE, seconds};
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
    /// What a parked copy proves.
    pub(super) age: Option<CopyAge>,
}

/// How old a command is at least once its parked copy comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct CopyAge {
    /// When it was first received, in milliseconds on the calendar.
    pub(super) first_received: i64,
    pub(super) proven: u32,
    /// How much of it is the last wait.
    pub(super) waited: u32,
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
    /// When that was first.
    pub(super) refunded_at: Option<u32>,
    /// Calls that may still be executed.
    pub(super) late: Vec<Late>,
}

/// A call that is held on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Late {
    pub(super) command: u8,
    /// From then on Eko accepts its signature.
    pub(super) from: i64,
    /// By then it has ended, if it was executed.
    pub(super) until: i64,
}

impl Eko {
    pub(super) fn execute(&mut self, command: u8, now: u32) {
        self.executed[usize::from(command)] += 1;
        self.refunded_at.get_or_insert(now);
    }

    /// A call with such a timestamp is on its way and nobody knows for how long.
    pub(super) fn hold(&mut self, command: u8, stamp: i64) {
        let tolerance = i64::from(TOLERANCE);
        let (from, until) = (stamp - tolerance, stamp + tolerance + i64::from(QUIET));
        self.late.push(Late { command, from, until });
    }
}

/// One state.
#[derive(Clone)]
pub(super) struct World {
    /// What is asked for; the same in every state of a run.
    pub(super) commands: Rc<[Command]>,
    /// True time, and Eko's.
    pub(super) now: u32,
    /// By how many seconds each slot's wall clock is ahead of it.
    pub(super) offsets: Vec<i32>,
    /// One, or one for each slot.
    pub(super) stores: Vec<Store>,
    pub(super) epoch: u64,
    /// How often each slot's process was started.
    pub(super) lives: Vec<u64>,
    pub(super) messages: Vec<Message>,
    pub(super) slots: Vec<Slot>,
    pub(super) eko: Eko,
    pub(super) told: [Option<u64>; 2],
    pub(super) buried: [bool; 2],
    /// Whose messages vanished, all or some.
    pub(super) purged: [bool; 2],
    /// Of which nothing is left that the worker could know of.
    pub(super) gone: [bool; 2],
    pub(super) left: Faults,
    /// A ledger has forgotten something.
    pub(super) has_forgotten: bool,
    /// It makes no difference which slot does what.
    pub(super) is_symmetric: bool,
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
            age: None,
        };
        let copies = (0..scenario.copies).map(|_| message(0));
        let mut offsets = vec![0; scenario.slots.into()];
        *offsets.last_mut().unwrap() = scenario.ahead;
        let ledgers = if scenario.own_ledgers { scenario.slots } else { 1 };
        Self {
            commands: (0..scenario.commands).map(|at| command(at, scenario.expiry)).collect(),
            now: 0,
            offsets,
            stores: vec![Store::default(); ledgers.into()],
            epoch: 1 << 32,
            lives: vec![0; scenario.slots.into()],
            messages: copies.chain((1..scenario.commands).map(message)).collect(),
            slots: vec![Slot::default(); scenario.slots.into()],
            eko: Eko::default(),
            told: [None; 2],
            buried: [false; 2],
            purged: [false; 2],
            gone: [false; 2],
            left: scenario.faults,
            has_forgotten: false,
            is_symmetric: scenario.is_symmetric(),
            broken: None,
        }
    }

    /// What the clocks of a slot's process say.
    pub(super) fn clocks(&self, scenario: &Scenario, slot: usize) -> Now {
        let wall = self.wall(slot);
        if scenario.has(Plant::WallClockMeasures) {
            let monotonic = Duration::from_secs(u64::try_from(wall + 1_000).unwrap());
            return Now { wall: time(wall), process: 0, monotonic };
        }
        let of_slot = if scenario.one_process { 0 } else { u64::try_from(slot).unwrap() };
        let process = self.lives[slot] * 100 + of_slot;
        Now { wall: time(wall), process, monotonic: seconds(self.now) }
    }

    /// What a slot's wall clock says, in seconds.
    pub(super) fn wall(&self, slot: usize) -> i64 {
        i64::from(self.now) + i64::from(self.offsets[slot])
    }

    /// The ledger that a slot has.
    pub(super) fn store(&mut self, slot: usize) -> &mut Store {
        let last = self.stores.len() - 1;
        &mut self.stores[slot.min(last)]
    }

    /// Slots that are free for a delivery or a sweep; of those that are alike, one.
    pub(super) fn free<'a>(&'a self, scenario: &'a Scenario) -> impl Iterator<Item = usize> + 'a {
        let consumes = |slot| {
            // The prefix is paired with the first ledger.
            slot == 0 || !scenario.own_ledgers || scenario.has(Plant::NoPairing)
        };
        let free =
            (0..self.slots.len()).filter(move |&slot| self.slots[slot].is_idle() && consumes(slot));
        free.take(if scenario.is_symmetric() { 1 } else { usize::MAX })
    }

    /// Everything that may happen next.
    pub(super) fn followers(&self, scenario: &Scenario) -> Vec<(Action, Self)> {
        let mut followers = Vec::new();
        self.deliveries(scenario, &mut followers);
        self.sweeps(scenario, &mut followers);
        self.steps(scenario, &mut followers);
        self.failures(scenario, &mut followers);
        self.disasters(scenario, &mut followers);
        self.late_effects(&mut followers);
        self.tick(scenario, &mut followers);
        for (_, world) in &mut followers {
            if world.left.regressions == 0 {
                world.stores.iter_mut().for_each(Store::drop_past);
            }
        }
        followers
    }

    fn late_effects(&self, followers: &mut Vec<(Action, Self)>) {
        for (at, late) in self.eko.late.iter().enumerate() {
            if i64::from(self.now) < late.from {
                continue;
            }
            let mut world = self.clone();
            world.eko.late.remove(at);
            world.eko.execute(late.command, self.now);
            followers.push((Action::ExecuteLate { command: late.command }, world));
        }
    }

    /// A second passes once nobody has anything to do at once.
    fn tick(&self, scenario: &Scenario, followers: &mut Vec<(Action, Self)>) {
        let is_busy = || {
            self.slots.iter().any(|slot| slot.is_at_work(self.now))
                || self.free(scenario).next().is_some()
                    && (self.messages.iter().any(|message| message.is_ready(self.now))
                        || self.has_orphan(scenario))
        };
        if self.now >= scenario.horizon || self.is_done(scenario) || is_busy() {
            return;
        }
        let mut world = self.clone();
        world.now += 1;
        world.eko.late.retain(|late| i64::from(world.now) < late.until);
        followers.push((Action::Tick, world));
    }
}

impl Hash for World {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.now, self.epoch, &self.lives, &self.offsets, self.told).hash(state);
        (self.buried, self.purged, self.gone, self.left, self.has_forgotten).hash(state);
        self.stores.hash(state);
        self.eko.hash(state);
        let mut messages = self.messages.clone();
        messages.sort_unstable();
        messages.hash(state);
        let mut slots: Vec<u64> = self.slots.iter().map(Slot::digest).collect();
        if self.is_symmetric {
            slots.sort_unstable();
        }
        slots.hash(state);
    }
}

/// A command's id.
pub(super) const fn id(command: u8) -> &'static str {
    if command == 0 { "a" } else { "b" }
}

/// The command with an id.
pub(super) fn numbered(id: &str) -> u8 {
    u8::from(id != self::id(0))
}

/// A command, read from a message.
fn command(command: u8, expiry: Option<u32>) -> Command {
    let expiry = expiry.map(|at| format!(r#""expirytime":"{}","#, time(at.into())));
    let expiry = expiry.unwrap_or_default();
    let body = format!(
        r#"{{"id":"{}",{expiry}"type":"eko.refund.request","data":{{"tid":"13192443",
            "otp":"123456","user_code":"20810200","initiator_id":"9962981729"}}}}"#,
        id(command)
    );
    command::parse(body.as_bytes(), None, &Defaults::default()).command.unwrap()
}

/// Second 0 of the model on the calendar.
const START: i64 = 1_800_000_000;

/// A second of the model on the calendar.
pub(super) fn time(second: i64) -> Timestamp {
    Timestamp::from_second(START + second).unwrap()
}

/// A timestamp in milliseconds as a second of the model.
pub(super) fn second(millisecond: i64) -> i64 {
    millisecond / 1_000 - START
}

/// What tells two events apart.
pub(super) fn fingerprint(event: &Event) -> u64 {
    let mut hasher = super::explorer::Mixer::default();
    (&event.id, &event.body).hash(&mut hasher);
    hasher.finish()
}
