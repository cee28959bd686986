//! Black-box tests of the contract: the real worker, a real RabbitMQ, and Eko played by the
//! simulator or by a scripted stub. Each test owns a prefix, so that they run side by side.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![expect(
    clippy::disallowed_methods,
    reason = "the rig finds its broker, and measures waiting times"
)]

mod addresses;
mod assumptions;
mod broker;
mod commands;
mod contracts;
mod crashes;
mod edges;
mod examples;
mod fairness;
mod faults;
mod first_commands;
mod fleet;
mod invalid;
mod isolation;
mod limits;
mod load;
mod operating;
mod operations;
mod operators;
mod outputs;
mod parking;
mod pauses;
mod postgres;
mod privacy;
mod private_eko;
mod rails;
mod refusals;
mod refused;
mod repeats;
mod results;
mod retries;
mod rig;
mod sealed;
mod settling;
mod signals;
mod soak;
#[cfg(feature = "otel")]
mod tracing;
mod urls;
mod volume;
mod wire;
