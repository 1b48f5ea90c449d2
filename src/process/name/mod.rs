//! What ipc-channel needs of the names under which a child finds its Head.

#[cfg(not(target_os = "linux"))]
mod elsewhere;
#[cfg(any(not(target_os = "linux"), nape_portable))]
mod knock;
#[cfg(target_os = "linux")]
mod linux;

#[cfg(not(target_os = "linux"))]
pub(super) use elsewhere::{check, prepare_ipc, remove};
#[cfg(any(not(target_os = "linux"), nape_portable))]
pub(super) use knock::knock;
#[cfg(target_os = "linux")]
pub(super) use linux::{check, prepare_ipc, remove};

/// Connects and hangs up at once, to free a thread that waits there. Does not wait. Where it fails nobody listens
/// there any more.
#[cfg(all(target_os = "linux", not(nape_portable)))]
pub(super) fn knock(name: &str) {
    let _ = crate::os::knock(name);
}
