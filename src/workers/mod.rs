//! A crew of named threads that grows with the work and shrinks when there is none.
//!
//! It bounds nothing: how much may run at once is the business of whoever submits. It contains the
//! panics of what it runs. What a thread does when there is no job is told to it as [`Idle`].

mod front;
mod lane;
mod thread;

use std::{
    cell::Cell,
    collections::VecDeque,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    thread::{Builder, JoinHandle, ThreadId},
    time::{Duration, Instant},
};

pub(crate) use lane::{Admission, Lane};
pub(crate) use thread::{LAST_LINES, Thread, Until};

use crate::{
    os::{give_way, join_until},
    sync::{Arc, AtomicBool, AtomicUsize, Condvar, Mutex, Ordering, hold_nothing, thread_to_be_had},
};
use front::Front;
use thread::{at_least, at_the_end};

/// Something to run once.
pub(crate) trait Work: Send {
    /// Runs it on the calling thread, of which `shift` tells.
    fn run(self: Box<Self>, shift: &Shift<'_>);

    /// Asks for a place among the workers, where it would run without one. `None` if it has to wait for that.
    fn take_place(self: Box<Self>) -> Option<Job>;

    /// Whether it takes such a place, where another thread than that which has brought it runs it.
    fn wants_place(&self) -> bool {
        false
    }

    /// Whether somebody else has run it, so that nothing is left to do.
    fn is_over(&self) -> bool {
        false
    }
}

impl<F: FnOnce() + Send + 'static> Work for F {
    fn run(self: Box<F>, _: &Shift<'_>) {
        self();
    }

    fn take_place(self: Box<F>) -> Option<Job> {
        Some(self)
    }
}

/// The usual way to hand it on.
pub(crate) type Job = Box<dyn Work>;

/// What the threads of a crew do besides jobs.
pub(crate) trait Idle: Send + Sync + 'static {
    /// Called by a thread that has no job; it may do something useful for as long as it likes. Says
    /// for how long it then waits for a job before it is called again; `None` means the usual time,
    /// after which the thread ends. `again`: the thread has just waited the time that was said.
    fn idle(&self, again: bool) -> Option<Duration>;

    /// A thread was given a job while it waited for a time that was said.
    fn interrupted(&self);
}

/// Named threads for one link, or one endpoint.
pub(crate) struct Crew {
    shared: Arc<Shared>,
}

struct Shared {
    name: String,
    idle: Option<Box<dyn Idle>>,
    /// Of those that have nothing to do, the one that gets the next job.
    front: Front,
    desk: Mutex<Desk>,
    /// There is a job at the desk, or an end.
    news: Condvar,
    /// How many threads run no job, where there is something else to do. The last of them does not end then: it may be
    /// needed when there is no other to be had. Goes down under the lock of the desk where one ends.
    free: AtomicUsize,
    /// A thread is on its way to see what there is to do besides jobs.
    summoned: AtomicBool,
    threads: Mutex<Threads>,
    changed: Condvar,
}

/// Where jobs are handed over to all but the thread in front.
#[derive(Default)]
struct Desk {
    /// No more than there are threads that wait.
    jobs: VecDeque<Job>,
    waiting: usize,
    stopping: bool,
}

#[derive(Default)]
struct Threads {
    handles: Vec<JoinHandle<()>>,
    finished: Vec<ThreadId>,
    alive: Vec<ThreadId>,
    /// Those of them that were waited for in vain: nobody waits for them again, or counts them once more.
    left_behind: Vec<ThreadId>,
    started: usize,
    /// They were waited for. Nobody waits for one that would come later.
    over: bool,
}

impl Threads {
    /// Those that are still to be waited for by one of them, or by any other thread.
    fn awaited(&self, by: ThreadId) -> Vec<ThreadId> {
        let others = self.alive.iter().filter(|thread| **thread != by);
        others.filter(|thread| !self.left_behind.contains(thread)).copied().collect()
    }
}

/// The thread that runs a job, as the job sees it.
pub(crate) struct Shift<'a> {
    /// `None` for a thread that has something else to do afterwards.
    front: Option<&'a Front>,
    /// The thread is in front.
    in_front: Cell<bool>,
    /// How many jobs it has run.
    jobs: Cell<u32>,
    /// The thread is that of whoever waits for the job.
    here: bool,
}

impl<'a> Shift<'a> {
    fn new(front: Option<&'a Front>) -> Shift<'a> {
        Shift { front, in_front: Cell::new(false), jobs: Cell::new(0), here: false }
    }

    /// The shift of the thread that waits for the job.
    pub(crate) fn here() -> Shift<'static> {
        Shift { here: true, ..Shift::new(None) }
    }

    /// Whether whoever waits for the job is this thread.
    pub(crate) fn is_here(&self) -> bool {
        self.here
    }

    /// The shift of a thread that goes back to what it did before.
    pub(crate) fn elsewhere() -> Shift<'static> {
        Shift::new(None)
    }

    /// A job says that nothing of the user's is left to run or to drop: the next one may be left to this thread,
    /// and to no other.
    ///
    /// Said before a caller is told its result, it spares the next call of that caller another thread.
    pub(crate) fn about_to_end(&self) {
        self.step_in_front();
    }

    fn step_in_front(&self) -> bool {
        let Some(front) = self.front else { return false };
        if !self.in_front.get() {
            self.in_front.set(front.enter());
        }
        self.in_front.get()
    }

    /// Whether this job is one of the few that are timed.
    pub(crate) fn is_sample(&self) -> bool {
        let jobs = self.jobs.get();
        jobs < SAMPLED || jobs.is_multiple_of(SAMPLED)
    }

    /// Runs a job, whose panic hurts nobody else.
    pub(crate) fn run(&self, job: Job) {
        contain(|| job.run(self));
        self.jobs.set(self.jobs.get().wrapping_add(1));
    }
}

impl Crew {
    /// A crew whose threads do something else while there is no job.
    pub(crate) fn with_idle(name: String, idle: impl Idle) -> Crew {
        Crew::assemble(name, Some(Box::new(idle)))
    }

    /// A crew that does nothing but jobs.
    pub(crate) fn new(name: String) -> Crew {
        Crew::assemble(name, None)
    }

    fn assemble(name: String, idle: Option<Box<dyn Idle>>) -> Crew {
        let shared = Shared {
            name,
            idle,
            front: Front::new(),
            desk: Mutex::default(),
            news: Condvar::new(),
            free: AtomicUsize::new(0),
            summoned: AtomicBool::new(false),
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
        self.hand_in(job, true)
    }

    /// The same as long as the crew [is not over](Crew::is_over): for what is to have ended when its threads have.
    ///
    /// # Errors
    ///
    /// The job comes back behind that, too.
    pub(crate) fn submit_in_time(&self, job: Job) -> Result<(), (io::Error, Job)> {
        self.hand_in(job, false)
    }

    fn hand_in(&self, job: Job, late: bool) -> Result<(), (io::Error, Job)> {
        let Err(job) = self.shared.hand_over(job) else { return Ok(()) };
        // What a thread that cannot be started was to run is dropped with it, hence the cell.
        let cell = Arc::new(Mutex::new(Some(job)));
        self.spawn(cell.clone(), late)
            .or_else(|error| cell.lock().take().map_or(Ok(()), |job| Err((error, job))))
    }

    /// Has a thread see what there is to do besides jobs, one that waits or a new one. Does not block.
    ///
    /// Whoever is on its way already will see it, too: on a busy machine it may take its time, and one
    /// thread for each summons would be a crowd.
    pub(crate) fn summon(&self) -> io::Result<()> {
        // SYNC: summoned. Pairs with the swap in the job: who finds it set has made visible what the
        // summoned thread is to see before that one looks.
        if self.shared.summoned.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        let shared = self.shared.clone();
        let arrive = move || {
            shared.summoned.swap(false, Ordering::AcqRel);
        };
        self.submit(Box::new(arrive)).map_err(|(error, _)| {
            self.shared.summoned.store(false, Ordering::Release);
            error
        })
    }

    fn spawn(&self, first: Arc<Mutex<Option<Job>>>, late: bool) -> io::Result<()> {
        thread_to_be_had(&self.shared.name)?;
        let mut threads = self.shared.threads.lock();
        if threads.over && !late {
            return Err(io::Error::other("those for whom it would work have gone"));
        }
        let finished = std::mem::take(&mut threads.finished);
        threads.handles.retain(|handle| !finished.contains(&handle.thread().id()));
        threads.started += 1;
        let name = format!("{}-{}", self.shared.name, threads.started);
        let shared = self.shared.clone();
        let run = move || {
            let (theirs, me) = (shared.clone(), std::thread::current().id());
            at_the_end(move || theirs.take_leave(me));
            shared.run(&first);
        };
        let handle = Builder::new().name(name).spawn(run)?;
        threads.alive.push(handle.thread().id());
        threads.handles.push(handle);
        Ok(())
    }

    /// Makes threads end when they find nothing to do, and wakes those that wait.
    pub(crate) fn stop(&self) {
        self.shared.desk.lock().stopping = true;
        self.shared.news.notify_all();
        // The one in front looks at the mark when it has run this.
        let _ = self.shared.front.hand_over(Box::new(|| ()));
    }

    /// Waits until all threads but the calling one have ended, for at most `limit`. Says how many are
    /// left; these are left to themselves, and not waited for again.
    pub(crate) fn join(&self, limit: Duration) -> usize {
        let deadline = Instant::now().checked_add(limit);
        let me = std::thread::current().id();
        let mut threads = self.shared.threads.lock();
        while !threads.awaited(me).is_empty() {
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
        threads.over = true;
        let (finished, mut left) = (std::mem::take(&mut threads.finished), threads.awaited(me));
        threads.left_behind.extend(&left);
        let handles = std::mem::take(&mut threads.handles);
        drop(threads);
        // These are behind all that Rust has left there, but for what C has.
        let until = at_least(deadline);
        for handle in handles.into_iter().filter(|handle| finished.contains(&handle.thread().id())) {
            let id = handle.thread().id();
            if !join_until(handle, until) {
                left.push(id);
            }
        }
        left.len()
    }

    /// Whether its threads were waited for, so that nobody waits for one that comes later.
    pub(crate) fn is_over(&self) -> bool {
        self.shared.threads.lock().over
    }

    /// How many threads there are.
    pub(crate) fn n_threads(&self) -> usize {
        self.shared.threads.lock().alive.len()
    }
}

impl Shared {
    fn run(self: Arc<Shared>, first: &Mutex<Option<Job>>) {
        // A thread that does something else while there is no job cannot promise to be there for one.
        let shift = Shift::new(self.idle.is_none().then_some(&self.front));
        let first = first.lock().take();
        first.into_iter().for_each(|job| shift.run(job));
        while let Some(job) = self.next_job(&shift) {
            shift.run(job);
        }
    }

    /// The last thing that a thread does.
    fn take_leave(&self, thread: ThreadId) {
        let mut threads = self.threads.lock();
        threads.alive.retain(|alive| *alive != thread);
        threads.left_behind.retain(|left| *left != thread);
        threads.finished.push(thread);
        drop(threads);
        self.changed.notify_all();
    }

    /// Gives a job to a thread that waits for one, if there is any left.
    fn hand_over(&self, job: Job) -> Result<(), Job> {
        let job = match self.front.hand_over(job) {
            Ok(()) => return Ok(()),
            Err(job) => job,
        };
        let mut desk = self.desk.lock();
        if desk.jobs.len() == desk.waiting {
            return Err(job);
        }
        desk.jobs.push_back(job);
        drop(desk);
        self.news.notify_one();
        Ok(())
    }

    fn next_job(&self, shift: &Shift<'_>) -> Option<Job> {
        if self.idle.is_none() {
            return self.wait_for_job(shift);
        }
        self.free.fetch_add(1, Ordering::Relaxed);
        let job = self.wait_for_job(shift)?;
        self.free.fetch_sub(1, Ordering::Relaxed);
        Some(job)
    }

    fn wait_for_job(&self, shift: &Shift<'_>) -> Option<Job> {
        let mut again = false;
        loop {
            let tick = self.idle.as_ref().and_then(|idle| idle.idle(again));
            let Some(idle) = self.idle.as_ref().filter(|_| tick.is_some()) else {
                return self.wait_in_front(shift).or_else(|| self.wait(None));
            };
            let job = self.wait(tick);
            if job.is_some() {
                idle.interrupted();
                return job;
            }
            if self.desk.lock().stopping {
                return None;
            }
            again = true;
        }
    }

    /// Whether a thread without a job may end, which is counted out then. Called under the lock of the desk.
    fn lets_go(&self) -> bool {
        if self.idle.is_none() {
            return true;
        }
        let may = self.free.load(Ordering::Relaxed) > 1;
        self.free.fetch_sub(usize::from(may), Ordering::Relaxed);
        may
    }

    /// Waits for a job in front, if there is nobody yet.
    fn wait_in_front(&self, shift: &Shift<'_>) -> Option<Job> {
        if !shift.step_in_front() {
            return None;
        }
        // `stop` sets the mark before it looks who is in front, and this looks after stepping there.
        let limit = if self.desk.lock().stopping { Duration::ZERO } else { KEEP_ALIVE };
        let job = self.front.wait(limit);
        shift.in_front.set(false);
        job
    }

    /// Waits for a job at the desk, for a tick or else for the usual time, and without an end if it is the last to do
    /// so. None is left over when it gives up.
    fn wait(&self, tick: Option<Duration>) -> Option<Job> {
        let mut desk = self.desk.lock();
        desk.waiting += 1;
        let mut deadline = None;
        let mut late = false;
        let job = loop {
            let job = desk.jobs.pop_front();
            if job.is_some() || desk.stopping || late && (tick.is_some() || self.lets_go()) {
                break job;
            }
            if late {
                self.news.wait(&mut desk);
                continue;
            }
            let at = *deadline.get_or_insert_with(|| Instant::now() + tick.unwrap_or(KEEP_ALIVE));
            late = self.news.wait_until(&mut desk, at).timed_out();
        };
        desk.waiting -= 1;
        job
    }
}

/// Looks for something that may come within some microseconds; the caller sleeps after that.
///
/// Looking costs nothing as long as nobody writes there. Behind the first few looks the thread gives way
/// to others, which is all that helps where whoever it waits for needs the same core.
pub(crate) fn look_out(seen: impl Fn() -> bool) -> bool {
    if cfg!(all(loom, test)) {
        // A model has every order anyhow, and looking again shows no other.
        return seen();
    }
    for _ in 0..PAUSES {
        if seen() {
            return true;
        }
        std::hint::spin_loop();
    }
    give_way(YIELDS, seen)
}

/// Runs a job whose panic hurts nobody else.
pub(crate) fn contain(job: impl FnOnce()) {
    panics(job);
}

/// The same; says whether it has panicked.
pub(crate) fn panics(job: impl FnOnce()) -> bool {
    hold_nothing();
    catch_unwind(AssertUnwindSafe(job)).map_err(forget_panic).is_err()
}

/// Runs a job on a thread that has something else to do afterwards.
pub(crate) fn run_elsewhere(job: Job) {
    Shift::elsewhere().run(job);
}

/// Drops something of the user's; should that panic, it hurts nobody else.
pub(crate) fn discard<T>(value: T) {
    contain(move || drop(value));
}

/// Drops several such things, each for itself: the second that panics in one go would end the process.
pub(crate) fn discard_all<T>(values: impl IntoIterator<Item = T>) {
    values.into_iter().for_each(discard);
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
const PAUSES: u32 = 127;
const YIELDS: u32 = 64;
/// One in so many jobs is timed.
const SAMPLED: u32 = 16;
/// How long a thread waits for a job before it ends.
const KEEP_ALIVE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests;
