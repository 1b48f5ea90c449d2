//! What a type looks like on the wire, traced from its `Deserialize`: names, fields and variants.
//!
//! Knows types alone: no path, no link. A type that cannot be seen into is opaque, and never a panic or
//! an endless loop.

mod probe;
mod text;

use std::{
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind},
};

use serde::de::DeserializeOwned;

use probe::{Limits, Probe};

/// What some types look like, for people and for comparing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    /// The same number for the same shape, whatever the types are called; 0 for [`ANY_SHAPE`] alone.
    pub(crate) number: u64,
    /// For people to read.
    pub(crate) text: String,
}

/// What agrees with every shape.
pub(crate) static ANY_SHAPE: Shape = Shape { number: 0, text: String::new() };

thread_local! {
    /// Whether this thread traces the types of a method.
    static TRACING: Cell<bool> = const { Cell::new(false) };
}

impl Shape {
    /// Traces the types of a method; `None` if this thread is at it. A type that calls one while it is decoded would
    /// else be traced within itself, and so on without an end.
    pub(crate) fn traced(trace: impl FnOnce() -> Shape) -> Option<Shape> {
        struct Tracing;
        impl Drop for Tracing {
            fn drop(&mut self) {
                TRACING.set(false);
            }
        }
        let tracing = (!TRACING.replace(true)).then_some(Tracing)?;
        let shape = trace();
        drop(tracing);
        Some(shape)
    }

    /// The shape of one type.
    pub(crate) fn of<T: DeserializeOwned>() -> Shape {
        let node = trace::<T>();
        Shape::new(&text::canonical(&node), text::readable(&node))
    }

    /// The shape of a method that takes an `A` and gives a `T`.
    pub(crate) fn of_method<A: DeserializeOwned, T: DeserializeOwned>() -> Shape {
        Shape::of_parts(&[("", trace::<A>()), (" -> ", trace::<T>())])
    }

    /// The shape of a method that takes an `A` and gives a stream of `T`.
    pub(crate) fn of_stream<A: DeserializeOwned, T: DeserializeOwned>() -> Shape {
        Shape::of_parts(&[("", trace::<A>()), (" -> stream of ", trace::<T>())])
    }

    /// The shape of a method that takes an `A` and a stream of `T`, and gives an `R`.
    pub(crate) fn of_upload<A: DeserializeOwned, T: DeserializeOwned, R: DeserializeOwned>() -> Shape {
        Shape::of_parts(&[("", trace::<A>()), (", stream of ", trace::<T>()), (" -> ", trace::<R>())])
    }

    /// The shape of a method that takes an `A` and a stream of `U`, and gives a stream of `T` and an `R`.
    pub(crate) fn of_duplex<A, U, T, R>() -> Shape
    where
        A: DeserializeOwned,
        U: DeserializeOwned,
        T: DeserializeOwned,
        R: DeserializeOwned,
    {
        let (arguments, go, come) = (trace::<A>(), trace::<U>(), trace::<T>());
        let streams = [(", stream of ", go), (" -> stream of ", come), (" and ", trace::<R>())];
        Shape::of_parts(&[("", arguments)].into_iter().chain(streams).collect::<Vec<_>>())
    }

    /// Each with the words before it.
    fn of_parts(parts: &[(&str, Node)]) -> Shape {
        let join = |write: fn(&Node) -> String| -> String {
            parts.iter().map(|(before, node)| format!("{before}{}", write(node))).collect()
        };
        Shape::new(&join(text::canonical), join(text::readable))
    }

    fn new(canonical: &str, text: String) -> Shape {
        Shape { number: number(canonical.as_bytes()).max(1), text }
    }
}

/// FNV-1a of 64 bits, which other programs can compute as well.
fn number(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

/// A part of a type, as far as it has been seen.
#[derive(Debug, Default)]
struct Node {
    kind: Kind,
    /// How many values were offered to it and refused.
    tries: usize,
    /// What it contains cannot be made: it is left empty.
    closed: bool,
}

#[derive(Debug, Default)]
enum Kind {
    #[default]
    Unseen,
    /// It cannot be seen.
    Opaque,
    /// It contains itself, here.
    Again(&'static str),
    Leaf(Leaf),
    Option(Box<Node>),
    Seq(Box<Node>),
    Map(Box<(Node, Node)>),
    Tuple(&'static str, Vec<Node>),
    /// One value with a name, which on the wire is the value.
    Newtype(&'static str, Box<Node>),
    Struct(&'static str, &'static [&'static str], Vec<Node>),
    Enum(&'static str, &'static [&'static str], Vec<Arm>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaf {
    Bool,
    I8,
    I16,
    I32,
    I64,
    I128,
    U8,
    U16,
    U32,
    U64,
    U128,
    F32,
    F64,
    Char,
    Text,
    Bytes,
    Unit,
}

/// A variant.
#[derive(Debug, Default)]
struct Arm {
    content: Node,
    state: ArmState,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum ArmState {
    /// There is more to be seen.
    #[default]
    Open,
    Seen,
    /// No value of it can be made.
    Dead,
}

impl Node {
    /// Whether another look shows more.
    fn is_open(&self) -> bool {
        match &self.kind {
            Kind::Option(node) | Kind::Seq(node) | Kind::Newtype(_, node) => !self.closed && node.is_open(),
            Kind::Map(both) => !self.closed && (both.0.is_open() || both.1.is_open()),
            Kind::Tuple(_, nodes) | Kind::Struct(_, _, nodes) => nodes.iter().any(Node::is_open),
            Kind::Enum(_, _, arms) => arms.iter().any(|arm| arm.state == ArmState::Open),
            Kind::Unseen | Kind::Opaque | Kind::Again(_) | Kind::Leaf(_) => false,
        }
    }

    /// Has another value offered next time, to the first leaf in here that has one. `false` if none has.
    fn try_another(&mut self) -> bool {
        match &mut self.kind {
            Kind::Leaf(leaf) => {
                self.tries += 1;
                self.tries < leaf.n_values()
            }
            Kind::Option(node) | Kind::Seq(node) | Kind::Newtype(_, node) => node.try_another(),
            Kind::Map(both) => both.0.try_another() || both.1.try_another(),
            Kind::Tuple(_, nodes) | Kind::Struct(_, _, nodes) => nodes.iter_mut().any(Node::try_another),
            Kind::Enum(..) | Kind::Unseen | Kind::Opaque | Kind::Again(_) => false,
        }
    }
}

/// Looks at a type again and again, until there is nothing new.
fn trace<T: DeserializeOwned>() -> Node {
    let (mut root, limits) = (Node::default(), Limits::default());
    while limits.look_again() {
        let look = AssertUnwindSafe(|| T::deserialize(Probe::new(&mut root, &limits)).map(drop));
        let more = match catch_unwind(look) {
            Ok(Ok(())) => root.is_open(),
            Ok(Err(_)) => limits.settle(&mut root),
            // What has been seen so far stands.
            Err(panic) => {
                std::mem::forget(panic);
                false
            }
        };
        if !more {
            break;
        }
    }
    root
}

#[cfg(test)]
mod tests;
