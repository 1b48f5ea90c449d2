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
/// Events only pass or are refused; nobody knows what becomes of them.
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
    /// Until when calls are refused; then one tries.
    open_until: Option<Instant>,
    /// One is trying.
    trying: bool,
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
    fn ask(&mut self, now: Instant) -> Pass {
        match self.open_until {
            None => Pass::Freely,
            Some(until) if until <= now && !self.trying => {
                self.trying = true;
                Pass::ToTry
            }
            Some(_) => Pass::Refused,
        }
    }

    /// A call has ended; `failed` is `None` if that says nothing.
    fn note(&mut self, pass: Pass, failed: Option<bool>, limit: u32, open_until: Option<Instant>) {
        if pass == Pass::ToTry {
            self.trying = false;
        } else if self.open_until.is_some() {
            // It set out before, and the one that tries decides.
            return;
        }
        match failed {
            Some(false) => *self = State::default(),
            Some(true) => {
                self.failed = self.failed.saturating_add(1);
                if self.failed >= limit {
                    self.open_until = open_until;
                }
            }
            None => {}
        }
    }
}

impl Layer for CircuitBreaker {
    fn enter(&self, call: &mut LayerCall<'_>) -> Result<Leave, CallError> {
        if call.is_event() {
            let state = self.state.lock();
            return match state.open_until {
                Some(until) if state.trying || Instant::now() < until => {
                    Err(busy(call.path(), "the circuit is open".into()))
                }
                _ => Ok(Leave::nothing()),
            };
        }
        let pass = self.state.lock().ask(Instant::now());
        if pass == Pass::Refused {
            return Err(busy(call.path(), "the circuit is open".into()));
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
        let open_until = Instant::now().checked_add(self.rest);
        self.state.lock().note(self.pass, self.failed, self.limit, open_until);
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
        let open_until = Some(start + rest);
        let fails = Some(true);
        state.note(Pass::Freely, fails, 2, open_until);
        state.note(Pass::Freely, Some(false), 2, open_until);
        state.note(Pass::Freely, fails, 2, open_until);
        assert_eq!(state.ask(start), Pass::Freely, "not in a row");
        state.note(Pass::Freely, fails, 2, open_until);
        assert_eq!(state.ask(start), Pass::Refused);
        state.note(Pass::Freely, Some(false), 2, open_until);
        assert_eq!(state.ask(start), Pass::Refused, "what set out before does not decide");

        let later = start + rest;
        assert_eq!((state.ask(later), state.ask(later)), (Pass::ToTry, Pass::Refused));
        state.note(Pass::ToTry, None, 2, None);
        assert_eq!(state.ask(later), Pass::ToTry, "one that was cancelled says nothing");
        state.note(Pass::ToTry, fails, 2, Some(later + rest));
        assert_eq!((state.ask(later), state.ask(later + rest)), (Pass::Refused, Pass::ToTry));
        state.note(Pass::ToTry, Some(false), 2, None);
        assert_eq!((state.ask(later), state.ask(later)), (Pass::Freely, Pass::Freely));
    }
}
