//! What a worker of the model gives the broker: events, copies, acknowledgements.

use std::time::Duration;

use super::promise::Broken;
use super::scenario::{Mutation, Scenario};
use super::slot::Slot;
use super::world::{CopyAge, Message, World, fingerprint, numbered};
use eko_core::event::Event;
use eko_core::order::{Copy, Order, Owed, Placed};

impl World {
    /// An acknowledgement on a channel that is gone is an error, and ends the work.
    pub(super) fn ack(&mut self, slot: usize) -> Option<()> {
        let busy = &mut self.slots[slot];
        busy.message = None;
        let is_cut = busy.is_cut;
        // The copy that replaces it may have vanished meanwhile.
        self.give_up_what_is_gone();
        (!is_cut).then_some(())
    }

    /// A mutation: acknowledged before what follows from it is safe.
    pub(super) fn ack_too_soon(&mut self, slot: usize) {
        if self.ack(slot).is_none() {
            self.slots[slot] = Slot::default();
        }
    }

    /// Whether a mutation acknowledges before the event is confirmed.
    pub(super) fn acks_too_soon(&self, scenario: &Scenario, slot: usize) -> bool {
        scenario.has(Mutation::AckBeforeConfirm) && self.slots[slot].message.is_some()
    }

    /// Publishes what is owed, but for what the broker refuses.
    pub(super) fn publish(&mut self, slot: usize, refused: Owed) {
        let Order::Publish(publishing) = self.take(slot) else { return };
        if !refused.is_nothing() {
            self.left = self.left(|left| &mut left.nacks).unwrap();
        }
        let (event, owed) = (&publishing.event, publishing.owed);
        let command = numbered(&event.command_id);
        if owed.event && !refused.event {
            self.tell(command, event);
        }
        // Of an orphan there is nothing to put where a person looks; its event has to do.
        let is_orphan = self.slots[slot].is_orphan;
        self.buried[usize::from(command)] |= owed.dead_letter && !refused.dead_letter || is_orphan;
        self.keep(slot, publishing.published(refused));
    }

    fn tell(&mut self, command: u8, event: &Event) {
        let print = fingerprint(event);
        let before = self.told[usize::from(command)].replace(print);
        // Only the ledger can say the same again.
        if before.is_some_and(|before| before != print) && !self.has_forgotten {
            self.broken = Some(Broken::TwoOutcomes);
        }
        if let Err(broken) = self.is_true(command, Some(event.outcome)) {
            self.broken = Some(broken);
        }
    }

    /// Puts a copy into a retry queue, unless that takes none.
    pub(super) fn park(&mut self, slot: usize, placed: Placed) {
        let Order::Park(parking) = self.take(slot) else { return };
        let message = self.slots[slot].message.unwrap();
        match placed {
            Placed::Yes => self.messages.push(parked(message, &parking.copy, self.now)),
            Placed::No | Placed::Left => self.left = self.left(|left| &mut left.nacks).unwrap(),
        }
        self.keep(slot, parking.parked(placed));
    }
}

/// The copy of a message that is parked.
fn parked(message: Message, copy: &Copy, now: u32) -> Message {
    let waited = whole(copy.delay);
    Message {
        parked: copy.parked,
        attempts: message.seen(copy.attempts),
        redelivered: false,
        due: now + waited,
        is_held: false,
        age: copy.age.map(|age| CopyAge {
            first_received: age.first_received.as_millisecond(),
            proven: whole(age.proven),
            waited,
        }),
        ..message
    }
}

/// A duration in seconds of the model.
fn whole(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap()
}
