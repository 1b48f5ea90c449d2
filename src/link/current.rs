//! The call that the current thread is serving: the one thread-local of this library, set around user
//! code and nothing else. From it a nested call gets its parent and its deadline.

use std::{cell::RefCell, time::Instant};

use crate::wire::TransactionId;

/// Where user code runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Handler,
    Callback,
    Listener,
    ErrorHook,
    Supervision,
}

/// What is known about the user code that runs on this thread.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Current {
    /// The number of the link over which the call came.
    pub(crate) link: usize,
    pub(crate) transaction: Option<TransactionId>,
    pub(crate) deadline: Option<Instant>,
    pub(crate) place: Place,
}

thread_local! {
    static CURRENT: RefCell<Option<Current>> = const { RefCell::new(None) };
}

/// Tells this thread from every other one that is alive.
pub(super) fn this_thread() -> usize {
    CURRENT.with(|current| std::ptr::from_ref(current) as usize)
}

/// The call that this thread serves.
pub(crate) fn current() -> Option<Current> {
    CURRENT.with_borrow(|current| *current)
}

/// Runs `code` as user code, and restores what was before, panic or not.
pub(crate) fn within<R>(current: Current, code: impl FnOnce() -> R) -> R {
    struct Restore(Option<Current>);
    impl Drop for Restore {
        fn drop(&mut self) {
            CURRENT.with_borrow_mut(|current| *current = self.0);
        }
    }
    let _restore = Restore(CURRENT.replace(Some(current)));
    code()
}
