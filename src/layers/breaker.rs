//! No calls for a while to what fails.

use std::{
    fmt,
    time::{Duration, Instant},
};

use super::busy;
use crate::{
    api::{Layer, LayerCall, Leave},
    error::{CallError, Rejection},
    sync::{Arc, Mutex},
    wire::FaultKind,
};

/// Refuses calls as [busy](Rejection::Busy) for a while after so many have failed in a row, so that what is
/// overloaded or gone is left alone. Then one call is let through to try: its success lets all pass again, its
/// failure refuses them for as long once more.
///
/// Events and streams only pass or are refused, and never are what tries: nobody knows what becomes of an event, and
/// a stream may tell late how it ends.
///
/// ```
/// use std::time::Duration;
///
/// use nape::{Head, layers::CircuitBreaker};
///
/// # let (head, _neck) = Head::in_process()?;
/// let disk = head.api("disk").layer(CircuitBreaker::new(5, Duration::from_secs(10)));
/// # Ok::<(), nape::Error>(())
/// ```
pub struct CircuitBreaker {
    failures: u32,
    rest: Duration,
    counts: Counts,
    state: Arc<Mutex<State>>,
}

type Counts = Arc<dyn Fn(&CallError) -> bool + Send + Sync>;

#[derive(Debug, Default)]
struct State {
    /// How many have failed since the last success.
    failed: u32,
    circuit: Circuit,
    /// One is trying.
    trying: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Circuit {
    #[default]
    Closed,
    /// Until then calls are refused; then one tries.
    OpenUntil(Instant),
    OpenForGood,
}

impl Circuit {
    fn open_for(rest: Duration) -> Circuit {
        Instant::now().checked_add(rest).map_or(Circuit::OpenForGood, Circuit::OpenUntil)
    }
}

/// What a call may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pass {
    Freely,
    ToTry,
    Refused,
}

impl CircuitBreaker {
    /// After `failures` in a row, 1 at least, nothing passes for `rest`.
    ///
    /// What counts as one: a timeout, a closed link, no answer, a handler that panicked, and a refusal as busy, shutting
    /// down or expired. What a handler returns as its error is an answer, and a success.
    pub fn new(failures: u32, rest: Duration) -> CircuitBreaker {
        let (failures, state) = (failures.max(1), Arc::default());
        CircuitBreaker { failures, rest, counts: Arc::new(is_failure), state }
    }

    /// Which ends count as failures, in the place of the default. It must not block.
    pub fn counting(mut self, counts: impl Fn(&CallError) -> bool + Send + Sync + 'static) -> CircuitBreaker {
        self.counts = Arc::new(counts);
        self
    }
}

fn is_failure(error: &CallError) -> bool {
    match error {
        CallError::TimedOut { .. } | CallError::Closed { .. } | CallError::NoAnswer => true,
        CallError::Poisonous { .. } => true,
        CallError::Rejected(why) => {
            matches!(why, Rejection::Busy { .. } | Rejection::ShuttingDown | Rejection::Expired)
        }
        CallError::Fault(fault) => fault.kind() == FaultKind::Panicked,
        _ => false,
    }
}

impl State {
    fn ask(&mut self, now: Instant, may_try: bool) -> Pass {
        match self.circuit {
            Circuit::Closed => Pass::Freely,
            Circuit::OpenUntil(until) if until <= now && !self.trying => {
                self.trying = may_try;
                if may_try { Pass::ToTry } else { Pass::Freely }
            }
            Circuit::OpenUntil(_) | Circuit::OpenForGood => Pass::Refused,
        }
    }

    /// A call has ended; `failed` is `None` if that says nothing.
    fn note(&mut self, pass: Pass, failed: Option<bool>, limit: u32, open: Circuit) {
        if pass == Pass::ToTry {
            self.trying = false;
        } else if self.circuit != Circuit::Closed {
            // It set out before, and the one that tries decides.
            return;
        }
        match failed {
            Some(false) => *self = State::default(),
            Some(true) => {
                self.failed = self.failed.saturating_add(1);
                if self.failed >= limit {
                    self.circuit = open;
                }
            }
            None => {}
        }
    }
}

impl Layer for CircuitBreaker {
    fn enter(&self, call: &mut LayerCall<'_>) -> Result<Leave, CallError> {
        let may_try = !call.is_event() && !call.is_stream();
        let pass = self.state.lock().ask(Instant::now(), may_try);
        if pass == Pass::Refused {
            return Err(busy(call.path(), "the circuit is open".into()));
        }
        if call.is_event() {
            return Ok(Leave::nothing());
        }
        let (state, counts) = (self.state.clone(), self.counts.clone());
        let (limit, rest) = (self.failures, self.rest);
        Ok(Leave::with(move |outcome| {
            let mut guard = Guard { state, pass, failed: None, limit, rest };
            guard.failed = match outcome {
                Ok(_) => Some(false),
                Err(CallError::Cancelled) => None,
                Err(error) => Some(counts(error)),
            };
        }))
    }
}

/// Notes the end, even if the user's function panics.
struct Guard {
    state: Arc<Mutex<State>>,
    pass: Pass,
    failed: Option<bool>,
    limit: u32,
    rest: Duration,
}

impl Drop for Guard {
    fn drop(&mut self) {
        let open = Circuit::open_for(self.rest);
        self.state.lock().note(self.pass, self.failed, self.limit, open);
    }
}

impl fmt::Debug for CircuitBreaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CircuitBreaker").field("state", &self.state.lock()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_after_so_many_in_a_row_and_one_call_decides_when_it_closes() {
        let (mut state, start, rest) = (State::default(), Instant::now(), Duration::from_secs(1));
        let open = |at| Circuit::OpenUntil(at + rest);
        let ask = |state: &mut State, at| state.ask(at, true);
        let fails = Some(true);
        state.note(Pass::Freely, fails, 2, open(start));
        state.note(Pass::Freely, Some(false), 2, open(start));
        state.note(Pass::Freely, fails, 2, open(start));
        assert_eq!(ask(&mut state, start), Pass::Freely, "not in a row");
        state.note(Pass::Freely, fails, 2, open(start));
        assert_eq!(ask(&mut state, start), Pass::Refused);
        state.note(Pass::Freely, Some(false), 2, open(start));
        assert_eq!(ask(&mut state, start), Pass::Refused, "what set out before does not decide");

        let later = start + rest;
        assert_eq!(state.ask(start, false), Pass::Refused);
        assert_eq!(state.ask(later, false), Pass::Freely, "an event does not try");
        assert_eq!((ask(&mut state, later), ask(&mut state, later)), (Pass::ToTry, Pass::Refused));
        assert_eq!(state.ask(later, false), Pass::Refused, "one tries");
        state.note(Pass::ToTry, None, 2, open(start));
        assert_eq!(ask(&mut state, later), Pass::ToTry, "one that was cancelled says nothing");
        state.note(Pass::ToTry, fails, 2, open(later));
        assert_eq!((ask(&mut state, later), ask(&mut state, later + rest)), (Pass::Refused, Pass::ToTry));
        state.note(Pass::ToTry, Some(false), 2, open(start));
        assert_eq!((ask(&mut state, later), ask(&mut state, later)), (Pass::Freely, Pass::Freely));

        state.note(Pass::Freely, fails, 1, Circuit::open_for(Duration::MAX));
        assert_eq!(ask(&mut state, later + rest), Pass::Refused, "for good");
    }
}
