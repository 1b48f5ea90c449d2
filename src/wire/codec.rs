//! The codec: the one file that names bincode, so that another can take its place.

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

/// How values become bytes on a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) enum Codec {
    /// bincode 2 with its standard configuration: little endian, variable-length integers.
    #[default]
    Bincode,
}

/// Why a value could not be encoded or decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CodecError(Box<str>);

impl Codec {
    /// Appends `value` to `out`. After an error `out` may end in a part of it.
    pub(crate) fn encode<T: Serialize + ?Sized>(
        self,
        value: &T,
        out: &mut Vec<u8>,
    ) -> Result<(), CodecError> {
        match self {
            Codec::Bincode => encode_into_writer(value, Appender(out), BINCODE).map_err(CodecError::encoding),
        }
    }

    /// Reads a value that must fill `bytes` to the last one, within [`Bounds`].
    pub(crate) fn decode<T: DeserializeOwned>(self, bytes: &[u8]) -> Result<T, CodecError> {
        match self {
            Codec::Bincode => {
                let bounds = Bounds::new(bytes.len());
                let seed = bounds.around(PhantomData::<T>);
                let (value, read) =
                    seed_decode_from_slice(seed, bytes, BINCODE).map_err(CodecError::decoding)?;
                match bytes.len() - read {
                    0 => Ok(value),
                    left => Err(CodecError(format!("{left} bytes are left over").into())),
                }
            }
        }
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
