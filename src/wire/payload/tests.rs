//! Payloads moved, encoded and raw.

use std::sync::Arc;

use proptest::{collection::vec, prelude::*};
use serde::ser::Error as _;

use super::*;

const CODEC: Codec = Codec::Binary;

/// A text of which one can tell whether it is still the same one.
#[derive(Debug, Clone)]
struct Shared(Arc<str>);

impl Serialize for Shared {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Shared {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Shared, D::Error> {
        String::deserialize(deserializer).map(|text| Shared(text.into()))
    }
}

#[derive(Debug)]
struct Stubborn;

impl Serialize for Stubborn {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(S::Error::custom("not today"))
    }
}

fn encoded<T: Serialize + 'static>(value: &T) -> Vec<u8> {
    let mut out = Vec::new();
    Payload::write(value, CODEC, &mut out).unwrap();
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn bytes_stay_what_they_are(buffer in vec(any::<u8>(), 0..99), at in any::<prop::sample::Index>()) {
        let start = at.index(buffer.len() + 1);
        let tail = || Payload::from_tail(buffer.clone(), start);
        prop_assert_eq!(tail().bytes().into_owned(), &buffer[start..]);
        prop_assert_eq!(tail().into_bytes(), &buffer[start..]);
        prop_assert_eq!(tail().held(), buffer.len() - start);
        prop_assert_eq!(encoded(&tail()), &buffer[start..]);
        prop_assert_eq!(tail().into_value::<Payload>(CODEC).unwrap().into_bytes(), &buffer[start..]);
    }

    #[test]
    fn a_moved_value_reads_as_over_a_wire(text in ".*", number in any::<u32>()) {
        let moved = || Payload::moved((text.clone(), number));
        let bytes = encoded(&(text.clone(), number));
        prop_assert_eq!(moved().bytes().into_owned(), &bytes[..]);
        prop_assert_eq!(moved().into_bytes(), &bytes[..]);
        prop_assert_eq!(encoded(&moved()), bytes);
        prop_assert_eq!(moved().into_value::<(String, u32)>(CODEC).unwrap(), (text.clone(), number));
        // Another type of the same shape takes the way through the codec.
        let (shared, wide): (Shared, u64) = moved().into_value(CODEC).unwrap();
        prop_assert_eq!((&*shared.0, wide), (text.as_str(), u64::from(number)));
    }

    #[test]
    fn a_payload_within_a_value_survives_the_codec(bytes in vec(any::<u8>(), 0..400)) {
        let pair = (7u8, Payload::from_bytes(bytes.clone()));
        let (seven, inner) = Payload::from_bytes(encoded(&pair)).into_value::<(u8, Payload)>(CODEC).unwrap();
        prop_assert_eq!((seven, inner.into_bytes()), (7, bytes));
    }

    #[test]
    fn random_bytes_never_panic(bytes in vec(any::<u8>(), 0..99)) {
        let payload = || Payload::from_bytes(bytes.clone());
        let _ = payload().into_value::<(String, Vec<Option<u16>>)>(CODEC);
        let _ = payload().into_value::<(u8, Payload)>(CODEC);
    }
}

#[test]
fn a_moved_value_of_the_same_type_is_the_same_value() {
    let text: Arc<str> = "text".into();
    let taken: Shared = Payload::moved(Shared(text.clone())).into_value(CODEC).unwrap();
    assert!(Arc::ptr_eq(&text, &taken.0));
}

#[test]
fn a_moved_value_of_another_type_is_a_copy() {
    let text: Arc<str> = "text".into();
    let taken: String = Payload::moved(Shared(text.clone())).into_value(CODEC).unwrap();
    assert_eq!(taken, "text");
    assert_eq!(Arc::strong_count(&text), 1);
}

#[test]
fn a_moved_value_of_another_shape_is_an_error_as_on_a_wire() {
    let moved = Payload::moved(300u32).into_value::<bool>(CODEC).unwrap_err();
    let wired = Payload::from_bytes(encoded(&300u32)).into_value::<bool>(CODEC).unwrap_err();
    assert_eq!(moved, wired);
    Payload::moved(7u8).into_value::<()>(CODEC).expect_err("trailing bytes are an error in process too");
}

#[test]
fn a_payload_is_never_moved_within_a_payload() {
    let payload = Payload::moved(Payload::from_bytes(vec![1, 2, 3]));
    assert_eq!(payload.held(), 3);
    let moved = Payload::moved(Payload::moved(5u16));
    assert_eq!(moved.into_value::<u16>(CODEC).unwrap(), 5);
}

#[test]
fn a_moved_payload_stays_moved_when_asked_for_raw() {
    let text: Arc<str> = "text".into();
    let raw: Payload = Payload::moved(Shared(text.clone())).into_value(CODEC).unwrap();
    assert_eq!(&*raw.bytes(), encoded(&"text".to_owned()));
    assert!(Arc::ptr_eq(&raw.into_value::<Shared>(CODEC).unwrap().0, &text));
}

#[test]
fn a_value_that_does_not_encode_is_an_error_and_gives_no_bytes() {
    let moved = || Payload::moved(Stubborn);
    assert_eq!(moved().into_value::<String>(CODEC).unwrap_err().text(), "not today");
    assert_eq!(moved().write_to(CODEC, &mut Vec::new()).unwrap_err().text(), "not today");
    assert_eq!(Payload::write(&(1u8, moved()), CODEC, &mut Vec::new()).unwrap_err().text(), "not today");
    assert!(moved().bytes().is_empty() && moved().into_bytes().is_empty());
}

#[test]
fn whole_bytes_are_not_copied() {
    let bytes = vec![1; 1000];
    let at = bytes.as_ptr();
    let back = Payload::from_bytes(bytes).into_bytes();
    assert_eq!(back.as_ptr(), at);
}

#[test]
fn a_payload_shows_its_size_and_not_its_content() {
    assert_eq!(format!("{:?}", Payload::from_tail(vec![0; 9], 4)), "Payload(5 bytes)");
    assert_eq!(format!("{:?}", Payload::moved(1u8)), "Payload(moved)");
}
