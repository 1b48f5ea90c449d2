//! Transports that panic or fail at any packet: whoever waits for the link is told, and no thread stays.

use std::{
    io,
    time::{Duration, Instant},
};

use nape::{
    Api, CallError, CloseReason, Context, Fault, Head, LinkState, Neck, Timeout,
    transport::{
        FrameReceiver, FrameSender, Received, Transport, ipc_pair, memory_pair, pipe_pair, shm_pair,
    },
};

use crate::{
    support::watched,
    tools::{LONG, eventually},
};

/// What a half of a transport does when its time has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failure {
    Panic,
    Error,
}

struct Fails<T> {
    inner: T,
    left: u32,
    how: Failure,
}

impl<T> Fails<T> {
    fn count(&mut self) -> io::Result<()> {
        match (self.left.checked_sub(1), self.how) {
            (Some(left), _) => self.left = left,
            // As a panic, but without the noise on stderr.
            (None, Failure::Panic) => std::panic::resume_unwind(Box::new("a transport that panics")),
            (None, Failure::Error) => return Err(io::Error::other("a transport that fails")),
        }
        Ok(())
    }
}

impl FrameSender for Fails<Box<dyn FrameSender>> {
    fn send(&mut self, packet: &[u8]) -> io::Result<()> {
        self.count()?;
        self.inner.send(packet)
    }
}

impl FrameReceiver for Fails<Box<dyn FrameReceiver>> {
    fn receive(&mut self, deadline: Option<Instant>) -> io::Result<Received> {
        let received = self.inner.receive(deadline)?;
        self.count()?;
        Ok(received)
    }

    fn try_receive(&mut self) -> io::Result<Option<Received>> {
        self.inner.try_receive()
    }
}

/// Which half of it.
#[derive(Clone, Copy, Debug)]
enum Half {
    Sender,
    Receiver,
}

fn ends_with_a_reason((ours, theirs): (Transport, Transport), half: Half, how: Failure, at: u32) {
    let Transport { sender, receiver, .. } = ours;
    let (sender, receiver): (Box<dyn FrameSender>, Box<dyn FrameReceiver>) = match half {
        Half::Sender => (Box::new(Fails { inner: sender, left: at, how }), receiver),
        Half::Receiver => (sender, Box::new(Fails { inner: receiver, left: at, how })),
    };
    let echo = |_: &Context, n: u64| Ok::<_, Fault>(n);
    let never = |_: Context, (): (), answer: nape::Responder<()>| std::mem::forget(answer);
    let api = Api::new("a").handle("echo", echo).unwrap().deferred("never", never).unwrap();
    let neck = Neck::builder().serve(api).over(theirs).unwrap().start();
    let Ok(head) = Head::builder().over(Transport { sender, receiver, ..ours }) else { return };
    let a = head.api("a");
    let waits = a.action("never", ()).timeout(Timeout::Never).start::<()>();
    let mut n = 0u64;
    let error = loop {
        match a.action("echo", n).timeout(LONG).call::<u64>() {
            Ok(echo) => assert_eq!(echo, n),
            Err(error) => break error,
        }
        n += 1;
    };
    let what = format!("{half:?} {how:?} at {at}");
    for error in [Some(error), waits.and_then(nape::AsyncResult::wait).err()].into_iter().flatten() {
        let CallError::Closed { reason, .. } = error else { panic!("{what}: {error:?}") };
        let fits = match how {
            Failure::Panic => matches!(*reason, CloseReason::Broken(_)),
            Failure::Error => matches!(*reason, CloseReason::Io(_)),
        };
        assert!(fits, "{what}: {reason:?}");
    }
    eventually(|| head.state() == LinkState::Closed);
    eventually(|| head.hang_report().to_string().contains("0 threads"));
    let began = Instant::now();
    drop((head, neck));
    assert!(began.elapsed() < Duration::from_secs(10), "{what}: {:?}", began.elapsed());
}

/// Red when the panic of a sender is not caught.
#[test]
fn p_19_a_transport_that_panics_or_fails_ends_the_link_and_nothing_else() {
    for pair in [memory_pair, || ipc_pair().unwrap(), || pipe_pair().unwrap(), || shm_pair().unwrap()] {
        for half in [Half::Sender, Half::Receiver] {
            for how in [Failure::Panic, Failure::Error] {
                (2..7).for_each(|at| watched(move || ends_with_a_reason(pair(), half, how, at)));
            }
        }
    }
}
