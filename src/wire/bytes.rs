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
/// In a format for people, as [JSON](crate::Codec::Json) is, it is a text in base64, with padding; the array of
/// numbers that a `Vec<u8>` is there is taken as well.
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
        if serializer.is_human_readable() {
            return serializer.serialize_str(&base64::text_of(&self.0));
        }
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        if deserializer.is_human_readable() {
            return deserializer.deserialize_any(Block).map(Bytes);
        }
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

    fn visit_str<E: Error>(self, text: &str) -> Result<Vec<u8>, E> {
        base64::bytes_of(text).ok_or_else(|| E::custom("a text is no base64"))
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

/// Bytes as text: RFC 4648, section 4.
pub(super) mod base64 {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    pub(crate) fn text_of(bytes: &[u8]) -> String {
        let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
        for three in bytes.chunks(3) {
            let at = |index: usize| u32::from(three.get(index).copied().unwrap_or(0));
            let bits = at(0) << 16 | at(1) << 8 | at(2);
            for digit in 0..4 {
                let value = (bits >> (18 - 6 * digit) & 63) as usize;
                text.push(if digit <= three.len() { char::from(DIGITS[value]) } else { '=' });
            }
        }
        text
    }

    /// The bytes, if it is the one text that they have.
    pub(crate) fn bytes_of(text: &str) -> Option<Vec<u8>> {
        let text = text.as_bytes();
        let padding = text.iter().rev().take_while(|digit| **digit == b'=').count();
        if !text.len().is_multiple_of(4) || padding > 2 {
            return None;
        }
        let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
        let digits = &text[..text.len() - padding];
        for four in digits.chunks(4) {
            let mut bits = 0;
            for index in 0..4 {
                let value = match four.get(index) {
                    Some(digit) => value_of(*digit)?,
                    None => 0,
                };
                bits = bits << 6 | u32::from(value);
            }
            let [_, three @ ..] = bits.to_be_bytes();
            let (there, left) = three.split_at(four.len() - 1);
            if left.iter().any(|byte| *byte != 0) {
                return None;
            }
            bytes.extend_from_slice(there);
        }
        Some(bytes)
    }

    fn value_of(digit: u8) -> Option<u8> {
        match digit {
            b'A'..=b'Z' => Some(digit - b'A'),
            b'a'..=b'z' => Some(digit - b'a' + 26),
            b'0'..=b'9' => Some(digit - b'0' + 52),
            b'+' => Some(62),
            b'/' => Some(63),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::base64::{bytes_of, text_of};

    proptest! {
        #[test]
        fn bytes_survive_as_text(bytes in vec(any::<u8>(), 0..40)) {
            prop_assert_eq!(bytes_of(&text_of(&bytes)), Some(bytes));
        }

        #[test]
        fn a_text_that_is_taken_is_the_one_of_its_bytes(text in "[A-D/+=a]{0,8}") {
            if let Some(bytes) = bytes_of(&text) {
                prop_assert_eq!(text_of(&bytes), text);
            }
        }
    }

    #[test]
    fn the_texts_are_those_of_the_rfc() {
        let texts = ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"];
        for (len, text) in texts.into_iter().enumerate() {
            assert_eq!(text_of(&b"foobar"[..len]), text);
        }
    }
}
