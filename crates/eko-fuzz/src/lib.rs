#![doc = include_str!("../README.md")]

mod answer;

use jiff::Timestamp;

use eko_core::command::{Defaults, parse};
use eko_core::event::{About, Event};
use eko_core::outcome::{Code, Outcome};
use eko_core::privacy::Mobile;
use eko_core::trace::Trace;

pub use answer::answer;

/// Any message is a command that fits the contract, or invalid; and either can be told.
pub fn command(body: &[u8]) {
    let parsed = parse(body, None, &defaults());
    match &parsed.command {
        Ok(command) => {
            assert!((1..=64).contains(&command.id.len()));
            assert!((1..=20).contains(&command.subject().len()));
            assert!(command.canonical().starts_with(command.kind().as_str()));
            let again = parse(body, None, &defaults()).command;
            assert!(again.is_ok_and(|again| again.canonical() == command.canonical()));
        }
        Err(invalid) => {
            let is_invalid =
                matches!(invalid.problem.code, Code::MalformedJson | Code::InvalidCommand);
            assert!(is_invalid && !invalid.problem.message.is_empty());
            let about = About {
                command_id: invalid.id.as_deref().unwrap_or("none"),
                event_id: "none",
                kind: invalid.kind,
                subject: None,
                correlation_id: invalid.correlation_id.as_deref(),
                attempts: 0,
                trace: &Trace::new(1),
                span: 1,
            };
            let outcome = Outcome::Invalid(invalid.problem.clone());
            let event = Event::new(&about, &outcome, Timestamp::UNIX_EPOCH);
            assert_eq!(Event::read(event.body.clone()).ok(), Some(event));
        }
    }
}

fn defaults() -> Defaults {
    Defaults {
        initiator_id: Some(Mobile::new("9962981729")),
        user_code: Some("20810200".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    /// Mutations of each file: enough to turn every byte of a small one.
    const ROUNDS: usize = 300;

    fn corpus(folder: &str) -> Vec<Vec<u8>> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures").join(folder);
        let files = fs::read_dir(root).unwrap();
        files.map(|entry| fs::read(entry.unwrap().path()).unwrap()).collect()
    }

    /// A copy with a few bytes changed, cut out, doubled or taken from another file.
    fn mutated(random: &mut fastrand::Rng, seed: &[u8], other: &[u8]) -> Vec<u8> {
        const TOKENS: [&[u8]; 12] = [
            b"null", b"0", b"-1", b"4", b"\"4\"", b"302", b"1e999", b"\"\"", b"{}", b"[]",
            b"\\u0000", b"\xff",
        ];
        let mut bytes = seed.to_vec();
        for _ in 0..random.usize(1..4) {
            let at = random.usize(0..=bytes.len());
            let end = (at + random.usize(0..8)).min(bytes.len());
            match random.u8(0..4) {
                0 => drop(bytes.drain(at..end)),
                1 => drop(bytes.splice(at..end, random.choice(TOKENS).unwrap().iter().copied())),
                2 => {
                    let from = random.usize(0..=other.len());
                    drop(bytes.splice(at..end, other[from..].iter().copied().take(40)));
                }
                _ => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte = random.u8(..)),
            }
        }
        bytes
    }

    fn run(folder: &str, harness: fn(&[u8])) {
        let (corpus, mut random) = (corpus(folder), fastrand::Rng::with_seed(7));
        for seed in &corpus {
            harness(seed);
            for _ in 0..ROUNDS {
                let other = random.choice(&corpus).unwrap();
                harness(&mutated(&mut random, seed, other));
            }
        }
    }

    #[test]
    fn mutated_commands_are_commands_or_invalid() {
        run("commands", command);
    }

    #[test]
    fn mutated_answers_have_a_verdict_and_no_success_without_evidence() {
        for folder in ["eko/refund", "eko/refund_otp", "eko/transfer_otp", "eko/inquiry"] {
            run(folder, answer);
        }
    }
}
