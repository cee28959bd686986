//! Eko's v3 HTTP API: what is sent, how it is signed, how its answers are read.

mod amount;
mod answer;
mod client;
mod endpoint;
mod envelope;
mod sign;

pub(crate) use client::{Client, KeyFiles, Keys, Settings};
pub(crate) use endpoint::Endpoint;

/// See [`crate::harness`].
#[cfg(any(test, feature = "fuzz"))]
pub(crate) use answer::harness;
