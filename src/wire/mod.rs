//! Bytes to values and back: ids, paths, frames, messages, faults and the codec.
//!
//! Everything here is pure, but for the kind of memory that large values get. It knows no clock, no thread, no
//! file and no connection, and it never panics on what a peer sends: what does not parse is a [`ProtocolError`].

mod bounded;
mod bytes;
mod codec;
mod fault;
#[cfg(any(test, fuzzing))]
mod feed;
mod filters;
mod frame;
#[cfg(test)]
mod golden;
mod hello;
mod hold;
mod id;
mod message;
mod path;
mod payload;
mod violation;

pub use bytes::Bytes;
pub use codec::Codec;
pub(crate) use codec::CodecError;
pub use fault::{Fault, FaultKind};
pub(crate) use fault::{FaultCode, FaultRecord, Form, cut};
#[cfg(any(test, fuzzing))]
pub(crate) use feed::Feed;
pub(crate) use filters::FilterSet;
pub use frame::FRAME_LIMIT;
pub(crate) use frame::{
    Ack, Flags, HEADER_LEN, Header, Kind, RECORD, Taken, frame_len, take_frame, whole_frames,
};
pub(crate) use hello::{Choice, Hello, PROTOCOL_VERSIONS, Token, Tokens};
pub(crate) use hold::{Hold, Ledger};
pub use id::{Side, TransactionId};
pub(crate) use message::{Bye, CallHead, EventHead, ITEM_HEAD, MAX_ENVELOPE, OpenHead, Quota, first_item};
pub use path::{Path, PathError};
pub(crate) use path::{RecentPaths, parents};
pub use payload::Payload;
pub use violation::ProtocolError;
