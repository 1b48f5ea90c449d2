//! What several modules need to hold handlers back and to wait for what they see.

use std::{
    cell::RefCell,
    env,
    process::{Command, Stdio},
    sync::{Arc, Condvar, Mutex},
    task::Wake,
    thread,
    time::{Duration, Instant},
};

use crossbeam_channel::Receiver;
use nape::{CallError, Head, Neck, Rejection};

/// "Soon" is 50 ms on an idle machine; a busy one gets five times as long.
pub const SOON: Duration = Duration::from_millis(250);

/// Far more than anything here takes, and less than the watchdog waits.
pub const LONG: Duration = Duration::from_secs(30);

/// Holds handlers back until it is opened.
#[derive(Clone, Default)]
pub struct Gate(Arc<(Mutex<Passed>, Condvar)>);

#[derive(Default)]
struct Passed {
    open: bool,
    waiting: usize,
}

impl Gate {
    /// Blocks until the gate is open.
    pub fn pass(&self) {
        let (state, changed) = &*self.0;
        let mut state = state.lock().unwrap();
        state.waiting += 1;
        changed.notify_all();
        let mut state = changed.wait_while(state, |state| !state.open).unwrap();
        state.waiting -= 1;
    }

    /// Lets everybody through from now on.
    pub fn open(&self) {
        self.0.0.lock().unwrap().open = true;
        self.0.1.notify_all();
    }

    /// The same when this goes, also because a test has failed: what waits at the gate would hang else.
    pub fn opens_at_the_end(&self) -> impl Drop + use<> {
        struct Opens(Gate);
        impl Drop for Opens {
            fn drop(&mut self) {
                self.0.open();
            }
        }
        Opens(self.clone())
    }

    /// Blocks until `n` stand before it.
    pub fn await_waiting(&self, n: usize) {
        let (state, changed) = &*self.0;
        let state = state.lock().unwrap();
        let (state, _) = changed.wait_timeout_while(state, LONG, |state| state.waiting < n).unwrap();
        let waiting = state.waiting;
        // Those who stand there can still be let through when this fails.
        drop(state);
        assert!(waiting >= n, "{waiting} of {n} came to the gate");
    }
}

/// A waker that takes its time.
pub struct Blocks(pub Gate);

impl Wake for Blocks {
    fn wake(self: Arc<Blocks>) {
        self.0.pass();
    }
}

/// Something of the user's that panics when it goes, without a word.
pub struct Touchy;

impl Drop for Touchy {
    fn drop(&mut self) {
        std::panic::resume_unwind(Box::new("a panic that is a part of the test"));
    }
}

/// Leaves something with the calling thread that stands at the gate when the thread ends.
pub fn leave_with_this_thread(gate: &Gate) {
    struct Kept(Gate);
    impl Drop for Kept {
        fn drop(&mut self) {
            self.0.pass();
        }
    }
    thread_local! {
        static KEPT: RefCell<Option<Kept>> = const { RefCell::new(None) };
    }
    KEPT.with_borrow_mut(|kept| _ = kept.get_or_insert_with(|| Kept(gate.clone())));
}

/// Looks until something is so that nobody announces.
#[track_caller]
pub fn until(what: &str, is_so: impl Fn() -> bool) {
    within(LONG, what, is_so);
}

/// The same for a promise with a time.
#[track_caller]
pub fn within(limit: Duration, what: &str, is_so: impl Fn() -> bool) {
    let end = Instant::now() + limit;
    while !is_so() {
        assert!(Instant::now() < end, "not after {limit:?}: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Does something again for as long as a queue on its way is full.
pub fn patiently<T>(mut attempt: impl FnMut() -> Result<T, CallError>) -> T {
    loop {
        match attempt() {
            Err(CallError::Rejected(Rejection::Busy { .. })) => thread::yield_now(),
            done => return done.unwrap(),
        }
    }
}

/// Whether a call found no handler for `path`.
pub fn is_unknown<T>(outcome: &Result<T, CallError>, path: &str) -> bool {
    matches!(outcome, Err(CallError::Rejected(Rejection::NoHandler { path: at })) if at.as_str() == path)
}

/// Whether a call was refused because of a full queue.
pub fn is_busy<T>(outcome: &Result<T, CallError>, path: &str) -> bool {
    matches!(outcome, Err(CallError::Rejected(Rejection::Busy { path: at, .. })) if at.as_str() == path)
}

/// The same without words, where the line says them.
#[track_caller]
pub fn eventually(is_so: impl Fn() -> bool) {
    until("what that line says", is_so);
}

/// The one thing that comes out of a channel whose sender goes to a callback: exactly one.
#[track_caller]
pub fn only<T>(told: &Receiver<T>) -> T {
    let first = told.recv_timeout(LONG).expect("the callback did not run");
    assert!(told.recv_timeout(LONG).is_err_and(|error| error.is_disconnected()), "it ran again");
    first
}

/// That no call is under way on either side any more.
#[track_caller]
pub fn nothing_is_under_way(head: &Head, neck: &Neck) {
    eventually(|| head.under_way() == (0, 0) && neck.under_way() == (0, 0));
}

/// Set in the process that a test has for itself.
const ALONE: &str = "NAPE_TEST_ON_ITS_OWN";

/// Runs the rest of a test in a process of its own: this very test of this very program, told so.
pub fn alone(test: impl FnOnce()) {
    if env::var_os(ALONE).is_some() {
        return test();
    }
    // The watchdog has given its thread the name of the test.
    let name = thread::current().name().expect("it is watched").to_owned();
    let mut child = Command::new(env::current_exe().unwrap());
    child.args([&*name, "--exact", "--nocapture"]).env(ALONE, "1");
    let output = child.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{name} alone: {said}");
}

/// Makes this the logger of the process, for what is so grave or graver.
pub fn log_with(level: log::LevelFilter, write: impl Fn(&log::Record<'_>) + Send + Sync + 'static) {
    struct Logger<F>(F);
    impl<F: Fn(&log::Record<'_>) + Send + Sync> log::Log for Logger<F> {
        fn enabled(&self, _: &log::Metadata<'_>) -> bool {
            true
        }

        fn log(&self, record: &log::Record<'_>) {
            (self.0)(record);
        }

        fn flush(&self) {}
    }
    log::set_logger(Box::leak(Box::new(Logger(write)))).unwrap();
    log::set_max_level(level);
}
