#![doc = include_str!("../README.md")]

mod call;
mod refund;

pub use refund::Refund;
