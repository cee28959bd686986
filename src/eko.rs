//! Eko's v3 HTTP API: what is sent, how it is signed, how its answers are read.

mod amount;
mod answer;
#[cfg(feature = "bench")]
pub(crate) mod bench;
mod client;
mod endpoint;
mod envelope;
mod freshness;
mod keys;
mod notice;
mod response;
mod roots;
mod sign;
mod stamps;

pub(crate) use client::{Called, Client, Settings};
pub(crate) use endpoint::Endpoint;
pub(crate) use keys::Keys;
pub(crate) use roots::Roots;
pub(crate) use sign::reproduces_the_known_answer;

/// See [`crate::harness`].
#[cfg(any(test, feature = "fuzz"))]
pub(crate) use answer::harness;
