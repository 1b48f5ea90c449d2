//! The contenders, a file for each kind.

pub(crate) mod iceoryx;
mod iceoryx_bytes;
pub(crate) mod ipc;
pub(crate) mod ipc_rpc;
pub(crate) mod ours;
pub(crate) mod remoc;
pub(crate) mod ring;
pub(crate) mod streams;
pub(crate) mod tarpc;
pub(crate) mod threads;
pub(crate) mod wires;
pub(crate) mod zbus;
