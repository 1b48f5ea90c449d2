//! Frames: what a transport moves. A header of fixed size, then a part of a message.
//!
//! ```text
//! offset  size  field
//!      0     4  len     bytes behind this field, little endian like every number here
//!      4     1  kind
//!      5     1  flags   1 more follows | 2 continues | 4 may be skipped if unknown
//!      6     2  zero
//!      8     8  id      of the message: the counter, highest bit set for the Neck's
//!     16     4  acknowledged frames   of the other direction, read so far, modulo 2^32
//!     20     4  acknowledged bytes    likewise, headers included
//!     24        body
//! ```

use super::ProtocolError;

/// The most bytes a frame may have, header included.
///
/// It is a little less than 64 KiB, so that a kernel that adds a few words to a datagram still finds room
/// for it in 16 pages.
pub const FRAME_LIMIT: usize = 60 * 1024;
/// The bytes before the body.
pub(crate) const HEADER_LEN: usize = 24;

/// The number in the place of a kind for what the filters of a link make of its frames. A link without filters does
/// not know it.
pub(crate) const RECORD: u8 = 18;

/// What a frame carries. A reply is never told from a call by looking ids up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// The first frame of each side.
    Hello = 1,
    /// Everything that this side serves at first is attached: calls may come.
    Ready = 2,
    Call = 3,
    Event = 4,
    Reply = 5,
    /// An answer that is no value: a fault or a rejection.
    Fault = 6,
    /// The caller is no longer interested.
    Cancel = 7,
    /// Nothing but the acknowledgement in its header.
    Credit = 8,
    /// One item of a stream, or several.
    StreamItem = 9,
    /// No more items come from the sender.
    StreamEnd = 10,
    Ping = 11,
    Pong = 12,
    /// No new calls, please; those under way are answered.
    GoAway = 13,
    /// The last frame.
    Bye = 14,
    /// A call with items behind it, or behind its answer.
    Open = 15,
    /// How many more items of a stream may come.
    StreamQuota = 16,
    /// The sender takes no more items of a stream.
    StreamStop = 17,
}

impl Kind {
    #[cfg(any(test, fuzzing))]
    pub(crate) fn of_number(byte: u8) -> Option<Kind> {
        Kind::from_byte(byte)
    }

    fn from_byte(byte: u8) -> Option<Kind> {
        use Kind::*;
        [
            Hello,
            Ready,
            Call,
            Event,
            Reply,
            Fault,
            Cancel,
            Credit,
            StreamItem,
            StreamEnd,
            Ping,
            Pong,
            GoAway,
            Bye,
            Open,
            StreamQuota,
            StreamStop,
        ]
        .into_iter()
        .find(|kind| *kind as u8 == byte)
    }

    /// Whether a message of this kind may need more than one frame.
    pub(crate) fn may_be_cut(self) -> bool {
        matches!(self, Kind::Call | Kind::Open | Kind::Event | Kind::Reply | Kind::Fault | Kind::StreamItem)
    }

    /// Whether it is a call: something that is answered.
    pub(crate) fn is_call(self) -> bool {
        matches!(self, Kind::Call | Kind::Open)
    }
}

/// The marks on a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct Flags {
    /// Another frame of this message follows.
    pub(crate) more: bool,
    /// This is not the first frame of its message.
    pub(crate) continues: bool,
}

/// How much of the other direction its reader has taken, counted from the start of the link and
/// modulo 2^32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct Ack {
    pub(crate) frames: u32,
    pub(crate) bytes: u32,
}

/// Everything of a frame but its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: Kind,
    pub(crate) flags: Flags,
    pub(crate) id: u64,
    pub(crate) ack: Ack,
}

impl Header {
    /// Writes the header over the first bytes of `frame`, which is the whole frame.
    pub(crate) fn write(&self, frame: &mut [u8]) {
        let len = (frame.len() - 4) as u32;
        let flags = u8::from(self.flags.more) | u8::from(self.flags.continues) << 1;
        frame[0..4].copy_from_slice(&len.to_le_bytes());
        frame[4] = self.kind as u8;
        frame[5] = flags;
        frame[6..8].fill(0);
        frame[8..16].copy_from_slice(&self.id.to_le_bytes());
        frame[16..20].copy_from_slice(&self.ack.frames.to_le_bytes());
        frame[20..24].copy_from_slice(&self.ack.bytes.to_le_bytes());
    }
}

/// The next frame of a packet.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// A frame to handle, and its whole length in the packet.
    Frame(Header, usize),
    /// A frame of an unknown kind that asks to be skipped, and its length.
    Skipped(usize),
}

/// Reads the frame at the start of `packet`, which holds whole frames only.
pub(crate) fn take_frame(packet: &[u8]) -> Result<Taken, ProtocolError> {
    let too_short = ProtocolError::TooShort(packet.len() as u64);
    let whole = frame_len(packet).ok_or(too_short.clone())??;
    let (fixed, _) = packet.split_first_chunk::<HEADER_LEN>().ok_or(too_short.clone())?;
    if whole > packet.len() {
        return Err(too_short);
    }
    let [kind, flags] = [fixed[4], fixed[5]];
    if flags & !KNOWN_FLAGS != 0 || fixed[6..8] != [0, 0] {
        return Err(ProtocolError::ReservedBits);
    }
    let Some(kind) = Kind::from_byte(kind) else {
        let may_be_skipped = flags & OPTIONAL != 0;
        return if may_be_skipped {
            Ok(Taken::Skipped(whole))
        } else {
            Err(ProtocolError::UnknownKind(kind))
        };
    };
    let flags = Flags { more: flags & MORE != 0, continues: flags & CONTINUES != 0 };
    if (flags.more || flags.continues) && !kind.may_be_cut() {
        return Err(ProtocolError::BadChunk(u64_at(fixed, 8)));
    }
    let ack = Ack { frames: u32_at(fixed, 16), bytes: u32_at(fixed, 20) };
    Ok(Taken::Frame(Header { kind, flags, id: u64_at(fixed, 8), ack }, whole))
}

/// How many of the first bytes of a stream can be handed on: whole frames. Where something cannot be the
/// start of a frame all of them can, so that [`take_frame`] finds it.
pub(crate) fn whole_frames(stream: &[u8]) -> usize {
    let mut whole = 0;
    loop {
        let rest = &stream[whole..];
        match frame_len(rest) {
            Some(Ok(len)) if len <= rest.len() => whole += len,
            Some(Err(_)) => return stream.len(),
            _ => return whole,
        }
    }
}

/// The length of the frame that starts here, header and all, as soon as that can be known.
pub(crate) fn frame_len(bytes: &[u8]) -> Option<Result<usize, ProtocolError>> {
    let len = u32::from_le_bytes(*bytes.first_chunk()?) as usize;
    let whole = len.saturating_add(4);
    Some(match whole {
        ..HEADER_LEN => Err(ProtocolError::TooShort(whole as u64)),
        HEADER_LEN..=FRAME_LIMIT => Ok(whole),
        _ => Err(ProtocolError::TooLarge { len: whole as u64, limit: FRAME_LIMIT as u64 }),
    })
}

fn u32_at(bytes: &[u8; HEADER_LEN], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(word)
}

fn u64_at(bytes: &[u8; HEADER_LEN], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

const MORE: u8 = 1;
const CONTINUES: u8 = 2;
const OPTIONAL: u8 = 4;
const KNOWN_FLAGS: u8 = MORE | CONTINUES | OPTIONAL;

#[cfg(test)]
mod tests;
