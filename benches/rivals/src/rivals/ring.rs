//! A ring of bytes each way in shared memory: who waits spins for a moment if the other side has a core of
//! its own, then sleeps on a futex.
//!
//! Both sides trust each other, which no library may do: this is what there is to reach.
#![allow(unsafe_code, reason = "shared memory cannot be had without")]

use std::{
    hint,
    os::fd::{AsFd, OwnedFd},
    process::Stdio,
    ptr::{self, NonNull},
    sync::atomic::{
        AtomicU32,
        Ordering::{Acquire, Relaxed, Release, SeqCst},
        fence,
    },
};

use rustix::{
    fs::{MemfdFlags, ftruncate, memfd_create},
    io::dup,
    mm::{MapFlags, ProtFlags, mmap},
    thread::futex::{self, Flags},
};

use crate::{
    contender::{Callee, Pair},
    frames::{Frames, Stream},
    lane,
    place::Place,
    roles,
    work::Work,
};

/// The row by its name, since a callee is told which it is.
pub(crate) const NAME: &str = "bare ring, spin then futex";

/// A child that shares the memory with us; it is given as its stdin.
pub(crate) fn child(place: &Place, work: Work) -> Pair {
    let memory = memfd_create("rings", MemfdFlags::CLOEXEC).expect("memory can be had");
    ftruncate(&memory, 2 * RING as u64).expect("memory can be had");
    let mapped = map(&memory);
    let mut command = roles::callee(place, NAME, work);
    let child = command.arg(place.name()).stdin(Stdio::from(memory)).spawn();
    let both = Both { outgoing: mapped[0], incoming: mapped[1], spins: spins(place.name()) };
    let body = lane::body(Frames::over(both), work);
    Pair { body, callee: Callee::Killed(child.expect("this program starts again")) }
}

/// The callee of [`child`], until it is killed.
pub(crate) fn serve(work: Work, extra: &[String]) {
    let memory: OwnedFd = dup(std::io::stdin().as_fd()).expect("a descriptor can be had");
    let mapped = map(&memory);
    lane::answer(
        Frames::over(Both { outgoing: mapped[1], incoming: mapped[0], spins: spins(&extra[0]) }),
        work,
    );
}

/// On one core, the one that spins keeps the other from answering.
fn spins(place: &str) -> u32 {
    if place == "one core" { 0 } else { 2_000 }
}

/// Bytes of data in a ring: a power of two.
const DATA: usize = 1 << 20;
/// Bytes of a ring, with the page of words before its data.
const RING: usize = 4096 + DATA;

/// One direction. The words count bytes, and wrap.
#[derive(Clone, Copy)]
struct Ring {
    /// Invariant: the start of `RING` bytes that are mapped as long as the process lives.
    base: NonNull<u8>,
}

/// The words of a ring by their places; each has a cache line of its own.
#[derive(Clone, Copy)]
enum Word {
    Written = 0,
    Read = 64,
    /// Set while the reader sleeps, or is about to.
    ReaderSleeps = 128,
    WriterSleeps = 192,
}

fn map(memory: &OwnedFd) -> [Ring; 2] {
    let access = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a new mapping at a place that the kernel chooses overlaps nothing.
    let start = unsafe { mmap(ptr::null_mut(), 2 * RING, access, MapFlags::SHARED, memory, 0) };
    let start = NonNull::new(start.expect("memory can be mapped").cast::<u8>()).expect("it is mapped");
    // SAFETY: the mapping has `2 * RING` bytes.
    let second = unsafe { start.add(RING) };
    [Ring { base: start }, Ring { base: second }]
}

impl Ring {
    fn word(&self, word: Word) -> &AtomicU32 {
        // SAFETY: by the invariant of `base` the page before the data is mapped; the words in it are
        // aligned, and nobody touches them but as atomics.
        unsafe { self.base.add(word as usize).cast::<AtomicU32>().as_ref() }
    }

    /// Where the byte of that count lies, and how many lie behind it until the ring wraps.
    fn at(&self, count: u32) -> (*mut u8, usize) {
        let offset = count as usize % DATA;
        // SAFETY: the data has `DATA` bytes, behind the page of words.
        (unsafe { self.base.add(4096 + offset) }.as_ptr(), DATA - offset)
    }

    /// Waits until `word` is no longer `old`.
    fn wait(&self, word: Word, old: u32, sleeps: Word, spins: u32) {
        for _ in 0..spins {
            if self.word(word).load(Acquire) != old {
                return;
            }
            hint::spin_loop();
        }
        while self.word(word).load(Acquire) == old {
            self.word(sleeps).store(1, Relaxed);
            // Pairs with the fence in `publish`: either we see the new count here, or the other side
            // sees that we sleep.
            fence(SeqCst);
            if self.word(word).load(Acquire) == old {
                // It comes back at once if the count has changed meanwhile.
                let _ = futex::wait(self.word(word), Flags::empty(), old, None);
            }
            self.word(sleeps).store(0, Relaxed);
        }
    }

    fn publish(&self, word: Word, count: u32, sleeper: Word) {
        self.word(word).store(count, Release);
        fence(SeqCst);
        if self.word(sleeper).load(Relaxed) != 0 {
            futex::wake(self.word(word), Flags::empty(), 1).expect("the word is mapped");
        }
    }
}

struct Both {
    outgoing: Ring,
    incoming: Ring,
    spins: u32,
}

impl Stream for Both {
    fn read(&mut self, into: &mut [u8]) -> usize {
        let ring = self.incoming;
        let read = ring.word(Word::Read).load(Relaxed);
        ring.wait(Word::Written, read, Word::ReaderSleeps, self.spins);
        let here = ring.word(Word::Written).load(Acquire).wrapping_sub(read) as usize;
        let (from, until_end) = ring.at(read);
        let n = here.min(until_end).min(into.len());
        // SAFETY: `n` bytes from `from` on were written and are not written again before the count of
        // what was read is published; `into` has as many.
        unsafe { ptr::copy_nonoverlapping(from, into.as_mut_ptr(), n) };
        ring.publish(Word::Read, read.wrapping_add(n as u32), Word::WriterSleeps);
        n
    }

    fn write(&mut self, mut bytes: &[u8]) -> bool {
        let ring = self.outgoing;
        while !bytes.is_empty() {
            let written = ring.word(Word::Written).load(Relaxed);
            let full = written.wrapping_sub(DATA as u32);
            ring.wait(Word::Read, full, Word::WriterSleeps, self.spins);
            let room = DATA - written.wrapping_sub(ring.word(Word::Read).load(Acquire)) as usize;
            let (to, until_end) = ring.at(written);
            let n = room.min(until_end).min(bytes.len());
            // SAFETY: `n` bytes from `to` on were read, and nobody reads them before the count of what
            // was written is published.
            unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), to, n) };
            ring.publish(Word::Written, written.wrapping_add(n as u32), Word::ReaderSleeps);
            bytes = &bytes[n..];
        }
        true
    }
}
