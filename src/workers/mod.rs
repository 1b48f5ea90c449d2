//! A crew of named threads that grows with the work and shrinks when there is none.
//!
//! It bounds nothing: how much may run at once is the business of whoever submits. It contains the
//! panics of what it runs. What a thread does when there is no job is told to it as [`Idle`].

mod lane;

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    thread::{Builder, JoinHandle, ThreadId},
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

pub(crate) use lane::{Admission, Lane};

use crate::sync::{Arc, AtomicUsize, Condvar, Mutex, Ordering};

/// Something to run once.
pub(crate) type Job = Box<dyn FnOnce() + Send>;

/// What the threads of a crew do besides jobs.
pub(crate) trait Idle: Send + Sync + 'static {
    /// Called by a thread that has no job; it may do something useful for as long as it likes. Says
    /// for how long it then waits for a job before it is called again; `None` means the usual time,
    /// after which the thread ends. `again`: the thread has just waited the time that was said.
    fn idle(&self, again: bool) -> Option<Duration>;

    /// A thread was given a job while it waited for a time that was said.
    fn interrupted(&self);
}

/// Named threads for one link.
pub(crate) struct Crew {
    shared: Arc<Shared>,
    jobs: Sender<Job>,
}

struct Shared {
    name: String,
    idle: Box<dyn Idle>,
    inbox: Receiver<Job>,
    /// How many threads wait for a job and have none coming. Whoever submits takes one off; a thread
    /// that stops to wait takes itself off, and if it cannot, a job is on its way to it.
    waiting: AtomicUsize,
    threads: Mutex<Threads>,
    changed: Condvar,
}

#[derive(Default)]
struct Threads {
    handles: Vec<JoinHandle<()>>,
    finished: Vec<ThreadId>,
    alive: usize,
    started: usize,
    stopping: bool,
}

impl Crew {
    pub(crate) fn new(name: String, idle: impl Idle) -> Crew {
        // The submitters bound it: there is one job for each waiting thread at the most.
        let (jobs, inbox) = crossbeam_channel::unbounded();
        let shared = Shared {
            name,
            idle: Box::new(idle),
            inbox,
            waiting: AtomicUsize::new(0),
            threads: Mutex::default(),
            changed: Condvar::new(),
        };
        Crew { shared: Arc::new(shared), jobs }
    }

    /// Has `job` run by a thread that waits, or by a new one. Does not block.
    ///
    /// # Errors
    ///
    /// The job comes back when no thread can be had for it.
    pub(crate) fn submit(&self, job: Job) -> Result<(), (io::Error, Job)> {
        if take_one(&self.shared.waiting) {
            let _ = self.jobs.send(job);
            return Ok(());
        }
        // What a thread that cannot be started was to run is dropped with it, hence the cell.
        let cell = Arc::new(Mutex::new(Some(job)));
        self.spawn(cell.clone()).or_else(|error| cell.lock().take().map_or(Ok(()), |job| Err((error, job))))
    }

    fn spawn(&self, first: Arc<Mutex<Option<Job>>>) -> io::Result<()> {
        let mut threads = self.shared.threads.lock();
        let finished = std::mem::take(&mut threads.finished);
        threads.handles.retain(|handle| !finished.contains(&handle.thread().id()));
        threads.started += 1;
        let name = format!("{}-{}", self.shared.name, threads.started);
        let shared = self.shared.clone();
        let handle = Builder::new().name(name).spawn(move || shared.run(&first))?;
        threads.alive += 1;
        threads.handles.push(handle);
        Ok(())
    }

    /// Makes threads end when they find nothing to do, and wakes those that wait.
    pub(crate) fn stop(&self) {
        self.shared.threads.lock().stopping = true;
        while take_one(&self.shared.waiting) {
            let _ = self.jobs.send(Box::new(|| ()));
        }
    }

    /// Waits until all threads but the calling one have ended, for at most `limit`. Says how many are
    /// left; these are left to themselves.
    pub(crate) fn join(&self, limit: Duration) -> usize {
        let deadline = Instant::now().checked_add(limit);
        let me = std::thread::current().id();
        let mut threads = self.shared.threads.lock();
        let own = usize::from(threads.handles.iter().any(|handle| handle.thread().id() == me));
        while threads.alive > own {
            let late = match deadline {
                Some(at) => self.shared.changed.wait_until(&mut threads, at).timed_out(),
                None => {
                    self.shared.changed.wait(&mut threads);
                    false
                }
            };
            if late {
                break;
            }
        }
        let (finished, left) = (std::mem::take(&mut threads.finished), threads.alive - own);
        let handles = std::mem::take(&mut threads.handles);
        drop(threads);
        // These have run their last line, so that joining them does not wait for user code.
        for handle in handles.into_iter().filter(|handle| finished.contains(&handle.thread().id())) {
            let _ = handle.join();
        }
        left
    }

    /// How many threads there are.
    pub(crate) fn n_threads(&self) -> usize {
        self.shared.threads.lock().alive
    }
}

impl Shared {
    fn run(self: Arc<Shared>, first: &Mutex<Option<Job>>) {
        let first = first.lock().take();
        first.into_iter().for_each(contain);
        while let Some(job) = self.next_job() {
            contain(job);
        }
        let mut threads = self.threads.lock();
        threads.alive -= 1;
        threads.finished.push(std::thread::current().id());
        drop(threads);
        self.changed.notify_all();
    }

    fn next_job(&self) -> Option<Job> {
        let mut again = false;
        loop {
            let wait = self.idle.idle(again);
            self.waiting.fetch_add(1, Ordering::AcqRel);
            // `stop` sends to those it finds waiting; whoever comes to wait later looks here.
            if self.threads.lock().stopping && take_one(&self.waiting) {
                return None;
            }
            let job = match self.inbox.recv_timeout(wait.unwrap_or(KEEP_ALIVE)) {
                Ok(job) => Some(job),
                Err(RecvTimeoutError::Timeout) if take_one(&self.waiting) => None,
                // Somebody has counted on this thread: its job is on the way.
                Err(_) => Some(self.inbox.recv().ok()?),
            };
            match job {
                Some(job) => {
                    if wait.is_some() {
                        self.idle.interrupted();
                    }
                    return Some(job);
                }
                None if wait.is_none() => return None,
                None => again = true,
            }
        }
    }
}

/// Takes one off, unless there is none.
fn take_one(count: &AtomicUsize) -> bool {
    count.fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| n.checked_sub(1)).is_ok()
}

/// Runs a job whose panic hurts nobody else.
pub(crate) fn contain(job: impl FnOnce()) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(job)) {
        forget_panic(panic);
    }
}

/// Drops something of the user's; should that panic, it hurts nobody else.
pub(crate) fn discard<T>(value: T) {
    contain(move || drop(value));
}

/// Drops what a panic carried; should that panic too, it is forgotten.
pub(crate) fn forget_panic(panic: Box<dyn std::any::Any + Send>) {
    if let Err(worse) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
        std::mem::forget(worse);
    }
}

/// The text of a panic, if it has one.
pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(|s| &**s));
    text.unwrap_or("(no text)").to_owned()
}

/// How long a thread waits for a job before it ends.
const KEEP_ALIVE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests;
