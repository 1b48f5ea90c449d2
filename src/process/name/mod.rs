//! What ipc-channel needs of the names under which a child finds its Head.

#[cfg(any(not(target_os = "linux"), test))]
mod elsewhere;
#[cfg(target_os = "linux")]
mod linux;

#[cfg(not(target_os = "linux"))]
pub(super) use elsewhere::{check, knock, prepare_ipc, remove};
#[cfg(target_os = "linux")]
pub(super) use linux::{check, knock, prepare_ipc, remove};
