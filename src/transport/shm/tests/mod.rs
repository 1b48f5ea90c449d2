//! The ring against a model, against time, and against a peer that writes what it likes.

mod hammer;
mod hostile;
mod model;
mod refused;

use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    thread,
    time::Duration,
};

use super::{bell::OwnBell, lane::HeapLane, receiver::ShmReceiver, sender::ShmSender};

/// Both halves of one direction, in so many words on the heap.
fn lane(words: usize) -> (HeapLane, ShmSender<HeapLane>, ShmReceiver<HeapLane>, OwnBell) {
    let (lane, own) = (HeapLane::new(words), OwnBell::new());
    let sender = ShmSender::new(lane.clone(), OwnBell::new());
    let receiver = ShmReceiver::new(lane.clone(), own.clone());
    (lane, sender, receiver, own)
}

/// Runs a test, and fails it when it hangs.
fn watched(test: impl FnOnce() + Send + 'static) {
    let (done, finished) = crossbeam_channel::bounded(1);
    helper(move || drop(done.send(catch_unwind(AssertUnwindSafe(test)))));
    match finished.recv_timeout(crate::soak::patience() * HANG) {
        Ok(Ok(())) => {}
        Ok(Err(panic)) => resume_unwind(panic),
        Err(_) => panic!("it hangs"),
    }
}

fn helper<T: Send + 'static>(job: impl FnOnce() -> T + Send + 'static) -> thread::JoinHandle<T> {
    thread::Builder::new().name("shm test".into()).spawn(job).expect("a thread for the test")
}

/// How long anything may take before it counts as a hang.
const HANG: Duration = Duration::from_secs(60);
