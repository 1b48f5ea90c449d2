//! The bytes of a message on its way out, and the packets that they leave in.
//!
//! A message of several frames is sent from where it lies: the header of a frame is written over the bytes
//! before it, which have left already. Copies would cost more than the sending.

use std::ops::Range;

use super::outbox::Draft;
use crate::wire::{FRAME_LIMIT, HEADER_LEN, Kind, Payload};

/// Room for a header, then a body. The end of a large body may be in a buffer of its own: as the user gave it.
#[derive(Debug, Default)]
pub(crate) struct Load {
    head: Vec<u8>,
    tail: Vec<u8>,
    /// Where in `tail` it goes on.
    at: usize,
}

/// All of it in one buffer.
impl From<Vec<u8>> for Load {
    fn from(head: Vec<u8>) -> Load {
        Load { head, tail: Vec::new(), at: 0 }
    }
}

impl Load {
    /// `head`, and behind it the bytes of `tail` from `at` on.
    pub(crate) fn new(head: Vec<u8>, mut tail: Vec<u8>, at: usize) -> Load {
        let Some(start) = at.checked_sub(head.len()) else { return Load { head, tail, at } };
        // What a message leaves before its body is room for the head of the next.
        tail[start..at].copy_from_slice(&head);
        Load { head: Vec::new(), tail, at: start }
    }

    /// The body, as whoever gets it would have it.
    pub(crate) fn into_payload(self) -> Payload {
        let Load { mut head, tail, at } = self;
        if tail.is_empty() {
            return Payload::from_tail(head, HEADER_LEN);
        }
        if head.is_empty() {
            return Payload::from_tail(tail, at + HEADER_LEN);
        }
        head.extend_from_slice(&tail[at..]);
        Payload::from_tail(head, HEADER_LEN)
    }

    pub(crate) fn len(&self) -> usize {
        self.head.len() + self.tail.len() - self.at
    }

    /// The memory that it takes.
    pub(crate) fn held(&self) -> usize {
        self.head.capacity() + self.tail.capacity()
    }

    /// Gives back what its buffers have in reserve, if that is much.
    pub(crate) fn trim(&mut self) {
        for buffer in [&mut self.head, &mut self.tail] {
            if buffer.capacity() - buffer.len() > FRAME_LIMIT {
                buffer.shrink_to_fit();
            }
        }
    }

    /// Adds bytes to what is in one buffer.
    pub(crate) fn append(&mut self, bytes: &[u8]) {
        debug_assert!(self.tail.is_empty());
        self.head.extend_from_slice(bytes);
    }

    /// The buffer of a message of one frame.
    pub(crate) fn into_buffer(self) -> Result<Vec<u8>, Load> {
        if self.is_large() || !self.tail.is_empty() { Err(self) } else { Ok(self.head) }
    }

    /// The first bytes behind the room for the header.
    pub(crate) fn first_mut(&mut self, n: usize) -> &mut [u8] {
        let start = HEADER_LEN;
        match self.head.len() {
            0 => &mut self.tail[self.at + start..self.at + start + n],
            _ => &mut self.head[start..start + n],
        }
    }

    /// Whether it takes more than one frame.
    pub(crate) fn is_large(&self) -> bool {
        self.len() > FRAME_LIMIT
    }

    /// Where these bytes lie, if they lie together.
    fn place(&self, bytes: Range<usize>) -> Option<Place> {
        let Range { start, end } = bytes;
        if end <= self.head.len() {
            return Some(Place::Head(start..end));
        }
        let offset = start.checked_sub(self.head.len())? + self.at;
        Some(Place::Tail(offset..offset + end - start))
    }

    /// Appends these bytes to `out`.
    fn copy(&self, bytes: Range<usize>, out: &mut Vec<u8>) {
        let Range { start, end } = bytes;
        let split = self.head.len().clamp(start, end);
        if start < split {
            out.extend_from_slice(&self.head[start..split]);
        }
        let offset = |at: usize| at - self.head.len() + self.at;
        if split < end {
            out.extend_from_slice(&self.tail[offset(split)..offset(end)]);
        }
    }
}

/// Where a frame lies.
#[derive(Debug)]
enum Place {
    Head(Range<usize>),
    Tail(Range<usize>),
}

/// What goes at one time: whole frames, at most [`FRAME_LIMIT`] bytes.
#[derive(Debug, Default)]
pub(crate) struct Packet {
    /// Frames that were copied together, or a message that came as a frame.
    own: Vec<u8>,
    /// In a box, since most packets are of small messages and are moved about.
    lent: Option<Box<Lent>>,
}

/// A message of which one frame goes. Its place in the outbox waits for it, if there is more of it.
#[derive(Debug)]
struct Lent {
    kind: Kind,
    id: u64,
    load: Load,
    frame: Place,
    more: bool,
}

impl Packet {
    pub(crate) fn bytes(&self) -> &[u8] {
        match &self.lent {
            Some(lent) => lent.bytes(),
            None => &self.own,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes().is_empty()
    }

    /// How many bytes there is room for.
    pub(crate) fn room(&self) -> usize {
        if self.lent.is_some() { 0 } else { FRAME_LIMIT - self.own.len() }
    }

    /// Adds a frame of these bytes of a message, and gives the frame, whose header is to be written.
    pub(crate) fn add(&mut self, draft: &mut Draft, body: Range<usize>) -> &mut [u8] {
        let load = &mut draft.load;
        let alone = self.own.is_empty();
        let more = body.end < load.len();
        if alone && !load.is_large() && load.tail.is_empty() {
            // The usual case: the message is the frame, and the frame is the packet.
            self.own = std::mem::take(&mut load.head);
            return &mut self.own;
        }
        match load.place(body.start - HEADER_LEN..body.end) {
            Some(frame) if alone && load.is_large() => {
                let lent = Lent { kind: draft.kind, id: draft.id, load: std::mem::take(load), frame, more };
                self.lent.insert(Box::new(lent)).frame()
            }
            _ => {
                let start = self.own.len();
                self.own.resize(start + HEADER_LEN, 0);
                load.copy(body, &mut self.own);
                &mut self.own[start..]
            }
        }
    }

    /// Adds a frame without a body.
    pub(crate) fn add_bare(&mut self) -> &mut [u8] {
        let start = self.own.len();
        self.own.resize(start + HEADER_LEN, 0);
        &mut self.own[start..]
    }

    /// It has been sent. To be said without a lock: the memory of a message that has left is given back.
    pub(crate) fn sent(&mut self) {
        self.own.clear();
        self.lent.take_if(|lent| !lent.more);
    }

    /// Empties it, and gives back the message of which only one frame was for this packet.
    pub(super) fn take_back(&mut self) -> Option<(Kind, u64, Load)> {
        self.own.clear();
        let lent = self.lent.take()?;
        lent.more.then_some((lent.kind, lent.id, lent.load))
    }

    /// Keeps no more memory than this for the next time.
    pub(crate) fn shrink_to(&mut self, capacity: usize) {
        self.own.shrink_to(capacity);
    }
}

impl Lent {
    fn bytes(&self) -> &[u8] {
        match &self.frame {
            Place::Head(range) => &self.load.head[range.clone()],
            Place::Tail(range) => &self.load.tail[range.clone()],
        }
    }

    fn frame(&mut self) -> &mut [u8] {
        match &self.frame {
            Place::Head(range) => &mut self.load.head[range.clone()],
            Place::Tail(range) => &mut self.load.tail[range.clone()],
        }
    }
}

#[cfg(test)]
mod tests;
