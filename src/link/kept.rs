//! How many items wait to be sent for the subscriptions of a link.

use crate::sync::{AtomicUsize, Ordering};

/// So many places, which they share.
#[derive(Debug)]
pub(crate) struct KeptItems {
    limit: usize,
    taken: AtomicUsize,
}

impl KeptItems {
    pub(super) fn new(limit: usize) -> KeptItems {
        KeptItems { limit, taken: AtomicUsize::new(0) }
    }

    pub(crate) fn has_place(&self) -> bool {
        self.taken.load(Ordering::Relaxed) < self.limit
    }

    /// `false` if there is none.
    pub(crate) fn take_place(&self) -> bool {
        // Nothing is published by it.
        let one_more = |taken: usize| (taken < self.limit).then_some(taken + 1);
        self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_ok()
    }

    pub(crate) fn give_back(&self, places: usize) {
        self.taken.fetch_sub(places, Ordering::Relaxed);
    }
}
