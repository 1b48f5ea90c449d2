//! A way out that fails while the thread that finds out is the one that reads.

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crossbeam_channel::unbounded;
use nape::{
    Api, CloseReason, Context, Fault, Head, LinkState, Neck, Responder, Timeout,
    transport::{
        FrameReceiver, FrameSender, Nudge, Received, Transport, ipc_pair, memory_pair, pipe_pair, shm_pair,
    },
};

use crate::{
    raw_end::{BYE, RawNeck, frame},
    support::watched,
    tools::{LONG, eventually},
};

struct Breaking {
    /// Somebody else holds it, too, so that the other side does not see its end.
    inner: Arc<Mutex<Box<dyn FrameSender>>>,
    broken: Arc<AtomicBool>,
}

impl FrameSender for Breaking {
    fn send(&mut self, packet: &[u8]) -> io::Result<()> {
        if self.broken.load(Ordering::Acquire) {
            Err(io::ErrorKind::BrokenPipe.into())
        } else {
            self.inner.lock().unwrap().send(packet)
        }
    }
}

/// Nobody calls here: whoever reads events owes the other side credit, and sends it.
fn the_reader_leaves((ours, theirs): (Transport, Transport)) {
    let broken = Arc::new(AtomicBool::new(false));
    let inner = Arc::new(Mutex::new(ours.sender));
    let sender = Box::new(Breaking { inner: inner.clone(), broken: broken.clone() });
    let taken = Arc::new(AtomicU64::new(0));
    let count = taken.clone();
    let event = move |_: &Context, _: u64| {
        count.fetch_add(1, Ordering::Release);
        Ok::<_, Fault>(())
    };
    let api = Api::new("a").handle("event", event).unwrap();
    let head = Head::builder().serve(api).over(Transport { sender, ..ours }).unwrap();
    let neck = Neck::builder().over(theirs).unwrap().start();
    eventually(|| head.state() == LinkState::Open && neck.state() == LinkState::Open);
    broken.store(true, Ordering::Release);
    // One at a time, so that nothing comes behind the one whose credit cannot be sent.
    for n in 0..500u64 {
        if neck.api("a").action("event", n).fire().is_err() || head.state() == LinkState::Closed {
            break;
        }
        eventually(|| taken.load(Ordering::Acquire) > n || head.state() == LinkState::Closed);
    }
    eventually(|| head.state() == LinkState::Closed);
    // The thread that read is gone, although the other side still holds its end open.
    eventually(|| head.hang_report().to_string().contains("0 threads"));
    drop((head, neck, inner));
}

/// Nobody blocks here: whoever reads answers owes the other side credit, and sends it, or the calls that wait.
fn the_reader_of_answers_leaves((ours, theirs): (Transport, Transport)) {
    let broken = Arc::new(AtomicBool::new(false));
    let inner = Arc::new(Mutex::new(ours.sender));
    let sender = Box::new(Breaking { inner: inner.clone(), broken: broken.clone() });
    let (keep, kept) = unbounded::<Responder<u64>>();
    let api = Api::new("a").deferred("ask", move |_: Context, (): (), answer| keep.send(answer).unwrap());
    let head = Head::builder().over(Transport { sender, ..ours }).unwrap();
    let neck = Neck::builder().serve(api.unwrap()).over(theirs).unwrap().start();
    let ask = || head.api("a").action("ask", ()).timeout(Timeout::Never).start::<u64>().unwrap();
    let calls: Vec<_> = (0..CALLS).map(|_| ask()).collect();
    eventually(|| kept.len() == CALLS);
    broken.store(true, Ordering::Release);
    let done = || calls.iter().filter(|call| call.is_done()).count();
    // One at a time, so that nothing comes behind the one whose credit cannot be sent.
    for n in 1..=CALLS {
        kept.recv().unwrap().answer(7);
        eventually(|| done() >= n);
    }
    eventually(|| head.state() == LinkState::Closed);
    eventually(|| head.hang_report().to_string().contains("0 threads"));
    drop((head, neck, inner));
}

/// More than half of any window.
const CALLS: usize = 100;

/// Fails from some moment on, and wakes whoever reads then.
struct Failing(Breaking, Arc<dyn Nudge>);

impl FrameSender for Failing {
    fn send(&mut self, packet: &[u8]) -> io::Result<()> {
        self.0.send(packet).inspect_err(|_| self.1.nudge())
    }
}

/// The last words of the other side come once nothing can be sent any more, and only to somebody who waits for them.
struct LastWords {
    inner: Box<dyn FrameReceiver>,
    broken: Arc<AtomicBool>,
    words: Option<Vec<u8>>,
}

impl FrameReceiver for LastWords {
    fn receive(&mut self, deadline: Option<Instant>) -> io::Result<Received> {
        let mut said = || self.words.take_if(|_| self.broken.load(Ordering::Acquire));
        match said() {
            Some(words) => Ok(Received::Packet(words)),
            None => match self.inner.receive(deadline)? {
                Received::Nudge => Ok(said().map_or(Received::Nudge, Received::Packet)),
                other => Ok(other),
            },
        }
    }

    fn try_receive(&mut self) -> io::Result<Option<Received>> {
        self.inner.try_receive()
    }
}

/// As where another thread of the other side has yet to send them.
fn last_words_are_heard((ours, theirs): (Transport, Transport)) {
    let broken = Arc::new(AtomicBool::new(false));
    let breaking = Breaking { inner: Arc::new(Mutex::new(ours.sender)), broken: broken.clone() };
    let sender = Box::new(Failing(breaking, ours.nudge.clone()));
    let words = Some(frame(BYE, 0, (0, 0), &9u16.to_le_bytes()));
    let receiver = Box::new(LastWords { inner: ours.receiver, broken: broken.clone(), words });
    let head = Head::builder().over(Transport { sender, receiver, ..ours }).unwrap();
    let neck = RawNeck::ready(theirs);
    assert_eq!(head.wait_open(LONG), LinkState::Open);
    broken.store(true, Ordering::Release);
    let began = Instant::now();
    let error = head.api("a").action("ask", ()).timeout(Timeout::Never).call::<()>().unwrap_err();
    let reason = error.close_reason().unwrap();
    // They are waited for, and not for ever: a machine that stands still for so long misses them.
    let is_late = began.elapsed() >= Duration::from_millis(100);
    assert!(matches!(reason, CloseReason::Accused { code: 9 }) || is_late, "{reason:?}");
    drop((head, neck));
}

/// Red when a link ends as soon as nothing can be sent, with what is there to be read by then.
#[test]
fn p_03_the_last_words_of_a_side_that_reads_no_more_are_heard() {
    watched(|| (0..20).for_each(|_| last_words_are_heard(memory_pair())));
    watched(|| last_words_are_heard(ipc_pair().unwrap()));
    watched(|| last_words_are_heard(pipe_pair().unwrap()));
    watched(|| last_words_are_heard(shm_pair().unwrap()));
}

#[test]
fn p_19_a_send_that_fails_ends_the_thread_that_reads_answers_too() {
    watched(|| (0..20).for_each(|_| the_reader_of_answers_leaves(memory_pair())));
    watched(|| the_reader_of_answers_leaves(ipc_pair().unwrap()));
    watched(|| the_reader_of_answers_leaves(pipe_pair().unwrap()));
    watched(|| the_reader_of_answers_leaves(shm_pair().unwrap()));
}

#[test]
fn p_19_a_send_that_fails_ends_the_thread_that_reads_too() {
    watched(|| the_reader_leaves(memory_pair()));
    watched(|| the_reader_leaves(ipc_pair().unwrap()));
    watched(|| the_reader_leaves(pipe_pair().unwrap()));
    watched(|| the_reader_leaves(shm_pair().unwrap()));
}
