//! What a message carries for its user: bytes, or in one process the value itself.

use std::{
    any::{Any, TypeId},
    borrow::Cow,
    fmt,
    mem::forget,
    panic::{AssertUnwindSafe, catch_unwind},
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};

use super::{Bytes, Codec, Hold, codec::CodecError};

/// The arguments or the result of a call, before or after the codec.
///
/// As the argument or the result type of a handler or a call it means *raw*: the bytes are handed
/// over as they are, and no codec touches them.
///
/// As a *part* of a value it is bytes, as a [`Bytes`] is.
///
/// Between the two ends of an in-process link a payload is the value itself, moved. Asking it for
/// bytes encodes them, so a raw handler sees the same there as over a wire.
pub struct Payload(Inner);

enum Inner {
    Bytes {
        buffer: Vec<u8>,
        start: usize,
        /// What it takes of the room for what came over its link.
        hold: Option<Hold>,
    },
    Moved(Box<dyn Movable>),
}

/// A value on its way to the other side of an in-process link, with a way to encode it should the
/// other side ask for another type.
pub(crate) trait Movable: Any + Send {
    fn encode(&self, codec: Codec, out: &mut Vec<u8>) -> Result<(), CodecError>;
    fn as_any(&mut self) -> &mut dyn Any;
}

/// The box stays behind when the value is taken, and can go back to the thread that made it: memory that
/// one thread allocates and another frees is much dearer than memory that stays with its thread.
struct Parcel<T>(Option<T>);

impl<T: Serialize + Send + 'static> Movable for Parcel<T> {
    fn encode(&self, codec: Codec, out: &mut Vec<u8>) -> Result<(), CodecError> {
        match &self.0 {
            Some(value) => codec.encode(value, out),
            None => Err(CodecError::new("the value was taken before")),
        }
    }

    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}

/// Bytes for a link of which it is not known yet what it speaks.
struct Either {
    binary: Vec<u8>,
    json: Vec<u8>,
}

impl Movable for Either {
    fn encode(&self, codec: Codec, out: &mut Vec<u8>) -> Result<(), CodecError> {
        out.extend_from_slice(match codec {
            Codec::Binary => &self.binary,
            Codec::Json => &self.json,
        });
        Ok(())
    }

    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}

impl Payload {
    /// A payload of the same value in either codec.
    pub(crate) fn either(binary: Vec<u8>, json: Vec<u8>) -> Payload {
        Payload(Inner::Moved(Box::new(Either { binary, json })))
    }

    /// A payload of these bytes.
    pub fn from_bytes(bytes: Vec<u8>) -> Payload {
        Payload(Inner::Bytes { buffer: bytes, start: 0, hold: None })
    }

    /// A payload of the bytes of `buffer` from `start` on.
    pub(crate) fn from_tail(buffer: Vec<u8>, start: usize) -> Payload {
        Payload::held_by(buffer, start, None)
    }

    /// The same of bytes that came over a link, and take room there until somebody takes them.
    pub(crate) fn held_by(buffer: Vec<u8>, start: usize, hold: Option<Hold>) -> Payload {
        debug_assert!(start <= buffer.len());
        Payload(Inner::Bytes { buffer, start, hold })
    }

    /// A payload that is `value` itself.
    pub(crate) fn moved<T: Serialize + Send + 'static>(value: T) -> Payload {
        match is_payload(value) {
            Ok(payload) => payload,
            Err(value) => Payload(Inner::Moved(Box::new(Parcel(Some(value))))),
        }
    }

    /// The buffer of a payload of more than `least` bytes, and where in it they start. Everything else comes
    /// back as it is.
    pub(crate) fn into_tail<T: 'static>(value: T, least: usize) -> Result<(Vec<u8>, usize), T> {
        let large = |payload: &Payload| payload.held() > least;
        if !(&value as &dyn Any).downcast_ref().is_some_and(large) {
            return Err(value);
        }
        match downcast::<T, Payload>(value).0 {
            Inner::Bytes { buffer, start, .. } => Ok((buffer, start)),
            moved @ Inner::Moved(_) => Err(downcast(Payload(moved))),
        }
    }

    /// Appends `value` to `out`: a payload as it is, everything else through the codec.
    pub(crate) fn write<T: Serialize + 'static>(
        value: &T,
        codec: Codec,
        out: &mut Vec<u8>,
    ) -> Result<(), CodecError> {
        match (value as &dyn Any).downcast_ref::<Payload>() {
            Some(payload) => payload.write_to(codec, out),
            None => codec.encode(value, out),
        }
    }

    /// Appends the bytes of this payload to `out`.
    pub(crate) fn write_to(&self, codec: Codec, out: &mut Vec<u8>) -> Result<(), CodecError> {
        match &self.0 {
            Inner::Bytes { buffer, start, .. } => {
                out.extend_from_slice(&buffer[*start..]);
                Ok(())
            }
            Inner::Moved(value) => (**value).encode(codec, out),
        }
    }

    /// The value: as it was moved if it is a `T`, else through the codec.
    pub(crate) fn into_value<T: DeserializeOwned + 'static>(mut self, codec: Codec) -> Result<T, CodecError> {
        self.take_value(codec)
    }

    /// The same, once. What is left behind is of no use but for its memory.
    pub(crate) fn take_value<T: DeserializeOwned + 'static>(
        &mut self,
        codec: Codec,
    ) -> Result<T, CodecError> {
        if TypeId::of::<T>() == TypeId::of::<Payload>() {
            let mut payload = self.take();
            if let Inner::Bytes { hold, .. } = &mut payload.0 {
                // From here on they are the user's.
                *hold = None;
            }
            return Ok(downcast(payload));
        }
        match &mut self.0 {
            Inner::Bytes { buffer, start, hold } => {
                let value = codec.decode(&buffer[*start..]);
                if hold.is_some() {
                    // A handler may take long, and has the value.
                    *self = Payload::from_bytes(Vec::new());
                }
                return value;
            }
            Inner::Moved(value) => {
                let parcel = (**value).as_any().downcast_mut::<Parcel<T>>();
                if let Some(value) = parcel.and_then(|parcel| parcel.0.take()) {
                    return Ok(value);
                }
            }
        }
        match self.take().0 {
            Inner::Moved(value) => codec.decode(&encode_moved(value, codec)?),
            Inner::Bytes { .. } => Err(CodecError::new("the value was taken before")),
        }
    }

    /// The value of these bytes.
    pub(crate) fn value_of<T: DeserializeOwned + 'static>(
        bytes: &[u8],
        codec: Codec,
    ) -> Result<T, CodecError> {
        if TypeId::of::<T>() == TypeId::of::<Payload>() {
            return Ok(downcast(Payload::from_bytes(bytes.to_vec())));
        }
        codec.decode(bytes)
    }

    fn take(&mut self) -> Payload {
        std::mem::replace(self, Payload::from_bytes(Vec::new()))
    }

    /// The bytes, encoded first where the payload is a moved value.
    ///
    /// A value whose `Serialize` fails gives no bytes.
    pub fn bytes(&self) -> Cow<'_, [u8]> {
        self.bytes_in(Codec::default())
    }

    /// The same in a codec of choice.
    pub(crate) fn bytes_in(&self, codec: Codec) -> Cow<'_, [u8]> {
        match &self.0 {
            Inner::Bytes { buffer, start, .. } => Cow::Borrowed(&buffer[*start..]),
            Inner::Moved(value) => {
                let mut bytes = Vec::new();
                let encoded = (**value).encode(codec, &mut bytes);
                Cow::Owned(if encoded.is_ok() { bytes } else { Vec::new() })
            }
        }
    }

    /// The bytes, without a copy where nothing stands before them.
    pub fn into_bytes(self) -> Vec<u8> {
        match self.0 {
            Inner::Bytes { buffer, start: 0, .. } => buffer,
            Inner::Bytes { mut buffer, start, .. } => buffer.split_off(start),
            moved @ Inner::Moved(_) => Payload(moved).bytes().into_owned(),
        }
    }

    /// Whether it is a value that moves.
    pub(crate) fn is_moved(&self) -> bool {
        matches!(self.0, Inner::Moved(_))
    }

    /// How many bytes it has, if it has been encoded.
    pub(crate) fn size(&self) -> Option<usize> {
        (!self.is_moved()).then(|| self.held())
    }

    /// The number of bytes that are here, 0 for a moved value.
    pub(crate) fn held(&self) -> usize {
        match &self.0 {
            Inner::Bytes { buffer, start, .. } => buffer.len() - start,
            Inner::Moved(_) => 0,
        }
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Inner::Bytes { buffer, start, .. } => write!(f, "Payload({} bytes)", buffer.len() - start),
            Inner::Moved(_) => f.write_str("Payload(moved)"),
        }
    }
}

impl Serialize for Payload {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut encoded = Vec::new();
        match &self.0 {
            Inner::Bytes { buffer, start, .. } => serializer.serialize_bytes(&buffer[*start..]),
            Inner::Moved(value) => match (**value).encode(Codec::default(), &mut encoded) {
                Ok(()) => serializer.serialize_bytes(&encoded),
                Err(error) => Err(serde::ser::Error::custom(error)),
            },
        }
    }
}

impl<'de> Deserialize<'de> for Payload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Payload, D::Error> {
        Bytes::deserialize(deserializer).map(|bytes| Payload::from_bytes(bytes.into_vec()))
    }
}

/// The bytes of a value that the other side made, which is dropped here.
///
/// Over a wire its type would run at the side that made it, so that its panics are none of the code that
/// asks for the bytes. What a panic carries is forgotten: dropping it might panic again.
fn encode_moved(value: Box<dyn Movable>, codec: Codec) -> Result<Vec<u8>, CodecError> {
    let mut bytes = Vec::new();
    let encoded = catch_unwind(AssertUnwindSafe(|| (*value).encode(codec, &mut bytes)));
    let dropped = catch_unwind(AssertUnwindSafe(|| drop(value)));
    dropped.unwrap_or_else(forget);
    encoded.unwrap_or_else(|panic| {
        forget(panic);
        Err(CodecError::new("its type panicked while it was encoded"))
    })?;
    Ok(bytes)
}

/// `value` as the payload that it is, or back.
fn is_payload<T: 'static>(value: T) -> Result<Payload, T> {
    if TypeId::of::<T>() == TypeId::of::<Payload>() { Ok(downcast(value)) } else { Err(value) }
}

/// Turns a value into the same type under another name.
fn downcast<A: 'static, B: 'static>(value: A) -> B {
    let mut value = Some(value);
    let same = (&mut value as &mut dyn Any).downcast_mut::<Option<B>>();
    same.and_then(Option::take).expect("the callers have compared the types")
}

#[cfg(test)]
mod tests;
