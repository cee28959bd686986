//! The steps: those of a worker in the order of `worker.rs` and `worker/settle.rs`, and what
//! broker, Eko and chance do to them.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;

use crate::decision::{self, Step, Turn, later};
use crate::event::{About, Event};
use crate::history::{Entry, History};
use crate::ledger::model::{Store, hash_case, token};
use crate::ledger::{Ask, Case, Claim, Held};
use crate::outcome::{Answer, Code, ConfirmedBy, Outcome, Problem, Receipt, Refusal};
use crate::trace::Trace;
use crate::verdict::{Cause, Reading, Verdict};

use super::world::{
    Broken, CALL_TIMEOUT, Faults, LEASE, Message, Plant, QUIET, Scenario, World, fingerprint, id,
    policy, second, seconds, time,
};

/// What happened, for a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// A second passes.
    Tick,
    /// A message is delivered and its command claimed.
    Claim { slot: usize, message: Message },
    /// The call leaves, and Eko does this.
    Call { slot: usize, eko: Does },
    /// The answer arrives, or is given up.
    Answer { slot: usize },
    /// An inquiry is made, and reads this.
    Inquire { slot: usize, reads: Reads },
    /// The evidence is judged, and what follows is written to the ledger.
    Decide { slot: usize },
    /// The parked copy is confirmed.
    Park { slot: usize },
    /// The event is confirmed.
    Tell { slot: usize },
    /// The delivery is acknowledged.
    Ack { slot: usize },
    /// The ledger learns that the parked copy is safe.
    NoteParked { slot: usize },
    /// A worker dies.
    Crash { slot: usize },
    /// The broker takes its time with a message.
    Hold { message: Message },
    /// It is ready for delivery.
    Release { message: Message },
    /// A worker stands still.
    Stall { slot: usize },
    /// It goes on.
    Wake { slot: usize },
    /// A delivery's channel breaks; whoever has it does not know.
    Cut { slot: usize },
    /// A consumer dies before it has claimed what it was delivered.
    Bounce { message: Message },
    /// All that the ledger knows is lost.
    LoseLedger,
    /// Eko executes a call whose answer was lost.
    ExecuteLate { command: u8 },
}

/// What Eko does with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Does {
    /// Executes it and says so.
    Execute,
    /// Executes it; the answer is lost.
    ExecuteSilently,
    /// Does nothing; the answer is lost.
    Nothing,
    /// Executes it some time after the answer was lost, or never.
    Later,
    /// Refuses the OTP.
    Refuse,
    /// Refuses it for now: another transaction is in progress.
    NotNow,
    /// The call never leaves.
    Unreached,
}

impl Does {
    /// Whether there is an answer to wait for.
    const fn is_answered(self) -> bool {
        match self {
            Self::Execute | Self::Refuse | Self::NotNow | Self::Unreached => true,
            Self::ExecuteSilently | Self::Nothing | Self::Later => false,
        }
    }
}

/// What an inquiry reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reads {
    Truth,
    /// What was true before the refund.
    Stale,
    InProgress,
    NoAnswer,
}

/// One delivery in a worker's hands.
#[derive(Clone, Default)]
pub(super) struct Slot {
    at: At,
    message: Option<Message>,
    /// Its channel is gone: the broker has the message again.
    is_cut: bool,
    is_stalled: bool,
}

/// How far a worker is.
#[derive(Clone, Default)]
enum At {
    #[default]
    Idle,
    /// Claimed, or with new evidence.
    Claimed { case: Rc<Case>, turn: Turn },
    /// Claimed, and needs no call.
    Ending { case: Rc<Case>, outcome: Rc<Outcome> },
    /// The attempt is in the ledger.
    Begun { case: Rc<Case>, began: u32 },
    /// The call has left.
    Called { case: Rc<Case>, began: u32, eko: Does },
    /// The inquiry is in the ledger.
    Inquiring { case: Rc<Case>, began: u32 },
    /// Noted: a copy is to be parked.
    Noted { copy: Message, is_case: bool },
    /// The copy is confirmed.
    ParkedConfirmed { copy: Message, is_case: bool },
    /// Acknowledged: the ledger is to learn of the copy.
    ParkedAcked { copy: Message },
    /// The outcome is in the ledger: the event is to be told.
    Finished { event: Rc<Event>, bury: bool },
    /// The event is confirmed.
    EventConfirmed,
    /// Planted: acknowledged, and the event is still to be told.
    AckedTooSoon { event: Rc<Event>, bury: bool },
    /// A later copy has replaced it.
    Stale,
}

impl Slot {
    pub(super) fn is_idle(&self) -> bool {
        matches!(self.at, At::Idle)
    }

    /// Whether it could do something now; a call in flight may take its time.
    pub(super) fn is_at_work(&self, now: u32) -> bool {
        match &self.at {
            _ if self.is_stalled => false,
            At::Idle => false,
            At::Called { began, eko, .. } => now >= began + CALL_TIMEOUT || eko.is_answered(),
            _ => true,
        }
    }

    /// Whether the broker waits for it to acknowledge a copy of a command.
    pub(super) fn holds(&self, command: u8) -> bool {
        !self.is_cut && self.message.is_some_and(|message| message.command == command)
    }

    fn case(&self) -> Option<&Rc<Case>> {
        match &self.at {
            At::Claimed { case, .. }
            | At::Ending { case, .. }
            | At::Begun { case, .. }
            | At::Called { case, .. }
            | At::Inquiring { case, .. } => Some(case),
            At::Idle
            | At::Noted { .. }
            | At::ParkedConfirmed { .. }
            | At::ParkedAcked { .. }
            | At::Finished { .. }
            | At::EventConfirmed
            | At::AckedTooSoon { .. }
            | At::Stale => None,
        }
    }

    pub(super) fn digest(&self) -> u64 {
        let mut state = DefaultHasher::new();
        (self.message, self.is_cut, self.is_stalled, std::mem::discriminant(&self.at))
            .hash(&mut state);
        if let Some(case) = self.case() {
            hash_case(case, &mut state);
        }
        match &self.at {
            At::Claimed { turn, .. } => (*turn == Turn::Ready).hash(&mut state),
            At::Begun { began, .. } | At::Inquiring { began, .. } => began.hash(&mut state),
            At::Called { began, eko, .. } => (began, eko).hash(&mut state),
            At::Noted { copy, is_case } | At::ParkedConfirmed { copy, is_case } => {
                (copy, is_case).hash(&mut state);
            }
            At::ParkedAcked { copy } => copy.hash(&mut state),
            At::Finished { event, bury } | At::AckedTooSoon { event, bury } => {
                (fingerprint(event), bury).hash(&mut state);
            }
            At::Idle | At::Ending { .. } | At::EventConfirmed | At::Stale => {}
        }
        state.finish()
    }
}

impl World {
    /// Each kind of message that is due, to a slot that is free.
    pub(super) fn deliveries(&self, scenario: &Scenario, followers: &mut Vec<(Action, Self)>) {
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
        let now = time(self.now);
        let first = decision::decide(command, &History::new(now), &policy, Turn::Ready, 0.5, now);
        let was_seen = message.redelivered || message.attempts > 0;
        let is_suspect = was_seen && scenario.plant != Some(Plant::TrustRedelivered);
        let ask = Ask {
            id: command.id.clone(),
            kind: command.kind().as_str(),
            tid: command.tid().map(str::to_owned),
            digest: "d".to_owned(),
            now,
            parked: message.parked,
            suspect_until: is_suspect.then(|| later(now, policy.call_timeout)),
            has_reply_to: false,
            may_begin: first == Step::Attempt,
            lease: seconds(LEASE),
        };
        let token = self.new_token();
        let locks = scenario.plant != Some(Plant::NoTidLock);
        let claim = self.store.claim(&ask, token, self.epoch, locks);
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
            Claim::Refunded(case, _)
                if scenario.plant == Some(Plant::ForgetRefunded) && case.interruptions > 0 =>
            {
                At::Claimed { case: Rc::new(case), turn: Turn::Ready }
            }
            Claim::Refunded(case, receipt) => {
                let confirmed_by = ConfirmedBy::Ledger;
                let outcome = Outcome::Succeeded { confirmed_by, receipt, answer: None };
                At::Ending { case: Rc::new(case), outcome: Rc::new(outcome) }
            }
            Claim::Busy { until } => return self.park_busy(scenario, slot, until.map(second)),
            Claim::Early { due } => {
                let copy = Message { due: second(due), ..message };
                At::Noted { copy, is_case: false }
            }
            Claim::Stale => At::Stale,
            Claim::Finished(event) => {
                let needs_a_person = matches!(event.outcome.as_str(), "failed" | "unresolved");
                let bury = needs_a_person && message.redelivered;
                At::Finished { event: Rc::new(self.replayed(scenario, *event)), bury }
            }
            Claim::Conflict => unreachable!("copies of one command are alike"),
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
    pub(super) fn steps(&self, scenario: &Scenario, followers: &mut Vec<(Action, Self)>) {
        for (slot, busy) in self.slots.iter().enumerate() {
            let mut push = |action, step: &dyn Fn(&mut Self)| {
                let mut world = self.clone();
                step(&mut world);
                followers.push((action, world));
            };
            if busy.is_stalled {
                push(Action::Wake { slot }, &|world| world.slots[slot].is_stalled = false);
                continue;
            }
            match &busy.at {
                At::Idle => {}
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
                At::Finished { event, bury } => self.finished(slot, event, *bury, scenario, push),
                At::EventConfirmed | At::Stale => push(Action::Ack { slot }, &|world| {
                    world.ack(slot, At::Idle);
                }),
                At::AckedTooSoon { event, bury } => push(Action::Tell { slot }, &|world| {
                    world.tell(event, *bury);
                    world.slots[slot] = Slot::default();
                }),
            }
        }
    }

    fn finished(
        &self,
        slot: usize,
        event: &Rc<Event>,
        bury: bool,
        scenario: &Scenario,
        mut push: impl FnMut(Action, &dyn Fn(&mut Self)),
    ) {
        if scenario.plant == Some(Plant::AckBeforeConfirm) {
            return push(Action::Ack { slot }, &|world| {
                world.ack(slot, At::AckedTooSoon { event: Rc::clone(event), bury });
            });
        }
        push(Action::Tell { slot }, &|world| {
            world.tell(event, bury);
            world.slots[slot].at = At::EventConfirmed;
        });
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
        match self.step(scenario, &case, turn) {
            Step::Attempt => {
                case.history.begin(time(self.now));
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

    fn step(&self, scenario: &Scenario, case: &Case, turn: Turn) -> Step {
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
        decision::decide(command, &history, &policy(scenario), turn, 0.5, time(self.now))
    }

    fn begin(&mut self, scenario: &Scenario, slot: usize, case: &Case) -> bool {
        let held = self.store.begin(case, time(self.now + LEASE));
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
        delay: std::time::Duration,
        unsettled: bool,
    ) {
        let due = later(time(self.now), delay);
        let held = self.store.note(case, due, unsettled);
        if held == Held::Lost {
            return self.park_busy(scenario, slot, None);
        }
        let command = self.slots[slot].message.map(|message| message.command).unwrap();
        let copy = Message {
            command,
            parked: case.parked + 1,
            attempts: case.history.attempts(),
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
            kind: Some(crate::command::Kind::Refund),
            subject: None,
            correlation_id: None,
            attempts: case.history.attempts(),
            trace: &Trace::new(1),
            span: 1,
        };
        let event = Event::new(&about, outcome, time(self.now));
        let held = self.store.finish(case, &event);
        if self.goes_on(scenario, slot, held, Plant::TellWithoutClaim) {
            let bury = outcome.needs_a_person();
            self.slots[slot].at = At::Finished { event: Rc::new(event), bury };
        }
    }

    fn park_busy(&mut self, scenario: &Scenario, slot: usize, until: Option<u32>) {
        let message = self.slots[slot].message.unwrap();
        let parked = message.parked + 1;
        let again = later(time(self.now), policy(scenario).retry.delay(parked, 0.5));
        let due = second(again).min(until.unwrap_or(u32::MAX));
        let copy = Message { parked, due, ..message };
        self.slots[slot].at = At::Noted { copy, is_case: false };
    }

    /// What Eko may do with a call.
    fn calls(&self, scenario: &Scenario, began: u32) -> Vec<Does> {
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

    fn call(&mut self, slot: usize, case: &Rc<Case>, began: u32, eko: Does) {
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

    fn answer(&mut self, slot: usize, case: &Rc<Case>, began: u32, eko: Does) {
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
        case.history.end(time(self.now), verdict);
        self.slots[slot].at = At::Claimed { case: Rc::new(case), turn: Turn::Answered };
    }

    /// What an inquiry may read.
    fn readings(&self, began: u32) -> Vec<Reads> {
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

    fn inquire(&mut self, slot: usize, case: &Rc<Case>, began: u32, reads: Reads) {
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
        case.history.inquired(time(self.now), reading);
        self.slots[slot].at = At::Claimed { case: Rc::new(case), turn: Turn::Answered };
    }

    /// What breaks.
    pub(super) fn failures(&self, scenario: &Scenario, followers: &mut Vec<(Action, Self)>) {
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

    fn crash_left(&self) -> Option<Faults> {
        self.left.less(|left| &mut left.crashes)
    }

    fn silence_left(&self) -> Option<Faults> {
        self.left.less(|left| &mut left.silences)
    }

    fn anomaly_left(&self) -> Option<Faults> {
        self.left.less(|left| &mut left.anomalies)
    }

    fn blank_left(&self) -> Option<Faults> {
        self.left.less(|left| &mut left.blanks)
    }

    fn refusal_left(&self) -> Option<Faults> {
        self.left.less(|left| &mut left.refusals)
    }

    fn crash(&mut self, scenario: &Scenario, slot: usize) {
        let dead = if scenario.one_process { 0..self.slots.len() } else { slot..slot + 1 };
        for slot in dead {
            self.hand_back(slot);
            self.slots[slot] = Slot::default();
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
