//! The attempts of a call that may need several: which one is under way, and who waits for the next.
//!
//! Knows neither links nor slots: what an attempt is, and whether it has ended, is said by whoever makes it.

use std::time::Instant;

use crate::sync::modelled::{Condvar, Mutex};

pub(crate) struct Attempts<A> {
    state: Mutex<State<A>>,
    /// There is another attempt, or the end of the call.
    news: Condvar,
}

struct State<A> {
    /// The one that is under way.
    current: Option<A>,
    /// One sets out and is not filed yet, or has ended and is not judged yet: nobody can say whether it has run.
    unsure: bool,
    over: bool,
}

/// What is left of the attempts when the call ends.
pub(crate) struct Left<A> {
    pub(crate) attempt: Option<A>,
    /// Something may run, or have run, that nobody has counted.
    pub(crate) may_have_run: bool,
}

impl<A: Clone> Attempts<A> {
    pub(crate) fn new() -> Attempts<A> {
        Attempts {
            state: Mutex::new(State { current: None, unsure: false, over: false }),
            news: Condvar::new(),
        }
    }

    /// One is about to set out. `false` if none may: the call is over.
    pub(crate) fn set_out(&self) -> bool {
        let mut state = self.state.lock();
        state.unsure = true;
        !state.over
    }

    /// What has become of the last one is counted.
    pub(crate) fn settle(&self) {
        self.state.lock().unsure = false;
    }

    /// Files the one that is under way from now on, and tells whoever waits. It comes back when the call is over.
    pub(crate) fn file(&self, attempt: A) -> Result<(), A> {
        let mut state = self.state.lock();
        if state.over {
            return Err(attempt);
        }
        state.current = Some(attempt);
        state.unsure = false;
        drop(state);
        self.news.notify_all();
        Ok(())
    }

    /// The one that is under way.
    pub(crate) fn current(&self) -> Option<A> {
        self.state.lock().current.clone()
    }

    /// Takes the one that is under way, if it has ended: for one thread alone, which says when it is
    /// [settled](Attempts::settle).
    pub(crate) fn take_ended(&self, has_ended: impl Fn(&A) -> bool) -> Option<A> {
        let mut state = self.state.lock();
        let ended = state.current.take_if(|attempt| has_ended(attempt));
        state.unsure |= ended.is_some();
        ended
    }

    /// Ends the call, if it has not ended: then what is left of the attempts comes back.
    pub(crate) fn end(&self) -> Option<Left<A>> {
        let mut state = self.state.lock();
        if std::mem::replace(&mut state.over, true) {
            return None;
        }
        let attempt = state.current.take();
        Some(Left { may_have_run: attempt.is_some() || state.unsure, attempt })
    }

    /// Whether the call has ended, or is about to.
    pub(crate) fn is_over(&self) -> bool {
        self.state.lock().over
    }

    /// Blocks until there is an attempt or `is_done`, at most until `limit`.
    pub(crate) fn wait(&self, limit: Option<Instant>, is_done: impl Fn() -> bool) {
        let mut state = self.state.lock();
        while state.current.is_none() && !is_done() {
            match limit {
                Some(at) if self.news.wait_until(&mut state, at).timed_out() => return,
                Some(_) => {}
                None => self.news.wait(&mut state),
            }
        }
    }

    /// What is asked for in [`wait`](Attempts::wait) is done, which is not under the lock.
    pub(crate) fn tell(&self) {
        // Whoever has looked, and found nothing, sleeps by the time that the lock is free: else it would go to
        // sleep behind the call.
        drop(self.state.lock());
        self.news.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, thread, time::Duration};

    use super::*;
    use crate::sync::{Arc, AtomicBool, Ordering};

    /// Red when the lock is not taken in `tell`.
    #[test]
    fn p_40_a_call_between_the_look_and_the_sleep_is_heard() {
        let shared = Arc::new((Attempts::<()>::new(), AtomicBool::new(false)));
        let (look, looked) = mpsc::channel();
        let (told, is_told) = mpsc::channel();
        let (wake, woken) = mpsc::channel();
        let theirs = shared.clone();
        let waiter = thread::spawn(move || {
            let (attempts, so) = &*theirs;
            attempts.wait(None, || {
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
        let (attempts, so) = &*shared;
        so.store(true, Ordering::Release);
        attempts.tell();
        // The waiter may be awake, and have dropped its end.
        let _ = told.send(());
        woken.recv_timeout(Duration::from_secs(30)).expect("it is woken");
        waiter.join().unwrap();
    }
}

#[cfg(all(loom, test))]
mod models {
    use super::*;
    use crate::sync::{
        Arc,
        modelled::{AtomicBool, AtomicU32, Ordering, model, spawn},
    };

    /// An attempt, and whether it has ended.
    type Flag = Arc<AtomicBool>;

    /// A call as its relay drives it: whoever ends an attempt makes the next one, or ends the call.
    struct Call {
        attempts: Attempts<Flag>,
        /// How many more there are to be.
        more: AtomicU32,
        /// How often the call has ended, which is seen by its caller.
        ends: AtomicU32,
    }

    impl Call {
        fn new(more: u32) -> Arc<Call> {
            Arc::new(Call { attempts: Attempts::new(), more: AtomicU32::new(more), ends: AtomicU32::new(0) })
        }

        fn launch(&self) {
            let flag = Flag::default();
            if self.attempts.file(flag).is_ok() {
                self.advance();
            }
        }

        /// As somebody who ends an attempt, if there is one.
        fn strike(&self) {
            if let Some(flag) = self.attempts.current() {
                flag.store(true, Ordering::Release);
                self.advance();
            }
        }

        fn advance(&self) {
            if self.attempts.take_ended(|flag| flag.load(Ordering::Acquire)).is_none() {
                return;
            }
            if self.more.load(Ordering::Acquire) == 0 {
                return self.finish();
            }
            self.more.fetch_sub(1, Ordering::AcqRel);
            self.launch();
        }

        fn finish(&self) {
            if self.attempts.end().is_some() {
                self.ends.fetch_add(1, Ordering::AcqRel);
                self.attempts.tell();
            }
        }

        fn is_done(&self) -> bool {
            self.ends.load(Ordering::Acquire) > 0
        }

        /// As the caller, who ends each attempt itself as soon as it sees it.
        fn wait(&self) {
            while !self.is_done() {
                self.attempts.wait(None, || self.is_done());
                self.strike();
            }
        }
    }

    #[test]
    fn loom_attempts_whoever_waits_sees_the_next_one() {
        model(|| {
            let call = Call::new(1);
            let theirs = call.clone();
            let next_link = spawn(move || theirs.launch());
            call.wait();
            next_link.join().unwrap();
            assert_eq!(call.ends.load(Ordering::Acquire), 1);
        });
    }

    #[test]
    fn loom_attempts_whoever_waits_sees_the_end() {
        model(|| {
            let call = Call::new(0);
            let theirs = call.clone();
            // Between two links: the call ends without another attempt.
            let over = spawn(move || theirs.finish());
            call.wait();
            over.join().unwrap();
            assert_eq!(call.ends.load(Ordering::Acquire), 1);
        });
    }

    #[test]
    fn loom_attempts_a_call_ends_once_whoever_ends_it() {
        model(|| {
            let call = Call::new(1);
            let (launches, cancels) = (call.clone(), call.clone());
            let launching = spawn(move || {
                launches.launch();
                launches.strike();
            });
            let cancelling = spawn(move || cancels.finish());
            call.wait();
            launching.join().unwrap();
            cancelling.join().unwrap();
            assert_eq!(call.ends.load(Ordering::Acquire), 1);
            assert!(
                call.attempts.is_over() && call.attempts.current().is_none(),
                "it is under way for nobody"
            );
        });
    }
}
