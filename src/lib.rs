//! Calls between processes on one machine, and between threads in one process.

#![deny(unsafe_code)]
// The lists stand in `clippy.toml`. Tests may name what the library must not.
#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_types))]

mod error;
pub mod transport;
mod wire;

pub use error::*;
pub use wire::*;
