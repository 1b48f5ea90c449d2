//! What those show who may connect, where the kernel does not say who they are.

use std::{
    fmt, fs,
    io::{self, ErrorKind, Read, Write},
    path::Path,
    str::FromStr,
};

use super::local;
use crate::{
    os,
    wire::{self, Tokens},
};

/// A secret that only those know who may meet: 256 bits that nobody can guess.
///
/// Over TCP it is required, because every user of the machine can connect there; over a Unix socket it may be
/// used as well. Its first half is shown by whoever connects, its second half by whoever listens, and only
/// to one who has shown the first. So a program that waits for others in the place of the right one learns
/// nothing with which it could pass for that. Both are compared in a time that says nothing about them.
///
/// As a text it has 64 hexadecimal digits. It belongs into a file that only its owner can read, or into an
/// environment variable; never onto a command line, which everybody can see. Each [`Listener`] makes its own
/// unless it is given one, so that an old one is worth nothing.
///
/// [`Listener`]: crate::Listener
///
/// ```
/// use nape::{Head, Neck, Token};
///
/// let listener = Head::listen("tcp:127.0.0.1:0")?;
/// let path = std::env::temp_dir().join(format!("token-{}", std::process::id()));
/// listener.token().expect("there is one for TCP").write(&path)?;
///
/// // In another program:
/// let token = Token::read(&path)?;
/// let neck = Neck::builder().token(token).connect(listener.address())?;
/// # std::fs::remove_file(path)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy)]
pub struct Token {
    connecting: wire::Token,
    listening: wire::Token,
}

/// The text is no [`Token`]: it does not have 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a token has 64 hexadecimal digits, and nothing else")]
pub struct BadToken;

impl Token {
    /// A new one.
    ///
    /// # Errors
    ///
    /// When the operating system has no random bytes.
    pub fn random() -> io::Result<Token> {
        let [connecting, listening] = [os::random_token()?, os::random_token()?].map(wire::Token);
        Ok(Token { connecting, listening })
    }

    /// As 64 hexadecimal digits. Whoever sees them can connect.
    pub fn reveal(&self) -> String {
        self.connecting.to_hex() + &self.listening.to_hex()
    }

    /// Writes it into a file that only its owner may read, in the place of one that is there. Whoever reads
    /// meanwhile finds the old one or the new one.
    ///
    /// On Windows the file has the rights of its directory: take one in the user's profile.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn write(&self, path: impl AsRef<Path>) -> io::Result<()> {
        let path = path.as_ref();
        let name = path.file_name().ok_or(ErrorKind::InvalidInput)?;
        let mut beside = std::ffi::OsString::from(".");
        beside.push(name);
        beside.push(format!(".{}", wire::Token(os::random_token()?).to_hex()));
        let beside = path.with_file_name(beside);
        let mut file = local::secret_file(&beside)?;
        let text = self.reveal() + "\n";
        let written = file.write_all(text.as_bytes()).and_then(|()| fs::rename(&beside, path));
        written.inspect_err(|_| drop(fs::remove_file(&beside)))
    }

    /// Reads it from a file that only its owner may read: what others can read is no secret, and is refused.
    ///
    /// On Windows nobody looks who else can read it.
    ///
    /// # Errors
    ///
    /// `PermissionDenied` when others may read or write the file, or when it belongs to neither the user whose rights
    /// this process has nor root; `InvalidInput` when it is no regular file; `InvalidData` when no token stands in there;
    /// whatever the operating system says when it cannot be read.
    pub fn read(path: impl AsRef<Path>) -> io::Result<Token> {
        let path = path.as_ref();
        let mut text = String::new();
        local::open_secret(path)?.take(LONGEST).read_to_string(&mut text)?;
        let bad = |error| io::Error::new(ErrorKind::InvalidData, format!("{}: {error}", path.display()));
        text.trim_end().parse().map_err(|error: BadToken| bad(error))
    }

    /// What whoever connects shows and wants to see.
    pub(super) fn of_caller(this: Option<Token>) -> Tokens {
        this.map_or_else(Tokens::default, |token| Tokens {
            ours: token.connecting,
            theirs: token.listening,
            ..Tokens::default()
        })
    }

    /// The same of whoever listens.
    pub(crate) fn of_listener(this: Option<Token>) -> Tokens {
        this.map_or_else(Tokens::default, |token| Tokens {
            ours: token.listening,
            theirs: token.connecting,
            ..Tokens::default()
        })
    }
}

impl FromStr for Token {
    type Err = BadToken;

    fn from_str(text: &str) -> Result<Token, BadToken> {
        let (connecting, listening) = text.split_at_checked(32).ok_or(BadToken)?;
        let half = |text| wire::Token::from_hex(text).ok_or(BadToken);
        Ok(Token { connecting: half(connecting)?, listening: half(listening)? })
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// More than a token and an end of line.
const LONGEST: u64 = 100;
