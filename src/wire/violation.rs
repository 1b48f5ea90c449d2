//! What a peer can do wrong, one variant a rule of the protocol, each with its number on the wire.

use std::time::Duration;

use super::{Codec, PathError, Side};

/// What a peer did that no correct peer does. It costs the peer its connection, and nothing else.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// The first bytes are not those of a nape peer.
    #[error("this is not a {expected:?} of nape")]
    NotAPeer {
        /// The side that was expected there.
        expected: Side,
    },
    /// No version of the protocol is spoken by both.
    #[error("version mismatch: we speak {}..={}, they speak {}..={}", ours.0, ours.1, theirs.0, theirs.1)]
    VersionMismatch {
        /// Our lowest and highest version.
        ours: (u16, u16),
        /// Their lowest and highest version.
        theirs: (u16, u16),
    },
    /// The greeting is malformed or late, or something came before it.
    #[error("bad hello: {0}")]
    BadHello(&'static str),
    /// A second greeting.
    #[error("a second hello")]
    UnexpectedHello,
    /// The greeting carries the wrong token.
    #[error("the token is wrong")]
    AuthFailed,
    /// The connection ended before a greeting.
    #[error("closed before hello")]
    ClosedBeforeHello,
    /// A frame kind that this version does not know and must not skip.
    #[error("unknown frame kind {0}")]
    UnknownKind(u8),
    /// A frame or a message over its limit.
    #[error("{len} bytes announced, the limit is {limit}")]
    TooLarge {
        /// What was announced or has come.
        len: u64,
        /// The limit.
        limit: u64,
    },
    /// A frame shorter than its own header, or cut off.
    #[error("a frame of {0} bytes is too short")]
    TooShort(u64),
    /// Bits that must be zero are not.
    #[error("reserved bits are set")]
    ReservedBits,
    /// The fixed part of a message does not parse.
    #[error("bad envelope: {0}")]
    BadEnvelope(&'static str),
    /// A path that is empty, too long, malformed or no UTF-8.
    #[error("bad path: {0}")]
    BadPath(PathError),
    /// Zero, or an id of the wrong side.
    #[error("bad id {0:#x}")]
    BadId(u64),
    /// An id that is in use.
    #[error("id {0:#x} is in use")]
    DuplicateId(u64),
    /// A reply to a call that was never made.
    #[error("a reply to id {0:#x}, of which no call was sent")]
    UnknownId(u64),
    /// A continuation without a start, or a start inside a message.
    #[error("a chunk out of place for id {0:#x}")]
    BadChunk(u64),
    /// More was sent than the window allowed, or more was acknowledged than was sent.
    #[error("flow control was ignored")]
    FlowControl,
    /// Too much of what costs the sender nothing.
    #[error("flood of {0}")]
    Flood(&'static str),
    /// A frame that the state of the link does not allow.
    #[error("{0} out of place")]
    OutOfPlace(&'static str),
    /// A message was begun, and did not go on for so long.
    #[error("an unfinished message has not gone on for {0:?}")]
    Stalled(Duration),
    /// One side asks for a codec that the other does not take.
    #[error("{0} is asked for as the codec, and not taken")]
    CodecRefused(Codec),
    /// One side has [filters](crate::guide::filters) that the other has not.
    #[error("the filters differ: this side has {ours}; the other side has {theirs}")]
    FiltersDiffer {
        /// The filters of this side.
        ours: &'static str,
        /// Those that the other side names.
        theirs: &'static str,
    },
    /// The other side has another key, or somebody has changed its hello.
    #[error("the other side has another key, or its hello was changed on the way")]
    WrongKey,
    /// What came is not what the other side sealed next.
    #[error("record {0} does not open: it was changed, repeated, left out or put elsewhere on the way")]
    BadSeal(u64),
    /// What came is nothing that the filters of this link make.
    #[error("bad record: {0}")]
    BadRecord(&'static str),
}

impl ProtocolError {
    /// The number that stands in a bye; it names the rule, the details stay local.
    pub fn code(&self) -> u16 {
        match self {
            ProtocolError::NotAPeer { .. } => 1,
            ProtocolError::VersionMismatch { .. } => 2,
            ProtocolError::BadHello(_) => 3,
            ProtocolError::UnexpectedHello => 4,
            ProtocolError::AuthFailed => 5,
            ProtocolError::ClosedBeforeHello => 6,
            ProtocolError::UnknownKind(_) => 7,
            ProtocolError::TooLarge { .. } => 8,
            ProtocolError::TooShort(_) => 9,
            ProtocolError::ReservedBits => 10,
            ProtocolError::BadEnvelope(_) => 11,
            ProtocolError::BadPath(_) => 12,
            ProtocolError::BadId(_) => 13,
            ProtocolError::DuplicateId(_) => 14,
            ProtocolError::UnknownId(_) => 15,
            ProtocolError::BadChunk(_) => 16,
            ProtocolError::FlowControl => 17,
            ProtocolError::Flood(_) => 18,
            ProtocolError::OutOfPlace(_) => 19,
            ProtocolError::Stalled(_) => 20,
            ProtocolError::CodecRefused(_) => 21,
            ProtocolError::FiltersDiffer { .. } => 22,
            ProtocolError::WrongKey => 23,
            ProtocolError::BadSeal(_) => 24,
            ProtocolError::BadRecord(_) => 25,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_has_its_number() {
        let rules = [
            ProtocolError::NotAPeer { expected: Side::Neck },
            ProtocolError::VersionMismatch { ours: (1, 1), theirs: (9, 9) },
            ProtocolError::BadHello("why"),
            ProtocolError::UnexpectedHello,
            ProtocolError::AuthFailed,
            ProtocolError::ClosedBeforeHello,
            ProtocolError::UnknownKind(200),
            ProtocolError::TooLarge { len: 2, limit: 1 },
            ProtocolError::TooShort(3),
            ProtocolError::ReservedBits,
            ProtocolError::BadEnvelope("why"),
            ProtocolError::BadPath(PathError::Empty),
            ProtocolError::BadId(0),
            ProtocolError::DuplicateId(7),
            ProtocolError::UnknownId(7),
            ProtocolError::BadChunk(7),
            ProtocolError::FlowControl,
            ProtocolError::Flood("pings"),
            ProtocolError::OutOfPlace("a pong"),
            ProtocolError::Stalled(Duration::from_secs(30)),
            ProtocolError::CodecRefused(Codec::Json),
            ProtocolError::FiltersDiffer { ours: "none", theirs: "lz4" },
            ProtocolError::WrongKey,
            ProtocolError::BadSeal(7),
            ProtocolError::BadRecord("why"),
        ];
        assert_eq!(rules.map(|rule| rule.code()).to_vec(), (1..=25).collect::<Vec<u16>>());
    }
}
