//! The one file that names the primitives of threads, so that a model checker can stand in for them.

pub(crate) use std::sync::{
    Arc, OnceLock, Weak,
    atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
};

pub(crate) use parking_lot::{Condvar, Mutex, MutexGuard, RwLock};
