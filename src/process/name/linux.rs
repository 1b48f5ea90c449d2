//! On Linux a name is a socket in a temporary directory of its own.

use std::{
    env, fs, io,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

use ipc_channel::ipc::bytes_channel;

use crate::{
    error::StartError,
    os,
    process::caught::{caught, uninterrupted},
    wire::Token,
};

/// ipc-channel panics over a name that is no UTF-8, cuts one that is too long, and panics and leaks a
/// descriptor where it cannot make a directory of its own. So one is made here first.
pub(in super::super) fn check() -> io::Result<()> {
    let directory = env::temp_dir();
    let fits = directory.to_str().is_some_and(|name| name.len() + OWN_PART <= LONGEST_NAME);
    if !fits {
        let limit = LONGEST_NAME - OWN_PART;
        let text = format!("the temporary directory must be UTF-8 of at most {limit} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    // What stands in it is for our user alone, but the directory around that decides whose it is.
    let around = if directory.as_os_str().is_empty() { Path::new(".") } else { &directory };
    os::check_directory(around)?;
    let probe = directory.join(format!(".nape-{}", Token(os::random_token()?).to_hex()));
    fs::create_dir(&probe)?;
    fs::remove_dir(&probe)?;
    // Where there is no room for its socket, ipc-channel leaves its directory behind, since to empty one takes a
    // descriptor, too.
    os::pipe().map(drop)
}

/// Connects and hangs up at once, to free a thread that waits there. Does not wait. An error says that nobody listens
/// any more.
pub(in super::super) fn knock(name: &str) {
    let _ = os::knock(name);
}

/// The name has served, and whoever still holds the socket does not need it. A Head that is killed
/// before it can remove the name itself leaves nothing behind in this way.
pub(in super::super) fn remove(name: &str) {
    let socket = Path::new(name);
    let _ = std::fs::remove_file(socket);
    let _ = socket.parent().map(std::fs::remove_dir);
}

/// Lets ipc-channel measure its sockets while there is room for it.
///
/// It opens a pair of sockets for that at its first message, and when it cannot, that message and
/// every later one in this process panics.
pub(in super::super) fn prepare_ipc() -> Result<(), StartError> {
    static MEASURED: AtomicBool = AtomicBool::new(false);
    if MEASURED.load(Ordering::Acquire) {
        return Ok(());
    }
    let (sender, receiver) = bytes_channel().map_err(StartError::setup("channel"))?;
    // Proves that there is room for the pair, and makes it again by closing.
    drop(os::pipe().map_err(StartError::setup("channel"))?);
    caught("ipc-channel cannot measure its sockets", || uninterrupted(|| sender.send(&[])))
        .map_err(StartError::setup("channel"))?;
    drop(receiver);
    MEASURED.store(true, Ordering::Release);
    Ok(())
}

/// What is appended to the temporary directory: `/.tmpXXXXXX/socket`.
const OWN_PART: usize = 18;
/// What fits into the address of a Unix socket.
const LONGEST_NAME: usize = 107;
