//! There are no sockets with a path here, and who may use a file is what its directory says.

use std::{
    fs::{File, OpenOptions},
    io::{self, ErrorKind},
    path::Path,
    time::Instant,
};

use crate::{
    os::fd::{BorrowedFd, OwnedFd},
    socket::{Credentials, Terms},
    transport::Transport,
};

/// A file that nobody can make.
#[derive(Debug)]
pub(in super::super) enum SocketFile {}

/// Refused.
pub(in super::super) fn open(_: &Path, _: u32) -> io::Result<(OwnedFd, SocketFile)> {
    Err(refused())
}

/// Refused.
pub(in super::super) fn dial(_: &Path, _: &Terms, _: Option<Instant>) -> io::Result<Transport> {
    Err(refused())
}

/// The system does not say who is at the other end of a socket.
pub(in super::super) fn credentials(_: BorrowedFd<'_>) -> io::Result<Credentials> {
    Err(refused())
}

/// Nobody knows.
pub(in super::super) fn is_same_user(_: &Credentials) -> bool {
    false
}

/// A new file. Who may use it is what the directory says.
pub(in super::super) fn secret_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).open(path)
}

/// Nobody knows who else may use it.
pub(in super::super) fn open_secret(path: &Path) -> io::Result<File> {
    File::open(path)
}

fn refused() -> io::Error {
    io::Error::new(ErrorKind::Unsupported, "there are no Unix sockets on Windows: use TCP")
}
