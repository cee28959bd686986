#![no_main]
//! Any answer has a verdict, and no refund is done without evidence.

libfuzzer_sys::fuzz_target!(|body: &[u8]| eko_fuzz::answer(body));
