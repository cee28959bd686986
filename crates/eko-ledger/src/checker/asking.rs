//! What the ledger is asked, and which commands are without a message.

use std::rc::Rc;

use jiff::Timestamp;

use super::drive::stamp;
use super::scenario::{LEASE, Mutation, ORPHAN, Scenario, policy, seconds};
use super::slot::Slot;
use super::world::{Message, World, id, tid, time};
use crate::model::{Sharing, token};
use crate::{Claim, ClaimRequest, ClaimedCommand, Waited};
use eko_core::command::Kind;
use eko_core::order::{self, Order};

impl World {
    /// Draws up what the ledger is asked, some time before it is.
    pub(super) fn draw_up(
        &mut self,
        scenario: &Scenario,
        slot: usize,
        order: &Order<ClaimedCommand>,
    ) {
        if let Order::Claim(claiming) = order {
            let request = self.ask_for(scenario, slot, claiming);
            self.slots[slot].request = Some(Rc::new(request));
        }
    }

    /// What the ledger is asked.
    pub(super) fn ask_for(
        &mut self,
        scenario: &Scenario,
        slot: usize,
        claiming: &order::Claiming,
    ) -> ClaimRequest {
        let now = self.clocks(scenario, slot);
        self.slots[slot].began = self.now;
        let command = self.slots[slot].command;
        let request = ClaimRequest::known(id(command), Some(Kind::Refund), now, seconds(LEASE));
        let Some(message) = self.slots[slot].message else { return request };
        let may_begin = claiming.may_begin(&policy(scenario), now);
        ClaimRequest {
            tid: Some(tid(command, scenario).to_owned()),
            digest: Some("d".to_owned()),
            parked: message.parked,
            waited: self.waited(scenario, slot, message),
            is_suspect: claiming.is_suspect() && !scenario.has(Mutation::TrustRedelivered),
            has_ended: message.refused.is_some(),
            has_expired: claiming.has_expired(now.wall),
            stamp: may_begin.then(|| stamp(now)),
            ..request
        }
    }

    /// What a copy that comes back proves.
    fn waited(&self, scenario: &Scenario, slot: usize, message: Message) -> Option<Waited> {
        let age = message.age?;
        let first_received = Timestamp::from_millisecond(age.first_received).unwrap();
        let mut proven = seconds(age.proven + age.waited);
        if scenario.has(Mutation::TtlCountsTwice) {
            let now = self.clocks(scenario, slot);
            let known = self.stores[0].age(id(message.command), now);
            proven = known.map_or(proven, |known| known.proven + seconds(age.waited));
        }
        Some(Waited { first_received, age: proven })
    }

    /// Asks the ledger for a command.
    pub(super) fn request(
        &mut self,
        scenario: &Scenario,
        slot: usize,
        request: &ClaimRequest,
    ) -> Claim {
        let (token, sharing) = (self.new_token(), self.sharing(scenario, slot));
        let claim = self.store(slot).claim::<super::Hasher>(request, token, sharing);
        if matches!(claim, Claim::Unknown) && self.has_forgotten && !self.slots[slot].is_orphan {
            // It has ended, and the ledger that could say how is lost.
            self.gone[usize::from(self.slots[slot].command)] = true;
        }
        claim
    }

    /// Who shares a slot's ledger, and what time it is there.
    pub(super) fn sharing(&self, scenario: &Scenario, slot: usize) -> Sharing {
        let by_wall = scenario.has(Mutation::LeaseByWallClock);
        Sharing {
            process: scenario.one_process.then_some(self.epoch),
            now: time(if by_wall { self.wall(slot) } else { self.now.into() }),
            has_no_tid_lock: scenario.has(Mutation::NoTidLock),
            forgets_refunded: scenario.has(Mutation::ForgetRefunded),
            trusts_rewound: scenario.has(Mutation::TrustRewound),
            has_no_write_back: scenario.has(Mutation::NoWriteBack),
        }
    }

    /// A token that nobody holds: which one makes no difference.
    fn new_token(&self) -> u64 {
        let of_slots = self.slots.iter().filter_map(Slot::claimed).map(token);
        let of_stores = self.stores.iter().flat_map(|store| store.tokens());
        let held: Vec<u64> = of_stores.chain(of_slots).collect();
        (1..).map(|n| self.epoch | n).find(|token| !held.contains(token)).unwrap()
    }

    /// Whether a sweep has something to do that nobody else will.
    pub(super) fn has_orphan(&self, scenario: &Scenario) -> bool {
        self.free(scenario).any(|slot| {
            (0..scenario.commands).any(|command| self.is_orphan(scenario, slot, command))
        })
    }

    /// Whether a command is one without a message, as far as a slot's process can see, or one whose
    /// end is to be told by its event alone.
    pub(super) fn is_orphan(&self, scenario: &Scenario, slot: usize, command: u8) -> bool {
        let since = self.stranded_since(scenario, slot, command);
        let is_old = |since| since <= time(i64::from(self.now) - i64::from(ORPHAN));
        let has_ended = || self.store_of(slot).outcome(id(command)).is_some();
        !scenario.has(Mutation::NoOrphans)
            && since.is_some_and(is_old)
            && (self.purged[usize::from(command)] || has_ended())
            && !self.is_held(command)
    }

    pub(super) fn stranded_since(
        &self,
        scenario: &Scenario,
        slot: usize,
        command: u8,
    ) -> Option<Timestamp> {
        self.store_of(slot).stranded_since(id(command), self.sharing(scenario, slot))
    }
}
