//! The greeting: the first frame of each side.
//!
//! ```text
//! magic 4 B "NAPE" | side u8 (0 Head, 1 Neck) | codec u8 | zero u16 | lowest version u16 |
//! highest version u16 | features u32 | token 16 B | library version: u8 length, text | number u64
//! ```
//!
//! The sides differ, so that a program that only echoes is not taken for a Neck. The number is missing where a side
//! has none. Bytes behind it are left to later versions.
//!
//! The codec is the one that a side asks for; 1 leaves the choice to the other. Bit 0 of the features says that a
//! side takes JSON if it is asked to. So both know the codec of the link when both have greeted. Bits 1 to 7 are the
//! filters that the side has.

use std::fmt;

use super::{Codec, ProtocolError, Side};

/// The lowest and the highest version of the protocol that this library speaks.
pub(crate) const PROTOCOL_VERSIONS: (u16, u16) = (1, 1);

/// What only the two ends of one link know: a process that merely finds the way in has it not.
#[derive(Clone, Copy, Default)]
pub(crate) struct Token(pub(crate) [u8; 16]);

impl Token {
    /// Compares in a time that does not depend on where the first difference is.
    pub(crate) fn matches(&self, other: &Token) -> bool {
        let difference = self.0.iter().zip(&other.0).fold(0, |sum, (a, b)| sum | (a ^ b));
        std::hint::black_box(difference) == 0
    }

    /// As 32 hexadecimal digits.
    pub(crate) fn to_hex(self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// From 32 hexadecimal digits.
    pub(crate) fn from_hex(text: &str) -> Option<Token> {
        let digits: Vec<u8> = text.chars().map(|c| c.to_digit(16).map(|d| d as u8)).collect::<Option<_>>()?;
        let mut token = [0; 16];
        if digits.len() != 32 {
            return None;
        }
        for (byte, pair) in token.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = pair[0] << 4 | pair[1];
        }
        Some(Token(token))
    }
}

/// What a side shows in its greeting, and what it wants to be shown. They are the same, unless one who only
/// listens where the other was expected is to learn nothing by it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tokens {
    pub(crate) ours: Token,
    pub(crate) theirs: Token,
    /// The share of this side in the number of the link, which is no secret; 0 for none.
    pub(crate) number: u64,
}

impl Tokens {
    /// The same with a number.
    pub(crate) fn numbered(self, number: u64) -> Tokens {
        Tokens { number, ..self }
    }
}

impl From<Token> for Tokens {
    fn from(token: Token) -> Tokens {
        Tokens { ours: token, theirs: token, number: 0 }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// Which codecs a side speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Choice {
    /// What it asks for; [`Codec::Binary`] leaves it to the other side.
    pub(crate) asks: Codec,
    /// It takes JSON if the other side asks for it.
    pub(crate) takes_json: bool,
}

impl Choice {
    /// What the link will speak, if that is known before the other side has greeted.
    pub(crate) fn settled(self) -> Option<Codec> {
        match self.asks {
            Codec::Json => Some(Codec::Json),
            Codec::Binary if !self.takes_json => Some(Codec::Binary),
            Codec::Binary => None,
        }
    }

    /// What the link speaks. The other side comes to the same.
    pub(crate) fn agree(self, theirs: &Hello) -> Result<Codec, ProtocolError> {
        let json = Codec::Json.number();
        match (self.asks, theirs.codec == json) {
            (Codec::Binary, false) => Ok(Codec::Binary),
            (Codec::Json, false) if theirs.features & TAKES_JSON == 0 => {
                Err(ProtocolError::CodecRefused(Codec::Json))
            }
            (Codec::Binary, true) if !self.takes_json => Err(ProtocolError::CodecRefused(Codec::Json)),
            _ => Ok(Codec::Json),
        }
    }
}

/// What a side says of itself before anything else.
#[derive(Clone, Debug)]
pub(crate) struct Hello {
    pub(crate) side: Side,
    pub(crate) versions: (u16, u16),
    pub(crate) codec: u8,
    pub(crate) features: u32,
    pub(crate) token: Token,
    pub(crate) library: String,
    /// 0 for none.
    pub(crate) number: u64,
}

impl Hello {
    /// The same with the codecs that this side speaks.
    pub(crate) fn choosing(self, choice: Choice) -> Hello {
        let features = if choice.takes_json { TAKES_JSON } else { 0 };
        Hello { codec: choice.asks.number(), features, ..self }
    }

    /// The same with the share of this side in the number of the link.
    pub(crate) fn numbered(self, number: u64) -> Hello {
        Hello { number, ..self }
    }

    /// The greeting of this library, in binary alone.
    pub(crate) fn ours(side: Side, token: Token) -> Hello {
        let library = env!("CARGO_PKG_VERSION").to_owned();
        Hello { side, versions: PROTOCOL_VERSIONS, codec: 1, features: 0, token, library, number: 0 }
    }

    /// Appends the body of the greeting.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let library = self.library.as_bytes();
        let library = &library[..library.len().min(255)];
        out.extend_from_slice(MAGIC);
        out.push(match self.side {
            Side::Head => 0,
            Side::Neck => 1,
        });
        out.push(self.codec);
        out.extend_from_slice(&[0, 0]);
        out.extend_from_slice(&self.versions.0.to_le_bytes());
        out.extend_from_slice(&self.versions.1.to_le_bytes());
        out.extend_from_slice(&self.features.to_le_bytes());
        out.extend_from_slice(&self.token.0);
        out.push(library.len() as u8);
        out.extend_from_slice(library);
        if self.number != 0 {
            out.extend_from_slice(&self.number.to_le_bytes());
        }
    }

    /// Reads and judges the greeting of the other side, which should be `from` and carry `token`.
    pub(crate) fn read(body: &[u8], from: Side, token: &Token) -> Result<Hello, ProtocolError> {
        let not_a_peer = ProtocolError::NotAPeer { expected: from };
        let rest = body.strip_prefix(MAGIC).ok_or(not_a_peer.clone())?;
        let (fixed, rest) = rest.split_first_chunk::<28>().ok_or(ProtocolError::BadHello("it is cut off"))?;
        let side = match fixed[0] {
            0 => Side::Head,
            1 => Side::Neck,
            _ => return Err(not_a_peer),
        };
        if side != from {
            return Err(not_a_peer);
        }
        let versions = (u16::from_le_bytes([fixed[4], fixed[5]]), u16::from_le_bytes([fixed[6], fixed[7]]));
        if versions.0 > versions.1 {
            return Err(ProtocolError::BadHello("its versions are upside down"));
        }
        if versions.0 > PROTOCOL_VERSIONS.1 || versions.1 < PROTOCOL_VERSIONS.0 {
            return Err(ProtocolError::VersionMismatch { ours: PROTOCOL_VERSIONS, theirs: versions });
        }
        // Only now, since a version that is not ours may mean something by them.
        if fixed[2..4] != [0, 0] {
            return Err(ProtocolError::ReservedBits);
        }
        if Codec::from_number(fixed[1]).is_none() {
            return Err(ProtocolError::BadHello("its codec is unknown"));
        }
        let features = u32::from_le_bytes([fixed[8], fixed[9], fixed[10], fixed[11]]);
        let mut theirs = Token::default();
        theirs.0.copy_from_slice(&fixed[12..28]);
        if !token.matches(&theirs) {
            return Err(ProtocolError::AuthFailed);
        }
        let library = rest.split_first().and_then(|(len, rest)| rest.split_at_checked(usize::from(*len)));
        let (library, rest) = library.ok_or(ProtocolError::BadHello("it is cut off"))?;
        let library = String::from_utf8_lossy(library).into_owned();
        let number = rest.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        Ok(Hello { side, versions, codec: fixed[1], features, token: theirs, library, number })
    }

    /// What stands behind the fields of a greeting that was read, and that has a number.
    pub(crate) fn behind(body: &[u8]) -> &[u8] {
        let len = body.get(FIXED).map_or(0, |len| usize::from(*len));
        body.get(FIXED + 1 + len + NUMBER..).unwrap_or_default()
    }
}

/// The fixed fields of a greeting, to the token.
const FIXED: usize = 32;
/// The bytes of a number.
const NUMBER: usize = size_of::<u64>();
/// The bit of the features for a side that takes JSON.
const TAKES_JSON: u32 = 1;
const MAGIC: &[u8; 4] = b"NAPE";

#[cfg(test)]
mod tests;
