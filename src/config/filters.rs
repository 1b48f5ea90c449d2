//! What a link does to its bytes besides carrying them: [`guide::filters`](crate::guide::filters) tells more.

#[cfg(feature = "encryption")]
use std::{fmt, sync::Arc};

use super::Config;
use crate::wire::FilterSet;

/// How the bytes of a link are made fewer: see [`Config::compression`].
#[cfg(feature = "compression")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "config-file", derive(serde::Deserialize), serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum Compression {
    /// LZ4 blocks: quick in both directions, and texts become a half to a fifth.
    Lz4,
}

/// What the two sides of a link share whose bytes nobody else is to read or change: see [`Config::encryption`].
///
/// Its 32 bytes are overwritten when the last copy of it is dropped, and never shown by `Debug`.
///
/// ```
/// use nape::Key;
///
/// let key = Key::random()?;
/// assert_eq!(format!("{key:?}"), "Key(..)");
/// # Ok::<(), std::io::Error>(())
/// ```
#[cfg(feature = "encryption")]
#[derive(Clone)]
pub struct Key(Arc<zeroize::Zeroizing<[u8; Key::LEN]>>);

#[cfg(feature = "encryption")]
impl Key {
    /// How many bytes a key has.
    pub const LEN: usize = 32;

    /// A key of bytes that both sides have from elsewhere.
    ///
    /// They must be as good as random. A password is not: whoever records what travels can try all that people
    /// choose. Make a key of it by a function for that, such as Argon2.
    pub fn from_bytes(bytes: [u8; Key::LEN]) -> Key {
        Key(Arc::new(zeroize::Zeroizing::new(bytes)))
    }

    pub(crate) fn bytes(&self) -> &[u8; Key::LEN] {
        &self.0
    }
}

#[cfg(feature = "encryption")]
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

impl Config {
    /// Compresses what travels, where that makes it smaller. Off by default. Needs the feature `compression`.
    ///
    /// Both sides must ask for it: where one does and the other does not, there is no link, and both are told:
    /// [`ProtocolError::FiltersDiffer`](crate::ProtocolError::FiltersDiffer). It saves bytes and costs time, so
    /// that it seldom pays on one machine: see [`guide::filters`](crate::guide::filters). Packets of less than 256
    /// bytes, and those that do not shrink by an eighth, go as they are. The two ends in one process hand values
    /// over as they are, and nothing is compressed.
    ///
    /// ```
    /// use nape::{Compression, Config, Head, Neck, transport::pipe_pair};
    ///
    /// let config = || Config::new().compression(Compression::Lz4);
    /// let (ours, theirs) = pipe_pair()?;
    /// let neck = Neck::builder().config(config()).over(theirs)?.start();
    /// let head = Head::builder().config(config()).over(ours)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(feature = "compression")]
    pub fn compression(mut self, compression: impl Into<Option<Compression>>) -> Config {
        self.compression = compression.into();
        self
    }

    /// Encrypts and authenticates what travels, with a key that both sides have. Off by default. Needs the feature
    /// `encryption`.
    ///
    /// Who reads the bytes on their way learns how many there are and when, and whoever changes, repeats, leaves
    /// out or reorders any ends the link, with [`ProtocolError::BadSeal`](crate::ProtocolError::BadSeal). A side
    /// with another key is refused at the hello, with [`ProtocolError::WrongKey`](crate::ProtocolError::WrongKey),
    /// and one without a key with [`FiltersDiffer`](crate::ProtocolError::FiltersDiffer).
    /// [`guide::filters`](crate::guide::filters) tells against whom that helps, and against whom it does not. The
    /// two ends in one process hand values over as they are, and nothing is encrypted.
    ///
    /// It costs 24 bytes for each packet, and time: the guide has figures.
    ///
    /// ```
    /// use nape::{Config, Head, Key, Neck, transport::pipe_pair};
    ///
    /// let key = Key::random()?;
    /// let config = || Config::new().encryption(key.clone());
    /// let (ours, theirs) = pipe_pair()?;
    /// let neck = Neck::builder().config(config()).over(theirs)?.start();
    /// let head = Head::builder().config(config()).over(ours)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(feature = "encryption")]
    pub fn encryption(mut self, key: impl Into<Option<Key>>) -> Config {
        self.encryption = key.into();
        self
    }

    /// The key, if what travels is encrypted.
    #[cfg(feature = "encryption")]
    pub(crate) fn key(&self) -> Option<&Key> {
        self.encryption.as_ref()
    }

    /// What this side does to its bytes.
    pub(crate) fn filters(&self) -> FilterSet {
        let filters = FilterSet::default();
        #[cfg(feature = "compression")]
        let filters = match self.compression {
            Some(Compression::Lz4) => filters.with_lz4(),
            None => filters,
        };
        #[cfg(feature = "encryption")]
        let filters = if self.encryption.is_some() { filters.with_seal() } else { filters };
        filters
    }
}
