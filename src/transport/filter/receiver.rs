//! The way in: the hello as it came, then what is in the records.

use std::{
    io::{self, ErrorKind},
    time::Instant,
};

use super::{record::Unpacker, session::Session};
use crate::{
    sync::Arc,
    transport::{FrameReceiver, Received},
    wire::{Kind, ProtocolError, RECORD, Taken, frame_len, take_frame},
};

pub(super) struct FilterReceiver {
    from: Box<dyn FrameReceiver>,
    session: Arc<Session>,
    /// The first frame has come.
    greeted: bool,
    unpacker: Option<Unpacker>,
    /// What has come and was not looked at, from `at` on.
    came: Vec<u8>,
    at: usize,
    /// What has come of a packet that goes on in the next record.
    part: Vec<u8>,
}

impl FilterReceiver {
    pub(super) fn new(from: Box<dyn FrameReceiver>, session: Arc<Session>) -> FilterReceiver {
        FilterReceiver {
            from,
            session,
            greeted: false,
            unpacker: None,
            came: Vec::new(),
            at: 0,
            part: Vec::new(),
        }
    }

    /// The next packet of what has come. One record is opened at a time, so that no more than one packet is held
    /// whatever records expand to.
    fn next_packet(&mut self) -> io::Result<Option<Received>> {
        while self.at < self.came.len() {
            if !self.greeted {
                self.greeted = true;
                let hello = match take_frame(&self.came[self.at..]) {
                    Ok(Taken::Frame(_, len)) => len,
                    // The link says what is wrong with it.
                    _ => self.came.len() - self.at,
                };
                return Ok(Some(self.take_bare(hello)));
            }
            if self.unpacker.is_none() {
                self.unpacker = self.session.unpacker();
            }
            let came = &mut self.came[self.at..];
            // Without an agreement the link has refused the hello, and looks at nothing more.
            let Some(unpacker) = &mut self.unpacker else {
                let len = came.len();
                return Ok(Some(self.take_bare(len)));
            };
            let whole = frame_len(came).unwrap_or(Err(ProtocolError::TooShort(came.len() as u64)));
            let len = whole.map_err(refused)?;
            let n_came = came.len() as u64;
            let Some(record) = came.get_mut(..len) else {
                return Err(refused(ProtocolError::TooShort(n_came)));
            };
            if record[KIND_AT] != RECORD {
                if unpacker.is_fresh() && is_bye(record) {
                    return Ok(Some(self.take_bare(len)));
                }
                return Err(refused(ProtocolError::BadRecord("a frame that went past the filters")));
            }
            self.at += len;
            let goes_on = unpacker.unpack(record, &mut self.part).map_err(refused)?;
            if !goes_on {
                return Ok(Some(Received::Packet(std::mem::take(&mut self.part))));
            }
        }
        Ok(None)
    }

    /// So many bytes as they came.
    fn take_bare(&mut self, len: usize) -> Received {
        let end = self.at + len;
        let bare = if self.at == 0 && end == self.came.len() {
            std::mem::take(&mut self.came)
        } else {
            self.came[self.at..end].to_vec()
        };
        self.at = if self.came.is_empty() { 0 } else { end };
        Received::Packet(bare)
    }

    /// What has come is looked at first; what comes next after that.
    fn keep(&mut self, packet: Vec<u8>) {
        self.came = packet;
        self.at = 0;
    }
}

impl FrameReceiver for FilterReceiver {
    fn receive(&mut self, deadline: Option<Instant>) -> io::Result<Received> {
        loop {
            if let Some(received) = self.next_packet()? {
                return Ok(received);
            }
            match self.from.receive(deadline)? {
                Received::Packet(packet) => self.keep(packet),
                other => return Ok(other),
            }
        }
    }

    fn try_receive(&mut self) -> io::Result<Option<Received>> {
        loop {
            if let Some(received) = self.next_packet()? {
                return Ok(Some(received));
            }
            match self.from.try_receive()? {
                Some(Received::Packet(packet)) => self.keep(packet),
                other => return Ok(other),
            }
        }
    }

    fn expect_soon(&mut self, soon: bool) {
        self.from.expect_soon(soon);
    }
}

/// Whether these are the last words of one who has nothing to seal them with: it has refused what this side took, and
/// says why, or it has gone before it was greeted. Anybody can have said them, so that they prove no more than the end of
/// the connection; nothing else was said before.
fn is_bye(frame: &[u8]) -> bool {
    matches!(take_frame(frame), Ok(Taken::Frame(header, _)) if header.kind == Kind::Bye)
}

fn refused(violation: ProtocolError) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, violation)
}

/// Where the kind of a frame stands.
const KIND_AT: usize = 4;
