//! Bytes as values of all sorts of types.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::wire::{Bytes, Codec, Payload};

/// Decodes the bytes behind the first one, which chooses the type.
///
/// # Panics
///
/// When a value that was decoded is another one once it was encoded again.
pub fn decode(data: &[u8]) {
    let Some((choice, bytes)) = data.split_first() else { return };
    match choice % 20 {
        0 => as_type::<Sample>(bytes),
        1 => as_type::<Vec<Shape>>(bytes),
        2 => as_type::<Chain>(bytes),
        3 => as_type::<Tree>(bytes),
        4 => as_type::<Maps>(bytes),
        5 => as_type::<Vec<Vec<()>>>(bytes),
        6 => as_type::<Vec<String>>(bytes),
        7 => as_type::<HashMap<String, Vec<()>>>(bytes),
        8 => as_type::<BTreeMap<u64, Option<Option<u8>>>>(bytes),
        9 => as_type::<(Duration, PathBuf, IpAddr)>(bytes),
        10 => as_type::<(u8, Bytes, u16)>(bytes),
        11 => as_type::<(Payload, i128, u128)>(bytes),
        12 => as_type::<Result<char, f64>>(bytes),
        13 => as_type::<Vec<(bool, char, i8, i16, i32, i64)>>(bytes),
        14 => as_type::<[Box<str>; 3]>(bytes),
        15 => as_type::<()>(bytes),
        16 => as_type::<Vec<[u64; 4]>>(bytes),
        17 => as_type::<SystemTime>(bytes),
        18 => as_type::<Option<Box<Sample>>>(bytes),
        _ => as_type::<HashMap<(), ()>>(bytes),
    }
}

fn as_type<T: Serialize + DeserializeOwned>(bytes: &[u8]) {
    let Some(again) = encoded_again::<T>(bytes) else { return };
    // Numbers may be written longer than they have to be, and sets in any order: the second time the length
    // at least is the same.
    let third = encoded_again::<T>(&again).expect("what was encoded decodes");
    assert_eq!(again.len(), third.len());
}

fn encoded_again<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Option<Vec<u8>> {
    let value = Codec::default().decode::<T>(bytes).ok()?;
    let mut again = Vec::new();
    Codec::default().encode(&value, &mut again).ok()?;
    Some(again)
}

#[derive(Serialize, Deserialize)]
enum Shape {
    Empty,
    Circle(f32),
    Box { width: u32, height: i128 },
    Pair(char, bool),
}

#[derive(Serialize, Deserialize)]
struct Sample {
    name: String,
    shapes: Vec<Shape>,
    nested: Vec<Vec<u8>>,
    maybe: Option<Box<Sample>>,
    table: BTreeMap<u64, String>,
    fixed: [i16; 3],
    nothing: (),
}

/// Recursive through an enum, a sequence and a map.
#[derive(Serialize, Deserialize)]
enum Chain {
    End,
    Next(Box<Chain>),
}

#[derive(Serialize, Deserialize)]
struct Tree(Vec<Tree>);

#[derive(Serialize, Deserialize)]
struct Maps(BTreeMap<u8, Maps>);
