//! Somebody who has connected, and is listened to before anything is said to them.

use std::{
    io::{self, ErrorKind},
    net::TcpStream,
};

use super::Credentials;
use crate::{
    os::{
        self,
        fd::{AsFd, BorrowedFd, OwnedFd},
    },
    transport::{PipeEnd, Transport, tcp_end},
    wire::{Ack, Bye, Flags, HEADER_LEN, Header, Hello, Kind, ProtocolError, Side, Taken, Token, take_frame},
};

/// A connection of which nobody knows yet who is at its other end. Nothing of it is believed, and it costs no
/// more than a descriptor and [`LONGEST_HELLO`] bytes.
pub(crate) struct Caller {
    socket: OwnedFd,
    credentials: Option<Credentials>,
    /// What has come of the greeting, and nothing behind it.
    pub(super) heard: Vec<u8>,
}

/// What has come of a greeting.
#[derive(Debug)]
pub(crate) enum Heard {
    /// Not all of it.
    Part,
    /// All, and it is right.
    Greeting,
    /// What no peer sends whom this side takes.
    Wrong(ProtocolError),
    /// The connection is over.
    Gone,
}

impl Caller {
    pub(super) fn new(socket: OwnedFd, credentials: Option<Credentials>) -> Caller {
        Caller { socket, credentials, heard: Vec::new() }
    }

    /// Who it is, where the kernel knows.
    pub(crate) fn credentials(&self) -> Option<Credentials> {
        self.credentials
    }

    /// Reads what is there of the greeting of a peer on `side` who knows the token, and judges it as soon as that
    /// can be done. Does not wait.
    pub(crate) fn listen(&mut self, side: Side, token: &Token) -> Heard {
        loop {
            let missing = match self.missing() {
                Ok(0) => return self.judge(side, token),
                Ok(missing) => missing,
                Err(()) => return Heard::Wrong(ProtocolError::NotAPeer { expected: side }),
            };
            let mut buffer = [0; LONGEST_HELLO];
            // Descriptors that come along are closed by the kernel: there is no room for them.
            match os::read_some(self.socket.as_fd(), &mut buffer[..missing]) {
                Ok(0) => return Heard::Gone,
                Ok(len) => self.heard.extend_from_slice(&buffer[..len]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Heard::Part,
                Err(_) => return Heard::Gone,
            }
        }
    }

    /// How many bytes to read next; none when the greeting is complete. An error as soon as it cannot be one.
    fn missing(&self) -> Result<usize, ()> {
        let Some(len) = self.heard.first_chunk() else { return Ok(4 - self.heard.len()) };
        let whole = (u32::from_le_bytes(*len) as usize).saturating_add(4);
        if !(HEADER_LEN..=LONGEST_HELLO).contains(&whole) {
            return Err(());
        }
        if self.heard.get(4).is_some_and(|kind| *kind != Kind::Hello as u8) {
            return Err(());
        }
        Ok(whole - self.heard.len())
    }

    fn judge(&self, side: Side, token: &Token) -> Heard {
        match take_frame(&self.heard) {
            Ok(Taken::Frame(header, _)) if header.kind == Kind::Hello => {}
            Ok(_) => return Heard::Wrong(ProtocolError::NotAPeer { expected: side }),
            Err(error) => return Heard::Wrong(error),
        }
        match Hello::read(&self.heard[HEADER_LEN..], side, token) {
            Ok(_) => Heard::Greeting,
            Err(error) => Heard::Wrong(error),
        }
    }

    /// Whether it has said that it speaks this protocol.
    pub(crate) fn is_nape(&self) -> bool {
        self.heard.get(HEADER_LEN..HEADER_LEN + 4).is_some_and(|magic| magic == b"NAPE")
    }

    /// Hangs up with a reason, if there is room for it. Does not wait.
    pub(crate) fn turn_away(self, code: u16) {
        let mut frame = vec![0; HEADER_LEN];
        Bye { code }.write(&mut frame);
        let header = Header { kind: Kind::Bye, flags: Flags::default(), id: 0, ack: Ack::default() };
        header.write(&mut frame);
        let _ = os::send_some(self.socket.as_fd(), &frame);
        os::stop_sending(self.socket.as_fd());
    }

    /// The connection for a link, which reads the greeting once more.
    pub(crate) fn into_transport(self) -> io::Result<Transport> {
        match self.credentials {
            Some(_) => PipeEnd::met(self.socket, &self.heard, "unix"),
            None => tcp_end(TcpStream::from(self.socket), &self.heard),
        }
    }
}

/// Readable when more has come.
impl AsFd for Caller {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The greetings of all versions so far have 57 to 312 bytes.
const LONGEST_HELLO: usize = 1024;
