//! Somebody writes into the shared memory of a link, anywhere and all the time, while calls are made.

use std::{
    fs::File,
    ops::Range,
    os::unix::fs::FileExt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use nape::{
    Config, Head, Neck, Side,
    transport::{ShmEnds, ShmParts, Transport},
};

use super::stage::{BOUND, Bystander, THREADS, count_panics, echo, nobody_panicked};
use crate::{soak::rounds, support::watched};

/// The memory as a file, and both ends of a link over it.
fn three_holders() -> (File, Transport, Transport) {
    let ends = ShmEnds::new().unwrap();
    let memory = ends.theirs.into_fd();
    let theirs = ShmParts::from_fd(memory.try_clone().unwrap(), Side::Neck).unwrap();
    (File::from(memory), ends.ours.into_transport().unwrap(), theirs)
}

/// Writes words into a part of the memory until it is told to stop; small ones are more likely, since
/// those are the ones that may be possible.
fn scribble(memory: &File, words: Range<u64>, mut random: u64, over: &AtomicBool) {
    while !over.load(Ordering::Relaxed) {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let at = words.start + (random >> 33) % (words.end - words.start);
        let word = random.rotate_left(17) >> (random >> 58);
        memory.write_all_at(&word.to_ne_bytes(), at * 8).unwrap();
    }
}

fn scribbled_over(words: &Range<u64>, seed: u64) {
    let (memory, ours, theirs) = three_holders();
    let config = || Config::new().name(THREADS).grace(Duration::from_millis(100));
    let head = Head::builder().config(config()).serve(echo()).over(ours).unwrap();
    let neck = Neck::builder().config(config()).serve(echo()).over(theirs).unwrap().start();
    let over = Arc::new(AtomicBool::new(false));
    let scribbler = {
        let (over, words) = (over.clone(), words.clone());
        thread::spawn(move || scribble(&memory, words, seed, &over))
    };
    let callers = [head.api("echo"), neck.api("echo")].map(|api| {
        thread::spawn(move || {
            let start = Instant::now();
            while start.elapsed() < Duration::from_millis(100) {
                let began = Instant::now();
                let number = api.action("number", 7u64).timeout(Duration::from_millis(20)).call::<u64>();
                assert!(began.elapsed() < BOUND, "a call took {:?}", began.elapsed());
                if number.is_err() {
                    return;
                }
            }
        })
    });
    callers.into_iter().for_each(|caller| caller.join().unwrap());
    let start = Instant::now();
    drop((head, neck));
    assert!(start.elapsed() < BOUND, "closing took {:?}", start.elapsed());
    over.store(true, Ordering::Relaxed);
    scribbler.join().unwrap();
}

fn scribble_for_a_second(words: Range<u64>) {
    watched(move || {
        count_panics();
        let (bystander, start, mut seed) = (Bystander::new(), Instant::now(), words.end);
        while start.elapsed() < Duration::from_secs(rounds().unwrap_or(1)) {
            seed += 1;
            scribbled_over(&words, seed);
            bystander.works();
        }
        nobody_panicked();
    });
}

#[test]
fn p_39_a_link_whose_indices_are_scribbled_over() {
    scribble_for_a_second(16..80);
}

#[test]
fn p_39_a_link_whose_packets_are_scribbled_over() {
    scribble_for_a_second(512..640);
}

#[test]
fn p_39_a_link_that_is_scribbled_over_everywhere() {
    scribble_for_a_second(0..512 + 2 * 32 * 1024);
}
