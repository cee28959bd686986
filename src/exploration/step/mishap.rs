//! What breaks, and how much more of it there may be.

use super::super::scenario::{Faults, Scenario};
use super::super::world::{Message, World};
use super::{Action, Slot};
use crate::ledger::model::Store;

impl World {
    /// A crash, a stall, a broken channel or a lost ledger.
    pub(in super::super) fn failures(
        &self,
        scenario: &Scenario,
        followers: &mut Vec<(Action, Self)>,
    ) {
        for (slot, busy) in self.slots.iter().enumerate() {
            if busy.is_idle() {
                continue;
            }
            if let Some(left) = self.crash_left() {
                let mut world = Self { left, ..self.clone() };
                world.crash(scenario, slot);
                followers.push((Action::Crash { slot }, world));
            }
            if let Some(left) = self.left.less(|left| &mut left.stalls).filter(|_| !busy.is_stalled)
            {
                let mut world = Self { left, ..self.clone() };
                world.slots[slot].is_stalled = true;
                followers.push((Action::Stall { slot }, world));
            }
            let can_be_cut = !busy.is_cut && busy.message.is_some();
            if let Some(left) = self.left.less(|left| &mut left.cuts).filter(|_| can_be_cut) {
                let mut world = Self { left, ..self.clone() };
                world.hand_back(slot);
                world.slots[slot].is_cut = true;
                followers.push((Action::Cut { slot }, world));
            }
        }
        let is_quiet = self.slots.iter().all(Slot::is_idle);
        if let Some(left) = self.left.less(|left| &mut left.losses).filter(|_| is_quiet) {
            let mut world = Self { left, has_lost_ledger: true, ..self.clone() };
            world.store = Store::default();
            followers.push((Action::LoseLedger, world));
        }
    }

    pub(super) fn crash_left(&self) -> Option<Faults> {
        self.left.less(|left| &mut left.crashes)
    }

    pub(super) fn silence_left(&self) -> Option<Faults> {
        self.left.less(|left| &mut left.silences)
    }

    pub(super) fn anomaly_left(&self) -> Option<Faults> {
        self.left.less(|left| &mut left.anomalies)
    }

    pub(super) fn blank_left(&self) -> Option<Faults> {
        self.left.less(|left| &mut left.blanks)
    }

    pub(super) fn refusal_left(&self) -> Option<Faults> {
        self.left.less(|left| &mut left.refusals)
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
