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
    Ok(taken.whole().map(|body| body.bytes().to_vec()))
}

impl Joined {
    fn whole(self) -> Option<Body> {
        match self {
            Joined::Nothing => None,
            Joined::Whole(body) => Some(body),
            Joined::Refused(body) => panic!("no room for {} bytes", body.bytes().len()),
        }
    }
}

/// With room for whatever comes.
fn roomy(message_limit: usize) -> Inbox {
    Inbox::new(message_limit, Ledger::new(usize::MAX))
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
        let mut inbox = roomy(4096);
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
            let joined = inbox.take(&header(kind, at as u64 / 2, more, continues), frame, Instant::now());
            let joined = joined.unwrap().whole();
            prop_assert_eq!(joined.is_some(), !more);
            prop_assert_eq!(inbox.is_open(kind, at as u64 / 2), more);
            if let Some(body) = joined {
                prop_assert_eq!(body.bytes(), &messages[at].0[..]);
            }
        }
        prop_assert_eq!((inbox.unfinished.len(), inbox.ledger.held()), (0, 0));
    }
}

#[test]
fn d_48_a_part_stands_in_its_place() {
    let bad = |id| Err(ProtocolError::BadChunk(id));
    let mut inbox = roomy(4096);
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
    let limited = || roomy(1024);
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
    let mut inbox = roomy(4096);
    assert_eq!(take(&mut inbox, Kind::Call, 1, b"", ALONE), Ok(Some(Vec::new())));
    assert_eq!(take(&mut inbox, Kind::Call, 1, b"", FIRST), flood);
    let mut inbox = roomy(4096);
    assert_eq!(take(&mut inbox, Kind::Call, 1, b"x", FIRST), Ok(None));
    assert_eq!(take(&mut inbox, Kind::Call, 1, b"", LAST), flood);
}

#[test]
fn d_50_what_is_unfinished_is_within_bounds() {
    let flood = Err(ProtocolError::Flood("unfinished messages"));
    let mut inbox = roomy(1 << 20);
    let n = (0..).position(|id| take(&mut inbox, Kind::Call, id, b"x", FIRST) == flood);
    assert_eq!(n, Some(MAX_UNFINISHED));
}

/// Red when `Ledger::take` always finds room.
#[test]
fn p_15_what_finds_no_room_is_refused_once_and_the_rest_of_it_forgotten() {
    let ledger = Ledger::new(256 << 10);
    let mut inbox = Inbox::new(1 << 20, ledger.clone());
    let (mut refused, mut whole) = (Vec::new(), Vec::new());
    for part in 0..4 {
        for id in 1..6u64 {
            let (kind, body) = (Kind::Call, frame(&[id as u8; 30_000]));
            let header = header(kind, id, part < 3, part > 0);
            match inbox.take(&header, Frame::Part(&body), Instant::now()).unwrap() {
                Joined::Nothing => {}
                Joined::Whole(body) => whole.push((id, body)),
                Joined::Refused(seen) => {
                    assert_eq!(seen.bytes()[0], id as u8);
                    refused.push(id);
                }
            }
            assert!(ledger.held() <= 256 << 10);
        }
    }
    refused.sort_unstable();
    let mut all: Vec<u64> = whole.iter().map(|(id, _)| *id).chain(refused.iter().copied()).collect();
    all.sort_unstable();
    assert_eq!((all, inbox.unfinished.len()), (vec![1, 2, 3, 4, 5], 0));
    assert!(!whole.is_empty() && !refused.is_empty(), "{refused:?} were refused");
    assert!(whole.iter().all(|(id, body)| body.bytes() == [*id as u8; 120_000]));
    // Short calls take none; an event always does.
    let short = |kind, inbox: &mut Inbox| {
        inbox.take(&header(kind, 9, false, false), Frame::Part(&frame(b"x")), Instant::now())
    };
    let mut filler = ledger.hold((256 << 10) - ledger.held());
    assert!(matches!(short(Kind::Call, &mut inbox), Ok(Joined::Whole(_))));
    assert!(matches!(short(Kind::Event, &mut inbox), Ok(Joined::Refused(_))));
    filler.take();
    assert!(matches!(short(Kind::Event, &mut inbox), Ok(Joined::Whole(_))));
    drop(whole);
    assert_eq!(ledger.held(), 0);
}

#[test]
fn what_is_discarded_is_gone() {
    let mut inbox = roomy(4096);
    assert_eq!(take(&mut inbox, Kind::Call, 1, b"abc", FIRST), Ok(None));
    inbox.discard(Kind::Event, 1);
    assert!(inbox.is_open(Kind::Call, 1));
    inbox.discard(Kind::Call, 1);
    inbox.discard(Kind::Call, 1);
    assert_eq!((inbox.is_open(Kind::Call, 1), inbox.ledger.held()), (false, 0));
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
    let mut inbox = roomy(1 << 20);
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
    let mut inbox = roomy(1 << 20);
    begin(&mut inbox, 1, 100);
    take(&mut inbox, Kind::Event, 1, &[1], LAST).unwrap();
    begin(&mut inbox, 2, 1);
    let last = frame(&[1]);
    let header = header(Kind::Event, 2, false, true);
    let body = inbox.take(&header, Frame::Part(&last), Instant::now()).unwrap().whole().unwrap();
    assert!(body.buffer.capacity() < 2002, "{}", body.buffer.capacity());
}
