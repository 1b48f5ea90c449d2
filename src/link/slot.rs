//! Where the end of a call is put, and everybody who waits for it.

use std::{fmt, task::Waker, time::Duration, time::Instant};

use crossbeam_channel::{Receiver, Sender};

use crate::{
    error::CallError,
    semaphore::Semaphore,
    sync::{AtomicBool, Condvar, Mutex, Ordering},
    wire::{Path, Payload},
    workers::Job,
};

/// How a call ended: with the bytes or the value of its result, or with an error.
pub(crate) type Outcome = Result<Payload, CallError>;
/// What is called with it.
pub(crate) type Callback = Box<dyn FnOnce(Outcome) + Send>;

/// One call's end. It is filled once; the outcome is taken once.
pub(crate) struct Slot {
    pub(crate) path: Path,
    pub(crate) started: Instant,
    pub(crate) deadline: Option<Instant>,
    /// Set after the outcome is in place, so that a waiter can look without the lock.
    done: AtomicBool,
    inner: Mutex<Inner>,
    changed: Condvar,
}

struct Inner {
    stage: Stage,
    /// A thread blocks for this call and could run an errand.
    blocked: bool,
    /// That thread is inside the transport and has to be nudged out of it.
    reading: bool,
    /// That thread is asked to take the reader role.
    promoted: bool,
    /// Calls of the other side that descend from this one.
    errands: Vec<Job>,
    waker: Option<Waker>,
    ready: Option<(Sender<()>, Receiver<()>)>,
    semaphore: Option<Semaphore>,
    callback: Option<Callback>,
}

enum Stage {
    Pending,
    Done(Outcome, Instant),
    Taken(Instant),
}

/// What is left to do after a slot was filled, once the reader role is given up.
#[derive(Default)]
pub(crate) struct Aftermath {
    pub(crate) waker: Option<Waker>,
    pub(crate) callback: Option<Job>,
    /// A thread that blocked for the call was woken.
    pub(crate) woke_caller: bool,
    /// That thread is inside the transport.
    pub(crate) nudge: bool,
}

/// What became of an errand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offer {
    /// A thread blocks for the call, and is going to run it.
    Taken,
    /// No thread does; one that comes to block runs it.
    Kept,
    /// The call has ended.
    Declined,
}

/// Why a parked thread woke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Woken {
    Done,
    Errand,
    Promoted,
    Late,
}

impl Slot {
    pub(crate) fn new(path: Path, started: Instant, deadline: Option<Instant>) -> Slot {
        Slot {
            path,
            started,
            deadline,
            done: AtomicBool::new(false),
            inner: Mutex::new(Inner {
                stage: Stage::Pending,
                blocked: false,
                reading: false,
                promoted: false,
                errands: Vec::new(),
                waker: None,
                ready: None,
                semaphore: None,
                callback: None,
            }),
            changed: Condvar::new(),
        }
    }

    /// A thread is about to block for the call: what descends from it can be left to that thread from
    /// the start.
    pub(crate) fn blocked(mut self) -> Slot {
        self.inner.get_mut().blocked = true;
        self
    }

    /// Calls `callback` with the outcome, which then nobody else can take.
    pub(crate) fn with_callback(mut self, callback: Callback) -> Slot {
        self.inner.get_mut().callback = Some(callback);
        self
    }

    /// Releases a permit when the call has ended.
    pub(crate) fn with_semaphore(mut self, semaphore: Option<Semaphore>) -> Slot {
        self.inner.get_mut().semaphore = semaphore;
        self
    }

    /// Fills the slot, unless it is filled already.
    pub(crate) fn complete(&self, outcome: Outcome, now: Instant) -> Aftermath {
        let mut inner = self.inner.lock();
        if !matches!(inner.stage, Stage::Pending) {
            return Aftermath::default();
        }
        let mut aftermath = Aftermath { nudge: inner.reading, ..Aftermath::default() };
        match inner.callback.take() {
            Some(callback) => {
                inner.stage = Stage::Taken(now);
                aftermath.callback = Some(Box::new(move || callback(outcome)));
            }
            None => inner.stage = Stage::Done(outcome, now),
        }
        // SYNC: done. Pairs with the load in `is_done`.
        self.done.store(true, Ordering::Release);
        aftermath.waker = inner.waker.take();
        aftermath.woke_caller = inner.blocked;
        let (semaphore, ready) =
            (inner.semaphore.take(), inner.ready.as_ref().map(|(sender, _)| sender.clone()));
        drop(inner);
        self.changed.notify_all();
        if let Some(ready) = ready {
            // Full means that it says so already.
            let _ = ready.try_send(());
        }
        if let Some(semaphore) = semaphore {
            semaphore.release();
        }
        aftermath
    }

    /// Whether the call has ended.
    pub(crate) fn is_done(&self) -> bool {
        // SYNC: done. Pairs with the store in `complete`: whoever sees it finds the outcome.
        self.done.load(Ordering::Acquire)
    }

    /// The outcome, once; `None` when it is not there or was taken before.
    pub(crate) fn take(&self) -> Option<Outcome> {
        let mut inner = self.inner.lock();
        let at = match &inner.stage {
            Stage::Done(_, at) => *at,
            _ => return None,
        };
        match std::mem::replace(&mut inner.stage, Stage::Taken(at)) {
            Stage::Done(outcome, _) => Some(outcome),
            _ => None,
        }
    }

    /// How long the call took, or has taken so far.
    pub(crate) fn elapsed(&self, now: Instant) -> Duration {
        let until = match &self.inner.lock().stage {
            Stage::Pending => now,
            Stage::Done(_, at) | Stage::Taken(at) => *at,
        };
        until.saturating_duration_since(self.started)
    }

    /// A channel that gets one message when the call has ended.
    pub(crate) fn ready(&self) -> Receiver<()> {
        let mut inner = self.inner.lock();
        let done = !matches!(inner.stage, Stage::Pending);
        let (sender, receiver) = inner.ready.get_or_insert_with(|| crossbeam_channel::bounded(1));
        if done {
            let _ = sender.try_send(());
        }
        receiver.clone()
    }

    /// Leaves a waker that is called when the call has ended. `false` if it has.
    pub(crate) fn set_waker(&self, waker: &Waker) -> bool {
        let mut inner = self.inner.lock();
        if !matches!(inner.stage, Stage::Pending) {
            return false;
        }
        if inner.waker.as_ref().is_some_and(|old| old.will_wake(waker)) {
            return true;
        }
        let old = inner.waker.replace(waker.clone());
        // Out of the lock: dropping a waker may drop a task, with other results in it.
        drop(inner);
        drop(old);
        true
    }

    // The thread that blocks for the call.

    /// The calling thread starts to block for this call.
    pub(crate) fn block(&self) {
        self.inner.lock().blocked = true;
    }

    /// The calling thread stops to block for this call. Gives back what it was to run.
    pub(crate) fn unblock(&self) -> Vec<Job> {
        let mut inner = self.inner.lock();
        inner.blocked = false;
        std::mem::take(&mut inner.errands)
    }

    /// The blocked thread goes into the transport or comes out. `false` if there is no need to go in.
    pub(crate) fn set_reading(&self, reading: bool) -> bool {
        let mut inner = self.inner.lock();
        let needless = !matches!(inner.stage, Stage::Pending) || !inner.errands.is_empty();
        inner.reading = reading && !needless;
        !needless
    }

    /// Leaves something to run for the thread that blocks for this call, or will.
    ///
    /// Called by whoever has the reader role, so that the blocked thread is not inside the transport
    /// unless it is the calling one.
    pub(crate) fn offer(&self, errand: Job) -> Offer {
        let mut inner = self.inner.lock();
        if !matches!(inner.stage, Stage::Pending) {
            return Offer::Declined;
        }
        inner.errands.push(errand);
        let blocked = inner.blocked;
        drop(inner);
        if !blocked {
            return Offer::Kept;
        }
        self.changed.notify_one();
        Offer::Taken
    }

    /// What the blocked thread should run next.
    pub(crate) fn take_errand(&self) -> Option<Job> {
        let mut inner = self.inner.lock();
        (!inner.errands.is_empty()).then(|| inner.errands.remove(0))
    }

    pub(crate) fn has_errand(&self) -> bool {
        !self.inner.lock().errands.is_empty()
    }

    /// Asks the blocked thread to take the reader role.
    pub(crate) fn promote(&self) {
        self.inner.lock().promoted = true;
        self.changed.notify_one();
    }

    /// Parks until something happens or `limit` passes.
    pub(crate) fn park(&self, limit: Option<Instant>) -> Woken {
        let mut inner = self.inner.lock();
        loop {
            if !matches!(inner.stage, Stage::Pending) {
                return Woken::Done;
            }
            if !inner.errands.is_empty() {
                return Woken::Errand;
            }
            if std::mem::replace(&mut inner.promoted, false) {
                return Woken::Promoted;
            }
            match limit {
                Some(at) if self.changed.wait_until(&mut inner, at).timed_out() => {
                    return if matches!(inner.stage, Stage::Pending) { Woken::Late } else { Woken::Done };
                }
                Some(_) => {}
                None => self.changed.wait(&mut inner),
            }
        }
    }

    /// Waits for another thread that is filling the slot at this moment.
    pub(crate) fn settle(&self) {
        let mut inner = self.inner.lock();
        while matches!(inner.stage, Stage::Pending) {
            self.changed.wait(&mut inner);
        }
    }

    /// Whether a hand-over of the role was left unanswered.
    pub(crate) fn take_promotion(&self) -> bool {
        std::mem::replace(&mut self.inner.lock().promoted, false)
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot")
            .field("path", &self.path)
            .field("done", &self.is_done())
            .finish_non_exhaustive()
    }
}
