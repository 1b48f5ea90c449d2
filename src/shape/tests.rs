//! Shapes of ordinary types, of those that contain themselves, and of odd ones.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, SocketAddr},
    num::NonZeroU32,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Deserializer, de::Error};

use super::Shape;

fn text<T: serde::de::DeserializeOwned>() -> String {
    Shape::of::<T>().text
}

fn number<T: serde::de::DeserializeOwned>() -> u64 {
    Shape::of::<T>().number
}

#[derive(Deserialize)]
#[allow(dead_code)]
struct Thumb {
    width: u32,
    name: String,
    data: Vec<u8>,
    kind: Kind,
    other: Option<Kind>,
}

#[derive(Deserialize)]
#[allow(dead_code)]
enum Kind {
    Small,
    Large(u64),
    Both(u8, Inner),
    Named { at: (i8, i8), unit: () },
}

#[derive(Deserialize)]
#[allow(dead_code)]
enum Inner {
    One,
    Two(char),
}

#[derive(Deserialize)]
#[allow(dead_code)]
struct Id(u64);

#[test]
fn names_fields_and_variants_are_seen() {
    let kind = "enum Kind{ Small | Large(u64) | Both(u8, enum Inner{ One | Two(char) }) \
                | Named { at: (i8; 2), unit: () } }";
    assert_eq!(text::<Kind>(), kind);
    let thumb =
        format!("Thumb {{ width: u32, name: text, data: [u8], kind: {kind}, other: option<{kind}> }}");
    assert_eq!(text::<Thumb>(), thumb);
    assert_eq!(text::<(Id, [u8; 16], Duration)>(), "(Id(u64), (u8; 16), Duration { secs: u64, nanos: u32 })");
    assert_eq!(text::<BTreeMap<String, Vec<f32>>>(), "map<text, [f32]>");
    assert_eq!(text::<HashMap<Inner2, bool>>(), "map<enum Inner2{ A | B }, bool>");
    assert_eq!(text::<()>(), "()");
    assert_eq!(text::<Result<u8, String>>(), "enum Result{ Ok(u8) | Err(text) }");
    assert_eq!(text::<(PathBuf, Box<str>, char, i128)>(), "(text; 2, char, i128)");
}

#[derive(Deserialize, PartialEq, Eq, Hash)]
enum Inner2 {
    A,
    B,
}

#[test]
fn what_the_standard_library_is_particular_about_is_seen_too() {
    assert_eq!(text::<(NonZeroU32, u8)>(), "(u32, u8)");
    assert!(text::<SystemTime>().contains("nanos_since_epoch: u32"));
    assert_eq!(text::<(IpAddr, u8)>(), "(enum IpAddr{ V4((u8; 4)) | V6((u8; 16)) }, u8)");
    assert!(text::<SocketAddr>().contains("V6((((u8; 16)), u16))") || text::<SocketAddr>().contains("V6("));
    assert_eq!(text::<(std::ops::Range<u8>, u8)>(), "(Range { start: u8, end: u8 }, u8)");
}

#[derive(Deserialize)]
#[allow(dead_code)]
struct Tree {
    name: String,
    children: Vec<Tree>,
    parent: Option<Box<Tree>>,
}

#[derive(Deserialize)]
#[allow(dead_code)]
enum Term {
    Sum(Box<Term>, Box<Term>),
    Not { of: Box<Term> },
    Number(i64),
    List(Vec<Term>),
}

#[derive(Deserialize)]
#[allow(dead_code)]
struct Endless(Box<Endless>);

#[test]
fn what_contains_itself_comes_to_an_end() {
    assert_eq!(text::<Tree>(), "Tree { name: text, children: [Tree], parent: option<Tree> }");
    let term = text::<Term>();
    assert_eq!(term, "enum Term{ Sum(Term, ..) | Not { of: Term } | Number(i64) | List([Term]) }");
    assert_eq!(text::<(Term, u8)>(), format!("({term}, u8)"), "and what comes behind it is seen");
    assert_eq!(text::<Endless>(), "Endless(Endless)");
    assert_eq!(text::<Vec<Endless>>(), "[Endless(Endless)]");
}

struct Untagged;

impl<'de> Deserialize<'de> for Untagged {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Untagged, D::Error> {
        deserializer.deserialize_any(serde::de::IgnoredAny).map(|_| Untagged)
    }
}

struct Picky;

impl<'de> Deserialize<'de> for Picky {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Picky, D::Error> {
        match &*String::deserialize(deserializer)? {
            "127.0.0.1" => Ok(Picky),
            other => Err(D::Error::custom(other)),
        }
    }
}

struct Never;

impl<'de> Deserialize<'de> for Never {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Never, D::Error> {
        u8::deserialize(deserializer)?;
        Err(D::Error::custom("nothing is good enough"))
    }
}

struct Panics;

impl<'de> Deserialize<'de> for Panics {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Panics, D::Error> {
        u8::deserialize(deserializer)?;
        panic!("not today");
    }
}

struct Greedy;

impl<'de> Deserialize<'de> for Greedy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Greedy, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Greedy;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("more")
            }
            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut all: A) -> Result<Greedy, A::Error> {
                while all.next_element::<Greedy>().is_ok() {}
                Err(A::Error::custom("more"))
            }
        }
        deserializer.deserialize_seq(Visitor)
    }
}

#[test]
fn odd_types_are_opaque_and_hurt_nobody() {
    assert_eq!(text::<Untagged>(), "?");
    assert_eq!(text::<(u8, Option<Untagged>, u16)>(), "(u8, option<?>, u16)");
    assert_eq!(text::<(Picky, u16)>(), "(text, u16)");
    assert_eq!(text::<(Never, u16)>(), "(u8, ..)");
    assert_eq!(text::<(Vec<Never>, u16)>(), "([u8], u16)");
    assert_eq!(text::<(Panics, u16)>(), "(u8, ..)");
    text::<Wide<Wide<Wide<Wide<Wide<Wide<Wide<Kind>>>>>>>>();
}

/// It asks for the next element for as long as there is no error: that is for ever.
#[test]
fn one_that_never_stops_asking_is_stopped() {
    struct Asks;
    impl<'de> Deserialize<'de> for Asks {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Asks, D::Error> {
            Greedy::deserialize(deserializer).map(|_| Asks)
        }
    }
    assert!(text::<(Asks, u8)>().starts_with('('));
}

#[derive(Deserialize)]
#[allow(dead_code)]
struct Wide<T> {
    a: Vec<T>,
    b: Vec<T>,
    c: Vec<T>,
    d: Vec<T>,
}

#[test]
fn numbers_are_of_the_wire_and_not_of_the_names() {
    assert_eq!(number::<Id>(), number::<u64>());
    assert_eq!(number::<usize>(), number::<u64>());
    assert_eq!(number::<Box<str>>(), number::<String>());
    assert_eq!(number::<Vec<u8>>(), number::<std::collections::VecDeque<u8>>());
    assert_ne!(number::<u32>(), number::<u64>());
    assert_ne!(number::<(u8, u16)>(), number::<(u16, u8)>());
    assert_ne!(number::<Option<u8>>(), number::<u8>());
    assert_ne!(number::<[u8; 2]>(), number::<[u8; 3]>());
    assert_ne!(number::<Inner>(), number::<Inner2>());
    mod one {
        #[derive(serde::Deserialize)]
        #[allow(dead_code)]
        pub(super) struct Size {
            w: u8,
            h: u8,
        }
    }
    mod two {
        #[derive(serde::Deserialize)]
        #[allow(dead_code)]
        pub(super) struct Size {
            h: u8,
            w: u8,
        }
    }
    assert_ne!(number::<one::Size>(), number::<two::Size>(), "fields of one type have changed places");
    // It is written down for other programs.
    assert_eq!(super::number(b""), 0xcbf2_9ce4_8422_2325);
    assert_eq!(super::number(b"a"), 0xaf63_dc4c_8601_ec8c);
    assert_ne!(Shape::of_method::<u8, ()>(), Shape::of_method::<(), u8>());
}
