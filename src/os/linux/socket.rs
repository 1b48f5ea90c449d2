//! Pairs of stream sockets.

use std::{
    io,
    os::fd::{BorrowedFd, OwnedFd},
};

use rustix::{
    buffer::spare_capacity,
    io::retry_on_intr,
    net::{
        AddressFamily, RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType, recv, send, shutdown,
        socketpair, sockopt,
    },
};

use super::above_standard;

/// Both ends of a stream that no other program inherits and on which nothing blocks.
pub(crate) fn stream_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (left, right) = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    Ok((above_standard(left)?, above_standard(right)?))
}

/// Asks for room for so many bytes of what was sent and not yet received, as the kernel counts them, and
/// says how many it grants.
pub(crate) fn make_room(socket: BorrowedFd<'_>, bytes: usize) -> io::Result<usize> {
    // The kernel doubles what it is asked for.
    sockopt::set_socket_send_buffer_size(socket, bytes.div_ceil(2))?;
    Ok(sockopt::socket_send_buffer_size(socket)?)
}

/// Sends a part or all of the bytes. Does not wait, whoever shares this end, and raises no signal.
pub(crate) fn send_some(socket: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    Ok(retry_on_intr(|| send(socket, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT))?)
}

/// Appends what is there to the buffer, as far as that has room, and says how much it was; zero is the end.
/// Does not wait, whoever shares this end.
///
/// There is no room for anything but bytes, so descriptors that come with them are closed by the kernel
/// before anybody here could see them.
pub(crate) fn receive_some(socket: BorrowedFd<'_>, buffer: &mut Vec<u8>) -> io::Result<usize> {
    let (len, _) = retry_on_intr(|| recv(socket, spare_capacity(buffer), RecvFlags::DONTWAIT))?;
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
