//! Messages are cut at random, mixed, and joined again.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;
use crate::wire::{Ack, Flags};

fn header(kind: Kind, id: u64, more: bool, continues: bool) -> Header {
    Header { kind, flags: Flags { more, continues }, id, ack: Ack::default() }
}

/// A frame with this body; the inbox does not look at the bytes of its header.
fn frame(body: &[u8]) -> Vec<u8> {
    [&[0; HEADER_LEN], body].concat()
}

fn take(
    inbox: &mut Inbox,
    kind: Kind,
    id: u64,
    body: &[u8],
    (more, continues): (bool, bool),
) -> Result<Option<Vec<u8>>, ProtocolError> {
    let frame = frame(body);
    let taken = inbox.take(&header(kind, id, more, continues), Frame::Part(&frame), Instant::now())?;
    Ok(taken.map(|body| body.bytes().to_vec()))
}

const ALONE: (bool, bool) = (false, false);
const FIRST: (bool, bool) = (true, false);
const MIDDLE: (bool, bool) = (true, true);
const LAST: (bool, bool) = (false, true);

/// The parts of a message, each with its flags.
fn parts(body: &[u8], sizes: &[usize]) -> VecDeque<(Vec<u8>, (bool, bool))> {
    let (mut parts, mut rest) = (VecDeque::new(), body);
    for size in sizes {
        let (part, behind) = rest.split_at((*size).min(rest.len()));
        if behind.is_empty() {
            break;
        }
        parts.push_back((part.to_vec(), (true, !parts.is_empty())));
        rest = behind;
    }
    parts.push_back((rest.to_vec(), (false, !parts.is_empty())));
    parts
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn what_is_cut_and_mixed_is_joined_again(
        messages in proptest::collection::vec(
            (proptest::collection::vec(any::<u8>(), 0..2000), proptest::collection::vec(1..500usize, 0..6)),
            1..8,
        ),
        order in proptest::collection::vec(any::<prop::sample::Index>(), 0..64),
        whole in any::<bool>(),
    ) {
        let mut inbox = Inbox::new(4096);
        let mut waiting: Vec<_> = messages.iter().map(|(body, sizes)| parts(body, sizes)).collect();
        let mut order = order.iter();
        loop {
            let open: Vec<usize> = (0..waiting.len()).filter(|at| !waiting[*at].is_empty()).collect();
            let Some(first) = open.first() else { break };
            let at = order.next().map_or(*first, |index| open[index.index(open.len())]);
            let (part, (more, continues)) = waiting[at].pop_front().unwrap();
            // The same id under another kind is another message.
            let kind = if at % 2 == 0 { Kind::Call } else { Kind::Event };
            let bytes = frame(&part);
            let frame = if whole { Frame::Whole(bytes.clone()) } else { Frame::Part(&bytes) };
            let joined = inbox.take(&header(kind, at as u64 / 2, more, continues), frame, Instant::now()).unwrap();
            prop_assert_eq!(joined.is_some(), !more);
            prop_assert_eq!(inbox.is_open(kind, at as u64 / 2), more);
            if let Some(body) = joined {
                prop_assert_eq!(body.bytes(), &messages[at].0[..]);
            }
        }
        prop_assert_eq!((inbox.unfinished.len(), inbox.bytes), (0, 0));
    }
}

#[test]
fn d_48_a_part_stands_in_its_place() {
    let bad = |id| Err(ProtocolError::BadChunk(id));
    let mut inbox = Inbox::new(4096);
    assert_eq!(take(&mut inbox, Kind::Call, 1, b"x", LAST), bad(1));
    assert_eq!(take(&mut inbox, Kind::Call, 1, b"x", MIDDLE), bad(1));
    assert_eq!(take(&mut inbox, Kind::Reply, 2, b"x", FIRST), Ok(None));
    assert_eq!(take(&mut inbox, Kind::Reply, 2, b"x", FIRST), bad(2));
    assert_eq!(take(&mut inbox, Kind::Reply, 2, b"x", ALONE), bad(2));
    assert_eq!(take(&mut inbox, Kind::Fault, 2, b"x", LAST), bad(2));
    assert_eq!(take(&mut inbox, Kind::Reply, 2, b"y", LAST), Ok(Some(b"xy".to_vec())));
    assert_eq!(take(&mut inbox, Kind::Reply, 2, b"y", LAST), bad(2));
}

#[test]
fn d_51_a_message_is_within_its_limit_however_it_comes() {
    let over = Err(ProtocolError::TooLarge { len: 1025, limit: 1024 });
    let limited = || Inbox::new(1024);
    assert_eq!(take(&mut limited(), Kind::Call, 1, &[7; 1024], ALONE), Ok(Some(vec![7; 1024])));
    assert_eq!(take(&mut limited(), Kind::Call, 1, &[7; 1025], ALONE), over);
    let mut inbox = limited();
    assert_eq!(take(&mut inbox, Kind::Reply, 1, &[7; 1000], FIRST), Ok(None));
    assert_eq!(take(&mut inbox, Kind::Reply, 1, &[7; 24], MIDDLE), Ok(None));
    assert_eq!(take(&mut inbox, Kind::Reply, 1, &[7; 1], LAST), over);
    // An error can always be told.
    assert!(take(&mut limited(), Kind::Fault, 1, &[7; 60_000], ALONE).is_ok());
}

#[test]
fn d_52_a_part_has_a_body() {
    let flood = Err(ProtocolError::Flood("empty frames"));
    let mut inbox = Inbox::new(4096);
    assert_eq!(take(&mut inbox, Kind::Call, 1, b"", ALONE), Ok(Some(Vec::new())));
    assert_eq!(take(&mut inbox, Kind::Call, 1, b"", FIRST), flood);
    let mut inbox = Inbox::new(4096);
    assert_eq!(take(&mut inbox, Kind::Call, 1, b"x", FIRST), Ok(None));
    assert_eq!(take(&mut inbox, Kind::Call, 1, b"", LAST), flood);
}

#[test]
fn d_50_what_is_unfinished_is_within_bounds() {
    let flood = Err(ProtocolError::Flood("unfinished messages"));
    let mut inbox = Inbox::new(1 << 20);
    let n = (0..).position(|id| take(&mut inbox, Kind::Call, id, b"x", FIRST) == flood);
    assert_eq!(n, Some(MAX_UNFINISHED));
    // By their size it is fewer.
    let mut inbox = Inbox::new(256 << 10);
    let part = [7; 64_000];
    let mut bytes = 0;
    for id in 0..64 {
        match take(&mut inbox, Kind::Call, id, &part, FIRST) {
            Ok(_) => bytes += part.len(),
            error => {
                assert_eq!(error, flood);
                break;
            }
        }
    }
    assert!((3 << 20) / 4 < bytes && bytes <= 1 << 20, "{bytes} bytes were kept");
}

#[test]
fn what_is_discarded_is_gone() {
    let mut inbox = Inbox::new(4096);
    assert_eq!(take(&mut inbox, Kind::Call, 1, b"abc", FIRST), Ok(None));
    inbox.discard(Kind::Event, 1);
    assert!(inbox.is_open(Kind::Call, 1));
    inbox.discard(Kind::Call, 1);
    inbox.discard(Kind::Call, 1);
    assert_eq!((inbox.is_open(Kind::Call, 1), inbox.bytes), (false, 0));
    assert_eq!(take(&mut inbox, Kind::Call, 1, b"d", ALONE), Ok(Some(b"d".to_vec())));
}

/// A message of so many parts of 1,000 bytes but for its last part.
fn begin(inbox: &mut Inbox, id: u64, parts: usize) {
    for part in 0..parts {
        take(inbox, Kind::Event, id, &[1; 1000], if part == 0 { FIRST } else { MIDDLE }).unwrap();
    }
}

fn capacity(inbox: &Inbox, id: u64) -> usize {
    inbox.unfinished[&(Kind::Event as u8, id)].bytes.capacity()
}

#[test]
fn room_is_made_for_one_message_as_long_as_the_last_one() {
    let mut inbox = Inbox::new(1 << 20);
    begin(&mut inbox, 1, 100);
    assert!(capacity(&inbox, 1) < 2 * 100_000, "nothing had come before it");
    take(&mut inbox, Kind::Event, 1, &[1], LAST).unwrap();
    begin(&mut inbox, 2, 1);
    begin(&mut inbox, 3, 1);
    assert_eq!(capacity(&inbox, 2), 100_001);
    assert!(capacity(&inbox, 3) < 10_000, "a peer that begins many gets room for what it sends");
    take(&mut inbox, Kind::Event, 3, &[1], LAST).unwrap();
    take(&mut inbox, Kind::Event, 2, &[1], LAST).unwrap();
    begin(&mut inbox, 4, 1);
    assert!(capacity(&inbox, 4) < 10_000, "the last one was short");
}

#[test]
fn a_short_message_keeps_no_room_for_a_long_one() {
    let mut inbox = Inbox::new(1 << 20);
    begin(&mut inbox, 1, 100);
    take(&mut inbox, Kind::Event, 1, &[1], LAST).unwrap();
    begin(&mut inbox, 2, 1);
    let last = frame(&[1]);
    let header = header(Kind::Event, 2, false, true);
    let body = inbox.take(&header, Frame::Part(&last), Instant::now()).unwrap().unwrap();
    assert!(body.buffer.capacity() < 2002, "{}", body.buffer.capacity());
}
