//! A worker's own steps, as `worker.rs` and `worker/settle.rs` take them.

use std::rc::Rc;
use std::time::Duration;

use super::super::scenario::{LEASE, Plant, Scenario, policy, seconds};
use super::super::world::{Broken, Message, World, fingerprint, id, second, time};
use super::{Action, At, Slot};
use crate::clock::{Now, Stamp};
use crate::command::Kind;
use crate::decision::{self, Step, Task, Turn, later};
use crate::event::{About, Event};
use crate::history::{Entry, History};
use crate::ledger::model::{Sharing, token};
use crate::ledger::{Ask, Case, Claim, Held};
use crate::outcome::{Code, ConfirmedBy, Outcome, Problem};
use crate::trace::Trace;

impl World {
    /// Each kind of message that is due, to a slot that is free.
    pub(in super::super) fn deliveries(
        &self,
        scenario: &Scenario,
        followers: &mut Vec<(Action, Self)>,
    ) {
        for (at, &message) in self.messages.iter().enumerate() {
            if message.due > self.now || self.messages[..at].contains(&message) {
                continue;
            }
            if message.is_held {
                let mut world = self.clone();
                world.messages[at].is_held = false;
                followers.push((Action::Release { message }, world));
                continue;
            }
            if let Some(left) = self.left.less(|left| &mut left.delays) {
                let mut world = Self { left, ..self.clone() };
                world.messages[at].is_held = true;
                followers.push((Action::Hold { message }, world));
            }
            if let Some(left) = self.crash_left().filter(|_| !message.redelivered) {
                let mut world = Self { left, ..self.clone() };
                world.messages[at].redelivered = true;
                followers.push((Action::Bounce { message }, world));
            }
            if let Some(slot) = self.slots.iter().position(Slot::is_idle) {
                let mut world = self.clone();
                world.messages.remove(at);
                world.slots[slot] = Slot { message: Some(message), ..Slot::default() };
                world.claim(scenario, slot, message);
                followers.push((Action::Claim { slot, message }, world));
            }
        }
    }

    /// `Worker::handle_command`: ask the ledger, and see what it says.
    fn claim(&mut self, scenario: &Scenario, slot: usize, message: Message) {
        let commands = Rc::clone(&self.commands);
        let command = &commands[usize::from(message.command)];
        let policy = policy(scenario);
        let now = self.clocks(slot);
        let history = History::new(now);
        let first = decision::decide(Task::of(command), &history, &policy, Turn::Ready, 0.5, now);
        let was_seen = message.redelivered || message.attempts > 0;
        let is_suspect = was_seen && scenario.plant != Some(Plant::TrustRedelivered);
        let ask = Ask {
            id: command.id.clone(),
            kind: command.kind().as_str(),
            tid: command.tid().map(str::to_owned),
            digest: Some("d".to_owned()),
            now,
            parked: message.parked,
            waited: None,
            is_suspect,
            has_expired: command.expiry.is_some_and(|expiry| now.wall >= expiry),
            has_reply_to: false,
            stamp: (first == Step::Attempt).then(|| stamp(now)),
            lease: seconds(LEASE),
        };
        let token = self.new_token();
        let sharing = Sharing {
            process: scenario.one_process.then_some(self.epoch),
            has_no_tid_lock: scenario.plant == Some(Plant::NoTidLock),
            forgets_refunded: scenario.plant == Some(Plant::ForgetRefunded),
        };
        let claim = self.store.claim(&ask, token, sharing);
        self.slots[slot].at = match claim {
            Claim::Fresh(case) if case.history.in_flight() => {
                At::Begun { case: Rc::new(case), began: self.now }
            }
            Claim::Fresh(case) | Claim::Due(case) => {
                At::Claimed { case: Rc::new(case), turn: Turn::Ready }
            }
            Claim::Interrupted(mut case) => {
                if scenario.plant == Some(Plant::InterruptedAsFresh) && case.history.in_flight() {
                    case.history.entries.pop();
                }
                At::Claimed { case: Rc::new(case), turn: Turn::Ready }
            }
            Claim::Refunded(case, receipt) => {
                let confirmed_by = ConfirmedBy::Ledger;
                let outcome = Outcome::Succeeded { confirmed_by, receipt, answer: None };
                At::Ending { case: Rc::new(case), outcome: Rc::new(outcome) }
            }
            Claim::Busy { wait } => {
                return self.park_busy(scenario, slot, wait.map(|wait| self.after(wait)));
            }
            Claim::Early { wait } => return self.park_copy(slot, message.parked, self.after(wait)),
            Claim::Stale => At::Stale,
            Claim::Finished { event, is_untold } => {
                let needs_a_person = matches!(event.outcome.as_str(), "failed" | "unresolved");
                let bury = needs_a_person && (is_untold || message.redelivered);
                At::Finished { event: Rc::new(self.replayed(scenario, *event)), bury }
            }
            Claim::Conflict | Claim::Unknown => unreachable!("copies of one command are alike"),
        };
    }

    fn replayed(&self, scenario: &Scenario, mut event: Event) -> Event {
        if scenario.plant == Some(Plant::NewEventEachTime) {
            event.body.extend(self.now.to_be_bytes());
        }
        event
    }

    /// A token that nobody holds: which one makes no difference.
    fn new_token(&self) -> u64 {
        let held: Vec<u64> = self
            .store
            .tokens()
            .chain(self.slots.iter().filter_map(Slot::case).map(|case| token(case)))
            .collect();
        (1..).map(|n| self.epoch | n).find(|token| !held.contains(token)).unwrap()
    }

    /// One step of each worker, in each way that it may go.
    pub(in super::super) fn steps(&self, scenario: &Scenario, followers: &mut Vec<(Action, Self)>) {
        for (slot, busy) in self.slots.iter().enumerate() {
            let mut push = |action, step: &dyn Fn(&mut Self)| {
                let mut world = self.clone();
                step(&mut world);
                followers.push((action, world));
            };
            match &busy.at {
                _ if busy.is_stalled => {
                    push(Action::Wake { slot }, &|world| world.slots[slot].is_stalled = false);
                }
                At::Claimed { case, turn } => push(Action::Decide { slot }, &|world| {
                    world.decide(scenario, slot, case, *turn);
                }),
                At::Ending { case, outcome } => push(Action::Decide { slot }, &|world| {
                    world.conclude(scenario, slot, case, outcome);
                }),
                At::Begun { case, began } => {
                    for eko in self.calls(scenario, *began) {
                        push(Action::Call { slot, eko }, &|world| {
                            world.call(slot, case, *began, eko);
                        });
                    }
                }
                At::Called { case, began, eko } => push(Action::Answer { slot }, &|world| {
                    world.answer(slot, case, *began, *eko);
                }),
                At::Inquiring { case, began } => {
                    for reads in self.readings(*began) {
                        push(Action::Inquire { slot, reads }, &|world| {
                            world.inquire(slot, case, *began, reads);
                        });
                    }
                }
                other => self.tail(scenario, slot, other, push),
            }
        }
    }

    /// What follows once the ledger knows what comes next: confirm, then ack.
    fn tail(
        &self,
        scenario: &Scenario,
        slot: usize,
        at: &At,
        mut push: impl FnMut(Action, &dyn Fn(&mut Self)),
    ) {
        match at {
            At::Noted { copy, is_case } => push(Action::Park { slot }, &|world| {
                world.messages.push(*copy);
                world.slots[slot].at = At::ParkedConfirmed { copy: *copy, is_case: *is_case };
            }),
            At::ParkedConfirmed { copy, is_case } => push(Action::Ack { slot }, &|world| {
                let then = At::ParkedAcked { copy: *copy };
                world.ack(slot, if *is_case { then } else { At::Idle });
            }),
            At::ParkedAcked { copy } => push(Action::NoteParked { slot }, &|world| {
                world.store.parked(id(copy.command), copy.parked);
                world.slots[slot] = Slot::default();
            }),
            At::Finished { event, bury } if scenario.plant == Some(Plant::AckBeforeConfirm) => {
                push(Action::Ack { slot }, &|world| {
                    world.ack(slot, At::AckedTooSoon { event: Rc::clone(event), bury: *bury });
                });
            }
            At::Finished { event, bury } => push(Action::Tell { slot }, &|world| {
                world.tell(event, *bury);
                world.slots[slot].at = At::EventConfirmed;
            }),
            At::EventConfirmed | At::Stale => push(Action::Ack { slot }, &|world| {
                world.ack(slot, At::Idle);
            }),
            At::AckedTooSoon { event, bury } => push(Action::Tell { slot }, &|world| {
                world.tell(event, *bury);
                world.slots[slot] = Slot::default();
            }),
            At::Idle
            | At::Claimed { .. }
            | At::Ending { .. }
            | At::Begun { .. }
            | At::Called { .. }
            | At::Inquiring { .. } => {}
        }
    }

    /// An acknowledgement on a channel that is gone is an error, and ends the work.
    fn ack(&mut self, slot: usize, then: At) {
        if self.slots[slot].is_cut {
            self.slots[slot] = Slot::default();
            return;
        }
        self.slots[slot] = Slot { at: then, ..Slot::default() };
    }

    fn tell(&mut self, event: &Event, bury: bool) {
        let at = usize::from(event.command_id != id(0));
        let said = fingerprint(event);
        // Only the ledger can say the same again.
        let is_other = self.told[at].replace(said).is_some_and(|before| before != said);
        if is_other && !self.has_lost_ledger {
            self.broken = Some(Broken::TwoOutcomes);
        }
        self.buried[at] |= bury;
    }

    /// `Worker::settle`: decide, then the write that every step begins with. A decision has no
    /// effect of its own, so nothing can come between it and its write that could not as well
    /// have come before both.
    fn decide(&mut self, scenario: &Scenario, slot: usize, case: &Rc<Case>, turn: Turn) {
        let mut case = Case::clone(case);
        match self.step(scenario, slot, &case, turn) {
            Step::Attempt => {
                let now = self.clocks(slot);
                case.history.begin(now, stamp(now));
                if self.begin(scenario, slot, &case) {
                    self.slots[slot].at = At::Begun { case: Rc::new(case), began: self.now };
                }
            }
            Step::Inquire => {
                if self.begin(scenario, slot, &case) {
                    self.slots[slot].at = At::Inquiring { case: Rc::new(case), began: self.now };
                }
            }
            Step::RetryAfter { delay, .. } => self.note(scenario, slot, &case, delay, false),
            Step::InquireAfter { delay, .. } => self.note(scenario, slot, &case, delay, true),
            Step::Finish(outcome) => self.conclude(scenario, slot, &case, &outcome),
        }
    }

    fn step(&self, scenario: &Scenario, slot: usize, case: &Case, turn: Turn) -> Step {
        let mut history = case.history.clone();
        match (scenario.plant, history.entries.last_mut()) {
            (Some(Plant::ResendUnclear), Some(Entry::Attempt(attempt))) if attempt.is_unclear() => {
                return Step::Attempt;
            }
            (Some(Plant::FailOnTimeout), Some(Entry::Attempt(attempt))) if attempt.is_unclear() => {
                let problem = Problem::new(Code::Timeout, "planted");
                return Step::Finish(Outcome::Failed(problem));
            }
            (Some(Plant::OneReading), Some(Entry::Inquiry(inquiry))) => inquiry.times += 1,
            _ => {}
        }
        let command = &self.commands[usize::from(case.id != id(0))];
        let (task, now) = (Task::of(command), self.clocks(slot));
        decision::decide(task, &history, &policy(scenario), turn, 0.5, now)
    }

    fn begin(&mut self, scenario: &Scenario, slot: usize, case: &Case) -> bool {
        let held = self.store.begin(case, seconds(LEASE), time(self.now));
        self.goes_on(scenario, slot, held, Plant::CallWithoutClaim)
    }

    /// Whether a write was accepted; if not, the copy looks again later.
    fn goes_on(&mut self, scenario: &Scenario, slot: usize, held: Held, plant: Plant) -> bool {
        let goes_on = held == Held::Yes || scenario.plant == Some(plant);
        if !goes_on {
            self.park_busy(scenario, slot, None);
        }
        goes_on
    }

    fn note(
        &mut self,
        scenario: &Scenario,
        slot: usize,
        case: &Case,
        delay: Duration,
        unsettled: bool,
    ) {
        let due = later(time(self.now), delay);
        let mut case = case.clone();
        case.history.measure(self.clocks(slot));
        let held = self.store.note(&case, delay, unsettled, time(self.now));
        if held == Held::Lost {
            return self.park_busy(scenario, slot, None);
        }
        let message = self.slots[slot].message.unwrap();
        let copy = Message {
            command: message.command,
            parked: case.parked + 1,
            attempts: message.seen(case.history.attempts()),
            redelivered: false,
            due: second(due),
            is_held: false,
        };
        if scenario.plant == Some(Plant::DropBeforeConfirm) {
            self.store.parked(&case.id, copy.parked);
        }
        self.slots[slot].at = At::Noted { copy, is_case: true };
    }

    fn conclude(&mut self, scenario: &Scenario, slot: usize, case: &Case, outcome: &Outcome) {
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
        let event = Event::new(&about, outcome, time(self.now));
        let bury = outcome.needs_a_person();
        let held = self.store.finish(case, &event, bury, time(self.now));
        if self.goes_on(scenario, slot, held, Plant::TellWithoutClaim) {
            self.slots[slot].at = At::Finished { event: Rc::new(event), bury };
        }
    }

    fn park_busy(&mut self, scenario: &Scenario, slot: usize, until: Option<u32>) {
        let parked = self.slots[slot].message.unwrap().parked + 1;
        let again = later(time(self.now), policy(scenario).retry.delay(parked, 0.5));
        self.park_copy(slot, parked, second(again).min(until.unwrap_or(u32::MAX)));
    }

    /// The second of the model so much later.
    fn after(&self, wait: Duration) -> u32 {
        second(later(time(self.now), wait))
    }

    fn park_copy(&mut self, slot: usize, parked: u32, due: u32) {
        let message = self.slots[slot].message.unwrap();
        let attempts = message.seen(0);
        let copy = Message { parked, due, attempts, redelivered: false, ..message };
        self.slots[slot].at = At::Noted { copy, is_case: false };
    }
}

/// A timestamp that is drawn now.
fn stamp(now: Now) -> Stamp {
    Stamp { at: now.wall.as_millisecond(), age: Duration::ZERO }
}
