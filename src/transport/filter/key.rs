//! Where keys come from, and how they get to the other side.

use std::{io, str::FromStr};
#[cfg(unix)]
use std::{io::ErrorKind, path::Path};

use zeroize::Zeroizing;

use crate::{config::Key, os};

/// The text is no [`Key`]: it does not have 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a key has 64 hexadecimal digits, and nothing else")]
pub struct BadKey;

impl Key {
    /// A key that nobody can guess.
    ///
    /// # Errors
    ///
    /// When the operating system has no random bytes.
    pub fn random() -> io::Result<Key> {
        let mut bytes = Zeroizing::new([0; Key::LEN]);
        for half in bytes.chunks_exact_mut(Key::LEN / 2) {
            half.copy_from_slice(&os::random_token()?);
        }
        Ok(Key::from_bytes(*bytes))
    }

    /// As 64 hexadecimal digits. Whoever sees them can read and change what is sealed with it.
    pub fn reveal(&self) -> String {
        self.bytes().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Writes it into a file that only its owner may read, in the place of one that is there. Whoever reads
    /// meanwhile finds the old one or the new one.
    ///
    /// ```
    /// use nape::Key;
    ///
    /// let path = std::env::temp_dir().join(format!("key-{}", std::process::id()));
    /// Key::random()?.write(&path)?;
    ///
    /// // In another program:
    /// let key = Key::read(&path)?;
    /// # std::fs::remove_file(path)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    #[cfg(unix)]
    pub fn write(&self, path: impl AsRef<Path>) -> io::Result<()> {
        os::write_secret(path.as_ref(), &Zeroizing::new(self.reveal()))
    }

    /// Reads it from a file that only its owner may read: what others can read is no secret, and is refused.
    ///
    /// # Errors
    ///
    /// `PermissionDenied` when others may read or write the file, or when it belongs to neither the user whose rights
    /// this process has nor root; `InvalidInput` when it is no regular file; `InvalidData` when no key stands in there;
    /// whatever the operating system says when it cannot be read.
    #[cfg(unix)]
    pub fn read(path: impl AsRef<Path>) -> io::Result<Key> {
        let path = path.as_ref();
        let text = Zeroizing::new(os::read_secret(path)?);
        let bad = |error| io::Error::new(ErrorKind::InvalidData, format!("{}: {error}", path.display()));
        text.parse().map_err(|error: BadKey| bad(error))
    }
}

impl FromStr for Key {
    type Err = BadKey;

    fn from_str(text: &str) -> Result<Key, BadKey> {
        let mut bytes = Zeroizing::new([0; Key::LEN]);
        if text.len() != 2 * Key::LEN || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(BadKey);
        }
        for (byte, at) in bytes.iter_mut().zip((0..).step_by(2)) {
            *byte = u8::from_str_radix(&text[at..at + 2], 16).map_err(|_| BadKey)?;
        }
        Ok(Key::from_bytes(*bytes))
    }
}
