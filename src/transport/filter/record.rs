//! Packets to records and back. Pure: it knows no transport.

use std::io;

use super::{
    lz4::{self, Table},
    seal::Seal,
};
use crate::wire::{FRAME_LIMIT, HEADER_LEN, ProtocolError, RECORD};

/// Makes the records of one direction, in their order.
pub(super) struct Packer {
    table: Option<Table>,
    seal: Option<Seal>,
    /// The record that is made, whose memory is used again.
    record: Vec<u8>,
}

impl Packer {
    pub(super) fn new(compresses: bool, seal: Option<Seal>) -> Packer {
        Packer { table: compresses.then(Table::default), seal, record: Vec::new() }
    }

    /// Hands a packet out as a record, or as two if it is too long to have something around it.
    ///
    /// # Errors
    ///
    /// Those of `send`.
    pub(super) fn pack(
        &mut self,
        packet: &[u8],
        mut send: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        if packet.len() >= WORTH_PACKING && self.compress(packet) {
            self.finish(PACKED, packet.len());
            return send(&self.record);
        }
        let most = FRAME_LIMIT - HEAD - Seal::LEN;
        let first = if packet.len() <= most { packet.len() } else { packet.len() - SECOND };
        let (first, second) = packet.split_at(first);
        self.copy(first);
        self.finish(if second.is_empty() { 0 } else { GOES_ON }, first.len());
        send(&self.record)?;
        if second.is_empty() {
            return Ok(());
        }
        self.copy(second);
        self.finish(0, second.len());
        send(&self.record)
    }

    /// Leaves the record with what the packet shrinks to. `false` if that is not worth it.
    fn compress(&mut self, packet: &[u8]) -> bool {
        let Some(table) = &mut self.table else { return false };
        self.record.clear();
        self.record.resize(HEAD + lz4::most(packet.len()), 0);
        let Some(len) = table.compress(packet, &mut self.record[HEAD..]) else { return false };
        self.record.truncate(HEAD + len);
        // What is shorter than any frame, a transport would not take for one.
        len <= packet.len() - packet.len() / LEAST_GAIN && HEAD + len >= HEADER_LEN
    }

    fn copy(&mut self, content: &[u8]) {
        self.record.clear();
        self.record.resize(HEAD, 0);
        self.record.extend_from_slice(content);
        if self.record.len() < HEADER_LEN {
            self.record.resize(HEADER_LEN, 0);
        }
    }

    /// Writes the head of the record and seals it.
    fn finish(&mut self, flags: u8, unpacked: usize) {
        let tag = if self.seal.is_some() { Seal::LEN } else { 0 };
        let len = (self.record.len() + tag - LEN_FIELD) as u32;
        self.record[..LEN_FIELD].copy_from_slice(&len.to_le_bytes());
        self.record[LEN_FIELD] = RECORD;
        self.record[OPEN] = flags;
        self.record[OPEN + 1..HEAD].copy_from_slice(&(unpacked as u16).to_le_bytes());
        if let Some(seal) = &mut self.seal {
            seal.close(&mut self.record, OPEN);
        }
    }
}

/// Opens the records of one direction, in their order.
pub(super) struct Unpacker {
    compresses: bool,
    seal: Option<Seal>,
    fresh: bool,
}

impl Unpacker {
    pub(super) fn new(compresses: bool, seal: Option<Seal>) -> Unpacker {
        Unpacker { compresses, seal, fresh: true }
    }

    /// Whether no record has come.
    pub(super) fn is_fresh(&self) -> bool {
        self.fresh
    }

    /// Appends what is in a record, and says whether its packet goes on in the next one. The record has at least the
    /// length of the header of a frame.
    pub(super) fn unpack(&mut self, record: &mut [u8], packet: &mut Vec<u8>) -> Result<bool, ProtocolError> {
        self.fresh = false;
        let inside = match &mut self.seal {
            Some(seal) => seal.open(record, OPEN)?,
            None => &record[OPEN..],
        };
        let Some(([flags, low, high], content)) = inside.split_first_chunk() else {
            return Err(ProtocolError::BadRecord("it is cut off"));
        };
        if flags & !(PACKED | GOES_ON) != 0 {
            return Err(ProtocolError::ReservedBits);
        }
        let unpacked = usize::from(u16::from_le_bytes([*low, *high]));
        let whole = packet.len() + unpacked;
        if unpacked == 0 {
            return Err(ProtocolError::BadRecord("there is nothing in it"));
        }
        if whole > FRAME_LIMIT {
            return Err(ProtocolError::TooLarge { len: whole as u64, limit: FRAME_LIMIT as u64 });
        }
        if flags & PACKED == 0 {
            let content = content.get(..unpacked).ok_or(ProtocolError::BadRecord("it is cut off"))?;
            packet.extend_from_slice(content);
        } else if self.compresses {
            let start = packet.len();
            packet.resize(whole, 0);
            lz4::expand(content, &mut packet[start..]).map_err(ProtocolError::BadRecord)?;
        } else {
            return Err(ProtocolError::BadRecord("it is compressed, and nobody asked for that"));
        }
        Ok(flags & GOES_ON != 0)
    }
}

/// The length of a frame, which stands first.
const LEN_FIELD: usize = 4;
/// What everybody may read: the length and the kind.
const OPEN: usize = LEN_FIELD + 1;
/// What stands before the content.
const HEAD: usize = OPEN + 3;
const PACKED: u8 = 1;
const GOES_ON: u8 = 2;
/// Below this, what is saved is not worth the time.
const WORTH_PACKING: usize = 256;
/// A packet that shrinks by less than this part of it goes as it is.
const LEAST_GAIN: usize = 8;
/// What goes into a second record of a packet that is too long for one.
const SECOND: usize = 64;
