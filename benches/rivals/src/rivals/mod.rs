//! The contenders, a file for each kind.

pub(crate) mod ipc;
pub(crate) mod ours;
pub(crate) mod threads;
pub(crate) mod wires;
