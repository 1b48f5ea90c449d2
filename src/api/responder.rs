//! Answers a call later, from any thread.

use std::{fmt, marker::PhantomData};

use serde::Serialize;

use super::{Context, HandlerError, layered::nothing};
use crate::{
    error::CallError,
    link::{Answer, CancelToken},
    wire::{Fault, FaultKind},
};

/// Answers one call, once, from any thread. Dropped without an answer, it gives the caller
/// [`CallError::NoAnswer`]; dropped by a panic, a [`Fault`].
#[must_use = "dropping it tells the caller that there is no answer"]
pub struct Responder<T> {
    context: Option<Context>,
    result: PhantomData<fn(T)>,
}

impl<T: Serialize + Send + 'static> Responder<T> {
    pub(crate) fn new(context: &Context) -> Responder<T> {
        Responder { context: Some(context.clone()), result: PhantomData }
    }

    /// Answers with a value. An event takes no answer, and drops it.
    ///
    /// Does not block, but where an answer of over 1 KiB finds the
    /// [send queue](crate::Limits::send_queue_bytes) full: then until the other side has read, or the caller's time or the
    /// link is over.
    pub fn answer(mut self, value: T) {
        if let Some(context) = self.context.take() {
            let packed = |context: &Context| context.link().pack_answer(context.path(), value);
            end(&context, if context.is_event() { Ok(nothing()) } else { packed(&context) });
        }
    }

    /// Answers with a failure. Blocks as seldom as [`answer`](Responder::answer).
    pub fn fail<E: HandlerError>(mut self, error: E) {
        if let Some(context) = self.context.take() {
            let fault = error.into_fault_in(context.link().codec());
            end(&context, Err(fault.into()));
        }
    }

    /// Answers with what a handler would have returned. Blocks as seldom as [`answer`](Responder::answer).
    pub fn respond<E: HandlerError>(self, result: Result<T, E>) {
        match result {
            Ok(value) => self.answer(value),
            Err(error) => self.fail(error),
        }
    }

    /// Fires when the caller gives up.
    pub fn cancel_token(&self) -> Option<&CancelToken> {
        self.context.as_ref().map(Context::cancel_token)
    }
}

impl<T> Drop for Responder<T> {
    fn drop(&mut self) {
        if let Some(context) = self.context.take() {
            // A panic that drops it has a text, but not here.
            let panicked = || Fault::of(FaultKind::Panicked, "its responder was dropped by it".into(), "");
            let error = if std::thread::panicking() { panicked().into() } else { CallError::NoAnswer };
            end(&context, Err(error));
        }
    }
}

/// Answers a call. An event takes no answer.
fn end(context: &Context, end: Result<Answer, CallError>) {
    let end = context.leave(end);
    let Some(id) = context.transaction else { return };
    match end {
        Ok(answer) => context.link().reply(id, context.cancel_token(), answer),
        Err(error) => context.link().fail(id, context.cancel_token(), error),
    }
}

impl<T> fmt::Debug for Responder<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.context.as_ref().map(Context::path);
        f.debug_struct("Responder").field("path", &path).finish_non_exhaustive()
    }
}
