//! Sealed records, or nothing where the feature is off.
//!
//! Each side shows in its hello that it has the key, over a salt of its own. From the key and both salts come two keys
//! for this one link, one a direction, so that no two links and no two directions ever share a key. A record is sealed
//! with ChaCha20-Poly1305, as of RFC 8439, and its number on this link is the nonce: what is repeated, left out or put
//! elsewhere does not open. Numbers are not sent.

#[cfg(feature = "encryption")]
pub(super) use on::{Handshake, Seal, SessionKeys};

#[cfg(not(feature = "encryption"))]
pub(super) use off::{Handshake, Seal, SessionKeys};

#[cfg(feature = "encryption")]
mod on;

#[cfg(not(feature = "encryption"))]
mod off;
