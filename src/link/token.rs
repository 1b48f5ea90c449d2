//! Tells a handler that nobody waits for it any more.

use std::{fmt, time::Instant};

use crate::sync::{Arc, AtomicBool, Condvar, Mutex, Ordering};

/// Fires when the caller has given up: it cancelled, its deadline passed at its side, or its link went.
///
/// Cheap to clone. A handler that never looks at it runs to its end; threads cannot be stopped from
/// outside.
#[derive(Clone, Default)]
pub struct CancelToken(Arc<Inner>);

#[derive(Default)]
struct Inner {
    fired: AtomicBool,
    lock: Mutex<()>,
    changed: Condvar,
}

impl CancelToken {
    /// Whether it has fired. Does not block.
    pub fn is_cancelled(&self) -> bool {
        self.0.fired.load(Ordering::Acquire)
    }

    /// Sleeps until it fires, for at most `limit`, and says whether it has fired.
    pub fn wait_timeout(&self, limit: std::time::Duration) -> bool {
        let deadline = Instant::now().checked_add(limit);
        let mut lock = self.0.lock.lock();
        while !self.is_cancelled() {
            match deadline {
                Some(at) if self.0.changed.wait_until(&mut lock, at).timed_out() => break,
                Some(_) => {}
                None => self.0.changed.wait(&mut lock),
            }
        }
        self.is_cancelled()
    }

    pub(crate) fn fire(&self) {
        let lock = self.0.lock.lock();
        self.0.fired.store(true, Ordering::Release);
        drop(lock);
        self.0.changed.notify_all();
    }
}

impl fmt::Debug for CancelToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CancelToken(cancelled: {})", self.is_cancelled())
    }
}
