//! What a fuzzer calls with bytes that it made up: each of these may do anything with them but panic, hang or
//! use much memory. It is built for tests and for fuzzers alone; `tests/corpus` has the inputs that are tried
//! in every run of the tests, and the crate in `fuzz` looks for more.

mod decode;
mod frames;
#[cfg(all(test, not(loom)))]
mod tests;

pub use decode::decode;
pub use frames::frames;

/// A session with a peer that may send anything, against the machine of a link.
pub fn session(data: &[u8]) {
    crate::link::fuzz_session(data);
}

/// Both ends of a shared ring of which the other process writes whatever it likes.
#[cfg(not(loom))]
pub fn ring(data: &[u8]) {
    crate::transport::fuzz_ring(data);
}
