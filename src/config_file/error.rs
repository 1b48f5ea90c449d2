//! What can be wrong with a file, and with what a program makes of it.

use std::{fmt, io, path::PathBuf, sync::Arc};

use super::reader::Mistake;
use crate::error::Error;

/// Why nothing came of a file.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the operating system says.
        #[source]
        error: Arc<io::Error>,
    },
    /// A value in it is wrong.
    #[error(transparent)]
    Bad(#[from] BadValue),
    /// The program asks for a link or an API that the file does not describe.
    #[error("no {kind} `{name}` in the file{}", meant(.nearest.as_deref()))]
    Unknown {
        /// `link` or `API`.
        kind: &'static str,
        /// What was asked for.
        name: String,
        /// The nearest name that there is.
        nearest: Option<String>,
    },
    /// The program has no handler for a path that the file names.
    #[error("{key}: no handler for {path}: the program was to give one named `{handler}`{}", meant(.nearest.as_deref()))]
    NoHandler {
        /// Where the file names it.
        key: String,
        /// The full path at which it was to be served.
        path: String,
        /// The name of the handler.
        handler: String,
        /// The nearest name that was given.
        nearest: Option<String>,
    },
    /// This end of the link is made in another way.
    #[error("links.{link}: {why}")]
    WrongEnd {
        /// The name of the link.
        link: String,
        /// What to do instead.
        why: &'static str,
    },
    /// The link could not be made.
    #[error("links.{link}")]
    Link {
        /// The name of the link.
        link: String,
        /// Why.
        #[source]
        error: Error,
    },
    /// The file with the token of a link cannot be used.
    #[error("links.{link}.meet.token_file: {path}")]
    Token {
        /// The name of the link.
        link: String,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        error: Arc<io::Error>,
    },
}

/// A value that is wrong, and where it stands.
///
/// As a text it is one line: `app.toml:7:11: links.thumbs.config.timeout: found "5 secs", expected a time ...`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BadValue {
    /// The file, if it came from one.
    pub file: Option<PathBuf>,
    /// The line and the column in it, from 1 on, where they are known.
    pub place: Option<(usize, usize)>,
    /// The keys that lead to it, from the outermost on, with dots between. Empty for what is no TOML at all.
    pub key: Box<str>,
    /// What stands there.
    pub found: Box<str>,
    /// What could stand there.
    pub expected: Box<str>,
    /// The known name that is nearest, for a name that is not known.
    pub nearest: Option<Box<str>>,
}

impl BadValue {
    pub(super) fn new(mistake: &Mistake, text: Option<&str>) -> BadValue {
        BadValue {
            file: None,
            place: text.and_then(|text| mistake.place(text)),
            key: mistake.key().into(),
            found: mistake.found.as_str().into(),
            expected: mistake.expected.as_str().into(),
            nearest: mistake.meant.as_deref().map(Into::into),
        }
    }
}

impl fmt::Display for BadValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.file, self.place) {
            (Some(file), Some((line, column))) => write!(f, "{}:{line}:{column}: ", file.display())?,
            (Some(file), None) => write!(f, "{}: ", file.display())?,
            (None, Some((line, column))) => write!(f, "line {line}, column {column}: ")?,
            (None, None) => {}
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        write!(f, "found {}, expected {}{}", self.found, self.expected, meant(self.nearest.as_deref()))
    }
}

impl std::error::Error for BadValue {}

fn meant(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |name| format!("; is `{name}` meant?"))
}
