//! Sleeping until a word changes, among threads and among processes.

use std::{
    io,
    sync::atomic::AtomicU32,
    time::{Duration, Instant},
};

use rustix::{
    io::Errno,
    thread::{
        futex::{self, Flags, Wait, WaitFlags, WaitPtr, WaitvFlags},
        sched_getcpu,
    },
    time::{ClockId, Timespec, clock_gettime},
};

use crate::sync::hold_nothing;

/// A word, and the value that it has to have still for a thread to fall asleep over it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unchanged<'a> {
    pub(crate) word: &'a AtomicU32,
    pub(crate) value: u32,
}

/// Sleeps until somebody wakes those who sleep on `shared`, or the deadline passes; not at all when one
/// of the two words has changed. May come back for no reason. Says whether somebody may have had it come back, which
/// nobody has when a signal did, or the deadline.
///
/// `shared` may lie in memory that another process writes; `own` must not. The kernel looks at both
/// in the moment of falling asleep, so that who changes `own` and then wakes those on `shared` is never
/// missed, whatever the other process does to `shared`.
///
/// Kernels before 5.16, and some sandboxes, cannot sleep on two words. There `own` is looked at every
/// [`GLANCE`].
///
/// # Errors
///
/// What the operating system says.
pub(crate) fn sleep_on(
    shared: Unchanged<'_>,
    own: Unchanged<'_>,
    deadline: Option<Instant>,
) -> io::Result<bool> {
    hold_nothing();
    let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
    match futex::waitv(
        &[waiter(shared, SHARED), waiter(own, PRIVATE)],
        WaitvFlags::empty(),
        until(left).as_ref(),
        CLOCK,
    ) {
        Err(Errno::NOSYS | Errno::PERM) => sleep_on_one(shared, left),
        Err(Errno::INTR | Errno::TIMEDOUT) => Ok(false),
        Err(Errno::AGAIN) | Ok(_) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// The same without the look at a second word: comes back soon instead.
pub(super) fn sleep_on_one(shared: Unchanged<'_>, left: Option<Duration>) -> io::Result<bool> {
    let left = left.map_or(GLANCE, |left| left.min(GLANCE));
    let left = Timespec::try_from(left).ok();
    match futex::wait(shared.word, Flags::empty(), shared.value, left.as_ref()) {
        Err(Errno::INTR | Errno::TIMEDOUT) => Ok(false),
        Err(Errno::AGAIN) | Ok(()) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// Wakes all who sleep on the word, in every process: one that sleeps there without being asked to must
/// not take the place of the one that is meant.
pub(crate) fn wake(word: &AtomicU32) {
    // It fails for a bad address only, and a reference is none.
    let _ = futex::wake(word, Flags::empty(), i32::MAX as u32);
}

/// The core on which this thread runs at this moment.
pub(crate) fn current_core() -> u32 {
    sched_getcpu() as u32
}

/// A word as the call takes it.
fn waiter(unchanged: Unchanged<'_>, flags: WaitFlags) -> Wait {
    let mut wait = Wait::new();
    wait.val = u64::from(unchanged.value);
    wait.uaddr = WaitPtr::new(unchanged.word.as_ptr().cast());
    wait.flags = flags;
    wait
}

/// The point in time that is `left` from now, as the call takes it; none for one too far away to count.
fn until(left: Option<Duration>) -> Option<Timespec> {
    let left = Timespec::try_from(left?).ok()?;
    clock_gettime(CLOCK).checked_add(left)
}

/// How long at most nobody looks at a word that the kernel cannot watch.
pub(super) const GLANCE: Duration = Duration::from_millis(100);
const SHARED: WaitFlags = WaitFlags::SIZE_U32;
const PRIVATE: WaitFlags = SHARED.union(WaitFlags::PRIVATE);
const CLOCK: ClockId = ClockId::Monotonic;

#[cfg(test)]
mod tests {
    use std::{sync::atomic::Ordering, thread};

    use super::*;

    fn same(word: &AtomicU32) -> Unchanged<'_> {
        Unchanged { word, value: 0 }
    }

    fn in_ms(ms: u64) -> Option<Instant> {
        Instant::now().checked_add(Duration::from_millis(ms))
    }

    #[test]
    fn a_word_that_has_changed_keeps_awake() {
        let (changed, unchanged) = (AtomicU32::new(1), AtomicU32::new(0));
        // A sleep would be for ever.
        sleep_on(same(&changed), same(&unchanged), None).unwrap();
        sleep_on(same(&unchanged), same(&changed), None).unwrap();
        sleep_on_one(same(&changed), None).unwrap();
    }

    #[test]
    fn a_sleep_ends_with_the_deadline() {
        let (shared, own, start) = (AtomicU32::new(0), AtomicU32::new(0), Instant::now());
        let far = Instant::now().checked_add(Duration::from_secs(u64::from(u32::MAX)));
        while start.elapsed() < Duration::from_millis(20) {
            sleep_on(same(&shared), same(&own), start.checked_add(Duration::from_millis(20))).unwrap();
        }
        sleep_on(same(&shared), same(&own), Some(start)).unwrap();
        shared.store(1, Ordering::Relaxed);
        sleep_on(same(&shared), same(&own), far).unwrap();
    }

    #[test]
    fn a_kernel_that_watches_one_word_comes_back_soon() {
        let (shared, start) = (AtomicU32::new(0), Instant::now());
        sleep_on_one(same(&shared), None).unwrap();
        sleep_on_one(same(&shared), Some(Duration::ZERO)).unwrap();
        assert!(start.elapsed() < 50 * GLANCE, "{:?}", start.elapsed());
    }

    #[test]
    fn everybody_on_the_word_is_woken() {
        let (shared, own) = (AtomicU32::new(0), AtomicU32::new(0));
        thread::scope(|scope| {
            let sleep = || {
                while shared.load(Ordering::Acquire) == 0 {
                    sleep_on(same(&shared), same(&own), in_ms(60_000)).unwrap();
                }
            };
            let sleepers = [(); 3].map(|()| scope.spawn(sleep));
            thread::sleep(Duration::from_millis(5));
            let start = Instant::now();
            shared.store(1, Ordering::Release);
            wake(&shared);
            sleepers.into_iter().for_each(|sleeper| sleeper.join().unwrap());
            assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
        });
    }
}
