//! What Eko, and the way to it, do with calls and inquiries.

use std::rc::Rc;

use super::super::scenario::{CALL_TIMEOUT, Faults, Plant, Scenario, TOLERANCE};
use super::super::world::{World, second, time};
use super::{At, Does, Known, Reads, When};
use eko_core::decision::Turn;
use eko_core::outcome::{Answer, Code, Problem, Receipt, Refusal};
use eko_core::verdict::{Cause, Reading, Verdict};

impl World {
    /// What may become of a call.
    pub(super) fn calls(
        &self,
        scenario: &Scenario,
        slot: usize,
        known: &Known,
        began: u32,
    ) -> Vec<Does> {
        let is_late = self.now >= began + CALL_TIMEOUT;
        if is_late && !scenario.has(Plant::SendLate) {
            return vec![Does::Unreached];
        }
        let is_held = self.left(|left| &mut left.lates).is_some();
        let early = self.stamp(scenario, slot, known) - i64::from(self.now);
        if early.abs() > i64::from(TOLERANCE) {
            let mut may = vec![Does::OutOfTime];
            // Held for long enough, it arrives when its time has come. Where Eko does not tell its
            // time, nobody can know that ours was ahead.
            let is_held = is_held && scenario.is_dated;
            may.extend((early > 0 && is_held).then_some(Does::Silent(When::Later)));
            return may;
        }
        let mut may = vec![Does::Execute, Does::Refuse];
        if self.left(|left| &mut left.silences).is_some() {
            may.extend([Does::Silent(When::Now), Does::Silent(When::Never)]);
        }
        if self.left(|left| &mut left.gateways).is_some() {
            may.extend([Does::Gateway(When::Now), Does::Gateway(When::Never)]);
        }
        if is_held {
            may.push(Does::Silent(When::Later));
            may.extend((self.left.gateways > 0).then_some(Does::Gateway(When::Later)));
        }
        may.extend(self.left(|left| &mut left.resends).map(|_| Does::Resent));
        may.extend(self.left(|left| &mut left.refusals).map(|_| Does::Unreached));
        may
    }

    /// The timestamp that a call is signed with, as a second of the model.
    fn stamp(&self, scenario: &Scenario, slot: usize, known: &Known) -> i64 {
        match known.case.history.signed() {
            Some(signed) if !scenario.has(Plant::SignWhenSent) => second(signed.stamp),
            Some(_) | None => self.wall(slot),
        }
    }

    /// What of it costs one of the faults that are left.
    fn cost(&self, eko: Does) -> Faults {
        let left = match eko {
            Does::Silent(When::Later) | Does::Gateway(When::Later) => {
                self.left(|left| &mut left.lates)
            }
            Does::Silent(_) => self.left(|left| &mut left.silences),
            Does::Gateway(_) => self.left(|left| &mut left.gateways),
            Does::Resent => self.left(|left| &mut left.resends),
            // One that is too late never leaves anyway.
            Does::Unreached => self.left(|left| &mut left.refusals),
            Does::Execute | Does::Refuse | Does::OutOfTime => None,
        };
        left.unwrap_or(self.left)
    }

    pub(super) fn call(
        &mut self,
        scenario: &Scenario,
        slot: usize,
        (known, began): (&Rc<Known>, u32),
        eko: Does,
    ) {
        let command = self.slots[slot].command();
        self.left = self.cost(eko);
        match eko {
            Does::Execute | Does::Resent | Does::Silent(When::Now) | Does::Gateway(When::Now) => {
                self.eko.execute(command, self.now)
            }
            Does::Silent(When::Later) | Does::Gateway(When::Later) => {
                let stamp = self.stamp(scenario, slot, known);
                self.eko.hold(command, stamp);
            }
            Does::Refuse
            | Does::OutOfTime
            | Does::Unreached
            | Does::Silent(When::Never)
            | Does::Gateway(When::Never) => {}
        }
        self.slots[slot].at = At::Called { known: Rc::clone(known), began, eko };
    }

    pub(super) fn answer(&mut self, scenario: &Scenario, slot: usize, known: &Known, eko: Does) {
        let mut case = known.case.clone();
        let unless = |plant, cause| match scenario.has(plant) {
            true => Verdict::not_now(cause),
            false => Verdict::unclear(cause),
        };
        let verdict = match eko {
            Does::Execute => Verdict::Done(Receipt::default(), Answer::default()),
            Does::Refuse => Verdict::Refused(Refusal {
                problem: Problem::new(Code::WrongOtp, "wrong"),
                answer: Answer::default(),
            }),
            Does::Silent(_) => Verdict::unclear(Cause::Timeout),
            Does::Gateway(_) => unless(Plant::GatewayAsRefused, Cause::Unauthorized),
            Does::Resent | Does::OutOfTime => unless(Plant::ResentAsRefused, Cause::Clock),
            Does::Unreached => Verdict::not_now(Cause::Network),
        };
        case.history.end(self.clocks(scenario, slot), verdict);
        self.slots[slot].at = At::Claimed { known: Known::new(case), turn: Turn::Answered };
    }

    /// What an inquiry may read.
    pub(super) fn readings(&self, began: u32) -> Vec<Reads> {
        if self.now >= began + CALL_TIMEOUT {
            return vec![Reads::NoAnswer];
        }
        let mut may = vec![Reads::Truth];
        if self.left(|left| &mut left.blanks).is_some() {
            may.extend([Reads::NoAnswer, Reads::InProgress]);
        }
        if self.left(|left| &mut left.stales).is_some() && self.eko.refunded_at.is_some() {
            may.push(Reads::Stale);
        }
        may
    }

    pub(super) fn inquire(
        &mut self,
        scenario: &Scenario,
        slot: usize,
        (known, began): (&Known, u32),
        reads: Reads,
    ) {
        let mut case = known.case.clone();
        let in_time = self.now < began + CALL_TIMEOUT;
        let blank = self.left(|left| &mut left.blanks).filter(|_| in_time).unwrap_or(self.left);
        let (reading, true_at) = match (reads, self.eko.refunded_at) {
            (Reads::Truth, Some(_)) => {
                (Reading::Refunded(Receipt::default(), Answer::default()), self.now)
            }
            (Reads::Truth, None) => (Reading::RefundPending, self.now),
            (Reads::Stale, refunded_at) => {
                self.left = self.left(|left| &mut left.stales).unwrap();
                (Reading::RefundPending, refunded_at.unwrap())
            }
            (Reads::InProgress, _) => {
                self.left = blank;
                (Reading::InProgress, self.now)
            }
            (Reads::NoAnswer, _) => {
                self.left = blank;
                (Reading::NoAnswer(Cause::Timeout), self.now)
            }
        };
        let is_told = scenario.is_dated && !scenario.has(Plant::StaleReadingCounts);
        let eko_time = is_told.then(|| time(true_at.into()));
        case.history.inquired(self.clocks(scenario, slot), eko_time, reading);
        self.slots[slot].at = At::Claimed { known: Known::new(case), turn: Turn::Answered };
    }
}
