#![doc = include_str!("../README.md")]

pub mod backoff;
pub mod clock;
pub mod command;
pub mod decision;
pub mod event;
pub mod history;
pub mod json;
pub mod order;
pub mod outcome;
pub mod privacy;
pub mod trace;
pub mod verdict;
