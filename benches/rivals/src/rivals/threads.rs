//! Channels of crossbeam between two threads of one process, which move the values themselves.

use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::{
    contender::{Body, Callee, Pair, ThreadCall},
    lane::{self, Lane},
    place::Place,
    work::{IN_FLIGHT, Message, THREADS, Work},
};

/// Two channels; several threads have two each, and a callee each.
pub(crate) fn crossbeam(place: &Place, work: Work) -> Pair {
    let n = if work == Work::Threads { THREADS } else { 1 };
    let (mut lanes, threads): (Vec<_>, Vec<_>) = (0..n).map(|_| connect(place, work)).unzip();
    let body = match work {
        Work::Threads => {
            let one = |mut lane: Channels<Message, u64>| -> Box<ThreadCall> {
                Box::new(move |i| lane::call(&mut lane, i))
            };
            Body::Threads(lanes.into_iter().map(one).collect())
        }
        work => lane::body(lanes.remove(0), work),
    };
    Pair { body, callee: Callee::Threads(threads) }
}

fn connect(place: &Place, work: Work) -> (Channels<Message, u64>, JoinHandle<()>) {
    let (to_callee, requests) = bounded(IN_FLIGHT as usize);
    let (answers, from_callee) = bounded(IN_FLIGHT as usize);
    let theirs = Channels { sender: answers, receiver: requests };
    let start = || thread::Builder::new().name("callee".into()).spawn(move || lane::answer(theirs, work));
    let thread = place.on_callee(start).expect("a thread can be started");
    (Channels { sender: to_callee, receiver: from_callee }, thread)
}

struct Channels<Out, In> {
    sender: Sender<Out>,
    receiver: Receiver<In>,
}

impl<Out, In> Lane<Out, In> for Channels<Out, In> {
    fn send(&mut self, message: Out) -> bool {
        self.sender.send(message).is_ok()
    }

    fn receive(&mut self) -> Option<In> {
        self.receiver.recv().ok()
    }

    fn send_bytes(&mut self, _: &[u8]) -> bool {
        false // Nobody copies bytes in one process.
    }

    fn receive_bytes(&mut self, _: &dyn Fn(&[u8])) -> bool {
        false
    }

    fn echo_bytes(&mut self) -> bool {
        false
    }
}
