//! Properties and headers by chance, through a real broker: whatever it takes is told once, and
//! harms no other message. `scripts/fuzz-broker` runs it for minutes.

use std::time::{Duration, Instant};

use crate::rig::Rig;
use crate::rig::command::{refund, transfer_otp};
use crate::rig::raw::{RawPublisher, long, short};

/// So many must be taken by the broker in any case.
const FEWEST: u32 = 50;

/// After so many odd ones comes one that is not.
const EVERY: u32 = 20;

/// How long a good command may take beside odd ones.
const SOON: Duration = Duration::from_secs(5);

/// The flags of properties, from the highest on. Not `expiration`, by which the broker drops a
/// message before anybody sees it, nor `user_id` and `cluster_id`, which it checks itself.
const FLAGS: [u16; 11] =
    [0x8000, 0x4000, 0x2000, 0x1000, 0x0800, 0x0400, 0x0200, 0x0080, 0x0040, 0x0020, 0x0008];

/// Names of headers that mean something to somebody.
const NAMES: [&str; 12] = [
    "traceparent",
    "tracestate",
    "baggage",
    "eko-attempt",
    "eko-parked",
    "eko-age",
    "eko-reason",
    "eko-unread",
    "eko-cut",
    "eko-refused",
    "eko-replay-of",
    "x-first-death-queue",
];

/// What types of values are written as; the last one is none.
const TYPES: &[u8] = b"tbBsUuIiLlfdDTSxAFVZ";

struct Dice(fastrand::Rng);

impl Dice {
    fn bytes(&mut self, most: usize) -> Vec<u8> {
        let count = self.0.usize(..=most);
        if self.0.bool() {
            (0..count).map(|_| self.0.u8(..)).collect()
        } else {
            (0..count).map(|_| self.0.u8(b' '..=b'~')).collect()
        }
    }

    fn exactly(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.0.u8(..)).collect()
    }

    fn short(&mut self) -> Vec<u8> {
        let most = if self.0.u8(..8) == 0 { 255 } else { 12 };
        let bytes = self.bytes(most);
        [&[u8::try_from(bytes.len()).unwrap()][..], &bytes].concat()
    }

    /// A value with its type.
    fn value(&mut self, depth: u32) -> Vec<u8> {
        let kind = TYPES[self.0.usize(..TYPES.len())];
        let value = match kind {
            b'V' => Vec::new(),
            b't' | b'b' | b'B' => self.exactly(1),
            b's' | b'U' | b'u' => self.exactly(2),
            b'I' | b'i' | b'f' => self.exactly(4),
            b'D' => self.exactly(5),
            b'L' | b'l' | b'd' | b'T' => self.exactly(8),
            b'A' | b'F' if depth < 40 => {
                let entries = (0..self.0.u8(..3)).map(|_| match kind {
                    b'A' => self.value(depth + 1),
                    _ => [self.short(), self.value(depth + 1)].concat(),
                });
                long(&entries.collect::<Vec<_>>().concat())
            }
            _ => {
                let most = if self.0.u8(..16) == 0 { 20_000 } else { 40 };
                long(&self.bytes(most))
            }
        };
        [&[kind][..], &value].concat()
    }

    fn headers(&mut self) -> Vec<u8> {
        let entries = (0..self.0.u8(..6)).map(|_| {
            let name = if self.0.bool() {
                short(NAMES[self.0.usize(..NAMES.len())])
            } else {
                self.short()
            };
            [name, self.value(0)].concat()
        });
        let mut table = entries.collect::<Vec<_>>().concat();
        if self.0.u8(..10) == 0 {
            table.truncate(table.len() / 2);
        }
        long(&table)
    }

    fn properties(&mut self) -> (u16, Vec<u8>) {
        let (mut flags, mut values) = (0, Vec::new());
        for flag in FLAGS {
            if self.0.u8(..3) > 0 {
                continue;
            }
            flags |= flag;
            values.extend(match flag {
                0x2000 => self.headers(),
                0x1000 | 0x0800 => vec![self.0.u8(..)],
                0x0040 => self.exactly(8),
                _ => self.short(),
            });
        }
        (flags, values)
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

#[tokio::test]
async fn random_properties_and_headers_harm_no_other_message() {
    let seed = number("EKO_FUZZ_SEED", fastrand::u64(..1_000_000));
    let lasts = Duration::from_secs(number("EKO_FUZZ_SECONDS", 0));
    let mut dice = Dice(fastrand::Rng::with_seed(seed));
    let mut rig = Rig::builder().start().await;
    let exchange = rig.broker.name("commands");
    let (mut raw, mut taken, mut invalid) = (RawPublisher::connect(), 0_u32, 0_u32);
    let began = Instant::now();
    for n in 0_u32.. {
        if taken >= FEWEST && began.elapsed() >= lasts {
            break;
        }
        let (flags, properties) = dice.properties();
        let (kind, command) = match n % 2 {
            0 => ("transfer_otp", transfer_otp(&format!("odd-{n}"), &format!("REF-{n}"))),
            _ => ("refund", refund(&format!("odd-{n}"), &format!("{}", 100_000 + n))),
        };
        let (key, body) = (format!("eko.{kind}.request"), command.to_string().into_bytes());
        let what = || format!("seed {seed}, message {n}: {flags:#06x} {properties:02x?}");
        if raw.try_publish((&exchange, &key), (flags, &properties), &body).is_err() {
            // The broker does not take everything.
            raw = RawPublisher::connect();
            continue;
        }
        taken += 1;
        let event = rig.next_event().await;
        assert_eq!(event.command_id(), format!("odd-{n}"), "{}", what());
        match event.outcome() {
            "invalid" => {
                invalid += 1;
                let dead = rig.dead_letter(&event).await;
                assert!(dead.body == body, "not byte for byte, {}", what());
            }
            outcome => assert_eq!(outcome, "succeeded", "{}", what()),
        }
        if n.is_multiple_of(EVERY) {
            let (id, begun) = (format!("good-{n}"), Instant::now());
            assert_eq!(rig.outcome_of(&transfer_otp(&id, &id)).await.outcome(), "succeeded");
            assert!(begun.elapsed() < SOON, "{:?} after {}", begun.elapsed(), what());
        }
    }
    println!("seed {seed}: {taken} messages taken, {invalid} of them invalid");
    assert!(invalid > 0, "not one of {taken} was odd");
    let metrics = rig.metrics().await;
    assert_eq!(metrics.value("consumers_lost_total", &[]), 0.0, "seed {seed}");
    assert_eq!(super::sessions(&rig), 1, "seed {seed}");
    rig.finish().await;
}
