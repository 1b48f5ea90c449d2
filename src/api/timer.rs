//! Calls and events that are made again and again, at a steady pace.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, Instant},
};

use serde::{Serialize, de::DeserializeOwned};

use super::{Action, ApiHandle, endpoint::Inner};
use crate::{
    config::Timeout,
    counters::Tally,
    error::{CallError, Misuse},
    os::Origin,
    sync::{Arc, AtomicBool, Condvar, Mutex, Ordering, Weak, hold_nothing},
    workers::{Thread, forget_panic},
};

/// What is to be called again and again: made by [`ApiHandle::every`]. One of its verbs starts it.
#[must_use = "nothing is called before a verb starts it"]
#[derive(Debug)]
pub struct Every<A> {
    handle: ApiHandle,
    path: String,
    arguments: A,
    period: Duration,
    timeout: Option<Timeout>,
    overlapping: bool,
}

/// Calls again and again until it is dropped, or the link is over. See [`ApiHandle::every`].
#[must_use = "it stops when it is dropped: `leave` lets it run as long as the link"]
pub struct Timer {
    ticking: Arc<Ticking>,
    /// How long it is waited for.
    grace: Duration,
    origin: Origin,
    stops: bool,
}

/// What a timer and its thread share.
#[derive(Debug, Default)]
pub(crate) struct Ticking {
    state: Mutex<State>,
    changed: Condvar,
    /// A call of it is under way.
    busy: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    stopping: bool,
    thread: Option<Kept>,
    issued: u64,
    missed: u64,
}

/// The thread of a timer, and where it is counted when it is left behind.
#[derive(Debug)]
struct Kept {
    thread: Thread,
    tally: Arc<Tally>,
    config: String,
}

/// What became of a tick.
enum Tick {
    Issued,
    /// The call before is still under way.
    Skipped,
}

impl ApiHandle {
    /// Calls `path` below this with a clone of `arguments` in every `period`, for the first time after one.
    ///
    /// It keeps its pace: however long each call takes, the ticks are whole periods after the start. A tick at which
    /// the call before is still under way is left out, and so is one that came too late to be one (the machine slept,
    /// the process was stopped): none is made up for. The period is at least 1 ms. What is called is not the next
    /// thing to be done at the other side: it waits there for a worker like any call.
    ///
    /// A timer has a thread of its own, which sleeps between the ticks. It ends with the link, or with the
    /// [`Supervisor`](crate::Supervisor), over whose restarts it goes on.
    ///
    /// ```
    /// use std::{sync::mpsc, time::Duration};
    ///
    /// use nape::{Api, CallError, Context, Fault, Head};
    ///
    /// let (head, neck) = Head::in_process()?;
    /// let sweep = |_: &Context, most: u32| Ok::<_, Fault>(most / 2);
    /// let _neck = neck.serve(Api::new("cache").handle("sweep", sweep)?)?.start();
    ///
    /// let (sender, outcomes) = mpsc::channel();
    /// let timer = head.api("cache").every(Duration::from_millis(5), "sweep", 10u32);
    /// let timer = timer.then(move |outcome: Result<u32, CallError>| drop(sender.send(outcome)))?;
    /// assert_eq!(outcomes.recv().expect("it goes on")?, 5);
    /// assert_eq!(outcomes.recv().expect("and on")?, 5);
    /// drop(timer);
    /// # Ok::<(), nape::Error>(())
    /// ```
    pub fn every<A>(&self, period: Duration, path: &str, arguments: A) -> Every<A> {
        let period = period.max(SHORTEST);
        let (handle, path) = (self.clone(), path.to_owned());
        Every { handle, path, arguments, period, timeout: None, overlapping: false }
    }
}

impl<A> Every<A> {
    /// Calls at each tick, even while the call before is under way: as many may be at once as its
    /// [timeout](Every::timeout) has periods.
    pub fn overlapping(mut self) -> Every<A> {
        self.overlapping = true;
        self
    }

    /// How long each call may take; that of the handle, unless told otherwise. It may be longer than the period.
    pub fn timeout(mut self, timeout: impl Into<Timeout>) -> Every<A> {
        self.timeout = Some(timeout.into());
        self
    }
}

impl<A: Serialize + Clone + Send + 'static> Every<A> {
    /// Starts to call, and hands the outcome of each call to `callback`, on a thread of the link: as
    /// [`Action::then`] does. One that could not be sent is told as well, on the thread of the timer.
    ///
    /// # Errors
    ///
    /// [`Misuse`] when nothing can have such a path, or when there is no thread to be had.
    pub fn then<T, F>(self, callback: F) -> Result<Timer, CallError>
    where
        T: DeserializeOwned + Send + 'static,
        F: Fn(Result<T, CallError>) + Send + Sync + 'static,
    {
        let (callback, overlapping, ticking) =
            (Arc::new(callback), self.overlapping, Arc::<Ticking>::default());
        let theirs = ticking.clone();
        self.start(ticking, move |action| {
            if !overlapping && theirs.busy.swap(true, Ordering::AcqRel) {
                return Tick::Skipped;
            }
            theirs.state.lock().issued += 1;
            let (busy, told) = (Busy(theirs.clone()), callback.clone());
            let sent = action.then(move |outcome| {
                // The next call may be made when this one has ended, and not when somebody has thought about it.
                drop(busy);
                told(outcome);
            });
            if let Err(error) = sent {
                callback(Err(error));
            }
            Tick::Issued
        })
    }

    /// Starts to send events, which nobody answers. An event that cannot be sent is counted
    /// ([`Counters::events_unsent`](crate::Counters::events_unsent)), and the next one is tried at the next tick.
    ///
    /// # Errors
    ///
    /// As for [`Every::then`].
    pub fn fire(self) -> Result<Timer, CallError> {
        let ticking = Arc::<Ticking>::default();
        let theirs = ticking.clone();
        self.start(ticking, move |action| {
            theirs.state.lock().issued += 1;
            let _ = action.fire();
            Tick::Issued
        })
    }

    fn start(
        self,
        ticking: Arc<Ticking>,
        issue: impl Fn(Action<A>) -> Tick + Send + 'static,
    ) -> Result<Timer, CallError> {
        self.handle.full_path(&self.path).map_err(Misuse::BadPath)?;
        let (endpoint, theirs) = (self.handle.endpoint.clone(), ticking.clone());
        let first = Instant::now().checked_add(self.period);
        let tick = move || {
            let action = self.handle.action(&self.path, self.arguments.clone());
            issue(self.timeout.into_iter().fold(action, Action::timeout))
        };
        let (config, period) = (endpoint.config.name.clone(), self.period);
        // Without the lock: what a thread that cannot be started was to call goes with it, and is the user's.
        let started = Thread::start(format!("{config}-timer"), move || theirs.run(first, period, tick));
        let no_thread = |error: std::io::Error| Misuse::NoThread { detail: error.to_string().into() };
        let thread = started.map_err(no_thread)?;
        ticking.state.lock().thread = Some(Kept { thread, tally: endpoint.tally.clone(), config });
        endpoint.keep_timer(&ticking);
        Ok(Timer { ticking, grace: endpoint.config.grace, origin: Origin::here(), stops: true })
    }
}

impl Timer {
    /// Lets it run as long as the link does, without this handle.
    pub fn leave(mut self) {
        self.stops = false;
    }

    /// Calls no more. Does not wait for a call that is under way, which goes on; for a callback that is told of a call
    /// which could not be sent, for the [grace](crate::Config::grace) at most. The same as dropping it.
    pub fn stop(self) {}

    /// How many calls or events were issued so far.
    pub fn n_issued(&self) -> u64 {
        self.ticking.state.lock().issued
    }

    /// How many ticks were left out so far: because the call before was under way, or because they were over.
    pub fn n_missed(&self) -> u64 {
        self.ticking.state.lock().missed
    }

    /// Whether it calls no more, because the link is over.
    pub fn is_over(&self) -> bool {
        self.ticking.state.lock().stopping
    }
}

impl Ticking {
    fn run(&self, first: Option<Instant>, period: Duration, tick: impl Fn() -> Tick) {
        let mut next = first;
        while let Some(due) = self.sleep(next) {
            // What is cloned, encoded and told is the user's.
            hold_nothing();
            let outcome = catch_unwind(AssertUnwindSafe(&tick)).map_err(forget_panic);
            let (after, missed) = following(due, period, Instant::now());
            let mut state = self.state.lock();
            state.missed += missed + u64::from(matches!(outcome, Ok(Tick::Skipped)));
            next = after;
        }
        // What the tick holds may panic as well when it goes.
        crate::workers::discard(tick);
    }

    /// Sleeps until then; `None` when it is to end.
    fn sleep(&self, until: Option<Instant>) -> Option<Instant> {
        let mut state = self.state.lock();
        while !state.stopping {
            match until {
                Some(at) if self.changed.wait_until(&mut state, at).timed_out() => break,
                Some(_) => {}
                None => self.changed.wait(&mut state),
            }
        }
        until.filter(|_| !state.stopping)
    }

    /// Has the thread end. Does not block for longer than it takes to count.
    pub(super) fn end(&self) {
        self.state.lock().stopping = true;
        self.changed.notify_all();
    }

    /// Waits for the thread, for at most `limit`, unless it is the calling one.
    pub(super) fn join(&self, limit: Duration) {
        let kept = self.state.lock().thread.take();
        if let Some(Kept { thread, tally, config }) = kept
            && !thread.join(limit)
        {
            tally.leave_behind(1, &config, "timer");
        }
    }
}

impl Inner {
    /// There is no link any more.
    pub(super) fn end_timers(&self) {
        self.timers.lock().iter().filter_map(Weak::upgrade).for_each(|timer| timer.end());
    }

    /// The timer ends with the link, or at once if that is over.
    fn keep_timer(&self, ticking: &Arc<Ticking>) {
        let mut timers = self.timers.lock();
        timers.retain(|timer| timer.strong_count() > 0);
        timers.push(Arc::downgrade(ticking));
        drop(timers);
        // From here on whoever ends the link ends the timer; one who has done so before is seen here.
        if self.is_over() {
            ticking.end();
        }
    }
}

/// The call of a tick is under way as long as this is there.
struct Busy(Arc<Ticking>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.store(false, Ordering::Release);
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        // A fork has no such thread.
        if self.stops && !self.origin.is_elsewhere() {
            self.ticking.end();
            self.ticking.join(self.grace);
        }
    }
}

impl fmt::Debug for Timer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timer")
            .field("n_issued", &self.n_issued())
            .field("n_missed", &self.n_missed())
            .finish()
    }
}

/// The tick after the one that was `due`, and how many are over already.
fn following(due: Instant, period: Duration, now: Instant) -> (Option<Instant>, u64) {
    let late = now.saturating_duration_since(due).as_nanos() / period.as_nanos().max(1);
    let late = u64::try_from(late).unwrap_or(u64::MAX);
    let periods = u32::try_from(late.saturating_add(1)).unwrap_or(u32::MAX);
    (period.checked_mul(periods).and_then(|after| due.checked_add(after)), late)
}

/// More calls than this makes would be better made by a loop.
const SHORTEST: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_whole_periods_apart_and_none_is_made_up_for() {
        let (start, period) = (Instant::now(), Duration::from_millis(10));
        let at = |millis| start + Duration::from_millis(millis);
        for (now, next, missed) in [(0, 10, 0), (9, 10, 0), (10, 20, 1), (11, 20, 1), (95, 100, 9)] {
            assert_eq!(following(start, period, at(now)), (Some(at(next)), missed), "{now}");
        }
        // Two thousand ticks that are each late by something other do not drift.
        let mut due = start;
        for n in 0..2_000 {
            let (next, missed) = following(due, period, due + Duration::from_micros(n * 4));
            (due, _) = (next.unwrap(), assert_eq!(missed, 0));
        }
        assert_eq!(due, at(20_000));
        assert_eq!(following(start, Duration::MAX, start), (None, 0));
        assert_eq!(following(start, Duration::from_nanos(1), at(3_600_000)).1, 3_600_000_000_000);
    }
}
