//! A socket that listens, and the file under which it is found.

use std::{
    fs,
    io::{self, ErrorKind},
    net::{SocketAddr, TcpListener},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    },
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use super::{Address, Allow, Caller, Credentials, address::Place};
use crate::{
    error::StartError,
    os::{self, Standing},
};

/// Where others connect. Dropping it removes the file, if it still is this one.
#[derive(Debug)]
pub(crate) struct Door {
    // Dropped first: the file goes while it is still listened to, so that nobody takes it for a stale one.
    _file: Option<SocketFile>,
    socket: OwnedFd,
    address: Address,
}

impl Door {
    /// Listens at this address.
    ///
    /// # Errors
    ///
    /// [`StartError::Listen`]; then nothing has changed at the address, but for a stale file that is gone.
    pub(crate) fn open(address: &Address, allow: &Allow) -> Result<Door, StartError> {
        let opened = match address.place() {
            Place::Unix(path) => open_unix(path, allow.mode()).map(|(socket, file)| Door {
                _file: Some(file),
                socket,
                address: address.clone(),
            }),
            Place::Tcp(at) => open_tcp(*at),
        };
        let listen = |error| StartError::Listen { address: address.text(), error: Arc::new(error) };
        opened.map_err(listen)
    }

    /// Where it listens: the port is the one that was taken.
    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    /// The next one who has connected. Does not wait.
    pub(crate) fn accept(&self) -> io::Result<Caller> {
        let socket = os::accept(self.socket.as_fd())?;
        let credentials = match self.address.place() {
            Place::Unix(_) => Some(Credentials::of(socket.as_fd())?),
            Place::Tcp(_) => None,
        };
        Ok(Caller::new(socket, credentials))
    }
}

/// Readable when somebody has connected.
impl AsFd for Door {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn open_tcp(at: SocketAddr) -> io::Result<Door> {
    let listener = TcpListener::bind(at)?;
    listener.set_nonblocking(true)?;
    let address = Address::tcp(listener.local_addr()?).map_err(io::Error::other)?;
    Ok(Door { _file: None, socket: listener.into(), address })
}

/// The file of a socket, which is removed when this goes, unless another one has come in its place.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Without the lock it is the same, but for a moment between the look and the removal.
        let _lock = self.path.parent().and_then(|directory| os::lock_directory(directory, LOCK_LIMIT).ok());
        let is_ours = |about: fs::Metadata| (about.dev(), about.ino()) == (self.device, self.inode);
        if fs::symlink_metadata(&self.path).is_ok_and(is_ours)
            && let Err(error) = fs::remove_file(&self.path)
        {
            log::warn!("cannot remove the socket {}: {error}", self.path.display());
        }
    }
}

fn open_unix(path: &Path, mode: u32) -> io::Result<(OwnedFd, SocketFile)> {
    let directory = path.parent().ok_or(ErrorKind::InvalidInput)?;
    check_directory(directory)?;
    // Of two who find a stale file, the second would else remove what the first has put in its place.
    let _lock = os::lock_directory(directory, LOCK_LIMIT).map_err(|error| {
        let why = match error.kind() {
            ErrorKind::TimedOut => "another process holds a lock on it".to_owned(),
            _ => error.to_string(),
        };
        about_directory(error.kind(), directory, &why)
    })?;
    make_way(path)?;
    let socket = os::listen_unix(path, mode)?;
    let about = fs::symlink_metadata(path)?;
    Ok((socket, SocketFile { path: path.to_owned(), device: about.dev(), inode: about.ino() }))
}

/// In a directory where everybody may remove the files of others, anybody could put a socket of their own in
/// the place of this one.
fn check_directory(directory: &Path) -> io::Result<()> {
    let named = |error: io::Error| about_directory(error.kind(), directory, &error.to_string());
    let mode = fs::metadata(directory).map_err(named)?.permissions().mode();
    if mode & WRITABLE_BY_ALL != 0 && mode & STICKY == 0 {
        let why = format!(
            "everybody may write to the directory {} and remove what others have there: it has the mode {:04o}, \
             and 0700 is right",
            directory.display(),
            mode & 0o7777
        );
        return Err(io::Error::new(ErrorKind::PermissionDenied, why));
    }
    Ok(())
}

fn about_directory(kind: ErrorKind, directory: &Path, why: &str) -> io::Error {
    io::Error::new(kind, format!("the directory {}: {why}", directory.display()))
}

/// Removes a socket that nobody answers at. Anything else stays.
fn make_way(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
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
            log::debug!("{} was left behind by a process that has ended", path.display());
            fs::remove_file(path)
        }
        Ok(Standing::Gone) => Ok(()),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            in_use("there is a socket to which this process may not connect")
        }
        Err(error) => Err(error),
    }
}

/// Far longer than anybody of ours keeps it.
const LOCK_LIMIT: Duration = Duration::from_secs(2);
const WRITABLE_BY_ALL: u32 = 0o002;
const STICKY: u32 = 0o1000;
