//! What decoding may cost: values that are much larger in memory than on the wire, or on the stack.
//!
//! Each of these turns red when `Bounds::allocate` refuses nothing, or `Bounds::enter` looks at levels only.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use serde::{Deserialize, Serialize};

use super::{decoded, encoded, length, on_a_small_stack, refused};

const WHY: &str = "more than 16 times its bytes";

/// So many elements, each of these bytes.
fn list(n: usize, element: &[u8]) -> Vec<u8> {
    let mut bytes = length(n as u64);
    bytes.extend(element.repeat(n));
    bytes
}

/// Two bytes on the wire with nothing in it, and more than 264 in memory.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Wide {
    fields: Option<[u64; 32]>,
    more: Option<u8>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Linked {
    wide: Wide,
    next: Option<Box<Linked>>,
}

#[derive(Debug, Serialize, Deserialize)]
enum Either {
    Small(u8),
    Boxed(Box<Wide>),
}

#[test]
fn d_47_elements_that_are_much_larger_than_their_bytes_are_refused() {
    let million = 1 << 20;
    refused::<Vec<String>>(&list(16 * million, &[0]), WHY);
    refused::<Vec<Vec<u8>>>(&list(million, &[0]), WHY);
    refused::<Vec<Option<String>>>(&list(million, &[0]), WHY);
    refused::<Vec<Wide>>(&list(million, &[0, 0]), WHY);
    refused::<Vec<(u8, Wide)>>(&list(million, &[1, 0, 0]), WHY);
    refused::<VecDeque<String>>(&list(million, &[0]), WHY);
    refused::<HashSet<Vec<u8>>>(&list(million, &[0]), WHY);
    refused::<HashMap<u8, Wide>>(&list(million, &[0, 0, 0]), WHY);
    refused::<BTreeMap<u8, Wide>>(&list(million, &[0, 0, 0]), WHY);
    refused::<BTreeMap<String, ()>>(&list(million, &[0]), WHY);
}

#[test]
fn d_47_what_many_lists_take_is_counted_together() {
    let inner = list(200, &[0]);
    refused::<Vec<Vec<String>>>(&list(1000, &inner), WHY);
    assert_eq!(decoded::<Vec<Vec<String>>>(&list(10, &inner)).unwrap().len(), 10);
}

#[test]
fn d_47_what_is_in_a_box_counts() {
    refused::<Vec<Box<Wide>>>(&list(10_000, &[0, 0]), WHY);
    refused::<Vec<Option<Box<Wide>>>>(&list(10_000, &[1, 0, 0]), WHY);
    refused::<Vec<Either>>(&list(10_000, &[1, 0, 0]), WHY);
    let small = list(10_000, &[0, 7]);
    assert_eq!(decoded::<Vec<Either>>(&small).unwrap().len(), 10_000);
    let wide = list(100, &[1, 0, 0]);
    assert_eq!(decoded::<Vec<Either>>(&wide).unwrap().len(), 100);
}

#[test]
fn d_47_what_is_not_much_larger_passes_whatever_its_length() {
    let numbers = vec![(1u64, 2u32); 500_000];
    assert_eq!(decoded::<Vec<(u64, u32)>>(&encoded(&numbers)).unwrap(), numbers);
    let maybe = vec![None::<u64>; 500_000];
    assert_eq!(decoded::<Vec<Option<u64>>>(&encoded(&maybe)).unwrap(), maybe);
    let words: Vec<String> = (0..200_000).map(|n| n.to_string()).collect();
    assert_eq!(decoded::<Vec<String>>(&encoded(&words)).unwrap(), words);
    let map: HashMap<u64, u64> = (0..200_000).map(|n| (n, n)).collect();
    assert_eq!(decoded::<HashMap<u64, u64>>(&encoded(&map)).unwrap(), map);
    // Short messages have 64 KiB in any case.
    let empty = vec![String::new(); 2000];
    assert_eq!(decoded::<Vec<String>>(&encoded(&empty)).unwrap(), empty);
    let wide: Vec<Wide> = (0..200).map(|_| Wide::default()).collect();
    assert_eq!(decoded::<Vec<Wide>>(&encoded(&wide)).unwrap(), wide);
}

#[test]
fn p_34_large_values_in_each_other_leave_room_on_a_small_stack() {
    on_a_small_stack(|| {
        let nested = |depth: usize| [[0, 0, 1].repeat(depth - 1), vec![0, 0, 0]].concat();
        decoded::<Linked>(&nested(50)).unwrap();
        refused::<Linked>(&nested(100_000), "it ");
    });
}

/// Four KiB in each of its levels: in an enum, and in a struct.
#[derive(Debug, Serialize, Deserialize)]
#[allow(clippy::large_enum_variant)]
enum Pages {
    End,
    Next([[u64; 32]; 16], Box<Pages>),
}

#[derive(Debug, Serialize, Deserialize)]
struct Page {
    page: [[u64; 32]; 16],
    next: Option<Box<Page>>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Leaves {
    page: [[u64; 32]; 16],
    leaves: Vec<Leaves>,
}

#[test]
fn p_34_a_page_in_each_level_is_refused_before_the_stack_is_full() {
    on_a_small_stack(|| {
        let level = [vec![1], vec![0; 512]].concat();
        refused::<Pages>(&level.repeat(128), "the stack allows");
        refused::<Option<Page>>(&level.repeat(128), "the stack allows");
        refused::<Vec<Leaves>>(&level.repeat(128), "the stack allows");
        decoded::<Vec<Leaves>>(&[level.repeat(3), vec![0]].concat()).unwrap();
        decoded::<Pages>(&[level.repeat(3), vec![0]].concat()).unwrap();
        decoded::<Option<Page>>(&[level.repeat(3), vec![0]].concat()).unwrap();
    });
}

#[test]
fn p_34_one_large_value_is_no_nesting() {
    type Large = [[[u64; 32]; 16]; 8];
    let bytes = [vec![1, 1, 2], vec![0; 8192]].concat();
    decoded::<Option<Vec<Vec<Large>>>>(&bytes).unwrap();
    decoded::<Option<Vec<(Box<Large>, u8)>>>(&[&[1, 1], &vec![0; 4096 + 1][..]].concat()).unwrap();
}

/// The same for the other codec: a text announces nothing, so that each element is counted as it comes.
#[cfg(feature = "json")]
mod json {
    use super::*;
    use crate::wire::codec::Codec;

    #[track_caller]
    fn refused<T: serde::de::DeserializeOwned>(text: &str) {
        let error = Codec::Json.decode::<T>(text.as_bytes()).err().expect("it is refused");
        assert!(error.text().contains(WHY), "{error}");
    }

    fn list(n: usize, element: &str) -> String {
        format!("[{}]", vec![element; n].join(","))
    }

    #[test]
    fn d_47_elements_that_are_much_larger_than_their_text_are_refused() {
        let many = 1 << 18;
        refused::<Vec<Wide>>(&list(many, "{}"));
        refused::<Vec<(u8, Wide)>>(&list(many, "[1,{}]"));
        refused::<VecDeque<Wide>>(&list(many, "{}"));
        refused::<Vec<Box<Wide>>>(&list(many, "{}"));
        refused::<Vec<super::Either>>(&list(many, "{\"Boxed\":{}}"));
        let pairs: Vec<String> = (0..many).map(|key| format!("\"{key}\":{{}}")).collect();
        refused::<HashMap<u32, Wide>>(&format!("{{{}}}", pairs.join(",")));
        refused::<Vec<Vec<Wide>>>(&list(1000, &list(100, "{}")));
    }

    /// What serde reads into a buffer of its own, to see what it is.
    #[derive(Debug, Deserialize)]
    #[serde(untagged)]
    enum Either {
        Text(String),
        Many(Vec<Either>),
    }

    #[test]
    fn p_34_what_serde_buffers_is_no_deeper_than_the_rest() {
        on_a_small_stack(|| {
            let nested = |n: usize| format!("{}\"\"{}", "[".repeat(n), "]".repeat(n));
            let decode = |n| Codec::Json.decode::<Either>(nested(n).as_bytes());
            let Either::Many(inner) = decode(20).unwrap() else { panic!("it is a list") };
            assert_eq!(inner.len(), 1);
            assert!(decode(1_000).is_err() && decode(1_000_000).is_err());
            assert!(
                matches!(Codec::Json.decode::<Either>(b"\"a\"").unwrap(), Either::Text(text) if text == "a")
            );
        });
    }

    #[test]
    fn d_47_what_is_not_much_larger_than_its_text_passes() {
        let text = list(1 << 18, "{\"fields\":null,\"more\":4}");
        assert_eq!(Codec::Json.decode::<Vec<Wide>>(text.as_bytes()).unwrap().len(), 1 << 18);
        let texts = list(1 << 18, "\"\"");
        assert_eq!(Codec::Json.decode::<Vec<String>>(texts.as_bytes()).unwrap().len(), 1 << 18);
    }
}
