//! The codec: the one file that names bincode, so that another can take its place.

use std::fmt;

use bincode::{
    config::{Configuration, Limit, LittleEndian, Varint},
    enc::write::Writer,
    error::{DecodeError as BincodeDecodeError, EncodeError as BincodeEncodeError},
    serde::{decode_from_slice, encode_into_writer},
};
use serde::{Serialize, de::DeserializeOwned};

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

    /// Reads a value that must fill `bytes` to the last one.
    pub(crate) fn decode<T: DeserializeOwned>(self, bytes: &[u8]) -> Result<T, CodecError> {
        match self {
            Codec::Bincode => {
                let (value, read) = decode_from_slice(bytes, BINCODE).map_err(CodecError::decoding)?;
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
        CodecError(error.to_string().into())
    }

    fn decoding(error: BincodeDecodeError) -> CodecError {
        CodecError(match error {
            BincodeDecodeError::UnexpectedEnd { additional } => {
                format!("the bytes end early, {additional} more are needed").into()
            }
            BincodeDecodeError::LimitExceeded => "it is longer than any message may be".into(),
            other => other.to_string().into(),
        })
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
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

/// The ceiling over every limit that can be set at run time: lengths on the wire are claimed against
/// it before anything is allocated for them.
const CEILING: usize = 1 << 30;
const BINCODE: Configuration<LittleEndian, Varint, Limit<CEILING>> =
    bincode::config::standard().with_limit::<CEILING>();
