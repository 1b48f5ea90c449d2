//! The ring of a lane: words in at one end, the same words out at the other.
//!
//! Both indices count words from the start of the connection and never go back; where a word lies is its
//! index modulo the size of the ring. Each end keeps its own index to itself and only tells the other
//! one; what it reads of the other's index is loaded once and has to lie between what was there before
//! and what is possible. Knows no packets, no waiting and no wake-ups.

use super::{
    copy::{WORD, load, store},
    lane::{Lane, RingCorrupt},
};
use crate::sync::modelled::{AtomicU64, Ordering};

/// The end that writes. There must be one for a lane.
#[derive(Debug)]
pub(super) struct Producer<L> {
    pub(super) lane: L,
    /// Where the next word goes. Only this end moves it.
    tail: u64,
    /// How far the consumer had read when we last looked. Invariant: at most the ring's size behind `tail`.
    head: u64,
}

/// The end that reads. There must be one for a lane.
#[derive(Debug)]
pub(super) struct Consumer<L> {
    pub(super) lane: L,
    /// Which word is read next. Only this end moves it.
    head: u64,
    /// How much was published when we last looked. Invariant: at most the ring's size ahead of `head`.
    tail: u64,
}

impl<L: Lane> Producer<L> {
    /// The first producer of a fresh lane.
    pub(super) fn new(lane: L) -> Producer<L> {
        Producer { lane, tail: 0, head: 0 }
    }

    /// Writes one word, unless there is no room. It is not there for the other end until published.
    pub(super) fn put_word(&mut self, word: u64) -> Result<bool, RingCorrupt> {
        Ok(self.put(&word.to_ne_bytes())? != 0)
    }

    /// Writes as many of the bytes as there is room for, and says how many: all, or a multiple of 8. The
    /// last word is filled up with zeros. They are not there for the other end until published.
    pub(super) fn put(&mut self, bytes: &[u8]) -> Result<usize, RingCorrupt> {
        let wanted = bytes.len().div_ceil(WORD);
        let words = self.room(wanted)?.min(wanted);
        let taken = bytes.len().min(words * WORD);
        let (behind, before) = at(self.lane.words(), self.tail);
        let (first, second) = bytes[..taken].split_at(taken.min(behind.len() * WORD));
        store(behind, first);
        store(before, second);
        self.tail = self.tail.wrapping_add(words as u64);
        Ok(taken)
    }

    /// Lets the other end see what was put.
    pub(super) fn publish(&self) {
        // SYNC: published. Pairs with the acquire load in `Consumer::look`: whoever sees the new index
        // also sees the words that were stored before.
        self.lane.control().producer.tail.store(self.tail, Ordering::Release);
    }

    /// How many words there is room for. Looks anew at what the other end has read if that is fewer than
    /// are wanted.
    pub(super) fn room(&mut self, wanted: usize) -> Result<usize, RingCorrupt> {
        if self.known_room() < wanted {
            self.look()?;
        }
        Ok(self.known_room())
    }

    fn known_room(&self) -> usize {
        // By the invariant of `head` the difference is no more than the size.
        self.lane.words().len() - self.tail.wrapping_sub(self.head) as usize
    }

    fn look(&mut self) -> Result<(), RingCorrupt> {
        // SYNC: read. Pairs with the release store in `Consumer::release`: whoever sees the new index may
        // write over the words before it, which were loaded by then.
        let head = self.lane.control().consumer.head.load(Ordering::Acquire);
        let (newly_read, unread) = (head.wrapping_sub(self.head), self.tail.wrapping_sub(self.head));
        if newly_read > unread {
            return Err(RingCorrupt("more was read than was sent, or less than before"));
        }
        self.head = head;
        Ok(())
    }
}

impl<L: Lane> Consumer<L> {
    /// The first consumer of a fresh lane.
    pub(super) fn new(lane: L) -> Consumer<L> {
        Consumer { lane, head: 0, tail: 0 }
    }

    /// Reads one word, if there is one.
    pub(super) fn take_word(&mut self) -> Result<Option<u64>, RingCorrupt> {
        let mut word = [0; WORD];
        Ok((self.take(&mut word)? != 0).then(|| u64::from_ne_bytes(word)))
    }

    /// Reads as many bytes as are there, and says how many: all that fit, or a multiple of 8. What fills
    /// up the last word is skipped.
    pub(super) fn take(&mut self, bytes: &mut [u8]) -> Result<usize, RingCorrupt> {
        let wanted = bytes.len().div_ceil(WORD);
        let words = self.filled(wanted)?.min(wanted);
        let taken = bytes.len().min(words * WORD);
        let (behind, before) = at(self.lane.words(), self.head);
        let (first, second) = bytes[..taken].split_at_mut(taken.min(behind.len() * WORD));
        load(behind, first);
        load(before, second);
        self.head = self.head.wrapping_add(words as u64);
        Ok(taken)
    }

    /// Lets the other end use the room of what was taken.
    pub(super) fn release(&self) {
        // SYNC: read. Pairs with the acquire load in `Producer::look`: the words were loaded before.
        self.lane.control().consumer.head.store(self.head, Ordering::Release);
    }

    /// Whether more is there than was seen the last time. The next look says whether it is in order.
    pub(super) fn has_news(&self) -> bool {
        self.lane.control().producer.tail.load(Ordering::Relaxed) != self.tail
    }

    /// How many words were ever taken.
    pub(super) fn n_taken(&self) -> u64 {
        self.head
    }

    /// How many words are there. Looks anew at what the other end has sent if that is fewer than are
    /// wanted.
    fn filled(&mut self, wanted: usize) -> Result<usize, RingCorrupt> {
        if self.known_filled() < wanted {
            self.look()?;
        }
        Ok(self.known_filled())
    }

    fn known_filled(&self) -> usize {
        // By the invariant of `tail` it is no more than the size.
        self.tail.wrapping_sub(self.head) as usize
    }

    fn look(&mut self) -> Result<(), RingCorrupt> {
        // SYNC: published. Pairs with the release store in `Producer::publish`: the words up to the index
        // that is seen here are the ones that were stored before it.
        let tail = self.lane.control().producer.tail.load(Ordering::Acquire);
        let room = self.lane.words().len() - self.known_filled();
        if tail.wrapping_sub(self.tail) > room as u64 {
            return Err(RingCorrupt("more was sent than there is room for, or less than before"));
        }
        self.tail = tail;
        Ok(())
    }
}

/// The ring from the place of an index on to its end, and from its start up to that place.
fn at(words: &[AtomicU64], index: u64) -> (&[AtomicU64], &[AtomicU64]) {
    let place = index as usize & (words.len() - 1);
    let (before, behind) = words.split_at(place);
    (behind, before)
}
