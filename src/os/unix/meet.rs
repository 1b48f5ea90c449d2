//! Sockets under which programs find each other.

use std::{
    ffi::c_int,
    fs::{self, File},
    io::{self, ErrorKind},
    os::{fd::OwnedFd, unix::fs::MetadataExt},
    path::Path,
    time::{Duration, Instant},
};

use rustix::{
    fs::{FlockOperation, Mode, chmod, flock},
    io::{Errno, retry_on_intr},
    net::{SocketAddrUnix, bind, connect, listen},
    process::geteuid,
};

use super::imp::unix_socket;

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
    let ready = chmod(path, Mode::from_raw_mode(mode as _)).and_then(|()| listen(&socket, BACKLOG));
    if let Err(error) = ready {
        let _ = std::fs::remove_file(path);
        return Err(error.into());
    }
    Ok(socket)
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

/// The user whose rights this process has.
pub(crate) fn user_id() -> u32 {
    geteuid().as_raw()
}

/// How many may stand in line before they are accepted. The kernel takes less where it is told to.
const BACKLOG: c_int = 1024;
/// How long to wait before something is tried again of which nobody is told.
const AGAIN: Duration = Duration::from_millis(2);

/// Refuses a directory where everybody may remove the files of others: anybody could put a socket of their own in the
/// place of one that is there.
pub(crate) fn check_directory(directory: &Path) -> io::Result<()> {
    let about =
        |kind, why: &str| io::Error::new(kind, format!("the directory {}: {why}", directory.display()));
    let mode = fs::metadata(directory).map_err(|error| about(error.kind(), &error.to_string()))?.mode();
    if mode & WRITABLE_BY_ALL != 0 && mode & STICKY == 0 {
        let why = format!(
            "everybody may write there and remove what others have: it has the mode {:04o}, and 0700 is right",
            mode & 0o7777
        );
        return Err(about(ErrorKind::PermissionDenied, &why));
    }
    Ok(())
}

const WRITABLE_BY_ALL: u32 = 0o002;
const STICKY: u32 = 0o1000;
