//! The other end of a link in a test's own hands: whole frames, and only as polite as the test wants.

use std::time::{Duration, Instant};

use nape::transport::{Received, Transport};

/// The kinds of frames that tests need, by their numbers on the wire.
pub const HELLO: u8 = 1;
pub const READY: u8 = 2;
pub const CALL: u8 = 3;
pub const EVENT: u8 = 4;
pub const REPLY: u8 = 5;
pub const CREDIT: u8 = 8;
pub const PING: u8 = 11;
pub const BYE: u8 = 14;

const HEADER: usize = 24;

/// A Neck that is written by hand.
pub struct RawNeck {
    transport: Transport,
    /// Frames and bytes that count in the window and were read so far.
    pub read: (u32, u32),
    /// Frames that count in the other window and were sent so far, and how many of them the other side says that it has
    /// read.
    pub sent: u32,
    pub acknowledged: u32,
    last: u64,
}

/// A frame that came.
#[derive(Debug)]
pub struct RawFrame {
    pub kind: u8,
    pub id: u64,
    /// What the other side says that it has read, in frames.
    pub acknowledged: u32,
}

/// A frame with an acknowledgement of `ack` frames and bytes.
pub fn frame(kind: u8, id: u64, ack: (u32, u32), body: &[u8]) -> Vec<u8> {
    let mut frame = ((HEADER - 4 + body.len()) as u32).to_le_bytes().to_vec();
    frame.extend([kind, 0, 0, 0]);
    frame.extend(id.to_le_bytes());
    frame.extend(ack.0.to_le_bytes());
    frame.extend(ack.1.to_le_bytes());
    frame.extend(body);
    frame
}

/// The greeting of a Neck that was told no token.
pub fn hello() -> Vec<u8> {
    let mut hello = b"NAPE\x01\x01\0\0\x01\0\x01\0\0\0\0\0".to_vec();
    hello.extend([0; 16]);
    hello.push(0);
    hello
}

/// Whether a frame of this kind counts in the window.
fn counts(kind: u8) -> bool {
    !matches!(kind, HELLO | READY | CREDIT | 13 | BYE)
}

impl RawNeck {
    /// Greets, and takes calls from now on.
    pub fn ready(transport: Transport) -> RawNeck {
        let mut neck = RawNeck { transport, read: (0, 0), sent: 0, acknowledged: 0, last: 0 };
        neck.send(HELLO, 0, (0, 0), &hello());
        neck.send(READY, 0, (0, 0), &[]);
        neck
    }

    /// Sends a frame that is a packet, with an acknowledgement of `ack` frames and bytes.
    pub fn send(&mut self, kind: u8, id: u64, ack: (u32, u32), body: &[u8]) {
        self.sent += u32::from(counts(kind));
        // The other side may have hung up.
        let _ = self.transport.sender.send(&frame(kind, id, ack, body));
    }

    /// Sends bytes that need not be a frame, where the wire takes them so.
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        let _ = self.transport.sender.send(bytes);
    }

    /// Makes a call without arguments and without a deadline, and acknowledges nothing.
    pub fn call(&mut self, path: &str) -> u64 {
        let id = self.next_id();
        let mut body = vec![0; 8];
        body.extend([0xff; 8]);
        body.extend([0; 4]);
        body.push(path.len() as u8);
        body.extend(path.as_bytes());
        self.send(CALL, id, (0, 0), &body);
        id
    }

    /// How many frames may be under way.
    pub fn window(&self) -> u32 {
        self.transport.window.frames
    }

    /// The name of the next message.
    pub fn next_id(&mut self) -> u64 {
        self.last += 1;
        self.last | 1 << 63
    }

    /// The frames of the next packet; none when there is none in time or the other end is gone.
    pub fn receive(&mut self, limit: Duration) -> Vec<RawFrame> {
        let end = Instant::now() + limit;
        loop {
            match self.transport.receiver.try_receive() {
                Ok(Some(Received::Packet(packet))) => return self.take_apart(&packet),
                Ok(Some(Received::End)) | Err(_) => return Vec::new(),
                _ if Instant::now() >= end => return Vec::new(),
                _ => std::thread::sleep(Duration::from_millis(1)),
            }
        }
    }

    fn take_apart(&mut self, mut packet: &[u8]) -> Vec<RawFrame> {
        let mut frames = Vec::new();
        while let Some(len) = packet.first_chunk::<4>() {
            let (frame, rest) = packet.split_at(u32::from_le_bytes(*len) as usize + 4);
            packet = rest;
            let kind = frame[4];
            if counts(kind) {
                self.read.0 += 1;
                self.read.1 += frame.len() as u32;
            }
            self.acknowledged = u32::from_le_bytes(frame[16..20].try_into().unwrap());
            frames.push(RawFrame {
                kind,
                id: u64::from_le_bytes(frame[8..16].try_into().unwrap()),
                acknowledged: self.acknowledged,
            });
        }
        frames
    }
}
