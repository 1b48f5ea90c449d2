//! The thread that watches the clock and the other process for a link. It starts when it is needed,
//! sleeps in the kernel, and ends when there is nothing left to watch.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    thread::{Builder, JoinHandle},
    time::{Duration, Instant},
};

use super::Link;
use crate::{
    os::{Attendant, Wakeup, fd::AsFd, wait_readable},
    sync::{Arc, AtomicBool, Mutex, Ordering, Weak, fail_here},
};

pub(crate) struct Keeper {
    shared: Mutex<Option<Arc<Shared>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    attendant: Mutex<Option<Box<dyn Attendant>>>,
    attended: bool,
    stopping: AtomicBool,
}

struct Shared {
    wakeup: Wakeup,
}

impl Keeper {
    /// A keeper that looks after `attendant` besides the clock, if there is one.
    pub(crate) fn new(attendant: Option<Box<dyn Attendant>>) -> Keeper {
        Keeper {
            shared: Mutex::new(None),
            thread: Mutex::new(None),
            attended: attendant.is_some(),
            attendant: Mutex::new(attendant),
            stopping: AtomicBool::new(false),
        }
    }

    /// Makes the thread look at the clock again, and starts it if there is none.
    pub(crate) fn wake(&self, link: &Arc<Link>) -> io::Result<()> {
        let mut shared = self.shared.lock();
        if let Some(shared) = &*shared {
            shared.wakeup.wake();
            return Ok(());
        }
        if self.stopping.load(Ordering::Acquire) {
            return Ok(());
        }
        let fresh = Arc::new(Shared { wakeup: Wakeup::new()? });
        let (weak, theirs) = (Arc::downgrade(link), fresh.clone());
        let name = format!("{}-keeper", link.config.name);
        let thread = Builder::new().name(name).spawn(move || run(&weak, &theirs))?;
        *shared = Some(fresh);
        let before = self.thread.lock().replace(thread);
        drop(shared);
        if let Some(before) = before {
            // It has taken its leave already; this waits for its last line at the most.
            let _ = before.join();
        }
        Ok(())
    }

    /// Makes the thread end. Does not wait for it.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        if let Some(shared) = &*self.shared.lock() {
            shared.wakeup.wake();
        }
    }

    /// Whether it looks after anything besides the clock.
    pub(crate) fn has_attendant(&self) -> bool {
        self.attended
    }

    /// Waits for the thread to end, unless it is the calling one. It has been told to stop.
    pub(crate) fn join(&self) {
        let thread = self.thread.lock().take();
        if let Some(thread) = thread.filter(|thread| thread.thread().id() != std::thread::current().id()) {
            let _ = thread.join();
        }
        let wakeup = self.shared.lock().take();
        drop(wakeup);
    }

    /// What was looked after and is still there, once the thread has ended.
    pub(crate) fn take_attendant(&self) -> Option<Box<dyn Attendant>> {
        self.attendant.lock().take()
    }

    /// Whether the thread may end because nothing is left to watch. If it may, it must.
    fn take_leave(&self, link: &Link) -> bool {
        let mut shared = self.shared.lock();
        let leave = !self.attended && link.next_alarm().is_none();
        if leave {
            *shared = None;
        }
        leave
    }
}

fn run(weak: &Weak<Link>, shared: &Shared) {
    // It fetches what it looks after: with a thread that cannot be started that would be dropped, which waits.
    let Some(mut attendant) = weak.upgrade().map(|link| link.keeper.take_attendant()) else { return };
    let watched = catch_unwind(AssertUnwindSafe(|| watch(weak, shared, &mut attendant)));
    if let Some(link) = weak.upgrade() {
        watched.unwrap_or_else(|panic| link.break_down(panic));
        *link.keeper.attendant.lock() = attendant;
    }
}

fn watch(weak: &Weak<Link>, shared: &Shared, attendant: &mut Option<Box<dyn Attendant>>) {
    while let Some(link) = weak.upgrade() {
        if link.keeper.stopping.load(Ordering::Acquire) {
            break;
        }
        fail_here("a keeper that looks at the clock");
        let next = link.tick(Instant::now());
        drop(link);
        let limit = next.map(|at| at.saturating_duration_since(Instant::now()));
        let idle = limit.is_none() && attendant.is_none();
        let limit = if idle { Some(KEEP_ALIVE) } else { limit };
        let news = sleep(shared, attendant.as_deref(), limit);
        let Some(link) = weak.upgrade() else { break };
        match news {
            News::Nothing if idle && link.keeper.take_leave(&link) => break,
            News::Nothing | News::Woken => {}
            News::Attendant => {
                fail_here("a keeper that looks at a child");
                // It stays, with nothing more to wait for: the link may end for what was sent before, and whoever
                // asks then how the process ended finds it here.
                if let Some(reason) = attendant.as_deref_mut().and_then(Attendant::look) {
                    link.peer_died(reason);
                }
            }
        }
    }
}

enum News {
    Nothing,
    Woken,
    Attendant,
}

fn sleep(shared: &Shared, attendant: Option<&dyn Attendant>, limit: Option<Duration>) -> News {
    let watched = attendant.map(Attendant::descriptors).unwrap_or_default();
    let descriptors: Vec<_> = std::iter::once(shared.wakeup.as_fd()).chain(watched).collect();
    let ready = match wait_readable(&descriptors, limit) {
        Ok(ready) => ready,
        Err(error) => {
            log::warn!("the keeper of a link cannot wait: {error}");
            std::thread::sleep(Duration::from_millis(10));
            return News::Nothing;
        }
    };
    if ready.contains(0) {
        shared.wakeup.drain();
    }
    match (1..descriptors.len()).any(|at| ready.contains(at)) {
        true => News::Attendant,
        false if ready.any() => News::Woken,
        false => News::Nothing,
    }
}

/// How long the thread stays without anything to watch.
const KEEP_ALIVE: Duration = Duration::from_secs(2);
