#![doc = include_str!("../README.md")]

mod amount;
pub mod answer;
mod client;
pub mod endpoint;
mod envelope;
mod freshness;
mod keys;
mod notice;
mod response;
mod roots;
pub mod sign;
mod stamps;

pub use client::{Called, Client, Settings};
pub use endpoint::Endpoint;
pub use keys::Keys;
pub use roots::Roots;
pub use sign::reproduces_the_known_answer;
