//! What is held of the bytes that came over a link, until somebody takes them: how much, and how much may be.

use crate::sync::{Arc, AtomicUsize, Ordering};

/// Counts the bytes that came over one link and that nobody has taken.
#[derive(Debug)]
pub(crate) struct Ledger {
    held: AtomicUsize,
    limit: usize,
}

/// So many bytes of a ledger, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Hold {
    ledger: Arc<Ledger>,
    bytes: usize,
}

impl Ledger {
    pub(crate) fn new(limit: usize) -> Arc<Ledger> {
        Arc::new(Ledger { held: AtomicUsize::new(0), limit })
    }

    /// Holds bytes, if there is room for them. Whoever reads for the link is the only one to ask.
    pub(crate) fn hold(self: &Arc<Ledger>, bytes: usize) -> Option<Hold> {
        self.take(bytes).then(|| Hold { ledger: self.clone(), bytes })
    }

    /// How many bytes are held.
    pub(crate) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// How many more may be.
    pub(crate) fn room(&self) -> usize {
        self.limit.saturating_sub(self.held())
    }

    /// What came and found no room, for people to read.
    pub(crate) fn is_full(&self) -> Box<str> {
        format!("{} bytes that came wait to be taken, and {} may", self.held(), self.limit).into()
    }

    fn take(&self, bytes: usize) -> bool {
        let fits = bytes <= self.room();
        if fits {
            // Only the one that reads adds to it: it has grown by nobody since.
            self.held.fetch_add(bytes, Ordering::Relaxed);
        }
        fits
    }
}

impl Hold {
    /// Holds so many bytes from here on, if there is room for them.
    pub(crate) fn resize(&mut self, bytes: usize) -> bool {
        let fits = self.ledger.take(bytes.saturating_sub(self.bytes));
        if fits {
            self.ledger.held.fetch_sub(self.bytes.saturating_sub(bytes), Ordering::Relaxed);
            self.bytes = bytes;
        }
        fits
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.ledger.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p_15_no_more_is_held_than_may_be() {
        let ledger = Ledger::new(100);
        let mut first = ledger.hold(60).unwrap();
        assert!(ledger.hold(41).is_none());
        let second = ledger.hold(40).unwrap();
        assert!(!first.resize(61));
        assert!(first.resize(20));
        assert_eq!(ledger.held(), 60);
        drop(second);
        assert!(first.resize(100));
        drop(first);
        assert_eq!(ledger.held(), 0);
        assert!(ledger.hold(usize::MAX).is_none());
    }
}
