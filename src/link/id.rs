//! What tells a link from others in the logs of both its ends.

use std::hash::{BuildHasher, RandomState};

use crate::sync::{Arc, AtomicU64, Ordering};

/// The number of a link, which both ends know once they have greeted. Cheap to clone; every clone is the same
/// one.
#[derive(Clone, Debug, Default)]
pub(crate) struct LinkId(Arc<AtomicU64>);

impl LinkId {
    pub(super) fn set(&self, number: u64) {
        self.0.store(number, Ordering::Relaxed);
    }

    /// The number; `None` before it is known.
    pub(crate) fn get(&self) -> Option<u64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|number| *number != 0)
    }
}

/// A number that others hardly have. It is no secret.
pub(super) fn random() -> u64 {
    // Each state has keys of its own.
    RandomState::new().hash_one(std::process::id()) | 1
}
