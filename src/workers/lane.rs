//! A queue in which at most so many things are under way at once, in the order of arrival.

use std::collections::VecDeque;

use crate::sync::{Apart, AtomicUsize, Mutex, Ordering};

/// Knows what may run, not who runs it: whoever is told to run something asks for the next when it is
/// done, so that no thread needs to be woken for it.
#[derive(Debug)]
pub(crate) struct Lane<T> {
    limit: usize,
    state: Mutex<State<T>>,
    /// How many things wait, for those who want to know without the lock.
    waiting: Apart<AtomicUsize>,
}

#[derive(Debug)]
struct State<T> {
    running: usize,
    queue: VecDeque<T>,
    closed: bool,
}

/// What became of a thing that came to a lane.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Admission<T> {
    /// Run it now, then ask [`Lane::next`] until there is nothing.
    Run(T),
    /// It waits.
    Queued,
    /// So many wait that it was not taken.
    Full(T),
    /// Nothing is taken any more.
    Closed(T),
}

impl<T> Lane<T> {
    /// A lane in which `limit` things may be under way.
    pub(crate) fn new(limit: usize) -> Lane<T> {
        Lane {
            limit,
            state: Mutex::new(State { running: 0, queue: VecDeque::new(), closed: false }),
            waiting: Apart(AtomicUsize::new(0)),
        }
    }

    /// Takes a thing in, if no more than `bound` wait already.
    pub(crate) fn admit(&self, thing: T, bound: usize) -> Admission<T> {
        let mut state = self.state.lock();
        if state.closed {
            Admission::Closed(thing)
        } else if state.running < self.limit {
            state.running += 1;
            Admission::Run(thing)
        } else if state.queue.len() < bound {
            state.queue.push_back(thing);
            self.waiting.store(state.queue.len(), Ordering::Relaxed);
            Admission::Queued
        } else {
            Admission::Full(thing)
        }
    }

    /// What is to be run by whoever has just finished something.
    pub(crate) fn next(&self) -> Option<T> {
        let mut state = self.state.lock();
        let next = state.queue.pop_front();
        match next {
            Some(_) => self.waiting.store(state.queue.len(), Ordering::Relaxed),
            None => state.running -= 1,
        }
        next
    }

    /// Takes nothing any more, and gives back what waited.
    pub(crate) fn close(&self) -> VecDeque<T> {
        let mut state = self.state.lock();
        state.closed = true;
        self.waiting.store(0, Ordering::Relaxed);
        std::mem::take(&mut state.queue)
    }

    /// Whether nothing is taken any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.state.lock().closed
    }

    /// How many things wait, or are about to.
    pub(crate) fn n_waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Whether anything waits, or has just come to.
    pub(crate) fn is_waited_for(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// How many things may be under way.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// How many things are under way, and how many wait.
    pub(crate) fn depth(&self) -> (usize, usize) {
        let state = self.state.lock();
        (state.running, state.queue.len())
    }
}

#[cfg(test)]
mod tests;
