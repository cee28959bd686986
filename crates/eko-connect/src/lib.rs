#![doc = include_str!("../README.md")]

pub mod addresses;
pub mod credential;
pub mod pem;
