//! What is published in a soak: commands of all kinds, good and bad, some twice, drawn from the
//! seed; and what is known of each before anything happens.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::rig::command::{Edit, refund, refund_otp, text, transfer_otp};

/// A message for the exchange of commands: key and body.
pub(crate) type Order = (String, Vec<u8>);

/// What is known of the messages with one id.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    /// The routing key.
    pub(crate) key: String,
    /// What the simulator counts it under: the tid, for a transfer the recipient; empty for an
    /// invalid message.
    pub(crate) at_eko: String,
    /// The bodies that were published with it; more than one where the id was used twice.
    pub(crate) bodies: BTreeSet<Vec<u8>>,
}

impl Known {
    /// Whether it asks for a refund.
    pub(crate) fn is_refund(&self) -> bool {
        self.key == "eko.refund.request" && self.is_valid()
    }

    /// Whether it is a command at all.
    pub(crate) fn is_valid(&self) -> bool {
        !self.at_eko.is_empty()
    }
}

/// All that was published so far.
pub(crate) struct Orders {
    rng: fastrand::Rng,
    /// Part of every tid, so that each seed draws faults of its own.
    stem: String,
    drawn: usize,
    /// By command id.
    pub(crate) known: BTreeMap<String, Known>,
    /// The bodies of messages without an id.
    pub(crate) nameless: BTreeSet<Vec<u8>>,
    refunded_tids: Vec<String>,
    sent: Vec<Order>,
}

impl Orders {
    /// Nothing yet.
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            rng: fastrand::Rng::with_seed(!seed),
            stem: format!("1{:06}", seed % 1_000_000),
            drawn: 0,
            known: BTreeMap::new(),
            nameless: BTreeSet::new(),
            refunded_tids: Vec::new(),
            sent: Vec::new(),
        }
    }

    /// How many commands were drawn.
    pub(crate) fn len(&self) -> usize {
        self.drawn
    }

    /// How many messages were drawn, repeats included.
    pub(crate) fn messages(&self) -> usize {
        self.sent.len()
    }

    /// This many more commands, and some of all so far once more.
    pub(crate) fn draw(&mut self, commands: usize) -> Vec<Order> {
        let begin = self.sent.len();
        for _ in 0..commands {
            self.draw_one();
            if self.rng.u32(..100) < 6 {
                let again = self.sent[self.rng.usize(..self.sent.len())].clone();
                self.sent.push(again);
            }
        }
        self.sent[begin..].to_vec()
    }

    /// One more command that nothing but a fault can keep from succeeding; the kinds take turns.
    pub(crate) fn draw_plain(&mut self) -> Order {
        let n = self.drawn;
        self.drawn += 1;
        let (id, tid) = (Self::plain_id(n), format!("{}{n:06}", self.stem));
        match n % 3 {
            0 => self.add(&refund_otp(&id, &tid), "/data/tid"),
            1 => self.add_refund(refund(&id, &tid)),
            _ => self.add(&transfer(&id, &tid), "/data/recipient_id"),
        }
        self.sent[self.sent.len() - 1].clone()
    }

    /// A message that is no command, though an id can be read in it.
    pub(crate) fn add_invalid(&mut self, command: &Value) -> Vec<u8> {
        self.add(command, "");
        self.sent[self.sent.len() - 1].1.clone()
    }

    /// The id of the `n`th of them, from 0.
    pub(crate) fn plain_id(n: usize) -> String {
        format!("load-{n}")
    }

    fn draw_one(&mut self) {
        let n = self.drawn;
        self.drawn += 1;
        let id = format!("soak-{n}");
        let tid = format!("{}{n:06}", self.stem);
        match self.rng.u32(..100) {
            0..48 => self.add_refund(refund(&id, &tid)),
            48..56 => {
                let shared = self.rng.choice(&self.refunded_tids).cloned().unwrap_or(tid);
                self.add_refund(refund(&id, &shared));
            }
            56..60 => {
                let soon = SignedDuration::from_millis(self.rng.i64(50..3_000));
                let expiry = json!((Timestamp::now() + soon).to_string());
                self.add_refund(refund(&id, &tid).with("/expirytime", expiry));
            }
            // Held by Eko for good: nobody can ever know. Early ones only, since each is waited for.
            60 if n < 200 => self.add(&refund(&id, &format!("997100{n:06}")), "/data/tid"),
            60..77 => self.add(&refund_otp(&id, &tid), "/data/tid"),
            77..93 => self.add(&transfer(&id, &tid), "/data/recipient_id"),
            93..95 => self.add(&refund(&id, &tid).with("/data/otp", json!("12")), ""),
            95..97 => self.add(&refund_otp(&id, &tid).with("/data/tidd", json!("1")), ""),
            97 => {
                let body = format!("{{\"id\": {n}");
                self.sent.push(("eko.refund.request".to_owned(), body.clone().into_bytes()));
                self.nameless.insert(body.into_bytes());
            }
            // One id for two different commands: only one of them may be carried out.
            _ => {
                self.add(&refund_otp(&id, &tid), "/data/tid");
                self.add(
                    &refund_otp(&id, &tid).with("/data/initiator_id", "9000000001".into()),
                    "/data/tid",
                );
            }
        }
    }

    fn add_refund(&mut self, command: Value) {
        self.refunded_tids.push(text(&command, "/data/tid").to_owned());
        self.add(&command, "/data/tid");
    }

    /// Takes a command up; `at_eko` points to what the simulator counts it under.
    fn add(&mut self, command: &Value, at_eko: &str) {
        let at_eko = if at_eko.is_empty() { "" } else { text(command, at_eko) };
        let order = (text(command, "/type").to_owned(), command.to_string().into_bytes());
        let known = self.known.entry(text(command, "/id").to_owned()).or_insert_with(|| Known {
            key: order.0.clone(),
            at_eko: at_eko.to_owned(),
            bodies: BTreeSet::new(),
        });
        known.bodies.insert(order.1.clone());
        self.sent.push(order);
    }
}

fn transfer(id: &str, recipient: &str) -> Value {
    let reference = id.replace('-', "_");
    transfer_otp(id, &reference).with("/data/recipient_id", json!(recipient))
}
