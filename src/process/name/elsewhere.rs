//! On macOS and on Windows a name belongs to the system, which removes it with the process that made it.

use std::io;

use crate::error::StartError;

/// Nothing has to be there for a name.
pub(in super::super) fn check() -> io::Result<()> {
    Ok(())
}

/// There is nothing to remove.
pub(in super::super) fn remove(_: &str) {}

/// There is nothing to prepare.
pub(in super::super) fn prepare_ipc() -> Result<(), StartError> {
    Ok(())
}
