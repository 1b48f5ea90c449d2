//! A crew of named threads that grows with the work and shrinks when there is none.
//!
//! It bounds nothing: how much may run at once is the business of whoever submits. It contains the
//! panics of what it runs. What a thread does when there is no job is told to it as [`Idle`].

mod lane;

use std::{
    collections::VecDeque,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    thread::{Builder, JoinHandle, ThreadId},
    time::{Duration, Instant},
};

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
}

struct Shared {
    name: String,
    idle: Box<dyn Idle>,
    desk: Mutex<Desk>,
    /// There is a job, or an end.
    news: Condvar,
    /// How many jobs are at the desk, for those who look out for one without the lock.
    queued: AtomicUsize,
    threads: Mutex<Threads>,
    changed: Condvar,
}

/// Where jobs are handed over.
#[derive(Default)]
struct Desk {
    /// No more than there are threads that wait.
    jobs: VecDeque<Job>,
    waiting: usize,
    /// One of the threads that wait does not sleep yet, and finds the next job by itself.
    looking: bool,
    stopping: bool,
}

#[derive(Default)]
struct Threads {
    handles: Vec<JoinHandle<()>>,
    finished: Vec<ThreadId>,
    alive: usize,
    started: usize,
}

impl Crew {
    pub(crate) fn new(name: String, idle: impl Idle) -> Crew {
        let shared = Shared {
            name,
            idle: Box::new(idle),
            desk: Mutex::default(),
            news: Condvar::new(),
            queued: AtomicUsize::new(0),
            threads: Mutex::default(),
            changed: Condvar::new(),
        };
        Crew { shared: Arc::new(shared) }
    }

    /// Has `job` run by a thread that waits, or by a new one. Does not block.
    ///
    /// # Errors
    ///
    /// The job comes back when no thread can be had for it.
    pub(crate) fn submit(&self, job: Job) -> Result<(), (io::Error, Job)> {
        let Err(job) = self.shared.hand_over(job) else { return Ok(()) };
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
        self.shared.desk.lock().stopping = true;
        self.shared.news.notify_all();
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

    /// Gives a job to a thread that waits for one, if there is any left.
    fn hand_over(&self, job: Job) -> Result<(), Job> {
        let mut desk = self.desk.lock();
        if desk.jobs.len() == desk.waiting {
            return Err(job);
        }
        desk.jobs.push_back(job);
        self.queued.store(desk.jobs.len(), Ordering::Relaxed);
        let found = desk.looking && desk.jobs.len() == 1;
        drop(desk);
        if !found {
            self.news.notify_one();
        }
        Ok(())
    }

    fn next_job(&self) -> Option<Job> {
        let mut again = false;
        loop {
            let tick = self.idle.idle(again);
            let job = self.wait(tick);
            if tick.is_none() {
                return job;
            }
            if job.is_some() {
                self.idle.interrupted();
                return job;
            }
            if self.desk.lock().stopping {
                return None;
            }
            again = true;
        }
    }

    /// Waits for a job, for a tick or else for the usual time. None is left over when it gives up.
    fn wait(&self, tick: Option<Duration>) -> Option<Job> {
        let mut desk = self.desk.lock();
        desk.waiting += 1;
        if tick.is_none() && desk.jobs.is_empty() && !desk.looking && !desk.stopping {
            // It has just had a job, and often the next one comes at once. A thread that ticks does not
            // look out: it would take turns on the core with those that call.
            desk.looking = true;
            drop(desk);
            look_out(|| self.queued.load(Ordering::Relaxed) > 0);
            desk = self.desk.lock();
            desk.looking = false;
        }
        let mut deadline = None;
        let mut late = false;
        let job = loop {
            let job = desk.jobs.pop_front();
            if job.is_some() || late || desk.stopping {
                break job;
            }
            let at = *deadline.get_or_insert_with(|| Instant::now() + tick.unwrap_or(KEEP_ALIVE));
            late = self.news.wait_until(&mut desk, at).timed_out();
        };
        desk.waiting -= 1;
        self.queued.store(desk.jobs.len(), Ordering::Relaxed);
        job
    }
}

/// Looks for something that may come within some microseconds; the caller sleeps after that. It waits
/// a little longer each time, as crossbeam's channels do.
pub(crate) fn look_out(seen: impl Fn() -> bool) -> bool {
    for round in 0..LOOKS {
        if seen() {
            return true;
        }
        if round < PAUSES {
            (0..1 << round).for_each(|_| std::hint::spin_loop());
        } else {
            std::thread::yield_now();
        }
    }
    seen()
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

/// How often a thread looks before it sleeps: so many times with a pause, then giving way to others.
const LOOKS: u32 = 11;
const PAUSES: u32 = 7;
/// How long a thread waits for a job before it ends.
const KEEP_ALIVE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests;
