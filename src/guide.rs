//! Guides: what to choose, what to do, what is promised, and how it works inside. [The crate](crate) says which is for what.

#[doc = include_str!("guide/architecture.md")]
pub mod architecture {}

#[doc = include_str!("guide/choosing.md")]
pub mod choosing {}

#[doc = include_str!("guide/errors.md")]
pub mod errors {}

#[doc = include_str!("guide/threads.md")]
pub mod threads {}

#[doc = include_str!("guide/wire.md")]
pub mod wire {}

#[doc = include_str!("guide/streams.md")]
pub mod streams {}

#[doc = include_str!("guide/layers.md")]
pub mod layers {}
#[doc = include_str!("guide/limits.md")]
pub mod limits {}

#[doc = include_str!("guide/performance.md")]
pub mod performance {}

#[doc = include_str!("guide/topics.md")]
pub mod topics {}

#[cfg(feature = "macros")]
#[doc = include_str!("guide/typed.md")]
pub mod typed {}

#[doc = include_str!("guide/filters.md")]
pub mod filters {}

#[doc = include_str!("guide/inspection.md")]
pub mod inspection {}

#[cfg(feature = "config-file")]
#[doc = include_str!("guide/configuration.md")]
pub mod configuration {}

#[doc = include_str!("guide/lifecycle.md")]
pub mod lifecycle {}

#[doc = include_str!("guide/sockets.md")]
pub mod sockets {}

#[doc = include_str!("guide/supervision.md")]
pub mod supervision {}

#[doc = include_str!("guide/safety.md")]
pub mod safety {}

#[doc = include_str!("guide/systems.md")]
pub mod systems {}

#[cfg(feature = "macros")]
#[doc = include_str!("guide/cookbook.md")]
pub mod cookbook {}

#[cfg(feature = "macros")]
#[doc = include_str!("guide/from_ipc_channel.md")]
pub mod from_ipc_channel {}

#[cfg(feature = "macros")]
#[doc = include_str!("guide/from_tarpc.md")]
pub mod from_tarpc {}

#[cfg(feature = "macros")]
#[doc = include_str!("guide/from_multiprocessing.md")]
pub mod from_multiprocessing {}

#[doc = include_str!("guide/checks.md")]
pub mod checks {}
