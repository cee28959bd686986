//! What Eko, and the way to it, do with calls and inquiries.

use super::mutation;
use super::scenario::{CALL_TIMEOUT, Faults, Mutation, Scenario, TOLERANCE};
use super::world::{World, second, time};
use crate::ClaimedCommand;
use eko_core::order::Order;
use eko_core::outcome::{Answer, Code, Problem, Receipt, Refusal};
use eko_core::verdict::{Cause, Reading, Verdict};

/// What Eko and the way to it do with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Does {
    /// Executes it and says so.
    Execute,
    /// Refuses the OTP.
    Refuse,
    /// The answer is lost.
    Silent(When),
    /// A gateway answers 403.
    Gateway(When),
    /// A proxy sends it twice: one is executed, the answer to the other says 2485.
    Resent,
    /// Refuses its timestamp.
    OutOfTime,
    /// The call never leaves.
    Unreached,
}

/// When Eko executes a call that it does not answer itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum When {
    Now,
    Never,
    /// Some time while its signature lives, or never.
    Later,
}

impl Does {
    /// Whether there is an answer to wait for.
    pub(super) const fn is_answered(self) -> bool {
        match self {
            Self::Silent(_) => false,
            Self::Execute
            | Self::Refuse
            | Self::Gateway(_)
            | Self::Resent
            | Self::OutOfTime
            | Self::Unreached => true,
        }
    }
}

/// What an inquiry reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reads {
    Truth,
    /// What was true just before the refund.
    Stale,
    InProgress,
    NoAnswer,
}

impl World {
    /// What may become of a call.
    pub(super) fn calls(
        &self,
        scenario: &Scenario,
        slot: usize,
        claimed: &ClaimedCommand,
    ) -> Vec<Does> {
        let is_late = self.now >= self.slots[slot].began + CALL_TIMEOUT;
        if is_late && !scenario.has(Mutation::SendLate) {
            return vec![Does::Unreached];
        }
        let is_held = self.left(|left| &mut left.lates).is_some();
        let early = self.stamp(scenario, slot, claimed) - i64::from(self.now);
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
    fn stamp(&self, scenario: &Scenario, slot: usize, claimed: &ClaimedCommand) -> i64 {
        match claimed.history.signed() {
            Some(signed) if !scenario.has(Mutation::SignWhenSent) => second(signed.stamp),
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

    /// The call leaves.
    pub(super) fn call(&mut self, scenario: &Scenario, slot: usize, eko: Does) {
        let command = self.slots[slot].command;
        self.left = self.cost(eko);
        match eko {
            Does::Execute | Does::Resent | Does::Silent(When::Now) | Does::Gateway(When::Now) => {
                self.execute(command);
            }
            Does::Silent(When::Later) | Does::Gateway(When::Later) => {
                let claimed = self.slots[slot].claimed().unwrap();
                let stamp = self.stamp(scenario, slot, claimed);
                self.eko.hold(command, stamp);
            }
            Does::Refuse
            | Does::OutOfTime
            | Does::Unreached
            | Does::Silent(When::Never)
            | Does::Gateway(When::Never) => {}
        }
        self.slots[slot].sent = Some(eko);
    }

    /// Eko executes a call for a command.
    pub(super) fn execute(&mut self, command: u8) {
        self.eko.executed[usize::from(command)] += 1;
        let at = usize::from(command % self.tids);
        self.eko.refunded_at[at].get_or_insert(self.now);
    }

    /// The answer to the call arrives, or is given up.
    pub(super) fn answer(&mut self, scenario: &Scenario, slot: usize) {
        let Order::Call(calling) = self.take(slot) else { return };
        let verdict = match self.slots[slot].sent.take().unwrap() {
            Does::Execute => Verdict::Done(Receipt::default(), Answer::default()),
            Does::Refuse => Verdict::Refused(Refusal {
                problem: Problem::new(Code::WrongOtp, "wrong"),
                answer: Answer::default(),
            }),
            Does::Silent(_) => Verdict::unclear(Cause::Timeout),
            Does::Gateway(_) => Verdict::unclear(Cause::Unauthorized),
            Does::Resent | Does::OutOfTime => Verdict::unclear(Cause::Clock),
            Does::Unreached => Verdict::not_now(Cause::Network),
        };
        let verdict = mutation::verdict(scenario, verdict);
        let order = calling.answered(verdict, self.clocks(scenario, slot));
        self.keep(slot, order);
    }

    /// When the tid of a slot's command was refunded.
    fn refunded_at(&self, slot: usize) -> Option<u32> {
        self.eko.refunded_at[usize::from(self.slots[slot].command % self.tids)]
    }

    /// What an inquiry may read.
    pub(super) fn readings(&self, slot: usize) -> Vec<Reads> {
        if self.now >= self.slots[slot].began + CALL_TIMEOUT {
            return vec![Reads::NoAnswer];
        }
        let mut may = vec![Reads::Truth];
        if self.left(|left| &mut left.blanks).is_some() {
            may.extend([Reads::NoAnswer, Reads::InProgress]);
        }
        if self.left(|left| &mut left.stales).is_some() && self.refunded_at(slot).is_some() {
            may.push(Reads::Stale);
        }
        may
    }

    /// An inquiry is made and answered.
    pub(super) fn inquire(&mut self, scenario: &Scenario, slot: usize, reads: Reads) {
        let in_time = self.now < self.slots[slot].began + CALL_TIMEOUT;
        let blank = self.left(|left| &mut left.blanks).filter(|_| in_time).unwrap_or(self.left);
        let (reading, true_at) = match (reads, self.refunded_at(slot)) {
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
        let is_told = scenario.is_dated && !scenario.has(Mutation::StaleReadingCounts);
        let eko_time = is_told.then(|| time(true_at.into()));
        let Order::Inquire(inquiring) = self.take(slot) else { return };
        let order = inquiring.answered(reading, eko_time, self.clocks(scenario, slot));
        self.keep(slot, order);
    }
}
