//! A child at the other end of a socket, for those who bring their own protocol.

use std::{
    os::{fd::AsFd as _, unix::net::UnixStream},
    process::{Child, Stdio},
};

use crate::{place::Place, rivals::wires::socket_pair, roles, work::Work};

/// Starts the callee of a contender and gives our end of the socket.
pub(crate) fn child(name: &str, place: &Place, work: Work) -> (Child, UnixStream) {
    let (ours, theirs) = socket_pair();
    let child = roles::callee(place, name, work).stdin(Stdio::from(theirs)).spawn();
    (child.expect("this program starts again"), UnixStream::from(ours))
}

/// The callee's end, which it was given as its stdin.
pub(crate) fn from_caller() -> UnixStream {
    let stdin = std::io::stdin();
    UnixStream::from(rustix::io::dup(stdin.as_fd()).expect("a descriptor can be had"))
}

/// The socket for the runtime in whose context this is called.
pub(crate) fn asynchronous(socket: UnixStream) -> tokio::net::UnixStream {
    socket.set_nonblocking(true).expect("it is a socket");
    tokio::net::UnixStream::from_std(socket).expect("there is a runtime")
}
