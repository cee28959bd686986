#![no_main]
//! Any message is a command or invalid.

libfuzzer_sys::fuzz_target!(|body: &[u8]| eko_fuzz::command(body));
