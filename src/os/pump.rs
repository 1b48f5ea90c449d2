//! What can only be read by waiting, made into what can be waited for together with other things.

use std::{
    io::{self, ErrorKind, Read},
    thread::Builder,
};

use super::{
    fd::{AsFd, OwnedFd},
    imp::stream_pair,
    send_some, wait_writable_until,
};

/// The same bytes and the same end, through a socket that does not block. A thread sees to it, until the end, or
/// until nobody reads the socket any more and there is something to read.
pub(crate) fn pump(mut from: impl Read + Send + 'static) -> io::Result<OwnedFd> {
    let (ours, theirs) = stream_pair()?;
    let run = move || {
        // An error is the end: of who writes, or of who reads.
        let _ = copy(&mut from, &theirs);
    };
    Builder::new().name("nape-output".into()).spawn(run)?;
    Ok(ours)
}

fn copy(from: &mut impl Read, to: &OwnedFd) -> io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(len) => send_all(to, &buffer[..len])?,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn send_all(to: &OwnedFd, mut rest: &[u8]) -> io::Result<()> {
    while !rest.is_empty() {
        match send_some(to.as_fd(), rest) {
            Ok(len) => rest = &rest[len..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                wait_writable_until(to.as_fd(), None)?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::os::{receive_some, wait_readable};

    #[test]
    fn all_that_was_written_comes_and_then_the_end() {
        let (reader, mut writer) = io::pipe().unwrap();
        let socket = pump(reader).unwrap();
        let writer =
            std::thread::spawn(move || (0..100u8).for_each(|n| writer.write_all(&[n; 5000]).unwrap()));
        let mut came = Vec::with_capacity(600_000);
        loop {
            wait_readable(&[socket.as_fd()], None).unwrap();
            if receive_some(socket.as_fd(), &mut came).unwrap() == 0 {
                break;
            }
        }
        writer.join().unwrap();
        assert_eq!(came, (0..100u8).flat_map(|n| [n; 5000]).collect::<Vec<_>>());
    }

    #[test]
    fn who_writes_is_told_that_nobody_reads_any_more() {
        let (reader, mut writer) = io::pipe().unwrap();
        drop(pump(reader).unwrap());
        while writer.write_all(b"more").is_ok() {
            std::thread::yield_now();
        }
    }
}
