//! Calls between processes on one machine, and between threads in one process.

#![deny(unsafe_code)]

mod error;
mod wire;

pub use error::*;
pub use wire::*;
