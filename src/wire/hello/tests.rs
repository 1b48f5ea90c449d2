//! Greetings, right and wrong.

use proptest::{collection::vec, prelude::*};

use super::*;

const TOKEN: Token = Token([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]);

/// The body of our own hello as a Neck, changed by `change`.
fn body(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut body = Vec::new();
    Hello::ours(Side::Neck, TOKEN).write(&mut body);
    change(&mut body);
    body
}

fn read(body: &[u8]) -> Result<Hello, ProtocolError> {
    Hello::read(body, Side::Neck, &TOKEN)
}

fn refused(change: impl FnOnce(&mut Vec<u8>)) -> ProtocolError {
    read(&body(change)).expect_err("it is refused")
}

#[test]
fn a_number_may_be_missing() {
    assert_eq!(read(&body(|_| ())).unwrap().number, 0);
    assert_eq!(read(&body(|body| body.extend([1; 7]))).unwrap().number, 0, "it is left to a later version");
    assert_eq!(read(&body(|body| body.extend([1; 8]))).unwrap().number, 0x0101_0101_0101_0101);
}

const NOT_A_NECK: ProtocolError = ProtocolError::NotAPeer { expected: Side::Neck };

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_hello_that_was_written_is_read(
        head in any::<bool>(),
        highest in 1u16..,
        features in any::<u32>(),
        token in any::<[u8; 16]>(),
        library in "[0-9a-zé.]{0,99}",
        number in 1u64..,
        later in vec(any::<u8>(), 0..9),
    ) {
        let side = if head { Side::Head } else { Side::Neck };
        let (token, versions) = (Token(token), (1, highest));
        let hello = Hello { side, versions, codec: 1, features, token, library, number };
        let mut body = Vec::new();
        hello.write(&mut body);
        body.extend_from_slice(&later);
        let read = Hello::read(&body, side, &token).unwrap();
        prop_assert_eq!((read.side, read.versions, read.codec), (side, versions, 1));
        prop_assert_eq!((read.features, read.token.0, read.library), (features, token.0, hello.library));
        prop_assert_eq!(read.number, number);
    }

    #[test]
    fn random_bytes_never_panic(bytes in vec(any::<u8>(), 0..100)) {
        let _ = read(&bytes);
        let _ = read(&[MAGIC, &bytes[..]].concat());
    }

    #[test]
    fn a_token_survives_hexadecimal(token in any::<[u8; 16]>()) {
        let hex = Token(token).to_hex();
        prop_assert_eq!(hex.len(), 32);
        prop_assert_eq!(Token::from_hex(&hex).map(|token| token.0), Some(token));
        prop_assert_eq!(Token::from_hex(&hex.to_uppercase()).map(|token| token.0), Some(token));
    }

    #[test]
    fn what_is_no_token_is_none(text in "[0-9a-fA-F]{30,34}|[0-9a-g+é]{28,33}|.{0,40}") {
        let fits = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        prop_assert_eq!(Token::from_hex(&text).is_some(), fits);
    }
}

#[test]
fn p_37_the_hello_is_that_of_the_wire_format() {
    let library = env!("CARGO_PKG_VERSION");
    let mut expected = b"NAPE\x01\x01\0\0\x01\0\x01\0\0\0\0\0".to_vec();
    expected.extend(1..=16);
    expected.push(library.len() as u8);
    expected.extend_from_slice(library.as_bytes());
    assert_eq!(body(|_| ()), expected);
}

#[test]
fn d_03_a_hello_that_is_cut_off_is_refused() {
    let whole = body(|_| ());
    for len in 0..whole.len() {
        let expected = if len < 4 { NOT_A_NECK } else { ProtocolError::BadHello("it is cut off") };
        assert_eq!(read(&whole[..len]).unwrap_err(), expected);
    }
}

#[test]
fn d_04_a_browser_is_not_a_neck() {
    assert_eq!(read(b"GET / HTTP/1.1\r\n\r\n").unwrap_err(), NOT_A_NECK);
}

#[test]
fn d_05_our_own_hello_echoed_is_not_a_neck() {
    let mut ours = Vec::new();
    Hello::ours(Side::Head, TOKEN).write(&mut ours);
    assert_eq!(read(&ours).unwrap_err(), NOT_A_NECK);
    assert_eq!(refused(|body| body[4] = 2), NOT_A_NECK);
}

/// Red when versions are not compared.
#[test]
fn d_06_another_version_is_refused_whatever_else_it_holds() {
    let expected = ProtocolError::VersionMismatch { ours: (1, 1), theirs: (9, 9) };
    assert_eq!(refused(|body| body[8..12].copy_from_slice(&[9, 0, 9, 0])), expected);
    let later = |body: &mut Vec<u8>| body[5..12].copy_from_slice(&[7, 1, 1, 9, 0, 9, 0]);
    assert_eq!(refused(later), expected);
    let older = ProtocolError::VersionMismatch { ours: (1, 1), theirs: (0, 0) };
    assert_eq!(refused(|body| body[8..12].fill(0)), older);
}

#[test]
fn p_37_versions_that_overlap_are_accepted() {
    let hello = read(&body(|body| body[8..12].copy_from_slice(&[0, 0, 9, 0]))).unwrap();
    assert_eq!(hello.versions, (0, 9));
}

#[test]
fn d_07_versions_upside_down_are_refused() {
    let upside_down = |body: &mut Vec<u8>| body[8..12].copy_from_slice(&[3, 0, 1, 0]);
    assert_eq!(refused(upside_down), ProtocolError::BadHello("its versions are upside down"));
}

/// Red when tokens are not compared.
#[test]
fn d_08_a_wrong_token_is_refused() {
    for at in 16..32 {
        assert_eq!(refused(|body| body[at] ^= 0x80), ProtocolError::AuthFailed);
    }
}

#[test]
fn d_19_reserved_bits_are_refused() {
    assert_eq!(refused(|body| body[6] = 1), ProtocolError::ReservedBits);
    assert_eq!(refused(|body| body[7] = 128), ProtocolError::ReservedBits);
}

#[test]
fn an_unknown_codec_is_refused() {
    assert_eq!(refused(|body| body[5] = 0), ProtocolError::BadHello("its codec is unknown"));
}

#[test]
fn both_sides_agree_on_a_codec_or_both_refuse() {
    let choices = [(Codec::Binary, false), (Codec::Binary, true), (Codec::Json, false), (Codec::Json, true)];
    let choices = choices.map(|(asks, takes_json)| Choice { asks, takes_json });
    for ours in choices {
        for theirs in choices {
            let hello = |choice| Hello::ours(Side::Neck, TOKEN).choosing(choice);
            let (here, there) = (ours.agree(&hello(theirs)), theirs.agree(&hello(ours)));
            assert_eq!(here, there, "{ours:?} and {theirs:?}");
            let json = [ours, theirs].iter().any(|choice| choice.asks == Codec::Json);
            let takes = [ours, theirs].iter().all(|choice| choice.asks == Codec::Json || choice.takes_json);
            let expected = match (json, takes) {
                (false, _) => Ok(Codec::Binary),
                (true, true) => Ok(Codec::Json),
                (true, false) => Err(ProtocolError::CodecRefused(Codec::Json)),
            };
            assert_eq!(here, expected, "{ours:?} and {theirs:?}");
            if let Some(settled) = ours.settled() {
                assert!(here.is_err() || here == Ok(settled), "{ours:?} and {theirs:?}");
            }
        }
    }
}

#[test]
fn a_token_is_not_shown() {
    assert_eq!(format!("{TOKEN:?}"), "Token(..)");
}

#[test]
fn d_68_no_flip_of_a_byte_panics() {
    for at in 0..body(|_| ()).len() {
        for byte in 0..=255 {
            let _ = read(&body(|body| body[at] = byte));
        }
    }
}
