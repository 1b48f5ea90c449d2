//! Which frame goes next, and when none may.

use proptest::prelude::*;

use super::*;
use crate::{
    link::message::Cargo,
    wire::{Side, Taken, take_frame},
};

fn start(kind: Kind, counter: u64, size: usize) -> Start {
    let id = TransactionId::new(Side::Head, counter);
    Start { kind, id, cargo: Cargo::Bytes(vec![0; HEADER_LEN + size].into()) }
}

fn reply(counter: u64, size: usize) -> Draft {
    Draft {
        kind: Kind::Reply,
        id: TransactionId::new(Side::Neck, counter).to_bits(),
        load: vec![0; HEADER_LEN + size].into(),
    }
}

fn outbox(window: Window) -> Outbox {
    let mut outbox = Outbox::new(window, &Config::new().in_flight(1000));
    outbox.open();
    outbox
}

/// The headers of the frames of one packet.
fn headers(mut packet: &[u8]) -> Vec<Header> {
    let mut headers = Vec::new();
    while !packet.is_empty() {
        let Ok(Taken::Frame(header, len)) = take_frame(packet) else { panic!("no frame") };
        headers.push(header);
        packet = &packet[len..];
    }
    headers
}

/// Everything that may go now, packet by packet.
fn send(outbox: &mut Outbox) -> Vec<Vec<u8>> {
    let (mut packet, mut packets) = (Packet::default(), Vec::new());
    while outbox.next_packet(&mut packet, |_| ()) {
        packets.push(packet.bytes().to_vec());
    }
    packets
}

fn kinds(outbox: &mut Outbox) -> Vec<Kind> {
    send(outbox).iter().flat_map(|packet| headers(packet)).map(|header| header.kind).collect()
}

/// The one that reads: it tells what it has read in the headers of its credits.
struct Reader(Outbox);

impl Reader {
    /// Reads a packet, and gives the acknowledgement if one has to go.
    fn read(&mut self, packet: &[u8]) -> Vec<Ack> {
        let mut rest = packet;
        while let Ok(Taken::Frame(header, len)) = take_frame(rest) {
            self.0.count_read(header.kind, len).expect("the window was kept to");
            rest = &rest[len..];
        }
        send(&mut self.0).iter().flat_map(|packet| headers(packet)).map(|header| header.ack).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn every_mixture_of_sizes_flows(
        sizes in proptest::collection::vec(prop_oneof![0..100usize, 0..70_000usize, Just(1 << 20)], 1..40),
        window in prop_oneof![
            Just(Window::default()),
            (1..50u32, 1..200_000u32, 0..6u32)
                .prop_map(|(frames, bytes, large)| Window { frames, bytes, large }),
        ],
        seed in any::<u64>(),
    ) {
        let (mut outbox, mut reader) = (outbox(window), Reader(Outbox::new(window, &Config::new().in_flight(1))));
        for (at, size) in sizes.iter().enumerate() {
            match (seed >> (at % 60)) & 3 {
                0 => outbox.push_start(start(Kind::Event, at as u64 + 1, *size)),
                1 => outbox.push_start(start(Kind::Call, at as u64 + 1, *size)),
                _ => outbox.push_answer(reply(at as u64 + 1, *size)),
            }
        }
        let mut bytes = 0;
        while !outbox.is_drained() {
            let packets = send(&mut outbox);
            prop_assert!(!packets.is_empty(), "nothing moves, and nothing is under way");
            for packet in packets {
                bytes += packet.len() - HEADER_LEN * headers(&packet).len();
                for ack in reader.read(&packet) {
                    prop_assert!(outbox.acknowledge(ack).is_ok());
                }
            }
        }
        prop_assert_eq!(bytes, sizes.iter().sum::<usize>());
        prop_assert_eq!(outbox.waiting(), (0, 0));
    }
}

#[test]
fn what_is_small_goes_together() {
    let mut outbox = outbox(Window::default());
    (1..=5).for_each(|counter| outbox.push_start(start(Kind::Event, counter, 100)));
    outbox.push_answer(reply(1, 100));
    outbox.push_control(Draft::bare(Kind::Cancel, 1));
    let packets = send(&mut outbox);
    assert_eq!(packets.len(), 1);
    let kinds: Vec<Kind> = headers(&packets[0]).iter().map(|header| header.kind).collect();
    assert_eq!(kinds[..2], [Kind::Cancel, Kind::Reply]);
    assert_eq!(kinds[2..], [Kind::Event; 5]);
}

#[test]
fn each_lane_is_first_once_in_a_round() {
    let mut outbox = outbox(Window { frames: u32::MAX, bytes: u32::MAX, large: 1 });
    for counter in 1..=100 {
        outbox.push_answer(reply(counter, 10));
        outbox.push_start(start(Kind::Event, counter, 10));
        outbox.push_start(start(Kind::Call, 1000 + counter, FRAME_LIMIT));
    }
    let kinds = kinds(&mut outbox);
    for round in kinds[..5 * ROUND as usize].chunks(ROUND as usize) {
        let count = |kind| round.iter().filter(|one| **one == kind).count();
        assert_eq!([Kind::Reply, Kind::Event, Kind::Call].map(count), [14, 1, 1], "{round:?}");
    }
}

#[test]
fn few_messages_are_cut_at_once() {
    let mut outbox = outbox(Window { frames: u32::MAX, bytes: u32::MAX, large: 1 });
    for counter in 1..=20 {
        outbox.push_start(start(Kind::Call, counter, 3 * FRAME_LIMIT));
        outbox.push_start(start(Kind::Event, 100 + counter, 3 * FRAME_LIMIT));
        outbox.push_answer(reply(counter, 3 * FRAME_LIMIT));
    }
    let mut open = std::collections::HashSet::new();
    for header in send(&mut outbox).iter().flat_map(|packet| headers(packet)) {
        let known = open.contains(&header.id);
        assert_eq!(header.flags.continues, known);
        if header.flags.more {
            open.insert(header.id)
        } else {
            open.remove(&header.id)
        };
        assert!(open.len() <= 2 * UNFINISHED);
    }
    assert!(open.is_empty() && outbox.is_drained());
}

#[test]
fn a_call_at_its_limit_holds_back_starts_and_nothing_else() {
    let mut outbox = Outbox::new(Window::default(), &Config::new().in_flight(1));
    outbox.open();
    for counter in 1..=2 {
        outbox.push_start(start(Kind::Call, counter, 10));
    }
    outbox.push_start(start(Kind::Event, 3, 10));
    assert_eq!(kinds(&mut outbox), [Kind::Call]);
    outbox.push_answer(reply(1, 10));
    outbox.push_answer(reply(2, FRAME_LIMIT));
    assert_eq!(kinds(&mut outbox), [Kind::Reply; 3]);
    outbox.call_ended();
    assert_eq!(kinds(&mut outbox), [Kind::Call, Kind::Event]);
}

#[test]
fn the_window_holds_everything_back_but_the_free_kinds() {
    let mut outbox = outbox(Window { frames: 1, bytes: 1000, large: 1 });
    outbox.push_start(start(Kind::Event, 1, 10));
    assert_eq!(kinds(&mut outbox), [Kind::Event]);
    outbox.push_start(start(Kind::Event, 2, 10));
    outbox.push_answer(reply(1, 10));
    outbox.push_control(Draft::bare(Kind::Cancel, 1));
    outbox.push_control(Draft::bare(Kind::GoAway, 0));
    assert_eq!(kinds(&mut outbox), [Kind::GoAway]);
    assert_eq!(outbox.acknowledge(Ack { frames: 1, bytes: 34 }), Ok(true));
    assert_eq!(kinds(&mut outbox), [Kind::Cancel]);
}

#[test]
fn nothing_leaves_after_a_bye() {
    let mut outbox = outbox(Window::default());
    outbox.push_start(start(Kind::Event, 1, 10));
    outbox.push_control(Draft::bare(Kind::Bye, 0));
    outbox.push_control(Draft::bare(Kind::Pong, 0));
    assert_eq!(kinds(&mut outbox), [Kind::Bye]);
    assert_eq!(outbox.clear().1, 1);
}

#[test]
fn what_is_taken_back_is_not_counted_any_more() {
    let mut outbox = outbox(Window { frames: 1, bytes: 1, large: 1 });
    outbox.push_start(start(Kind::Call, 1, 2 * FRAME_LIMIT));
    outbox.push_start(start(Kind::Call, 2, 10));
    outbox.push_start(start(Kind::Call, 3, 2 * FRAME_LIMIT));
    outbox.push_start(start(Kind::Event, 4, 10));
    assert_eq!(outbox.waiting(), (4, 4 * FRAME_LIMIT + 20 + 4 * HEADER_LEN));
    [2, 3]
        .into_iter()
        .for_each(|counter| assert!(outbox.withdraw(TransactionId::new(Side::Head, counter)).is_some()));
    assert_eq!(outbox.waiting(), (2, 2 * FRAME_LIMIT + 10 + 2 * HEADER_LEN));
    outbox.withdraw_calls();
    assert_eq!(outbox.waiting(), (1, 10 + HEADER_LEN));
    assert_eq!(outbox.clear().1, 1);
    assert!(outbox.is_drained());
}

/// A frame of it is with the thread that sends when the rest is dropped.
#[test]
fn a_call_that_is_cut_short_while_a_frame_of_it_goes_does_not_come_back() {
    let mut outbox = outbox(Window::default());
    outbox.push_start(start(Kind::Call, 1, 3 * FRAME_LIMIT));
    outbox.push_answer(reply(1, 3 * FRAME_LIMIT));
    let mut packet = Packet::default();
    assert!(outbox.next_packet(&mut packet, |_| ()) && outbox.next_packet(&mut packet, |_| ()));
    let [header] = headers(packet.bytes())[..] else { panic!("it goes alone") };
    assert_eq!((header.kind, header.flags.more), (Kind::Call, true));
    outbox.cut_short(TransactionId::new(Side::Head, 1));
    packet.sent();
    while outbox.next_packet(&mut packet, |_| ()) {
        assert_eq!(headers(packet.bytes())[0].kind, Kind::Reply);
        packet.sent();
    }
    assert_eq!(outbox.n_answers(), 1, "it waits for credit with the rest");
}
