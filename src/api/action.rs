//! A call that is built but not sent, and the ways to send it.

use std::time::Instant;

use serde::{Serialize, de::DeserializeOwned};

use super::{ApiHandle, AsyncResult, endpoint::Inner};
use crate::{
    config::Timeout,
    error::{CallError, Executed, Misuse, Rejection},
    link::{CallPlan, Callback, Link, Outcome, Place, Slot, current},
    semaphore::Semaphore,
    sync::Arc,
    wire::{Path, PathError},
};

/// A call or an event that is built but not sent. What is set on it holds for it alone.
///
/// One of its verbs sends it: [`call`](Action::call) blocks, [`start`](Action::start) gives an
/// [`AsyncResult`], [`then`](Action::then) calls back, [`fire`](Action::fire) sends an event.
#[derive(Debug)]
#[must_use = "an action does nothing until one of its verbs sends it"]
pub struct Action<A> {
    endpoint: Arc<Inner>,
    path: Result<Path, PathError>,
    arguments: A,
    timeout: Timeout,
    semaphore: Option<Semaphore>,
}

/// An action whose failures for want of an answer are nothing: see [`Action::ignore_errors`].
#[derive(Debug)]
#[must_use = "an action does nothing until one of its verbs sends it"]
pub struct IgnoringErrors<A>(Action<A>);

impl<A> Action<A> {
    pub(crate) fn new(handle: &ApiHandle, path: Result<Path, PathError>, arguments: A) -> Action<A> {
        let (endpoint, timeout) = (handle.endpoint.clone(), handle.timeout);
        Action { endpoint, path, arguments, timeout, semaphore: None }
    }

    /// How long this call may take. Zero is over at once.
    pub fn timeout(mut self, timeout: impl Into<Timeout>) -> Action<A> {
        self.timeout = timeout.into();
        self
    }

    /// Releases one permit of `semaphore` when the call has ended, however it ends. The
    /// [`AsyncResult`] of such a call may be dropped without cancelling it.
    pub fn releasing(mut self, semaphore: &Semaphore) -> Action<A> {
        self.semaphore = Some(semaphore.clone());
        self
    }

    /// Turns a timeout and a link that is closed into nothing. What the other side answers is told as
    /// ever. Each error that is ignored is counted.
    pub fn ignore_errors(self) -> IgnoringErrors<A> {
        IgnoringErrors(self)
    }
}

impl<A: Serialize + Send + 'static> Action<A> {
    /// Sends the call and blocks until it has ended: by the reply, by its timeout, or with the link.
    ///
    /// Meanwhile the calling thread serves the calls of the other side that descend from this one.
    ///
    /// # Errors
    ///
    /// Whatever a call can end in; [`Misuse::WouldDeadlock`] from a state listener or an error hook.
    pub fn call<T: DeserializeOwned + 'static>(self) -> Result<T, CallError> {
        check_may_block()?;
        let semaphore = self.semaphore.clone();
        let (slot, link) = self.prepare()?;
        let slot = Arc::new(slot.with_semaphore(semaphore).blocked());
        let plan = CallPlan { slot: slot.clone(), attempt: 0, blocking: true };
        let started = link.start(&plan, self.arguments)?;
        if !link.wait(&slot, slot.deadline) {
            link.expire(started.id);
            slot.settle();
        }
        decode(&link, slot.take().unwrap_or(Err(CallError::Cancelled)))
    }

    /// Sends the call and gives a handle to its result. Does not block.
    ///
    /// # Errors
    ///
    /// What shows at once: a closed link, a full send queue, arguments that do not encode, no time.
    pub fn start<T: DeserializeOwned + 'static>(self) -> Result<AsyncResult<T>, CallError> {
        let semaphore = self.semaphore.clone();
        let cancels = semaphore.is_none();
        let (slot, link) = self.prepare()?;
        let slot = Arc::new(slot.with_semaphore(semaphore));
        let plan = CallPlan { slot: slot.clone(), attempt: 0, blocking: false };
        let started = link.start(&plan, self.arguments)?;
        Ok(AsyncResult::new(started, slot, cancels))
    }

    /// Sends the call and has `callback` called with its end, exactly once, on a thread of the link.
    /// Does not block.
    ///
    /// # Errors
    ///
    /// What shows at once, as for [`Action::start`]; then `callback` is not called.
    pub fn then<T, F>(self, callback: F) -> Result<(), CallError>
    where
        T: DeserializeOwned + 'static,
        F: FnOnce(Result<T, CallError>) + Send + 'static,
    {
        let semaphore = self.semaphore.clone();
        let (slot, link) = self.prepare()?;
        let weak = Arc::downgrade(&link);
        let callback: Callback = Box::new(move |outcome| {
            callback(match weak.upgrade() {
                Some(link) => decode(&link, outcome),
                None => outcome.and_then(|payload| into_value(payload, crate::wire::Codec::default())),
            });
        });
        let slot = Arc::new(slot.with_semaphore(semaphore).with_callback(callback));
        let plan = CallPlan { slot, attempt: 0, blocking: false };
        link.start(&plan, self.arguments).map(|_| ())
    }

    /// Sends an event: no transaction, no answer, and at the other side the same handler as for a call.
    /// Does not block.
    ///
    /// # Errors
    ///
    /// What shows at once: a closed link, a full send queue, arguments that do not encode.
    pub fn fire(self) -> Result<(), CallError> {
        let path = self.path.map_err(Misuse::BadPath)?;
        let link = self.endpoint.link()?;
        let path = if path.is_root() { return Err(Misuse::BadPath(PathError::Empty).into()) } else { path };
        let fired = link.fire(&path, self.arguments);
        if let Some(semaphore) = self.semaphore {
            semaphore.release();
        }
        fired
    }

    /// The place for the end of the call, and the link that it takes.
    fn prepare(&self) -> Result<(Slot, Arc<Link>), CallError> {
        let path = self.path.clone().map_err(Misuse::BadPath)?;
        if path.is_root() {
            return Err(Misuse::BadPath(PathError::Empty).into());
        }
        let link = self.endpoint.link()?;
        let now = Instant::now();
        let own = match self.timeout {
            // A time that cannot be counted is no limit.
            Timeout::After(after) => now.checked_add(after),
            Timeout::Never => None,
        };
        let inherited = current().and_then(|current| current.deadline);
        let deadline = own.into_iter().chain(inherited).min();
        if deadline.is_some_and(|at| at <= now) {
            link.tally().timeouts.up();
            let after = std::time::Duration::ZERO;
            return Err(CallError::TimedOut { path, after, executed: Executed::No });
        }
        Ok((Slot::new(path, now, deadline), link))
    }
}

impl<A: Serialize + Send + 'static> IgnoringErrors<A> {
    /// As [`Action::call`]; `None` when it timed out or the link is closed.
    ///
    /// # Errors
    ///
    /// Every other end of a call.
    pub fn call<T: DeserializeOwned + 'static>(self) -> Result<Option<T>, CallError> {
        let endpoint = self.0.endpoint.clone();
        ignore(&endpoint, self.0.call().map(Some))
    }

    /// As [`Action::fire`], without an error when the link is closed.
    ///
    /// # Errors
    ///
    /// What is wrong with the event itself.
    pub fn fire(self) -> Result<(), CallError> {
        let endpoint = self.0.endpoint.clone();
        ignore(&endpoint, self.0.fire().map(Some)).map(|_| ())
    }
}

fn ignore<T>(endpoint: &Inner, result: Result<Option<T>, CallError>) -> Result<Option<T>, CallError> {
    match result {
        Err(
            CallError::TimedOut { .. }
            | CallError::Closed { .. }
            | CallError::Rejected(Rejection::ShuttingDown),
        ) => {
            endpoint.count_ignored();
            Ok(None)
        }
        other => other,
    }
}

/// Refuses to block where nothing could be served meanwhile.
pub(super) fn check_may_block() -> Result<(), CallError> {
    match current() {
        Some(current) if current.place == Place::Listener => {
            Err(Misuse::WouldDeadlock { place: "a state listener or an error hook" }.into())
        }
        _ => Ok(()),
    }
}

/// The value of a call that has ended.
pub(super) fn decode<T: DeserializeOwned + 'static>(link: &Link, outcome: Outcome) -> Result<T, CallError> {
    into_value(outcome?, link.codec())
}

fn into_value<T: DeserializeOwned + 'static>(
    payload: crate::wire::Payload,
    codec: crate::wire::Codec,
) -> Result<T, CallError> {
    payload.into_value::<T>(codec).map_err(|error| {
        CallError::Decode(format!("expected {}: {error}", std::any::type_name::<T>()).into())
    })
}
