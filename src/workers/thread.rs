//! A thread that is waited for, and not for ever: it runs code of the user now and then.

use std::{
    cell::Cell,
    io,
    thread::{Builder, JoinHandle},
    time::{Duration, Instant},
};

use crate::{
    os::join_until,
    sync::{Arc, Condvar, Mutex, thread_to_be_had},
};

/// How long threads are waited for, all together, that may be in code of the user's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Until(Option<Instant>);

impl Until {
    /// So long from now on. What is too long to be counted has no end.
    pub(crate) fn after(limit: Duration) -> Until {
        Until(Instant::now().checked_add(limit))
    }

    /// The same, but no sooner than in so long from now on.
    pub(crate) fn at_least(self, limit: Duration) -> Until {
        Until(self.0.and_then(|at| Some(at.max(Instant::now().checked_add(limit)?))))
    }

    pub(crate) fn left(self) -> Duration {
        self.0.map_or(Duration::MAX, |at| at.saturating_duration_since(Instant::now()))
    }
}

#[derive(Debug)]
pub(crate) struct Thread {
    handle: JoinHandle<()>,
    end: Arc<End>,
}

#[derive(Debug, Default)]
struct End {
    has_come: Mutex<bool>,
    news: Condvar,
}

/// Is run when it is dropped.
struct Last(Option<Box<dyn FnOnce()>>);

thread_local! {
    static LAST: Cell<Last> = const { Cell::new(Last(None)) };
}

/// Has this run at the end of the calling thread, when nothing of the user's is left to run or to drop there.
///
/// Thread locals go in reverse of the order in which they came, and user code may leave some that take their time
/// to go. So it is to be said before any of that runs.
pub(super) fn at_the_end(run: impl FnOnce() + 'static) {
    LAST.set(Last(Some(Box::new(run))));
}

impl Thread {
    /// Starts it. What a thread that cannot be started was to run is dropped.
    pub(crate) fn start(name: String, run: impl FnOnce() + Send + 'static) -> io::Result<Thread> {
        thread_to_be_had(&name)?;
        let end = Arc::<End>::default();
        let theirs = end.clone();
        let run = move || {
            at_the_end(move || theirs.come());
            run();
        };
        let handle = Builder::new().name(name).spawn(run)?;
        Ok(Thread { handle, end })
    }

    /// Whether nothing of the user's is left to run or to drop there.
    pub(crate) fn is_over(&self) -> bool {
        *self.end.has_come.lock()
    }

    /// Waits until it is over, for at most `limit`; not on the thread itself. Says whether it is: else it is left to
    /// itself.
    #[must_use = "who is left behind is counted"]
    pub(crate) fn join(self, limit: Duration) -> bool {
        if self.handle.thread().id() == std::thread::current().id() {
            return true;
        }
        let deadline = Instant::now().checked_add(limit);
        let mut has_come = self.end.has_come.lock();
        while !*has_come {
            match deadline {
                Some(at) if self.end.news.wait_until(&mut has_come, at).timed_out() => break,
                Some(_) => {}
                None => self.end.news.wait(&mut has_come),
            }
        }
        let is_over = *has_come;
        drop(has_come);
        is_over && join_until(self.handle, at_least(deadline))
    }
}

impl End {
    fn come(&self) {
        *self.has_come.lock() = true;
        self.news.notify_all();
    }
}

impl Drop for Last {
    fn drop(&mut self) {
        self.0.take().into_iter().for_each(|run| run());
    }
}

/// Until when a thread is waited for of which nothing is left but its last lines, and what C may run behind them: the
/// destructors of its own thread locals.
pub(super) fn at_least(deadline: Option<Instant>) -> Instant {
    let soonest = Instant::now() + LAST_LINES;
    deadline.map_or(soonest + FOR_EVER, |at| at.max(soonest))
}

const FOR_EVER: Duration = Duration::from_secs(1 << 30);
/// What a thread that is in no code of the user's has left to do at the end.
pub(crate) const LAST_LINES: Duration = Duration::from_millis(100);
