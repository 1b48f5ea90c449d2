//! The fixed part of each kind of message, before the user's bytes.
//!
//! ```text
//! call   parent u64 (0: none) | remaining microseconds u64 (all ones: no deadline) | attempt u32 |
//!        [0 u8 | shape u64] | path length u8 | path | arguments
//! open   way u8 (1: the caller sends items, 2: it takes some, 3: both) | quota | call
//! event  [0 u8 | shape u64] | path length u8 | path | arguments
//! reply  the result
//! items  one or more: length u32 | item
//! quota  items u32 | bytes u32
//! bye    code u16 (0: nothing was wrong)
//! ```

use super::{Path, ProtocolError, TransactionId};

/// The most bytes before the user's: a call with items and with the longest path.
pub(crate) const MAX_ENVELOPE: usize = OpenHead::LEN + 8 + 8 + 4 + 9 + 1 + Path::MAX_LEN;

/// What stands before the arguments of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CallHead<'a> {
    /// The call of the receiver in whose handler this one was made.
    pub(crate) parent: Option<TransactionId>,
    /// The time that is left, in microseconds, rounded up; `None` when there is no deadline.
    pub(crate) remaining: Option<u64>,
    /// 0 for the first try.
    pub(crate) attempt: u32,
    /// The number of the shapes that the caller knows the method with; 0 if it does not.
    pub(crate) shape: u64,
    /// Of a call that came in, not yet known to be a path.
    pub(crate) path: &'a [u8],
}

impl<'a> CallHead<'a> {
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.parent.map_or(0, TransactionId::to_bits).to_le_bytes());
        out.extend_from_slice(&self.remaining.unwrap_or(NO_DEADLINE).to_le_bytes());
        out.extend_from_slice(&self.attempt.to_le_bytes());
        write_path(self.shape, self.path, out);
    }

    /// Reads the head; the arguments start at the offset that comes with it.
    pub(crate) fn read(body: &'a [u8]) -> Result<(CallHead<'a>, usize), ProtocolError> {
        let (fixed, rest) = body.split_first_chunk::<20>().ok_or(CUT_OFF)?;
        let ([mut parent, mut remaining], mut attempt) = ([[0; 8]; 2], [0; 4]);
        parent.copy_from_slice(&fixed[0..8]);
        remaining.copy_from_slice(&fixed[8..16]);
        attempt.copy_from_slice(&fixed[16..20]);
        let (parent, remaining) = (u64::from_le_bytes(parent), u64::from_le_bytes(remaining));
        let (shape, path, path_len) = read_path(rest)?;
        let head = CallHead {
            parent: read_parent(parent)?,
            remaining: (remaining != NO_DEADLINE).then_some(remaining),
            attempt: u32::from_le_bytes(attempt),
            shape,
            path,
        };
        Ok((head, 20 + path_len))
    }
}

/// Items and bytes of a stream, counted from its start and modulo 2^32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct Quota {
    pub(crate) items: u32,
    pub(crate) bytes: u32,
}

impl Quota {
    /// The most that may be granted at once: less than half of what can be counted.
    pub(crate) const MAX: u32 = 1 << 30;

    pub(crate) fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.items.to_le_bytes());
        out.extend_from_slice(&self.bytes.to_le_bytes());
    }

    pub(crate) fn read(body: &[u8]) -> Result<Quota, ProtocolError> {
        let (items, rest) = body.split_first_chunk().ok_or(CUT_OFF)?;
        let (bytes, _) = rest.split_first_chunk().ok_or(CUT_OFF)?;
        Ok(Quota { items: u32::from_le_bytes(*items), bytes: u32::from_le_bytes(*bytes) })
    }

    /// One more item of so many bytes.
    pub(crate) fn with_item(self, bytes: usize) -> Quota {
        Quota { items: self.items.wrapping_add(1), bytes: self.bytes.wrapping_add(bytes as u32) }
    }

    /// Whether one more item may go when `used` of this quota has gone. It may go over the bytes.
    pub(crate) fn has_room(self, used: Quota) -> bool {
        let left = |of: u32, used: u32| of.wrapping_sub(used).cast_signed() > 0;
        left(self.items, used.items) && left(self.bytes, used.bytes)
    }

    /// Whether this can be what is granted after `before`.
    pub(crate) fn follows(self, before: Quota) -> bool {
        let grows = |now: u32, before: u32| now.wrapping_sub(before) <= Quota::MAX;
        grows(self.items, before.items) && grows(self.bytes, before.bytes)
    }

    /// This and so much more.
    pub(crate) fn plus(self, more: Quota) -> Quota {
        let Quota { items, bytes } = more;
        Quota { items: self.items.wrapping_add(items), bytes: self.bytes.wrapping_add(bytes) }
    }

    /// How much more this is than `before`.
    pub(crate) fn since(self, before: Quota) -> Quota {
        let Quota { items, bytes } = before;
        Quota { items: self.items.wrapping_sub(items), bytes: self.bytes.wrapping_sub(bytes) }
    }
}

/// What stands before the head of a call with items.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OpenHead {
    /// The caller sends items.
    pub(crate) sends: bool,
    /// How many items may come to the caller at first; `None` if it takes none.
    pub(crate) takes: Option<Quota>,
}

impl OpenHead {
    /// How long it is.
    pub(crate) const LEN: usize = 1 + 4 + 4;

    pub(crate) fn write(self, out: &mut Vec<u8>) {
        out.push(u8::from(self.sends) | u8::from(self.takes.is_some()) << 1);
        self.takes.unwrap_or_default().write(out);
    }

    /// Reads what stands before the head of the call.
    pub(crate) fn read(body: &[u8]) -> Result<OpenHead, ProtocolError> {
        let (way, rest) = body.split_first().ok_or(CUT_OFF)?;
        let quota = Quota::read(rest)?;
        if !(1..=3).contains(way) {
            return Err(ProtocolError::BadEnvelope("a stream that goes no way"));
        }
        if !quota.follows(Quota::default()) {
            return Err(ProtocolError::BadEnvelope("a quota beyond all bounds"));
        }
        Ok(OpenHead { sends: way & 1 != 0, takes: (way & 2 != 0).then_some(quota) })
    }
}

/// Where the first of these items is.
pub(crate) fn first_item(items: &[u8]) -> Result<std::ops::Range<usize>, ProtocolError> {
    let (len, rest) = items.split_first_chunk().ok_or(CUT_OFF)?;
    let len = u32::from_le_bytes(*len) as usize;
    if len > rest.len() {
        return Err(CUT_OFF);
    }
    Ok(ITEM_HEAD..ITEM_HEAD + len)
}

/// What stands before an item: its length.
pub(crate) const ITEM_HEAD: usize = 4;

/// What stands before the arguments of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EventHead<'a> {
    /// As in a call.
    pub(crate) shape: u64,
    /// Of an event that came in, not yet known to be a path.
    pub(crate) path: &'a [u8],
}

impl<'a> EventHead<'a> {
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        write_path(self.shape, self.path, out);
    }

    /// Reads the head; the arguments start at the offset that comes with it.
    pub(crate) fn read(body: &'a [u8]) -> Result<(EventHead<'a>, usize), ProtocolError> {
        let (shape, path, len) = read_path(body)?;
        Ok((EventHead { shape, path }, len))
    }
}

/// The last words of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bye {
    /// 0 when nothing was wrong, else the number of the rule that the receiver broke.
    pub(crate) code: u16,
}

impl Bye {
    pub(crate) fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.code.to_le_bytes());
    }

    pub(crate) fn read(body: &[u8]) -> Result<Bye, ProtocolError> {
        let (code, _) = body.split_first_chunk::<2>().ok_or(CUT_OFF)?;
        Ok(Bye { code: u16::from_le_bytes(*code) })
    }
}

/// Reads the id of a parent, of which 0 alone means that there is none.
fn read_parent(bits: u64) -> Result<Option<TransactionId>, ProtocolError> {
    match (bits, TransactionId::from_bits(bits)) {
        (0, _) => Ok(None),
        (_, None) => Err(ProtocolError::BadId(bits)),
        (_, parent) => Ok(parent),
    }
}

fn write_path(shape: u64, path: &[u8], out: &mut Vec<u8>) {
    debug_assert!(path.len() <= Path::MAX_LEN);
    if shape != 0 {
        out.push(0);
        out.extend_from_slice(&shape.to_le_bytes());
    }
    out.push(path.len() as u8);
    out.extend_from_slice(path);
}

/// Reads a path with its length before it, and the number of a shape where there is one. Says how many bytes
/// all of it takes. No path has the length 0, so that it is the mark of a shape.
fn read_path(bytes: &[u8]) -> Result<(u64, &[u8], usize), ProtocolError> {
    let (len, mut rest) = bytes.split_first().ok_or(CUT_OFF)?;
    let (mut len, mut shape, mut taken) = (usize::from(*len), 0, 1);
    if len == 0 {
        let (number, behind) = rest.split_first_chunk::<8>().ok_or(CUT_OFF)?;
        let (path_len, behind) = behind.split_first().ok_or(CUT_OFF)?;
        (len, shape, taken, rest) = (usize::from(*path_len), u64::from_le_bytes(*number), 10, behind);
    }
    let path = rest.get(..len).ok_or(CUT_OFF)?;
    Ok((shape, path, taken + len))
}

const NO_DEADLINE: u64 = u64::MAX;
const CUT_OFF: ProtocolError = ProtocolError::BadEnvelope("it is cut off");

#[cfg(test)]
mod tests;
