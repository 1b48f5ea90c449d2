//! A place to wait for something that is told apart from the lock under which it is looked for.

use std::time::Instant;

use crate::sync::{Condvar, Mutex};

#[derive(Default)]
pub(crate) struct Bench(Condvar);

impl Bench {
    /// Blocks until `is_so`, at most until `limit`.
    pub(crate) fn wait<T>(&self, lock: &Mutex<T>, limit: Option<Instant>, is_so: impl Fn(&T) -> bool) {
        let mut state = lock.lock();
        while !is_so(&state) {
            match limit {
                Some(at) if self.0.wait_until(&mut state, at).timed_out() => return,
                Some(_) => {}
                None => self.0.wait(&mut state),
            }
        }
    }

    /// Has everybody look again. What they look for need not be under the lock.
    pub(crate) fn call<T>(&self, lock: &Mutex<T>) {
        // Whoever has looked, and found nothing, sleeps by the time that the lock is free: else it would go to
        // sleep behind the call.
        drop(lock.lock());
        self.0.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, thread, time::Duration};

    use super::*;
    use crate::sync::{Arc, AtomicBool, Ordering};

    /// Red when the lock is not taken in `call`.
    #[test]
    fn p_40_a_call_between_the_look_and_the_sleep_is_heard() {
        let shared = Arc::new((Bench::default(), Mutex::new(()), AtomicBool::new(false)));
        let (look, looked) = mpsc::channel();
        let (told, is_told) = mpsc::channel();
        let (wake, woken) = mpsc::channel();
        let theirs = shared.clone();
        let waiter = thread::spawn(move || {
            let (bench, lock, so) = &*theirs;
            bench.wait(lock, None, |()| {
                let is_so = so.load(Ordering::Acquire);
                if !is_so {
                    look.send(()).unwrap();
                    // As long as this thread has the lock nobody may say that everybody was told.
                    assert!(is_told.recv_timeout(Duration::from_millis(100)).is_err(), "told too early");
                }
                is_so
            });
            wake.send(()).unwrap();
        });
        looked.recv().unwrap();
        let (bench, lock, so) = &*shared;
        so.store(true, Ordering::Release);
        bench.call(lock);
        // The waiter may be awake, and have dropped its end.
        let _ = told.send(());
        woken.recv_timeout(Duration::from_secs(30)).expect("it is woken");
        waiter.join().unwrap();
    }
}
