//! The one file that names the primitives of threads, so that a model checker can stand in for them.

pub(crate) use std::sync::{
    Arc, OnceLock, Weak,
    atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering},
};

/// A value with cache lines of its own: what some threads write does not slow down those that read what
/// stands beside it.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct Apart<T>(pub(crate) T);

impl<T> std::ops::Deref for Apart<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

#[cfg(any(not(debug_assertions), loom))]
pub(crate) use parking_lot::{Condvar, Mutex, MutexGuard, RwLock};

#[cfg(all(debug_assertions, not(loom)))]
mod counted;
#[cfg(all(debug_assertions, not(loom)))]
pub(crate) use counted::{Condvar, Mutex, MutexGuard, RwLock, hold_nothing};

/// Says that the calling thread is about to wait, or to run code of the user: in a debug build it panics if it holds
/// a lock of the library.
#[cfg(any(not(debug_assertions), loom))]
#[inline]
pub(crate) fn hold_nothing() {}

#[cfg(test)]
mod failing;
#[cfg(test)]
pub(crate) use failing::{do_once, fail_here, fail_once, feed, is_to_fail, starve, thread_to_be_had};

/// A place where the tests of the library have it panic, or do something else.
#[cfg(not(test))]
#[inline(always)]
pub(crate) fn fail_here(_place: &str) {}

/// A place where the tests of the library have it get no thread.
#[cfg(not(test))]
#[inline(always)]
pub(crate) fn thread_to_be_had(_crew: &str) -> std::io::Result<()> {
    Ok(())
}

/// A lock that nobody waits for: whoever takes it has made sure before that nobody else does. Such a one may be
/// held over a wait.
pub(crate) use parking_lot::Mutex as OwnMutex;

/// What the model checker stands in for in its own tests, which begin with `loom_`. The rest of the crate
/// does not notice.
pub(crate) mod modelled {
    #[cfg(not(all(loom, test)))]
    pub(crate) use crate::sync::{Condvar, Mutex};
    // Some are for shared memory alone.
    #[cfg(not(all(loom, test)))]
    #[cfg_attr(not(target_os = "linux"), allow(unused_imports))]
    pub(crate) use std::{
        sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
        thread::yield_now,
    };

    #[cfg(all(loom, test))]
    pub(crate) use crate::sync::over_loom::{Condvar, Mutex};
    #[cfg(all(loom, test))]
    pub(crate) use loom::{
        lazy_static, model,
        sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
        thread::{spawn, yield_now},
    };
}

/// The locks of the model checker as the rest of the crate knows them. In a model no deadline passes.
#[cfg(all(loom, test))]
mod over_loom {
    use std::{
        ops::{Deref, DerefMut},
        time::Instant,
    };

    use loom::sync;

    #[derive(Debug)]
    pub(crate) struct Mutex<T>(sync::Mutex<T>);

    /// Without a lock only while it waits.
    #[derive(Debug)]
    pub(crate) struct MutexGuard<'a, T>(Option<sync::MutexGuard<'a, T>>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Mutex<T> {
            Mutex(sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            MutexGuard(Some(self.0.lock().expect("nobody panics in a model")))
        }

        pub(crate) fn get_mut(&mut self) -> &mut T {
            self.0.get_mut().expect("nobody panics in a model")
        }
    }

    impl<T> Deref for MutexGuard<'_, T> {
        type Target = T;

        fn deref(&self) -> &T {
            self.0.as_ref().expect("it does not wait")
        }
    }

    impl<T> DerefMut for MutexGuard<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            self.0.as_mut().expect("it does not wait")
        }
    }

    #[derive(Debug)]
    pub(crate) struct Condvar(sync::Condvar);

    pub(crate) struct WaitTimeoutResult;

    impl WaitTimeoutResult {
        pub(crate) fn timed_out(&self) -> bool {
            false
        }
    }

    impl Condvar {
        pub(crate) fn new() -> Condvar {
            Condvar(sync::Condvar::new())
        }

        pub(crate) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
            guard.0 = guard.0.take().map(|lock| self.0.wait(lock).expect("nobody panics in a model"));
        }

        pub(crate) fn wait_until<T>(&self, guard: &mut MutexGuard<'_, T>, _: Instant) -> WaitTimeoutResult {
            self.wait(guard);
            WaitTimeoutResult
        }

        pub(crate) fn notify_all(&self) {
            self.0.notify_all();
        }
    }
}
