//! Which process made something: a child that was forked from it has a copy of its memory, and none of its
//! threads.

#![allow(unsafe_code)]

use std::sync::{
    Once,
    atomic::{AtomicU32, Ordering},
};

/// The process that made a thing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin(u32);

impl Origin {
    /// This process.
    pub(crate) fn here() -> Origin {
        static COUNTING: Once = Once::new();
        COUNTING.call_once(|| {
            // SAFETY: the handler adds to a number, which may be done in the forked child of a process with
            // many threads. Where there is no memory to note it down, forks are not seen.
            let _ = unsafe { libc::pthread_atfork(None, None, Some(count_fork)) };
        });
        Origin(FORKS.load(Ordering::Relaxed))
    }

    /// Whether that is another process than this one, which was forked from it.
    #[inline]
    pub(crate) fn is_elsewhere(self) -> bool {
        self.0 != FORKS.load(Ordering::Relaxed)
    }
}

/// Called in a child by the thread that has forked, before anything else.
extern "C" fn count_fork() {
    FORKS.fetch_add(1, Ordering::Relaxed);
}

/// How many forks this image of a program has seen from within. It rises along every line of descent, so that
/// nothing that was made before a fork looks as if it were made after.
static FORKS: AtomicU32 = AtomicU32::new(0);
