//! What may happen next in the model, and that it happens.

use super::eko::{Does, Reads};
use super::scenario::Scenario;
use super::world::{Late, Message, World};
use eko_core::order::{Order, Owed, Placed};

/// What happens, for a trace as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// A second passes.
    Tick,
    /// A message is delivered and its command claimed.
    Deliver { slot: usize, message: Message },
    /// A command is taken for one without a message, and claimed.
    Sweep { slot: usize, command: u8 },
    /// The worker does what its order says: nothing else can come of it.
    Step { slot: usize, does: &'static str },
    /// The call leaves, and Eko does this.
    Call { slot: usize, eko: Does },
    /// The answer arrives, or is given up.
    Answer { slot: usize },
    /// An inquiry is made, and reads this.
    Inquire { slot: usize, reads: Reads },
    /// What is owed is published, and the broker refuses so much of it.
    Publish { slot: usize, refused: Owed },
    /// A copy is put into a retry queue, which takes it or not.
    Park { slot: usize, placed: Placed },
    /// A mutation: the delivery is acknowledged and its event is still to be published.
    AckTooSoon { slot: usize },
    /// A worker dies.
    Crash { slot: usize },
    /// The kind is paused just before an attempt begins: the command waits.
    HoldBack { slot: usize },
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
    /// A message vanishes from its queue.
    Purge { message: Message },
    /// A wall clock is set.
    SetClock { slot: usize, by: i32 },
    /// The ledger is as it was before its last commits; whether anybody notices.
    Forget { commits: usize, is_noticed: bool },
    /// All that the ledger knows is lost.
    LoseLedger,
    /// Eko executes a call that was held on its way.
    ExecuteLate { late: Late },
}

impl World {
    /// Everything that may happen next.
    pub(super) fn choices(&self, scenario: &Scenario) -> Vec<Action> {
        let mut choices = Vec::new();
        self.deliveries(scenario, &mut choices);
        self.sweeps(scenario, &mut choices);
        self.steps(scenario, &mut choices);
        self.failures(&mut choices);
        self.disasters(scenario, &mut choices);
        let is_in_time = |late: &&Late| i64::from(self.now) >= late.from;
        let late = self.eko.late.iter().filter(is_in_time);
        choices.extend(late.map(|&late| Action::ExecuteLate { late }));
        choices.extend(self.may_tick(scenario).then_some(Action::Tick));
        choices
    }

    /// Makes it happen.
    pub(super) fn act(&mut self, scenario: &Scenario, action: Action) {
        match action {
            Action::Tick => {
                self.now += 1;
                let now = i64::from(self.now);
                self.eko.late.retain(|late| now < late.until);
            }
            Action::Deliver { slot, message } => self.deliver(scenario, slot, message),
            Action::Sweep { slot, command } => self.sweep(scenario, slot, command),
            Action::Step { slot, .. } => self.step(scenario, slot),
            Action::Call { slot, eko } => self.call(scenario, slot, eko),
            Action::Answer { slot } => self.answer(scenario, slot),
            Action::Inquire { slot, reads } => self.inquire(scenario, slot, reads),
            Action::Publish { slot, refused } => self.publish(slot, refused),
            Action::Park { slot, placed } => self.park(slot, placed),
            Action::AckTooSoon { slot } => self.ack_too_soon(slot),
            Action::Wake { slot } => self.slots[slot].is_stalled = false,
            Action::Release { message } => self.change(message, |it| it.is_held = false),
            Action::ExecuteLate { late } => {
                let at = self.eko.late.iter().position(|it| *it == late).unwrap();
                self.eko.late.remove(at);
                self.execute(late.command);
            }
            Action::Crash { .. }
            | Action::HoldBack { .. }
            | Action::Hold { .. }
            | Action::Stall { .. }
            | Action::Cut { .. }
            | Action::Bounce { .. }
            | Action::Purge { .. }
            | Action::SetClock { .. }
            | Action::Forget { .. }
            | Action::LoseLedger => self.fail(scenario, action),
        }
        if self.left.regressions == 0 {
            self.stores.iter_mut().for_each(crate::model::Store::drop_past);
        }
    }

    /// Each kind of message that is due, to a slot that is free.
    fn deliveries(&self, scenario: &Scenario, choices: &mut Vec<Action>) {
        for (at, &message) in self.messages.iter().enumerate() {
            if message.due > self.now || self.messages[..at].contains(&message) {
                continue;
            }
            if message.is_held {
                choices.push(Action::Release { message });
                continue;
            }
            let may_hold = self.left(|left| &mut left.delays).is_some();
            choices.extend(may_hold.then_some(Action::Hold { message }));
            let may_bounce = self.left(|left| &mut left.crashes).is_some() && !message.redelivered;
            choices.extend(may_bounce.then_some(Action::Bounce { message }));
            choices.extend(self.free(scenario).map(|slot| Action::Deliver { slot, message }));
        }
    }

    /// A command is looked after without its message: rightly, or wrongly.
    fn sweeps(&self, scenario: &Scenario, choices: &mut Vec<Action>) {
        for slot in self.free(scenario) {
            for command in 0..scenario.commands {
                let may_be_wrong = || {
                    self.left(|left| &mut left.sweeps).is_some()
                        && self.stranded_since(scenario, slot, command).is_some()
                };
                if self.is_orphan(scenario, slot, command) || may_be_wrong() {
                    choices.push(Action::Sweep { slot, command });
                }
            }
        }
    }

    /// One step of each worker, in each way that it may go.
    fn steps(&self, scenario: &Scenario, choices: &mut Vec<Action>) {
        for (slot, busy) in self.slots.iter().enumerate() {
            let Some(next) = &busy.next else { continue };
            if busy.is_stalled {
                choices.push(Action::Wake { slot });
                continue;
            }
            match &next.order {
                Order::Call(_) if busy.sent.is_some() => choices.push(Action::Answer { slot }),
                Order::Call(calling) => {
                    let calls = self.calls(scenario, slot, &calling.claim);
                    choices.extend(calls.into_iter().map(|eko| Action::Call { slot, eko }));
                }
                Order::Inquire(_) => {
                    let readings = self.readings(slot).into_iter();
                    choices.extend(readings.map(|reads| Action::Inquire { slot, reads }));
                }
                Order::Publish(publishing) => {
                    if self.acks_too_soon(scenario, slot) {
                        choices.push(Action::AckTooSoon { slot });
                        continue;
                    }
                    let refusals = self.refusals(publishing.owed);
                    choices.extend(refusals.map(|refused| Action::Publish { slot, refused }));
                }
                Order::Park(_) => {
                    let may_refuse = self.left(|left| &mut left.nacks).is_some();
                    choices.push(Action::Park { slot, placed: Placed::Yes });
                    choices.extend(may_refuse.then_some(Action::Park { slot, placed: Placed::No }));
                }
                order => {
                    choices.push(Action::Step { slot, does: name(order) });
                    choices.extend(self.may_hold_back(order).then_some(Action::HoldBack { slot }));
                }
            }
        }
    }

    /// What the broker may refuse of what is owed.
    fn refusals(&self, owed: Owed) -> impl Iterator<Item = Owed> {
        let nothing = Owed { event: false, dead_letter: false };
        let may_refuse = self.left(|left| &mut left.nacks).is_some();
        let event = (may_refuse && owed.event).then_some(Owed { event: true, ..nothing });
        let dead_letter =
            (may_refuse && owed.dead_letter).then_some(Owed { dead_letter: true, ..nothing });
        [Some(nothing), event, dead_letter].into_iter().flatten()
    }
}

/// What a worker does next that can go one way only.
fn name<C>(order: &Order<C>) -> &'static str {
    match order {
        Order::Enter(_) => "enter",
        Order::Claim(_) => "claim",
        Order::Decide(_) => "decide",
        Order::Acquire(_) => "acquire",
        Order::Stamp(_) => "stamp",
        Order::Begin(_) => "begin",
        Order::Call(_) => "call",
        Order::Inquire(_) => "inquire",
        Order::Note(_) => "note",
        Order::Finish(_) => "finish",
        Order::Publish(_) => "publish",
        Order::ParkRefused(_) => "park what was refused",
        Order::Wait(_) => "wait",
        Order::Park(_) => "park",
        Order::Acknowledge(_) => "acknowledge",
        Order::Requeue(_) => "requeue",
        Order::NoteParked(_) => "note that it is parked",
        Order::NotePublished(_) => "note that it is published",
        Order::End(_) => "end",
    }
}
