//! Dotted names of handlers: `thumbs.cache.clear`.

use std::{fmt, sync::Arc};

/// The full name of a handler or of a namespace: segments joined by dots, case-sensitive, at most
/// [`Path::MAX_LEN`] bytes. The empty path is the root, and no handler can have it.
///
/// Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Path(Arc<str>);

/// What is wrong with a path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathError {
    /// Nothing at all.
    #[error("it is empty")]
    Empty,
    /// More than [`Path::MAX_LEN`] bytes.
    #[error("{0} bytes are over the limit of 255")]
    TooLong(usize),
    /// Two dots in a row, or one at an end.
    #[error("a segment is empty")]
    EmptySegment,
    /// White space or a control character.
    #[error("it contains {0:?}")]
    BadCharacter(char),
    /// Bytes that are no text.
    #[error("it is not UTF-8")]
    NotUtf8,
}

impl Path {
    /// The longest path, in bytes.
    pub const MAX_LEN: usize = 255;

    /// Checks `text` and keeps it.
    ///
    /// # Errors
    ///
    /// A [`PathError`] that says what is wrong with it.
    ///
    /// ```
    /// use nape::Path;
    ///
    /// assert_eq!(Path::new("thumbs.cache.clear")?.as_str(), "thumbs.cache.clear");
    /// assert!(Path::new("thumbs..clear").is_err());
    /// # Ok::<(), nape::PathError>(())
    /// ```
    pub fn new(text: &str) -> Result<Path, PathError> {
        Path::check(text).map(|()| Path(text.into()))
    }

    /// The root: no segment at all.
    pub fn root() -> Path {
        Path("".into())
    }

    /// `self`, a dot, and `rest`; either may be empty.
    pub(crate) fn join(&self, rest: &str) -> Result<Path, PathError> {
        match (self.0.is_empty(), rest.is_empty()) {
            (_, true) => Ok(self.clone()),
            (true, false) => Path::new(rest),
            (false, false) => self.join_below(rest),
        }
    }

    /// Whether this is what `base.join(rest)` gives. It is known to lie at or below `base`.
    pub(crate) fn is_join(&self, base: &Path, rest: &str) -> bool {
        let below = if base.is_root() || rest.is_empty() { rest.len() } else { rest.len() + 1 };
        self.0.len() == base.0.len() + below && self.0.ends_with(rest)
    }

    /// Most calls by name come here: one allocation, and only what is new is checked.
    fn join_below(&self, rest: &str) -> Result<Path, PathError> {
        let (dot, end) = (self.0.len(), self.0.len() + 1 + rest.len());
        if end > Path::MAX_LEN {
            return Err(PathError::TooLong(end));
        }
        Path::check(rest)?;
        let mut text = [b'.'; Path::MAX_LEN];
        text[..dot].copy_from_slice(self.0.as_bytes());
        text[dot + 1..end].copy_from_slice(rest.as_bytes());
        let text = std::str::from_utf8(&text[..end]).map_err(|_| PathError::NotUtf8)?;
        Ok(Path(text.into()))
    }

    /// The rules for a path, without keeping it.
    pub(crate) fn check(text: &str) -> Result<(), PathError> {
        if text.is_empty() {
            return Err(PathError::Empty);
        }
        if text.len() > Path::MAX_LEN {
            return Err(PathError::TooLong(text.len()));
        }
        let mut previous = b'.';
        for &byte in text.as_bytes() {
            if byte == b'.' && previous == b'.' {
                return Err(PathError::EmptySegment);
            }
            if byte <= b' ' || byte >= 0x7f {
                return Path::check_slowly(text);
            }
            previous = byte;
        }
        if previous == b'.' { Err(PathError::EmptySegment) } else { Ok(()) }
    }

    /// The same rules for what is not plain ASCII.
    fn check_slowly(text: &str) -> Result<(), PathError> {
        if let Some(bad) = text.chars().find(|c| c.is_control() || c.is_whitespace()) {
            return Err(PathError::BadCharacter(bad));
        }
        if text.split('.').any(str::is_empty) {
            return Err(PathError::EmptySegment);
        }
        Ok(())
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// Whether this is the root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `other` is this path or lies below it.
    pub fn contains(&self, other: &str) -> bool {
        match other.strip_prefix(&*self.0) {
            Some(rest) => self.0.is_empty() || rest.is_empty() || rest.starts_with('.'),
            None => false,
        }
    }
}

/// Paths that came lately, so that one which comes again is neither checked nor copied.
#[derive(Debug, Default)]
pub(crate) struct RecentPaths([Option<Path>; RECENT]);

impl RecentPaths {
    /// The path that these bytes are.
    pub(crate) fn path(&mut self, bytes: &[u8]) -> Result<Path, PathError> {
        // Methods of one API differ in their length or in their last letter, as a rule.
        let place = bytes.len().wrapping_add(bytes.last().map_or(0, |last| usize::from(*last)));
        let recent = &mut self.0[place % RECENT];
        match recent {
            Some(path) if path.0.as_bytes() == bytes => Ok(path.clone()),
            _ => {
                let text = std::str::from_utf8(bytes).map_err(|_| PathError::NotUtf8)?;
                Ok(recent.insert(Path::new(text)?).clone())
            }
        }
    }
}

/// A few hundred bytes for each link, at most 4 KiB.
const RECENT: usize = 16;

/// The parents of a path from the nearest to the root: `a.b.c` gives `a.b`, `a` and the root.
pub(crate) fn parents(path: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(path);
    std::iter::from_fn(move || {
        let path = rest.filter(|path| !path.is_empty())?;
        let parent = path.rfind('.').map_or("", |dot| &path[..dot]);
        rest = Some(parent);
        Some(parent)
    })
}

impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "(root)" } else { &self.0 })
    }
}

impl AsRef<str> for Path {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for Path {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl PartialEq<str> for Path {
    fn eq(&self, other: &str) -> bool {
        *self.0 == *other
    }
}

impl PartialEq<&str> for Path {
    fn eq(&self, other: &&str) -> bool {
        *self.0 == **other
    }
}

#[cfg(test)]
mod tests;
