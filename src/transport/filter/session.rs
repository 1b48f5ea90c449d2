//! What two sides agree on in their hellos before anything passes a filter.

use std::io;

use super::{
    record::{Packer, Unpacker},
    seal::{Handshake, SessionKeys},
};
use crate::{
    config::Config,
    sync::OnceLock,
    wire::{FilterSet, Hello, ProtocolError, Side},
};

/// The filters of one side of one link, from its hello on. Shared by the link, which greets and agrees, and by both
/// halves of the transport, which wait for that.
#[derive(Debug)]
pub(crate) struct Session {
    filters: FilterSet,
    handshake: Option<Handshake>,
    agreed: OnceLock<Agreed>,
}

#[derive(Debug)]
struct Agreed {
    keys: Option<SessionKeys>,
}

impl Session {
    /// What the config asks for; `None` where that is nothing.
    ///
    /// # Errors
    ///
    /// When the system has no random bytes.
    pub(crate) fn new(config: &Config, side: Side) -> io::Result<Option<Session>> {
        let filters = config.filters();
        if filters.is_empty() {
            return Ok(None);
        }
        let handshake = Handshake::new(config, side)?;
        Ok(Some(Session { filters, handshake, agreed: OnceLock::new() }))
    }

    /// One whose bytes are known beforehand.
    #[cfg(all(test, feature = "compression", feature = "encryption"))]
    pub(super) fn salted(filters: FilterSet, handshake: Handshake) -> Session {
        Session { filters, handshake: Some(handshake), agreed: OnceLock::new() }
    }

    pub(crate) fn filters(&self) -> FilterSet {
        self.filters
    }

    /// Appends the hello of this side, with what it has to say of filters.
    pub(crate) fn greet(&self, hello: Hello, out: &mut Vec<u8>) {
        let start = out.len();
        let hello = Hello { features: hello.features | self.filters.bits(), ..hello };
        hello.write(out);
        if let Some(handshake) = &self.handshake {
            // A number is there in any case, so that what is behind it can be found.
            out.extend_from_slice(if hello.number == 0 { &[0; 8] } else { &[] });
            handshake.write(start, out);
        }
    }

    /// Takes the hello of the other side, which names the same filters. From here on they are at work.
    pub(crate) fn agree(&self, body: &[u8]) -> Result<(), ProtocolError> {
        let judge = |handshake: &Handshake| handshake.judge(body, Hello::behind(body));
        let keys = self.handshake.as_ref().map(judge).transpose()?;
        // A second hello was refused before.
        let _ = self.agreed.set(Agreed { keys });
        Ok(())
    }

    pub(crate) fn is_agreed(&self) -> bool {
        self.agreed.get().is_some()
    }

    /// What makes records, once that is agreed on. For one sender only: two would use the same numbers.
    pub(super) fn packer(&self) -> Option<Packer> {
        let agreed = self.agreed.get()?;
        Some(Packer::new(self.filters.has_lz4(), agreed.keys.as_ref().map(SessionKeys::outward)))
    }

    /// What opens them, for one receiver.
    pub(super) fn unpacker(&self) -> Option<Unpacker> {
        let agreed = self.agreed.get()?;
        Some(Unpacker::new(self.filters.has_lz4(), agreed.keys.as_ref().map(SessionKeys::inward)))
    }
}
