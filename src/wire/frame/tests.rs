//! Headers through bytes and back, and bytes that are no frames.

use proptest::{collection::vec, prelude::*};

use super::*;

const KINDS: [Kind; 17] = [
    Kind::Hello,
    Kind::Ready,
    Kind::Call,
    Kind::Event,
    Kind::Reply,
    Kind::Fault,
    Kind::Cancel,
    Kind::Credit,
    Kind::StreamItem,
    Kind::StreamEnd,
    Kind::Ping,
    Kind::Pong,
    Kind::GoAway,
    Kind::Bye,
    Kind::Open,
    Kind::StreamQuota,
    Kind::StreamStop,
];

fn kind() -> impl Strategy<Value = Kind> {
    proptest::sample::select(KINDS.to_vec())
}

fn header() -> impl Strategy<Value = Header> {
    let flags = (any::<bool>(), any::<bool>());
    (kind(), flags, any::<u64>(), any::<(u32, u32)>()).prop_map(|(kind, flags, id, (frames, bytes))| {
        let may = kind.may_be_cut();
        let flags = Flags { more: flags.0 && may, continues: flags.1 && may };
        Header { kind, flags, id, ack: Ack { frames, bytes } }
    })
}

fn frame(header: &Header, body: &[u8]) -> Vec<u8> {
    let mut frame = [&[0xaa; HEADER_LEN], body].concat();
    header.write(&mut frame);
    frame
}

/// A frame with nothing special, to be spoiled by a test.
fn golden() -> Vec<u8> {
    let flags = Flags { more: true, continues: false };
    let ack = Ack { frames: 0x0403_0201, bytes: 0x0807_0605 };
    frame(&Header { kind: Kind::Call, flags, id: 1 << 63 | 5, ack }, b"body")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_header_that_was_written_is_read(header in header(), body in vec(any::<u8>(), 0..99)) {
        let frame = frame(&header, &body);
        prop_assert_eq!(take_frame(&frame), Ok(Taken::Frame(header, frame.len())));
        prop_assert_eq!(&frame[HEADER_LEN..], &body[..]);
    }

    #[test]
    fn frames_are_taken_one_after_the_other(headers in vec((header(), 0usize..50), 1..9)) {
        let packet: Vec<u8> =
            headers.iter().flat_map(|(header, len)| frame(header, &vec![7; *len])).collect();
        let mut rest = &packet[..];
        for (header, body) in headers {
            let whole = HEADER_LEN + body;
            prop_assert_eq!(take_frame(rest), Ok(Taken::Frame(header, whole)));
            rest = &rest[whole..];
        }
        prop_assert!(rest.is_empty());
    }

    #[test]
    fn random_bytes_never_panic(packet in vec(any::<u8>(), 0..100)) {
        let _ = take_frame(&packet);
    }

    #[test]
    fn a_frame_that_is_taken_lies_in_its_packet(
        len in 0u32..200, packet in vec(any::<u8>(), HEADER_LEN..100)
    ) {
        let mut packet = packet;
        packet[..4].copy_from_slice(&len.to_le_bytes());
        packet[5..8].fill(0);
        if let Ok(Taken::Frame(_, whole) | Taken::Skipped(whole)) = take_frame(&packet) {
            prop_assert!((HEADER_LEN..=packet.len()).contains(&whole));
        }
    }
}

#[test]
fn the_header_is_that_of_the_wire_format() {
    let mut expected = vec![24, 0, 0, 0, 3, 1, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0x80, 1, 2, 3, 4, 5, 6, 7, 8];
    expected.extend_from_slice(b"body");
    assert_eq!(golden(), expected);
}

#[test]
fn kinds_have_the_numbers_from_1_to_17() {
    for (at, kind) in (1u8..).zip(KINDS) {
        assert_eq!(kind as u8, at);
        assert_eq!(Kind::from_byte(at), Some(kind));
    }
    assert_eq!((Kind::from_byte(0), Kind::from_byte(18)), (None, None));
}

#[test]
fn d_12_an_unknown_kind_is_refused() {
    let mut frame = golden();
    frame[4] = 0xff;
    assert_eq!(take_frame(&frame), Err(ProtocolError::UnknownKind(0xff)));
    frame[4] = 0;
    assert_eq!(take_frame(&frame), Err(ProtocolError::UnknownKind(0)));
}

#[test]
fn d_13_an_unknown_kind_that_may_be_skipped_is_skipped() {
    let mut frame = golden();
    (frame[4], frame[5]) = (77, OPTIONAL);
    assert_eq!(take_frame(&frame), Ok(Taken::Skipped(frame.len())));
}

#[test]
fn a_known_kind_that_may_be_skipped_is_handled() {
    let mut frame = golden();
    frame[5] |= OPTIONAL;
    assert!(matches!(take_frame(&frame), Ok(Taken::Frame(Header { kind: Kind::Call, .. }, 28))));
}

/// What is said of a frame that announces `len` bytes behind its length.
fn announced(len: u32) -> Result<Taken, ProtocolError> {
    let mut frame = golden();
    frame[..4].copy_from_slice(&len.to_le_bytes());
    take_frame(&frame)
}

#[test]
fn d_14_a_length_of_4_gib_is_refused() {
    let limit = FRAME_LIMIT as u64;
    for len in [u32::MAX, u32::MAX - 3, 1 << 31] {
        assert_eq!(announced(len), Err(ProtocolError::TooLarge { len: u64::from(len) + 4, limit }));
    }
}

#[test]
fn d_15_a_frame_over_the_limit_by_one_is_refused() {
    let (limit, most) = (FRAME_LIMIT as u64, FRAME_LIMIT as u32 - 4);
    assert_eq!(announced(most + 1), Err(ProtocolError::TooLarge { len: limit + 1, limit }));
    assert_eq!(announced(most), Err(ProtocolError::TooShort(28)));
    let whole = frame(
        &Header { kind: Kind::Ping, flags: Flags::default(), id: 0, ack: Ack::default() },
        &vec![0; FRAME_LIMIT - HEADER_LEN],
    );
    assert!(matches!(take_frame(&whole), Ok(Taken::Frame(_, FRAME_LIMIT))));
}

#[test]
fn d_17_d_18_a_frame_shorter_than_its_header_is_refused() {
    for len in 0..20 {
        assert_eq!(announced(len), Err(ProtocolError::TooShort(u64::from(len) + 4)));
    }
    assert!(announced(20).is_ok());
}

#[test]
fn a_packet_that_ends_within_a_frame_is_refused() {
    let frame = golden();
    for len in 0..frame.len() {
        assert_eq!(take_frame(&frame[..len]), Err(ProtocolError::TooShort(len as u64)));
    }
}

#[test]
fn d_19_reserved_bits_are_refused() {
    for (at, bit) in [(5, 8), (5, 16), (5, 32), (5, 64), (5, 128), (6, 1), (7, 128)] {
        let mut frame = golden();
        frame[at] |= bit;
        assert_eq!(take_frame(&frame), Err(ProtocolError::ReservedBits));
        // An unknown kind is no way around the rule.
        (frame[4], frame[5]) = (200, frame[5] | OPTIONAL);
        assert_eq!(take_frame(&frame), Err(ProtocolError::ReservedBits));
    }
}

#[test]
fn d_48_what_may_not_be_cut_is_refused_in_parts() {
    for kind in KINDS {
        for flags in [MORE, CONTINUES, MORE | CONTINUES] {
            let mut frame = golden();
            (frame[4], frame[5]) = (kind as u8, flags);
            let expected = [Kind::Call, Kind::Open, Kind::Event, Kind::Reply, Kind::Fault, Kind::StreamItem];
            match take_frame(&frame) {
                Ok(_) => assert!(expected.contains(&kind)),
                Err(error) => {
                    assert!(!expected.contains(&kind));
                    assert_eq!(error, ProtocolError::BadChunk(1 << 63 | 5));
                }
            }
        }
    }
}

#[test]
fn d_68_no_flip_of_a_byte_panics() {
    let golden = golden();
    for at in 0..golden.len() {
        for byte in 0..=255 {
            let mut frame = golden.clone();
            frame[at] = byte;
            let _ = take_frame(&frame);
        }
    }
}

#[test]
fn p_21_whole_frames_of_a_stream_are_counted_wherever_it_is_cut() {
    let stream = [golden(), golden(), golden()].concat();
    let len = golden().len();
    for cut in 0..=stream.len() {
        assert_eq!(whole_frames(&stream[..cut]), cut / len * len, "cut at {cut}");
    }
}

#[test]
fn d_14_d_17_what_cannot_be_a_frame_is_handed_on_with_all_behind_it() {
    for len in [u32::MAX, FRAME_LIMIT as u32 - 3, 19, 0] {
        let stream = [golden(), len.to_le_bytes().to_vec(), vec![7; 3]].concat();
        assert_eq!(whole_frames(&stream), stream.len());
        assert_eq!(whole_frames(&stream[..golden().len() + 3]), golden().len(), "it is not known yet");
        let error = take_frame(&stream[golden().len()..]).unwrap_err();
        assert!(matches!(error, ProtocolError::TooLarge { .. } | ProtocolError::TooShort(..24)), "{error:?}");
    }
}
