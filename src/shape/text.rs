//! Shapes as text: once for people, once for comparing.

use std::fmt::Write;

use super::{ArmState, Kind, Leaf, Node};

/// For people: with the names of the types, and not endless.
pub(super) fn readable(node: &Node) -> String {
    let mut text = Text { out: String::new(), names: true };
    text.node(node);
    let mut out = text.out;
    if out.len() > LONGEST {
        let end = (0..=LONGEST).rev().find(|at| out.is_char_boundary(*at)).unwrap_or(0);
        out.truncate(end);
        out.push_str(" ..");
    }
    out
}

/// For comparing: without the names of types, which the wire does not know either.
pub(super) fn canonical(node: &Node) -> String {
    let mut text = Text { out: String::new(), names: false };
    text.node(node);
    text.out
}

struct Text {
    out: String,
    names: bool,
}

impl Text {
    fn push(&mut self, text: &str) {
        self.out.push_str(text);
    }

    fn name(&mut self, name: &str) {
        if self.names {
            self.push(name);
        }
    }

    fn node(&mut self, node: &Node) {
        match &node.kind {
            Kind::Unseen => self.push(".."),
            Kind::Opaque => self.push("?"),
            Kind::Again(name) if self.names => self.push(name),
            Kind::Again(_) => self.push("^"),
            Kind::Leaf(leaf) => self.push(leaf.text()),
            Kind::Option(inner) => {
                self.push("option<");
                self.node(inner);
                self.push(">");
            }
            Kind::Seq(inner) => {
                self.push("[");
                self.node(inner);
                self.push("]");
            }
            Kind::Map(both) => {
                self.push("map<");
                self.node(&both.0);
                self.push(", ");
                self.node(&both.1);
                self.push(">");
            }
            Kind::Newtype(name, inner) if self.names => {
                self.push(name);
                self.push("(");
                self.node(inner);
                self.push(")");
            }
            Kind::Newtype(_, inner) => self.node(inner),
            Kind::Tuple(name, nodes) => {
                self.name(name);
                self.tuple(nodes);
            }
            Kind::Struct(name, fields, nodes) => {
                self.name(name);
                self.fields(!name.is_empty() && self.names, fields, nodes);
            }
            Kind::Enum(name, variants, arms) => {
                self.push("enum ");
                self.name(name);
                self.push("{");
                for (index, (variant, arm)) in variants.iter().zip(arms).enumerate() {
                    self.push(if index == 0 { " " } else { " | " });
                    self.push(variant);
                    match &arm.content.kind {
                        Kind::Leaf(Leaf::Unit) => {}
                        Kind::Unseen if arm.state == ArmState::Dead => self.push("(..)"),
                        Kind::Tuple(..) => self.node(&arm.content),
                        _ => {
                            self.push(" ");
                            self.node(&arm.content);
                        }
                    }
                }
                self.push(" }");
            }
        }
    }

    /// Equal neighbors are counted.
    fn tuple(&mut self, nodes: &[Node]) {
        let mut parts: Vec<(String, usize)> = Vec::new();
        for node in nodes {
            let mut text = Text { out: String::new(), names: self.names };
            text.node(node);
            match parts.last_mut() {
                Some((last, n)) if *last == text.out => *n += 1,
                _ => parts.push((text.out, 1)),
            }
        }
        self.push("(");
        for (index, (part, n)) in parts.iter().enumerate() {
            self.push(if index == 0 { "" } else { ", " });
            self.push(part);
            if *n > 1 {
                // Writing to a text cannot fail.
                let _ = write!(self.out, "; {n}");
            }
        }
        self.push(")");
    }

    fn fields(&mut self, space: bool, fields: &[&str], nodes: &[Node]) {
        self.push(if space { " {" } else { "{" });
        for (index, (field, node)) in fields.iter().zip(nodes).enumerate() {
            self.push(if index == 0 { " " } else { ", " });
            self.push(field);
            self.push(": ");
            self.node(node);
        }
        self.push(" }");
    }
}

impl Leaf {
    fn text(self) -> &'static str {
        match self {
            Leaf::Bool => "bool",
            Leaf::I8 => "i8",
            Leaf::I16 => "i16",
            Leaf::I32 => "i32",
            Leaf::I64 => "i64",
            Leaf::I128 => "i128",
            Leaf::U8 => "u8",
            Leaf::U16 => "u16",
            Leaf::U32 => "u32",
            Leaf::U64 => "u64",
            Leaf::U128 => "u128",
            Leaf::F32 => "f32",
            Leaf::F64 => "f64",
            Leaf::Char => "char",
            Leaf::Text => "text",
            Leaf::Bytes => "bytes",
            Leaf::Unit => "()",
        }
    }
}

/// How long a readable shape is at most, in bytes.
const LONGEST: usize = 1500;
