//! Joins frames to messages, and keeps what is unfinished within bounds.

use std::time::Instant;

use rustc_hash::FxHashMap;

use crate::{
    os::make_room_for,
    wire::{FRAME_LIMIT, HEADER_LEN, Header, Kind, ProtocolError},
};

/// The messages of which a part has come.
#[derive(Debug)]
pub(crate) struct Inbox {
    message_limit: usize,
    unfinished: FxHashMap<(u8, u64), Parts>,
    bytes: usize,
    /// How long the last message was that came in parts.
    last: usize,
}

/// What has come of a message.
#[derive(Debug)]
struct Parts {
    bytes: Vec<u8>,
    last_came: Instant,
}

/// The body of a whole message: a buffer, and where in it the body starts.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Body {
    pub(crate) buffer: Vec<u8>,
    pub(crate) start: usize,
}

impl Body {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..]
    }
}

impl Inbox {
    pub(crate) fn new(message_limit: usize) -> Inbox {
        Inbox { message_limit, unfinished: FxHashMap::default(), bytes: 0, last: 0 }
    }

    /// Takes a frame; gives the message when this was its last. `frame` is header and body.
    pub(crate) fn take(
        &mut self,
        header: &Header,
        frame: Frame<'_>,
        now: Instant,
    ) -> Result<Option<Body>, ProtocolError> {
        let key = (header.kind as u8, header.id);
        let open = self.unfinished.contains_key(&key);
        if header.flags.continues != open {
            return Err(ProtocolError::BadChunk(header.id));
        }
        let body = frame.body();
        let before = self.unfinished.get(&key).map_or(0, |parts| parts.bytes.len());
        self.within_limit(header.kind, before + body.len())?;
        if !header.flags.more && !open {
            return Ok(Some(frame.into_body()));
        }
        // Growing step by step would copy it once more. A message is expected to be as long as the one before
        // it, but only one at a time: a peer gets room for what it has once sent, and not on its word.
        let expected = if self.unfinished.is_empty() { self.last } else { 0 };
        let fresh = || Parts { bytes: Vec::new(), last_came: now };
        let parts = self.unfinished.entry(key).or_insert_with(fresh);
        if body.is_empty() {
            return Err(ProtocolError::Flood("empty frames"));
        }
        if body.len() > parts.bytes.capacity() - parts.bytes.len() {
            make_room_for(&mut parts.bytes, expected.max(body.len()));
        }
        parts.bytes.extend_from_slice(body);
        parts.last_came = now;
        self.bytes += body.len();
        if header.flags.more {
            return self.within_bounds().map(|()| None);
        }
        let mut buffer = self.unfinished.remove(&key).map(|parts| parts.bytes).unwrap_or_default();
        self.bytes -= buffer.len();
        self.last = buffer.len();
        if buffer.capacity() / 2 > buffer.len() {
            buffer.shrink_to_fit();
        }
        Ok(Some(Body { buffer, start: 0 }))
    }

    /// Forgets the parts of a message of which no more will come.
    pub(crate) fn discard(&mut self, kind: Kind, id: u64) {
        let parts = self.unfinished.remove(&(kind as u8, id));
        self.bytes -= parts.map_or(0, |parts| parts.bytes.len());
    }

    /// Whether a message of this kind and id is unfinished.
    pub(crate) fn is_open(&self, kind: Kind, id: u64) -> bool {
        self.unfinished.contains_key(&(kind as u8, id))
    }

    /// When the last part came of the unfinished message that has waited longest.
    pub(crate) fn waits_since(&self) -> Option<Instant> {
        self.unfinished.values().map(|parts| parts.last_came).min()
    }

    fn within_limit(&self, kind: Kind, len: usize) -> Result<(), ProtocolError> {
        let limit = match kind {
            Kind::Fault => fault_limit(self.message_limit),
            _ if kind.may_be_cut() => self.message_limit,
            // What stands in these is ours, and fits into a frame.
            _ => FRAME_LIMIT,
        };
        if len > limit {
            return Err(ProtocolError::TooLarge { len: len as u64, limit: limit as u64 });
        }
        Ok(())
    }

    fn within_bounds(&self) -> Result<(), ProtocolError> {
        let too_many = self.unfinished.len() > MAX_UNFINISHED;
        if too_many || self.bytes > fault_limit(self.message_limit).saturating_mul(MAX_UNFINISHED_SIZE) {
            return Err(ProtocolError::Flood("unfinished messages"));
        }
        Ok(())
    }
}

/// A frame in the packet that it came in.
pub(crate) enum Frame<'a> {
    /// It is the whole packet, which can be kept.
    Whole(Vec<u8>),
    /// It is one of several.
    Part(&'a [u8]),
}

impl Frame<'_> {
    pub(crate) fn len(&self) -> usize {
        match self {
            Frame::Whole(bytes) => bytes.len(),
            Frame::Part(bytes) => bytes.len(),
        }
    }

    fn body(&self) -> &[u8] {
        match self {
            Frame::Whole(bytes) => &bytes[HEADER_LEN..],
            Frame::Part(bytes) => &bytes[HEADER_LEN..],
        }
    }

    fn into_body(self) -> Body {
        match self {
            Frame::Whole(buffer) => Body { buffer, start: HEADER_LEN },
            Frame::Part(bytes) => Body { buffer: bytes[HEADER_LEN..].to_vec(), start: 0 },
        }
    }
}

/// The limit of a fault: the texts of any error have room, however small a message has to be.
pub(crate) fn fault_limit(message_limit: usize) -> usize {
    message_limit.max(128 * 1024)
}

/// How many messages may be unfinished at once.
const MAX_UNFINISHED: usize = 64;
/// How many times the limit of one message they may have together.
const MAX_UNFINISHED_SIZE: usize = 4;

#[cfg(test)]
mod tests;
