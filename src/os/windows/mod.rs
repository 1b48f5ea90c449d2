//! The calls of Windows. What is waited for there are sockets, so everything that a thread waits for is one.

#![allow(unsafe_code)]

mod output;
mod process;

use std::{
    io,
    net::{Ipv4Addr, TcpListener, TcpStream},
    process::Command,
};

use rustix::net;

use super::{
    fd::{BorrowedFd, OwnedFd},
    socket,
};

pub(crate) use super::{
    nudge::Wakeup,
    threads::{join_until, thread_id, thread_name},
};
pub(crate) use output::{OUTPUT_LAG, output, pass_on};
pub(crate) use process::{ProcessWatch, exit_now};

/// The process that made a thing: no process is forked from another one here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin;

impl Origin {
    pub(crate) fn here() -> Origin {
        Origin
    }

    pub(crate) fn is_elsewhere(self) -> bool {
        false
    }
}

/// No thread is interrupted by a signal here.
pub(crate) fn ignore_signals() {}

/// What bytes can be streamed through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StreamKind {
    Socket,
    #[allow(dead_code, reason = "a pipe is no socket, and nothing else can be waited for")]
    Pipe,
}

/// Which of the two it is.
pub(crate) fn stream_kind(_: BorrowedFd<'_>) -> io::Result<StreamKind> {
    Ok(StreamKind::Socket)
}

/// There are no such groups.
pub(crate) fn lead_group(_: &mut Command) {}

/// Reads what is there; zero is the end. Meant for sockets that do not block.
pub(crate) fn read_some(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    let (len, _) = net::recv(socket, buffer, net::RecvFlags::empty())?;
    Ok(len)
}

/// Appends what is there to the buffer, as far as that has room; zero is the end.
pub(crate) fn read_more(socket: BorrowedFd<'_>, buffer: &mut Vec<u8>) -> io::Result<usize> {
    socket::receive_some(socket, buffer)
}

/// Writes a part or all of the bytes.
pub(crate) fn write_some(socket: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    socket::send_some(socket, bytes)
}

/// Sees to it that there is room for so many bytes.
pub(crate) fn make_room_in_pipe(socket: BorrowedFd<'_>, bytes: usize) -> io::Result<usize> {
    socket::make_room(socket, bytes)
}

/// Makes reads and writes fail with `WouldBlock` instead of waiting.
pub(crate) fn set_nonblocking(socket: BorrowedFd<'_>) -> io::Result<()> {
    Ok(rustix::io::ioctl_fionbio(socket, true)?)
}

/// Both ends of a stream on which nothing blocks: over TCP on the loopback.
pub(crate) fn stream_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let left = TcpStream::connect(listener.local_addr()?)?;
    // Somebody else may have come first.
    let right = loop {
        let (right, from) = listener.accept()?;
        if from == left.local_addr()? {
            break right;
        }
    };
    for end in [&left, &right] {
        end.set_nonblocking(true)?;
        end.set_nodelay(true)?;
    }
    Ok((left.into(), right.into()))
}

/// The next connection. Does not wait.
pub(crate) fn accept(listening: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let socket = net::accept(listening)?;
    set_nonblocking(rustix::fd::AsFd::as_fd(&socket))?;
    Ok(socket)
}

/// What the processes of one command get besides their standard streams: nothing.
pub(crate) struct HandDown;

impl HandDown {
    /// Nothing.
    pub(crate) fn by(_: &mut Command) -> HandDown {
        HandDown
    }

    /// There is nothing to be closed here.
    pub(crate) fn take_back(&mut self) {}
}

/// 128 bits that nobody can guess.
pub(crate) fn random_token() -> io::Result<[u8; 16]> {
    let mut token = [0; 16];
    getrandom::fill(&mut token)?;
    Ok(token)
}
