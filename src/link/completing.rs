//! Who has taken calls off the table and has not handed over their ends yet: a link that is dropped waits for them.

use std::{
    ops::Deref,
    thread,
    time::{Duration, Instant},
};

use super::{Link, Slot, Wiring};
use crate::{
    error::{CallError, CloseReason, Executed},
    sync::{Arc, AtomicUsize, Ordering},
};

/// One who has. Made under the lock, while the calls are taken off.
pub(super) struct Completing<'a>(&'a AtomicUsize);

impl Drop for Completing<'_> {
    fn drop(&mut self) {
        // SYNC: completing. Pairs with the load in `await_completing`: whoever sees it go finds the callbacks
        // with the crew.
        self.0.fetch_sub(1, Ordering::Release);
    }
}

/// A call that nobody else can end any more. Should the thread that is to end it panic, its caller is told.
pub(super) struct OffTheTable<'a, S: Deref<Target = Slot>>(pub(super) &'a Link, pub(super) S);

impl<S: Deref<Target = Slot>> Drop for OffTheTable<'_, S> {
    fn drop(&mut self) {
        if thread::panicking() && !self.1.is_done() {
            let reason = Arc::new(CloseReason::Broken("a thread panicked that was to end a call".into()));
            let broken = CallError::Closed { reason, executed: Executed::Maybe };
            self.0.complete_now(&self.1, Err(broken), Instant::now());
        }
    }
}

impl Link {
    /// Called under the lock by whoever takes calls off the table, and kept until their ends are handed over.
    pub(super) fn completing(&self) -> Completing<'_> {
        self.completing.fetch_add(1, Ordering::Relaxed);
        Completing(&self.completing)
    }

    /// A thread that is none of the link's may have taken a call off the table before the link ended, and be about
    /// to hand its callback to the crew: a caller that read for itself, or the other end in this process. It has a
    /// few lines left, and runs none of the user's meanwhile.
    pub(super) fn await_completing(&self, limit: Duration) {
        if matches!(&self.wiring, Wiring::Framed(framed) if framed.role.is_mine()) {
            return;
        }
        let deadline = Instant::now().checked_add(limit);
        // SYNC: completing. Pairs with the decrement in the drop of `Completing`.
        while self.completing.load(Ordering::Acquire) > 0 && deadline.is_none_or(|at| Instant::now() < at) {
            thread::sleep(Duration::from_micros(100));
        }
    }
}
