//! Both ends of every kind of link, and a watchdog for what could hang.

use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use crossbeam_channel::Receiver;
use nape::{Api, Head, HeadBuilder, Neck, NeckBuilder, transport::ipc_pair};

/// How long anything may take before it counts as a hang.
pub const HANG: Duration = Duration::from_secs(60);

/// "Soon" is 50 ms on an idle machine; tests grant five times as much.
pub const SOON: Duration = Duration::from_millis(250);

/// A kind of link, with its two ends in this process.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// Values move.
    Channel,
    /// The same, encoded.
    Encoded,
    /// Over ipc-channel.
    Ipc,
}

impl Kind {
    /// Both ends with defaults. The Neck has not started.
    pub fn ends(self) -> (Head, Neck) {
        self.ends_with(Head::builder(), Neck::builder())
    }

    /// Both ends. The Neck has not started.
    pub fn ends_with(self, head: HeadBuilder, neck: NeckBuilder) -> (Head, Neck) {
        match self {
            Kind::Channel => head.in_process_with(neck).unwrap(),
            Kind::Encoded => head.in_process_encoded(neck).unwrap(),
            Kind::Ipc => {
                let (ours, theirs) = ipc_pair().unwrap();
                (head.over(ours).unwrap(), neck.over(theirs).unwrap())
            }
        }
    }

    /// Both ends, the Neck with an API and started.
    pub fn serving(self, api: Api) -> (Head, Neck) {
        let (head, neck) = self.ends();
        (head, neck.serve(api).unwrap().start())
    }

    /// Whether bytes travel.
    pub fn encodes(self) -> bool {
        !matches!(self, Kind::Channel)
    }
}

/// Makes a test of each function for each kind of link. A new kind joins by one line here.
macro_rules! on_every_link {
    ($($test:ident),* $(,)?) => {
        mod channel { $(#[test] fn $test() { $crate::support::watched(|| super::$test($crate::support::Kind::Channel)) })* }
        mod encoded { $(#[test] fn $test() { $crate::support::watched(|| super::$test($crate::support::Kind::Encoded)) })* }
        mod ipc { $(#[test] fn $test() { $crate::support::watched(|| super::$test($crate::support::Kind::Ipc)) })* }
    };
}

/// Runs a test, and fails it when it hangs.
pub fn watched(test: impl FnOnce() + Send + 'static) {
    let (done, finished) = mpsc::channel();
    let name = thread::current().name().unwrap_or("test").to_owned();
    thread::Builder::new()
        .name(name.clone())
        .spawn(move || {
            let _ = done.send(catch_unwind(AssertUnwindSafe(test)));
        })
        .unwrap();
    match finished.recv_timeout(HANG) {
        Ok(Ok(())) => {}
        Ok(Err(panic)) => resume_unwind(panic),
        Err(_) => panic!("{name} hangs"),
    }
}

/// Waits until `holds`, and fails the test if it never does. For what no channel tells.
#[track_caller]
pub fn eventually(holds: impl Fn() -> bool) {
    let end = Instant::now() + HANG / 2;
    while !holds() {
        assert!(Instant::now() < end, "it never came to hold");
        thread::yield_now();
    }
}

/// The one thing that comes out of a channel whose sender goes to a callback: exactly one.
#[track_caller]
pub fn only<T>(told: &Receiver<T>) -> T {
    let first = told.recv_timeout(HANG / 2).expect("the callback did not run");
    assert!(told.recv_timeout(HANG / 2).is_err_and(|error| error.is_disconnected()), "it ran again");
    first
}

/// That no call is under way on either side any more.
#[track_caller]
pub fn nothing_is_under_way(head: &Head, neck: &Neck) {
    eventually(|| head.under_way() == (0, 0) && neck.under_way() == (0, 0));
}
