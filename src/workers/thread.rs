//! A thread that is waited for, and not for ever: it runs code of the user now and then.

use std::{
    io,
    thread::{Builder, JoinHandle},
    time::{Duration, Instant},
};

use crate::sync::{Arc, Condvar, Mutex, thread_to_be_had};

/// How long threads are waited for, all together, that may be in code of the user's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Until(Option<Instant>);

impl Until {
    /// So long from now on. What is too long to be counted has no end.
    pub(crate) fn after(limit: Duration) -> Until {
        Until(Instant::now().checked_add(limit))
    }

    pub(crate) fn deadline(self) -> Option<Instant> {
        self.0
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

/// Says that the thread is over when it has nothing of the user's left to run or to drop.
struct Ending(Arc<End>);

impl Thread {
    /// Starts it. What a thread that cannot be started was to run is dropped.
    pub(crate) fn start(name: String, run: impl FnOnce() + Send + 'static) -> io::Result<Thread> {
        thread_to_be_had(&name)?;
        let end = Arc::<End>::default();
        let ending = Ending(end.clone());
        let run = move || {
            let _ending = ending;
            run();
        };
        let handle = Builder::new().name(name).spawn(run)?;
        Ok(Thread { handle, end })
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
        if is_over {
            let _ = self.handle.join();
        }
        is_over
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        *self.0.has_come.lock() = true;
        self.0.news.notify_all();
    }
}
