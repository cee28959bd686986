//! A worker of the model: it goes the way that `order` says, as the journey does for real.
//!
//! In a scenario that is not fine, what a worker does between two accesses of the ledger, or of
//! anything else that others see, happens at once: nothing can come between that could not as well
//! have come before.

use std::rc::Rc;

use jiff::Timestamp;

use super::mutation;
use super::scenario::{LEASE, Mutation, Scenario, policy, seconds};
use super::slot::{Known, Slot};
use super::world::{Message, World, id};
use crate::ClaimedCommand;
use eko_core::clock::{Now, Stamp};
use eko_core::command::Kind;
use eko_core::decision::Task;
use eko_core::event::{About, Event};
use eko_core::order::{self, Conditions, Deciding, Delivered, Finishing, Order, Placed};
use eko_core::trace::Trace;

impl World {
    /// A message is delivered.
    pub(super) fn deliver(&mut self, scenario: &Scenario, slot: usize, message: Message) {
        let at = self.messages.iter().position(|it| *it == message).unwrap();
        self.messages.remove(at);
        let command = &self.commands[usize::from(message.command)];
        let task = Task::of(command);
        let delivered = Delivered {
            parked: message.parked,
            attempts: message.attempts,
            is_redelivered: message.redelivered,
            age: message.age.map(|age| order::CopyAge {
                first_received: Timestamp::from_millisecond(age.first_received).unwrap(),
                proven: seconds(age.proven),
            }),
            refused: message.refused,
            expiry: command.expiry,
        };
        let now = self.clocks(scenario, slot);
        let order = Order::receive(task, delivered, &policy(scenario), now);
        let command = message.command;
        self.slots[slot] = Slot { message: Some(message), command, ..Slot::default() };
        self.go_on(scenario, slot, order);
    }

    /// A command is taken for one without a message.
    pub(super) fn sweep(&mut self, scenario: &Scenario, slot: usize, command: u8) {
        if !self.is_orphan(scenario, slot, command) {
            self.left = self.left(|left| &mut left.sweeps).unwrap();
        }
        self.slots[slot] = Slot { is_orphan: true, command, ..Slot::default() };
        self.go_on(scenario, slot, Order::settle_orphan(Some(Kind::Refund)));
    }

    /// A worker does what its order says.
    pub(super) fn step(&mut self, scenario: &Scenario, slot: usize) {
        let order = self.take(slot);
        self.go_on(scenario, slot, order);
    }

    /// The kind is paused: what would call waits.
    pub(super) fn hold_back(&mut self, scenario: &Scenario, slot: usize) {
        let (policy, now) = (policy(scenario), self.clocks(scenario, slot));
        let conditions = Conditions { policy: &policy, now, jitter: 0.5 };
        if let Order::Acquire(acquiring) = self.take(slot) {
            self.keep(slot, acquiring.held_back(&conditions));
        }
    }

    /// What a worker does next; it is no longer that.
    pub(super) fn take(&mut self, slot: usize) -> Order<ClaimedCommand> {
        let next = self.slots[slot].next.take().unwrap();
        match Rc::try_unwrap(next) {
            Ok(known) => known.order,
            Err(shared) => shared.order.clone(),
        }
    }

    pub(super) fn keep(&mut self, slot: usize, order: Order<ClaimedCommand>) {
        self.slots[slot].next = Some(Known::new(order));
    }

    /// Does what can go one way only, up to the first thing that others see and to what may go in
    /// several ways.
    fn go_on(&mut self, scenario: &Scenario, slot: usize, mut order: Order<ClaimedCommand>) {
        let mut is_seen = false;
        loop {
            is_seen |= matches!(
                order,
                Order::Claim(_)
                    | Order::Begin(_)
                    | Order::Note(_)
                    | Order::Finish(_)
                    | Order::ParkRefused(_)
                    | Order::Acknowledge(_)
                    | Order::Requeue(_)
                    | Order::NoteParked(_)
                    | Order::NotePublished(_)
            );
            order = match self.do_it(scenario, slot, order) {
                Some(Order::End(_)) | None => return self.slots[slot] = Slot::default(),
                Some(order) => order,
            };
            if self.waits(scenario, &order, is_seen) {
                return self.keep(slot, order);
            }
        }
    }

    /// Whether what is next is an action of its own.
    fn waits(&self, scenario: &Scenario, order: &Order<ClaimedCommand>, is_seen: bool) -> bool {
        match order {
            Order::Decide(_)
            | Order::Call(_)
            | Order::Inquire(_)
            | Order::Publish(_)
            | Order::Park(_) => true,
            Order::Enter(_) | Order::Wait(_) | Order::End(_) => false,
            Order::Acquire(_) => scenario.is_fine || self.may_hold_back(order),
            Order::Stamp(_) => scenario.is_fine,
            Order::Claim(_)
            | Order::Begin(_)
            | Order::Note(_)
            | Order::Finish(_)
            | Order::ParkRefused(_)
            | Order::Acknowledge(_)
            | Order::Requeue(_)
            | Order::NoteParked(_)
            | Order::NotePublished(_) => is_seen || scenario.is_fine,
        }
    }

    /// Brings one effect about; nothing follows where the channel is gone that it needs.
    fn do_it(
        &mut self,
        scenario: &Scenario,
        slot: usize,
        order: Order<ClaimedCommand>,
    ) -> Option<Order<ClaimedCommand>> {
        let now = self.clocks(scenario, slot);
        Some(match order {
            Order::Enter(entering) => {
                let order = entering.entered();
                if scenario.is_fine {
                    self.draw_up(scenario, slot, &order);
                }
                order
            }
            Order::Claim(claiming) => {
                let request = match self.slots[slot].request.take() {
                    Some(request) => request,
                    None => Rc::new(self.ask_for(scenario, slot, &claiming)),
                };
                let claim = self.request(scenario, slot, &request);
                claiming.claimed(mutation::claim(scenario, &self.slots[slot], claim, self.now))
            }
            Order::Decide(deciding) => self.decide(scenario, slot, deciding),
            Order::Acquire(acquiring) => acquiring.acquired(),
            Order::Stamp(stamping) => {
                self.slots[slot].began = self.now;
                stamping.stamped(stamp(now), now)
            }
            Order::Begin(beginning) => {
                let sharing = self.sharing(scenario, slot);
                let (store, lease) = (self.store(slot), seconds(LEASE));
                let held = store.begin::<super::Hasher>(&beginning.claim, lease, sharing);
                if beginning.next == order::Next::Inquiry {
                    self.slots[slot].began = self.now;
                }
                beginning.begun(mutation::held(scenario, held, Mutation::CallWithoutClaim))
            }
            Order::Note(noting) => self.note(scenario, slot, noting),
            Order::Finish(finishing) => self.finish(scenario, slot, finishing),
            Order::Wait(waiting) => {
                waiting.decided(&Conditions { policy: &policy(scenario), now, jitter: 0.5 })
            }
            order => self.settle(scenario, slot, order)?,
        })
    }

    /// The end of a delivery.
    fn settle(
        &mut self,
        scenario: &Scenario,
        slot: usize,
        order: Order<ClaimedCommand>,
    ) -> Option<Order<ClaimedCommand>> {
        Some(match order {
            Order::ParkRefused(parking) => {
                let message = self.slots[slot].message?;
                self.messages.push(Message {
                    attempts: message.seen(1),
                    redelivered: false,
                    refused: Some(parking.published.refused),
                    due: self.now + 1,
                    ..message
                });
                parking.parked(Placed::Yes)
            }
            Order::Acknowledge(acknowledging) => {
                self.ack(slot)?;
                acknowledging.acknowledged()
            }
            Order::Requeue(requeuing) => {
                self.hand_back(slot);
                self.ack(slot)?;
                requeuing.requeued()
            }
            Order::NoteParked(noting) => {
                self.note_parked(scenario, slot, noting.parked);
                noting.noted()
            }
            Order::NotePublished(noting) => {
                let (sharing, command) = (self.sharing(scenario, slot), self.slots[slot].command);
                self.store(slot).told::<super::Hasher>(id(command), sharing);
                noting.noted()
            }
            order => order,
        })
    }

    fn decide(
        &self,
        scenario: &Scenario,
        slot: usize,
        mut deciding: Deciding<ClaimedCommand>,
    ) -> Order<ClaimedCommand> {
        mutation::evidence(scenario, &mut deciding.claim.history);
        let (policy, now) = (policy(scenario), self.clocks(scenario, slot));
        deciding.decided(&Conditions { policy: &policy, now, jitter: 0.5 })
    }

    fn note(
        &mut self,
        scenario: &Scenario,
        slot: usize,
        noting: order::Noting<ClaimedCommand>,
    ) -> Order<ClaimedCommand> {
        let sharing = self.sharing(scenario, slot);
        let wait = (noting.due_in(), noting.unsettled);
        let held = self.store(slot).note::<super::Hasher>(&noting.claim, wait, sharing);
        let order = noting.noted(held);
        if let Order::Park(parking) = &order
            && scenario.has(Mutation::DropBeforeConfirm)
        {
            self.note_parked(scenario, slot, parking.copy.parked);
        }
        order
    }

    fn finish(
        &mut self,
        scenario: &Scenario,
        slot: usize,
        finishing: Finishing<ClaimedCommand>,
    ) -> Order<ClaimedCommand> {
        let Finishing { claim, outcome, ending } = finishing;
        let about = About {
            command_id: &claim.id,
            event_id: &claim.id,
            kind: Some(Kind::Refund),
            subject: None,
            correlation_id: None,
            attempts: claim.history.attempts(),
            trace: &Trace::new(1),
            span: 1,
        };
        let event = Event::new(&about, &outcome, self.clocks(scenario, slot).wall);
        let sharing = self.sharing(scenario, slot);
        let end = (&event, ending.is_untold());
        let held = self.store(slot).finish::<super::Hasher>(&claim, end, sharing);
        ending.finished(mutation::held(scenario, held, Mutation::TellWithoutClaim), event)
    }

    fn note_parked(&mut self, scenario: &Scenario, slot: usize, parked: u32) {
        let (sharing, command) = (self.sharing(scenario, slot), self.slots[slot].command);
        self.store(slot).parked::<super::Hasher>(id(command), parked, sharing);
    }
}

/// A timestamp that is drawn now.
pub(super) fn stamp(now: Now) -> Stamp {
    Stamp { at: now.wall.as_millisecond(), lead: 0 }
}
