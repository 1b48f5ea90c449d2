//! The codecs: the one file that names bincode and serde_json, so that others can take their place.

use std::{fmt, marker::PhantomData};

use bincode::{
    config::{Configuration, LittleEndian, NoLimit, Varint},
    enc::write::Writer,
    error::{DecodeError as BincodeDecodeError, EncodeError as BincodeEncodeError},
    serde::{EncodeError as BincodeSerdeEncodeError, encode_into_writer, seed_decode_from_slice},
};
use serde::{Serialize, de::DeserializeOwned};

use super::bounded::Bounds;
use crate::os::make_room_for;
use crate::sync::hold_nothing;

/// How values become bytes on a link. One codec stands for all that travels there; the two sides agree on it when
/// they greet each other: see [`Config::codec`](crate::Config::codec).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Codec {
    /// Small and quick: bincode 2 with its standard configuration. Nothing in the bytes says which type they are.
    #[default]
    Binary,
    /// JSON, for a peer that is not written in Rust or does not know the types.
    /// [The wire format](crate::guide::wire#codec-2) says how each type looks.
    Json,
}

/// Why a value could not be encoded or decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CodecError(Box<str>);

impl Codec {
    /// Whether this build has the codec that a peer may ask for.
    pub(crate) const HAS_JSON: bool = cfg!(feature = "json");

    /// Its number in a greeting.
    pub(crate) fn number(self) -> u8 {
        match self {
            Codec::Binary => 1,
            Codec::Json => 2,
        }
    }

    /// The codec with this number, if there is one.
    #[inline]
    pub(crate) fn from_number(number: u8) -> Option<Codec> {
        match number {
            1 => Some(Codec::Binary),
            2 => Some(Codec::Json),
            _ => None,
        }
    }

    /// Appends `value` to `out`. After an error `out` may end in a part of it.
    pub(crate) fn encode<T: Serialize + ?Sized>(
        self,
        value: &T,
        out: &mut Vec<u8>,
    ) -> Result<(), CodecError> {
        hold_nothing();
        match self {
            Codec::Binary => encode_into_writer(value, Appender(out), BINCODE).map_err(CodecError::encoding),
            Codec::Json => json::encode(value, out),
        }
    }

    /// Reads a value that must fill `bytes` to the last one, within [`Bounds`].
    pub(crate) fn decode<T: DeserializeOwned>(self, bytes: &[u8]) -> Result<T, CodecError> {
        hold_nothing();
        match self {
            Codec::Binary => {
                let bounds = Bounds::new(bytes.len());
                let seed = bounds.around(PhantomData::<T>);
                let (value, read) =
                    seed_decode_from_slice(seed, bytes, BINCODE).map_err(CodecError::decoding)?;
                match bytes.len() - read {
                    0 => Ok(value),
                    left => Err(CodecError(format!("{left} bytes are left over").into())),
                }
            }
            Codec::Json => json::decode(bytes),
        }
    }

    /// The arguments of a method, given by their names, in the order in which it takes them; `None` if they are not
    /// given so. Only a codec that says what is what can do that, and one argument alone is its own value.
    pub(crate) fn by_name(self, bytes: &[u8], names: &[&str]) -> Result<Option<Vec<u8>>, CodecError> {
        match self {
            Codec::Binary => Ok(None),
            Codec::Json if names.len() < 2 => Ok(None),
            Codec::Json => json::by_name(bytes, names),
        }
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Codec::Binary => "binary",
            Codec::Json => "JSON",
        })
    }
}

impl CodecError {
    fn encoding(error: BincodeEncodeError) -> CodecError {
        use BincodeEncodeError::*;
        CodecError(match error {
            OtherString(text) => text.into(),
            Other(text) => text.into(),
            Serde(BincodeSerdeEncodeError::SequenceMustHaveLength) => {
                "a sequence does not know its length".into()
            }
            other => other.to_string().into(),
        })
    }

    /// Says in words what bincode's own text says as Rust code.
    fn decoding(error: BincodeDecodeError) -> CodecError {
        use BincodeDecodeError::*;
        CodecError(match error {
            OtherString(text) => text.into(),
            Other(text) => text.into(),
            UnexpectedEnd { additional } => {
                format!("the bytes end early, {additional} more are needed").into()
            }
            InvalidIntegerType { .. } => "an integer is wider than its type".into(),
            InvalidBooleanValue(byte) => format!("{byte} is no bool").into(),
            InvalidCharEncoding(_) => "a char is no Unicode scalar value".into(),
            UnexpectedVariant { found, .. } => format!("{found} is no tag of an option").into(),
            Utf8 { inner } => format!("a text is no UTF-8: {inner}").into(),
            other => other.to_string().into(),
        })
    }

    pub(crate) fn new(text: &str) -> CodecError {
        CodecError(text.into())
    }

    /// What the codec said.
    pub(crate) fn text(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CodecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Values as JSON.
#[cfg(feature = "json")]
mod json {
    use std::{collections::BTreeMap, marker::PhantomData};

    use serde::{
        Serialize,
        de::{DeserializeOwned, DeserializeSeed},
    };
    use serde_json::{Deserializer, Error, value::RawValue};

    use super::{super::bounded::Bounds, CodecError};

    pub(super) fn encode<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<(), CodecError> {
        serde_json::to_writer(out, value).map_err(told)
    }

    /// The text has no lengths to announce, and the parser has a limit of its own to what is nested. The bounds are
    /// those of a type that nests in itself where the text does not.
    pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
        let bounds = Bounds::new(bytes.len());
        let mut text = Deserializer::from_slice(or_nothing(bytes));
        let value = bounds.around(PhantomData::<T>).deserialize(&mut text).map_err(told)?;
        text.end().map_err(told)?;
        Ok(value)
    }

    pub(super) fn by_name(bytes: &[u8], names: &[&str]) -> Result<Option<Vec<u8>>, CodecError> {
        if bytes.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
            return Ok(None);
        }
        let mut given: BTreeMap<String, &RawValue> = serde_json::from_slice(bytes).map_err(told)?;
        let mut array = Vec::with_capacity(bytes.len());
        for name in names {
            let Some(value) = given.remove(*name) else {
                return Err(CodecError(format!("the argument `{name}` is missing").into()));
            };
            array.push(if array.is_empty() { b'[' } else { b',' });
            array.extend_from_slice(value.get().as_bytes());
        }
        array.push(b']');
        match given.into_keys().next() {
            Some(other) => Err(CodecError(format!("there is no argument `{other}`").into())),
            None => Ok(Some(array)),
        }
    }

    /// Who has nothing to say may send nothing.
    fn or_nothing(bytes: &[u8]) -> &[u8] {
        if bytes.is_empty() { b"null" } else { bytes }
    }

    fn told(error: Error) -> CodecError {
        CodecError(error.to_string().into())
    }
}

/// No link takes it then.
#[cfg(not(feature = "json"))]
mod json {
    use super::CodecError;

    const ABSENT: &str = "this build has no JSON";

    pub(super) fn encode<T: ?Sized>(_: &T, _: &mut Vec<u8>) -> Result<(), CodecError> {
        Err(CodecError::new(ABSENT))
    }

    pub(super) fn decode<T>(_: &[u8]) -> Result<T, CodecError> {
        Err(CodecError::new(ABSENT))
    }

    pub(super) fn by_name(_: &[u8], _: &[&str]) -> Result<Option<Vec<u8>>, CodecError> {
        Err(CodecError::new(ABSENT))
    }
}

/// Lets bincode write behind what a buffer already holds.
struct Appender<'a>(&'a mut Vec<u8>);

impl Writer for Appender<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), BincodeEncodeError> {
        if bytes.len() > self.0.capacity() - self.0.len() {
            make_room_for(self.0, bytes.len());
        }
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

/// Without bincode's own limit: that one counts integers at their full width, so that it would refuse
/// honest messages, while no read goes past the slice, and [`Bounds`] stops what is free of bytes.
const BINCODE: Configuration<LittleEndian, Varint, NoLimit> = bincode::config::standard();

#[cfg(test)]
mod tests;
