//! The place in front: where the next job goes without a lock, and often without waking anybody.

use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::{Job, look_out};
use crate::sync::{Apart, AtomicU8, Ordering};

/// At most one thread is in front, and gets at most one job there.
pub(super) struct Front {
    state: Apart<AtomicU8>,
    sender: Sender<Job>,
    receiver: Receiver<Job>,
}

impl Front {
    pub(super) fn new() -> Front {
        let (sender, receiver) = bounded(1);
        Front { state: Apart(AtomicU8::new(EMPTY)), sender, receiver }
    }

    /// The calling thread goes in front, if nobody is there: the next job is left to it.
    pub(super) fn enter(&self) -> bool {
        self.go(EMPTY, OPEN)
    }

    /// Leaves a job to the thread in front, if there is one without a job.
    pub(super) fn hand_over(&self, job: Job) -> Result<(), Job> {
        if !self.go(OPEN, CLAIMED) {
            return Err(job);
        }
        // Only who claimed it sends, and what was sent before has been taken: there is room.
        self.sender.try_send(job).map_err(|full| full.into_inner())
    }

    /// Waits in front for a job, and leaves the place.
    pub(super) fn wait(&self, limit: Duration) -> Option<Job> {
        // Often the next job comes at once.
        look_out(|| self.state.load(Ordering::Relaxed) == CLAIMED);
        let job = match self.receiver.recv_timeout(limit) {
            Ok(job) => Some(job),
            Err(_) if self.go(OPEN, EMPTY) => return None,
            // It was claimed in this moment, so that a job comes.
            Err(_) => self.receiver.recv().ok(),
        };
        self.state.store(EMPTY, Ordering::Release);
        job
    }

    #[cfg(test)]
    pub(super) fn has_room(&self) -> bool {
        self.state.load(Ordering::SeqCst) == OPEN
    }

    fn go(&self, from: u8, to: u8) -> bool {
        self.state.compare_exchange(from, to, Ordering::SeqCst, Ordering::Relaxed).is_ok()
    }
}

/// Nobody is in front.
const EMPTY: u8 = 0;
/// Somebody is, and has no job yet.
const OPEN: u8 = 1;
/// A job is on its way to whoever is.
const CLAIMED: u8 = 2;
