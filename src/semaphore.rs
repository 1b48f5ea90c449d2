//! A counting semaphore that calls can release when they end.

use std::time::{Duration, Instant};

use crate::sync::{Arc, Condvar, Mutex};

/// Counts permits; cheap to clone, and every clone is the same semaphore.
///
/// Give it to calls with [`Action::releasing`](crate::Action::releasing), and [`acquire`](Self::acquire)
/// once for each to wait until any of them, or all of them, have ended.
#[derive(Clone, Debug, Default)]
pub struct Semaphore(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    permits: Mutex<usize>,
    released: Condvar,
}

impl Semaphore {
    /// A semaphore that has `permits` at first.
    pub fn new(permits: usize) -> Semaphore {
        Semaphore(Arc::new(Inner { permits: Mutex::new(permits), released: Condvar::new() }))
    }

    /// Adds a permit and wakes a thread that waits for one. Does not block.
    pub fn release(&self) {
        *self.0.permits.lock() += 1;
        self.0.released.notify_one();
    }

    /// Takes a permit; blocks until there is one.
    pub fn acquire(&self) {
        let mut permits = self.0.permits.lock();
        while *permits == 0 {
            self.0.released.wait(&mut permits);
        }
        *permits -= 1;
    }

    /// Takes a permit if there is one; does not block.
    #[must_use = "without a permit there is nothing to go on with"]
    pub fn try_acquire(&self) -> bool {
        let mut permits = self.0.permits.lock();
        let free = *permits > 0;
        *permits -= usize::from(free);
        free
    }

    /// Takes a permit; blocks for at most `limit`. Says whether it got one.
    #[must_use = "without a permit there is nothing to go on with"]
    pub fn acquire_timeout(&self, limit: Duration) -> bool {
        let Some(deadline) = Instant::now().checked_add(limit) else {
            self.acquire();
            return true;
        };
        let mut permits = self.0.permits.lock();
        while *permits == 0 {
            if self.0.released.wait_until(&mut permits, deadline).timed_out() && *permits == 0 {
                return false;
            }
        }
        *permits -= 1;
        true
    }

    /// The permits that are there now.
    pub fn permits(&self) -> usize {
        *self.0.permits.lock()
    }
}

/// The permit of a call that sets out. It is released when that does not come about, be it because the arguments
/// panic while they are encoded.
pub(crate) struct Permit(Option<Semaphore>);

impl Permit {
    pub(crate) fn of(semaphore: &Option<Semaphore>) -> Permit {
        Permit(semaphore.clone())
    }

    /// Whoever ends the call releases it.
    pub(crate) fn leave_to_the_call(mut self) {
        self.0 = None;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.iter().for_each(Semaphore::release);
    }
}
