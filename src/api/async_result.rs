//! The handle of a started call.

use std::{
    fmt,
    future::Future,
    marker::PhantomData,
    pin::Pin,
    task::{Poll, Waker},
    time::{Duration, Instant},
};

use crossbeam_channel::Receiver;
use serde::de::DeserializeOwned;

use super::{
    action::{check_may_block, decode, name_ours},
    opening::from_now,
    relay::Relay,
};
use crate::{
    config::Timeout,
    error::{CallError, Misuse},
    link::{Slot, Started, ask},
    shape::Shape,
    sync::Arc,
    wire::{Path, TransactionId},
};

/// A call that is under way. Poll it, wait for it, or await it: it is a [`Future`] for any executor.
///
/// The result is handed out once. Dropping the handle cancels the call, unless it was started to
/// [release a semaphore](crate::Action::releasing).
///
/// The waker of a task is called by the thread that ends the call, which may be the one that reads for the link, or a
/// caller that blocks at that: it must not block, and must not take a lock that somebody holds over a blocking call.
/// When the time of the call is over, or the link, a thread of its crew calls it; between two starts or two tries one of
/// the endpoint.
#[must_use = "dropping it cancels the call"]
pub struct AsyncResult<T> {
    course: Course,
    slot: Arc<Slot>,
    /// The end of the time that began when the call was under way already.
    until: Option<Instant>,
    cancels: bool,
    shape: Option<&'static Shape>,
    value: PhantomData<fn() -> T>,
}

/// How the call is under way.
enum Course {
    /// On one link.
    Once(Started),
    /// On as many links as it takes.
    Relayed(Arc<Relay>),
}

impl<T> AsyncResult<T> {
    pub(crate) fn new(
        started: Started,
        slot: Arc<Slot>,
        cancels: bool,
        shape: Option<&'static Shape>,
    ) -> AsyncResult<T> {
        AsyncResult { course: Course::Once(started), slot, until: None, cancels, shape, value: PhantomData }
    }

    pub(crate) fn relayed(relay: Arc<Relay>, cancels: bool, shape: Option<&'static Shape>) -> AsyncResult<T> {
        let slot = relay.outer.clone();
        AsyncResult { course: Course::Relayed(relay), slot, until: None, cancels, shape, value: PhantomData }
    }

    /// The call has so much time from now on; within a handler, no more than that has left.
    pub(super) fn give_time(&mut self, timeout: Timeout) {
        if let Course::Once(started) = &self.course {
            let own = ask(|current| current.deadline);
            self.until = from_now(timeout).into_iter().chain(own).min();
            started.link.set_timer(started.id, self.until);
        }
    }

    /// When the call ends in any case.
    fn deadline(&self) -> Option<Instant> {
        self.slot.deadline.into_iter().chain(self.until).min()
    }

    fn is_late(&self) -> bool {
        self.deadline().is_some_and(|at| at <= Instant::now())
    }

    /// Sees to it that somebody watches a time that began when the call was under way, for whoever does not do so itself.
    /// A call that needs that is refused before it leaves where nobody can be had: this one has left, and ends.
    fn insist_on_a_keeper(&self) {
        if let Course::Once(started) = &self.course
            && self.until.is_some()
            && !self.slot.is_done()
            && !started.link.find_keeper()
        {
            started.link.expire(started.id);
            self.slot.settle();
        }
    }

    /// Whether this is a child that was forked from the process which has made the call.
    fn is_forked(&self) -> bool {
        match &self.course {
            Course::Once(started) => started.link.is_forked(),
            Course::Relayed(relay) => relay.is_forked(),
        }
    }

    /// Whether the call has ended, with a value or without. Does not block.
    pub fn is_done(&self) -> bool {
        if self.is_forked() {
            return true;
        }
        let started = match &self.course {
            Course::Once(started) => started,
            Course::Relayed(relay) => return relay.is_done(),
        };
        if !self.slot.is_done() {
            started.link.send_gathered();
        }
        if !self.slot.is_done() && self.is_late() {
            started.link.expire(started.id);
        }
        self.slot.is_done()
    }

    /// How long the call took, or has taken so far.
    pub fn elapsed(&self) -> Duration {
        self.slot.elapsed(Instant::now())
    }

    /// What was called.
    pub fn path(&self) -> &Path {
        &self.slot.path
    }

    /// The name of the call on its link; with the counter 0 while it waits for its first link. A call that
    /// is [run again](crate::Action::retry_safe) gets another one.
    pub fn transaction(&self) -> TransactionId {
        match &self.course {
            Course::Once(started) => started.id,
            Course::Relayed(relay) => relay.transaction(),
        }
    }

    /// Ends the call as cancelled, unless it has ended. The handler's token fires. Does not block.
    pub fn cancel(&self) {
        if self.is_forked() {
            return;
        }
        match &self.course {
            Course::Once(started) => started.link.cancel(started.id),
            Course::Relayed(relay) => drop(relay.cancel()),
        }
    }

    /// A channel that gets one message when the call has ended, for a
    /// [`Select`](crossbeam_channel::Select) beside other channels.
    pub fn ready(&self) -> Receiver<()> {
        if self.is_forked() {
            // Nobody sends, which shows at once.
            return crossbeam_channel::bounded(0).1;
        }
        match &self.course {
            Course::Once(started) => started.link.send_gathered(),
            Course::Relayed(_) => drop(self.is_done()),
        }
        self.insist_on_a_keeper();
        self.slot.ready()
    }
}

impl<T: DeserializeOwned + 'static> AsyncResult<T> {
    /// Waits for the end of the call.
    ///
    /// Blocks the calling thread. The wait ends with the reply, the call's own deadline, or the closing
    /// of the link, whichever comes first. Calls of the other side that descend from this one run on this thread
    /// meanwhile, and each of them to its end.
    ///
    /// # Errors
    ///
    /// Whatever a call can end in; [`Misuse::Taken`] when the result was handed out before;
    /// [`Misuse::WouldDeadlock`] in a state listener, an error hook or a hook of a supervisor: the handle is gone
    /// then, and the call is cancelled.
    pub fn wait(mut self) -> Result<T, CallError> {
        check_may_block()?;
        self.block(self.deadline());
        self.take()
    }

    /// Waits for the end of the call, for at most `limit`; `None` means that it has not come yet, and
    /// leaves the call alone.
    ///
    /// Blocks the calling thread. The wait ends with the reply, the limit, the call's own deadline, or
    /// the closing of the link, whichever comes first; a reply that is already here always wins. Calls of the
    /// other side that descend from this one run on this thread meanwhile, and each of them to its end.
    ///
    /// # Errors
    ///
    /// The call's own end, once: [`CallError::TimedOut`] is the call's deadline, not `limit`.
    /// [`Misuse::WouldDeadlock`] in a state listener, an error hook or a hook of a supervisor, which leaves the call
    /// alone.
    pub fn wait_timeout(&mut self, limit: Duration) -> Result<Option<T>, CallError> {
        check_may_block()?;
        let limit = Instant::now().checked_add(limit);
        self.block(limit.into_iter().chain(self.deadline()).min());
        self.try_wait()
    }

    /// The end of the call if it is here; `None` means that it has not come yet. Does not block.
    ///
    /// # Errors
    ///
    /// The call's own end, once.
    pub fn try_wait(&mut self) -> Result<Option<T>, CallError> {
        if self.is_done() { self.take().map(Some) } else { Ok(None) }
    }

    /// Blocks until the call has ended, its own deadline included, or `limit` has passed.
    fn block(&self, limit: Option<Instant>) {
        if self.is_forked() {
            return;
        }
        let started = match &self.course {
            Course::Once(started) => started,
            Course::Relayed(relay) => return relay.wait(limit),
        };
        let over = started.link.wait(&self.slot, limit);
        if !over && self.deadline().is_some_and(|at| limit.is_some_and(|limit| at <= limit)) {
            // Whoever watches the clock may be ending the call at this moment.
            started.link.expire(started.id);
            self.slot.settle();
        }
    }

    fn take(&mut self) -> Result<T, CallError> {
        if self.is_forked() {
            return Err(Misuse::Forked.into());
        }
        let taken = || CallError::from(Misuse::Taken { path: self.slot.path.clone() });
        let codec = match &self.course {
            Course::Once(started) => started.link.codec(),
            Course::Relayed(relay) => relay.spoken.codec(),
        };
        let outcome = self.slot.take().ok_or_else(taken)?.map_err(|error| name_ours(error, self.shape));
        decode(codec, outcome)
    }
}

impl<T: DeserializeOwned + 'static> Future for AsyncResult<T> {
    type Output = Result<T, CallError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> Poll<Self::Output> {
        let waker: &Waker = cx.waker();
        if !self.is_done() {
            self.insist_on_a_keeper();
        }
        if !self.slot.is_done() && self.slot.set_waker(waker) {
            return Poll::Pending;
        }
        Poll::Ready(self.take())
    }
}

impl<T> Drop for AsyncResult<T> {
    fn drop(&mut self) {
        if self.cancels && !self.is_forked() && !self.slot.is_done() {
            self.cancel();
        }
    }
}

impl<T> fmt::Debug for AsyncResult<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncResult")
            .field("path", self.path())
            .field("transaction", &self.transaction())
            .field("done", &self.slot.is_done())
            .finish_non_exhaustive()
    }
}
