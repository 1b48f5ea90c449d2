//! Failures that cross a link: a numbered code, two numbers, a few texts, and bytes.
//!
//! ```text
//! code u16 | number u64 | number u64 | texts u8, each: length u16, UTF-8 | value: the rest
//! ```
//!
//! Which code means what stands in [`FaultCode`]; how the errors of this library turn into records
//! and back stands in `error/record.rs`.

use std::{fmt, sync::Arc};

use serde::{Serialize, de::DeserializeOwned};

use super::{Codec, Hold, ProtocolError};

/// A failure that came from a handler: an error that it returned, or a panic.
///
/// Any [`std::error::Error`] turns into one by `?`; its text and the texts of its sources travel. An
/// error type that can be serialized is better returned as it is: then [`Fault::typed`] gives it
/// back at the other side. A fault is no `std::error::Error` itself (else the first would not work).
#[derive(Clone, PartialEq, Eq)]
pub struct Fault {
    pub(crate) kind: FaultKind,
    pub(crate) message: Arc<str>,
    pub(crate) type_name: Arc<str>,
    pub(crate) chain: Arc<[Box<str>]>,
    pub(crate) value: Arc<Value>,
    pub(crate) form: Form,
}

/// The bytes of an error that is a value, and what a fault takes of the room for what came over its link.
#[derive(Default)]
pub(crate) struct Value {
    pub(crate) bytes: Vec<u8>,
    hold: Option<Hold>,
}

/// In which codec the value of a fault stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    One(Codec),
    /// In both: binary first, then JSON from here on.
    Both(u32),
}

impl Form {
    /// A codec that it stands in.
    pub(crate) fn any(self) -> Codec {
        match self {
            Form::One(codec) => codec,
            Form::Both(_) => Codec::Binary,
        }
    }
}

/// What a [`Fault`] is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FaultKind {
    /// An error of which the texts travelled.
    Error,
    /// An error that travelled as a value.
    Typed,
    /// The handler panicked.
    Panicked,
    /// A call that the handler made itself failed: see [`Fault::call_error`].
    Call,
    /// A kind that this version does not know, by its number.
    Other(u16),
}

impl Fault {
    /// A fault with nothing but a text.
    pub fn new(message: impl Into<String>) -> Fault {
        Fault::of(FaultKind::Error, message.into(), "")
    }

    pub(crate) fn of(kind: FaultKind, message: String, type_name: &str) -> Fault {
        let chain: [Box<str>; 0] = [];
        Fault {
            kind,
            message: cut(message).into(),
            type_name: cut_at(type_name, MAX_TEXT).into(),
            chain: chain.into(),
            value: Arc::default(),
            form: Form::One(Codec::Binary),
        }
    }

    /// A fault that carries `error` as a value.
    ///
    /// A value that does not encode travels as its text. A handler had better return the error itself: here it
    /// is not known yet which codec the link has, so that it is encoded in each.
    pub fn from_typed<E: Serialize + fmt::Display + 'static>(error: &E) -> Fault {
        let mut fault = Fault::typed_in(error, Codec::Binary);
        let (mut value, split) = (fault.value.bytes.clone(), u32::try_from(fault.value.bytes.len()));
        if let (FaultKind::Typed, Ok(split), Ok(())) =
            (fault.kind, split, Codec::Json.encode(error, &mut value))
        {
            (fault.value, fault.form) = (Arc::new(value.into()), Form::Both(split));
        }
        fault
    }

    /// The same for a link that has this codec.
    pub(crate) fn typed_in<E: Serialize + fmt::Display + 'static>(error: &E, codec: Codec) -> Fault {
        let mut fault = Fault::of(FaultKind::Typed, error.to_string(), std::any::type_name::<E>());
        let mut value = Vec::new();
        match codec.encode(error, &mut value) {
            Ok(()) => (fault.value, fault.form) = (Arc::new(value.into()), Form::One(codec)),
            Err(_) => fault.kind = FaultKind::Error,
        }
        fault
    }

    /// The value in this codec, if it is there in that.
    pub(crate) fn value_in(&self, codec: Codec) -> Option<&[u8]> {
        match (self.form, codec) {
            (Form::One(form), codec) => (form == codec).then_some(&*self.value.bytes),
            (Form::Both(split), Codec::Binary) => self.value.bytes.get(..split as usize),
            (Form::Both(split), Codec::Json) => self.value.bytes.get(split as usize..),
        }
    }

    /// The error value, if it travelled as one and decodes as an `E`.
    ///
    /// The types are not compared by name, since the two programs may name them differently: ask for
    /// the type that the handler declares.
    pub fn typed<E: DeserializeOwned>(&self) -> Option<E> {
        match self.kind {
            FaultKind::Typed => {
                let codec = self.form.any();
                codec.decode(self.value_in(codec)?).ok()
            }
            _ => None,
        }
    }

    /// What kind of failure this is.
    pub fn kind(&self) -> FaultKind {
        self.kind
    }

    /// The text of the error, or of the panic; at most 4 KiB.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The name of the error's type at the other side, for people to read; may be empty.
    pub fn type_name(&self) -> &str {
        &self.type_name
    }

    /// The texts of the error's sources, the nearest first; at most 16.
    pub fn chain(&self) -> impl Iterator<Item = &str> {
        self.chain.iter().map(|text| &**text)
    }
}

impl Fault {
    /// What it takes of the room for what came over its link, for as long as anybody has it.
    pub(crate) fn held_by(mut self, hold: Option<Hold>) -> Fault {
        if let Some(value) = Arc::get_mut(&mut self.value) {
            value.hold = hold;
        }
        self
    }
}

impl From<Vec<u8>> for Value {
    fn from(bytes: Vec<u8>) -> Value {
        Value { bytes, hold: None }
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Value) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for Value {}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            FaultKind::Panicked => write!(f, "the handler panicked: {}", self.message),
            FaultKind::Other(code) => write!(f, "fault of the unknown kind {code}: {}", self.message),
            _ => f.write_str(&self.message),
        }
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fault")
            .field("kind", &self.kind)
            .field("message", &self.message)
            .field("type_name", &self.type_name)
            .field("chain", &self.chain)
            .finish_non_exhaustive()
    }
}

/// The numbers of failures on the wire. They never change their meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(crate) enum FaultCode {
    NoHandler = 1,
    BadArguments = 2,
    Busy = 3,
    TooLarge = 4,
    ShuttingDown = 5,
    Ambiguous = 6,
    Expired = 7,
    Denied = 8,
    Mismatch = 9,
    NoAnswer = 16,
    Error = 32,
    Typed = 33,
    Panicked = 34,
    Call = 35,
    TimedOut = 48,
    Cancelled = 49,
    Closed = 50,
    Decode = 51,
    Misuse = 52,
    Poisonous = 53,
}

impl FaultCode {
    pub(crate) fn from_number(number: u16) -> Option<FaultCode> {
        use FaultCode::*;
        [
            NoHandler,
            BadArguments,
            Busy,
            TooLarge,
            ShuttingDown,
            Ambiguous,
            Expired,
            Denied,
            Mismatch,
            NoAnswer,
            Error,
            Typed,
            Panicked,
            Call,
            TimedOut,
            Cancelled,
            Closed,
            Decode,
            Misuse,
            Poisonous,
        ]
        .into_iter()
        .find(|code| *code as u16 == number)
    }
}

/// A failure as it stands on the wire.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FaultRecord {
    pub(crate) code: u16,
    pub(crate) numbers: [u64; 2],
    pub(crate) texts: Vec<String>,
    pub(crate) value: Vec<u8>,
}

impl FaultRecord {
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.code.to_le_bytes());
        for number in self.numbers {
            out.extend_from_slice(&number.to_le_bytes());
        }
        let texts = &self.texts[..self.texts.len().min(MAX_TEXTS)];
        out.push(texts.len() as u8);
        for text in texts {
            let text = cut_at(text, MAX_TEXT);
            out.extend_from_slice(&(text.len() as u16).to_le_bytes());
            out.extend_from_slice(text.as_bytes());
        }
        out.extend_from_slice(&self.value);
    }

    /// Reads a record; texts over the limit are cut, bytes that are no UTF-8 are replaced.
    pub(crate) fn read(body: &[u8]) -> Result<FaultRecord, ProtocolError> {
        let (record, value) = FaultRecord::read_head(body)?;
        Ok(FaultRecord { value: value.to_vec(), ..record })
    }

    /// Reads what stands before the value, and gives the value as it stands there.
    pub(crate) fn read_head(body: &[u8]) -> Result<(FaultRecord, &[u8]), ProtocolError> {
        const CUT_OFF: ProtocolError = ProtocolError::BadEnvelope("a fault is cut off");
        let (fixed, mut rest) = body.split_first_chunk::<19>().ok_or(CUT_OFF)?;
        let mut numbers = [[0; 8]; 2];
        numbers[0].copy_from_slice(&fixed[2..10]);
        numbers[1].copy_from_slice(&fixed[10..18]);
        let mut texts = Vec::new();
        for _ in 0..fixed[18] {
            let (len, behind) = rest.split_first_chunk::<2>().ok_or(CUT_OFF)?;
            let len = usize::from(u16::from_le_bytes(*len));
            let text = behind.get(..len).ok_or(CUT_OFF)?;
            if texts.len() < MAX_TEXTS {
                texts.push(cut_at(&String::from_utf8_lossy(text), MAX_TEXT).to_owned());
            }
            rest = &behind[len..];
        }
        let code = u16::from_le_bytes([fixed[0], fixed[1]]);
        let numbers = numbers.map(u64::from_le_bytes);
        Ok((FaultRecord { code, numbers, texts, value: Vec::new() }, rest))
    }
}

/// At most [`MAX_TEXT`] bytes of `text`.
pub(crate) fn cut(mut text: String) -> String {
    let len = cut_at(&text, MAX_TEXT).len();
    text.truncate(len);
    text
}

fn cut_at(text: &str, limit: usize) -> &str {
    match text.len() {
        len if len <= limit => text,
        _ => &text[..(0..=limit).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)],
    }
}

/// The longest text of a failure, in bytes.
const MAX_TEXT: usize = 4096;
/// A message, a type name, and the sources.
const MAX_TEXTS: usize = 18;

#[cfg(test)]
mod tests;
