//! Calls between processes on one machine, and between threads in one process.

#![deny(unsafe_code)]

mod error;
pub mod transport;
mod wire;

pub use error::*;
pub use wire::*;
