//! Sockets under which programs find each other.

use std::{
    ffi::c_int,
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    path::Path,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags},
    fs::{FlockOperation, Mode, chmod, flock},
    io::{Errno, retry_on_intr},
    net::{
        AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect, listen,
        socket_with, sockopt,
    },
    process::geteuid,
};

use super::{above_standard, poll_until};

/// The process at the other end of a Unix socket, as the kernel knows it: the one that connected, or that
/// began to listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PeerIds {
    /// 0 where this process cannot see it.
    pub(crate) pid: i32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// What stands under the path of a socket.
#[derive(Debug)]
pub(crate) enum Standing {
    /// Somebody listens.
    Live,
    /// Nobody does any more.
    Stale,
    /// There is no file by now.
    Gone,
}

/// A socket that listens at the path, under which there must be no file. Its file has this mode before anybody
/// can connect.
pub(crate) fn listen_unix(path: &Path, mode: u32) -> io::Result<OwnedFd> {
    let address = SocketAddrUnix::new(path)?;
    let socket = unix_socket()?;
    bind(&socket, &address)?;
    let ready = chmod(path, Mode::from_raw_mode(mode)).and_then(|()| listen(&socket, BACKLOG));
    if let Err(error) = ready {
        let _ = std::fs::remove_file(path);
        return Err(error.into());
    }
    Ok(socket)
}

/// The next connection. Does not wait.
pub(crate) fn accept(listening: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    above_standard(retry_on_intr(|| accept_with(listening, flags))?)
}

/// Connects. Where so many stand in line that there is no room, it tries again until `deadline`.
pub(crate) fn connect_unix(path: &Path, deadline: Option<Instant>) -> io::Result<OwnedFd> {
    let address = SocketAddrUnix::new(path)?;
    loop {
        let socket = unix_socket()?;
        match connect(&socket, &address) {
            Ok(()) => return Ok(socket),
            Err(Errno::AGAIN) if deadline.is_some_and(|at| at <= Instant::now()) => {
                let why = "it is there, and does not take those who stand in line";
                return Err(io::Error::new(io::ErrorKind::TimedOut, why));
            }
            // The kernel tells nobody when there is room.
            Err(Errno::AGAIN) => std::thread::sleep(AGAIN),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Looks whether anybody listens at the path, which is that of a socket. Does not wait.
pub(crate) fn knock_at(path: &Path) -> io::Result<Standing> {
    let address = SocketAddrUnix::new(path)?;
    let socket = unix_socket()?;
    match retry_on_intr(|| connect(&socket, &address)) {
        // The line may be full, or the socket one of packets.
        Ok(()) | Err(Errno::AGAIN | Errno::PROTOTYPE) => Ok(Standing::Live),
        Err(Errno::CONNREFUSED) => Ok(Standing::Stale),
        Err(Errno::NOENT) => Ok(Standing::Gone),
        Err(error) => Err(error.into()),
    }
}

fn unix_socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    above_standard(socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?)
}

/// Keeps all others who ask for it out of this directory until the result is dropped, or the process ends.
///
/// # Errors
///
/// `TimedOut` when somebody else has kept it for so long.
pub(crate) fn lock_directory(directory: &Path, limit: Duration) -> io::Result<File> {
    let opened = File::open(directory)?;
    let deadline = Instant::now().checked_add(limit);
    loop {
        match flock(&opened, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(opened),
            Err(Errno::AGAIN) if deadline.is_none_or(|at| Instant::now() < at) => std::thread::sleep(AGAIN),
            Err(Errno::AGAIN) => return Err(io::ErrorKind::TimedOut.into()),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Sends what is written at once, instead of waiting for more of it.
pub(crate) fn send_at_once(socket: BorrowedFd<'_>) -> io::Result<()> {
    Ok(sockopt::set_tcp_nodelay(socket, true)?)
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

/// The user whose rights this process has.
pub(crate) fn user_id() -> u32 {
    geteuid().as_raw()
}

/// Waits until one of any number of descriptors is readable, has ended or has failed, at most until
/// `deadline`. Says of each whether it is.
pub(crate) fn wait_for_any(fds: &[BorrowedFd<'_>], deadline: Option<Instant>) -> io::Result<Vec<bool>> {
    let mut polled: Vec<_> =
        fds.iter().map(|fd| PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN)).collect();
    poll_until(&mut polled, deadline)?;
    Ok(polled.iter().map(|fd| !fd.revents().is_empty()).collect())
}

/// How many may stand in line before they are accepted. The kernel takes less where it is told to.
const BACKLOG: c_int = 1024;
/// How long to wait before something is tried again of which nobody is told.
const AGAIN: Duration = Duration::from_millis(2);
