//! Calls between processes on one machine, and between threads in one process.

#![deny(unsafe_code)]
// The lists stand in `clippy.toml`. Tests may name what the library must not.
#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_types))]

mod config;
mod counters;
mod error;
mod link;
#[allow(dead_code, unused_imports, reason = "the link is built on it")]
mod os;
#[allow(dead_code, unused_imports, reason = "the Head and the Neck are built on it")]
mod process;
mod semaphore;
mod sync;
pub mod transport;
mod wire;
mod workers;

pub use config::{Config, Timeout};
pub use counters::Counters;
pub use error::*;
pub use link::CancelToken;
pub use semaphore::Semaphore;
pub use wire::*;
