//! A peer that writes into the shared words whatever it likes. What is impossible ends the connection;
//! whatever is not harms nobody but itself.

use std::{
    fs::File,
    io::{self, ErrorKind},
    os::{fd::OwnedFd, unix::fs::FileExt},
    thread,
    time::{Duration, Instant},
};

use fastrand::Rng;

use super::{helper, lane, watched};
use crate::{
    sync::{
        Arc, AtomicBool,
        modelled::Ordering::{self, Relaxed},
    },
    transport::{
        FrameReceiver, FrameSender, Received, Transport,
        contract::leaves_what_has_no_room,
        shm::{ShmEnds, lane::Lane, mapping::LEN, shm_pair},
    },
};

/// The words that a lane of these tests has.
const WORDS: usize = 64;

fn corrupt<T: std::fmt::Debug>(result: io::Result<T>) {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidData, "{error}");
    assert!(error.to_string().starts_with("the shared ring is corrupt"), "{error}");
}

/// What a reader makes of an index of the peer's, after a packet of one word.
fn read_with_tail(tail: u64) -> io::Result<Option<Received>> {
    let (lane, mut sender, mut receiver, _) = lane(WORDS);
    sender.send_packet(&[7; 8]).unwrap();
    assert!(receiver.look().unwrap().is_some());
    lane.control().producer.tail.store(tail, Relaxed);
    receiver.look()
}

#[test]
fn d_61_an_index_that_is_too_large() {
    // Two words were sent and read.
    for tail in [3 + WORDS as u64, 1 << 32, 1 << 63, u64::MAX - 7, u64::MAX] {
        corrupt(read_with_tail(tail));
    }
    // There is no index between two words: each is the number of one.
    for tail in [2, 3, 2 + WORDS as u64] {
        assert!(matches!(read_with_tail(tail), Ok(None) | Err(_)), "{tail}");
    }
}

#[test]
fn d_65_an_index_that_goes_back() {
    for tail in [0, 1] {
        corrupt(read_with_tail(tail));
    }
    let (lane, mut sender, mut receiver, _) = lane(WORDS);
    receiver.never_join();
    // Seen and not yet read goes back as little as read does.
    (0..3).for_each(|_| sender.send_packet(&[7; 8]).unwrap());
    assert!(receiver.look().unwrap().is_some());
    lane.control().producer.tail.store(3, Relaxed);
    assert!(receiver.look().unwrap().is_some(), "what was seen is there");
    assert!(receiver.look().unwrap().is_some(), "what was seen is there");
    corrupt(receiver.look());
}

#[test]
fn d_65_room_that_was_never_made_or_is_taken_back() {
    for head in [0, 1, 200, u64::MAX - 7] {
        let (lane, mut sender, mut receiver, _) = lane(WORDS);
        // Around the ring, so that the sender has looked: it knows that more than one word was read.
        for _ in 0..3 * WORDS {
            sender.send_packet(&[7; 8]).unwrap();
            assert!(receiver.look().unwrap().is_some());
        }
        lane.control().consumer.head.store(head, Relaxed);
        corrupt((0..=WORDS).try_for_each(|_| sender.send_packet(&[7; 8])));
    }
}

#[test]
fn d_62_a_length_that_no_packet_has() {
    let lengths = [0, 65_537, 1 << 32 | 8, u64::MAX, u64::from_ne_bytes(*b"nonsense")];
    for length in lengths {
        let (lane, _sender, mut receiver, _) = lane(WORDS);
        lane.words()[0].store(length, Relaxed);
        lane.control().producer.tail.store(2, Ordering::Release);
        corrupt(receiver.look());
    }
}

#[test]
fn d_62_d_63_a_length_is_read_once_and_a_packet_is_our_own() {
    let (lane, _sender, mut receiver, _) = lane(WORDS);
    lane.words()[0].store(16, Relaxed);
    lane.words()[1].store(1, Relaxed);
    // The packet has begun when its length changes, and ends as it began.
    lane.control().producer.tail.store(2, Ordering::Release);
    assert_eq!(receiver.look().unwrap(), None);
    lane.words()[0].store(u64::MAX, Relaxed);
    // What was taken over does not change any more.
    lane.words()[1].store(u64::MAX, Relaxed);
    lane.words()[2].store(2, Relaxed);
    lane.control().producer.tail.store(3, Ordering::Release);
    let expected = [1u64, 2].iter().flat_map(|word| word.to_ne_bytes()).collect();
    assert_eq!(receiver.look().unwrap(), Some(Received::Packet(expected)));
}

#[test]
fn p_33_a_length_alone_costs_no_more_than_a_packet() {
    let (lane, _sender, mut receiver, _) = lane(WORDS);
    lane.words()[0].store(crate::wire::FRAME_LIMIT as u64, Relaxed);
    lane.control().producer.tail.store(1, Ordering::Release);
    let soon = Instant::now() + Duration::from_millis(20);
    assert_eq!(receiver.receive(Some(soon)).unwrap(), Received::Deadline);
    drop(_sender);
    assert_eq!(receiver.receive(None).unwrap(), Received::End, "half a packet is none");
}

/// Hangs when nobody notices that a wait runs in circles.
#[test]
fn d_64_a_bell_that_never_stands_still() {
    watched(|| {
        let (lane, _sender, mut receiver, own) = lane(WORDS);
        let over = Arc::new(AtomicBool::new(false));
        let scribbler = {
            let (over, lane) = (over.clone(), lane.clone());
            helper(move || {
                let mut random = Rng::with_seed(6);
                while !over.load(Relaxed) {
                    // All but the mark that says that there is nobody who sends.
                    lane.control().producer.bell.store(random.u32(..) & !2, Relaxed);
                    crate::os::wake(&lane.control().producer.bell);
                }
            })
        };
        let (mut broken, start) = (false, Instant::now());
        // None runs in circles while the other thread does not run, which on a busy machine takes a while.
        while !broken || start.elapsed() < Duration::from_millis(500) {
            let wait = Duration::from_millis(20);
            let began = Instant::now();
            match receiver.receive(Some(began + wait)) {
                Ok(Received::Deadline) => assert!(began.elapsed() >= wait),
                Ok(other) => panic!("{other:?}"),
                Err(error) => {
                    corrupt(Err::<(), _>(error));
                    broken = true;
                }
            }
            assert!(began.elapsed() < wait * 50, "{:?}", began.elapsed());
            // Nudges of our own are seen all the same.
            own.nudge(lane.control());
            assert_eq!(receiver.receive(None).unwrap(), Received::Nudge);
        }
        over.store(true, Relaxed);
        scribbler.join().unwrap();
    });
}

/// The bell is cleared again and again, as if nobody slept and nobody had rung: that may cost the peer its
/// own wake-ups, but none of ours.
#[test]
fn d_64_a_nudge_that_the_peer_takes_back() {
    watched(|| {
        let (lane, _sender, mut receiver, own) = lane(WORDS);
        let (over, nudged) = (Arc::new(AtomicBool::new(false)), crossbeam_channel::bounded::<()>(0));
        let scribbler = {
            let (over, lane) = (over.clone(), lane.clone());
            helper(move || {
                while !over.load(Relaxed) {
                    (0..50).for_each(|_| lane.control().producer.bell.store(1, Relaxed));
                    thread::yield_now();
                }
            })
        };
        let thread = helper(move || {
            for _ in 0..2000 {
                nudged.0.send(()).unwrap();
                assert_eq!(receiver.receive(None).unwrap(), Received::Nudge);
            }
        });
        while nudged.1.recv().is_ok() {
            own.nudge(lane.control());
        }
        thread.join().unwrap();
        over.store(true, Relaxed);
        scribbler.join().unwrap();
    });
}

#[test]
fn a_peer_that_makes_no_room_costs_a_second_at_most() {
    let (_, mut sender, _receiver, _) = lane(WORDS);
    sender.be_patient_for(Duration::from_millis(30));
    let start = Instant::now();
    let error = (0..=WORDS).try_for_each(|_| sender.send(&[7; 8])).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(start.elapsed() >= Duration::from_millis(30));
}

/// Red when whoever sends waits for a peer that does not read.
#[test]
fn p_04_what_has_no_room_is_left_and_goes_later() {
    watched(|| leaves_what_has_no_room(shm_pair().unwrap()));
    // A packet that is larger than the ring goes word by word.
    let (_, mut sender, mut receiver, _) = lane(WORDS);
    let packet: Vec<u8> = (0..60_000u32).map(|n| n as u8).collect();
    assert!(!sender.try_send(&packet).unwrap());
    let reads = helper(move || receiver.receive(None).unwrap());
    while !sender.go_on(Instant::now() + Duration::from_millis(1)).unwrap() {}
    assert_eq!(reads.join().unwrap(), Received::Packet(packet));
}

/// Red when each word of room has the patience anew.
#[test]
fn p_17_a_peer_that_makes_room_word_by_word_costs_a_second_at_most() {
    watched(|| {
        let (lane, mut sender, _receiver, _) = lane(WORDS);
        sender.be_patient_for(Duration::from_millis(300));
        let over = Arc::new(AtomicBool::new(false));
        let reads = {
            let over = over.clone();
            helper(move || {
                while !over.load(Relaxed) {
                    thread::sleep(Duration::from_millis(10));
                    let head = lane.control().consumer.head.load(Relaxed);
                    if head < lane.control().producer.tail.load(Relaxed) {
                        lane.control().consumer.head.store(head + 1, Relaxed);
                    }
                }
            })
        };
        // At this pace all of it takes longer than the watchdog waits.
        let error = sender.send_packet(&[7; 60_000]).unwrap_err();
        over.store(true, Relaxed);
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        reads.join().unwrap();
    });
}

/// It published a packet and was killed before it could ring; half of another was not published.
#[test]
fn p_40_a_death_between_the_index_and_the_wake_up() {
    watched(|| {
        let (lane, mut sender, mut receiver, own) = lane(WORDS);
        let thread = helper(move || [receiver.receive(None).unwrap(), receiver.receive(None).unwrap()]);
        lane.words()[0].store(8, Relaxed);
        lane.words()[1].store(7, Relaxed);
        lane.words()[2].store(8, Relaxed);
        lane.control().producer.tail.store(3, Ordering::Release);
        own.end(lane.control());
        let seven = Received::Packet(7u64.to_ne_bytes().to_vec());
        assert_eq!(thread.join().unwrap(), [seven, Received::End]);
        assert_eq!(sender.send(&[1]).unwrap_err().kind(), ErrorKind::BrokenPipe);
    });
}

#[test]
fn p_40_a_notice_of_death_frees_both_halves() {
    watched(|| {
        let ends = ShmEnds::new().unwrap();
        let (end, notice) = ends.ours.into_watched().unwrap();
        let Transport { mut sender, mut receiver, .. } = end;
        let receives = helper(move || receiver.receive(None).unwrap());
        // Nobody reads, so that it comes to wait for room.
        let sends = helper(move || {
            loop {
                if let Err(error) = sender.send(&[7; 60_000]) {
                    return error.kind();
                }
            }
        });
        notice.give();
        assert_eq!(receives.join().unwrap(), Received::End);
        assert!(matches!(sends.join().unwrap(), ErrorKind::BrokenPipe));
    });
}

/// Random words over all of the memory, while both ends send and receive.
#[test]
fn p_39_scribbling_over_everything() {
    scribble(0..LEN as u64 / 8);
}

/// The same over the words that the ends steer by, where most of it is noticed.
/// Red when an index is not checked.
#[test]
fn p_39_scribbling_over_the_words_to_steer_by() {
    scribble(0..80);
}

/// The same over the packets alone, where nothing but their lengths is noticed.
#[test]
fn p_39_scribbling_over_the_packets() {
    scribble(512..LEN as u64 / 8);
}

fn scribble(words: std::ops::Range<u64>) {
    watched(move || {
        let (mut random, start) = (Rng::with_seed(words.start + 7), Instant::now());
        while start.elapsed() < Duration::from_secs(crate::soak::rounds(1)) {
            let (memory, ours, theirs) = three_holders();
            let over = Arc::new(AtomicBool::new(false));
            let scribbler = {
                let (over, words, seed) = (over.clone(), words.clone(), random.u64(..));
                helper(move || scribble_until(&over, &File::from(memory), words, Rng::with_seed(seed)))
            };
            let ends = [ours, theirs].map(|end| helper(move || use_until_broken(end)));
            ends.into_iter().for_each(|end| end.join().unwrap());
            over.store(true, Relaxed);
            scribbler.join().unwrap();
        }
    });
}

fn three_holders() -> (OwnedFd, Transport, Transport) {
    let ends = ShmEnds::new().unwrap();
    let memory = ends.ours.memory().try_clone_to_owned().unwrap();
    (memory, ends.ours.into_transport().unwrap(), ends.theirs.into_transport().unwrap())
}

fn scribble_until(over: &AtomicBool, memory: &File, words: std::ops::Range<u64>, mut random: Rng) {
    while !over.load(Relaxed) {
        let at = random.u64(words.clone());
        // Small numbers are the ones that may be possible.
        let shift = random.u64(..64);
        memory.write_all_at(&(random.u64(..) >> shift).to_ne_bytes(), at * 8).unwrap();
    }
}

/// Sends and receives, each for a bounded time, for a while or until it fails.
fn use_until_broken(end: Transport) {
    let (mut random, start) = (Rng::with_seed(8), Instant::now());
    let Transport { mut sender, mut receiver, nudge, .. } = end;
    while start.elapsed() < Duration::from_millis(100) {
        let began = Instant::now();
        let sent = sender.send(&vec![7; 1 + random.u64(..3000) as usize]);
        nudge.nudge();
        let received = receiver.receive(Some(Instant::now() + Duration::from_millis(5)));
        // A second for room that the peer never makes; the rest is for a busy machine.
        assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
        if sent.is_err() || matches!(received, Err(_) | Ok(Received::End)) {
            return;
        }
    }
}
