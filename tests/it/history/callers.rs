//! Threads that call in every way there is, and write down how each call begins and ends.

use std::{
    future::Future,
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context as Task, Poll, Wake, Waker},
    thread,
    time::Duration,
};

use fastrand::Rng;
use nape::{Action, ApiHandle, AsyncResult, Bytes, CallError, Endpoint, LinkState, Misuse, Timeout};

use super::served::{METHODS, Method};

pub type Outcome = Result<Bytes, CallError>;

/// What happened to a call.
#[derive(Debug)]
pub enum Event {
    Begin(Method),
    /// It is under way, and calls back at its end.
    Left,
    End(Outcome),
    /// Its handle was dropped: there is no end to hear of.
    Dropped,
    /// Something that must not be.
    Wrong(String),
    /// Dropping the link begins, and has ended. No call's own.
    DropBegins,
    DropEnded,
}

/// Everything that happened, in the order in which it was written down.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<(u64, Event)>>>);

impl Log {
    pub fn note(&self, number: u64, event: Event) {
        self.0.lock().unwrap().push((number, event));
    }

    pub fn read<R>(&self, read: impl FnOnce(&[(u64, Event)]) -> R) -> R {
        read(&self.0.lock().unwrap())
    }
}

/// How a call is made, and its end taken.
#[derive(Clone, Copy, Debug)]
enum Style {
    Call,
    Wait,
    WaitInParts,
    Poll,
    Await,
    Ready,
    Then,
    CancelAndWait,
    Drop,
}

const STYLES: [Style; 9] = [
    Style::Call,
    Style::Wait,
    Style::WaitInParts,
    Style::Poll,
    Style::Await,
    Style::Ready,
    Style::Then,
    Style::CancelAndWait,
    Style::Drop,
];

pub struct Caller<'a> {
    pub history: ApiHandle,
    pub endpoint: Endpoint,
    pub log: Log,
    pub numbers: &'a AtomicU64,
    pub over: &'a AtomicBool,
}

impl Caller<'_> {
    /// Calls until it is over, and once more.
    pub fn run(&self, mut chance: Rng) {
        loop {
            let last = self.over.load(Ordering::Acquire);
            self.one(&mut chance);
            if last {
                return;
            }
            if self.endpoint.state() == LinkState::Closed {
                // What is said of these is soon told.
                thread::sleep(Duration::from_millis(1));
            }
        }
    }

    fn one(&self, chance: &mut Rng) {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let method = METHODS[chance.usize(..METHODS.len())];
        let style = STYLES[chance.usize(..STYLES.len())];
        let times = [0, 1, 1000, 5000, 20_000, 60_000].map(Duration::from_micros);
        // Whoever blocks for what never comes makes no other calls.
        let blocks =
            method == Method::Never && !matches!(style, Style::Then | Style::CancelAndWait | Style::Drop);
        let timeout = match chance.u64(..if blocks { 64 } else { 8 }) {
            0 => Timeout::Never,
            1 => Timeout::After(Duration::from_secs(40)),
            _ => Timeout::After(times[chance.usize(..times.len())]),
        };
        let argument = method.argument(number);
        let action = self.history.action(method.path(), (number, argument)).timeout(timeout);
        self.log.note(number, Event::Begin(method));
        self.make(number, style, action, chance);
    }

    fn make(&self, number: u64, style: Style, action: Action<(u64, Bytes)>, chance: &mut Rng) {
        let end = |outcome| self.log.note(number, Event::End(outcome));
        match style {
            Style::Call => return end(action.call()),
            Style::Then => {
                let log = self.log.clone();
                let noted = action.then(move |outcome: Outcome| log.note(number, Event::End(outcome)));
                return match noted {
                    Ok(()) => self.log.note(number, Event::Left),
                    Err(error) => end(Err(error)),
                };
            }
            _ => {}
        }
        let mut started = match action.start::<Bytes>() {
            Ok(started) => started,
            Err(error) => return end(Err(error)),
        };
        let pause = Duration::from_micros(chance.u64(..500));
        match style {
            Style::Wait => end(started.wait()),
            Style::WaitInParts => self.take(number, started, |it| it.wait_timeout(pause)),
            Style::Poll => self.take(number, started, |it| {
                thread::sleep(pause);
                it.try_wait()
            }),
            Style::Ready => self.take(number, started, |it| {
                let _ = it.ready().recv_timeout(Duration::from_millis(20));
                it.try_wait()
            }),
            Style::Await => end(block_on(&mut started)),
            Style::CancelAndWait => {
                thread::sleep(pause);
                started.cancel();
                end(started.wait());
            }
            Style::Drop => {
                thread::sleep(pause);
                drop(started);
                self.log.note(number, Event::Dropped);
            }
            Style::Call | Style::Then => unreachable!("they have returned"),
        }
    }

    /// Asks until there is an end, and then once more.
    fn take(
        &self,
        number: u64,
        mut started: AsyncResult<Bytes>,
        ask: impl Fn(&mut AsyncResult<Bytes>) -> Result<Option<Bytes>, CallError>,
    ) {
        let outcome = loop {
            if let Some(outcome) = ask(&mut started).transpose() {
                break outcome;
            }
        };
        self.log.note(number, Event::End(outcome));
        match started.try_wait() {
            Err(CallError::Misuse(Misuse::Taken { .. })) => {}
            again => self.log.note(number, Event::Wrong(format!("a second end: {again:?}"))),
        }
    }
}

struct Unpark(thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Unpark>) {
        self.0.unpark();
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Task::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park(),
        }
    }
}
