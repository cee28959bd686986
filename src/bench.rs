//! What `benches/` drives; no part of the worker.

mod refund;

pub use crate::ledger::bench::Bench;
pub use refund::Refund;
