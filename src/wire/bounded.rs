//! Bounds on what decoding may cost: a deserializer around a deserializer that counts.
//!
//! No serde format does this by itself. Ten bytes can announce 2^64 - 1 elements of no size, which is
//! a loop without an end; a value that nests in itself overflows the stack of whoever decodes it; and a
//! list of empty texts is 24 times as long in memory as on the wire. Knows no format: the format is the
//! deserializer inside. Nor does it know the user's type, but the types of what serde asks for have sizes.

use std::{cell::Cell, fmt};

use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error, MapAccess, SeqAccess, VariantAccess, Visitor,
};

/// What is left to one decoding.
pub(super) struct Bounds {
    levels: Cell<usize>,
    elements: Cell<usize>,
    /// How many bytes the value may still take outside of itself.
    bytes: Cell<usize>,
    /// How many bytes the values have that are being decoded, each for a place of its own.
    stack: Cell<usize>,
    /// The size of what was asked for last: whatever is larger has been put somewhere else, as in a box.
    place: Cell<usize>,
    /// How long the message is: more room than for so many elements is never made on its word.
    len: usize,
}

impl Bounds {
    /// The bounds for a value that stands in `len` bytes.
    ///
    /// An element that takes a byte has its own byte, so that no honest value has more of them than
    /// bytes; those of no size come on top.
    pub(super) fn new(len: usize) -> Bounds {
        Bounds {
            levels: Cell::new(MAX_DEPTH),
            elements: Cell::new(len.saturating_add(MAX_ELEMENTS_OF_NO_SIZE)),
            bytes: Cell::new(len.saturating_mul(EXPANSION).saturating_add(FREE)),
            stack: Cell::new(0),
            place: Cell::new(usize::MAX),
            len,
        }
    }

    /// Puts the bounds around a seed, which then decodes within them.
    pub(super) fn around<T>(&self, inner: T) -> Bounded<'_, T> {
        Bounded { inner, bounds: self }
    }

    /// One level deeper, in a value of type `T`, until the guard is dropped.
    fn enter<T, E: Error>(&self) -> Result<Level<'_>, E> {
        let deeper = self.levels.get().checked_sub(1);
        self.levels.set(deeper.ok_or_else(|| E::custom("it is nested deeper than 128 levels"))?);
        Ok(Level { bounds: self, _apart: self.open::<T, E>()? })
    }

    /// A value of type `T` is to be decoded into the place that was asked for last.
    fn open<T, E: Error>(&self) -> Result<Option<Apart<'_>>, E> {
        if size_of::<T>() <= self.place.get() {
            return Ok(None);
        }
        self.allocate(size_of::<T>(), 1)?;
        self.apart::<T, E>()
    }

    /// A value of type `T` is to be decoded that is no part of the one around it: what has a type of its own
    /// to nest in.
    fn apart<T, E: Error>(&self) -> Result<Option<Apart<'_>>, E> {
        let size = size_of::<T>();
        if size <= SMALL {
            return Ok(None);
        }
        let around = self.stack.get();
        // One that is large by itself is its author's choice. A peer's is how many are in each other.
        if around > ALONE && around + size > MAX_STACK {
            return Err(E::custom("it is nested deeper than the stack allows for values of its size"));
        }
        self.stack.set(around + size);
        Ok(Some(Apart { bounds: self, size }))
    }

    /// Counts what so many values of a size take.
    fn allocate<E: Error>(&self, size: usize, n: usize) -> Result<(), E> {
        let left = size.checked_mul(n).and_then(|bytes| self.bytes.get().checked_sub(bytes));
        self.bytes.set(left.ok_or_else(|| E::custom("it takes more than 16 times its bytes in memory"))?);
        Ok(())
    }

    /// Takes the elements of a whole sequence or map, before the first of them is decoded and before
    /// anything is allocated for them.
    ///
    /// A format that announces nothing has bytes for each of them.
    fn elements<A, E: Error>(&self, announced: Option<usize>, inner: A) -> Result<Elements<'_, A>, E> {
        let left = self.elements.get().checked_sub(announced.unwrap_or_default());
        self.elements.set(left.ok_or_else(|| E::custom("it announces more elements than its bytes hold"))?);
        Ok(Elements { inner, bounds: self, announced, uncounted: [announced.unwrap_or_default(); 2] })
    }
}

struct Level<'a> {
    bounds: &'a Bounds,
    _apart: Option<Apart<'a>>,
}

impl Drop for Level<'_> {
    fn drop(&mut self) {
        self.bounds.levels.set(self.bounds.levels.get() + 1);
    }
}

struct Apart<'a> {
    bounds: &'a Bounds,
    size: usize,
}

impl Drop for Apart<'_> {
    fn drop(&mut self) {
        self.bounds.stack.set(self.bounds.stack.get() - self.size);
    }
}

/// Any of serde's traits, within bounds: whatever it gives or takes is within them too.
pub(super) struct Bounded<'a, T> {
    inner: T,
    bounds: &'a Bounds,
}

/// A visitor of something of which the peer says how many elements it has.
struct Counted<'a, V>(Bounded<'a, V>);

/// The elements themselves. What they take is known, and counted, when the first one is asked for.
struct Elements<'a, A> {
    inner: A,
    bounds: &'a Bounds,
    /// `None` where a format does not announce them: then each is counted when it comes.
    announced: Option<usize>,
    /// The elements of a sequence, or the keys and the values of a map, which are not yet counted.
    uncounted: [usize; 2],
}

impl<'de, T: DeserializeSeed<'de>> DeserializeSeed<'de> for Bounded<'_, T> {
    type Value = T::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<T::Value, D::Error> {
        self.bounds.place.set(size_of::<T::Value>());
        self.inner.deserialize(self.bounds.around(deserializer))
    }
}

/// Hands these methods on as they are: nothing is nested in what they read.
macro_rules! plain {
    ($($method:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
            self.inner.$method(visitor)
        })*
    };
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Bounded<'_, D> {
    type Error = D::Error;

    plain! {
        deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64
        deserialize_i128 deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128
        deserialize_f32 deserialize_f64 deserialize_char deserialize_str deserialize_bytes
        deserialize_unit deserialize_identifier deserialize_ignored_any
    }

    // What may nest in itself without saying so: only a format that describes itself knows this one.
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        let _level = self.bounds.enter::<V::Value, D::Error>()?;
        self.inner.deserialize_any(Counted(self.bounds.around(visitor)))
    }

    // The owned forms would allocate the announced length before they look for the bytes; the borrowed
    // ones look first, and every visitor takes them.
    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_str(visitor)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_bytes(visitor)
    }

    // A type can nest in itself only through one of the next four, so that these alone are levels.
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        let _level = self.bounds.enter::<V::Value, D::Error>()?;
        self.inner.deserialize_option(self.bounds.around(visitor))
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        let _level = self.bounds.enter::<V::Value, D::Error>()?;
        self.inner.deserialize_seq(Counted(self.bounds.around(visitor)))
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        let _level = self.bounds.enter::<V::Value, D::Error>()?;
        self.inner.deserialize_map(Counted(self.bounds.around(visitor)))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let _level = self.bounds.enter::<V::Value, D::Error>()?;
        self.inner.deserialize_enum(name, variants, self.bounds.around(visitor))
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.inner.deserialize_unit_struct(name, visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let _level = self.bounds.open::<V::Value, D::Error>()?;
        self.inner.deserialize_newtype_struct(name, self.bounds.around(visitor))
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, D::Error> {
        let _level = self.bounds.open::<V::Value, D::Error>()?;
        self.inner.deserialize_tuple(len, self.bounds.around(visitor))
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let _level = self.bounds.open::<V::Value, D::Error>()?;
        self.inner.deserialize_tuple_struct(name, len, self.bounds.around(visitor))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let _level = self.bounds.open::<V::Value, D::Error>()?;
        self.inner.deserialize_struct(name, fields, self.bounds.around(visitor))
    }

    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Bounded<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.expecting(f)
    }

    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.inner.visit_none()
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<V::Value, D::Error> {
        self.bounds.place.set(size_of::<V::Value>());
        self.inner.visit_some(self.bounds.around(deserializer))
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<V::Value, D::Error> {
        self.bounds.place.set(size_of::<V::Value>());
        self.inner.visit_newtype_struct(self.bounds.around(deserializer))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<V::Value, A::Error> {
        self.inner.visit_seq(self.bounds.around(seq))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<V::Value, A::Error> {
        self.inner.visit_map(self.bounds.around(map))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, data: A) -> Result<V::Value, A::Error> {
        self.inner.visit_enum(self.bounds.around(data))
    }
}

/// Hands these on as they are: whatever a format that describes itself may find.
macro_rules! scalars {
    ($($method:ident($value:ty))*) => {
        $(fn $method<E: Error>(self, value: $value) -> Result<V::Value, E> {
            self.0.inner.$method(value)
        })*
    };
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Counted<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expecting(f)
    }

    scalars! {
        visit_bool(bool) visit_i64(i64) visit_i128(i128) visit_u64(u64) visit_u128(u128) visit_f64(f64)
        visit_char(char) visit_str(&str) visit_borrowed_str(&'de str) visit_string(String)
        visit_bytes(&[u8]) visit_borrowed_bytes(&'de [u8]) visit_byte_buf(Vec<u8>)
    }

    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.0.inner.visit_unit()
    }

    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.0.inner.visit_none()
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<V::Value, D::Error> {
        self.0.visit_some(deserializer)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<V::Value, D::Error> {
        self.0.visit_newtype_struct(deserializer)
    }

    fn visit_enum<A: EnumAccess<'de>>(self, data: A) -> Result<V::Value, A::Error> {
        self.0.visit_enum(data)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<V::Value, A::Error> {
        let elements = self.0.bounds.elements(seq.size_hint(), seq)?;
        self.0.inner.visit_seq(elements)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<V::Value, A::Error> {
        let elements = self.0.bounds.elements(map.size_hint(), map)?;
        self.0.inner.visit_map(elements)
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Bounded<'_, A> {
    type Error = A::Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, A::Error> {
        self.inner.next_element_seed(self.bounds.around(seed))
    }

    fn size_hint(&self) -> Option<usize> {
        self.inner.size_hint()
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Bounded<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        self.inner.next_key_seed(self.bounds.around(seed))
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, A::Error> {
        self.inner.next_value_seed(self.bounds.around(seed))
    }

    fn size_hint(&self) -> Option<usize> {
        self.inner.size_hint()
    }
}

impl<A> Elements<'_, A> {
    /// Counts all elements of type `T` when the first is asked for: the room for them may have been made already.
    fn count<T, E: Error>(&mut self, which: usize) -> Result<(), E> {
        let uncounted = if self.announced.is_some() { std::mem::take(&mut self.uncounted[which]) } else { 1 };
        match uncounted {
            0 => Ok(()),
            n => self.bounds.allocate(size_of::<T>(), n),
        }
    }

    /// For how many elements to make room before the first comes.
    fn expected(&self) -> Option<usize> {
        self.announced.map(|announced| announced.min(self.bounds.len))
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Elements<'_, A> {
    type Error = A::Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, A::Error> {
        self.count::<T::Value, A::Error>(0)?;
        let _apart = self.bounds.apart::<T::Value, A::Error>()?;
        self.inner.next_element_seed(self.bounds.around(seed))
    }

    fn size_hint(&self) -> Option<usize> {
        self.expected()
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Elements<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        self.count::<K::Value, A::Error>(0)?;
        let _apart = self.bounds.apart::<K::Value, A::Error>()?;
        self.inner.next_key_seed(self.bounds.around(seed))
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, A::Error> {
        self.count::<T::Value, A::Error>(1)?;
        let _apart = self.bounds.apart::<T::Value, A::Error>()?;
        self.inner.next_value_seed(self.bounds.around(seed))
    }

    fn size_hint(&self) -> Option<usize> {
        self.expected()
    }
}

impl<'a, 'de, A: EnumAccess<'de>> EnumAccess<'de> for Bounded<'a, A> {
    type Error = A::Error;
    type Variant = Bounded<'a, A::Variant>;

    fn variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<(T::Value, Self::Variant), A::Error> {
        let (value, variant) = self.inner.variant_seed(seed)?;
        Ok((value, self.bounds.around(variant)))
    }
}

impl<'de, A: VariantAccess<'de>> VariantAccess<'de> for Bounded<'_, A> {
    type Error = A::Error;

    fn unit_variant(self) -> Result<(), A::Error> {
        self.inner.unit_variant()
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, A::Error> {
        self.inner.newtype_variant_seed(self.bounds.around(seed))
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, A::Error> {
        self.inner.tuple_variant(len, self.bounds.around(visitor))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        self.inner.struct_variant(fields, self.bounds.around(visitor))
    }
}

/// How deep sequences, maps, options and enums may stand in each other.
const MAX_DEPTH: usize = 128;
/// How many elements may take no byte.
const MAX_ELEMENTS_OF_NO_SIZE: usize = 64 * 1024;
/// How many times its bytes on the wire a value may take in memory, not counting itself and what collections
/// reserve beside their elements.
const EXPANSION: usize = 16;
/// What it may take beyond that.
const FREE: usize = 64 * 1024;
/// How many bytes the values may have that stand in each other. Each has up to 16 copies on the stack while it is
/// decoded by a build without optimization, and the smallest stack for that is of 512 KiB.
const MAX_STACK: usize = 24 * 1024;
/// With less than this around it, a value may be as large as it is.
const ALONE: usize = 1024;
/// Up to this size a value costs no more stack than the levels around it.
const SMALL: usize = 64;
