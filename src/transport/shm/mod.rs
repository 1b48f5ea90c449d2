//! Frames through memory that both ends share, between processes or within one.
//!
//! **A peer may be hostile**: whatever it writes into the memory costs it its own connection at most.
//! Knows nothing of how a process comes to its descriptor.
//!
//! # Layout
//!
//! One memfd, [sealed](crate::os) in its size and filled, for both directions:
//!
//! ```text
//! offset   size  what
//!      0      8  label: "nape shm"
//!    128    256  control words of the lane from the Head to the Neck
//!                  0  8  tail: words ever published                     |
//!                  8  4  bell: marks, and the word to sleep on          | written by the producer
//!                 12  4  core on which the producer last ran, plus one  |
//!                128  8  head: words ever read                          | written by the consumer
//!    384    256  the same for the lane from the Neck to the Head
//!   4096   256K  words of the first lane, 8 bytes each
//!          256K  words of the second lane
//! ```
//!
//! A *lane* is one direction: one producer, one consumer, no lock. A packet is one word with its length in
//! bytes and as many words as that fills. Indices count words from the start of the connection and never
//! go back, so that there is no such thing as an index out of line. A lane holds more than the window of
//! a link: a send waits only for a peer that says it has read what it has not, a second at most, and what
//! fits goes through meanwhile.
//!
//! # What is believed of the peer
//!
//! Nothing. The size, the seals and the label are checked before the first use. Each end keeps its own
//! index to itself; the other's is loaded once, and has to lie between what was seen before and what is
//! possible. Words are copied out, each byte read once, and only the copy is looked at. What is
//! impossible is an error, [`InvalidData`](std::io::ErrorKind::InvalidData), with which the link closes.
//! The memory is read and written as atomics, and a block of a kilobyte and more by one instruction where the
//! processor has it (`copy.rs`), so that a peer that writes at the same time makes the values wrong and nothing
//! else.
//!
//! # Waiting
//!
//! See `bell.rs` for who wakes whom and `patience.rs` for who spins. The consumer sleeps over two words in
//! one call: the bell, for the peer, and a word that the peer cannot write, for nudges, so that no peer
//! can undo a nudge. While both sides are busy nobody makes a system call, and a batch costs one wake-up.
//! Nobody wakes up while nothing happens; only a kernel before 5.16, which cannot sleep over two words,
//! wakes a sleeper every 100 ms.
//!
//! # What ways of waiting cost
//!
//! Echoes of 64 bytes between two processes, two cores of an AMD EPYC in a virtual machine on which others
//! worked too; the least of five runs of each, in microseconds: p50 / p99, and the processor time of both
//! sides for a call. `SPIN` is 50 us, and *the rule* is that of `patience.rs`.
//!
//! | before it sleeps, a side spins | two cores | one core | two cores, 1 ms of silence | one core, 1 ms | two cores, handler of 30 us |
//! |---|---|---|---|---|---|
//! | by the rule | 0.38 / 0.5, 0.5 | 4.9 / 6.4, 5.5 | 23 / 36, 51 | 6.8 / 10, 25 | 30 / 46, 62 |
//! | never | 21 / 56, 24 | 4.9 / 6.4, 5.5 | 41 / 59, 55 | 7.0 / 11, 24 | 53 / 88, 58 |
//! | 8 us, always | 0.38 / 0.5, 0.8 | 23 / 25, 22 | 32 / 56, 57 | 25 / 29, 41 | 43 / 80, 45 |
//! | `SPIN`, always | 0.38 / 0.5, 0.8 | 99 / 122, 68 | 20 / 56, 92 | 111 / 127, 113 | 30 / 31, 52 |
//! | `SPIN`, if the peer's core is another | 0.29 / 0.3, 0.3 | 4.9 / 6.4, 5.5 | 22 / 44, 93 | 7.6 / 17, 23 | 30 / 31, 56 |
//! | `SPIN`, if it has paid lately | 0.38 / 0.5, 0.7 | 13 / 83, 26 | 18 / 32, 34 | 6.6 / 60, 21 | 30 / 54, 60 |
//!
//! Differences of less than a third between two cells of a column of two cores mean nothing: where the
//! machine put its cores changed more than that. On one core they are good to a few percent.
//!
//! Where both sides share a core, the consumer gives way once before it sleeps (`os/give_way.rs`): calls of a link
//! take two thirds of the time then, since nobody goes to sleep and nobody is woken. Giving way twice or four
//! times gave the same.

mod bell;
mod copy;
#[cfg(all(any(test, fuzzing), not(loom)))]
mod fuzz;
mod lane;
mod patience;
mod receiver;
mod ring;
mod sender;
mod sleep;

#[cfg(not(all(loom, test)))]
mod ends;
#[cfg(not(all(loom, test)))]
mod mapping;

#[cfg(not(all(loom, test)))]
pub use ends::{DeathNotice, ShmEnds, ShmParts, shm_pair};

#[cfg(all(any(test, fuzzing), not(loom)))]
pub(crate) use fuzz::ring as fuzz_ring;

#[cfg(all(loom, test))]
mod loom;
#[cfg(all(test, not(loom)))]
mod tests;
