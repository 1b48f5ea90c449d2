//! Panics of others that are failures of the environment.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
};

/// Runs what may panic where it ought to fail.
///
/// ipc-channel asserts that its temporary directory can be made and that its sockets can be measured,
/// and `std` that nobody but itself reaps a child that could not be executed. None of the three
/// leaves a value of ours behind half changed. The panic hook has its say all the same.
pub(super) fn caught<T>(words: &'static str, run: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| Err(io::Error::other(words)))
}

/// Runs something again that a signal has interrupted before it did anything: ipc-channel does not.
pub(super) fn uninterrupted<T>(mut run: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match run() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}
