//! What came out of a soak, and whether it is right: the simulator's own count is the truth.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::orders::{Known, Orders};
use crate::rig::broker::Message;
use crate::rig::event::Event;

/// Something that must not be.
pub(crate) struct Violation {
    /// The command, where it is about one.
    pub(crate) command: String,
    /// What is wrong.
    pub(crate) what: String,
}

impl Violation {
    /// About a command; about the whole run where `command` is empty.
    pub(crate) fn new(command: &str, what: String) -> Self {
        Self { command: command.to_owned(), what }
    }
}

/// All that was told.
#[derive(Default)]
pub(crate) struct Evidence {
    /// Each event once, by its id.
    pub(crate) events: BTreeMap<String, Event>,
    /// The ids of each command's events.
    pub(crate) of_command: BTreeMap<String, BTreeSet<String>>,
    /// How many events were repeats.
    pub(crate) repeats: usize,
    /// Repeats that say something else than the first.
    changed: Vec<(String, String)>,
    /// What lies in `eko.dead`.
    pub(crate) dead: Vec<Message>,
}

impl Evidence {
    /// Takes an event up.
    pub(crate) fn add_event(&mut self, message: Message) {
        let event = Event::read(message);
        let (id, command) = (event.id().to_owned(), event.command_id().to_owned());
        self.of_command.entry(command.clone()).or_default().insert(id.clone());
        if let Some(first) = self.events.get(&id) {
            self.repeats += 1;
            if first.message.body != event.message.body {
                self.changed.push((command, event.body.to_string()));
            }
        } else {
            self.events.insert(id, event);
        }
    }

    /// The commands that have no outcome yet.
    pub(crate) fn missing(&self, orders: &Orders) -> Vec<Violation> {
        let mut missing: Vec<_> = orders
            .known
            .iter()
            .filter(|(id, known)| {
                self.outcomes(id).is_empty() || self.reused(id).len() + 1 < known.bodies.len()
            })
            .map(|(id, _)| Violation::new(id, "it has no outcome".to_owned()))
            .collect();
        let nameless = self.nameless(orders).count();
        if nameless < orders.nameless.len() {
            let what = format!("{nameless} events of {} broken messages", orders.nameless.len());
            missing.push(Violation::new("", what));
        }
        missing
    }

    /// The commands of events that nobody gave a name to.
    fn nameless(&self, orders: &Orders) -> impl Iterator<Item = &String> {
        self.of_command.keys().filter(|id| !orders.known.contains_key(*id))
    }

    fn all(&self, command: &str) -> impl Iterator<Item = &Event> {
        self.of_command.get(command).into_iter().flatten().map(|id| &self.events[id])
    }

    /// The events that tell how a command ended: there must be one.
    pub(crate) fn outcomes(&self, command: &str) -> Vec<&Event> {
        self.all(command).filter(|event| !is_reused(event)).collect()
    }

    /// The events of other messages with its id.
    fn reused(&self, command: &str) -> Vec<&Event> {
        self.all(command).filter(|event| is_reused(event)).collect()
    }

    /// Everything that must not be.
    pub(crate) fn check(&self, orders: &Orders, eko: &Value) -> Vec<Violation> {
        let mut violations: Vec<_> = self
            .changed
            .iter()
            .map(|(id, body)| Violation::new(id, format!("an event changed: {body}")))
            .collect();
        for (id, known) in &orders.known {
            let outcomes = self.outcomes(id);
            let mut wrong = |what: String| violations.push(Violation::new(id, what));
            if outcomes.len() > 1 {
                wrong(format!("it ended in {} ways", outcomes.len()));
            }
            if self.reused(id).len() + 1 > known.bodies.len() {
                wrong("another message is said to have its id".to_owned());
            }
            if let Some(what) = outcomes.first().and_then(|end| self.lie(known, end, orders, eko)) {
                wrong(what);
            }
        }
        if self.nameless(orders).count() > orders.nameless.len() {
            let ids: Vec<_> = self.nameless(orders).collect();
            violations.push(Violation::new("", format!("events of nobody among {ids:?}")));
        }
        violations.extend(self.check_eko(orders, eko));
        violations.extend(self.check_dead(orders));
        violations
    }

    /// What an outcome says that is not so.
    fn lie(&self, known: &Known, end: &Event, orders: &Orders, eko: &Value) -> Option<String> {
        let outcome = end.outcome();
        if !known.is_valid() || outcome == "invalid" {
            let is_right = !known.is_valid() && outcome == "invalid";
            return (!is_right).then(|| format!("{outcome}, valid or not"));
        }
        if known.is_refund() {
            let executed = eko["executions"][&known.at_eko].as_u64().unwrap_or(0);
            return match outcome {
                "succeeded" if executed != 1 => Some(format!("succeeded, executed {executed} ×")),
                "rejected" | "failed" | "expired" if executed > 0 => {
                    let is_others = self.others_may_have(known, end.command_id(), orders);
                    (!is_others).then(|| format!("{outcome}, but executed"))
                }
                _ => None,
            };
        }
        let sent = eko["otps_sent"][&known.at_eko].as_u64().unwrap_or(0);
        match outcome {
            "succeeded" if sent == 0 => Some("succeeded, no OTP was sent".to_owned()),
            "failed" | "expired" if sent > 0 => Some(format!("{outcome}, but an OTP was sent")),
            // One call and three re-sends.
            _ if sent > 4 => Some(format!("{sent} OTPs were sent")),
            _ => None,
        }
    }

    /// Whether another command of the same tid was, or may have been, the one that refunded it.
    fn others_may_have(&self, known: &Known, id: &str, orders: &Orders) -> bool {
        let shares = |other: &Known| other.is_refund() && other.at_eko == known.at_eko;
        let others = orders.known.iter().filter(|(other, known)| *other != id && shares(known));
        let mut ends = others.flat_map(|(other, _)| self.outcomes(other));
        ends.any(|end| matches!(end.outcome(), "succeeded" | "unresolved"))
    }

    fn check_eko(&self, orders: &Orders, eko: &Value) -> Vec<Violation> {
        let mut violations = Vec::new();
        for (tid, executed) in eko["executions"].as_object().unwrap() {
            let commands = orders.known.iter().filter(|(_, known)| known.at_eko == *tid);
            let commands: Vec<_> = commands.map(|(id, _)| id.as_str()).collect();
            if executed.as_u64() > Some(1) {
                let what = format!("tid {tid} was refunded {executed} × for {commands:?}");
                violations.push(Violation::new(commands.first().unwrap_or(&""), what));
            }
        }
        let bad = eko["bad_requests"].as_array().unwrap();
        violations.extend(bad.iter().map(|why| Violation::new("", format!("bad request: {why}"))));
        if eko["overlapping_refunds"] != 0 {
            let what = format!("refunds of one tid at once: {}", eko["overlapping_refunds"]);
            violations.push(Violation::new("", what));
        }
        violations
    }

    /// `eko.dead` must hold exactly the commands whose outcome needs a person.
    fn check_dead(&self, orders: &Orders) -> Vec<Violation> {
        let mut violations = Vec::new();
        let mut buried = BTreeSet::new();
        for dead in &self.dead {
            let id = dead.header("eko-event-id").unwrap_or_default();
            let Some(event) = self.events.get(&id) else {
                violations.push(Violation::new("", format!("a dead letter of no event: {dead:?}")));
                continue;
            };
            let command = event.command_id();
            let mut wrong = |what: &str| violations.push(Violation::new(command, what.to_owned()));
            let is_published = match orders.known.get(command) {
                Some(known) => known.bodies.contains(&dead.body),
                None => orders.nameless.contains(&dead.body),
            };
            if !is_published {
                wrong("its dead letter has another body");
            }
            if !needs_a_person(event) {
                wrong("it lies in eko.dead without need");
            }
            if dead.header("eko-outcome").as_deref() != Some(event.outcome()) {
                wrong("its dead letter names another outcome");
            }
            buried.insert(id);
        }
        for event in self.events.values().filter(|event| needs_a_person(event)) {
            if !buried.contains(event.id()) {
                let what = format!("{} is not in eko.dead", event.id());
                violations.push(Violation::new(event.command_id(), what));
            }
        }
        violations
    }
}

fn is_reused(event: &Event) -> bool {
    event.outcome() == "invalid" && event.code() == "id_reused"
}

fn needs_a_person(event: &Event) -> bool {
    matches!(event.outcome(), "failed" | "unresolved" | "invalid")
}
