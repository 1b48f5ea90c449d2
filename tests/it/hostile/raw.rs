//! The other end of a link, by hand. Everything here is written after the document of the wire format
//! and uses nothing of the library but its transports, so that the document is tried, too.

use nape::transport::{FrameReceiver, FrameSender, Received, Transport, Window};

pub(crate) const HELLO: u8 = 1;
pub(crate) const READY: u8 = 2;
pub(crate) const CALL: u8 = 3;
pub(crate) const EVENT: u8 = 4;
pub(crate) const REPLY: u8 = 5;
pub(crate) const FAULT: u8 = 6;
pub(crate) const CANCEL: u8 = 7;
pub(crate) const CREDIT: u8 = 8;
pub(crate) const PING: u8 = 11;
pub(crate) const PONG: u8 = 12;
pub(crate) const GO_AWAY: u8 = 13;
pub(crate) const BYE: u8 = 14;

pub(crate) const MORE: u8 = 1;
pub(crate) const CONTINUES: u8 = 2;
pub(crate) const OPTIONAL: u8 = 4;

/// Which end is played by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Head,
    Neck,
}

impl Side {
    pub(crate) fn other(self) -> Side {
        match self {
            Side::Head => Side::Neck,
            Side::Neck => Side::Head,
        }
    }

    /// An id of this side.
    pub(crate) fn id(self, counter: u64) -> u64 {
        match self {
            Side::Head => counter,
            Side::Neck => counter | 1 << 63,
        }
    }

    /// The greeting of this side, fields that a case may spoil.
    pub(crate) fn hello(self) -> Hello {
        let side = match self {
            Side::Head => 0,
            Side::Neck => 1,
        };
        Hello { magic: *b"NAPE", side, codec: 1, zero: 0, versions: (1, 1), features: 0, token: [0; 16] }
    }
}

/// The body of a hello.
#[derive(Clone)]
pub(crate) struct Hello {
    pub(crate) magic: [u8; 4],
    pub(crate) side: u8,
    pub(crate) codec: u8,
    pub(crate) zero: u16,
    pub(crate) versions: (u16, u16),
    pub(crate) features: u32,
    pub(crate) token: [u8; 16],
}

impl Hello {
    pub(crate) fn body(&self) -> Vec<u8> {
        let mut body = self.magic.to_vec();
        body.extend([self.side, self.codec]);
        body.extend(self.zero.to_le_bytes());
        body.extend(self.versions.0.to_le_bytes());
        body.extend(self.versions.1.to_le_bytes());
        body.extend(self.features.to_le_bytes());
        body.extend(self.token);
        body.extend([3, b'r', b'a', b'w']);
        body
    }

    pub(crate) fn frame(&self) -> Vec<u8> {
        frame(HELLO, 0, 0, &self.body())
    }
}

/// A frame that acknowledges nothing.
pub(crate) fn frame(kind: u8, flags: u8, id: u64, body: &[u8]) -> Vec<u8> {
    let mut frame = (20 + body.len() as u32).to_le_bytes().to_vec();
    frame.extend([kind, flags, 0, 0]);
    frame.extend(id.to_le_bytes());
    frame.extend([0; 8]);
    frame.extend(body);
    frame
}

/// A frame whose first field lies.
pub(crate) fn frame_of_length(len: u32) -> Vec<u8> {
    let mut frame = frame(EVENT, 0, 0, b"\x01x");
    frame[..4].copy_from_slice(&len.to_le_bytes());
    frame
}

/// Whether a frame has begun here whose end is missing, and no mistake can be known yet.
pub(crate) fn ends_within_a_frame(mut stream: &[u8]) -> bool {
    while let Some(len) = stream.first_chunk() {
        let len = u32::from_le_bytes(*len).saturating_add(4) as usize;
        if !(24..=61_440).contains(&len) {
            return false;
        }
        let Some((_, rest)) = stream.split_at_checked(len) else { return true };
        stream = rest;
    }
    !stream.is_empty()
}

/// A frame with this acknowledgement.
pub(crate) fn acknowledging(mut frame: Vec<u8>, (frames, bytes): (u32, u32)) -> Vec<u8> {
    frame[16..20].copy_from_slice(&frames.to_le_bytes());
    frame[20..24].copy_from_slice(&bytes.to_le_bytes());
    frame
}

/// The body of a call.
pub(crate) fn call_with(parent: u64, remaining: u64, path: &[u8], arguments: &[u8]) -> Vec<u8> {
    let mut body = parent.to_le_bytes().to_vec();
    body.extend(remaining.to_le_bytes());
    body.extend(0u32.to_le_bytes());
    body.push(path.len() as u8);
    body.extend(path);
    body.extend(arguments);
    body
}

pub(crate) fn call(path: &str, arguments: &[u8]) -> Vec<u8> {
    call_with(0, u64::MAX, path.as_bytes(), arguments)
}

pub(crate) fn event(path: &str, arguments: &[u8]) -> Vec<u8> {
    let mut body = vec![path.len() as u8];
    body.extend(path.as_bytes());
    body.extend(arguments);
    body
}

/// The body of a fault.
pub(crate) fn fault(code: u16, texts: &[&[u8]]) -> Vec<u8> {
    let mut body = code.to_le_bytes().to_vec();
    body.extend([0; 16]);
    body.push(texts.len() as u8);
    for text in texts {
        body.extend((text.len() as u16).to_le_bytes());
        body.extend(*text);
    }
    body
}

/// A short text in the codec.
pub(crate) fn text(text: &str) -> Vec<u8> {
    assert!(text.len() < 251);
    let mut bytes = vec![text.len() as u8];
    bytes.extend(text.as_bytes());
    bytes
}

/// A frame that the library sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) id: u64,
    pub(crate) body: Vec<u8>,
}

impl Frame {
    /// The code of a fault or of a bye.
    pub(crate) fn code(&self) -> u16 {
        u16::from_le_bytes([self.body[0], self.body[1]])
    }
}

/// One end of a connection, by hand.
pub(crate) struct Raw {
    pub(crate) side: Side,
    /// `None` once it has hung up.
    sender: Option<Box<dyn FrameSender>>,
    receiver: Box<dyn FrameReceiver>,
    window: Window,
    is_stream: bool,
    /// It never says that it has read anything.
    holds_back: bool,
    /// What was read, and what it acknowledges.
    read: (u32, u32),
    /// What was sent within the window, and how much of it was acknowledged.
    sent: (u32, u32),
    acknowledged: (u32, u32),
    /// What came and was not asked for yet.
    frames: std::collections::VecDeque<Frame>,
}

impl Raw {
    pub(crate) fn new(side: Side, transport: Transport) -> Raw {
        Raw {
            side,
            sender: Some(transport.sender),
            receiver: transport.receiver,
            window: transport.window,
            is_stream: transport.name == "pipe",
            holds_back: false,
            read: (0, 0),
            sent: (0, 0),
            acknowledged: (0, 0),
            frames: Default::default(),
        }
    }

    /// Whether a frame that is cut off may have a rest that is on its way.
    pub(crate) fn is_stream(&self) -> bool {
        self.is_stream
    }

    pub(crate) fn greet(&mut self) {
        self.send_as_is(&self.side.hello().frame());
        self.send_as_is(&frame(READY, 0, 0, &[]));
    }

    /// Sends a packet, whatever the window. Says whether somebody is there.
    pub(crate) fn send_as_is(&mut self, packet: &[u8]) -> bool {
        let mut rest = packet;
        while rest.len() >= 24 {
            let len = u32::from_le_bytes([rest[0], rest[1], rest[2], rest[3]]).saturating_add(4) as usize;
            let Some((frame, behind)) = rest.split_at_checked(len.max(24)) else { break };
            if !is_free(frame[4]) && frame[5] & OPTIONAL == 0 {
                self.sent.0 += 1;
                self.sent.1 += frame.len() as u32;
            }
            rest = behind;
        }
        self.sender.as_mut().is_some_and(|sender| sender.send(packet).is_ok())
    }

    /// Sends a frame as it should be: within the window, and with what has been read.
    pub(crate) fn send(&mut self, kind: u8, flags: u8, id: u64, body: &[u8]) -> bool {
        let frame = acknowledging(frame(kind, flags, id, body), self.read);
        let counts = !is_free(kind) && OPTIONAL & flags == 0;
        if counts && !self.wait_for_room() {
            return false;
        }
        self.send_as_is(&frame)
    }

    /// Reads until there is room in the window. Says whether somebody is there.
    pub(crate) fn wait_for_room(&mut self) -> bool {
        self.wait_for_room_for(1)
    }

    /// The same for so many frames at once, which are small.
    pub(crate) fn wait_for_room_for(&mut self, frames: u32) -> bool {
        while !self.has_room_for(frames) {
            if !self.read_packet() {
                return false;
            }
        }
        true
    }

    /// Sends frames in one packet, as they should be but for the window.
    pub(crate) fn send_together(&mut self, frames: impl Iterator<Item = Vec<u8>>) -> bool {
        let packet: Vec<u8> = frames.flat_map(|frame| acknowledging(frame, self.read)).collect();
        self.send_as_is(&packet)
    }

    fn has_room_for(&self, more: u32) -> bool {
        let frames = self.sent.0 - self.acknowledged.0;
        let bytes = self.sent.1 - self.acknowledged.1;
        frames + more <= self.window.frames && (bytes < self.window.bytes || frames < self.window.large)
    }

    /// Tells what has been read.
    pub(crate) fn acknowledge(&mut self) {
        self.send(CREDIT, 0, 0, &[]);
    }

    pub(crate) fn hang_up(&mut self) {
        self.sender = None;
    }

    /// The next frame that matters; `None` when the other end is gone.
    pub(crate) fn next(&mut self) -> Option<Frame> {
        loop {
            match self.frames.pop_front() {
                Some(frame) if frame.kind != CREDIT => return Some(frame),
                Some(_) => {}
                None if !self.read_packet() => return None,
                None => {}
            }
        }
    }

    /// The next frame of this kind; those before it are dropped.
    pub(crate) fn next_of(&mut self, kind: u8) -> Frame {
        loop {
            let frame = self.next().unwrap_or_else(|| panic!("it ends before a frame of kind {kind}"));
            if frame.kind == kind {
                return frame;
            }
        }
    }

    /// From here on it never says that it has read anything.
    pub(crate) fn hold_back(&mut self) {
        self.holds_back = true;
    }

    /// Drops what came and was not asked for.
    pub(crate) fn forget(&mut self) {
        self.frames.clear();
    }

    /// What has come by now, without waiting.
    pub(crate) fn rest(&mut self) -> Vec<Frame> {
        while let Ok(Some(Received::Packet(packet))) = self.receiver.try_receive() {
            self.take(&packet);
        }
        self.frames.drain(..).collect()
    }

    fn read_packet(&mut self) -> bool {
        loop {
            match self.receiver.receive(None) {
                Ok(Received::Packet(packet)) => {
                    self.take(&packet);
                    return true;
                }
                Ok(Received::Nudge | Received::Deadline) => {}
                Ok(Received::End) | Err(_) => return false,
            }
        }
    }

    /// Takes a packet apart, and checks it by the document.
    fn take(&mut self, mut packet: &[u8]) {
        assert!((24..=61_440).contains(&packet.len()));
        let word = |bytes: &[u8], at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        while !packet.is_empty() {
            let (frame, rest) = packet.split_at(word(packet, 0) as usize + 4);
            let (kind, flags) = (frame[4], frame[5]);
            assert!((1..=17).contains(&kind) && flags < 4 && frame[6..8] == [0, 0], "{:02x?}", &frame[..24]);
            self.acknowledged = (word(frame, 16), word(frame, 20));
            if !is_free(kind) && !self.holds_back {
                self.read.0 += 1;
                self.read.1 += frame.len() as u32;
            }
            let id = u64::from_le_bytes(frame[8..16].try_into().unwrap());
            self.frames.push_back(Frame { kind, flags, id, body: frame[24..].to_vec() });
            packet = rest;
        }
    }
}

/// Whether frames of this kind go beside the window.
fn is_free(kind: u8) -> bool {
    [HELLO, READY, CREDIT, GO_AWAY, BYE].contains(&kind)
}
