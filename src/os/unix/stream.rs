//! Descriptors that bytes stream through, whoever made them.

use std::{
    io::{self, ErrorKind},
    os::fd::BorrowedFd,
};

use rustix::{
    buffer::spare_capacity,
    fs::{FileType, fstat},
    io::{read, retry_on_intr},
    net::{SocketType, sockopt},
};

/// What bytes can be streamed through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StreamKind {
    Socket,
    Pipe,
}

/// Which of the two it is.
pub(crate) fn stream_kind(fd: BorrowedFd<'_>) -> io::Result<StreamKind> {
    let kind = FileType::from_raw_mode(fstat(fd)?.st_mode);
    match kind {
        FileType::Fifo => Ok(StreamKind::Pipe),
        FileType::Socket if sockopt::socket_type(fd)? == SocketType::STREAM => Ok(StreamKind::Socket),
        _ => Err(io::Error::new(ErrorKind::InvalidInput, "it is neither a pipe nor a stream socket")),
    }
}

/// Appends what is there to the buffer, as far as that has room; zero is the end.
pub(crate) fn read_more(pipe: BorrowedFd<'_>, buffer: &mut Vec<u8>) -> io::Result<usize> {
    Ok(retry_on_intr(|| read(pipe, spare_capacity(buffer)))?)
}
