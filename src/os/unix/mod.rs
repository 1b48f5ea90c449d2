//! The calls that Linux and macOS share, through `rustix`.

#![allow(unsafe_code)]

mod fork;
mod inherit;
mod meet;
mod signals;
mod stream;

use std::{
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
        unix::process::CommandExt,
    },
    process::Command,
    time::Duration,
};

use rustix::{
    fs::{OFlags, fcntl_getfl, fcntl_setfl},
    io::{fcntl_dupfd_cloexec, read, retry_on_intr, write},
    process::{WaitIdStatus, getppid},
};

use super::{imp, poll::can_take};
use crate::error::Exit;

pub(crate) use fork::Origin;
pub(crate) use inherit::{HandDown, identity, take_inherited};
pub(crate) use meet::{
    PeerIds, Standing, check_directory, connect_unix, knock_at, listen_unix, lock_directory, user_id,
};
pub(crate) use signals::ignore_signals;
pub(crate) use stream::{StreamKind, read_more, stream_kind};

/// Reads what is there; zero is the end. Meant for descriptors that do not block.
pub(crate) fn read_some(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    Ok(retry_on_intr(|| read(fd, &mut *buffer))?)
}

/// Writes a part or all of the bytes.
pub(crate) fn write_some(fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    Ok(retry_on_intr(|| write(fd, bytes))?)
}

/// Makes reads and writes fail with `WouldBlock` instead of waiting, for everyone who shares this
/// end.
pub(crate) fn set_nonblocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    Ok(fcntl_setfl(fd, fcntl_getfl(fd)? | OFlags::NONBLOCK)?)
}

/// The process that the command starts leads a group of its own.
pub(crate) fn lead_group(command: &mut Command) {
    command.process_group(0);
}

/// What a child writes, as something that can be waited for.
pub(crate) fn output(pipe: impl Into<OwnedFd>) -> io::Result<OwnedFd> {
    let pipe = pipe.into();
    set_nonblocking(pipe.as_fd())?;
    Ok(pipe)
}

/// Writes to our own stderr as much as it takes without waiting; gives how much that was.
///
/// Whoever reads our stderr may have stopped, and a child must not hang because of that. The lock of
/// `std` is not taken, because somebody may be waiting in a write under it.
pub(crate) fn pass_on(piece: &[u8]) -> usize {
    let stderr = io::stderr();
    let stderr = stderr.as_fd();
    if can_take(stderr) { imp::write_at_once(stderr, piece).unwrap_or(0) } else { 0 }
}

/// In a process that has closed its standard streams a new descriptor takes one of their numbers,
/// and a child's own streams would then be put over it.
pub(super) fn above_standard(fd: OwnedFd) -> io::Result<OwnedFd> {
    if fd.as_raw_fd() >= FIRST_FREE { Ok(fd) } else { Ok(fcntl_dupfd_cloexec(&fd, FIRST_FREE)?) }
}

/// The end of a process that has been waited for.
pub(super) fn exit(status: &WaitIdStatus) -> Exit {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, Some(signal)) => Exit::Signal(signal),
        (None, None) => Exit::Unknown,
    }
}

/// The number of the process that is the parent now; zero when it is in another namespace.
pub(crate) fn parent_id() -> u32 {
    getppid().map_or(0, |pid| pid.as_raw_nonzero().get().unsigned_abs())
}

/// Ends this process without running anything: no destructor, no handler registered for the exit.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: it takes a number and does not return.
    unsafe { libc::_exit(code) }
}

/// As some programs do: nobody is told of the end of a child, and nobody reaps it.
#[cfg(test)]
pub(crate) fn ignore_children() {
    // SAFETY: no handler is installed; the kernel is told to ignore the signal.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
}

/// How much later than a child's end its last words may come. They are there then.
pub(crate) const OUTPUT_LAG: Duration = Duration::ZERO;
/// The first number behind the standard streams.
pub(super) const FIRST_FREE: RawFd = 3;
