//! What several modules need to hold handlers back and to wait for what they see.

use std::{
    sync::{Arc, Condvar, Mutex},
    thread,
    time::{Duration, Instant},
};

use nape::{CallError, Rejection};

/// "Soon" is 50 ms on an idle machine; a busy one gets five times as long.
pub const SOON: Duration = Duration::from_millis(250);

/// Far more than anything here takes, and less than the watchdog waits.
pub const LONG: Duration = Duration::from_secs(30);

/// Holds handlers back until it is opened.
#[derive(Clone, Default)]
pub struct Gate(Arc<(Mutex<Passed>, Condvar)>);

#[derive(Default)]
struct Passed {
    open: bool,
    waiting: usize,
}

impl Gate {
    /// Blocks until the gate is open.
    pub fn pass(&self) {
        let (state, changed) = &*self.0;
        let mut state = state.lock().unwrap();
        state.waiting += 1;
        changed.notify_all();
        let mut state = changed.wait_while(state, |state| !state.open).unwrap();
        state.waiting -= 1;
    }

    /// Lets everybody through from now on.
    pub fn open(&self) {
        self.0.0.lock().unwrap().open = true;
        self.0.1.notify_all();
    }

    /// Blocks until `n` stand before it.
    pub fn await_waiting(&self, n: usize) {
        let (state, changed) = &*self.0;
        let state = state.lock().unwrap();
        let (state, _) = changed.wait_timeout_while(state, LONG, |state| state.waiting < n).unwrap();
        assert!(state.waiting >= n, "{} of {n} came to the gate", state.waiting);
    }

    /// How many stand before it.
    pub fn waiting(&self) -> usize {
        self.0.0.lock().unwrap().waiting
    }
}

/// Looks until something is so that nobody announces.
#[track_caller]
pub fn until(what: &str, is_so: impl Fn() -> bool) {
    within(LONG, what, is_so);
}

/// The same for a promise with a time.
#[track_caller]
pub fn within(limit: Duration, what: &str, is_so: impl Fn() -> bool) {
    let end = Instant::now() + limit;
    while !is_so() {
        assert!(Instant::now() < end, "not after {limit:?}: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Does something again for as long as a queue on its way is full.
pub fn patiently<T>(mut attempt: impl FnMut() -> Result<T, CallError>) -> T {
    loop {
        match attempt() {
            Err(CallError::Rejected(Rejection::Busy { .. })) => thread::yield_now(),
            done => return done.unwrap(),
        }
    }
}

/// Whether a call found no handler for `path`.
pub fn is_unknown<T>(outcome: &Result<T, CallError>, path: &str) -> bool {
    matches!(outcome, Err(CallError::Rejected(Rejection::NoHandler { path: at })) if at.as_str() == path)
}

/// Whether a call was refused because of a full queue.
pub fn is_busy<T>(outcome: &Result<T, CallError>, path: &str) -> bool {
    matches!(outcome, Err(CallError::Rejected(Rejection::Busy { path: at, .. })) if at.as_str() == path)
}
