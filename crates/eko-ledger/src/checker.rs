//! Every interleaving, up to some depth: the pure core in a model where things go wrong.
//!
//! `order`, `decision::decide` and the ledger's rules are the real ones. Around them is a model: a
//! broker that delivers at least once, in any order, and may lose or refuse what it is given; ledgers
//! that may forget what they committed; workers that go the way of their order and may die, stand
//! still or lose their channel between any two steps; wall clocks that step and disagree; and an Eko
//! that executes a call or not, answers or not, or executes it as late as its signature lives. Each
//! state that can be reached is visited once, breadth first, and must keep the design's invariants 1
//! to 5; the first that does not is told with the shortest way to it. `simulation.rs` goes one way a
//! seed through larger scenarios.
//!
//! A run holds at most a few faults ([`Faults`]), in every combination and at every moment. Time
//! is in seconds, and short.
//!
//! Why not `stateright`: its models must be `Hash` and `Eq` all through, which the history is
//! not and, for the sake of production, need not be; its actors would be a second worker
//! beside the real rules; it brings a web server. What is needed of it is `explorer.rs`.
//!
//! A test of the test puts a mutation (`mutation_tests.rs`) into a scenario that is sound without it.

mod action;
mod asking;
mod drive;
mod eko;
mod explorer;
mod fault;
mod mutation;
mod mutation_tests;
mod promise;
mod publish;
mod scenario;
mod simulation;
mod slot;
mod world;

use std::time::Instant;

use explorer::{Mixer as Hasher, Report, explore};
use scenario::{Faults, Scenario};

const CALM: Faults = Faults {
    crashes: 0,
    cuts: 0,
    stalls: 0,
    silences: 0,
    gateways: 0,
    resends: 0,
    lates: 0,
    stales: 0,
    blanks: 0,
    refusals: 0,
    nacks: 0,
    delays: 0,
    steps: 0,
    purges: 0,
    sweeps: 0,
    regressions: 0,
    losses: 0,
    pauses: 0,
    all: 2,
};

/// One refund and one worker, which may die twice; Eko and the way to it do what they like.
const ALONE: Scenario = Scenario {
    name: "alone",
    commands: 1,
    tids: 1,
    copies: 1,
    slots: 1,
    one_process: true,
    own_ledgers: false,
    ahead: 0,
    steps: &[],
    is_dated: true,
    is_adopted: false,
    faults: Faults {
        crashes: 2,
        silences: 2,
        gateways: 1,
        resends: 1,
        lates: 1,
        blanks: 1,
        refusals: 1,
        all: 2,
        ..CALM
    },
    expiry: None,
    preflight: false,
    is_fine: false,
    horizon: 20,
    mutations: &[],
};

/// The same, with a worker that stands still or loses its channel, and a slow broker.
const STALLED: Scenario = Scenario {
    name: "stalled",
    faults: Faults { stalls: 1, cuts: 1, delays: 1, ..ALONE.faults },
    ..ALONE
};

const EXPIRING: Scenario = Scenario { name: "expiring", expiry: Some(3), ..STALLED };

const PREFLIGHT: Scenario = Scenario { name: "preflight", preflight: true, ..STALLED };

/// Inquiries read what was true before, as often as it matters.
const STALE: Scenario = Scenario {
    name: "stale",
    faults: Faults { silences: 1, lates: 1, stales: 2, crashes: 1, all: 3, ..CALM },
    ..ALONE
};

/// The same where Eko's answers do not tell its time: one such reading, and no call that is late.
const UNDATED: Scenario = Scenario {
    name: "undated",
    is_dated: false,
    faults: Faults { silences: 2, stales: 1, crashes: 1, blanks: 1, all: 3, ..CALM },
    ..ALONE
};

/// The wall clock is set, and only the worker's own measure counts.
const STEPPED: Scenario = Scenario {
    name: "stepped",
    is_dated: false,
    steps: &[9, -9],
    faults: Faults { steps: 2, lates: 1, crashes: 1, all: 3, ..CALM },
    ..ALONE
};

/// Steps so small that Eko still takes the timestamps.
const NUDGED: Scenario = Scenario {
    name: "nudged",
    steps: &[2, -2],
    faults: Faults { steps: 2, lates: 1, crashes: 1, all: 3, ..CALM },
    ..ALONE
};

/// The ledger is lost while no worker runs, and nobody says so.
const AMNESIA: Scenario = Scenario {
    name: "amnesia",
    faults: Faults { losses: 1, silences: 1, crashes: 2, refusals: 1, all: 3, ..CALM },
    ..ALONE
};

/// The ledger is lost while no worker runs, and another one takes over.
const ADOPTED: Scenario = Scenario {
    name: "adopted",
    commands: 2,
    is_adopted: true,
    faults: Faults { losses: 1, crashes: 1, silences: 1, lates: 1, delays: 1, ..CALM },
    ..ALONE
};

/// Upstream sends one command twice, to two workers that share a ledger.
const COPIES: Scenario = Scenario {
    name: "copies",
    copies: 2,
    slots: 2,
    one_process: false,
    faults: Faults { cuts: 1, stalls: 1, silences: 1, ..CALM },
    ..ALONE
};

/// The same, where calls never leave, so that the command waits and is taken again.
const TAKEN: Scenario = Scenario {
    name: "taken",
    faults: Faults { refusals: 1, stalls: 1, crashes: 1, ..CALM },
    ..COPIES
};

/// One command, where a second worker's wall clock is ahead.
const DISAGREEING: Scenario = Scenario {
    name: "disagreeing",
    copies: 1,
    ahead: 2,
    faults: Faults { cuts: 1, stalls: 1, lates: 1, ..CALM },
    ..COPIES
};

/// Two copies, and two workers of which each has a ledger of its own.
const TWO_LEDGERS: Scenario = Scenario {
    name: "two ledgers",
    own_ledgers: true,
    faults: Faults { crashes: 1, silences: 1, ..CALM },
    ..COPIES
};

/// The same, to two tasks of one worker.
const TASKS: Scenario = Scenario {
    name: "tasks",
    one_process: true,
    faults: Faults { crashes: 1, silences: 1, ..CALM },
    ..COPIES
};

/// Two commands for one tid, and two workers.
const RIVALS: Scenario = Scenario {
    name: "rivals",
    commands: 2,
    copies: 1,
    faults: Faults { crashes: 1, silences: 1, ..CALM },
    ..COPIES
};

/// The same, where a worker stands still.
const STALLED_RIVALS: Scenario = Scenario {
    name: "stalled rivals",
    faults: Faults { stalls: 1, silences: 1, ..CALM },
    ..RIVALS
};

/// The same, where the first one's end is not known and Eko or its inquiry is late.
const DOUBTED: Scenario = Scenario {
    name: "doubted",
    faults: Faults { silences: 1, lates: 1, blanks: 1, cuts: 1, ..CALM },
    ..RIVALS
};

/// Queues refuse what is published, and a worker dies.
const REFUSED: Scenario = Scenario {
    name: "refused",
    faults: Faults { nacks: 2, crashes: 1, silences: 1, refusals: 1, all: 3, ..CALM },
    ..ALONE
};

/// Messages vanish.
const PURGED: Scenario = Scenario {
    name: "purged",
    faults: Faults {
        purges: 1,
        sweeps: 1,
        delays: 1,
        crashes: 1,
        silences: 1,
        lates: 1,
        refusals: 1,
        all: 3,
        ..CALM
    },
    ..ALONE
};

/// The same with two workers, of which one may stand still.
const SWEPT: Scenario = Scenario {
    name: "swept",
    copies: 1,
    faults: Faults { purges: 1, sweeps: 1, stalls: 1, cuts: 1, silences: 1, ..CALM },
    ..COPIES
};

/// The ledger forgets its last commits under two workers.
const FAILOVER: Scenario = Scenario {
    name: "failover",
    copies: 1,
    faults: Faults { regressions: 1, crashes: 1, cuts: 1, lates: 1, refusals: 1, ..CALM },
    ..COPIES
};

/// The same, with two commands for one tid.
const FAILOVER_OF_RIVALS: Scenario = Scenario {
    name: "failover of rivals",
    faults: Faults { regressions: 1, cuts: 1, lates: 1, ..CALM },
    ..RIVALS
};

/// An operator pauses the kind whenever an attempt would begin.
const PAUSED: Scenario = Scenario {
    name: "paused",
    faults: Faults { pauses: 2, silences: 1, lates: 1, refusals: 1, crashes: 1, all: 3, ..CALM },
    ..ALONE
};

#[expect(clippy::disallowed_methods, reason = "a report says how long it took")]
fn run(scenario: &Scenario) -> Report {
    let began = Instant::now();
    let report = explore(scenario);
    let mutations = match scenario.mutations {
        [] => String::new(),
        mutations => format!(" with {mutations:?}"),
    };
    println!("{}{mutations}, {:.1?}: {report}", scenario.name, began.elapsed());
    report
}

fn assert_sound(scenario: &Scenario) {
    let report = run(scenario);
    assert!(report.found.is_none(), "{}: {report}", scenario.name);
    assert!(report.ends > 0, "nothing ever ended");
    assert!(!report.is_partial, "too many states: lower the faults or the horizon");
}

/// Each scenario as a test, and a deeper run of it with one fault more, for `scripts/explore`.
macro_rules! sound {
    ($($test:ident $scenario:ident),* $(,)?) => {
        $(
            #[test]
            fn $test() {
                assert_sound(&$scenario);
            }
        )*

        mod deep {
            $(
                #[test]
                #[ignore = "takes minutes: scripts/explore --deep"]
                fn $test() {
                    super::assert_sound_deeply(&super::$scenario);
                }
            )*
        }
    };
}

fn assert_sound_deeply(scenario: &Scenario) {
    let all = scenario.faults.all + 1;
    let report = run(&Scenario { faults: Faults { all, ..scenario.faults }, ..*scenario });
    assert!(report.found.is_none(), "{}: {report}", scenario.name);
}

sound! {
    one_refund_keeps_every_promise ALONE,
    a_worker_that_stands_still_keeps_every_promise STALLED,
    a_refund_that_expires_keeps_every_promise EXPIRING,
    a_refund_that_is_inquired_first_keeps_every_promise PREFLIGHT,
    a_reading_that_is_stale_breaks_no_promise STALE,
    a_reading_without_a_date_breaks_no_promise UNDATED,
    a_wall_clock_that_steps_far_breaks_no_promise STEPPED,
    a_wall_clock_that_steps_a_little_breaks_no_promise NUDGED,
    a_lost_ledger_does_not_cost_a_second_refund AMNESIA,
    an_adopted_ledger_does_not_cost_a_second_refund ADOPTED,
    two_copies_of_a_command_keep_every_promise COPIES,
    a_command_that_is_taken_over_keeps_every_promise TAKEN,
    workers_whose_clocks_disagree_keep_every_promise DISAGREEING,
    a_worker_with_another_ledger_does_not_consume TWO_LEDGERS,
    two_copies_in_one_process_keep_every_promise TASKS,
    two_commands_for_one_tid_keep_every_promise RIVALS,
    two_commands_and_a_worker_that_stands_still_keep_every_promise STALLED_RIVALS,
    two_commands_for_one_tid_in_doubt_keep_every_promise DOUBTED,
    what_a_queue_refuses_is_published_later REFUSED,
    a_message_that_vanishes_leaves_nothing_undone PURGED,
    a_sweep_beside_another_worker_keeps_every_promise SWEPT,
    an_attempt_that_is_held_back_breaks_no_promise PAUSED,
    a_ledger_that_forgets_does_not_cost_a_second_refund FAILOVER,
    a_ledger_that_forgets_keeps_two_commands_for_one_tid_apart FAILOVER_OF_RIVALS,
}
