//! A deserializer that has no data: it gives each type what it asks for, and notes what that was.

use std::{
    any::type_name,
    cell::{Cell, RefCell},
    fmt,
};

use serde::{
    Deserializer,
    de::{
        DeserializeSeed, EnumAccess, Error, IntoDeserializer, MapAccess, SeqAccess, VariantAccess, Visitor,
        value::U32Deserializer,
    },
};

use super::{Arm, ArmState, Kind, Leaf, Node};

/// What all looks at one type have in common.
#[derive(Debug)]
pub(super) struct Limits {
    /// How many questions are still answered, in all looks together.
    questions: Cell<usize>,
    looks: Cell<usize>,
    /// How deep it is.
    depth: Cell<usize>,
    /// The types with a name that the current place lies in.
    within: RefCell<Vec<&'static str>>,
    why: Cell<Why>,
}

/// Why a look has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    /// The type itself did not like what it got.
    Theirs,
    /// Something was changed: it is worth another look.
    Changed,
    /// No value of this part can be made.
    Hopeless,
}

/// One place in a type.
pub(super) struct Probe<'a> {
    node: &'a mut Node,
    limits: &'a Limits,
}

/// Ends a look. Why is written down elsewhere, since types make errors of their own, and hide ours.
#[derive(Debug)]
pub(super) struct Stop;

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("there is no data")
    }
}

impl std::error::Error for Stop {}

impl Error for Stop {
    fn custom<T: fmt::Display>(_: T) -> Stop {
        Stop
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            questions: Cell::new(QUESTIONS),
            looks: Cell::new(LOOKS),
            depth: Cell::new(0),
            within: RefCell::default(),
            why: Cell::new(Why::Theirs),
        }
    }
}

impl Limits {
    /// Begins another look, if there have not been too many.
    pub(super) fn look_again(&self) -> bool {
        self.why.set(Why::Theirs);
        self.depth.set(0);
        self.within.borrow_mut().clear();
        let left = self.looks.get();
        self.looks.set(left.saturating_sub(1));
        left > 0 && self.questions.get() > 0
    }

    /// Whether another look may show more, after one that failed at `node`.
    pub(super) fn settle(&self, node: &mut Node) -> bool {
        self.blame(node);
        self.why.get() == Why::Changed
    }

    /// There is no more. Who asks for ever is told so only for so long.
    fn no_more<T>(&self) -> Result<Option<T>, Stop> {
        match self.questions.get() {
            0 => Err(self.stop(Why::Hopeless)),
            left => {
                self.questions.set(left - 1);
                Ok(None)
            }
        }
    }

    fn stop(&self, why: Why) -> Stop {
        self.why.set(why);
        Stop
    }

    /// A value was made of `node` and not liked by whoever asked for it.
    fn blame(&self, node: &mut Node) {
        if self.why.get() == Why::Theirs {
            self.why.set(if node.try_another() { Why::Changed } else { Why::Hopeless });
        }
    }

    /// What came of a part that may be left out: if it cannot be made it will be. `leave_out` says so.
    fn leave_out(&self, leave_out: &mut bool) {
        if self.why.get() == Why::Hopeless {
            *leave_out = true;
            self.why.set(Why::Changed);
        }
    }

    /// A success makes up for what failed on the way.
    fn noted<T>(&self, result: Result<T, Stop>) -> Result<T, Stop> {
        if result.is_ok() {
            self.why.set(Why::Theirs);
        }
        result
    }
}

impl<'a> Probe<'a> {
    pub(super) fn new(node: &'a mut Node, limits: &'a Limits) -> Probe<'a> {
        Probe { node, limits }
    }

    /// Counts a question, and goes one level down for the answer.
    fn descend<T>(self, answer: impl FnOnce(Probe<'a>) -> Result<T, Stop>) -> Result<T, Stop> {
        let limits = self.limits;
        let (left, depth) = (limits.questions.get(), limits.depth.get());
        if left == 0 || depth >= DEPTH {
            self.node.kind = Kind::Opaque;
            return Err(limits.stop(Why::Hopeless));
        }
        limits.questions.set(left - 1);
        limits.depth.set(depth + 1);
        let answered = answer(self);
        limits.depth.set(depth);
        limits.noted(answered)
    }

    /// The same for a type that has a name, and that may contain itself.
    fn descend_into<V, T>(
        self,
        name: &'static str,
        answer: impl FnOnce(Probe<'a>) -> Result<T, Stop>,
    ) -> Result<T, Stop> {
        let (limits, key) = (self.limits, type_name::<V>());
        if limits.within.borrow().contains(&key) {
            self.node.kind = Kind::Again(name);
            return Err(limits.stop(Why::Hopeless));
        }
        limits.within.borrow_mut().push(key);
        let answered = self.descend(answer);
        limits.within.borrow_mut().pop();
        answered
    }

    /// Offers a leaf one value after the other, a look each.
    fn leaf<T>(self, leaf: Leaf, offer: impl FnOnce(usize) -> Result<T, Stop>) -> Result<T, Stop> {
        self.descend(|Probe { node, limits }| {
            node.kind = Kind::Leaf(leaf);
            let taken = offer(node.tries.min(leaf.n_values() - 1));
            if taken.is_err() {
                limits.blame(node);
            }
            taken
        })
    }

    fn opaque<T>(self) -> Result<T, Stop> {
        self.node.kind = Kind::Opaque;
        Err(self.limits.stop(Why::Hopeless))
    }

    /// The parts of a tuple or a struct, each once.
    fn parts<'de, V: Visitor<'de>>(
        nodes: &mut [Node],
        limits: &Limits,
        visitor: V,
    ) -> Result<V::Value, Stop> {
        let seen = visitor.visit_seq(Parts { nodes: nodes.iter_mut(), limits });
        // It has got all that there is, and does not like the whole.
        seen.inspect_err(|_| {
            if limits.why.get() == Why::Theirs {
                limits.why.set(Why::Hopeless);
            }
        })
    }
}

impl Leaf {
    /// How many values are worth a try.
    pub(super) fn n_values(self) -> usize {
        match self {
            Leaf::Bool => 2,
            Leaf::Text => TEXTS.len(),
            Leaf::Bytes => LENGTHS.len(),
            Leaf::Unit => 1,
            _ => 3,
        }
    }
}

macro_rules! numbers {
    ($($method:ident $visit:ident $leaf:ident $kind:ty,)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
            self.leaf(Leaf::$leaf, |n| visitor.$visit(n as $kind))
        })*
    };
}

impl<'de> Deserializer<'de> for Probe<'_> {
    type Error = Stop;

    numbers! {
        deserialize_i8 visit_i8 I8 i8,
        deserialize_i16 visit_i16 I16 i16,
        deserialize_i32 visit_i32 I32 i32,
        deserialize_i64 visit_i64 I64 i64,
        deserialize_i128 visit_i128 I128 i128,
        deserialize_u8 visit_u8 U8 u8,
        deserialize_u16 visit_u16 U16 u16,
        deserialize_u32 visit_u32 U32 u32,
        deserialize_u64 visit_u64 U64 u64,
        deserialize_u128 visit_u128 U128 u128,
        deserialize_f32 visit_f32 F32 f32,
        deserialize_f64 visit_f64 F64 f64,
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.leaf(Leaf::Bool, |n| visitor.visit_bool(n == 1))
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.leaf(Leaf::Char, |n| visitor.visit_char(['a', '0', '/'][n]))
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.leaf(Leaf::Text, |n| visitor.visit_str(TEXTS[n]))
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.leaf(Leaf::Text, |n| visitor.visit_string(TEXTS[n].to_owned()))
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.leaf(Leaf::Bytes, |n| visitor.visit_bytes(&vec![0; LENGTHS[n]]))
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.leaf(Leaf::Bytes, |n| visitor.visit_byte_buf(vec![0; LENGTHS[n]]))
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.leaf(Leaf::Unit, |_| visitor.visit_unit())
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Stop> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Stop> {
        self.opaque()
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Stop> {
        self.opaque()
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Stop> {
        self.opaque()
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.descend(|Probe { node, limits }| {
            if !matches!(node.kind, Kind::Option(_)) {
                node.kind = Kind::Option(Box::default());
            }
            let Kind::Option(inner) = &mut node.kind else { return Err(limits.stop(Why::Hopeless)) };
            if node.closed {
                return visitor.visit_none();
            }
            let taken = visitor.visit_some(Probe::new(inner, limits));
            taken.inspect_err(|_| {
                limits.blame(inner);
                limits.leave_out(&mut node.closed);
            })
        })
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.descend(|Probe { node, limits }| {
            if !matches!(node.kind, Kind::Seq(_)) {
                node.kind = Kind::Seq(Box::default());
            }
            let Kind::Seq(inner) = &mut node.kind else { return Err(limits.stop(Why::Hopeless)) };
            let left = if node.closed { 0 } else { COUNTS[node.tries.min(COUNTS.len() - 1)] };
            let taken = visitor.visit_seq(Same { node: inner, left, limits, closed: &mut node.closed });
            taken.inspect_err(|_| another_count(limits, &mut node.tries, node.closed))
        })
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.descend(|Probe { node, limits }| {
            if !matches!(node.kind, Kind::Map(_)) {
                node.kind = Kind::Map(Box::default());
            }
            let Kind::Map(inner) = &mut node.kind else { return Err(limits.stop(Why::Hopeless)) };
            let left = if node.closed { 0 } else { COUNTS[node.tries.min(COUNTS.len() - 1)] };
            let taken = visitor.visit_map(Pairs { nodes: inner, left, limits, closed: &mut node.closed });
            taken.inspect_err(|_| another_count(limits, &mut node.tries, node.closed))
        })
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Stop> {
        self.descend(|Probe { node, limits }| Probe::parts(node.tuple("", len), limits, visitor))
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Stop> {
        self.descend_into::<V, _>(name, |Probe { node, limits }| {
            Probe::parts(node.tuple(name, len), limits, visitor)
        })
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Stop> {
        self.descend_into::<V, _>(name, |Probe { node, limits }| {
            if !matches!(node.kind, Kind::Newtype(..)) {
                node.kind = Kind::Newtype(name, Box::default());
            }
            let Kind::Newtype(_, inner) = &mut node.kind else { return Err(limits.stop(Why::Hopeless)) };
            let taken = visitor.visit_newtype_struct(Probe::new(inner, limits));
            taken.inspect_err(|_| limits.blame(inner))
        })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Stop> {
        self.descend_into::<V, _>(name, |Probe { node, limits }| {
            Probe::parts(node.fields(name, fields), limits, visitor)
        })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Stop> {
        self.descend_into::<V, _>(name, |Probe { node, limits }| {
            if !matches!(node.kind, Kind::Enum(..)) {
                let arms = variants.iter().map(|_| Arm::default()).collect();
                node.kind = Kind::Enum(name, variants, arms);
            }
            let Kind::Enum(_, _, arms) = &mut node.kind else { return Err(limits.stop(Why::Hopeless)) };
            let with = |state| arms.iter().position(|arm: &Arm| arm.state == state);
            // One that is seen already serves to make a value, so that others can be looked at.
            let Some(index) = with(ArmState::Open).or_else(|| with(ArmState::Seen)) else {
                return Err(limits.stop(Why::Hopeless));
            };
            let arm = &mut arms[index];
            let taken = visitor.visit_enum(Variant { node: &mut arm.content, index, limits });
            match &taken {
                Ok(_) if !arm.content.is_open() => arm.state = ArmState::Seen,
                Ok(_) => {}
                Err(_) => {
                    limits.blame(&mut arm.content);
                    let mut dead = false;
                    limits.leave_out(&mut dead);
                    if dead {
                        arm.state = ArmState::Dead;
                    }
                }
            }
            taken
        })
    }

    fn is_human_readable(&self) -> bool {
        // As the codec.
        false
    }
}

impl Node {
    fn tuple(&mut self, name: &'static str, len: usize) -> &mut [Node] {
        if !matches!(&self.kind, Kind::Tuple(_, nodes) if nodes.len() == len.min(MOST_PARTS)) {
            self.kind = Kind::Tuple(name, (0..len.min(MOST_PARTS)).map(|_| Node::default()).collect());
        }
        match &mut self.kind {
            Kind::Tuple(_, nodes) => nodes,
            _ => &mut [],
        }
    }

    fn fields(&mut self, name: &'static str, fields: &'static [&'static str]) -> &mut [Node] {
        if !matches!(self.kind, Kind::Struct(..)) {
            self.kind = Kind::Struct(name, fields, fields.iter().map(|_| Node::default()).collect());
        }
        match &mut self.kind {
            Kind::Struct(_, _, nodes) => nodes,
            _ => &mut [],
        }
    }
}

/// The type did not like so many elements, or the whole of them.
fn another_count(limits: &Limits, tries: &mut usize, closed: bool) {
    if limits.why.get() != Why::Theirs {
        return;
    }
    *tries += 1;
    let more = !closed && *tries < COUNTS.len();
    limits.why.set(if more { Why::Changed } else { Why::Hopeless });
}

struct Parts<'a> {
    nodes: std::slice::IterMut<'a, Node>,
    limits: &'a Limits,
}

impl<'de> SeqAccess<'de> for Parts<'_> {
    type Error = Stop;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Stop> {
        let Some(node) = self.nodes.next() else { return self.limits.no_more() };
        let made = seed.deserialize(Probe::new(node, self.limits));
        made.map(Some).inspect_err(|_| self.limits.blame(node))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.nodes.len())
    }
}

/// Elements of one type.
struct Same<'a> {
    node: &'a mut Node,
    left: usize,
    limits: &'a Limits,
    closed: &'a mut bool,
}

impl<'de> SeqAccess<'de> for Same<'_> {
    type Error = Stop;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Stop> {
        if self.left == 0 {
            return self.limits.no_more();
        }
        self.left -= 1;
        let made = seed.deserialize(Probe::new(self.node, self.limits));
        made.map(Some).inspect_err(|_| {
            self.limits.blame(self.node);
            self.limits.leave_out(self.closed);
        })
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left)
    }
}

/// Keys of one type, and values of one type.
struct Pairs<'a> {
    nodes: &'a mut (Node, Node),
    left: usize,
    limits: &'a Limits,
    closed: &'a mut bool,
}

impl<'de> MapAccess<'de> for Pairs<'_> {
    type Error = Stop;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Stop> {
        if self.left == 0 {
            return self.limits.no_more();
        }
        self.left -= 1;
        let made = seed.deserialize(Probe::new(&mut self.nodes.0, self.limits));
        made.map(Some).inspect_err(|_| {
            self.limits.blame(&mut self.nodes.0);
            self.limits.leave_out(self.closed);
        })
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Stop> {
        let made = seed.deserialize(Probe::new(&mut self.nodes.1, self.limits));
        made.inspect_err(|_| {
            self.limits.blame(&mut self.nodes.1);
            self.limits.leave_out(self.closed);
        })
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left)
    }
}

/// One variant of an enum.
struct Variant<'a> {
    node: &'a mut Node,
    index: usize,
    limits: &'a Limits,
}

impl<'a, 'de> EnumAccess<'de> for Variant<'a> {
    type Error = Stop;
    type Variant = Probe<'a>;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Probe<'a>), Stop> {
        let index: U32Deserializer<Stop> = u32::try_from(self.index).unwrap_or(u32::MAX).into_deserializer();
        let variant = seed.deserialize(index)?;
        Ok((variant, Probe::new(self.node, self.limits)))
    }
}

impl<'de> VariantAccess<'de> for Probe<'_> {
    type Error = Stop;

    fn unit_variant(self) -> Result<(), Stop> {
        self.node.kind = Kind::Leaf(Leaf::Unit);
        Ok(())
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Stop> {
        let Probe { node, limits } = self;
        let [inner] = node.tuple("", 1) else { return Err(limits.stop(Why::Hopeless)) };
        let made = seed.deserialize(Probe::new(inner, limits));
        made.inspect_err(|_| limits.blame(inner))
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Stop> {
        Probe::parts(self.node.tuple("", len), self.limits, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Stop> {
        Probe::parts(self.node.fields("", fields), self.limits, visitor)
    }
}

/// How many questions of a type are answered.
const QUESTIONS: usize = 20_000;
/// How often a type is looked at.
const LOOKS: usize = 1000;
/// How deep.
const DEPTH: usize = 64;
/// How many parts of a tuple are looked at.
const MOST_PARTS: usize = 256;
/// How many elements a sequence has, one look after the other.
const COUNTS: [usize; 5] = [1, 0, 2, 3, 4];
/// How many bytes, likewise.
const LENGTHS: [usize; 6] = [0, 1, 4, 8, 16, 32];
/// Texts that types which are particular about them may like.
const TEXTS: [&str; 10] = [
    "",
    "a",
    "0",
    "1.0.0",
    "127.0.0.1",
    "127.0.0.1:80",
    "2000-01-01",
    "2000-01-01T00:00:00Z",
    "00000000-0000-4000-8000-000000000000",
    "http://a/",
];
