//! What breaks, and how much more of it there may be.

use super::super::scenario::{Faults, Plant, Scenario};
use super::super::world::{Message, World, time};
use super::{Action, Slot};
use crate::model::Store;
use eko_core::history::Why;

impl World {
    /// What happens to one worker: a crash, a stall, a broken channel.
    pub(in super::super) fn failures(
        &self,
        scenario: &Scenario,
        followers: &mut Vec<(Action, Self)>,
    ) {
        for (slot, busy) in self.slots.iter().enumerate() {
            if busy.is_idle() {
                continue;
            }
            if let Some(left) = self.left(|left| &mut left.crashes) {
                let mut world = Self { left, ..self.clone() };
                world.crash(scenario, slot);
                followers.push((Action::Crash { slot }, world));
            }
            if let Some(left) = self.left(|left| &mut left.stalls).filter(|_| !busy.is_stalled) {
                let mut world = Self { left, ..self.clone() };
                world.slots[slot].is_stalled = true;
                followers.push((Action::Stall { slot }, world));
            }
            let can_be_cut = !busy.is_cut && busy.message.is_some();
            if let Some(left) = self.left(|left| &mut left.cuts).filter(|_| can_be_cut) {
                let mut world = Self { left, ..self.clone() };
                world.hand_back(slot);
                world.slots[slot].is_cut = true;
                followers.push((Action::Cut { slot }, world));
            }
        }
    }

    /// What happens to what they share: clocks, queues and ledger.
    pub(in super::super) fn disasters(
        &self,
        scenario: &Scenario,
        followers: &mut Vec<(Action, Self)>,
    ) {
        self.clock_steps(scenario, followers);
        if let Some(left) = self.left(|left| &mut left.purges) {
            for (at, &message) in self.messages.iter().enumerate() {
                if self.messages[..at].contains(&message) {
                    continue;
                }
                let mut world = Self { left, ..self.clone() };
                world.messages.remove(at);
                world.purged[usize::from(message.command)] = true;
                world.give_up_what_is_gone();
                followers.push((Action::Purge { message }, world));
            }
        }
        self.failovers(scenario, followers);
        let is_quiet = self.slots.iter().all(Slot::is_idle);
        if let Some(left) = self.left(|left| &mut left.losses).filter(|_| is_quiet) {
            let mut world = Self { left, has_forgotten: true, ..self.clone() };
            world.stores[0] = Store::default();
            if scenario.is_adopted && !scenario.has(Plant::AdoptWithoutCaution) {
                world.stores[0].beware(Why::LedgerAdopted, time(self.now.into()));
            }
            world.give_up_what_is_gone();
            followers.push((Action::LoseLedger, world));
        }
    }

    fn clock_steps(&self, scenario: &Scenario, followers: &mut Vec<(Action, Self)>) {
        let Some(left) = self.left(|left| &mut left.steps) else { return };
        for &by in scenario.steps {
            for slot in 0..if scenario.one_process { 1 } else { self.slots.len() } {
                let mut world = Self { left, ..self.clone() };
                match scenario.one_process {
                    true => world.offsets.iter_mut().for_each(|offset| *offset += by),
                    false => world.offsets[slot] += by,
                }
                followers.push((Action::SetClock { slot, by }, world));
            }
        }
    }

    /// The ledger is as it was one or two commits ago. Whoever works notices: the server's
    /// timeline is another one. A worker that starts after it compares the counter in the broker.
    fn failovers(&self, scenario: &Scenario, followers: &mut Vec<(Action, Self)>) {
        let Some(left) = self.left(|left| &mut left.regressions) else { return };
        for (commits, (lost, store)) in self.stores[0].pasts().enumerate() {
            let mut world = Self { left, has_forgotten: true, ..self.clone() };
            world.stores[0] = store;
            world.give_up_what_is_gone();
            if scenario.has(Plant::RegisterLags) {
                let now = time(self.now.into());
                if lost == now && self.slots.iter().all(Slot::is_idle) {
                    world.lives.iter_mut().for_each(|life| *life += 1);
                    followers.push((Action::Forget { commits, is_noticed: false }, world.clone()));
                }
            }
            if !scenario.has(Plant::NoCautionAfterFailover) {
                world.stores[0].beware(Why::LedgerForgot, time(self.now.into()));
            }
            followers.push((Action::Forget { commits, is_noticed: true }, world));
        }
    }

    /// Of a command whose message vanished before anything else knew of it, nothing can come any
    /// more; likewise if its row vanished, too. So it is if it had ended and was not told yet.
    fn give_up_what_is_gone(&mut self) {
        for command in 0..u8::try_from(self.commands.len()).unwrap() {
            let at = usize::from(command);
            if self.purged[at] && self.told[at].is_none() && !self.is_kept(command) {
                self.gone[at] = true;
            }
        }
    }

    /// What is left once one more of a sort has happened.
    pub(super) fn left(&self, sort: impl Fn(&mut Faults) -> &mut u8) -> Option<Faults> {
        self.left.less(sort)
    }

    fn crash(&mut self, scenario: &Scenario, slot: usize) {
        let dead = if scenario.one_process { 0..self.slots.len() } else { slot..slot + 1 };
        for slot in dead {
            self.hand_back(slot);
            self.slots[slot] = Slot::default();
            self.lives[slot] += 1;
        }
        if scenario.one_process {
            self.epoch += 1 << 32;
        }
    }

    /// The broker delivers again what was not acknowledged.
    fn hand_back(&mut self, slot: usize) {
        let busy = &self.slots[slot];
        if let Some(message) = busy.message.filter(|_| !busy.is_cut) {
            self.messages.push(Message { redelivered: true, due: 0, ..message });
        }
    }
}
