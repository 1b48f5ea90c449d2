//! Sleeping over two words and waking, by the kernel or, for the model checker, by its own means.

#[cfg(not(all(loom, test)))]
pub(super) use crate::os::{Unchanged, current_core, sleep_on, wake};

#[cfg(all(loom, test))]
pub(super) use modelled::{Unchanged, current_core, sleep_on, wake};

/// What the kernel promises, and no more: whoever sleeps may wake for any wake-up, not only for its own.
#[cfg(all(loom, test))]
mod modelled {
    use std::{io, time::Instant};

    use crate::sync::modelled::{AtomicU32, Condvar, Mutex, Ordering, lazy_static};

    lazy_static! {
        static ref QUEUE: (Mutex<()>, Condvar) = (Mutex::new(()), Condvar::new());
    }

    pub(in super::super) struct Unchanged<'a> {
        pub(in super::super) word: &'a AtomicU32,
        pub(in super::super) value: u32,
    }

    impl Unchanged<'_> {
        fn is_true(&self) -> bool {
            // The lock of the queue orders this, as in the kernel.
            self.word.load(Ordering::Relaxed) == self.value
        }
    }

    pub(in super::super) fn sleep_on(
        shared: Unchanged<'_>,
        own: Unchanged<'_>,
        _deadline: Option<Instant>,
    ) -> io::Result<bool> {
        let mut sleepers = QUEUE.0.lock();
        if shared.is_true() && own.is_true() {
            QUEUE.1.wait(&mut sleepers);
        }
        Ok(true)
    }

    pub(in super::super) fn wake(_word: &AtomicU32) {
        let _sleepers = QUEUE.0.lock();
        QUEUE.1.notify_all();
    }

    /// All threads of the model share one, so that nobody spins.
    pub(in super::super) fn current_core() -> u32 {
        0
    }
}
