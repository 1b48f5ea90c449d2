//! Files with a secret, which only their owner may read.

#[cfg(feature = "encryption")]
use std::{
    ffi::OsString,
    fs,
    io::{Read, Write},
};
use std::{
    fs::{File, OpenOptions},
    io::{self, ErrorKind},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
};

use rustix::fs::OFlags;

/// Writes a line into a file that only its owner may read, in the place of one that is there. Whoever reads
/// meanwhile finds the old one or the new one.
#[cfg(feature = "encryption")]
pub(crate) fn write_secret(path: &Path, text: &str) -> io::Result<()> {
    let name = path.file_name().ok_or(ErrorKind::InvalidInput)?;
    let mut beside = OsString::from(".");
    beside.push(name);
    beside.push(format!(".{:032x}", u128::from_le_bytes(super::random_token()?)));
    let beside = path.with_file_name(beside);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(OWNER_ONLY).open(&beside)?;
    let line = |file: &mut fs::File| file.write_all(text.as_bytes()).and_then(|()| file.write_all(b"\n"));
    let written = line(&mut file).and_then(|()| fs::rename(&beside, path));
    written.inspect_err(|_| drop(fs::remove_file(&beside)))
}

/// The first line of a file that only its owner may read: what others can read is no secret, and is refused.
#[cfg(feature = "encryption")]
pub(crate) fn read_secret(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    open_secret(path)?.take(LONGEST).read_to_string(&mut text)?;
    text.truncate(text.trim_end().len());
    Ok(text)
}

/// Opens a file of this user, or of root, that nobody else may use. Does not wait for anybody.
pub(crate) fn open_secret(path: &Path) -> io::Result<File> {
    // Of a pipe with a name this would wait for whoever writes.
    let flags = OFlags::NONBLOCK.bits() as i32;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let about = file.metadata()?;
    let (owner, mode, path) = (about.uid(), about.mode() & 0o777, path.display());
    if !about.is_file() {
        return Err(io::Error::new(ErrorKind::InvalidInput, format!("{path} is no regular file")));
    }
    let why = if ![super::user_id(), ROOT].contains(&owner) {
        format!("{path} belongs to the user {owner}, who chooses what stands in it")
    } else if mode & OTHERS != 0 {
        format!("{path} has the mode {mode:03o}, so that others may use it: 600 is right")
    } else {
        return Ok(file);
    };
    Err(io::Error::new(ErrorKind::PermissionDenied, why))
}

#[cfg(feature = "encryption")]
const OWNER_ONLY: u32 = 0o600;
const OTHERS: u32 = 0o077;
const ROOT: u32 = 0;
/// More than a secret and an end of line.
#[cfg(feature = "encryption")]
const LONGEST: u64 = 100;
