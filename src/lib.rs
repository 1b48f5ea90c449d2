//! Calls between processes on one machine, and between threads in one process.

#![deny(unsafe_code)]
// The lists stand in `clippy.toml`. Tests may name what the library must not.
#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_types))]

mod api;
mod config;
mod counters;
mod error;
mod head;
mod link;
mod neck;
mod os;
mod process;
mod semaphore;
mod sync;
pub mod transport;
mod wire;
mod workers;

pub use api::{
    Action, Api, ApiArb, ApiHandle, AsyncResult, Attached, Context, Endpoint, Handler, HandlerError,
    IgnoringErrors, Listed, Report, Responder, WhenFull,
};
pub use config::{Config, Timeout};
pub use counters::Counters;
pub use error::*;
pub use head::{Head, HeadBuilder};
pub use link::{CancelToken, LinkState};
pub use neck::{Neck, NeckBuilder};
pub use semaphore::Semaphore;
pub use wire::*;
