//! The thread that watches the clock and the other process for a link. It starts when it is needed,
//! sleeps in the kernel, and ends when there is nothing left to watch.
//!
//! It runs nothing of the user's while it does that: what there is no other thread for it runs aside, and as if it were
//! no keeper any more.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, Instant},
};

use super::{Link, current::this_thread};
use crate::{
    logging::{Line, line},
    os::{Attendant, Wakeup, fd::AsFd, wait_readable},
    sync::{Arc, AtomicBool, AtomicUsize, Condvar, Mutex, Ordering, Weak, fail_here},
    workers::{Job, Thread, Until, run_elsewhere},
};

pub(crate) struct Keeper {
    /// There as long as a thread is, or starts.
    bell: Mutex<Option<Arc<Bell>>>,
    /// The one that watches, behind those before it that may not be over yet: what the user has left with such a thread
    /// takes its time to go.
    threads: Mutex<Vec<Thread>>,
    post: Arc<Post>,
    attended: bool,
    stopping: AtomicBool,
}

/// How the thread is woken. It needs a descriptor only where it waits for others as well, and has that from the start:
/// a call must not outlive its time because there is none to be had.
enum Bell {
    Descriptor(Wakeup),
    Flag(Mutex<bool>, Condvar),
}

impl Bell {
    fn ring(&self) {
        match self {
            Bell::Descriptor(wakeup) => wakeup.wake(),
            Bell::Flag(rung, news) => {
                *rung.lock() = true;
                news.notify_all();
            }
        }
    }
}

/// What is looked after. The thread has it with itself only while it runs nothing of the user's: whoever ends the link
/// may need it while the thread is stuck in a waker.
struct Post {
    state: Mutex<AtPost>,
    returned: Condvar,
    /// The thread that watches; 0 when none does. Whoever asks wants to know of itself, and sees what it has written.
    watcher: AtomicUsize,
    /// Jobs for which no thread could be had, of the one that watches.
    owed: Mutex<Vec<Job>>,
}

struct AtPost {
    attendant: Option<Box<dyn Attendant>>,
    /// The thread has it, or would have.
    visited: bool,
}

/// What is looked after, with the thread that looks.
struct Visit<'a> {
    attendant: Option<Box<dyn Attendant>>,
    post: &'a Post,
}

impl Post {
    fn of(attendant: Option<Box<dyn Attendant>>) -> Post {
        Post {
            state: Mutex::new(AtPost { attendant, visited: false }),
            returned: Condvar::new(),
            watcher: AtomicUsize::new(0),
            owed: Mutex::default(),
        }
    }

    /// The calling thread watches from here on.
    fn take_up(&self) {
        self.watcher.store(this_thread(), Ordering::Relaxed);
    }

    /// The calling thread watches no more. Says whether it did.
    fn give_up(&self) -> bool {
        self.watcher.compare_exchange(this_thread(), 0, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    fn visit(&self) -> Visit<'_> {
        let mut state = self.state.lock();
        state.visited = true;
        Visit { attendant: state.attendant.take(), post: self }
    }

    fn take(&self) -> Option<Box<dyn Attendant>> {
        let mut state = self.state.lock();
        while state.visited {
            self.returned.wait(&mut state);
        }
        state.attendant.take()
    }
}

impl Visit<'_> {
    fn take_words(&mut self) -> Vec<Line> {
        self.attendant.as_deref_mut().map(Attendant::take_words).unwrap_or_default()
    }
}

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        *self.post.state.lock() = AtPost { attendant: self.attendant.take(), visited: false };
        self.post.returned.notify_all();
    }
}

impl Keeper {
    /// A keeper that looks after `attendant` besides the clock, if there is one.
    pub(crate) fn new(attendant: Option<Box<dyn Attendant>>) -> Keeper {
        Keeper {
            bell: Mutex::new(None),
            threads: Mutex::default(),
            attended: attendant.is_some(),
            post: Arc::new(Post::of(attendant)),
            stopping: AtomicBool::new(false),
        }
    }

    /// Makes the thread look at the clock again, and starts it if there is none.
    pub(crate) fn wake(&self, link: &Arc<Link>) -> io::Result<()> {
        let mut bell = self.bell.lock();
        if let Some(bell) = &*bell {
            bell.ring();
            return Ok(());
        }
        if self.is_stopping() {
            return Ok(());
        }
        let fresh = Arc::new(match self.attended {
            true => Bell::Descriptor(Wakeup::new()?),
            false => Bell::Flag(Mutex::new(false), Condvar::new()),
        });
        let (weak, theirs, post) = (Arc::downgrade(link), fresh.clone(), self.post.clone());
        let name = format!("{}-keeper", link.config.name);
        let thread = Thread::start(name, move || run(&weak, &theirs, &post))?;
        *bell = Some(fresh);
        link.core.lock().kept = true;
        let mut threads = self.threads.lock();
        if threads.len() >= MANY {
            threads.retain(|before| !before.is_over());
        }
        threads.push(thread);
        Ok(())
    }

    /// Makes the thread end. Does not wait for it.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        if let Some(bell) = &*self.bell.lock() {
            bell.ring();
        }
    }

    /// The link is over, and with it the clock. A child is looked after until it has ended: it may write for as long as
    /// it likes, and somebody has to bury it.
    pub(crate) fn retire(&self) {
        if !self.attended {
            return self.stop();
        }
        if let Some(bell) = &*self.bell.lock() {
            bell.ring();
        }
    }

    /// Whether no thread is started any more.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Whether it looks after anything besides the clock.
    pub(crate) fn has_attendant(&self) -> bool {
        self.attended
    }

    /// Waits for its threads to end, for at most `limit`, but for the calling one. It has been told to stop. Says how
    /// many are left behind, in a waker of the user's or in what that has left with them.
    #[must_use]
    pub(crate) fn join(&self, limit: Duration) -> usize {
        let until = Until::after(limit);
        let threads = std::mem::take(&mut *self.threads.lock());
        let left =
            threads.into_iter().filter_map(|thread| (!thread.join(until.left())).then_some(())).count();
        let bell = self.bell.lock().take();
        drop(bell);
        left
    }

    /// What was looked after and is still there, once the thread was told to stop.
    pub(crate) fn take_attendant(&self) -> Option<Box<dyn Attendant>> {
        self.post.take()
    }

    /// Whether the calling thread watches.
    pub(super) fn is_mine(&self) -> bool {
        self.post.watcher.load(Ordering::Relaxed) == this_thread()
    }

    /// Leaves a job to this thread, which watches, for the time behind that.
    #[cold]
    pub(super) fn owe(&self, job: Job) {
        self.post.owed.lock().push(job);
    }

    /// Runs such jobs, if there are any. Says whether the calling thread still is the keeper: if not, it must end.
    ///
    /// They are the user's: they take as long as they like, and may wait for what this thread is to end. So another one
    /// watches meanwhile, or, if none can be had, all others find that nobody does.
    fn pay(&self, link: &Arc<Link>, bell: &Arc<Bell>) -> bool {
        let owed = std::mem::take(&mut *self.post.owed.lock());
        if owed.is_empty() {
            return true;
        }
        self.stand_aside(link);
        owed.into_iter().for_each(run_elsewhere);
        self.come_back(link, bell)
    }

    fn stand_aside(&self, link: &Link) {
        self.post.give_up();
        let mut bell = self.bell.lock();
        let mut core = link.core.lock();
        core.kept = false;
        core.armed = None;
        *bell = None;
        let is_needed = self.attended || core.next_alarm().is_some();
        drop(core);
        drop(bell);
        if is_needed {
            link.find_keeper();
        }
    }

    fn come_back(&self, link: &Link, theirs: &Arc<Bell>) -> bool {
        let mut bell = self.bell.lock();
        if bell.is_some() || self.is_stopping() {
            return false;
        }
        *bell = Some(theirs.clone());
        self.post.take_up();
        link.core.lock().kept = true;
        true
    }

    /// Whether the thread may end because nothing is left to watch. If it may, it must.
    fn take_leave(&self, link: &Link) -> bool {
        let mut bell = self.bell.lock();
        let mut core = link.core.lock();
        let leave = !self.attended && core.next_alarm().is_none();
        if leave {
            core.kept = false;
            *bell = None;
        }
        leave
    }
}

#[cfg(test)]
impl Link {
    /// Whether there is a keeper, or one that starts.
    pub(crate) fn has_keeper(&self) -> bool {
        self.keeper.bell.lock().is_some()
    }
}

fn run(weak: &Weak<Link>, bell: &Arc<Bell>, post: &Post) {
    post.take_up();
    let watched = catch_unwind(AssertUnwindSafe(|| watch(weak, bell, post)));
    if let (Err(panic), Some(link)) = (watched, weak.upgrade()) {
        link.break_down(panic);
    }
    if post.give_up() {
        let owed = std::mem::take(&mut *post.owed.lock());
        owed.into_iter().for_each(run_elsewhere);
    }
}

fn watch(weak: &Weak<Link>, bell: &Arc<Bell>, post: &Post) {
    while let Some(link) = weak.upgrade() {
        if link.keeper.is_stopping() {
            break;
        }
        fail_here("a keeper that looks at the clock");
        link.tick(Instant::now());
        if !link.keeper.pay(&link, bell) {
            break;
        }
        let mut core = link.core.lock();
        // While it stood aside it was not told of others.
        let next = core.next_alarm();
        core.armed = next;
        let is_over = core.state.is_closed();
        drop(core);
        let mut visit = post.visit();
        let words = visit.take_words();
        if !words.is_empty() {
            drop(visit);
            words.into_iter().for_each(|line| link.say(Some(line)));
            continue;
        }
        drop(link);
        if is_over && visit.attendant.as_ref().is_none_or(|attendant| attendant.descriptors().is_empty()) {
            break;
        }
        let limit = next.map(|at| at.saturating_duration_since(Instant::now()));
        let idle = limit.is_none() && visit.attendant.is_none();
        let limit = if idle { Some(KEEP_ALIVE) } else { limit };
        let slept = sleep(bell, visit.attendant.as_deref(), limit);
        let Some(link) = weak.upgrade() else { break };
        // It stays, with nothing more to wait for: the link may end for what was sent before, and whoever asks then
        // how the process ended finds it here.
        let looks = matches!(slept, Ok(News::Attendant));
        let died = visit.attendant.as_deref_mut().filter(|_| looks).and_then(Attendant::look);
        let words = visit.take_words();
        drop(visit);
        words.into_iter().for_each(|line| link.say(Some(line)));
        let news = slept.unwrap_or_else(|error| {
            link.say(line!(Warn, "the keeper of a link cannot wait: {error}"));
            std::thread::sleep(Duration::from_millis(10));
            News::Nothing
        });
        match news {
            News::Nothing if idle && link.keeper.take_leave(&link) => break,
            News::Nothing | News::Woken => {}
            News::Attendant => {
                fail_here("a keeper that looks at a child");
                died.into_iter().for_each(|reason| link.peer_died(reason));
            }
        }
    }
}

enum News {
    Nothing,
    Woken,
    Attendant,
}

fn sleep(bell: &Bell, attendant: Option<&dyn Attendant>, limit: Option<Duration>) -> io::Result<News> {
    match bell {
        Bell::Descriptor(wakeup) => sleep_at_descriptors(wakeup, attendant, limit),
        Bell::Flag(rung, news) => Ok(sleep_until_rung(rung, news, limit)),
    }
}

fn sleep_until_rung(rung: &Mutex<bool>, news: &Condvar, limit: Option<Duration>) -> News {
    let until = limit.and_then(|limit| Instant::now().checked_add(limit));
    let mut rung = rung.lock();
    while !*rung {
        match until {
            Some(at) if news.wait_until(&mut rung, at).timed_out() => return News::Nothing,
            Some(_) => {}
            None => news.wait(&mut rung),
        }
    }
    *rung = false;
    News::Woken
}

fn sleep_at_descriptors(
    wakeup: &Wakeup,
    attendant: Option<&dyn Attendant>,
    limit: Option<Duration>,
) -> io::Result<News> {
    let watched = attendant.map(Attendant::descriptors).unwrap_or_default();
    let descriptors: Vec<_> = std::iter::once(wakeup.as_fd()).chain(watched).collect();
    let ready = wait_readable(&descriptors, limit)?;
    if ready.contains(0) {
        wakeup.drain();
    }
    Ok(match (1..descriptors.len()).any(|at| ready.contains(at)) {
        true => News::Attendant,
        false if ready.any() => News::Woken,
        false => News::Nothing,
    })
}

/// So many threads that are over are kept in mind before they are forgotten.
const MANY: usize = 8;
/// How long the thread stays without anything to watch.
const KEEP_ALIVE: Duration = Duration::from_secs(2);
