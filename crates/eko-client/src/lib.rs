#![doc = include_str!("../README.md")]

mod amount;
pub mod answer;
mod ca_bundle;
mod client;
pub mod endpoint;
mod envelope;
mod freshness;
mod keys;
mod notice;
mod response;
pub mod sign;
mod timing;

pub use ca_bundle::CaBundle;
pub use client::{CallResult, Client, Settings};
pub use endpoint::Endpoint;
pub use keys::Keys;
pub use sign::reproduces_the_known_answer;
pub use timing::Timing;
