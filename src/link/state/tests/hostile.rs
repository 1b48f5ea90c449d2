//! A peer that breaks the rules, frame by frame.

use std::time::{Duration, Instant};

use super::pair::call;
use crate::{
    config::Config,
    error::{CallError, CloseReason},
    link::{
        flow::take_frames,
        load::Packet,
        state::{Action, Finish, State},
    },
    transport::Window,
    wire::{
        Ack, Bye, CallHead, Flags, HEADER_LEN, Header, Hello, Kind, ProtocolError, Side, Token, Tokens,
        TransactionId,
    },
};

/// A Head, and the frames of a Neck that may lie.
struct Liar {
    head: State<u32>,
    now: Instant,
    actions: Vec<Action<u32>>,
    /// What it claims to have read.
    ack: Ack,
}

impl Liar {
    fn silent(config: &Config) -> Liar {
        let now = Instant::now();
        let head = State::new(Side::Head, config, Window::default(), Tokens::default(), None);
        Liar { head, now, actions: Vec::new(), ack: Ack::default() }
    }

    /// One that has greeted and is ready.
    fn new() -> Liar {
        Liar::with(&Config::new())
    }

    fn with(config: &Config) -> Liar {
        let mut liar = Liar::early(config);
        liar.head.say_ready();
        liar
    }

    /// The same to a Head that is not ready.
    fn early(config: &Config) -> Liar {
        let mut liar = Liar::silent(config);
        let mut hello = Vec::new();
        Hello::ours(Side::Neck, Token::default()).write(&mut hello);
        liar.send(Kind::Hello, 0, &hello).unwrap();
        liar.send(Kind::Ready, 0, &[]).unwrap();
        liar.actions.clear();
        liar
    }

    fn send(&mut self, kind: Kind, id: u64, body: &[u8]) -> Result<(), ProtocolError> {
        self.send_part(kind, id, body, Flags::default())
    }

    fn send_part(&mut self, kind: Kind, id: u64, body: &[u8], flags: Flags) -> Result<(), ProtocolError> {
        let frame = self.frame(kind, id, body, flags);
        take_frames(&mut self.head, frame, self.now, &mut self.actions)
    }

    fn frame(&self, kind: Kind, id: u64, body: &[u8], flags: Flags) -> Vec<u8> {
        let mut frame = vec![0; HEADER_LEN];
        frame.extend_from_slice(body);
        Header { kind, flags, id, ack: self.ack }.write(&mut frame);
        frame
    }

    fn call(&mut self, counter: u64) -> Result<(), ProtocolError> {
        self.send(Kind::Call, id(counter), &head())
    }

    /// Reads what the Head sends, and acknowledges it.
    fn read(&mut self) -> Vec<Header> {
        let (mut packet, mut headers) = (Packet::default(), Vec::new());
        while self.head.next_packet(&mut packet) {
            for (header, len) in super::pair::frames(packet.bytes()) {
                if !crate::link::outbox::is_free(header.kind) {
                    self.ack.frames += 1;
                    self.ack.bytes += len as u32;
                }
                headers.push(header);
            }
        }
        headers
    }
}

fn id(counter: u64) -> u64 {
    TransactionId::new(Side::Neck, counter).to_bits()
}

fn head() -> Vec<u8> {
    let mut body = Vec::new();
    CallHead { parent: None, remaining: None, attempt: 0, shape: 0, path: b"x" }.write(&mut body);
    body
}

const MORE: Flags = Flags { more: true, continues: false };

#[test]
fn an_id_may_be_used_again_once_its_call_has_ended() {
    let mut liar = Liar::new();
    liar.call(9).unwrap();
    let served = TransactionId::from_bits(id(9)).unwrap();
    assert_eq!(liar.call(9), Err(ProtocolError::DuplicateId(id(9))));
    assert_eq!(liar.head.finish_served(served), Finish::Awaited);
    liar.call(9).unwrap();
    liar.call(3).unwrap();
}

#[test]
fn a_call_is_in_use_from_its_first_part_on() {
    let mut liar = Liar::new();
    liar.send_part(Kind::Call, id(1), &head(), MORE).unwrap();
    assert_eq!(liar.call(1), Err(ProtocolError::DuplicateId(id(1))));
    let mut liar = Liar::new();
    liar.send_part(Kind::Event, id(1), &head(), MORE).unwrap();
    assert_eq!(liar.call(1), Err(ProtocolError::DuplicateId(id(1))));
}

#[test]
fn a_cancelled_call_is_in_use_until_its_handler_returns() {
    let mut liar = Liar::new();
    liar.call(1).unwrap();
    liar.send(Kind::Cancel, id(1), &[]).unwrap();
    assert_eq!(liar.call(1), Err(ProtocolError::DuplicateId(id(1))));
}

/// Found by fuzzing: of two answers with one id that were cut, each went on with the bytes of the other.
#[test]
fn d_26_a_call_is_in_use_until_a_large_answer_has_left() {
    let large = || vec![0; HEADER_LEN + 70_000].into();
    let mut liar = Liar::new();
    let served = TransactionId::from_bits(id(1)).unwrap();
    liar.call(1).unwrap();
    assert_eq!(liar.head.finish_served(served), Finish::Awaited);
    liar.head.answer(served, Kind::Reply, large(), None);
    assert_eq!(liar.call(1), Err(ProtocolError::DuplicateId(id(1))), "nothing of it has left");
    let mut packet = Packet::default();
    assert!(liar.head.next_packet(&mut packet));
    assert_eq!(liar.call(1), Err(ProtocolError::DuplicateId(id(1))), "it has left in part");
    liar.read();
    liar.call(1).unwrap();
}

#[test]
fn ids_have_a_counter_and_the_right_side() {
    for bits in [0, 1 << 63, 1, u64::MAX >> 1] {
        for kind in [Kind::Call, Kind::Event] {
            assert_eq!(Liar::new().send(kind, bits, &head()), Err(ProtocolError::BadId(bits)));
        }
    }
    Liar::new().send(Kind::Call, u64::MAX, &head()).unwrap();
}

#[test]
fn an_answer_is_to_a_call_that_has_left() {
    for kind in [Kind::Reply, Kind::Fault] {
        let mut liar = Liar::silent(&Config::new());
        liar.head.begin_call(1, None, call(1, 10), false, None).unwrap();
        let mut hello = Vec::new();
        Hello::ours(Side::Neck, Token::default()).write(&mut hello);
        liar.send(Kind::Hello, 0, &hello).unwrap();
        // It is issued, and waits for the ready.
        assert_eq!(liar.send(kind, 1, &[0; 32]), Err(ProtocolError::UnknownId(1)));
        assert_eq!(liar.head.n_calls(), 1);
    }
}

#[test]
fn an_answer_to_no_call_is_refused_at_its_first_part() {
    for (kind, bits) in [(Kind::Reply, 1), (Kind::Fault, 7), (Kind::Reply, id(1)), (Kind::Fault, 0)] {
        let result = Liar::new().send_part(kind, bits, &[0; 32], MORE);
        assert_eq!(result, Err(ProtocolError::UnknownId(bits)));
    }
}

#[test]
fn of_two_answers_the_first_counts() {
    let mut liar = Liar::new();
    liar.head.begin_call(1, None, call(1, 10), false, None).unwrap();
    liar.read();
    liar.send(Kind::Reply, 1, b"one").unwrap();
    liar.send(Kind::Reply, 1, b"two").unwrap();
    let [Action::Complete(1, Ok(value)), Action::LateReply] = &liar.actions[..] else {
        panic!("{:?}", liar.actions)
    };
    assert_eq!(&*value.bytes(), b"one");
}

#[test]
fn a_peer_cannot_end_our_calls_in_our_name() {
    let mut liar = Liar::new();
    liar.head.begin_call(1, None, call(1, 10), false, None).unwrap();
    liar.read();
    // The codes of ends that only the calling side can know.
    let mut record = Vec::new();
    CallError::Cancelled.to_record(crate::wire::Codec::Binary).write(&mut record);
    liar.send(Kind::Fault, 1, &record).unwrap();
    assert!(
        matches!(&liar.actions[..], [Action::Complete(1, Err(CallError::Fault(_)))]),
        "{:?}",
        liar.actions
    );
}

#[test]
fn more_is_acknowledged_than_was_sent() {
    let mut liar = Liar::new();
    liar.read();
    for lie in [Ack { frames: 1, bytes: 0 }, Ack { frames: 0, bytes: 1 }, Ack { frames: u32::MAX, bytes: 0 }]
    {
        liar.ack = lie;
        assert_eq!(liar.send(Kind::Credit, 0, &[]), Err(ProtocolError::FlowControl));
    }
}

#[test]
fn less_is_acknowledged_than_before() {
    let mut liar = Liar::new();
    liar.head.begin_call(1, None, call(1, 10), false, None).unwrap();
    liar.read();
    liar.send(Kind::Credit, 0, &[]).unwrap();
    liar.ack = Ack::default();
    assert_eq!(liar.send(Kind::Credit, 0, &[]), Err(ProtocolError::FlowControl));
}

#[test]
fn a_window_that_is_full_is_full() {
    let mut liar = Liar::new();
    let event = [1, b'x'];
    for counter in 1..=128 {
        liar.send(Kind::Event, id(counter), &event).unwrap();
    }
    // Nothing was acknowledged, since the Head was not asked for a frame.
    assert_eq!(liar.send(Kind::Event, id(129), &event), Err(ProtocolError::FlowControl));
    let mut liar = Liar::new();
    let large = [&event[..], &[0; 60_000]].concat();
    for counter in 1..=4 {
        liar.send(Kind::Event, id(counter), &large).unwrap();
    }
    assert_eq!(liar.send(Kind::Event, id(5), &large), Err(ProtocolError::FlowControl));
}

#[test]
fn what_costs_nothing_is_refused_in_the_end() {
    type Send = fn(&mut Liar) -> Result<(), ProtocolError>;
    let kinds: [(&str, Send); 6] = [
        ("credit for nothing", |liar| liar.send(Kind::Credit, 0, &[])),
        ("pings", |liar| liar.send(Kind::Ping, 1, &[])),
        ("pongs", |liar| liar.send(Kind::Pong, 1, &[])),
        ("cancels", |liar| liar.send(Kind::Cancel, id(1), &[])),
        ("go-aways", |liar| liar.send(Kind::GoAway, 0, &[])),
        ("unknown frames", |liar| liar.head.skip_frame(liar.now)),
    ];
    for (what, send) in kinds {
        let mut liar = Liar::new();
        let mut n = 0;
        let error = loop {
            liar.read();
            match send(&mut liar) {
                Ok(()) => n += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(error, ProtocolError::Flood(what));
        assert!((20_000..20_002).contains(&n), "{n} {what}");
        // An honest pace is never refused.
        let mut liar = Liar::new();
        for _ in 0..50_000 {
            liar.now += Duration::from_micros(100);
            liar.read();
            send(&mut liar).unwrap();
        }
    }
}

/// Red when a cancel is counted as what costs nothing: each of these follows from a call that was taken, and a program
/// that gives calls up does that as fast as it calls.
#[test]
fn p_06_calls_that_are_cancelled_are_no_flood_however_many_they_are() {
    let mut liar = Liar::new();
    for counter in 1..=60_000 {
        liar.read();
        liar.call(counter).unwrap();
        // Some are given up while they run, others when the answer is on its way.
        let answered = counter % 2 == 0;
        let served = TransactionId::from_bits(id(counter)).unwrap();
        if answered {
            assert_eq!(liar.head.finish_served(served), Finish::Awaited);
            liar.head.answer(served, Kind::Reply, vec![0; HEADER_LEN].into(), None);
        }
        liar.send(Kind::Cancel, id(counter), &[]).unwrap();
        if !answered {
            liar.head.finish_served(served);
        }
        liar.actions.clear();
    }
}

/// Red when a caller that keeps to the usual limits is refused so often that it is taken for a flood.
#[test]
fn a_small_limit_of_calls_is_no_trap_for_a_caller_that_does_not_know_it() {
    let mut liar = Liar::with(&Config::new().served_calls(1));
    let mut packet = Packet::default();
    for counter in 1..=1024 {
        // What it sends is on its way still.
        while liar.head.next_packet(&mut packet) {}
        liar.call(counter).unwrap();
    }
}

#[test]
fn pings_that_nobody_reads_the_answers_of_do_not_pile_up() {
    let mut liar = Liar::new();
    let error = (0..128).find_map(|n| liar.send(Kind::Ping, n, &[]).err());
    assert_eq!(error, Some(ProtocolError::Flood("pings that are not read")));
    assert!(liar.head.outbox.n_pongs() <= 64);
}

#[test]
fn ac_63_answers_that_nobody_reads_do_not_pile_up() {
    let mut liar = Liar::with(&Config::new().served_calls(10));
    let (mut packet, mut counter) = (Packet::default(), 0);
    let error = loop {
        counter += 1;
        // The Head sends what it may, and is told of none of it.
        while liar.head.next_packet(&mut packet) {}
        let sent = liar.call(counter);
        for action in std::mem::take(&mut liar.actions) {
            let Action::Dispatch(incoming, _) = action else { panic!("{action:?}") };
            let served = incoming.id.unwrap();
            assert_eq!(liar.head.finish_served(served), Finish::Awaited);
            liar.head.answer(served, Kind::Reply, vec![0; HEADER_LEN].into(), None);
        }
        assert!(liar.head.outbox.n_answers() <= 10 + 2048);
        match sent {
            Ok(()) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(error, ProtocolError::Flood("calls whose answers are not read"));
    assert!(counter > 128, "a whole window of answers is under way first");
}

#[test]
fn calls_beyond_the_limit_are_busy() {
    let mut liar = Liar::with(&Config::new().served_calls(2));
    (1..=3).for_each(|counter| liar.call(counter).unwrap());
    assert_eq!((liar.actions.len(), liar.head.n_served()), (2, 2));
    let answers: Vec<_> = liar.read().into_iter().filter(|h| h.kind == Kind::Fault).collect();
    assert_eq!(answers.iter().map(|header| header.id).collect::<Vec<_>>(), [id(3)]);
}

#[test]
fn behind_the_last_words_nothing_is_looked_at() {
    let mut liar = Liar::new();
    let mut bye = Vec::new();
    Bye { code: 7 }.write(&mut bye);
    let packet = [
        liar.frame(Kind::Bye, 0, &bye, Flags::default()),
        liar.frame(Kind::Call, id(1), &head(), Flags::default()),
        liar.frame(Kind::Hello, 0, &[], Flags::default()),
    ];
    take_frames(&mut liar.head, packet.concat(), liar.now, &mut liar.actions).unwrap();
    assert!(
        matches!(&liar.actions[..], [Action::Close(CloseReason::Accused { code: 7 })]),
        "{:?}",
        liar.actions
    );
    assert_eq!(liar.head.n_served(), 0);
}

#[test]
fn before_the_greeting_there_is_nothing() {
    for kind in [Kind::Ready, Kind::Call, Kind::Ping, Kind::Credit, Kind::Bye] {
        let error = Liar::silent(&Config::new()).send(kind, id(1), &head());
        assert_eq!(error, Err(ProtocolError::BadHello("something else came before it")));
    }
    let liar = Liar::silent(&Config::new());
    assert!(matches!(liar.head.vanished(), CloseReason::Protocol(ProtocolError::ClosedBeforeHello)));
    assert!(matches!(Liar::new().head.vanished(), CloseReason::Gone));
}

#[test]
fn p_36_before_its_own_ready_a_side_serves_nothing() {
    let early = || Liar::early(&Config::new());
    for kind in [Kind::Call, Kind::Open, Kind::Event] {
        for flags in [Flags::default(), MORE] {
            let mut liar = early();
            let error = liar.send_part(kind, id(1), &head(), flags);
            assert_eq!(error, Err(ProtocolError::OutOfPlace("a call before this side is ready")));
            assert!(liar.actions.is_empty() && liar.head.n_served() == 0, "{:?}", liar.actions);
        }
    }
    // Whoever is ready need not have been heard to be.
    let mut liar = early();
    liar.head.say_ready();
    liar.call(1).unwrap();
}
