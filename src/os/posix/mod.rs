//! What Linux has calls of its own for, made out of what every Unix has.

#![allow(unsafe_code)]

mod process;

use std::{
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd, RawFd},
        unix::net::UnixStream,
    },
};

use rustix::{
    io::{FdFlags, fcntl_getfd, fcntl_setfd, read, retry_on_intr, write},
    net::{self, AddressFamily, SocketType},
    process::{Resource, getrlimit},
};

use super::unix::{FIRST_FREE, PeerIds, above_standard, set_nonblocking};

pub(crate) use super::threads::{join_until, thread_id, thread_name};
pub(crate) use process::ProcessWatch;

/// Makes a thread that waits in [`wait_readable`](super::wait_readable) return, from any other thread.
#[derive(Debug)]
pub(crate) struct Wakeup {
    reader: OwnedFd,
    writer: OwnedFd,
}

impl Wakeup {
    pub(crate) fn new() -> io::Result<Wakeup> {
        let (reader, writer) = pipe()?;
        set_nonblocking(reader.as_fd())?;
        set_nonblocking(writer.as_fd())?;
        Ok(Wakeup { reader, writer })
    }

    /// Makes the descriptor readable until it is drained. Never blocks.
    pub(crate) fn wake(&self) {
        // The only possible failure is a pipe that is full, and then it is readable already.
        let _ = write(&self.writer, &[1]);
    }

    /// Forgets all wake-ups so far. Whoever drains looks afterwards at what it was woken for.
    pub(crate) fn drain(&self) {
        while retry_on_intr(|| read(&self.reader, &mut [0; 64])).is_ok_and(|len| len == 64) {}
    }
}

impl AsFd for Wakeup {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }
}

/// Writes what there is room for, as was seen before. There is nothing to keep another writer from taking that.
pub(crate) fn write_at_once(fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    Ok(retry_on_intr(|| write(fd, bytes))?)
}

/// A pipe, read end first, that no other program inherits.
pub(crate) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = io::pipe()?;
    Ok((above_standard(read.into())?, above_standard(write.into())?))
}

/// Nobody can ask for more room in a pipe: it grows to this by itself, if the system has memory for it.
#[cfg_attr(not(target_os = "linux"), expect(unused_variables))]
pub(crate) fn make_room_in_pipe(pipe: BorrowedFd<'_>, bytes: usize) -> io::Result<usize> {
    // Linux counts pages and not bytes, so that what fits there by bytes needs more.
    #[cfg(target_os = "linux")]
    let _ = rustix::pipe::fcntl_setpipe_size(pipe, bytes);
    Ok(64 * 1024)
}

/// Both ends of a stream that no other program inherits and on which nothing blocks.
pub(crate) fn stream_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (left, right) = UnixStream::pair()?;
    left.set_nonblocking(true)?;
    right.set_nonblocking(true)?;
    Ok((above_standard(left.into())?, above_standard(right.into())?))
}

/// A Unix socket that is not connected, that no other program inherits and on which nothing blocks.
pub(crate) fn unix_socket() -> io::Result<OwnedFd> {
    ours(net::socket(AddressFamily::UNIX, SocketType::STREAM, None)?)
}

/// The next connection. Does not wait.
pub(crate) fn accept(listening: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    ours(retry_on_intr(|| net::accept(listening))?)
}

/// Another thread that starts a program at this very moment may hand the socket down: the mark comes a moment after
/// the socket. A child of ours closes what it was not given.
fn ours(socket: OwnedFd) -> io::Result<OwnedFd> {
    fcntl_setfd(&socket, FdFlags::CLOEXEC)?;
    set_nonblocking(socket.as_fd())?;
    above_standard(socket)
}

/// Who is at the other end of a Unix socket that was connected or accepted.
#[cfg(target_os = "macos")]
pub(crate) fn peer_ids(socket: BorrowedFd<'_>) -> io::Result<PeerIds> {
    let (mut uid, mut gid) = (u32::MAX, u32::MAX);
    // SAFETY: the descriptor is open for the whole call, which writes two numbers to two numbers.
    if unsafe { libc::getpeereid(number(socket), &mut uid, &mut gid) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(PeerIds { pid: peer_pid(socket), uid, gid })
}

#[cfg(target_os = "macos")]
fn number(socket: BorrowedFd<'_>) -> RawFd {
    std::os::fd::AsRawFd::as_raw_fd(&socket)
}

#[cfg(target_os = "macos")]
fn peer_pid(socket: BorrowedFd<'_>) -> i32 {
    let (mut pid, mut len) = (0, size_of::<libc::pid_t>() as u32);
    let value: *mut libc::pid_t = &mut pid;
    let (level, name) = (libc::SOL_LOCAL, libc::LOCAL_PEERPID);
    // SAFETY: the descriptor is open for the whole call. The kernel writes at most `len` bytes to `value`, which
    // has as many, and any bytes are a number.
    match unsafe { libc::getsockopt(number(socket), level, name, value.cast(), &mut len) } {
        0 => pid,
        _ => 0,
    }
}

/// Who is at the other end of a Unix socket that was connected or accepted.
#[cfg(target_os = "linux")]
pub(crate) fn peer_ids(socket: BorrowedFd<'_>) -> io::Result<PeerIds> {
    let ids = net::sockopt::socket_peercred(socket)?;
    Ok(PeerIds { pid: ids.pid.as_raw_nonzero().get(), uid: ids.uid.as_raw(), gid: ids.gid.as_raw() })
}

/// Marks all descriptors but the standard ones to be closed when this process becomes another program. Runs in a
/// forked child, so that it makes system calls and nothing else.
pub(super) fn mark_all_close_on_exec() -> io::Result<()> {
    let limit = getrlimit(Resource::Nofile).current;
    let end =
        limit.and_then(|limit| RawFd::try_from(limit).ok()).map_or(MOST_MARKED, |end| end.min(MOST_MARKED));
    for number in FIRST_FREE..end {
        // SAFETY: the number is not -1, and the value lives for two calls, which merely fail when nothing is open
        // under it.
        let candidate = unsafe { BorrowedFd::borrow_raw(number) };
        if let Ok(flags) = fcntl_getfd(candidate) {
            fcntl_setfd(candidate, flags | FdFlags::CLOEXEC)?;
        }
    }
    Ok(())
}

/// 128 bits that nobody can guess.
pub(crate) fn random_token() -> io::Result<[u8; 16]> {
    let mut token = [0; 16];
    getrandom::fill(&mut token)?;
    Ok(token)
}

/// How many numbers of descriptors are looked at, where the limit is higher.
const MOST_MARKED: RawFd = 65_536;
