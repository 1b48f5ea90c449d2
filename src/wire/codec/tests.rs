//! Values through the codec and back, and bytes that are no values.

mod bounds;
mod files;

use std::{
    collections::{BTreeMap, HashMap},
    fmt, thread,
    time::Duration,
};

use proptest::{collection::vec, prelude::*};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Visitor, ser::Error as _};

use super::{
    super::{Bytes as Block, Payload},
    *,
};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Shape {
    Empty,
    Circle(f64),
    Box { width: u32, height: i128 },
    Pair(char, bool),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Sample {
    name: String,
    shapes: Vec<Shape>,
    nested: Vec<Vec<u8>>,
    maybe: Option<Box<Sample>>,
    table: BTreeMap<u64, String>,
    fixed: [i16; 3],
}

/// Recursive through an enum, an option, a sequence and a map.
#[derive(Debug, Serialize, Deserialize)]
enum Chain {
    End,
    Next(Box<Chain>),
}

#[derive(Debug, Serialize, Deserialize)]
struct List(Option<Box<List>>);

#[derive(Debug, Serialize, Deserialize)]
struct Tree(Vec<Tree>);

#[derive(Debug, Serialize, Deserialize)]
struct Maps(BTreeMap<u8, Maps>);

fn shape() -> impl Strategy<Value = Shape> {
    prop_oneof![
        Just(Shape::Empty),
        any::<f64>().prop_filter("equality", |x| !x.is_nan()).prop_map(Shape::Circle),
        (any::<u32>(), any::<i128>()).prop_map(|(width, height)| Shape::Box { width, height }),
        (any::<char>(), any::<bool>()).prop_map(|(c, b)| Shape::Pair(c, b)),
    ]
}

fn sample() -> impl Strategy<Value = Sample> {
    let fields = (
        ".{0,9}",
        vec(shape(), 0..4),
        vec(vec(any::<u8>(), 0..5), 0..4),
        proptest::collection::btree_map(any::<u64>(), ".{0,3}", 0..3),
        any::<[i16; 3]>(),
    );
    let leaf = fields.prop_map(|(name, shapes, nested, table, fixed)| Sample {
        name,
        shapes,
        nested,
        maybe: None,
        table,
        fixed,
    });
    let leaf = leaf.boxed();
    (leaf.clone(), proptest::option::of(leaf))
        .prop_map(|(outer, inner)| Sample { maybe: inner.map(Box::new), ..outer })
}

fn encoded<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    Codec::Binary.encode(value, &mut bytes).expect("it encodes");
    bytes
}

fn decoded<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    Codec::Binary.decode(bytes)
}

#[track_caller]
fn refused<T: DeserializeOwned + fmt::Debug>(bytes: &[u8], why: &str) {
    let error = decoded::<T>(bytes).expect_err("it is refused");
    assert!(error.text().contains(why), "{error}");
}

/// What bincode writes for a length of `n`.
fn length(n: u64) -> Vec<u8> {
    encoded(&n)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_was_encoded_decodes(sample in sample()) {
        prop_assert_eq!(decoded::<Sample>(&encoded(&sample)).unwrap(), sample);
    }

    #[test]
    fn encoding_appends(before in vec(any::<u8>(), 0..9), text in ".*") {
        let mut out = before.clone();
        Codec::Binary.encode(&text, &mut out).unwrap();
        prop_assert_eq!(&out[..before.len()], &before[..]);
        prop_assert_eq!(&out[before.len()..], &encoded(&text)[..]);
    }

    #[test]
    fn ac_24_trailing_bytes_are_an_error(sample in sample(), more in vec(any::<u8>(), 1..5)) {
        let mut bytes = encoded(&sample);
        bytes.extend_from_slice(&more);
        let error = decoded::<Sample>(&bytes).expect_err("it is refused");
        prop_assert_eq!(error.text(), format!("{} bytes are left over", more.len()));
    }

    #[test]
    fn a_value_that_is_cut_off_is_an_error(sample in sample(), at in any::<prop::sample::Index>()) {
        let bytes = encoded(&sample);
        prop_assert!(decoded::<Sample>(&bytes[..at.index(bytes.len())]).is_err());
    }

    #[test]
    fn random_bytes_never_panic(bytes in vec(any::<u8>(), 0..200)) {
        let _ = decoded::<Sample>(&bytes);
        let _ = decoded::<Vec<Shape>>(&bytes);
        let _ = decoded::<HashMap<String, Vec<()>>>(&bytes);
        let _ = decoded::<(Chain, List, Tree, Maps)>(&bytes);
        let _ = decoded::<(Duration, std::path::PathBuf, std::net::IpAddr)>(&bytes);
        let _ = decoded::<Vec<Option<char>>>(&bytes);
    }
}

#[test]
fn d_37_a_length_without_data_is_refused() {
    for n in [1, 1 << 20, 1 << 30, u64::from(u32::MAX), u64::MAX] {
        refused::<Vec<u8>>(&length(n), "");
        refused::<Vec<u64>>(&length(n), "");
        refused::<Payload>(&length(n), "");
        refused::<HashMap<String, String>>(&length(n), "");
        refused::<String>(&length(n), &format!("{n} more are needed"));
    }
    refused::<Vec<u8>>(&length(u64::MAX), "more elements than its bytes hold");
}

/// Takes borrowed texts and bytes only: they show that nothing was allocated by an announced length,
/// since the owned forms allocate before they look for the bytes.
struct BorrowedOnly;

impl<'de> Visitor<'de> for BorrowedOnly {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("something borrowed")
    }

    fn visit_borrowed_str<E>(self, _: &'de str) -> Result<(), E> {
        Ok(())
    }

    fn visit_borrowed_bytes<E>(self, _: &'de [u8]) -> Result<(), E> {
        Ok(())
    }
}

#[derive(Debug)]
struct Text;

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Text, D::Error> {
        deserializer.deserialize_string(BorrowedOnly).map(|()| Text)
    }
}

#[derive(Debug)]
struct Bytes;

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        deserializer.deserialize_byte_buf(BorrowedOnly).map(|()| Bytes)
    }
}

#[test]
fn d_37_texts_and_bytes_are_borrowed_and_never_allocated_by_length() {
    decoded::<Vec<(Text, Bytes)>>(&encoded(&[("text", "bytes")][..])).unwrap();
    refused::<Bytes>(&length(1 << 40), "more are needed");
}

#[test]
fn d_38_elements_of_no_size_have_a_limit() {
    refused::<Vec<()>>(&length(u64::MAX), "more elements than its bytes hold");
    assert_eq!(decoded::<Vec<()>>(&length(60_000)).unwrap().len(), 60_000);
}

#[test]
fn d_39_nested_elements_of_no_size_share_one_limit() {
    let mut bytes = length(1 << 18);
    bytes.extend_from_slice(&length(1 << 23).repeat(1 << 16));
    refused::<Vec<Vec<()>>>(&bytes, "it ");
    let mut bytes = length(1 << 10);
    bytes.extend_from_slice(&length(1 << 10).repeat(1 << 10));
    refused::<Vec<Vec<()>>>(&bytes, "more elements than its bytes hold");
}

#[test]
fn many_small_elements_are_no_attack() {
    let pairs: Vec<(u8, Option<u8>)> = vec![(1, None); 300_000];
    assert_eq!(decoded::<Vec<(u8, Option<u8>)>>(&encoded(&pairs)).unwrap(), pairs);
    let nested = vec![vec![vec![7u8; 3]; 3]; 30_000];
    assert_eq!(decoded::<Vec<Vec<Vec<u8>>>>(&encoded(&nested)).unwrap(), nested);
}

/// Runs on a thread with a stack of 512 KiB.
fn on_a_small_stack(test: impl FnOnce() + Send + 'static) {
    thread::Builder::new().stack_size(512 * 1024).spawn(test).unwrap().join().unwrap();
}

#[test]
fn d_40_a_value_nested_a_million_deep_is_refused_on_a_small_stack() {
    on_a_small_stack(|| {
        let deep = vec![1; 1_000_000];
        refused::<Chain>(&deep, "deeper than 128");
        refused::<List>(&deep, "deeper than 128");
        refused::<Tree>(&deep, "deeper than 128");
        refused::<Maps>(&deep, "deeper than 128");
    });
}

#[test]
fn d_40_a_value_nested_as_deep_as_allowed_decodes_on_a_small_stack() {
    on_a_small_stack(|| {
        let nested = |depth: usize| [vec![1; depth - 1], vec![0]].concat();
        assert!(decoded::<Chain>(&nested(128)).is_ok());
        refused::<Chain>(&nested(129), "deeper than 128");
        assert!(decoded::<List>(&nested(128)).is_ok());
        refused::<List>(&nested(129), "deeper than 128");
        assert!(decoded::<Tree>(&nested(128)).is_ok());
        refused::<Tree>(&nested(129), "deeper than 128");
    });
}

#[test]
fn levels_beside_each_other_do_not_add_up() {
    let flat: Vec<Option<Option<u8>>> = vec![Some(Some(1)); 1000];
    assert_eq!(decoded::<Vec<Option<Option<u8>>>>(&encoded(&flat)).unwrap(), flat);
}

#[test]
fn d_41_an_integer_of_a_wrong_width_is_an_error() {
    refused::<u64>(&[0xff; 11], "wider than its type");
    refused::<u16>(&[252, 1, 0, 0, 0], "wider than its type");
    refused::<u8>(&[251, 1, 0], "left over");
}

#[test]
fn d_41_an_overlong_integer_is_read_as_what_it_says() {
    assert_eq!(decoded::<u64>(&[251, 5, 0]).unwrap(), 5);
    assert_eq!(decoded::<u64>(&[253, 5, 0, 0, 0, 0, 0, 0, 0]).unwrap(), 5);
}

#[test]
fn d_42_wrong_tags_are_errors() {
    refused::<bool>(&[2], "2 is no bool");
    refused::<Option<u8>>(&[2, 0], "2 is no tag of an option");
    // The three bytes that UTF-8 would have for U+D800.
    refused::<char>(&[0xed, 0xa0, 0x80], "no Unicode scalar");
    refused::<char>(&[0xff], "no Unicode scalar");
    refused::<Shape>(&encoded(&999u32), "999");
    refused::<Shape>(&[4], "4");
}

#[test]
fn d_43_a_text_that_is_no_utf_8_is_an_error() {
    refused::<String>(&[2, 0xc3, 0x28], "no UTF-8");
}

#[test]
fn d_44_bytes_behind_a_value_are_an_error() {
    refused::<()>(&[0], "1 bytes are left over");
    refused::<u8>(&[1, 2, 3], "2 bytes are left over");
}

#[test]
fn d_45_of_equal_keys_the_last_wins() {
    let equal: Vec<(u8, u32)> = (0..100_000).map(|n| (7, n)).collect();
    let map = decoded::<HashMap<u8, u32>>(&encoded(&equal)).unwrap();
    assert_eq!(map, HashMap::from([(7, 99_999)]));
}

/// The keys of a map of the standard library are hashed with a secret, so that no peer can make them collide; those
/// of a sorted map need none. Each takes far less than its time.
#[test]
fn d_45_many_keys_in_any_order_take_no_long_time() {
    let began = std::time::Instant::now();
    let keys: Vec<(u64, u8)> = (0..100_000u64).map(|n| (n << 32, 7)).rev().collect();
    assert_eq!(decoded::<HashMap<u64, u8>>(&encoded(&keys)).unwrap().len(), keys.len());
    assert_eq!(decoded::<BTreeMap<u64, u8>>(&encoded(&keys)).unwrap().len(), keys.len());
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

#[test]
fn d_46_extreme_values_arrive_bit_by_bit() {
    for float in [f64::NAN, -0.0, f64::INFINITY, f64::MIN_POSITIVE, -f64::NAN] {
        let bits = decoded::<f64>(&encoded(&float)).unwrap().to_bits();
        assert_eq!(bits, float.to_bits());
    }
    assert_eq!(decoded::<i128>(&encoded(&i128::MIN)).unwrap(), i128::MIN);
    assert_eq!(decoded::<u128>(&encoded(&u128::MAX)).unwrap(), u128::MAX);
    assert_eq!(decoded::<(u64, i64)>(&encoded(&(u64::MAX, i64::MIN))).unwrap(), (u64::MAX, i64::MIN));
    let empty = (String::new(), Vec::<u8>::new(), (), None::<u8>, BTreeMap::<u8, u8>::new());
    assert_eq!(
        decoded::<(String, Vec<u8>, (), Option<u8>, BTreeMap<u8, u8>)>(&encoded(&empty)).unwrap(),
        empty
    );
    decoded::<()>(&[]).unwrap();
}

struct Stubborn;

impl Serialize for Stubborn {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(S::Error::custom("not today"))
    }
}

struct Endless;

impl Serialize for Endless {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_seq(None)?;
        unreachable!("the codec wants lengths")
    }
}

#[test]
fn what_does_not_encode_says_why() {
    let mut out = Vec::new();
    assert_eq!(Codec::Binary.encode(&Stubborn, &mut out).unwrap_err().text(), "not today");
    let error = Codec::Binary.encode(&Endless, &mut out).unwrap_err();
    assert_eq!(error.text(), "a sequence does not know its length");
}

#[test]
fn the_encoding_is_that_of_the_wire_format() {
    assert_eq!(encoded(&250u64), [250]);
    assert_eq!(encoded(&251u64), [251, 251, 0]);
    assert_eq!(encoded(&65_536u64), [252, 0, 0, 1, 0]);
    assert_eq!(encoded(&(1u64 << 32)), [253, 0, 0, 0, 0, 1, 0, 0, 0]);
    assert_eq!(encoded(&(-1i32, 1i32)), [1, 2]);
    assert_eq!(encoded(&("hi", Some(true), 'e', 255u8, -1i8)), [2, b'h', b'i', 1, 1, b'e', 255, 255]);
    assert_eq!(encoded(&Shape::Pair('e', false)), [3, b'e', 0]);
    assert_eq!(encoded(&1.5f32), 1.5f32.to_le_bytes());
    assert_eq!(encoded(&[1u8, 2]), [1, 2]);
}

#[test]
fn bytes_are_a_block_with_the_bytes_of_a_list() {
    for len in [0usize, 1, 250, 251, 300, 65_536, 70_000] {
        let list: Vec<u8> = (0..len).map(|i| i as u8).collect();
        let (block, payload) = (Block::from(list.clone()), Payload::from_bytes(list.clone()));
        let bytes = encoded(&("before", &list, 7u32));
        assert_eq!(encoded(&("before", &block, 7u32)), bytes);
        assert_eq!(encoded(&("before", &payload, 7u32)), bytes);
        assert_eq!(decoded::<(String, Block, u32)>(&bytes).unwrap().1, block);
        assert_eq!(decoded::<(String, Vec<u8>, u32)>(&bytes).unwrap().1, list);
        assert_eq!(decoded::<(String, Payload, u32)>(&bytes).unwrap().1.into_bytes(), list);
    }
    // One that is shorter than it says is refused before anything is kept for it.
    for lie in [1, 1 << 20, 1 << 40, u64::MAX] {
        refused::<Block>(&length(lie), "");
        refused::<(u8, Payload)>(&[&[1], &length(lie)[..]].concat(), "");
    }
}

#[cfg(feature = "json")]
mod json {
    use super::*;

    fn decoded<T: DeserializeOwned>(text: &[u8]) -> Result<T, CodecError> {
        Codec::Json.decode(text)
    }

    #[track_caller]
    fn refused<T: DeserializeOwned + fmt::Debug>(text: &str, why: &str) {
        let error = decoded::<T>(text.as_bytes()).expect_err("it is refused");
        assert!(error.text().contains(why), "{error}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn what_was_encoded_decodes(sample in sample()) {
            let mut text = Vec::new();
            Codec::Json.encode(&sample, &mut text).unwrap();
            prop_assert_eq!(decoded::<Sample>(&text).unwrap(), sample);
        }

        #[test]
        fn random_bytes_never_panic(text in "[\\[\\]{}\":,0-9a-z .-]{0,60}", bytes in vec(any::<u8>(), 0..60)) {
            for text in [text.as_bytes(), &bytes] {
                let _ = decoded::<Sample>(text);
                let _ = decoded::<(Chain, List, Tree, Maps)>(text);
                let _ = decoded::<serde_json::Value>(text);
                let _ = Codec::Json.by_name(text, &["a", "b"]);
            }
        }
    }

    /// What the type nests in itself and the text does not is bounded here; what the text nests, by its parser.
    #[test]
    fn p_34_nested_values_are_refused_on_a_small_stack() {
        on_a_small_stack(|| {
            refused::<List>("5", "deeper than 128");
            let deep = |open: &str| open.repeat(1_000_000);
            refused::<Tree>(&deep("["), "recursion limit");
            refused::<Maps>(&deep("{\"1\":"), "recursion limit");
            refused::<Chain>(&deep("{\"Next\":"), "recursion limit");
            refused::<serde_json::Value>(&deep("["), "recursion limit");
            assert!(Codec::Json.by_name(format!("{{\"a\":{}", deep("[")).as_bytes(), &["a", "b"]).is_err());
        });
    }

    #[test]
    fn p_34_elements_have_bytes_each_and_none_is_left_over() {
        assert_eq!(decoded::<Vec<()>>(b"[null,null]").unwrap().len(), 2);
        refused::<Vec<()>>("4000000000", "invalid type");
        refused::<u8>("1 2", "trailing");
        refused::<u8>("256", "invalid value");
        refused::<String>("\"\u{0}", "control character");
        refused::<f64>("1e999", "out of range");
        refused::<Block>("\"A\"", "no base64");
        refused::<Block>("[256]", "invalid value");
    }

    #[test]
    fn what_json_cannot_say_is_told() {
        let mut out = Vec::new();
        let keys = BTreeMap::from([((1u8, 2u8), 3u8)]);
        let error = Codec::Json.encode(&keys, &mut out).unwrap_err();
        assert_eq!(error.text(), "key must be a string");
        // Neither number is one there.
        out.clear();
        Codec::Json.encode(&[f64::NAN, f64::INFINITY], &mut out).unwrap();
        assert_eq!(out, b"[null,null]");
    }
}
