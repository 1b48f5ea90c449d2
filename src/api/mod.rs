//! Names to handlers: what is served, who owns which path, and how calls are built.
//!
//! Knows links as something to start a call on and to answer one over; knows no transport, frame or
//! process.

mod about;
mod action;
mod arb;
mod around;
mod async_result;
mod attempts;
mod context;
mod endpoint;
mod handle;
mod handler;
mod hang;
mod hooks;
mod layer;
mod layered;
mod life;
mod meter;
mod opening;
mod pauses;
mod producer;
mod refusals;
mod relay;
mod responder;
mod retry;
mod served;
mod shortcut;
mod sight;
mod stream;
mod streamed;
mod succession;
mod tap;
mod task;
mod timer;
mod together;
mod topics;
mod tries;
mod waiting;
mod watchdog;

pub use about::About;
pub(crate) use action::check_may_block;
pub use action::{Action, IgnoringErrors};
pub(crate) use arb::Measuring;
pub use arb::{ApiArb, Argument, Attached, Listed};
pub use async_result::AsyncResult;
pub use context::Context;
pub use endpoint::Endpoint;
pub(crate) use endpoint::WeakEndpoint;
pub use handle::ApiHandle;
pub use handler::{Handler, HandlerError};
pub use hang::{HangReport, Progress, QueueDepth, RunningHandler, WaitingCaller};
pub use hooks::Report;
pub(crate) use layer::Layers;
pub use layer::{Layer, LayerCall, LayerEnd, Leave};
pub(crate) use meter::{Meters, Reading, Seen, Witness};
pub use opening::{Duplex, Upload};
pub use responder::Responder;
pub use retry::Retry;
pub(crate) use served::Scope;
pub use served::{Api, WhenFull};
pub(crate) use sight::{PoolSeen, ServedPath};
pub use stream::{Incoming, Next, Outgoing, TrySendError};
pub(crate) use succession::Succession;
#[cfg(feature = "config-file")]
pub(crate) use tap::Source;
pub use timer::{Every, Timer};
pub use topics::{Backlog, Listening, Missed, Published, Subscription, Topic};
