//! What follows from a decision, and from an end: writes, copies, events and acknowledgements.

use std::time::Duration;

use super::super::promise::Broken;
use super::super::scenario::{LEASE, Plant, Scenario, policy, seconds};
use super::super::world::{CopyAge, Message, World, id, numbered, time};
use super::journey::{stamp, whole};
use super::{At, Known, Mixer, News, Slot};
use crate::{Case, Held};
use eko_core::command::Kind;
use eko_core::decision::{self, Step, Task, Turn};
use eko_core::event::{About, Event};
use eko_core::history::Entry;
use eko_core::outcome::{Code, Outcome, Problem};
use eko_core::trace::Trace;

impl World {
    /// An acknowledgement on a channel that is gone is an error, and ends the work.
    pub(super) fn ack(&mut self, slot: usize, then: At) {
        let then = if self.slots[slot].is_cut { At::Idle } else { then };
        self.slots[slot] = Slot { at: then, ..Slot::default() };
    }

    /// What follows from an end: its event, and a copy where a person looks. Then the ledger
    /// learns of it.
    pub(super) fn tell(&mut self, slot: usize, news: &News) {
        let command = numbered(&news.event.command_id);
        let at = usize::from(command);
        // Only the ledger can say the same again.
        let is_other = self.told[at].replace(news.print).is_some_and(|before| before != news.print);
        if is_other && !self.has_forgotten {
            self.broken = Some(Broken::TwoOutcomes);
        }
        if let Err(broken) = self.is_true(command, Some(&news.event.outcome)) {
            self.broken = Some(broken);
        }
        self.buried[at] |= news.bury;
        if news.bury {
            let now = time(self.now.into());
            self.store(slot).told::<Mixer>(id(command), now);
        }
    }

    pub(super) fn note_parked(&mut self, slot: usize, command: u8, parked: u32) {
        let now = time(self.now.into());
        self.store(slot).parked::<Mixer>(id(command), parked, now);
    }

    /// `Worker::settle` and `Worker::settle_alone`: decide, then the write that every step begins
    /// with. A decision has no effect of its own, so nothing can come between it and its write
    /// that could not as well have come before both.
    pub(super) fn decide(&mut self, scenario: &Scenario, slot: usize, case: &Case, turn: Turn) {
        let mut case = case.clone();
        match self.step(scenario, slot, &case, turn) {
            Step::Attempt => {
                let now = self.clocks(scenario, slot);
                case.history.begin(now, stamp(now));
                if self.begin(scenario, slot, &case) {
                    let known = Known::new(case);
                    self.slots[slot].at = At::Begun { known, began: self.now };
                }
            }
            Step::Inquire => {
                if self.begin(scenario, slot, &case) {
                    let known = Known::new(case);
                    self.slots[slot].at = At::Inquiring { known, began: self.now };
                }
            }
            Step::RetryAfter { delay, .. } => self.note(scenario, slot, case, (delay, false)),
            Step::InquireAfter { delay, .. } => self.note(scenario, slot, case, (delay, true)),
            Step::Finish(outcome) => self.conclude(scenario, slot, &case, &outcome),
        }
    }

    fn step(&self, scenario: &Scenario, slot: usize, case: &Case, turn: Turn) -> Step {
        let mut history = case.history.clone();
        let (command, now) =
            (&self.commands[usize::from(numbered(&case.id))], self.clocks(scenario, slot));
        match history.entries.last_mut() {
            Some(Entry::Attempt(attempt)) if attempt.is_unclear() => {
                if scenario.has(Plant::ResendUnclear) {
                    return Step::Attempt;
                }
                if scenario.has(Plant::FailOnTimeout) {
                    return Step::Finish(failed(Code::Timeout));
                }
            }
            Some(Entry::Inquiry(inquiry)) if scenario.has(Plant::OneReading) => inquiry.times += 1,
            Some(Entry::Attempt(_) | Entry::Inquiry(_) | Entry::Suspicion(_)) | None => {}
        }
        let task = match self.slots[slot].orphan {
            Some(_) if scenario.has(Plant::FailOrphans) => {
                return Step::Finish(failed(Code::MessageLost));
            }
            Some(_) => Task::without(decision::Message::Lost, Kind::Refund),
            None => Task::of(command),
        };
        decision::decide(task, &history, &policy(scenario), turn, 0.5, now)
    }

    fn begin(&mut self, scenario: &Scenario, slot: usize, case: &Case) -> bool {
        let sharing = self.sharing(scenario, slot);
        let held = self.store(slot).begin::<Mixer>(case, seconds(LEASE), sharing);
        self.goes_on(scenario, slot, held, Plant::CallWithoutClaim)
    }

    /// Whether a write was accepted; if not, the copy looks again later.
    fn goes_on(&mut self, scenario: &Scenario, slot: usize, held: Held, plant: Plant) -> bool {
        let goes_on = held == Held::Yes || scenario.has(plant);
        if !goes_on {
            self.park_busy(scenario, slot, None);
        }
        goes_on
    }

    fn note(&mut self, scenario: &Scenario, slot: usize, mut case: Case, wait: (Duration, bool)) {
        let (now, sharing) = (self.clocks(scenario, slot), self.sharing(scenario, slot));
        case.history.measure(now);
        if self.store(slot).note::<Mixer>(&case, wait, sharing) == Held::Lost {
            return self.park_busy(scenario, slot, None);
        }
        let Some(message) = self.slots[slot].message else {
            self.slots[slot] = Slot::default();
            return;
        };
        let waited = whole(wait.0);
        let copy = Message {
            command: message.command,
            parked: case.parked + 1,
            attempts: message.seen(case.history.attempts()),
            redelivered: false,
            due: self.now + waited,
            is_held: false,
            age: Some(CopyAge {
                first_received: case.history.first_received.as_millisecond(),
                proven: whole(case.history.age(now).proven) + waited,
                waited,
            }),
        };
        if scenario.has(Plant::DropBeforeConfirm) {
            self.note_parked(slot, copy.command, copy.parked);
        }
        self.slots[slot].at = At::Noted { copy, is_case: true };
    }

    pub(super) fn conclude(
        &mut self,
        scenario: &Scenario,
        slot: usize,
        case: &Case,
        outcome: &Outcome,
    ) {
        let about = About {
            command_id: &case.id,
            event_id: &case.id,
            kind: Some(Kind::Refund),
            subject: None,
            correlation_id: None,
            attempts: case.history.attempts(),
            trace: &Trace::new(1),
            span: 1,
        };
        let event = Event::new(&about, outcome, self.clocks(scenario, slot).wall);
        // Of an orphan there is nothing to put where a person looks; its event has to do.
        let bury = outcome.needs_a_person() || self.slots[slot].orphan.is_some();
        let sharing = self.sharing(scenario, slot);
        let held = self.store(slot).finish::<Mixer>(case, (&event, bury), sharing);
        if self.goes_on(scenario, slot, held, Plant::TellWithoutClaim) {
            self.slots[slot].at = At::Finished(News::new(event, bury));
        }
    }

    pub(super) fn park_busy(&mut self, scenario: &Scenario, slot: usize, wait: Option<Duration>) {
        let Some(message) = self.slots[slot].message else {
            self.slots[slot] = Slot::default();
            return;
        };
        let parked = message.parked + 1;
        let again = policy(scenario).retry.delay(parked, 0.5);
        self.park_copy(slot, parked, whole(wait.map_or(again, |wait| again.min(wait))));
    }

    pub(super) fn park_copy(&mut self, slot: usize, parked: u32, waited: u32) {
        let message = self.slots[slot].message.unwrap();
        let copy = Message {
            parked,
            due: self.now + waited,
            attempts: message.seen(0),
            redelivered: false,
            // What the broker told of the wait before is not carried on.
            age: message.age.map(|age| {
                let proven = age.proven - age.waited + waited;
                CopyAge { proven, waited, ..age }
            }),
            ..message
        };
        self.slots[slot].at = At::Noted { copy, is_case: false };
    }
}

fn failed(code: Code) -> Outcome {
    Outcome::Failed(Problem::new(code, "planted"))
}
