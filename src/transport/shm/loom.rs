//! Every order in which the threads around a lane can meet, tried by a model checker.
//!
//! ```text
//! RUSTFLAGS="--cfg loom" LOOM_MAX_PREEMPTIONS=3 cargo test --release --lib loom_shm
//! ```
//!
//! The model has the ring, the bell and the two halves as they are. The kernel's queue of sleepers is a
//! lock and a condition variable, nobody spins, and there are no deadlines. A wake-up that is lost is a
//! deadlock, which the checker reports; a word that is read too early is a wrong packet.
//!
//! It does not see everything: to the checker a load never gives what is stored after it, so that nothing
//! here fails when the pair *read* of `ring.rs` is relaxed, which lets the producer write over words that
//! are still to be loaded. That the ring is not used before it was read is tried on real threads only.

use super::{
    bell::OwnBell,
    lane::{HeapLane, Lane},
    receiver::ShmReceiver,
    sender::ShmSender,
};
use crate::{
    sync::{
        Arc,
        modelled::{AtomicU32, Ordering, model, spawn},
    },
    transport::Received,
};

struct Stage {
    lane: HeapLane,
    sender: ShmSender<HeapLane>,
    receiver: ShmReceiver<HeapLane>,
    own: OwnBell,
}

/// A lane of so many words. A packet of the tests takes two of them.
fn stage(words: usize) -> Stage {
    let (lane, own) = (HeapLane::new(words), OwnBell::new());
    let sender = ShmSender::new(lane.clone(), OwnBell::new());
    let mut receiver = ShmReceiver::new(lane.clone(), own.clone());
    receiver.never_spin();
    receiver.never_join();
    Stage { lane, sender, receiver, own }
}

fn receive(receiver: &mut ShmReceiver<HeapLane>) -> Received {
    receiver.receive_until(None).unwrap()
}

fn packet(number: u8) -> Received {
    Received::Packet(vec![number; 8])
}

#[test]
fn loom_shm_packets_are_seen_whole_and_wake() {
    model(|| {
        let Stage { lane: _lane, mut sender, mut receiver, .. } = stage(4);
        let thread = spawn(move || {
            sender.send_packet(&[1; 8]).unwrap();
            sender.send_packet(&[2; 8]).unwrap();
            sender
        });
        assert_eq!(receive(&mut receiver), packet(1));
        assert_eq!(receive(&mut receiver), packet(2));
        drop(thread.join().unwrap());
    });
}

#[test]
fn loom_shm_room_is_used_again_once_it_was_read() {
    model(|| {
        let Stage { mut sender, mut receiver, .. } = stage(2);
        let thread = spawn(move || {
            sender.send_packet(&[1; 8]).unwrap();
            sender.send_packet(&[2; 8]).unwrap();
            sender
        });
        assert_eq!(receive(&mut receiver), packet(1));
        assert_eq!(receive(&mut receiver), packet(2));
        drop(thread.join().unwrap());
    });
}

#[test]
fn loom_shm_the_end_comes_last_and_wakes() {
    model(|| {
        let Stage { mut sender, mut receiver, .. } = stage(4);
        let thread = spawn(move || sender.send_packet(&[1; 8]).unwrap());
        assert_eq!(receive(&mut receiver), packet(1));
        assert_eq!(receive(&mut receiver), Received::End);
        thread.join().unwrap();
    });
}

#[test]
fn loom_shm_a_nudge_wakes_and_shows_what_came_before() {
    model(|| {
        let Stage { lane, sender, mut receiver, own } = stage(2);
        let change = Arc::new(AtomicU32::new(0));
        let seen = change.clone();
        let thread = spawn(move || {
            change.store(1, Ordering::Relaxed);
            own.nudge(lane.control());
        });
        assert_eq!(receive(&mut receiver), Received::Nudge);
        assert_eq!(seen.load(Ordering::Relaxed), 1);
        thread.join().unwrap();
        drop(sender);
    });
}

#[test]
fn loom_shm_of_two_nudges_the_last_is_seen() {
    model(|| {
        let Stage { lane, sender, mut receiver, own } = stage(2);
        let changes = Arc::new(AtomicU32::new(0));
        let seen = changes.clone();
        let thread = spawn(move || {
            for _ in 0..2 {
                changes.fetch_add(1, Ordering::Relaxed);
                own.nudge(lane.control());
            }
        });
        while seen.load(Ordering::Relaxed) < 2 {
            assert_eq!(receive(&mut receiver), Received::Nudge);
        }
        thread.join().unwrap();
        drop(sender);
    });
}

#[test]
fn loom_shm_a_nudge_comes_after_the_packets_before_it() {
    model(|| {
        let Stage { lane, mut sender, mut receiver, own } = stage(4);
        let thread = spawn(move || {
            sender.send_packet(&[1; 8]).unwrap();
            own.nudge(lane.control());
            sender
        });
        assert_eq!(receive(&mut receiver), packet(1));
        assert_eq!(receive(&mut receiver), Received::Nudge);
        drop(thread.join().unwrap());
    });
}

#[test]
fn loom_shm_a_nudge_and_a_packet_at_once_are_both_seen() {
    model(|| {
        let Stage { lane, mut sender, mut receiver, own } = stage(4);
        let sends = spawn(move || {
            sender.send_packet(&[1; 8]).unwrap();
            sender
        });
        let nudges = spawn(move || own.nudge(lane.control()));
        let mut both = [receive(&mut receiver), receive(&mut receiver)];
        both.sort_by_key(|received| *received == Received::Nudge);
        assert_eq!(both, [packet(1), Received::Nudge]);
        nudges.join().unwrap();
        drop(sends.join().unwrap());
    });
}

#[test]
fn loom_shm_a_death_wakes_and_comes_after_the_packets() {
    model(|| {
        let Stage { lane, mut sender, mut receiver, own } = stage(4);
        let watcher = spawn(move || {
            sender.send_packet(&[1; 8]).unwrap();
            // The sender of a process that was killed says nothing.
            own.end(lane.control());
            sender
        });
        assert_eq!(receive(&mut receiver), packet(1));
        assert_eq!(receive(&mut receiver), Received::End);
        drop(watcher.join().unwrap());
    });
}
