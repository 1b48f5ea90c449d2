//! The way in: the hello as it came, then what is in the records.

use std::{
    io::{self, ErrorKind},
    time::Instant,
};

use super::{record::Unpacker, session::Session};
use crate::{
    sync::Arc,
    transport::{FrameReceiver, Received},
    wire::{FRAME_LIMIT, Kind, ProtocolError, RECORD, Taken, frame_len, take_frame},
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
    /// A packet that was opened, and for which there was no room behind those before it.
    ready: Vec<u8>,
    /// What was wrong with what came behind the packet that was handed out last.
    failed: Option<ProtocolError>,
}

/// What became of a record.
enum Opened {
    /// Its packet goes on in the next one.
    Part,
    Whole,
    /// It is none, but may pass.
    Bye(Received),
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
            ready: Vec::new(),
            failed: None,
        }
    }

    /// The next packet of what has come: what is in all of its records, as long as that is no longer than a packet, so
    /// that whoever reads gets together what came together. No more than two packets are held, whatever records
    /// expand to.
    fn next_packet(&mut self) -> io::Result<Option<Received>> {
        if let Some(violation) = self.failed.take() {
            return Err(io::Error::new(ErrorKind::InvalidData, violation));
        }
        let mut packet = std::mem::take(&mut self.ready);
        while self.at < self.came.len() {
            match self.next_bare() {
                Some(bare) => return Ok(Some(bare)),
                None => match self.open_next() {
                    Ok(Opened::Part) => {}
                    Ok(Opened::Bye(bye)) => return Ok(Some(bye)),
                    Ok(Opened::Whole) if packet.is_empty() => packet = std::mem::take(&mut self.part),
                    Ok(Opened::Whole) if packet.len() + self.part.len() <= FRAME_LIMIT => {
                        packet.append(&mut self.part);
                    }
                    Ok(Opened::Whole) => {
                        self.ready = std::mem::take(&mut self.part);
                        break;
                    }
                    Err(violation) => {
                        self.failed = Some(violation);
                        if packet.is_empty() {
                            return self.next_packet();
                        }
                        break;
                    }
                },
            }
        }
        Ok(if packet.is_empty() { None } else { Some(Received::Packet(packet)) })
    }

    /// What passes as it is: the hello, and everything when nothing was agreed on.
    fn next_bare(&mut self) -> Option<Received> {
        if !self.greeted {
            self.greeted = true;
            let hello = match take_frame(&self.came[self.at..]) {
                Ok(Taken::Frame(_, len)) => len,
                // The link says what is wrong with it.
                _ => self.came.len() - self.at,
            };
            return Some(self.take_bare(hello));
        }
        if self.unpacker.is_none() {
            self.unpacker = self.session.unpacker();
        }
        // Without an agreement the link has refused the hello, and looks at nothing more.
        let len = self.came.len() - self.at;
        self.unpacker.is_none().then(|| self.take_bare(len))
    }

    /// Opens the next record, and leaves what is in it in `part`.
    fn open_next(&mut self) -> Result<Opened, ProtocolError> {
        let Some(unpacker) = &mut self.unpacker else { return Ok(Opened::Part) };
        let came = &mut self.came[self.at..];
        let too_short = ProtocolError::TooShort(came.len() as u64);
        let len = frame_len(came).ok_or(too_short.clone())??;
        let record = came.get_mut(..len).ok_or(too_short)?;
        if record[KIND_AT] == RECORD {
            self.at += len;
            let goes_on = unpacker.unpack(record, &mut self.part)?;
            return Ok(if goes_on { Opened::Part } else { Opened::Whole });
        }
        if unpacker.is_fresh() && is_bye(record) {
            return Ok(Opened::Bye(self.take_bare(len)));
        }
        Err(ProtocolError::BadRecord("a frame that went past the filters"))
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

/// Where the kind of a frame stands.
const KIND_AT: usize = 4;
