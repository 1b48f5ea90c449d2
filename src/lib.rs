//! Calls between processes on one machine, and between threads in one process.

#![deny(unsafe_code)]

mod error;
#[allow(dead_code, unused_imports, reason = "the link is built on it")]
mod os;
#[allow(dead_code, unused_imports, reason = "the Head and the Neck are built on it")]
mod process;
mod transport;
mod wire;

pub use error::*;
pub use wire::*;
