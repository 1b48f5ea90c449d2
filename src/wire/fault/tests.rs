//! Failures on the wire, whole, cut off and forged.

use proptest::{collection::vec, prelude::*};
use serde::Deserialize;

use super::*;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("no room for {wanted}")]
struct NoRoom {
    wanted: u64,
}

fn record() -> impl Strategy<Value = FaultRecord> {
    (any::<u16>(), any::<[u64; 2]>(), vec(".{0,20}", 0..MAX_TEXTS), vec(any::<u8>(), 0..50))
        .prop_map(|(code, numbers, texts, value)| FaultRecord { code, numbers, texts, value })
}

fn written(record: &FaultRecord) -> Vec<u8> {
    let mut body = Vec::new();
    record.write(&mut body);
    body
}

/// A record with one text of these bytes, which need not be UTF-8.
fn with_text(text: &[u8]) -> Vec<u8> {
    let len = u16::try_from(text.len()).unwrap().to_le_bytes();
    [&[32, 0], &[0; 16][..], &[1], &len, text].concat()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_record_that_was_written_is_read(record in record()) {
        prop_assert_eq!(FaultRecord::read(&written(&record)), Ok(record));
    }

    #[test]
    fn random_bytes_never_panic(body in vec(any::<u8>(), 0..300)) {
        let _ = FaultRecord::read(&body);
    }

    #[test]
    fn a_record_that_is_cut_off_is_an_error(record in record(), at in any::<prop::sample::Index>()) {
        let body = written(&FaultRecord { value: Vec::new(), ..record });
        let read = FaultRecord::read(&body[..at.index(body.len())]);
        prop_assert!(matches!(read, Err(ProtocolError::BadEnvelope(_))));
    }

    #[test]
    fn a_text_is_cut_between_characters(text in "[aé\u{20AC}\u{1F600}]{0,40}", limit in 0usize..100) {
        let cut = cut_at(&text, limit);
        prop_assert!(cut.len() <= limit && text.starts_with(cut));
        prop_assert!(cut.len() == text.len() || limit - cut.len() < 4);
    }

    #[test]
    fn a_text_that_is_no_utf_8_is_repaired(text in vec(any::<u8>(), 0..200)) {
        let read = FaultRecord::read(&with_text(&text)).unwrap();
        prop_assert_eq!(&read.texts, &[String::from_utf8_lossy(&text).into_owned()]);
    }
}

#[test]
fn the_record_is_that_of_the_wire_format() {
    let texts = vec!["no".to_owned(), "é".to_owned()];
    let record = FaultRecord { code: 0x0102, numbers: [3, 1 << 56], texts, value: vec![9] };
    let mut expected = vec![2, 1, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2];
    expected.extend_from_slice(&[2, 0, b'n', b'o', 2, 0, 0xc3, 0xa9, 9]);
    assert_eq!(written(&record), expected);
}

#[test]
fn codes_have_their_numbers() {
    let numbers = [1, 2, 3, 4, 5, 6, 7, 8, 9, 16, 32, 33, 34, 35, 48, 49, 50, 51, 52, 53];
    for number in 0..=u16::MAX {
        let code = FaultCode::from_number(number);
        assert_eq!(code.map(|code| code as u16), numbers.contains(&number).then_some(number));
    }
}

#[test]
fn d_34_long_texts_are_cut_when_written_and_when_read() {
    let long = "é".repeat(40_000);
    let record = FaultRecord { texts: vec![long.clone(); 300], ..FaultRecord::default() };
    let read = FaultRecord::read(&written(&record)).unwrap();
    assert_eq!(read.texts, vec!["é".repeat(2048); MAX_TEXTS]);
    let read = FaultRecord::read(&with_text(&[0xff; 65_535])).unwrap();
    assert_eq!(read.texts, ["\u{fffd}".repeat(MAX_TEXT / 3)]);
    assert_eq!(Fault::new(long.clone()).message().len(), MAX_TEXT);
    assert_eq!(Fault::of(FaultKind::Error, String::new(), &long).type_name().len(), MAX_TEXT);
}

#[test]
fn texts_over_their_number_are_skipped_and_the_value_is_found() {
    let body = [&[32, 0], &[0; 16][..], &[255], &[1, 0, b'x'].repeat(255), &[7, 8]].concat();
    let read = FaultRecord::read(&body).unwrap();
    assert_eq!((read.texts, read.value), (vec!["x".to_owned(); MAX_TEXTS], vec![7, 8]));
}

#[test]
fn a_typed_fault_gives_its_value_back() {
    let fault = Fault::from_typed(&NoRoom { wanted: 7 });
    assert_eq!((fault.kind(), fault.message()), (FaultKind::Typed, "no room for 7"));
    assert_eq!(fault.typed::<NoRoom>(), Some(NoRoom { wanted: 7 }));
    assert_eq!(fault.typed::<(u64, String)>(), None);
    assert_eq!(Fault::new("no room for 7").typed::<NoRoom>(), None);
}

#[test]
fn a_typed_fault_that_does_not_encode_is_its_text() {
    struct Stubborn;
    impl Serialize for Stubborn {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("no"))
        }
    }
    impl fmt::Display for Stubborn {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("stubborn")
        }
    }
    let fault = Fault::from_typed(&Stubborn);
    assert_eq!((fault.kind(), fault.message()), (FaultKind::Error, "stubborn"));
    assert!(fault.value.bytes.is_empty());
}

#[test]
fn d_68_no_flip_of_a_byte_panics() {
    let texts = vec!["message".to_owned(), "type".to_owned()];
    let golden = written(&FaultRecord { code: 32, numbers: [1, 2], texts, value: vec![1, 2, 3] });
    for at in 0..golden.len() {
        for byte in 0..=255 {
            let mut body = golden.clone();
            body[at] = byte;
            let _ = FaultRecord::read(&body);
        }
    }
}
