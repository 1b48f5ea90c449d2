//! Envelopes through bytes and back, and bytes that are none.

use proptest::{collection::vec, prelude::*};

use super::{super::Side, *};

fn id() -> impl Strategy<Value = TransactionId> {
    (any::<bool>(), 1u64..1 << 63)
        .prop_map(|(head, counter)| TransactionId::new(if head { Side::Head } else { Side::Neck }, counter))
}

fn path() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z]{1,8}(\\.[a-z]{1,8}){0,4}", Just("x".repeat(Path::MAX_LEN)), Just("a.b.ü".into())]
}

fn call_body(head: &CallHead<'_>, arguments: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    head.write(&mut body);
    body.extend_from_slice(arguments);
    body
}

fn golden() -> Vec<u8> {
    let parent = Some(TransactionId::new(Side::Neck, 2));
    call_body(&CallHead { parent, remaining: Some(1000), attempt: 3, shape: 0, path: b"a.b" }, b"args")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_call_that_was_written_is_read(
        parent in proptest::option::of(id()),
        remaining in proptest::option::of(0..u64::MAX),
        attempt in any::<u32>(),
        shape in any::<u64>(),
        path in path(),
        arguments in vec(any::<u8>(), 0..50),
    ) {
        let head = CallHead { parent, remaining, attempt, shape, path: path.as_bytes() };
        let body = call_body(&head, &arguments);
        let (read, start) = CallHead::read(&body).unwrap();
        prop_assert_eq!(read, head);
        prop_assert_eq!(&body[start..], &arguments[..]);
        prop_assert!(start <= MAX_ENVELOPE);
    }

    #[test]
    fn an_event_that_was_written_is_read(path in path(), arguments in vec(any::<u8>(), 0..50)) {
        let mut body = Vec::new();
        EventHead { shape: 0, path: path.as_bytes() }.write(&mut body);
        body.extend_from_slice(&arguments);
        let (read, start) = EventHead::read(&body).unwrap();
        prop_assert_eq!(read, EventHead { shape: 0, path: path.as_bytes() });
        prop_assert_eq!(&body[start..], &arguments[..]);
    }

    #[test]
    fn a_bye_that_was_written_is_read(code in any::<u16>(), more in vec(any::<u8>(), 0..3)) {
        let mut body = Vec::new();
        Bye { code }.write(&mut body);
        body.extend_from_slice(&more);
        prop_assert_eq!(Bye::read(&body), Ok(Bye { code }));
    }

    #[test]
    fn random_bytes_never_panic(body in vec(any::<u8>(), 0..300)) {
        if let Ok((head, start)) = CallHead::read(&body) {
            prop_assert!(start <= body.len() && body[..start].ends_with(head.path));
        }
        if let Ok((head, start)) = EventHead::read(&body) {
            prop_assert!(start <= body.len() && body[..start].ends_with(head.path));
        }
        let _ = Bye::read(&body);
    }
}

#[test]
fn the_heads_are_those_of_the_wire_format() {
    let mut expected = vec![2, 0, 0, 0, 0, 0, 0, 0x80, 0xe8, 3, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 3];
    expected.extend_from_slice(b"a.bargs");
    assert_eq!(golden(), expected);
    let bare = call_body(&CallHead { parent: None, remaining: None, attempt: 0, shape: 0, path: b"x" }, b"");
    assert_eq!(bare, [&[0; 8][..], &[255; 8], &[0; 4], &[1, b'x']].concat());
    let mut event = Vec::new();
    EventHead { shape: 0x0807_0605_0403_0201, path: b"x" }.write(&mut event);
    assert_eq!(event, [0, 1, 2, 3, 4, 5, 6, 7, 8, 1, b'x']);
    (0..event.len()).for_each(|len| assert_eq!(EventHead::read(&event[..len]), Err(CUT_OFF)));
}

#[test]
fn a_head_that_is_cut_off_is_an_error() {
    let golden = golden();
    for len in 0..golden.len() - 4 {
        assert_eq!(CallHead::read(&golden[..len]), Err(CUT_OFF));
    }
    assert!(CallHead::read(&golden[..golden.len() - 4]).is_ok());
    assert_eq!(EventHead::read(&[]), Err(CUT_OFF));
    assert_eq!(EventHead::read(&[2, b'a']), Err(CUT_OFF));
    assert_eq!(Bye::read(&[]), Err(CUT_OFF));
    assert_eq!(Bye::read(&[0]), Err(CUT_OFF));
}

#[test]
fn d_27_a_parent_without_a_counter_is_refused() {
    let mut body = golden();
    body[..8].copy_from_slice(&(1u64 << 63).to_le_bytes());
    assert_eq!(CallHead::read(&body), Err(ProtocolError::BadId(1 << 63)));
    body[..8].fill(0);
    assert_eq!(CallHead::read(&body).unwrap().0.parent, None);
}

#[test]
fn d_33_the_longest_deadline_is_a_deadline() {
    for remaining in [Some(0), Some(u64::MAX - 1), None] {
        let body = call_body(&CallHead { parent: None, remaining, attempt: 0, shape: 0, path: b"x" }, b"");
        assert_eq!(CallHead::read(&body).unwrap().0.remaining, remaining);
    }
}

#[test]
fn d_68_no_flip_of_a_byte_panics() {
    let golden = golden();
    for at in 0..golden.len() {
        for byte in 0..=255 {
            let mut body = golden.clone();
            body[at] = byte;
            let _ = CallHead::read(&body);
            let _ = EventHead::read(&body[20..]);
        }
    }
}
