//! The call that the current thread is serving: the one thread-local of this library, set around user
//! code and nothing else. From it a nested call gets its parent, its deadline, and its end when the parent
//! is cancelled.

use std::{
    cell::{Cell, RefCell},
    time::Instant,
};

use super::{gate::Scope, token::CancelToken};
use crate::{sync::hold_nothing, wire::TransactionId};

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
#[derive(Clone)]
pub(crate) struct Current {
    /// The number of the link over which the call came.
    pub(crate) link: usize,
    pub(crate) transaction: Option<TransactionId>,
    pub(crate) deadline: Option<Instant>,
    pub(crate) place: Place,
    pub(crate) scope: Within,
    /// The thread that waits for the call is this one: it serves on its own what its handler calls back.
    pub(crate) here: bool,
    /// How many other handlers stand on this thread's stack below it.
    pub(crate) depth: u32,
}

impl Current {
    /// Code that belongs to no call.
    pub(crate) fn of_no_call(link: usize, place: Place) -> Current {
        let (transaction, deadline, scope) = (None, None, Within::Nothing);
        Current { link, transaction, deadline, place, scope, here: false, depth: 0 }
    }
}

/// Whose end is the end of the calls that are made here.
#[derive(Clone)]
pub(crate) enum Within {
    Nothing,
    /// The token of the call that is served.
    Token(CancelToken),
    /// It is made when it is needed.
    Scope(Scope),
}

thread_local! {
    static CURRENT: RefCell<Option<Current>> = const { RefCell::new(None) };
    /// It has no drop: unlike what stands above it is there to the very end of the thread. What the user keeps for a
    /// thread may go later than ours, and call as it goes.
    static PLACE: Cell<u8> = const { Cell::new(0) };
}

/// Tells this thread from every other one that is alive.
pub(super) fn this_thread() -> usize {
    PLACE.with(|place| std::ptr::from_ref(place) as usize)
}

/// Looks at what the thread serves. A thread of which that has gone already serves nothing.
#[inline]
fn look<R>(look: impl FnOnce(&RefCell<Option<Current>>) -> R) -> Option<R> {
    CURRENT.try_with(look).ok()
}

/// Asks something about the call that this thread serves, if it serves one. Neither runs user code.
#[inline]
pub(crate) fn ask<R>(question: impl FnOnce(&Current) -> Option<R>) -> Option<R> {
    look(|current| current.borrow().as_ref().and_then(question)).flatten()
}

/// What a call needs to know of the user code that makes it.
#[derive(Default)]
pub(crate) struct Outer {
    pub(crate) place: Option<Place>,
    pub(crate) deadline: Option<Instant>,
    pub(crate) depth: u32,
    /// The token of the call that this thread serves.
    pub(crate) scope: Option<CancelToken>,
}

/// Asks all of it at once: in most threads that call there is nothing.
#[inline]
pub(crate) fn outer() -> Outer {
    let outer = |current: &Current| {
        let Current { place, deadline, depth, .. } = *current;
        Some(Outer { place: Some(place), deadline, depth, scope: None })
    };
    ask(outer).map_or_else(Outer::default, |outer| Outer { scope: scope(), ..outer })
}

/// How many handlers stand on this thread's stack.
pub(crate) fn depth() -> u32 {
    ask(|current| Some(current.depth + 1)).unwrap_or_default()
}

/// The token of the call that this thread serves, if it serves one.
pub(crate) fn scope() -> Option<CancelToken> {
    let scope = ask(|current| match &current.scope {
        Within::Nothing => None,
        Within::Token(token) => Some(Ok(token.clone())),
        Within::Scope(scope) => Some(Err(scope.clone())),
    })?;
    Some(scope.unwrap_or_else(|scope| {
        let token = scope.token();
        look(|current| {
            current.borrow_mut().iter_mut().for_each(|current| current.scope = Within::Token(token.clone()));
        });
        token
    }))
}

/// Whether nobody waits any more for the call that this thread serves.
pub(crate) fn is_given_up() -> bool {
    ask(|current| match &current.scope {
        Within::Nothing => None,
        Within::Token(token) => Some(token.has_fired()),
        Within::Scope(scope) => Some(scope.is_over()),
    })
    .unwrap_or_default()
}

/// Runs `code` as user code, and restores what was before, panic or not.
pub(crate) fn within<R>(current: Current, code: impl FnOnce() -> R) -> R {
    struct Restore(Option<Current>);
    impl Drop for Restore {
        fn drop(&mut self) {
            let ours = look(|current| current.replace(self.0.take()));
            drop(ours);
        }
    }
    hold_nothing();
    let mut current = Some(current);
    let Some(before) = look(|place| place.replace(current.take())) else { return code() };
    let _restore = Restore(before);
    code()
}
