//! Commands whose message is lost, as `app/sweep.rs` and `worker/alone.rs` look after them.

use jiff::Timestamp;

use super::super::scenario::{LEASE, ORPHAN, Plant, Scenario, seconds};
use super::super::world::{World, id, time};
use super::{Action, At, Known, News, Slot};
use crate::{Ask, Claim};
use eko_core::decision::Turn;

impl World {
    /// Whether a sweep has something to do that nobody else will.
    pub(in super::super) fn has_orphan(&self, scenario: &Scenario) -> bool {
        self.free(scenario).any(|slot| {
            (0..u8::try_from(self.commands.len()).unwrap())
                .any(|command| self.is_orphan(scenario, slot, command))
        })
    }

    /// Whether a command is one without a message, as far as a slot's process can see.
    fn is_orphan(&self, scenario: &Scenario, slot: usize, command: u8) -> bool {
        let since = self.stranded_since(scenario, slot, command);
        let is_old = |since| since <= time(i64::from(self.now) - i64::from(ORPHAN));
        !scenario.has(Plant::NoOrphans)
            && self.purged[usize::from(command)]
            && since.is_some_and(is_old)
            && !self.is_held(command)
    }

    fn stranded_since(&self, scenario: &Scenario, slot: usize, command: u8) -> Option<Timestamp> {
        let store = &self.stores[slot.min(self.stores.len() - 1)];
        store.stranded_since(id(command), self.sharing(scenario, slot))
    }

    /// A command is looked after without its message: rightly, or wrongly.
    pub(in super::super) fn sweeps(
        &self,
        scenario: &Scenario,
        followers: &mut Vec<(Action, Self)>,
    ) {
        for slot in self.free(scenario) {
            for command in 0..scenario.commands {
                let wrong = || {
                    let left = self.left(|left| &mut left.sweeps)?;
                    self.stranded_since(scenario, slot, command).map(|_| left)
                };
                let left = match self.is_orphan(scenario, slot, command) {
                    true => self.left,
                    false => match wrong() {
                        Some(left) => left,
                        None => continue,
                    },
                };
                let mut world = Self { left, ..self.clone() };
                world.slots[slot] = Slot { orphan: Some(command), ..Slot::default() };
                world.sweep(scenario, slot, command);
                followers.push((Action::Sweep { slot, command }, world));
            }
        }
    }

    /// `Worker::settle_orphan`: claim by the id alone, and see what the ledger says.
    fn sweep(&mut self, scenario: &Scenario, slot: usize, command: u8) {
        let now = self.clocks(scenario, slot);
        let ask = Ask::known(id(command), "refund", now, seconds(LEASE));
        self.slots[slot] = match self.ask(scenario, slot, &ask) {
            Claim::Due(case) | Claim::Interrupted(case) => {
                let at = At::Claimed { known: Known::new(case), turn: Turn::Ready };
                Slot { at, orphan: Some(command), ..Slot::default() }
            }
            Claim::Finished { event, is_untold: true } => {
                let at = At::Finished(News::new(*event, true));
                Slot { at, orphan: Some(command), ..Slot::default() }
            }
            Claim::Busy { .. }
            | Claim::Early { .. }
            | Claim::Finished { is_untold: false, .. }
            | Claim::Unknown
            | Claim::Fresh(_)
            | Claim::Refunded(..)
            | Claim::Stale
            | Claim::Conflict => Slot::default(),
        };
    }
}
