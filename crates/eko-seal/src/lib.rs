#![doc = include_str!("../README.md")]

mod content;
mod key;

pub use content::{Content, Fault, open};
pub use key::{KeyPair, PublicKey};
