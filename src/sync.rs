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

pub(crate) use parking_lot::{Condvar, Mutex, MutexGuard, RwLock};

/// What the model checker stands in for in its own tests, which begin with `loom_`. The rest of the crate
/// does not notice.
pub(crate) mod modelled {
    #[cfg(not(all(loom, test)))]
    pub(crate) use std::{
        sync::atomic::{AtomicU32, AtomicU64, Ordering},
        thread::yield_now,
    };

    #[cfg(all(loom, test))]
    pub(crate) use loom::{
        lazy_static, model,
        sync::{
            Condvar, Mutex,
            atomic::{AtomicU32, AtomicU64, Ordering},
        },
        thread::{spawn, yield_now},
    };
}
