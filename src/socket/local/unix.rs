//! Sockets with a path, and files of one user.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use crate::{
    logging::say,
    os::{self, Standing},
    socket::{Credentials, Terms},
    transport::{PipeEnd, Transport},
};

/// Connects to who listens at the path, if it is one whom this side allows.
pub(in super::super) fn dial(path: &Path, terms: &Terms, deadline: Option<Instant>) -> io::Result<Transport> {
    let socket = os::connect_unix(path, deadline)?;
    let peer = credentials(socket.as_fd())?;
    if !terms.allow.lets_in(&peer) {
        let why = format!("user {} listens there, whom this side does not allow", peer.uid);
        return Err(io::Error::new(ErrorKind::PermissionDenied, why));
    }
    PipeEnd::met(socket, &[], "unix")
}

/// Who is at the other end of a Unix socket.
pub(in super::super) fn credentials(socket: BorrowedFd<'_>) -> io::Result<Credentials> {
    let ids = os::peer_ids(socket)?;
    let pid = u32::try_from(ids.pid).ok().filter(|pid| *pid > 0);
    Ok(Credentials { uid: ids.uid, gid: ids.gid, pid })
}

/// Whether it is a process of the user whose rights this process has.
pub(in super::super) fn is_same_user(peer: &Credentials) -> bool {
    peer.uid == os::user_id()
}

/// A new file that only its owner may use.
pub(in super::super) fn secret_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(OWNER_ONLY).open(path)
}

/// Opens a file that nobody else may use.
pub(in super::super) fn open_secret(path: &Path) -> io::Result<File> {
    os::open_secret(path)
}

/// The file of a socket, which is removed when this goes, unless another one has come in its place.
#[derive(Debug)]
pub(in super::super) struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Without the lock it is the same, but for a moment between the look and the removal.
        let lock = self.path.parent().and_then(|directory| os::lock_directory(directory, LOCK_LIMIT).ok());
        let is_ours = |about: fs::Metadata| (about.dev(), about.ino()) == (self.device, self.inode);
        let is_there = fs::symlink_metadata(&self.path).is_ok_and(is_ours);
        let removed = if is_there { fs::remove_file(&self.path) } else { Ok(()) };
        drop(lock);
        if let Err(error) = removed {
            say!(Warn, "cannot remove the socket {}: {error}", self.path.display());
        }
    }
}

/// Listens at the path, with a file of this mode.
pub(in super::super) fn open(path: &Path, mode: u32) -> io::Result<(OwnedFd, SocketFile)> {
    let directory = path.parent().ok_or(ErrorKind::InvalidInput)?;
    os::check_directory(directory)?;
    // Of two who find a stale file, the second would else remove what the first has put in its place.
    let lock = os::lock_directory(directory, LOCK_LIMIT);
    if let Err(error) = &lock {
        if error.kind() != ErrorKind::TimedOut {
            return Err(about_directory(error.kind(), directory, &error.to_string()));
        }
        // Whoever may read the directory may keep it, and nobody needs it for so long: they do not keep us out.
        say!(Warn, "another process keeps the lock on {}, which is not waited for", directory.display());
    }
    let stale = make_way(path)?;
    let socket = os::listen_unix(path, mode)?;
    let about = fs::symlink_metadata(path)?;
    drop(lock);
    if stale {
        say!(Debug, "{} was left behind by a process that has ended", path.display());
    }
    Ok((socket, SocketFile { path: path.to_owned(), device: about.dev(), inode: about.ino() }))
}

fn about_directory(kind: ErrorKind, directory: &Path, why: &str) -> io::Error {
    io::Error::new(kind, format!("the directory {}: {why}", directory.display()))
}

/// Removes a socket that nobody answers at, and says whether there was one. Anything else stays.
fn make_way(path: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
        Ok(about) if !about.file_type().is_socket() => {
            let why = "there is a file which is no socket, and it is left alone";
            return Err(io::Error::new(ErrorKind::AlreadyExists, why));
        }
        Ok(_) => {}
    }
    let in_use = |why| Err(io::Error::new(ErrorKind::AddrInUse, why));
    match os::knock_at(path) {
        Ok(Standing::Live) => in_use("a program listens there already"),
        Ok(Standing::Stale) => {
            fs::remove_file(path)?;
            Ok(true)
        }
        Ok(Standing::Gone) => Ok(false),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            in_use("there is a socket to which this process may not connect")
        }
        Err(error) => Err(error),
    }
}

/// Far longer than anybody of ours keeps it.
const LOCK_LIMIT: Duration = Duration::from_secs(2);
const OWNER_ONLY: u32 = 0o600;
