//! Every interleaving, up to some depth: the pure core in a world that goes wrong.
//!
//! `decision::decide` and the ledger's rules are the real ones. Around them is a model: a
//! broker that delivers at least once, in any order; workers that take the steps of
//! `worker.rs` and `worker/settle.rs` one by one and may die, stand still or lose their channel
//! between any two; and an Eko that executes a call or not, answers or not, or executes it
//! late. Each state that can be reached is visited once, breadth first, and must keep the
//! design's invariants 1 to 5; the first that does not is told with the shortest way to it.
//!
//! A run holds at most a few faults ([`Faults`]), in every combination and at every moment.
//! What it does not hold: a call that is executed later than `SETTLE_QUIET` after its end, and
//! a late execution together with a stale reading, which nothing could tell from "not
//! executed". Time is in seconds, and short.
//!
//! Why not `stateright`: its models must be `Hash` and `Eq` all through, which the history is
//! not and, for the sake of production, need not be; its actors would be a second worker
//! beside the real rules; it brings a web server. What is needed of it is `explorer.rs`.
//!
//! A test of the test plants a bug ([`Plant`]) in a scenario that is sound without it.

mod explorer;
mod scenario;
mod step;
mod world;

use std::time::Instant;

use explorer::{Report, explore};
use scenario::{Faults, Plant, Scenario};
use world::Broken;

const CALM: Faults = Faults {
    crashes: 0,
    cuts: 0,
    stalls: 0,
    silences: 0,
    anomalies: 0,
    blanks: 0,
    refusals: 0,
    delays: 0,
    losses: 0,
    all: 2,
};

/// One refund and one worker, which may die twice; Eko does what it likes.
const ALONE: Scenario = Scenario {
    name: "alone",
    commands: 1,
    copies: 1,
    slots: 1,
    one_process: true,
    faults: Faults {
        crashes: 2,
        silences: 2,
        anomalies: 1,
        blanks: 1,
        refusals: 1,
        all: 3,
        ..CALM
    },
    expiry: None,
    preflight: false,
    horizon: 14,
    plant: None,
};

/// The same, with a worker that stands still or loses its channel, and a slow broker.
const STALLED: Scenario = Scenario {
    name: "stalled",
    faults: Faults { stalls: 1, cuts: 1, delays: 1, all: 2, ..ALONE.faults },
    ..ALONE
};

const EXPIRING: Scenario = Scenario { name: "expiring", expiry: Some(3), ..STALLED };

const PREFLIGHT: Scenario = Scenario { name: "preflight", preflight: true, ..STALLED };

/// The ledger is lost while no worker runs.
const AMNESIA: Scenario = Scenario {
    name: "amnesia",
    faults: Faults { losses: 1, silences: 1, crashes: 2, refusals: 1, all: 3, ..CALM },
    ..ALONE
};

/// Upstream sends one command twice, to two workers that share a ledger.
const COPIES: Scenario = Scenario {
    name: "copies",
    copies: 2,
    slots: 2,
    one_process: false,
    faults: Faults { crashes: 1, cuts: 1, stalls: 1, silences: 1, ..CALM },
    ..ALONE
};

/// The same, to two tasks of one worker.
const TASKS: Scenario = Scenario {
    name: "tasks",
    one_process: true,
    faults: Faults { crashes: 1, cuts: 1, silences: 1, refusals: 1, ..CALM },
    ..COPIES
};

/// Two commands for one tid, and two workers.
const RIVALS: Scenario = Scenario {
    name: "rivals",
    commands: 2,
    copies: 1,
    faults: Faults { crashes: 1, stalls: 1, silences: 1, ..CALM },
    ..COPIES
};

/// The same, where the first one's end is not known and Eko or its inquiry is late.
const DOUBTED: Scenario = Scenario {
    name: "doubted",
    faults: Faults { silences: 1, anomalies: 1, blanks: 1, cuts: 1, ..CALM },
    ..RIVALS
};

#[expect(clippy::disallowed_methods, reason = "a report says how long it took")]
fn run(scenario: &Scenario) -> Report {
    let began = Instant::now();
    let report = explore(scenario);
    let plant = scenario.plant.map(|plant| format!(" with {plant:?}")).unwrap_or_default();
    println!("{}{plant}, {:.1?}: {report}", scenario.name, began.elapsed());
    report
}

fn assert_sound(scenario: &Scenario) {
    let report = run(scenario);
    assert!(report.found.is_none(), "{report}");
    assert!(report.ends > 0, "nothing ever ended");
}

/// Plants a bug where there was none, and names the promise that it must break.
fn assert_found(plant: Plant, scenario: &Scenario, broken: Broken) {
    let report = run(&Scenario { plant: Some(plant), ..*scenario });
    assert_eq!(report.found.as_ref().map(|found| found.broken), Some(broken), "{report}");
}

#[test]
fn one_refund_keeps_every_promise() {
    assert_sound(&ALONE);
}

#[test]
fn one_refund_keeps_every_promise_with_a_worker_that_stands_still() {
    assert_sound(&STALLED);
}

#[test]
fn a_refund_that_expires_keeps_every_promise() {
    assert_sound(&EXPIRING);
}

#[test]
fn a_refund_that_is_inquired_first_keeps_every_promise() {
    assert_sound(&PREFLIGHT);
}

#[test]
fn a_lost_ledger_does_not_cost_a_second_refund() {
    assert_sound(&AMNESIA);
}

#[test]
fn two_copies_of_a_command_keep_every_promise() {
    assert_sound(&COPIES);
}

#[test]
fn two_copies_in_one_process_keep_every_promise() {
    assert_sound(&TASKS);
}

#[test]
fn two_commands_for_one_tid_keep_every_promise() {
    assert_sound(&RIVALS);
}

#[test]
fn two_commands_for_one_tid_in_doubt_keep_every_promise() {
    assert_sound(&DOUBTED);
}

#[test]
fn planted_a_crash_forgets_that_the_tid_is_refunded() {
    assert_found(Plant::ForgetRefunded, &RIVALS, Broken::ExecutedTwice);
}

#[test]
fn planted_an_interrupted_command_is_started_anew() {
    assert_found(Plant::InterruptedAsFresh, &ALONE, Broken::ExecutedTwice);
}

#[test]
fn planted_one_reading_is_believed() {
    assert_found(Plant::OneReading, &ALONE, Broken::ExecutedTwice);
}

#[test]
fn planted_a_reading_is_believed_at_once() {
    assert_found(Plant::NoQuiet, &ALONE, Broken::ExecutedTwice);
}

#[test]
fn planted_the_ack_comes_before_the_confirm() {
    assert_found(Plant::AckBeforeConfirm, &ALONE, Broken::Forgotten);
}

#[test]
fn planted_there_is_no_tid_lock() {
    assert_found(Plant::NoTidLock, &RIVALS, Broken::ExecutedTwice);
}

#[test]
fn planted_an_unclear_attempt_is_repeated() {
    assert_found(Plant::ResendUnclear, &ALONE, Broken::ExecutedTwice);
}

#[test]
fn planted_older_copies_are_dropped_before_the_parked_one_is_safe() {
    assert_found(Plant::DropBeforeConfirm, &ALONE, Broken::Forgotten);
}

#[test]
fn planted_a_timeout_is_told_as_a_failure() {
    assert_found(Plant::FailOnTimeout, &ALONE, Broken::DeniedAnExecution);
}

#[test]
fn planted_a_worker_that_has_lost_its_claim_calls() {
    assert_found(Plant::CallWithoutClaim, &COPIES, Broken::ExecutedTwice);
}

#[test]
fn planted_a_worker_that_has_lost_its_claim_tells() {
    assert_found(Plant::TellWithoutClaim, &COPIES, Broken::TwoOutcomes);
}

#[test]
fn planted_a_call_leaves_late() {
    assert_found(Plant::SendLate, &COPIES, Broken::ExecutedTwice);
}

#[test]
fn planted_a_redelivered_command_that_the_ledger_does_not_know_is_started_at_once() {
    assert_found(Plant::TrustRedelivered, &AMNESIA, Broken::ExecutedTwice);
}

#[test]
fn planted_an_event_is_made_anew_for_each_delivery() {
    assert_found(Plant::NewEventEachTime, &COPIES, Broken::TwoOutcomes);
}
