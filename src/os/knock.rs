//! Freeing a thread that waits in the accept of ipc-channel.

use std::io;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

/// Connects to a listening socket of packets and hangs up at once. Does not wait, not even when the
/// queue there is full.
pub(crate) fn knock(path: &str) -> io::Result<()> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    Ok(connect(&socket, &SocketAddrUnix::new(path)?)?)
}
