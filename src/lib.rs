//! Calls between processes on one machine, and between threads in one process.

#![deny(unsafe_code)]

mod error;
// Until the link uses them, only their own tests do.
#[cfg_attr(not(test), expect(dead_code, unused_imports, reason = "the link is built on it"))]
mod os;
#[cfg_attr(not(test), expect(dead_code, unused_imports, reason = "the Head and the Neck are built on it"))]
mod process;
mod transport;
mod wire;

pub use error::*;
pub use wire::*;
