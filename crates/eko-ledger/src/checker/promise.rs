//! What must hold in every state.

use super::scenario::{Mutation, Scenario};
use super::slot::Slot;
use super::world::{World, id};
use crate::model::Store;
use eko_core::outcome::OutcomeName;

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
    /// 5: of a command that is not told, neither a copy nor, where that vanished, an open row is
    /// left.
    Forgotten,
    /// It needs a person and none will see it.
    NotBuried,
    /// Nothing is left to do and something is left undone.
    Unfinished,
}

impl World {
    /// Whether nothing is left to do.
    pub(super) fn is_done(&self, scenario: &Scenario) -> bool {
        let is_swept = || {
            let ids = || (0..scenario.commands).map(id);
            let is_swept = |store: &Store| !ids().any(|id| store.is_stranded(id));
            scenario.has(Mutation::NoOrphans) || self.stores.iter().all(is_swept)
        };
        self.messages.is_empty() && self.slots.iter().all(Slot::is_idle) && is_swept()
    }

    /// What must hold in every state.
    pub(super) fn check(&self, scenario: &Scenario) -> Result<(), Broken> {
        if let Some(broken) = self.broken {
            return Err(broken);
        }
        for tid in 0..self.tids {
            let of_tid = self.eko.executed.iter().skip(tid.into()).step_by(self.tids.into());
            if of_tid.sum::<u8>() > 1 {
                return Err(Broken::ExecutedTwice);
            }
        }
        let is_done = self.is_done(scenario);
        for command in 0..scenario.commands {
            let at = usize::from(command);
            let outcome = self.stores.iter().find_map(|store| store.outcome(id(command)));
            self.is_true(command, outcome)?;
            if self.told[at].is_none() && !self.is_kept(command) {
                return Err(Broken::Forgotten);
            }
            if !is_done || self.gone[at] {
                continue;
            }
            if outcome.is_none() && !self.has_forgotten {
                return Err(Broken::Unfinished);
            }
            if matches!(outcome, Some(OutcomeName::Failed | OutcomeName::Unresolved))
                && !self.buried[at]
            {
                return Err(Broken::NotBuried);
            }
        }
        Ok(())
    }

    /// Whether an outcome may be told now.
    pub(super) fn is_true(&self, command: u8, outcome: Option<OutcomeName>) -> Result<(), Broken> {
        match outcome {
            Some(OutcomeName::Succeeded) if self.refunded_at_of(command).is_none() => {
                Err(Broken::SuccessWithoutExecution)
            }
            Some(OutcomeName::Rejected | OutcomeName::Failed | OutcomeName::Expired)
                if self.may_be_executed(command) =>
            {
                Err(Broken::DeniedAnExecution)
            }
            Some(_) | None => Ok(()),
        }
    }

    fn refunded_at_of(&self, command: u8) -> Option<u32> {
        self.eko.refunded_at[usize::from(command % self.tids)]
    }

    /// Whether a command's own calls were executed, or one may yet be.
    fn may_be_executed(&self, command: u8) -> bool {
        self.eko.executed[usize::from(command)] > 0
            || self.eko.late.iter().any(|late| late.command == command)
    }

    /// Whether the broker still has a copy, in a queue or not acknowledged yet.
    pub(super) fn is_held(&self, command: u8) -> bool {
        self.messages.iter().any(|message| message.command == command)
            || self.slots.iter().any(|slot| slot.holds(command))
    }

    /// Whether somebody will deal with it again, or nobody can. Of a command whose message vanishes
    /// between its end and its event, the ledger alone tells: only ends that need a person are
    /// noted there as untold.
    pub(super) fn is_kept(&self, command: u8) -> bool {
        let at = usize::from(command);
        let is_known = || {
            let mut stores = self.stores.iter();
            stores
                .any(|store| store.is_stranded(id(command)) || store.outcome(id(command)).is_some())
        };
        self.is_held(command) || self.gone[at] || self.purged[at] && is_known()
    }
}
