//! Real threads, as fast as they go and with delays of all lengths: nothing is lost, nobody is missed.

use std::{
    hint::spin_loop,
    thread,
    time::{Duration, Instant},
};

use fastrand::Rng;

use super::{helper, lane, watched};
use crate::{
    soak::rounds,
    transport::{
        FrameReceiver, FrameSender, Received, Transport,
        shm::{lane::Lane, receiver::ShmReceiver, sender::ShmSender},
        shm_pair,
    },
};

/// Waits for a random while: mostly not at all, sometimes for longer than a spin takes.
fn dawdle(random: &mut Rng) {
    match random.u64(..1000) {
        0 => thread::sleep(Duration::from_micros(random.u64(..200))),
        1..20 => {
            let until = Instant::now() + Duration::from_micros(random.u64(..60));
            while Instant::now() < until {
                spin_loop();
            }
        }
        20..200 => (0..random.u64(..100)).for_each(|_| spin_loop()),
        _ => {}
    }
}

/// A packet that says which one it is all over.
fn packet(number: u64, len: usize) -> Vec<u8> {
    number.to_le_bytes().into_iter().cycle().take(len).collect()
}

fn send_all(sender: &mut impl FrameSender, n: u64, longest: u64) {
    let (mut sizes, mut delays) = (Rng::with_seed(1), Rng::with_seed(2));
    for number in 0..n {
        sender.send(&packet(number, 8 + sizes.u64(..longest) as usize)).unwrap();
        dawdle(&mut delays);
    }
}

fn receive_all(mut receiver: impl FrameReceiver, n: u64, longest: u64) {
    let (mut sizes, mut delays) = (Rng::with_seed(1), Rng::with_seed(3));
    // Several may come in one piece.
    let mut piece = Vec::new();
    for number in 0..n {
        let expected = packet(number, 8 + sizes.u64(..longest) as usize);
        if piece.is_empty() {
            let Received::Packet(packet) = receiver.receive(None).unwrap() else {
                panic!("no packet {number}")
            };
            piece = packet;
            dawdle(&mut delays);
        }
        assert!(piece.starts_with(&expected), "packet {number}");
        piece.drain(..expected.len());
    }
    assert!(piece.is_empty());
    assert_eq!(receiver.receive(None).unwrap(), Received::End);
}

fn one_way<L: Lane + Send + 'static>(sender: ShmSender<L>, receiver: ShmReceiver<L>, n: u64, longest: u64) {
    let mut sender = sender;
    let thread = helper(move || send_all(&mut sender, n, longest));
    receive_all(receiver, n, longest);
    thread.join().unwrap();
}

#[test]
fn p_40_a_million_packets_one_way() {
    watched(|| {
        let (_, sender, receiver, _) = lane(1024);
        one_way(sender, receiver, 1000 * rounds(1000), 32);
    });
}

#[test]
fn p_40_packets_that_are_larger_than_the_ring() {
    watched(|| {
        let (_, sender, receiver, _) = lane(4);
        one_way(sender, receiver, 100 * rounds(100), 300);
    });
}

/// Nobody ever spins: each wait is a sleep, and each wake-up is needed.
/// Red when whoever sleeps is not woken.
#[test]
fn p_40_no_wake_up_is_lost() {
    watched(|| {
        let (_, sender, mut receiver, _) = lane(1024);
        receiver.never_spin();
        one_way(sender, receiver, 1000 * rounds(200), 8);
    });
}

#[test]
fn p_40_there_and_back() {
    watched(|| {
        let (ours, theirs) = shm_pair().unwrap();
        let thread = helper(move || echo(theirs));
        let (mut random, Transport { mut sender, mut receiver, .. }) = (Rng::with_seed(4), ours);
        for number in 0..1000 * rounds(200) {
            sender.send(&packet(number, 24)).unwrap();
            assert_eq!(receiver.receive(None).unwrap(), Received::Packet(packet(number, 24)));
            dawdle(&mut random);
        }
        drop(sender);
        thread.join().unwrap();
    });
}

/// Sends back what comes, until nothing more does.
fn echo(end: Transport) {
    let (mut random, Transport { mut sender, mut receiver, .. }) = (Rng::with_seed(5), end);
    while let Received::Packet(packet) = receiver.receive(None).unwrap() {
        dawdle(&mut random);
        sender.send(&packet).unwrap();
    }
}

#[test]
fn p_40_no_nudge_is_lost_among_packets() {
    watched(|| {
        let (lane, mut sender, mut receiver, own) = lane(64);
        receiver.never_join();
        // The sender comes back, since its end is not what is tried here.
        let packets = helper(move || {
            send_all(&mut sender, ROUNDS, 8);
            sender
        });
        let (taken, seen) = crossbeam_channel::bounded::<()>(1);
        let nudges = helper(move || {
            for _ in 0..ROUNDS {
                own.nudge(lane.control());
                // Nobody nudges again before the last one was taken, so that each counts.
                seen.recv().unwrap();
            }
        });
        let (mut n_packets, mut n_nudges) = (0, 0);
        while n_packets < ROUNDS || n_nudges < ROUNDS {
            match receiver.receive(None).unwrap() {
                Received::Packet(_) => n_packets += 1,
                Received::Nudge => {
                    n_nudges += 1;
                    taken.send(()).unwrap();
                }
                other => panic!("{other:?}"),
            }
        }
        packets.join().unwrap();
        nudges.join().unwrap();
    });
}

const ROUNDS: u64 = 20_000;
