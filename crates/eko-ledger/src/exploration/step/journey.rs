//! A worker's own steps, in the order of `worker.rs` and `worker/settle.rs`.

use std::rc::Rc;
use std::time::Duration;

use super::super::scenario::{LEASE, Plant, Scenario, policy, seconds};
use super::super::world::{Message, World, id, time};
use super::{Action, At, Known, News, Slot};
use crate::model::{Sharing, token};
use crate::{Ask, Claim, Waited};
use eko_core::clock::{Now, Stamp};
use eko_core::decision::{self, Step, Task, Turn};
use eko_core::event::Event;
use eko_core::history::History;
use eko_core::outcome::{ConfirmedBy, Outcome};

impl World {
    /// Each kind of message that is due, to a slot that is free.
    pub(in super::super) fn deliveries(
        &self,
        scenario: &Scenario,
        followers: &mut Vec<(Action, Self)>,
    ) {
        for (at, &message) in self.messages.iter().enumerate() {
            if message.due > self.now || self.messages[..at].contains(&message) {
                continue;
            }
            if message.is_held {
                let mut world = self.clone();
                world.messages[at].is_held = false;
                followers.push((Action::Release { message }, world));
                continue;
            }
            if let Some(left) = self.left(|left| &mut left.delays) {
                let mut world = Self { left, ..self.clone() };
                world.messages[at].is_held = true;
                followers.push((Action::Hold { message }, world));
            }
            let bounced = self.left(|left| &mut left.crashes).filter(|_| !message.redelivered);
            if let Some(left) = bounced {
                let mut world = Self { left, ..self.clone() };
                world.messages[at].redelivered = true;
                followers.push((Action::Bounce { message }, world));
            }
            for slot in self.free(scenario) {
                let mut world = self.clone();
                world.messages.remove(at);
                world.slots[slot] = Slot { message: Some(message), ..Slot::default() };
                world.claim(scenario, slot, message);
                followers.push((Action::Claim { slot, message }, world));
            }
        }
    }

    /// What `Worker::ask_for` says of a message.
    fn ask_for(&self, scenario: &Scenario, slot: usize, message: Message) -> Ask {
        let command = &self.commands[usize::from(message.command)];
        let now = self.clocks(scenario, slot);
        let (history, policy) = (History::new(now), policy(scenario));
        let first = decision::decide(Task::of(command), &history, &policy, Turn::Ready, 0.5, now);
        let was_seen = message.redelivered || message.attempts > 0;
        Ask {
            tid: command.tid().map(str::to_owned),
            digest: Some("d".to_owned()),
            parked: message.parked,
            waited: self.waited(scenario, slot, message),
            is_suspect: was_seen && !scenario.has(Plant::TrustRedelivered),
            has_expired: command.expiry.is_some_and(|expiry| now.wall >= expiry),
            stamp: (first == Step::Attempt).then(|| stamp(now)),
            ..Ask::known(&command.id, command.kind().as_str(), now, seconds(LEASE))
        }
    }

    /// What a copy that comes back proves.
    fn waited(&self, scenario: &Scenario, slot: usize, message: Message) -> Option<Waited> {
        let age = message.age?;
        let first_received = jiff::Timestamp::from_millisecond(age.first_received).unwrap();
        let mut proven = seconds(age.proven);
        if scenario.has(Plant::TtlCountsTwice) {
            let now = self.clocks(scenario, slot);
            let known = self.stores[0].age(id(message.command), now);
            proven = known.map_or(proven, |known| known.proven + seconds(age.waited));
        }
        Some(Waited { first_received, age: proven })
    }

    /// Asks the ledger for a command.
    pub(super) fn ask(&mut self, scenario: &Scenario, slot: usize, ask: &Ask) -> Claim {
        let (token, sharing) = (self.new_token(), self.sharing(scenario, slot));
        self.store(slot).claim::<super::Mixer>(ask, token, sharing)
    }

    /// Who shares a slot's ledger, and what time it is there.
    pub(super) fn sharing(&self, scenario: &Scenario, slot: usize) -> Sharing {
        let by_wall = scenario.has(Plant::LeaseByWallClock);
        Sharing {
            process: scenario.one_process.then_some(self.epoch),
            now: time(if by_wall { self.wall(slot) } else { self.now.into() }),
            has_no_tid_lock: scenario.has(Plant::NoTidLock),
            forgets_refunded: scenario.has(Plant::ForgetRefunded),
            trusts_rewound: scenario.has(Plant::TrustRewound),
            has_no_write_back: scenario.has(Plant::NoWriteBack),
        }
    }

    /// `Worker::handle_command`: ask the ledger, and see what it says.
    fn claim(&mut self, scenario: &Scenario, slot: usize, message: Message) {
        let ask = self.ask_for(scenario, slot, message);
        let claimed = |case, turn| At::Claimed { known: Known::new(case), turn };
        self.slots[slot].at = match self.ask(scenario, slot, &ask) {
            Claim::Fresh(case) if case.history.in_flight() => {
                At::Begun { known: Known::new(case), began: self.now }
            }
            Claim::Fresh(case) | Claim::Due(case) => claimed(case, Turn::Ready),
            Claim::Interrupted(mut case) => {
                if scenario.has(Plant::InterruptedAsFresh) && case.history.in_flight() {
                    case.history.entries.pop();
                }
                claimed(case, Turn::Ready)
            }
            Claim::Refunded(case, receipt) => {
                let confirmed_by = ConfirmedBy::Ledger;
                let outcome = Outcome::Succeeded { confirmed_by, receipt, answer: None };
                At::Ending { known: Known::new(case), outcome: Rc::new(outcome) }
            }
            Claim::Busy { wait } => return self.park_busy(scenario, slot, wait),
            Claim::Early { wait } => return self.park_copy(slot, message.parked, whole(wait)),
            Claim::Stale => At::Stale,
            Claim::Finished { event, is_untold } => {
                let needs_a_person = matches!(event.outcome.as_str(), "failed" | "unresolved");
                let bury = needs_a_person && (is_untold || message.redelivered);
                At::Finished(News::new(self.replayed(scenario, *event), bury))
            }
            Claim::Conflict | Claim::Unknown => unreachable!("copies of one command are alike"),
        };
    }

    fn replayed(&self, scenario: &Scenario, mut event: Event) -> Event {
        if scenario.has(Plant::NewEventEachTime) {
            event.body.extend(self.now.to_be_bytes());
        }
        event
    }

    /// A token that nobody holds: which one makes no difference.
    fn new_token(&self) -> u64 {
        let of_slots = self.slots.iter().filter_map(Slot::known).map(|known| token(&known.case));
        let of_stores = self.stores.iter().flat_map(|store| store.tokens());
        let held: Vec<u64> = of_stores.chain(of_slots).collect();
        (1..).map(|n| self.epoch | n).find(|token| !held.contains(token)).unwrap()
    }

    /// One step of each worker, in each way that it may go.
    pub(in super::super) fn steps(&self, scenario: &Scenario, followers: &mut Vec<(Action, Self)>) {
        for (slot, busy) in self.slots.iter().enumerate() {
            let mut push = |action, step: &dyn Fn(&mut Self)| {
                let mut world = self.clone();
                step(&mut world);
                followers.push((action, world));
            };
            match &busy.at {
                _ if busy.is_stalled => {
                    push(Action::Wake { slot }, &|world| world.slots[slot].is_stalled = false);
                }
                At::Claimed { known, turn } => push(Action::Decide { slot }, &|world| {
                    world.decide(scenario, slot, &known.case, *turn);
                }),
                At::Ending { known, outcome } => push(Action::Decide { slot }, &|world| {
                    world.conclude(scenario, slot, &known.case, outcome);
                }),
                At::Begun { known, began } => {
                    for eko in self.calls(scenario, slot, known, *began) {
                        push(Action::Call { slot, eko }, &|world| {
                            world.call(scenario, slot, (known, *began), eko);
                        });
                    }
                }
                At::Called { known, eko, .. } => push(Action::Answer { slot }, &|world| {
                    world.answer(scenario, slot, known, *eko);
                }),
                At::Inquiring { known, began } => {
                    for reads in self.readings(*began) {
                        push(Action::Inquire { slot, reads }, &|world| {
                            world.inquire(scenario, slot, (known, *began), reads);
                        });
                    }
                }
                other => self.tail(scenario, slot, other, push),
            }
        }
    }

    /// What follows once the ledger knows what comes next: confirm, then ack.
    fn tail(
        &self,
        scenario: &Scenario,
        slot: usize,
        at: &At,
        mut push: impl FnMut(Action, &dyn Fn(&mut Self)),
    ) {
        match at {
            At::Noted { copy, is_case } => push(Action::Park { slot }, &|world| {
                world.messages.push(*copy);
                world.slots[slot].at = At::ParkedConfirmed { copy: *copy, is_case: *is_case };
            }),
            At::ParkedConfirmed { copy, is_case } => push(Action::Ack { slot }, &|world| {
                let then = At::ParkedAcked { copy: *copy };
                world.ack(slot, if *is_case { then } else { At::Idle });
            }),
            At::ParkedAcked { copy } => push(Action::NoteParked { slot }, &|world| {
                world.note_parked(slot, copy.command, copy.parked);
                world.slots[slot] = Slot::default();
            }),
            At::Finished(news) if scenario.has(Plant::AckBeforeConfirm) => {
                push(Action::Ack { slot }, &|world| {
                    world.ack(slot, At::AckedTooSoon(Rc::clone(news)));
                });
            }
            At::Finished(news) => push(Action::Tell { slot }, &|world| {
                world.tell(slot, news);
                world.slots[slot].at = At::EventConfirmed;
            }),
            At::EventConfirmed | At::Stale => push(Action::Ack { slot }, &|world| {
                world.ack(slot, At::Idle);
            }),
            At::AckedTooSoon(news) => push(Action::Tell { slot }, &|world| {
                world.tell(slot, news);
                world.slots[slot] = Slot::default();
            }),
            At::Idle
            | At::Claimed { .. }
            | At::Ending { .. }
            | At::Begun { .. }
            | At::Called { .. }
            | At::Inquiring { .. } => {}
        }
    }
}

/// A timestamp that is drawn now.
pub(super) fn stamp(now: Now) -> Stamp {
    Stamp { at: now.wall.as_millisecond(), age: Duration::ZERO }
}

/// A duration in seconds of the model.
pub(super) fn whole(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap()
}
