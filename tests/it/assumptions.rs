//! What the worker relies on, broken for real: time, the ledger, the way to Eko, the messages. A
//! refund is executed at most once all the same, and what is told of it is true.

mod clocks;
mod commits;
mod evidence;
mod floors;
mod held;
mod ledgers;
mod orphans;
mod settings;
mod split;
mod waiting;
