//! What makes bytes fewer, or unreadable for others, between a link and the transport that carries them.
//!
//! A filtered transport is a transport around another one. The first frame of each side, its hello, passes it as it
//! is; every packet behind that becomes a *record*, which looks like a frame to the transport inside:
//!
//! ```text
//! offset  size  field
//!      0     4  len       bytes behind this field, little endian like every number here
//!      4     1  18
//!      5     1  flags     1 the content is compressed | 2 the packet goes on in the next record
//!      6     2  unpacked  bytes of the packet in here
//!      8        content
//! ```
//!
//! Where there is a key, all behind the fifth byte is encrypted, and 16 bytes behind it prove that nothing of the
//! record was changed, and that it is the next one. See the [wire format](crate::guide::wire).
//!
//! Nothing goes through before both sides have agreed: see [`Session`]. A link without filters has none of this around
//! its transport, and none of its costs.

#[cfg(feature = "encryption")]
mod key;
mod lz4;
mod receiver;
mod record;
mod seal;
mod sender;
mod session;

#[cfg(feature = "encryption")]
pub use key::BadKey;
use receiver::FilterReceiver;
use sender::FilterSender;
pub(crate) use session::Session;

use super::Transport;
use crate::sync::Arc;

/// The transport as the link sees it: with filters around it.
pub(crate) fn filtered(transport: Transport, session: &Arc<Session>) -> Transport {
    Transport {
        sender: Box::new(FilterSender::new(transport.sender, session.clone())),
        receiver: Box::new(FilterReceiver::new(transport.receiver, session.clone())),
        ..transport
    }
}

#[cfg(all(test, feature = "compression", feature = "encryption"))]
mod tests;
