//! Files with a secret, which only their owner may read.

use std::{
    ffi::OsString,
    fs::{self, OpenOptions},
    io::{self, ErrorKind, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    path::Path,
};

/// Writes a line into a file that only its owner may read, in the place of one that is there. Whoever reads
/// meanwhile finds the old one or the new one.
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
pub(crate) fn read_secret(path: &Path) -> io::Result<String> {
    let file = fs::File::open(path)?;
    let about = file.metadata()?;
    if about.permissions().mode() & OTHERS != 0 {
        let (path, mode) = (path.display(), about.mode() & 0o777);
        let why = format!("{path} has the mode {mode:03o}, so that others may use it: 600 is right");
        return Err(io::Error::new(ErrorKind::PermissionDenied, why));
    }
    let mut text = String::new();
    file.take(LONGEST).read_to_string(&mut text)?;
    text.truncate(text.trim_end().len());
    Ok(text)
}

const OWNER_ONLY: u32 = 0o600;
const OTHERS: u32 = 0o077;
/// More than a secret and an end of line.
const LONGEST: u64 = 100;
