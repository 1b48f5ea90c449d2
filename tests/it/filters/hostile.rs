//! Somebody on the way who changes what travels.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use nape::{
    Api, CallError, CloseReason, Context, Fault, Head, LinkState, Neck, ProtocolError, Token,
    transport::{FrameSender, Transport, memory_pair},
};

use super::{Filters, ended, noise, watched};
use crate::tools::{LONG, eventually};

/// What becomes of the packet with this number that one end sends: the packets that arrive in its place. 0 is the
/// hello, 1 the ready, and the calls follow.
type Meddle = Box<dyn FnMut(usize, Vec<u8>) -> Vec<Vec<u8>> + Send>;

struct Meddler {
    to: Box<dyn FrameSender>,
    n: usize,
    meddle: Meddle,
}

impl FrameSender for Meddler {
    fn send(&mut self, packet: &[u8]) -> std::io::Result<()> {
        let number = self.n;
        self.n += 1;
        (self.meddle)(number, packet.to_vec()).iter().try_for_each(|packet| self.to.send(packet))
    }
}

fn meddled(end: Transport, meddle: Meddle) -> Transport {
    Transport { sender: Box::new(Meddler { to: end.sender, n: 0, meddle }), ..end }
}

/// A Head of which what it sends is meddled with, and its Neck.
fn ends(filters: Filters, meddle: Meddle) -> (Head, Neck) {
    let (ours, theirs) = memory_pair();
    let echo = Api::new("a").handle("echo", |_: &Context, bytes: Vec<u8>| Ok::<_, Fault>(bytes)).unwrap();
    // Its ready waits for the greeting of the other side then, so that nothing else goes before it.
    let head = Head::builder().config(filters.config()).over(meddled(ours, meddle)).unwrap();
    (head, Neck::builder().config(filters.config()).serve(echo).over(theirs).unwrap().start())
}

/// What the Neck says of the third packet of the Head being treated so; the Head is told its number.
fn verdict(filters: Filters, meddle: Meddle) -> ProtocolError {
    let (head, neck) = ends(filters, meddle);
    assert_eq!(head.wait_open(LONG), LinkState::Open);
    let api = head.api("a").timeout(LONG);
    // One after the other, so that each is a packet of its own.
    let error = (0..4u8).find_map(|n| api.action("echo", vec![n; 40]).call::<Vec<u8>>().err()).unwrap();
    let CallError::Closed { reason, .. } = error else { panic!("{error:?}") };
    let theirs = ended(&neck);
    let CloseReason::Protocol(error) = &*theirs else { panic!("{theirs:?}") };
    assert!(matches!(*reason, CloseReason::Accused { code } if code == error.code()), "{reason:?}");
    error.clone()
}

fn at(number: usize, mut change: impl FnMut(Vec<u8>) -> Vec<Vec<u8>> + Send + 'static) -> Meddle {
    Box::new(move |n, packet| if n == number { change(packet) } else { vec![packet] })
}

/// Red when a record is opened that is not as it was sent.
#[test]
fn a_byte_that_was_flipped_ends_the_link() {
    watched(|| {
        for place in 0..110 {
            for filters in [Filters::Sealed, Filters::Both] {
                let flip = move |mut packet: Vec<u8>| {
                    let place = place % packet.len();
                    packet[place] ^= 0x40;
                    vec![packet]
                };
                let error = verdict(filters, at(3, flip));
                let right = match place {
                    // The length, and that it is a record, are looked at first.
                    0..4 => !matches!(error, ProtocolError::BadRecord(_)),
                    4 => matches!(error, ProtocolError::BadRecord(_)),
                    _ => matches!(error, ProtocolError::BadSeal(_)),
                };
                assert!(right, "byte {place}: {error}");
            }
        }
    });
}

/// Red when the number of a record does not count.
#[test]
fn records_that_are_repeated_left_out_or_swapped_end_the_link() {
    watched(|| {
        let repeated = verdict(Filters::Sealed, at(3, |packet| vec![packet.clone(), packet]));
        assert_eq!(repeated, ProtocolError::BadSeal(3));
        let mut old = Vec::new();
        let replayed = verdict(
            Filters::Sealed,
            Box::new(move |n, packet| {
                old.push(packet.clone());
                if n == 4 { vec![old[2].clone()] } else { vec![packet] }
            }),
        );
        assert_eq!(replayed, ProtocolError::BadSeal(3));
        // The call in it gets no answer, but the cancel behind it comes.
        let (head, neck) = ends(Filters::Sealed, at(3, |_| Vec::new()));
        let api = head.api("a").timeout(LONG);
        api.action("echo", vec![1u8]).call::<Vec<u8>>().unwrap();
        api.action("echo", vec![2u8]).start::<Vec<u8>>().unwrap().cancel();
        let reason = ended(&neck);
        assert!(matches!(*reason, CloseReason::Protocol(ProtocolError::BadSeal(2))), "{reason:?}");
        // Of two, the second comes first.
        let mut held = Vec::new();
        let swapped = Box::new(move |n, packet| match n {
            3 => (held.push(packet), Vec::new()).1,
            4 => vec![packet, held.remove(0)],
            _ => vec![packet],
        });
        let (head, neck) = ends(Filters::Sealed, swapped);
        let api = head.api("a").timeout(LONG);
        api.action("echo", vec![1u8]).call::<Vec<u8>>().unwrap();
        api.action("echo", vec![2u8]).start::<Vec<u8>>().unwrap().cancel();
        let reason = ended(&neck);
        assert!(matches!(*reason, CloseReason::Protocol(ProtocolError::BadSeal(2))), "{reason:?}");
    });
}

/// What the Head of a sealed link has sent, from its greeting to a call.
fn packets_of_a_call() -> Vec<Vec<u8>> {
    let sent = Arc::new(Mutex::new(Vec::new()));
    let keep = sent.clone();
    let (head, _neck) = ends(
        Filters::Sealed,
        Box::new(move |_, packet| {
            keep.lock().unwrap().push(packet.clone());
            vec![packet]
        }),
    );
    assert_eq!(head.api("a").action("echo", vec![0u8; 40]).call::<Vec<u8>>().unwrap(), [0; 40]);
    drop(head);
    let sent = sent.lock().unwrap();
    sent.clone()
}

/// Red when what was sealed for another link opens on this one, or what one side has sealed on that side.
#[test]
fn records_from_elsewhere_end_the_link() {
    watched(|| {
        let foreign = packets_of_a_call()[2].clone();
        assert_eq!(
            verdict(Filters::Sealed, at(2, move |_| vec![foreign.clone()])),
            ProtocolError::BadSeal(1)
        );
    });
}

/// Red when a whole session of before is taken once more.
#[test]
fn a_session_that_is_played_again_is_refused() {
    watched(|| {
        let heard = packets_of_a_call();
        let (mut ours, theirs) = memory_pair();
        let neck = Neck::builder().config(Filters::Sealed.config()).over(theirs).unwrap().start();
        for packet in &heard {
            let _ = ours.sender.send(packet);
        }
        let reason = ended(&neck);
        assert!(matches!(*reason, CloseReason::Protocol(ProtocolError::BadSeal(0))), "{reason:?}");
    });
}

/// Red when a link that is cut off looks like one that was closed.
#[test]
fn a_link_that_is_cut_off_has_no_goodbye() {
    watched(|| {
        let (head, neck) =
            ends(Filters::Sealed, Box::new(|n, packet| if n < 3 { vec![packet] } else { vec![] }));
        let api = head.api("a").timeout(LONG);
        assert_eq!(api.action("echo", vec![1u8]).call::<Vec<u8>>().unwrap(), [1]);
        drop(head);
        assert!(matches!(*ended(&neck), CloseReason::Gone));
    });
}

/// Red when anything of a hello can be changed that means something.
#[test]
fn a_hello_that_was_changed_is_refused() {
    watched(|| {
        for filters in [Filters::Sealed, Filters::Both] {
            for place in 24..24 + 33 + 5 + 8 + 64 {
                let (head, neck) = ends(
                    filters,
                    at(0, move |mut packet: Vec<u8>| {
                        packet[place] ^= 1;
                        vec![packet]
                    }),
                );
                let reason = ended(&neck);
                assert!(matches!(*reason, CloseReason::Protocol(_)), "byte {place}: {reason:?}");
                ended(&head);
            }
        }
    });
}

/// Red when what was not sealed is taken from somebody on the way.
#[test]
fn frames_that_go_past_the_filters_end_the_link() {
    watched(|| {
        let ping = || {
            let mut frame = vec![20, 0, 0, 0, 11];
            frame.resize(24, 0);
            frame
        };
        let bye = |code: u8| [&[22, 0, 0, 0, 14][..], &[0; 19], &[code, 0]].concat();
        for filters in [Filters::Lz4, Filters::Sealed] {
            for frame in [ping(), bye(0), bye(5)] {
                let error = verdict(filters, at(3, move |packet| vec![frame.clone(), packet]));
                assert!(matches!(error, ProtocolError::BadRecord(_)), "{error}");
            }
        }
    });
}

/// Red when what comes out of a record has no bound: what is refused is refused before there is memory for it.
#[test]
fn a_bomb_ends_the_link() {
    watched(|| {
        let bomb = |unpacked: u16| {
            move |_: Vec<u8>| {
                // A literal, and a match that goes on for as long as there is input.
                let mut record = [&[0; 4][..], &[18, 1], &unpacked.to_le_bytes(), &[0x1f, 7, 1, 0]].concat();
                record.extend([0xff; 4000]);
                record.extend([0, 0x50, 1, 2, 3, 4, 5]);
                let len = record.len() as u32 - 4;
                record[..4].copy_from_slice(&len.to_le_bytes());
                vec![record]
            }
        };
        for unpacked in [1, 300, 61_440] {
            let error = verdict(Filters::Lz4, at(3, bomb(unpacked)));
            assert!(matches!(error, ProtocolError::BadRecord(text) if text.contains("more")), "{error}");
        }
        let error = verdict(Filters::Lz4, at(3, bomb(61_441)));
        assert!(matches!(error, ProtocolError::TooLarge { len: 61_441, .. }), "{error}");
    });
}

/// What somebody on the way can see: neither what is said, nor that the same is said twice.
#[test]
fn what_is_sealed_is_not_seen() {
    watched(|| {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let keep = seen.clone();
        let (head, _neck) = ends(
            Filters::Sealed,
            Box::new(move |_, packet| {
                keep.lock().unwrap().push(packet.clone());
                vec![packet]
            }),
        );
        let secret = noise(64);
        for _ in 0..2 {
            head.api("a").action("echo", secret.clone()).call::<Vec<u8>>().unwrap();
        }
        let seen = seen.lock().unwrap();
        let words = secret.windows(8).chain(b"a.echo".windows(6));
        for word in words {
            assert!(seen[1..].iter().all(|packet| packet.windows(word.len()).all(|part| part != word)));
        }
        assert!(seen.iter().all(|packet| seen.iter().filter(|other| *other == packet).count() == 1));
    });
}

/// The greeting of a peer with the key, as somebody on the way records it.
fn heard_greeting(token: Token) -> Vec<u8> {
    let middle = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("tcp:{}", middle.local_addr().unwrap());
    let speaker = thread::spawn(move || {
        let neck = Neck::builder().config(Filters::Sealed.config()).token(token).connect(&*address);
        assert!(neck.is_err(), "nobody answers it");
    });
    let (mut stream, _) = middle.accept().unwrap();
    let mut greeting = vec![0; 4];
    stream.read_exact(&mut greeting).unwrap();
    let len = u32::from_le_bytes(*greeting.first_chunk().unwrap()) as usize;
    greeting.resize(4 + len, 0);
    stream.read_exact(&mut greeting[4..]).unwrap();
    drop(stream);
    speaker.join().unwrap();
    greeting
}

/// Red when a hello alone makes a peer, or when a key is looked at behind the hooks.
#[test]
fn p_36_without_the_key_nobody_becomes_a_peer() {
    watched(|| {
        let token = Token::random().unwrap();
        let limit = Duration::from_millis(500);
        let arrivals = Arc::new(AtomicUsize::new(0));
        let (hook, begun) = (arrivals.clone(), arrivals.clone());
        let count = move || begun.fetch_add(100, Ordering::SeqCst);
        let served = Api::new("a").on_start(move || (count(), Ok(())).1);
        let listener = Head::builder()
            .config(Filters::Sealed.config().start_timeout(limit))
            .token(token)
            .serve(served)
            .listening()
            .on_arrival(move |_| _ = hook.fetch_add(1, Ordering::SeqCst))
            .listen("tcp:127.0.0.1:0")
            .unwrap();
        let greeting = heard_greeting(token);
        let since = Instant::now();
        let mut again = TcpStream::connect(listener.address().socket_addr().unwrap()).unwrap();
        again.write_all(&greeting).unwrap();
        let mut answer = [0; 4];
        again
            .read_exact(&mut answer)
            .expect("its hello is taken, since nobody can tell it from one of a peer");
        assert!(listener.peers().is_empty());
        let _ = again.read_to_end(&mut Vec::new());
        assert!(since.elapsed() >= limit, "it had {:?} only", since.elapsed());
        eventually(|| listener.n_turned_away() == 1);

        let address = || listener.address().clone();
        let foreign = Neck::builder().config(Filters::Foreign.config()).token(token).connect(address());
        assert!(foreign.is_err(), "it has another key");
        eventually(|| listener.n_turned_away() == 2);
        // One that sends a hello again need not wait until its time is over.
        let mut again = TcpStream::connect(listener.address().socket_addr().unwrap()).unwrap();
        again.write_all(&greeting).unwrap();
        again.read_exact(&mut answer).unwrap();
        drop(again);
        eventually(|| listener.n_turned_away() == 3);
        assert_eq!(arrivals.load(Ordering::SeqCst), 0, "nothing has started, and no hook has seen anybody");
        assert!(listener.accept(Duration::ZERO).is_none());

        // One who has it may take its time behind its greeting.
        let neck = Neck::builder().config(Filters::Sealed.config()).token(token).connect(address()).unwrap();
        let peer = listener.accept(LONG).expect("it has come");
        thread::sleep(2 * limit);
        let neck = neck.start();
        assert_eq!((neck.wait_open(LONG), peer.wait_open(LONG)), (LinkState::Open, LinkState::Open));
        assert_eq!((arrivals.load(Ordering::SeqCst), listener.peers().len()), (101, 1));
    });
}
