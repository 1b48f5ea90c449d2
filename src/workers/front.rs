//! The place in front: where the next job goes without a search, and often without waking anybody.

use std::time::{Duration, Instant};

use super::{Job, look_out};
use crate::sync::{AtomicBool, Condvar, Mutex, Ordering};

/// At most one thread is in front, and gets at most one job there.
///
/// All of it is one cache line, which goes to whoever hands a job over and comes back with it.
#[repr(align(64))]
pub(super) struct Front {
    /// There is a job, for the thread that looks out for one without the lock.
    full: AtomicBool,
    place: Mutex<Place>,
    news: Condvar,
}

enum Place {
    Empty,
    /// Somebody is there without a job, and looks out for one, or is about to.
    Looking,
    /// The same, asleep.
    Asleep,
    Given(Job),
}

impl Front {
    pub(super) fn new() -> Front {
        Front { full: AtomicBool::new(false), place: Mutex::new(Place::Empty), news: Condvar::new() }
    }

    /// The calling thread goes in front, if nobody is there: the next job is left to it.
    pub(super) fn enter(&self) -> bool {
        let mut place = self.place.lock();
        let free = matches!(*place, Place::Empty);
        if free {
            *place = Place::Looking;
        }
        free
    }

    /// Leaves a job to the thread in front, if there is one without a job.
    pub(super) fn hand_over(&self, job: Job) -> Result<(), Job> {
        let mut place = self.place.lock();
        let asleep = match *place {
            Place::Looking => false,
            Place::Asleep => true,
            Place::Empty | Place::Given(_) => return Err(job),
        };
        *place = Place::Given(job);
        // SYNC: full. Only a hint: what it announces is under the lock.
        self.full.store(true, Ordering::Relaxed);
        drop(place);
        if asleep {
            self.news.notify_one();
        }
        Ok(())
    }

    /// Waits in front for a job, and leaves the place.
    pub(super) fn wait(&self, limit: Duration) -> Option<Job> {
        // Often the next job comes at once.
        look_out(|| self.full.load(Ordering::Relaxed));
        let mut deadline = None;
        let mut late = false;
        let mut place = self.place.lock();
        loop {
            match std::mem::replace(&mut *place, Place::Asleep) {
                Place::Given(job) => {
                    *place = Place::Empty;
                    self.full.store(false, Ordering::Relaxed);
                    return Some(job);
                }
                _ if late => {
                    *place = Place::Empty;
                    return None;
                }
                _ => {}
            }
            let at = *deadline.get_or_insert_with(|| Instant::now() + limit);
            late = self.news.wait_until(&mut place, at).timed_out();
        }
    }

    #[cfg(test)]
    pub(super) fn is_waiting(&self) -> bool {
        matches!(*self.place.lock(), Place::Looking | Place::Asleep)
    }
}
