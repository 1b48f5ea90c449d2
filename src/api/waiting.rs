//! Calls that wait, each at most until a time, and the thread that watches those times while there are any.

use std::{
    io,
    time::{Duration, Instant},
};

use super::relay::Relay;
use crate::{
    config::Limits,
    sync::{Arc, Condvar, Mutex, MutexGuard},
    workers::{Thread, panics},
};

/// Something that waits.
pub(super) trait Waits: Sized + Send + 'static {
    /// The call.
    fn call(&self) -> &Relay;

    /// When it is due; `None` if time alone does not end its waiting.
    fn due_at(&self) -> Option<Instant>;

    /// Whether it waits no longer.
    fn is_due(&self, now: Instant) -> bool {
        self.due_at().is_some_and(|at| at <= now)
    }

    /// What is done with those that are due, on the thread that watches, without a lock. None of them may wait for
    /// another.
    fn go(due: Vec<Self>);
}

/// All that wait for one thing.
pub(super) struct WaitingList<W> {
    state: Mutex<Waiting<W>>,
    /// There is a time to watch that was not there before, or nobody waits any more.
    news: Condvar,
}

pub(super) struct Waiting<W> {
    pub(super) all: Vec<W>,
    /// There is a thread.
    watched: bool,
    watcher: Option<Thread>,
}

impl<W: Waits> Waiting<W> {
    /// Whether there is room for one more, which is as much as in a send queue. Whoever blocks needs none, and takes
    /// none: of those there are no more than threads.
    pub(super) fn has_room(&self, call: &Relay, limits: &Limits) -> bool {
        let others = self.all.iter().map(W::call).filter(|call| !call.is_blocking());
        let (n, bytes) = others.fold((0, 0), |(n, bytes), call| (n + 1, bytes + call.held()));
        let fits = n == 0 || bytes + call.held() <= limits.send_queue_bytes;
        call.is_blocking() || n < limits.send_queue && fits
    }
}

impl<W> Default for WaitingList<W> {
    fn default() -> WaitingList<W> {
        let state = Waiting { all: Vec::new(), watched: false, watcher: None };
        WaitingList { state: Mutex::new(state), news: Condvar::new() }
    }
}

impl<W: Waits> WaitingList<W> {
    pub(super) fn lock(&self) -> MutexGuard<'_, Waiting<W>> {
        self.state.lock()
    }

    /// Has the times watched, after something was added under this lock.
    ///
    /// # Errors
    ///
    /// When the thread for it, whose name this is, cannot be started.
    pub(super) fn watch(self: &Arc<Self>, waiting: &mut Waiting<W>, name: String) -> io::Result<()> {
        if waiting.watched {
            self.news.notify_all();
            return Ok(());
        }
        let theirs = self.clone();
        // It is taken for there until it has found nothing to watch: whatever panics, it goes on.
        let run = move || while panics(|| theirs.run()) {};
        // The one before it has run its last line, or is about to.
        waiting.watcher = Some(Thread::start(name, run)?);
        waiting.watched = true;
        Ok(())
    }

    /// Whether nobody waits.
    pub(super) fn is_empty(&self) -> bool {
        self.lock().all.is_empty()
    }

    /// Takes out a call that waits no longer, if it is here.
    pub(super) fn take(&self, call: &Relay) -> Option<W> {
        let mut waiting = self.lock();
        let at = waiting.all.iter().position(|one| std::ptr::eq(one.call(), call))?;
        Some(waiting.all.remove(at))
    }

    /// All that wait, which do not any more.
    pub(super) fn take_all(&self) -> Vec<W> {
        let all = std::mem::take(&mut self.lock().all);
        self.news.notify_all();
        all
    }

    fn run(&self) {
        loop {
            let mut waiting = self.lock();
            let now = Instant::now();
            let due: Vec<_> = waiting.all.extract_if(.., |one| one.is_due(now)).collect();
            if due.is_empty() {
                let next = waiting.all.iter().filter_map(W::due_at).min();
                let Some(next) = next else {
                    waiting.watched = false;
                    return;
                };
                self.news.wait_until(&mut waiting, next);
                continue;
            }
            drop(waiting);
            W::go(due);
        }
    }

    /// Waits for the thread, which has nothing to watch any more, for at most `limit`. Says whether it is not left
    /// behind.
    #[must_use]
    pub(super) fn join(&self, limit: Duration) -> bool {
        let watcher = self.lock().watcher.take();
        watcher.is_none_or(|watcher| watcher.join(limit))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use super::*;

    /// Says that its time has come, and panics.
    struct Panics(Instant, Sender<u32>, u32);

    impl Waits for Panics {
        fn call(&self) -> &Relay {
            unreachable!("nobody looks for it")
        }

        fn due_at(&self) -> Option<Instant> {
            Some(self.0)
        }

        fn go(due: Vec<Panics>) {
            due.into_iter().for_each(|one| one.1.send(one.2).unwrap());
            std::panic::resume_unwind(Box::new("as they go"));
        }
    }

    /// Red when a panic ends the thread.
    #[test]
    fn p_19_what_waits_is_watched_whatever_panics() {
        let list = Arc::new(WaitingList::default());
        let (tell, told) = channel();
        let now = Instant::now();
        for round in 0..3 {
            let mut waiting = list.lock();
            waiting
                .all
                .extend([0, 1, 20].map(|n| Panics(now + Duration::from_millis(n), tell.clone(), round)));
            list.watch(&mut waiting, "waits".into()).unwrap();
            drop(waiting);
            for _ in 0..3 {
                assert_eq!(told.recv_timeout(Duration::from_secs(30)).expect("its time has come"), round);
            }
        }
        assert!(list.join(Duration::from_secs(30)));
    }
}
