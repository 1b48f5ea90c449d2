//! Stream sockets, on every system nearly the same way.

use std::io;

use rustix::{
    buffer::spare_capacity,
    io::retry_on_intr,
    net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown, sockopt},
};

use super::fd::BorrowedFd;

/// Asks for room for so many bytes of what was sent and not yet received, as the kernel counts them, and
/// says how many it grants.
pub(crate) fn make_room(socket: BorrowedFd<'_>, bytes: usize) -> io::Result<usize> {
    #[cfg(target_os = "linux")]
    // The kernel doubles what it is asked for.
    sockopt::set_socket_send_buffer_size(socket, bytes.div_ceil(2))?;
    #[cfg(not(target_os = "linux"))]
    {
        // Elsewhere what was sent waits with the one who is to receive it.
        sockopt::set_socket_recv_buffer_size(socket, bytes)?;
        sockopt::set_socket_send_buffer_size(socket, bytes)?;
    }
    #[cfg(target_os = "macos")]
    sockopt::set_socket_nosigpipe(socket, true)?;
    Ok(sockopt::socket_send_buffer_size(socket)?)
}

/// Sends a part or all of the bytes. Does not wait, whoever shares this end, and raises no signal.
pub(crate) fn send_some(socket: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    Ok(retry_on_intr(|| send(socket, bytes, SEND))?)
}

/// Appends what is there to the buffer, as far as that has room, and says how much it was; zero is the end.
/// Does not wait, whoever shares this end.
///
/// There is no room for anything but bytes, so descriptors that come with them are closed by the kernel
/// before anybody here could see them.
pub(crate) fn receive_some(socket: BorrowedFd<'_>, buffer: &mut Vec<u8>) -> io::Result<usize> {
    let (len, _) = retry_on_intr(|| recv(socket, spare_capacity(buffer), RECEIVE))?;
    Ok(len)
}

/// The other end receives what was sent, and then the end.
pub(crate) fn stop_sending(socket: BorrowedFd<'_>) {
    // It can fail only when the other end is gone.
    let _ = shutdown(socket, Shutdown::Write);
}

/// The other end can send no more.
pub(crate) fn stop_receiving(socket: BorrowedFd<'_>) {
    let _ = shutdown(socket, Shutdown::Read);
}

/// Sends what is written at once, instead of waiting for more of it.
pub(crate) fn send_at_once(socket: BorrowedFd<'_>) -> io::Result<()> {
    Ok(sockopt::set_tcp_nodelay(socket, true)?)
}

// Where a call cannot be told not to wait, or to raise no signal, the socket was told so when it was made.
#[cfg(target_os = "linux")]
const SEND: SendFlags = SendFlags::NOSIGNAL.union(SendFlags::DONTWAIT);
#[cfg(target_os = "macos")]
const SEND: SendFlags = SendFlags::DONTWAIT;
#[cfg(windows)]
const SEND: SendFlags = SendFlags::empty();
#[cfg(unix)]
const RECEIVE: RecvFlags = RecvFlags::DONTWAIT;
#[cfg(windows)]
const RECEIVE: RecvFlags = RecvFlags::empty();
