//! The fault suite: under a steady flow of mixed commands something breaks for a while. Each
//! command must end once and truly, nothing may be executed twice or stay in a queue, and the
//! worker must go on by itself.
//!
//! The short form is part of the tests; `scripts/faults` runs the long one (`EKO_FAULTS=long`) and
//! makes `docs/reliability.md` of the rows.

mod broker;
mod cluster;
mod connection;
mod edges;
mod eko;
mod flow;
mod kinds;
mod messages;
mod row;
mod scene;
mod secrets;
mod subscribers;
mod topology;
mod ways;
mod worker;

pub(crate) use worker::in_own_mounts;

/// Whether faults last as long as in real life.
fn is_long() -> bool {
    std::env::var("EKO_FAULTS").is_ok_and(|form| form == "long")
}

/// The value for the form at hand.
fn pick<T>(short: T, long: T) -> T {
    if is_long() { long } else { short }
}
