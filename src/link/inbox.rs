//! Joins frames to messages, and keeps what is unfinished within bounds.

use std::time::Instant;

use rustc_hash::FxHashMap;

use crate::{
    os::make_exact_room_for,
    sync::Arc,
    wire::{FRAME_LIMIT, HEADER_LEN, Header, Hold, Kind, Ledger, ProtocolError},
};

/// The messages of which a part has come.
#[derive(Debug)]
pub(crate) struct Inbox {
    message_limit: usize,
    ledger: Arc<Ledger>,
    unfinished: FxHashMap<(u8, u64), Parts>,
    /// How long the last message was that came in parts.
    last: usize,
}

/// What has come of a message.
#[derive(Debug)]
struct Parts {
    bytes: Vec<u8>,
    /// `None` once there was no room for more: what comes is forgotten.
    hold: Option<Hold>,
    /// How much has come.
    len: usize,
    last_came: Instant,
}

/// What has become of a frame.
#[derive(Debug)]
pub(crate) enum Joined {
    /// There is more to come, or was no room for what it belongs to.
    Nothing,
    /// The message is whole.
    Whole(Body),
    /// There is no room for the message. This is what has come of it so far, and is to be answered now.
    Refused(Body),
}

/// The body of a whole message: a buffer, and where in it the body starts.
#[derive(Debug)]
pub(crate) struct Body {
    pub(crate) buffer: Vec<u8>,
    pub(crate) start: usize,
    /// What it takes of the room for what came. Short calls and answers take none: their number has a limit.
    pub(crate) hold: Option<Hold>,
}

impl Body {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..]
    }
}

impl Inbox {
    pub(crate) fn new(message_limit: usize, ledger: Arc<Ledger>) -> Inbox {
        Inbox { message_limit, ledger, unfinished: FxHashMap::default(), last: 0 }
    }

    /// The room for what comes.
    pub(crate) fn ledger(&self) -> &Arc<Ledger> {
        &self.ledger
    }

    /// Takes a frame; gives the message when this was its last. `frame` is header and body.
    pub(crate) fn take(
        &mut self,
        header: &Header,
        frame: Frame<'_>,
        now: Instant,
    ) -> Result<Joined, ProtocolError> {
        let key = (header.kind as u8, header.id);
        let before = self.unfinished.get(&key).map(|parts| parts.len);
        if header.flags.continues != before.is_some() {
            return Err(ProtocolError::BadChunk(header.id));
        }
        let len = frame.body().len();
        self.within_limit(header.kind, before.unwrap_or(0) + len)?;
        if !header.flags.more && before.is_none() {
            return Ok(self.keep_whole(header.kind, frame.into_body()));
        }
        if len == 0 {
            return Err(ProtocolError::Flood("empty frames"));
        }
        if before.is_none() {
            self.begin(key, now)?;
        }
        self.add(key, header, frame.body(), now)
    }

    /// Keeps a message of one frame, if it is one to be kept, and there is room.
    fn keep_whole(&self, kind: Kind, mut body: Body) -> Joined {
        let takes = body.buffer.capacity();
        // What stands in the others is looked at, and not kept.
        if !kind.may_be_cut() || (takes <= SHORT && !matches!(kind, Kind::Event | Kind::StreamItem)) {
            return Joined::Whole(body);
        }
        body.hold = self.ledger.hold(takes + ENTRY);
        if body.hold.is_some() { Joined::Whole(body) } else { Joined::Refused(body) }
    }

    /// Makes a place for a message that comes in parts.
    fn begin(&mut self, key: (u8, u64), now: Instant) -> Result<(), ProtocolError> {
        if self.unfinished.len() >= MAX_UNFINISHED {
            return Err(ProtocolError::Flood("unfinished messages"));
        }
        // Growing step by step would copy it once more. A message is expected to be as long as the one before
        // it, but only one at a time: a peer gets room for what it has once sent, and not on its word.
        let expected = if self.unfinished.is_empty() { self.last } else { 0 };
        let expected = expected.min(self.ledger.room() / 2);
        let hold = self.ledger.hold(expected + ENTRY);
        let mut bytes = Vec::new();
        // Without it the buffer grows as the parts come, as far as there is memory.
        let _ = make_exact_room_for(&mut bytes, if hold.is_some() { expected } else { 0 });
        self.unfinished.insert(key, Parts { bytes, hold, len: 0, last_came: now });
        Ok(())
    }

    /// Adds a part.
    fn add(
        &mut self,
        key: (u8, u64),
        header: &Header,
        part: &[u8],
        now: Instant,
    ) -> Result<Joined, ProtocolError> {
        let limit = self.limit(header.kind);
        let is_first = !header.flags.continues;
        let Some(parts) = self.unfinished.get_mut(&key) else { return Ok(Joined::Nothing) };
        parts.len += part.len();
        parts.last_came = now;
        let had_room = parts.hold.is_some();
        let refused = if parts.add(part, limit) {
            None
        } else {
            // The first part has the path. Of one that has none yet, this is all that will be known.
            let seen = if is_first { part.to_vec() } else { std::mem::take(&mut parts.bytes) };
            parts.bytes = Vec::new();
            (had_room || is_first).then_some(Body { buffer: seen, start: 0, hold: None })
        };
        if !header.flags.more {
            return Ok(self.finish(key, refused));
        }
        Ok(refused.map_or(Joined::Nothing, Joined::Refused))
    }

    /// The last part has come.
    fn finish(&mut self, key: (u8, u64), refused: Option<Body>) -> Joined {
        let Some(Parts { bytes: mut buffer, hold, .. }) = self.unfinished.remove(&key) else {
            return Joined::Nothing;
        };
        let Some(mut hold) = hold else { return refused.map_or(Joined::Nothing, Joined::Refused) };
        self.last = buffer.len();
        if buffer.capacity() / 2 > buffer.len() {
            buffer.shrink_to_fit();
            hold.resize(buffer.capacity() + ENTRY);
        }
        Joined::Whole(Body { buffer, start: 0, hold: Some(hold) })
    }

    /// Forgets the parts of a message of which no more will come.
    pub(crate) fn discard(&mut self, kind: Kind, id: u64) {
        self.unfinished.remove(&(kind as u8, id));
    }

    /// Whether a message of this kind and id is unfinished.
    pub(crate) fn is_open(&self, kind: Kind, id: u64) -> bool {
        self.unfinished.contains_key(&(kind as u8, id))
    }

    /// When the last part came of the unfinished message that has waited longest.
    pub(crate) fn waits_since(&self) -> Option<Instant> {
        self.unfinished.values().map(|parts| parts.last_came).min()
    }

    fn limit(&self, kind: Kind) -> usize {
        match kind {
            Kind::Fault => fault_limit(self.message_limit),
            _ if kind.may_be_cut() => self.message_limit,
            // What stands in these is ours, and fits into a frame.
            _ => FRAME_LIMIT,
        }
    }

    fn within_limit(&self, kind: Kind, len: usize) -> Result<(), ProtocolError> {
        let limit = self.limit(kind);
        if len > limit {
            return Err(ProtocolError::TooLarge { len: len as u64, limit: limit as u64 });
        }
        Ok(())
    }
}

impl Parts {
    /// Adds bytes, if there is room for them. The buffer grows as buffers do, but not beyond the limit.
    fn add(&mut self, part: &[u8], limit: usize) -> bool {
        let Some(hold) = &mut self.hold else { return false };
        let len = self.bytes.len() + part.len();
        if len > self.bytes.capacity() {
            let wanted = (2 * self.bytes.capacity()).clamp(len, limit.max(len));
            let (has, bytes) = (self.bytes.len(), &mut self.bytes);
            let capacity = [wanted, len]
                .into_iter()
                .find(|capacity| hold.resize(capacity + ENTRY) && make_exact_room_for(bytes, capacity - has));
            if capacity.is_none() {
                self.hold = None;
                return false;
            }
        }
        self.bytes.extend_from_slice(part);
        true
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
            Frame::Whole(buffer) => Body { buffer, start: HEADER_LEN, hold: None },
            Frame::Part(bytes) => Body { buffer: bytes[HEADER_LEN..].to_vec(), start: 0, hold: None },
        }
    }
}

/// The limit of a fault: the texts of any error have room, however small a message has to be.
pub(crate) fn fault_limit(message_limit: usize) -> usize {
    message_limit.max(128 * 1024)
}

/// How many messages may be unfinished at once.
const MAX_UNFINISHED: usize = 64;
/// Up to this length a call or an answer takes none of the room for what came.
pub(crate) const SHORT: usize = 1024;
/// What a message takes beside its bytes: its places in tables and queues.
pub(crate) const ENTRY: usize = 1024;

#[cfg(test)]
mod tests;
