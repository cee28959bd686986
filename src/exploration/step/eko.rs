//! What Eko does with calls and inquiries.

use std::rc::Rc;

use super::super::scenario::{CALL_TIMEOUT, Plant, QUIET, Scenario};
use super::super::world::{World, time};
use super::{At, Does, Reads};
use crate::decision::Turn;
use crate::ledger::Case;
use crate::outcome::{Answer, Code, Problem, Receipt, Refusal};
use crate::verdict::{Cause, Reading, Verdict};

impl World {
    /// What Eko may do with a call.
    pub(super) fn calls(&self, scenario: &Scenario, began: u32) -> Vec<Does> {
        let is_late = self.now >= began + CALL_TIMEOUT;
        if is_late && scenario.plant != Some(Plant::SendLate) {
            return vec![Does::Unreached];
        }
        let mut may = vec![Does::Execute, Does::Refuse];
        if self.silence_left().is_some() {
            may.extend([Does::ExecuteSilently, Does::Nothing]);
        }
        if self.anomaly_left().is_some() {
            may.push(Does::Later);
        }
        if self.refusal_left().is_some() {
            may.extend([Does::NotNow, Does::Unreached]);
        }
        may
    }

    pub(super) fn call(&mut self, slot: usize, case: &Rc<Case>, began: u32, eko: Does) {
        let command = self.slots[slot].message.map(|message| message.command).unwrap();
        match eko {
            Does::Execute => self.eko.executed[usize::from(command)] += 1,
            Does::ExecuteSilently => {
                self.left = self.silence_left().unwrap();
                self.eko.executed[usize::from(command)] += 1;
            }
            Does::Nothing => self.left = self.silence_left().unwrap(),
            Does::Later => {
                self.left = self.anomaly_left().unwrap();
                self.eko.late.push((command, began + CALL_TIMEOUT + QUIET));
            }
            Does::NotNow | Does::Unreached => {
                // One that is too late never leaves anyway.
                self.left = self.refusal_left().unwrap_or(self.left);
            }
            Does::Refuse => {}
        }
        self.slots[slot].at = At::Called { case: Rc::clone(case), began, eko };
    }

    pub(super) fn answer(&mut self, slot: usize, case: &Rc<Case>, began: u32, eko: Does) {
        let mut case = Case::clone(case);
        let verdict = match eko {
            Does::Execute => Verdict::Done(Receipt::default(), Answer::default()),
            Does::ExecuteSilently | Does::Nothing => Verdict::unclear(Cause::Timeout),
            Does::Later => {
                // What may come after the end of a call comes within `SETTLE_QUIET` of it.
                let ended = self.now.min(began + CALL_TIMEOUT);
                for (_, until) in &mut self.eko.late {
                    *until = (*until).min(ended + QUIET);
                }
                let now = self.now;
                self.eko.late.retain(|&(_, until)| now < until);
                Verdict::unclear(Cause::Timeout)
            }
            Does::Refuse => Verdict::Refused(Refusal {
                problem: Problem::new(Code::WrongOtp, "wrong"),
                answer: Answer::default(),
            }),
            Does::NotNow => Verdict::not_now(Cause::InProgress),
            Does::Unreached => Verdict::not_now(Cause::Network),
        };
        case.history.end(self.clocks(slot), verdict);
        self.slots[slot].at = At::Claimed { case: Rc::new(case), turn: Turn::Answered };
    }

    /// What an inquiry may read.
    pub(super) fn readings(&self, began: u32) -> Vec<Reads> {
        if self.now >= began + CALL_TIMEOUT {
            return vec![Reads::NoAnswer];
        }
        let mut may = vec![Reads::Truth];
        if self.blank_left().is_some() {
            may.extend([Reads::NoAnswer, Reads::InProgress]);
        }
        if self.anomaly_left().is_some() && self.eko.is_refunded() {
            may.push(Reads::Stale);
        }
        may
    }

    pub(super) fn inquire(&mut self, slot: usize, case: &Rc<Case>, began: u32, reads: Reads) {
        let mut case = Case::clone(case);
        let in_time = self.now < began + CALL_TIMEOUT;
        let reading = match reads {
            Reads::Truth if self.eko.is_refunded() => {
                Reading::Refunded(Receipt::default(), Answer::default())
            }
            Reads::Truth => Reading::RefundPending,
            Reads::Stale => {
                self.left = self.anomaly_left().unwrap();
                Reading::RefundPending
            }
            Reads::InProgress => {
                self.left = self.blank_left().unwrap();
                Reading::InProgress
            }
            Reads::NoAnswer => {
                self.left = self.blank_left().filter(|_| in_time).unwrap_or(self.left);
                Reading::NoAnswer(Cause::Timeout)
            }
        };
        case.history.inquired(self.clocks(slot), Some(time(self.now)), reading);
        self.slots[slot].at = At::Claimed { case: Rc::new(case), turn: Turn::Answered };
    }
}
