//! One state of the model: ledgers, broker, Eko, clocks and workers, and what must hold in it.

use std::hash::{Hash, Hasher};
use std::rc::Rc;
use std::time::Duration;

use jiff::Timestamp;

use crate::model::Store;
use eko_core::clock::Now;
use eko_core::command::{self, Command, Defaults};
use eko_core::event::Event;
use eko_core::order::Owed;

use super::promise::Broken;
use super::scenario::{Faults, Mutation, QUIET, Scenario, TOLERANCE, seconds};
use super::slot::Slot;

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
    /// What the broker has refused of its command's end, if it waits for that.
    pub(super) refused: Option<Owed>,
}

/// How old a command was at least when its copy was parked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct CopyAge {
    /// When it was first received, in milliseconds on the calendar.
    pub(super) first_received: i64,
    pub(super) proven: u32,
    /// For how long the broker has kept the copy since.
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

/// What Eko knows.
#[derive(Clone, Debug, Default)]
pub(super) struct Eko {
    /// How often each command's calls were executed.
    pub(super) executed: [u8; MOST],
    /// When that was first for each tid.
    pub(super) refunded_at: [Option<u32>; MOST],
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
    /// How many tids the commands are for.
    pub(super) tids: u8,
    pub(super) told: [Option<u64>; MOST],
    pub(super) buried: [bool; MOST],
    /// Whose messages vanished, all or some.
    pub(super) purged: [bool; MOST],
    /// Of which nothing is left that the worker could know of.
    pub(super) gone: [bool; MOST],
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
            refused: None,
        };
        let copies = (0..scenario.copies).map(|_| message(0));
        let mut offsets = vec![0; scenario.slots.into()];
        *offsets.last_mut().unwrap() = scenario.ahead;
        let ledgers = if scenario.own_ledgers { scenario.slots } else { 1 };
        Self {
            commands: (0..scenario.commands).map(|at| command(at, scenario)).collect(),
            now: 0,
            offsets,
            stores: vec![Store::default(); ledgers.into()],
            epoch: 1 << 32,
            lives: vec![0; scenario.slots.into()],
            messages: copies.chain((1..scenario.commands).map(message)).collect(),
            slots: vec![Slot::default(); scenario.slots.into()],
            eko: Eko::default(),
            tids: scenario.tids,
            told: [None; MOST],
            buried: [false; MOST],
            purged: [false; MOST],
            gone: [false; MOST],
            left: scenario.faults,
            has_forgotten: false,
            is_symmetric: scenario.is_symmetric(),
            broken: None,
        }
    }

    /// What the clocks of a slot's process say.
    pub(super) fn clocks(&self, scenario: &Scenario, slot: usize) -> Now {
        let wall = self.wall(slot);
        if scenario.has(Mutation::WallClockMeasures) {
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

    /// The same, to look at.
    pub(super) fn store_of(&self, slot: usize) -> &Store {
        &self.stores[slot.min(self.stores.len() - 1)]
    }

    /// Slots that are free for a delivery or a sweep; of those that are alike, one.
    pub(super) fn free<'a>(&'a self, scenario: &'a Scenario) -> impl Iterator<Item = usize> + 'a {
        let consumes = |slot| {
            // The prefix is paired with the first ledger.
            slot == 0 || !scenario.own_ledgers || scenario.has(Mutation::NoPairing)
        };
        let free =
            (0..self.slots.len()).filter(move |&slot| self.slots[slot].is_idle() && consumes(slot));
        free.take(if scenario.is_symmetric() { 1 } else { usize::MAX })
    }

    /// A second passes once nobody has anything to do at once.
    pub(super) fn may_tick(&self, scenario: &Scenario) -> bool {
        let is_busy = || {
            self.slots.iter().any(|slot| slot.is_at_work(self.now))
                || self.free(scenario).next().is_some()
                    && (self.messages.iter().any(|message| message.is_ready(self.now))
                        || self.has_orphan(scenario))
        };
        self.now < scenario.horizon && !self.is_done(scenario) && !is_busy()
    }

    /// Changes one of those messages that are alike.
    pub(super) fn change(&mut self, message: Message, change: impl FnOnce(&mut Message)) {
        let found = self.messages.iter_mut().find(|it| **it == message).unwrap();
        change(found);
    }
}

impl Hash for World {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let commands = ..self.commands.len();
        (self.now, self.epoch, &self.lives, &self.offsets, &self.told[commands]).hash(state);
        (&self.buried[commands], &self.purged[commands], &self.gone[commands]).hash(state);
        (self.left, self.has_forgotten).hash(state);
        self.stores.hash(state);
        (&self.eko.executed[commands], &self.eko.late).hash(state);
        self.eko.refunded_at[..usize::from(self.tids)].hash(state);
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

/// Commands at the most.
pub(super) const MOST: usize = 6;

/// The commands' ids.
const IDS: [&str; MOST] = ["a", "b", "c", "d", "e", "f"];

/// The tids that they are for.
const TIDS: [&str; MOST] = ["13192443", "13192444", "13192445", "13192446", "13192447", "13192448"];

/// A command's id.
pub(super) fn id(command: u8) -> &'static str {
    IDS[usize::from(command)]
}

/// The command with an id.
pub(super) fn numbered(id: &str) -> u8 {
    let at = IDS.iter().position(|it| *it == id).unwrap();
    u8::try_from(at).unwrap()
}

/// The transaction that a command is for.
pub(super) fn tid(command: u8, scenario: &Scenario) -> &'static str {
    TIDS[usize::from(command % scenario.tids)]
}

/// A command, read from a message.
fn command(command: u8, scenario: &Scenario) -> Command {
    let expiry = scenario.expiry.map(|at| format!(r#""expirytime":"{}","#, time(at.into())));
    let expiry = expiry.unwrap_or_default();
    let body = format!(
        r#"{{"id":"{}",{expiry}"type":"eko.refund.request","data":{{"tid":"{}",
            "otp":"123456","user_code":"20810200","initiator_id":"9962981729"}}}}"#,
        id(command),
        tid(command, scenario)
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
