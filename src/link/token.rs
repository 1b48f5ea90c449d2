//! Tells a handler that nobody waits for it any more.

use std::{fmt, time::Instant};

use super::Slot;
use crate::{
    os::thread_id,
    sync::{Arc, AtomicBool, AtomicUsize, Condvar, Mutex, Ordering},
};

/// Fires when the caller has given up: it cancelled, its deadline passed at its side, or its link went.
///
/// Cheap to clone. A handler that never looks at it runs to its end; threads cannot be stopped from
/// outside.
#[derive(Clone)]
pub struct CancelToken(Kind);

#[derive(Clone)]
enum Kind {
    Own(Arc<Inner>),
    /// In one process the call itself is at hand, so that nothing needs to be made for it.
    Call(Arc<Slot>),
    /// Nobody ever waits for an event.
    Never,
}

#[derive(Default)]
struct Inner {
    fired: AtomicBool,
    stage: AtomicUsize,
    lock: Mutex<()>,
    changed: Condvar,
}

impl CancelToken {
    /// Whether it has fired. Does not block.
    pub fn is_cancelled(&self) -> bool {
        match &self.0 {
            Kind::Own(inner) => inner.fired.load(Ordering::Acquire),
            Kind::Call(slot) => slot.is_given_up(),
            Kind::Never => false,
        }
    }

    /// Sleeps until it fires, for at most `limit`, and says whether it has fired.
    pub fn wait_timeout(&self, limit: std::time::Duration) -> bool {
        let deadline = Instant::now().checked_add(limit);
        match &self.0 {
            Kind::Own(inner) => inner.wait(deadline),
            Kind::Call(slot) => slot.wait_given_up(deadline),
            Kind::Never => {
                std::thread::sleep(limit);
                false
            }
        }
    }

    /// The calling thread runs the handler of the call.
    pub(crate) fn note_running(&self) {
        self.mark(thread_id() as usize);
    }

    /// Its handler has returned.
    pub(crate) fn note_returned(&self) {
        self.mark(RETURNED);
    }

    fn mark(&self, stage: usize) {
        match &self.0 {
            Kind::Own(inner) => inner.stage.store(stage, Ordering::Relaxed),
            Kind::Call(slot) => slot.served_by.store(stage, Ordering::Relaxed),
            Kind::Never => {}
        }
    }

    /// How far the handler of the call is.
    pub(crate) fn stage(&self) -> Stage {
        let stage = match &self.0 {
            Kind::Own(inner) => inner.stage.load(Ordering::Relaxed),
            Kind::Call(slot) => slot.served_by.load(Ordering::Relaxed),
            Kind::Never => QUEUED,
        };
        match stage {
            QUEUED => Stage::Queued,
            RETURNED => Stage::Returned,
            thread => Stage::Running(thread as u32),
        }
    }

    /// The token of an event: it never fires.
    pub(crate) fn never() -> CancelToken {
        CancelToken(Kind::Never)
    }

    /// The token of a call of this process.
    pub(crate) fn of(slot: &Arc<Slot>) -> CancelToken {
        CancelToken(Kind::Call(slot.clone()))
    }

    /// The call, where the caller is in this process.
    pub(crate) fn call(&self) -> Option<&Arc<Slot>> {
        match &self.0 {
            Kind::Call(slot) => Some(slot),
            Kind::Own(_) | Kind::Never => None,
        }
    }

    pub(crate) fn fire(&self) {
        match &self.0 {
            Kind::Own(inner) => inner.fire(),
            Kind::Call(slot) => slot.give_up(),
            Kind::Never => {}
        }
    }
}

/// How far a call is that is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// No handler has begun.
    Queued,
    /// Its handler runs on this thread.
    Running(u32),
    /// Its handler has returned, and the answer is to come.
    Returned,
}

impl Default for CancelToken {
    fn default() -> CancelToken {
        CancelToken(Kind::Own(Arc::default()))
    }
}

impl Inner {
    fn wait(&self, deadline: Option<Instant>) -> bool {
        let mut lock = self.lock.lock();
        while !self.fired.load(Ordering::Acquire) {
            match deadline {
                Some(at) if self.changed.wait_until(&mut lock, at).timed_out() => break,
                Some(_) => {}
                None => self.changed.wait(&mut lock),
            }
        }
        self.fired.load(Ordering::Acquire)
    }

    fn fire(&self) {
        let lock = self.lock.lock();
        self.fired.store(true, Ordering::Release);
        drop(lock);
        self.changed.notify_all();
    }
}

impl fmt::Debug for CancelToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CancelToken(cancelled: {})", self.is_cancelled())
    }
}

/// In the place of the number of a thread, which is neither.
const QUEUED: usize = 0;
const RETURNED: usize = usize::MAX;
