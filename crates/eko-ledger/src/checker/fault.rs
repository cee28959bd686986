//! What breaks, and how much more of it there may be.

use super::action::Action;
use super::scenario::{Faults, Mutation, Scenario};
use super::slot::Slot;
use super::world::{Message, World, time};
use crate::ClaimedCommand;
use crate::model::Store;
use eko_core::history::SuspicionReason;
use eko_core::order::{Next, Order};

impl World {
    /// What may happen to one worker: a crash, a stall, a broken channel.
    pub(super) fn failures(&self, choices: &mut Vec<Action>) {
        for (slot, busy) in self.slots.iter().enumerate() {
            if busy.is_idle() {
                continue;
            }
            let may = |sort: fn(&mut Faults) -> &mut u8| self.left(sort).is_some();
            if may(|left| &mut left.crashes) {
                choices.push(Action::Crash { slot });
            }
            if may(|left| &mut left.stalls) && !busy.is_stalled {
                choices.push(Action::Stall { slot });
            }
            if may(|left| &mut left.cuts) && !busy.is_cut && busy.message.is_some() {
                choices.push(Action::Cut { slot });
            }
        }
    }

    /// What may happen to what they share: clocks, queues and ledger.
    pub(super) fn disasters(&self, scenario: &Scenario, choices: &mut Vec<Action>) {
        if self.left(|left| &mut left.steps).is_some() {
            let slots = if scenario.one_process { 1 } else { self.slots.len() };
            for &by in scenario.steps {
                choices.extend((0..slots).map(|slot| Action::SetClock { slot, by }));
            }
        }
        if self.left(|left| &mut left.purges).is_some() {
            for (at, &message) in self.messages.iter().enumerate() {
                if !self.messages[..at].contains(&message) {
                    choices.push(Action::Purge { message });
                }
            }
        }
        self.failovers(scenario, choices);
        let is_quiet = self.slots.iter().all(Slot::is_idle);
        if self.left(|left| &mut left.losses).is_some() && is_quiet {
            choices.push(Action::LoseLedger);
        }
    }

    /// The ledger is as it was one or two commits ago. Whoever works notices: the server's
    /// timeline is another one. A worker that starts after it compares the counter in the broker.
    fn failovers(&self, scenario: &Scenario, choices: &mut Vec<Action>) {
        if self.left(|left| &mut left.regressions).is_none() {
            return;
        }
        for (commits, (lost, _)) in self.stores[0].pasts().enumerate() {
            let is_quiet = lost == time(self.now.into()) && self.slots.iter().all(Slot::is_idle);
            if scenario.has(Mutation::RegisterLags) && is_quiet {
                choices.push(Action::Forget { commits, is_noticed: false });
            }
            choices.push(Action::Forget { commits, is_noticed: true });
        }
    }

    /// Whether a kind may be paused just before what is next.
    pub(super) fn may_hold_back(&self, order: &Order<ClaimedCommand>) -> bool {
        let is_attempt =
            matches!(order, Order::Acquire(acquiring) if acquiring.next == Next::Attempt);
        is_attempt && self.left(|left| &mut left.pauses).is_some()
    }

    /// Makes something go wrong.
    pub(super) fn fail(&mut self, scenario: &Scenario, action: Action) {
        let spend = |world: &Self, sort: fn(&mut Faults) -> &mut u8| world.left(sort).unwrap();
        match action {
            Action::Crash { slot } => {
                self.left = spend(self, |left| &mut left.crashes);
                self.crash(scenario, slot);
            }
            Action::HoldBack { slot } => {
                self.left = spend(self, |left| &mut left.pauses);
                self.hold_back(scenario, slot);
            }
            Action::Stall { slot } => {
                self.left = spend(self, |left| &mut left.stalls);
                self.slots[slot].is_stalled = true;
            }
            Action::Cut { slot } => {
                self.left = spend(self, |left| &mut left.cuts);
                self.hand_back(slot);
                self.slots[slot].is_cut = true;
            }
            Action::Hold { message } => {
                self.left = spend(self, |left| &mut left.delays);
                self.change(message, |it| it.is_held = true);
            }
            Action::Bounce { message } => {
                self.left = spend(self, |left| &mut left.crashes);
                self.change(message, |it| it.redelivered = true);
            }
            Action::Purge { message } => {
                self.left = spend(self, |left| &mut left.purges);
                self.purge(message);
            }
            Action::SetClock { slot, by } => {
                self.left = spend(self, |left| &mut left.steps);
                if scenario.one_process {
                    self.offsets.iter_mut().for_each(|offset| *offset += by)
                } else {
                    self.offsets[slot] += by
                }
            }
            Action::Forget { commits, is_noticed } => {
                self.left = spend(self, |left| &mut left.regressions);
                self.forget(scenario, commits, is_noticed);
            }
            Action::LoseLedger => {
                self.left = spend(self, |left| &mut left.losses);
                self.lose_ledger(scenario);
            }
            _ => unreachable!("nothing goes wrong with {action:?}"),
        }
    }

    fn purge(&mut self, message: Message) {
        let at = self.messages.iter().position(|it| *it == message).unwrap();
        self.messages.remove(at);
        self.purged[usize::from(message.command)] = true;
        self.give_up_what_is_gone();
    }

    fn forget(&mut self, scenario: &Scenario, commits: usize, is_noticed: bool) {
        let (_, store) = self.stores[0].pasts().nth(commits).unwrap();
        self.stores[0] = store;
        self.has_forgotten = true;
        self.give_up_what_is_gone();
        if !is_noticed {
            self.lives.iter_mut().for_each(|life| *life += 1);
        } else if !scenario.has(Mutation::NoCautionAfterFailover) {
            self.stores[0].beware(SuspicionReason::LedgerForgot, time(self.now.into()));
        }
    }

    fn lose_ledger(&mut self, scenario: &Scenario) {
        self.stores[0] = Store::default();
        self.has_forgotten = true;
        if scenario.is_adopted && !scenario.has(Mutation::AdoptWithoutCaution) {
            self.stores[0].beware(SuspicionReason::LedgerAdopted, time(self.now.into()));
        }
        self.give_up_what_is_gone();
    }

    /// Of a command whose message vanished before anything else knew of it, nothing can come any
    /// more; likewise if its row vanished, too. So it is if it had ended and was not told yet.
    pub(super) fn give_up_what_is_gone(&mut self) {
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
    pub(super) fn hand_back(&mut self, slot: usize) {
        let busy = &self.slots[slot];
        if let Some(message) = busy.message.filter(|_| !busy.is_cut) {
            self.messages.push(Message { redelivered: true, due: 0, ..message });
        }
    }
}
