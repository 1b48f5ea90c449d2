//! What only those on the same system can do: sockets with a path, and files that belong to one user.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub(super) use unix::{SocketFile, credentials, dial, is_same_user, open, open_secret, secret_file};
#[cfg(windows)]
pub(super) use windows::{SocketFile, credentials, dial, is_same_user, open, open_secret, secret_file};
