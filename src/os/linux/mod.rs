//! The calls that only Linux has, through `rustix`.

#![allow(unsafe_code)]

mod process;
mod thread;

use std::{
    ffi::c_int,
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use rustix::{
    event::{EventfdFlags, eventfd},
    fs::{FileType, fstat},
    io::{Errno, ReadWriteFlags, pwritev2, read, retry_on_intr, write},
    net::{AddressFamily, SocketFlags, SocketType, accept_with, socket_with, socketpair},
    pipe::{PipeFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe_with},
    rand::{GetRandomFlags, getrandom},
};

use super::unix::{FIRST_FREE, PeerIds, above_standard};

pub(crate) use process::ProcessWatch;
pub(crate) use thread::{join_until, thread_id, thread_name};

/// Makes a thread that waits in [`wait_readable`](super::wait_readable) return, from any other thread.
#[derive(Debug)]
pub(crate) struct Wakeup(OwnedFd);

impl Wakeup {
    pub(crate) fn new() -> io::Result<Wakeup> {
        Ok(Wakeup(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    /// Makes the descriptor readable until it is drained. Never blocks.
    pub(crate) fn wake(&self) {
        // The only possible failure is a counter that is full, and then it is readable already.
        let _ = write(&self.0, &1u64.to_ne_bytes());
    }

    /// Forgets all wake-ups so far. Whoever drains looks afterwards at what it was woken for.
    pub(crate) fn drain(&self) {
        let _ = read(&self.0, &mut [0; 8]);
    }
}

impl AsFd for Wakeup {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A pipe, read end first, that no other program inherits.
pub(crate) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
    Ok((above_standard(read)?, above_standard(write)?))
}

/// Sees to it that a pipe has room for so many bytes, as far as this process may, and says how much it has.
pub(crate) fn make_room_in_pipe(pipe: BorrowedFd<'_>, bytes: usize) -> io::Result<usize> {
    // Refused when the user has too many pages in pipes, or beyond the limit of the system.
    let _ = fcntl_setpipe_size(pipe, bytes);
    Ok(fcntl_getpipe_size(pipe)?)
}

/// Writes as much as there is room for. Another writer may take the room that this one has seen: the kernel is told
/// not to wait for more, where it can do that for this kind of file.
pub(crate) fn write_at_once(fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    let piece = [io::IoSlice::new(bytes)];
    let plain = || Ok(retry_on_intr(|| write(fd, bytes))?);
    match retry_on_intr(|| pwritev2(fd, &piece, WHERE_IT_IS, ReadWriteFlags::NOWAIT)) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => plain(),
        // What it would wait for is the disk, not somebody who reads.
        Err(Errno::AGAIN) if is_regular_file(fd) => plain(),
        outcome => Ok(outcome?),
    }
}

fn is_regular_file(fd: BorrowedFd<'_>) -> bool {
    fstat(fd).is_ok_and(|about| FileType::from_raw_mode(about.st_mode).is_file())
}

/// No offset: what follows what was written before.
const WHERE_IT_IS: u64 = u64::MAX;

/// Both ends of a stream that no other program inherits and on which nothing blocks.
pub(crate) fn stream_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (left, right) = socketpair(AddressFamily::UNIX, SocketType::STREAM, OURS, None)?;
    Ok((above_standard(left)?, above_standard(right)?))
}

/// A Unix socket that is not connected, that no other program inherits and on which nothing blocks.
pub(crate) fn unix_socket() -> io::Result<OwnedFd> {
    above_standard(socket_with(AddressFamily::UNIX, SocketType::STREAM, OURS, None)?)
}

/// The next connection. Does not wait.
pub(crate) fn accept(listening: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    above_standard(retry_on_intr(|| accept_with(listening, OURS))?)
}

/// Who is at the other end of a Unix socket that was connected or accepted.
pub(crate) fn peer_ids(socket: BorrowedFd<'_>) -> io::Result<PeerIds> {
    // `rustix` has a type for this in which the number of a process cannot be 0, which it is where the process
    // is in another namespace.
    let mut ids = libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
    let mut len = size_of::<libc::ucred>() as u32;
    let value: *mut libc::ucred = &mut ids;
    let (level, name) = (libc::SOL_SOCKET, libc::SO_PEERCRED);
    // SAFETY: the descriptor is open for the whole call. The kernel writes at most `len` bytes to `value`, which
    // has as many, and any bytes are three numbers.
    match unsafe { libc::getsockopt(socket.as_raw_fd(), level, name, value.cast(), &mut len) } {
        0 if len as usize == size_of::<libc::ucred>() => {
            Ok(PeerIds { pid: ids.pid, uid: ids.uid, gid: ids.gid })
        }
        0 => Err(io::ErrorKind::InvalidData.into()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Marks all descriptors but the standard ones to be closed when this process becomes another program. A kernel
/// before 5.11 cannot do this.
pub(super) fn mark_all_close_on_exec() -> io::Result<()> {
    // SAFETY: with this flag the call only sets the close-on-exec mark of descriptors; it closes none
    // and touches no memory.
    match unsafe { libc::syscall(libc::SYS_close_range, FIRST_FREE, c_int::MAX, libc::CLOSE_RANGE_CLOEXEC) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// 128 bits that nobody can guess.
pub(crate) fn random_token() -> io::Result<[u8; 16]> {
    let mut token = [0; 16];
    let mut filled = 0;
    while filled < token.len() {
        filled += retry_on_intr(|| getrandom(&mut token[filled..], GetRandomFlags::empty()))?;
    }
    Ok(token)
}

/// What every socket of ours is.
const OURS: SocketFlags = SocketFlags::CLOEXEC.union(SocketFlags::NONBLOCK);
