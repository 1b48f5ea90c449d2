//! Looks now and then for handlers and callers that take too long, and reports each once.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use super::{Context, Progress, Report, RunningHandler, WaitingCaller, endpoint::Inner};
use crate::{
    logging::say,
    os::{thread_id, thread_name},
    sync::{Arc, Condvar, Mutex, Weak, fail_here},
    wire::{Path, TransactionId},
    workers::Thread,
};

/// There if the user wants to hear of what takes longer than `limit`.
#[derive(Debug)]
pub(crate) struct Watchdog {
    limit: Duration,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    running: Vec<Running>,
    /// How many handlers have begun.
    begun: u64,
    stopping: bool,
    thread: Option<Thread>,
}

/// A handler that runs.
#[derive(Debug)]
struct Running {
    number: u64,
    path: Path,
    is_event: bool,
    since: Instant,
    thread: u32,
    reported: bool,
}

/// Ends with the handler.
pub(crate) struct Watched<'a> {
    watchdog: &'a Watchdog,
    number: u64,
}

impl Watchdog {
    pub(crate) fn new(limit: Duration) -> Watchdog {
        Watchdog { limit, state: Mutex::default(), changed: Condvar::new() }
    }

    /// The calling thread begins to run a handler.
    pub(crate) fn enter(&self, context: &Context) -> Watched<'_> {
        let mut state = self.state.lock();
        state.begun += 1;
        let number = state.begun;
        let (path, is_event) = (context.path().clone(), context.is_event());
        let (since, thread) = (Instant::now(), thread_id());
        state.running.push(Running { number, path, is_event, since, thread, reported: false });
        Watched { watchdog: self, number }
    }

    /// The events whose handlers run.
    pub(crate) fn events(&self, now: Instant) -> Vec<RunningHandler> {
        let state = self.state.lock();
        let event = |running: &Running| RunningHandler {
            transaction: None,
            path: running.path.clone(),
            age: now.saturating_duration_since(running.since),
            progress: Progress::Running(thread_name(running.thread)),
            given_up: false,
        };
        state.running.iter().filter(|running| running.is_event).map(event).collect()
    }

    /// Starts the thread that looks, once.
    pub(crate) fn start(self: &Arc<Watchdog>, endpoint: &Weak<Inner>, name: &str) {
        let mut state = self.state.lock();
        if state.thread.is_some() || state.stopping {
            return;
        }
        let (watchdog, endpoint) = (self.clone(), endpoint.clone());
        let started = Thread::start(format!("{name}-watchdog"), move || watchdog.run(&endpoint));
        let failed = started.map(|thread| state.thread = Some(thread)).err();
        drop(state);
        if let Some(error) = failed {
            say!(Warn, "no thread for the watchdog: {error}");
        }
    }

    /// Ends the thread, when it comes back from what it tells.
    pub(crate) fn stop(&self) {
        self.state.lock().stopping = true;
        self.changed.notify_all();
    }

    /// Waits for the thread, which was told to end, for at most `limit`: it may be in a logger, or in the error hook.
    /// Says whether it is not left behind.
    #[must_use]
    pub(crate) fn join(&self, limit: Duration) -> bool {
        let thread = self.state.lock().thread.take();
        thread.is_none_or(|thread| thread.join(limit))
    }

    fn run(&self, endpoint: &Weak<Inner>) {
        let mut told = HashSet::new();
        while self.sleep() {
            let Some(endpoint) = endpoint.upgrade() else { return };
            self.look(&endpoint, &mut told);
        }
    }

    /// Says whether there is to be another look.
    fn sleep(&self) -> bool {
        let next = Instant::now().checked_add(self.limit / 4);
        let mut state = self.state.lock();
        while !state.stopping {
            match next {
                Some(at) if self.changed.wait_until(&mut state, at).timed_out() => break,
                Some(_) => {}
                None => self.changed.wait(&mut state),
            }
        }
        !state.stopping
    }

    fn look(&self, endpoint: &Arc<Inner>, told: &mut HashSet<(u64, Option<TransactionId>)>) {
        fail_here("a watchdog that looks");
        let now = Instant::now();
        let mut reports = self.slow_handlers(now);
        let seen = endpoint.hang_report(now);
        let key = |id| (seen.generation, id);
        // Those without a name wait for a supervised program, of which the supervisor tells, or for another try.
        let is_slow = |caller: &&WaitingCaller| {
            caller.transaction.is_some() && caller.age >= self.limit && !caller.is_stream
        };
        let slow = seen.callers.iter().filter(is_slow);
        let slow: Vec<_> = slow.collect();
        told.retain(|old| slow.iter().any(|caller| key(caller.transaction) == *old));
        for caller in slow {
            if told.insert(key(caller.transaction)) {
                let (path, age, thread) = (caller.path.clone(), caller.age, caller.thread.clone());
                reports.push(Report::SlowCall { path, age, thread });
            }
        }
        reports.into_iter().for_each(|report| endpoint.report_anywhere(report));
    }

    fn slow_handlers(&self, now: Instant) -> Vec<Report> {
        let mut state = self.state.lock();
        let mut slow = Vec::new();
        for running in state.running.iter_mut().filter(|running| !running.reported) {
            let age = now.saturating_duration_since(running.since);
            if age >= self.limit {
                running.reported = true;
                slow.push((running.path.clone(), age, running.thread));
            }
        }
        drop(state);
        let report = |(path, age, thread)| Report::SlowHandler { path, age, thread: thread_name(thread) };
        slow.into_iter().map(report).collect()
    }
}

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        let mut state = self.watchdog.state.lock();
        let at = state.running.iter().position(|running| running.number == self.number);
        let ended = at.map(|at| state.running.swap_remove(at));
        drop(state);
        drop(ended);
    }
}
