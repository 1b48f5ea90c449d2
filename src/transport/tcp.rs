//! Frames over TCP on the loopback: a stream of sockets as a pipe, between programs that meet.

use std::{
    io,
    net::{Ipv4Addr, TcpListener, TcpStream},
};

use super::{Transport, pipe::PipeEnd};
use crate::os::{
    self,
    fd::{AsFd, OwnedFd},
};

/// Both ends of a connection over TCP on the loopback, within this process.
///
/// It keeps the [contract](super) but for two things, on which a link does not depend:
///
/// - What was sent is not always there when the send returns: TCP hands it over when it likes, mostly before.
/// - Nobody is told of an end that only stops receiving. Who sends to it finds out when the other half goes as
///   well, and waits for room until then, for as long as its patience lasts.
///
/// # Errors
///
/// When the sockets cannot be made.
///
/// ```
/// use nape::{Head, Neck, transport::tcp_pair};
///
/// let (ours, theirs) = tcp_pair()?;
/// let neck = Neck::builder().over(theirs)?.start();
/// let head = Head::builder().over(ours)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn tcp_pair() -> io::Result<(Transport, Transport)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let ours = TcpStream::connect(listener.local_addr()?)?;
    // Somebody else may have come first.
    let theirs = loop {
        let (theirs, from) = listener.accept()?;
        if from == ours.local_addr()? {
            break theirs;
        }
    };
    Ok((tcp_end(ours, &[])?, tcp_end(theirs, &[])?))
}

/// One end, of which `heard` was received already.
pub(crate) fn tcp_end(stream: TcpStream, heard: &[u8]) -> io::Result<Transport> {
    stream.set_nonblocking(true)?;
    let socket = OwnedFd::from(stream);
    os::send_at_once(socket.as_fd())?;
    PipeEnd::met(socket, heard, "tcp")
}
