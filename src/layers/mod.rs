//! Layers that are ready to use: limits, a circuit breaker, tokens, methods for this process alone, and retry.
//!
//! Each is one object for all calls that pass it: put around an API by [`Api::layer`](crate::Api::layer), around
//! the calls of a handle by [`ApiHandle::layer`](crate::ApiHandle::layer). They refuse and never wait, because a
//! layer holds no thread. [The guide](crate::guide::layers) tells which one to put where.

mod breaker;
mod limits;
mod local;
#[cfg(feature = "metrics")]
mod metrics;
#[cfg(any(feature = "metrics", feature = "tracing"))]
mod outcome;
mod token;
#[cfg(feature = "tracing")]
mod tracing;
mod way;

pub use breaker::CircuitBreaker;
pub use limits::{ConcurrencyLimit, RateLimit};
pub use local::LocalOnly;
#[cfg(feature = "metrics")]
pub use metrics::Metrics;
pub use token::{CheckToken, SendToken};
#[cfg(feature = "tracing")]
pub use tracing::Tracing;
pub use way::{WhereCalled, WhereServed};

pub use crate::api::Retry;
use crate::{
    error::{CallError, Rejection},
    wire::Path,
};

/// The end of a call for which there is no room now.
fn busy(path: &Path, detail: String) -> CallError {
    Rejection::Busy { path: path.clone(), detail: detail.into() }.into()
}
