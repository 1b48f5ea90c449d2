//! The call that the current thread is serving: the one thread-local of this library, set around user
//! code and nothing else. From it a nested call gets its parent, its deadline, and its end when the parent
//! is cancelled.

use std::{cell::RefCell, time::Instant};

use super::token::CancelToken;
use crate::wire::TransactionId;

/// Where user code runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Handler,
    Callback,
    Listener,
    ErrorHook,
}

/// What is known about the user code that runs on this thread.
#[derive(Clone, Debug)]
pub(crate) struct Current {
    /// The number of the link over which the call came.
    pub(crate) link: usize,
    pub(crate) transaction: Option<TransactionId>,
    pub(crate) deadline: Option<Instant>,
    pub(crate) place: Place,
    /// Fires when nobody waits for the call any more; an event has none that fires.
    pub(crate) cancel: Option<CancelToken>,
}

thread_local! {
    static CURRENT: RefCell<Option<Current>> = const { RefCell::new(None) };
}

/// Tells this thread from every other one that is alive.
pub(super) fn this_thread() -> usize {
    CURRENT.with(|current| std::ptr::from_ref(current) as usize)
}

/// Asks something about the call that this thread serves, if it serves one. Neither runs user code.
pub(crate) fn ask<R>(question: impl FnOnce(&Current) -> Option<R>) -> Option<R> {
    CURRENT.with_borrow(|current| current.as_ref().and_then(question))
}

/// Runs `code` as user code, and restores what was before, panic or not.
pub(crate) fn within<R>(current: Current, code: impl FnOnce() -> R) -> R {
    struct Restore(Option<Current>);
    impl Drop for Restore {
        fn drop(&mut self) {
            let ours = CURRENT.replace(self.0.take());
            drop(ours);
        }
    }
    let _restore = Restore(CURRENT.replace(Some(current)));
    code()
}
