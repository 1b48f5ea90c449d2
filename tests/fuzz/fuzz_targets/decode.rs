//! Hands what the fuzzer makes up to `nape::fuzz::decode`, within a limit on memory.

#![no_main]

#[path = "../ceiling.rs"]
mod ceiling;

libfuzzer_sys::fuzz_target!(|data: &[u8]| ceiling::under(data.len(), || nape::fuzz::decode(data)));
