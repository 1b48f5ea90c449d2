//! Bytes that the codec takes as one block.

use std::{
    fmt,
    ops::{Deref, DerefMut},
};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error, SeqAccess, Visitor},
};

use crate::os::make_room_for;

/// A byte buffer as an argument, as a result, or as a part of them, which is copied as one block.
///
/// A `Vec<u8>` is a list like any other to serde: it is encoded and decoded element by element, which for a
/// large one takes some fifty times as long. On the wire the two are the same, so that one side may have the one
/// and the other side the other. As the *whole* argument or result a [`Payload`](crate::Payload) is cheaper
/// still: no codec touches it, and its buffer is sent from where it lies.
///
/// It is a `Vec<u8>` in all other respects.
///
/// ```
/// use nape::{Api, Bytes, Context, Fault, Head};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Image {
///     width: u32,
///     pixels: Bytes,
/// }
///
/// let invert = |_: &Context, mut image: Image| {
///     image.pixels.iter_mut().for_each(|pixel| *pixel = !*pixel);
///     Ok::<_, Fault>(image)
/// };
/// let (head, neck) = Head::in_process()?;
/// let _neck = neck.serve(Api::new("image").handle("invert", invert)?)?.start();
///
/// let image = Image { width: 2, pixels: vec![0, 1, 2, 3].into() };
/// let image: Image = head.api("image").action("invert", image).call()?;
/// assert_eq!((image.width, image.pixels.into_vec()), (2, vec![255, 254, 253, 252]));
/// # Ok::<(), nape::Error>(())
/// ```
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(Vec<u8>);

impl Bytes {
    /// These bytes.
    pub const fn new(bytes: Vec<u8>) -> Bytes {
        Bytes(bytes)
    }

    /// The bytes, without a copy.
    pub fn into_vec(self) -> Vec<u8> {
        self.0
    }
}

impl Deref for Bytes {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.0
    }
}

impl DerefMut for Bytes {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Bytes {
        Bytes(bytes)
    }
}

impl From<&[u8]> for Bytes {
    fn from(bytes: &[u8]) -> Bytes {
        Bytes(bytes.to_vec())
    }
}

impl From<Bytes> for Vec<u8> {
    fn from(bytes: Bytes) -> Vec<u8> {
        bytes.0
    }
}

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Bytes {
    /// Says how many there are: nobody wants to read them all in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bytes({})", self.0.len())
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        deserializer.deserialize_byte_buf(Block).map(Bytes)
    }
}

/// Takes bytes as one block, wherever a format has them so.
struct Block;

impl<'de> Visitor<'de> for Block {
    type Value = Vec<u8>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bytes")
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
        let mut block = Vec::new();
        make_room_for(&mut block, bytes.len());
        block.extend_from_slice(bytes);
        Ok(block)
    }

    fn visit_byte_buf<E: Error>(self, bytes: Vec<u8>) -> Result<Vec<u8>, E> {
        Ok(bytes)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<u8>, A::Error> {
        // Without room for what a peer announces: some format may not have it.
        let mut bytes = Vec::new();
        while let Some(byte) = list.next_element()? {
            bytes.push(byte);
        }
        Ok(bytes)
    }
}
