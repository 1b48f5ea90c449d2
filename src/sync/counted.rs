//! The locks of debug builds: each thread knows how many of them it holds, and panics where it would wait, or run
//! code of the user, while it holds one.
//!
//! So every test of the library is one of that rule, too. In release builds the locks are those of the crate below.

use std::{
    cell::Cell,
    fmt,
    ops::{Deref, DerefMut},
    time::Instant,
};

use parking_lot::WaitTimeoutResult;

thread_local! {
    static HELD: Cell<u32> = const { Cell::new(0) };
}

/// Panics if the calling thread holds a lock of the library.
#[track_caller]
pub(crate) fn hold_nothing() {
    let held = HELD.get();
    // Whoever unwinds may hold locks that go with it.
    assert!(
        held == 0 || std::thread::panicking(),
        "{held} locks are held over a wait, or over code of the user"
    );
}

/// One lock that is held.
struct Held;

impl Held {
    fn one() -> Held {
        HELD.set(HELD.get() + 1);
        Held
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        HELD.set(HELD.get() - 1);
    }
}

#[derive(Default)]
pub(crate) struct Mutex<T: ?Sized>(parking_lot::Mutex<T>);

/// The lock goes before its count: nothing is called in between.
pub(crate) struct MutexGuard<'a, T: ?Sized>(parking_lot::MutexGuard<'a, T>, Held);

impl<T> Mutex<T> {
    pub(crate) const fn new(value: T) -> Mutex<T> {
        Mutex(parking_lot::Mutex::new(value))
    }
}

impl<T: ?Sized> Mutex<T> {
    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        MutexGuard(self.0.lock(), Held::one())
    }

    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        self.0.try_lock().map(|guard| MutexGuard(guard, Held::one()))
    }

    pub(crate) fn get_mut(&mut self) -> &mut T {
        self.0.get_mut()
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<T: ?Sized> MutexGuard<'_, T> {
    /// Runs `code` without the lock.
    pub(crate) fn unlocked<R>(guard: &mut Self, code: impl FnOnce() -> R) -> R {
        HELD.set(HELD.get() - 1);
        let result = parking_lot::MutexGuard::unlocked(&mut guard.0, code);
        HELD.set(HELD.get() + 1);
        result
    }
}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Condvar(parking_lot::Condvar);

impl Condvar {
    pub(crate) const fn new() -> Condvar {
        Condvar(parking_lot::Condvar::new())
    }

    #[track_caller]
    pub(crate) fn wait<T: ?Sized>(&self, guard: &mut MutexGuard<'_, T>) {
        hold_this_alone();
        self.0.wait(&mut guard.0);
    }

    #[track_caller]
    pub(crate) fn wait_until<T: ?Sized>(
        &self,
        guard: &mut MutexGuard<'_, T>,
        at: Instant,
    ) -> WaitTimeoutResult {
        hold_this_alone();
        self.0.wait_until(&mut guard.0, at)
    }

    pub(crate) fn notify_one(&self) -> bool {
        self.0.notify_one()
    }

    pub(crate) fn notify_all(&self) -> usize {
        self.0.notify_all()
    }
}

/// The lock that is given back meanwhile may be held.
#[track_caller]
fn hold_this_alone() {
    let held = HELD.get();
    assert!(held == 1 || std::thread::panicking(), "{} other locks are held over a wait", held - 1);
}

#[derive(Debug, Default)]
pub(crate) struct RwLock<T: ?Sized>(parking_lot::RwLock<T>);

/// What it protects, for one of those who read or for the one who writes.
pub(crate) struct RwGuard<G>(G, Held);

impl<T> RwLock<T> {
    pub(crate) const fn new(value: T) -> RwLock<T> {
        RwLock(parking_lot::RwLock::new(value))
    }
}

impl<T: ?Sized> RwLock<T> {
    pub(crate) fn read(&self) -> RwGuard<parking_lot::RwLockReadGuard<'_, T>> {
        RwGuard(self.0.read(), Held::one())
    }

    pub(crate) fn write(&self) -> RwGuard<parking_lot::RwLockWriteGuard<'_, T>> {
        RwGuard(self.0.write(), Held::one())
    }
}

impl<G: fmt::Debug> fmt::Debug for RwGuard<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<G: Deref> Deref for RwGuard<G> {
    type Target = G::Target;

    fn deref(&self) -> &G::Target {
        &self.0
    }
}

impl<G: DerefMut> DerefMut for RwGuard<G> {
    fn deref_mut(&mut self) -> &mut G::Target {
        &mut self.0
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    /// Red when locks are not counted.
    #[test]
    fn p_16_a_lock_that_is_held_over_code_of_the_user_is_told() {
        let (first, second) = (Mutex::new(1), RwLock::new(2));
        hold_nothing();
        let mut guard = first.lock();
        assert!(catch_unwind(hold_nothing).is_err());
        MutexGuard::unlocked(&mut guard, hold_nothing);
        let beside = second.read();
        assert!(first.try_lock().is_none() && *beside == 2);
        drop(guard);
        assert!(catch_unwind(hold_nothing).is_err());
        drop(beside);
        hold_nothing();
    }

    /// Red when a wait does not look.
    #[test]
    fn p_16_a_lock_that_is_held_over_a_wait_is_told() {
        let (news, at) = (Condvar::new(), Instant::now());
        let (alone, beside) = (Mutex::new(()), Mutex::new(()));
        assert!(news.wait_until(&mut alone.lock(), at).timed_out());
        let told = catch_unwind(AssertUnwindSafe(|| {
            let _beside = beside.lock();
            news.wait_until(&mut alone.lock(), at)
        }));
        assert!(told.is_err());
        hold_nothing();
    }
}
