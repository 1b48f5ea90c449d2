//! The way to the reader role that nothing else leads along often enough to be seen.

use std::{
    io,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use super::*;
use crate::{
    config::Config,
    counters::Tally,
    error::CloseReason,
    link::{Dispatch, Incoming, LinkParts, LinkState, Lost, Slot, message::Cargo, role::Role, state::State},
    sync::{Arc, AtomicBool, Mutex, OwnMutex},
    transport::{FrameReceiver, FrameSender, Received, Transport, memory_pair},
    wire::{Ack, EventHead, Flags, HEADER_LEN, Header, Kind, Side},
    workers::{Job, Lane},
};

/// Nobody to hand anything to.
struct Nobody;

impl Dispatch for Nobody {
    fn dispatch(&self, _: &Arc<Link>, _: Incoming, _: Option<&Arc<Slot>>) -> Option<Errand> {
        None
    }

    fn changed(&self, _: &Arc<Link>, _: LinkState) -> Vec<Job> {
        Vec::new()
    }

    fn callback_panicked(&self, _: &Arc<Link>, _: String) {}

    fn late_reply(&self, _: &Arc<Link>) {}

    fn event_lost(&self, _: &Arc<Link>, _: Lost) -> Option<Errand> {
        None
    }
}

struct Broken;

impl FrameSender for Broken {
    fn send(&mut self, _: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::BrokenPipe.into())
    }
}

fn link(state: State<Arc<Slot>>, transport: Transport) -> Arc<Link> {
    let parts = LinkParts {
        side: Side::Head,
        config: Config::default(),
        listeners: Arc::new(Lane::new(1)),
        dispatch: Arc::new(Nobody),
        tally: Arc::new(Tally::default()),
    };
    let wiring = Wiring::Framed(Box::new(Framed {
        role: Role::new(transport.receiver, None),
        batch: Mutex::default(),
        sender: OwnMutex::new(Some(transport.sender)),
        nudge: Mutex::new(Some(transport.nudge)),
        look_around: AtomicBool::new(false),
        owed: Mutex::default(),
        owes: AtomicBool::new(false),
        wakes_at_deadlines: true,
    }));
    Link::assemble(parts, state, wiring, None)
}

/// Takes all that it is given, and always has another event.
struct Flood(u64);

impl FrameSender for Flood {
    fn send(&mut self, _: &[u8]) -> io::Result<()> {
        Ok(())
    }
}

impl FrameReceiver for Flood {
    fn receive(&mut self, _: Option<Instant>) -> io::Result<Received> {
        Ok(self.try_receive()?.expect("there is always another one"))
    }

    fn try_receive(&mut self) -> io::Result<Option<Received>> {
        self.0 += 1;
        let mut frame = vec![0; HEADER_LEN];
        EventHead { shape: 0, path: b"a.b" }.write(&mut frame);
        let id = 1 << 63 | self.0;
        Header { kind: Kind::Event, flags: Flags::default(), id, ack: Ack::default() }.write(&mut frame);
        Ok(Some(Received::Packet(frame)))
    }
}

/// A process has died, and another one that holds its end goes on to send. Red when all of that is read.
#[test]
fn p_02_what_comes_behind_a_death_keeps_no_link_alive() {
    let (ours, _theirs) = memory_pair();
    let mut state = State::greeted(Side::Head, &Config::default());
    state.handle_ready();
    state.say_ready();
    let link = link(state, Transport { sender: Box::new(Flood(0)), receiver: Box::new(Flood(0)), ..ours });
    let (told, is_over) = mpsc::channel();
    let theirs = link.clone();
    thread::spawn(move || {
        theirs.peer_died(CloseReason::Gone);
        told.send(()).unwrap();
    });
    is_over.recv_timeout(Duration::from_secs(30)).expect("it reads for ever");
    assert!(matches!(link.close_reason().as_deref(), Some(CloseReason::Gone)), "{:?}", link.close_reason());
}

/// Something waits to go with more of its kind when the thread that should send it is asked to read. It has the
/// role already when the sending fails, and nobody else can tell it. Red when it does not look before it reads.
#[test]
fn p_19_a_thread_that_is_to_lead_and_cannot_send_ends_the_link() {
    let (ours, theirs) = memory_pair();
    let mut state = State::greeted(Side::Head, &Config::default());
    state.handle_ready();
    state.begin_event(Cargo::Bytes(vec![0; HEADER_LEN + 8].into()), false, None).ok().unwrap();
    let link = link(state, Transport { sender: Box::new(Broken), ..ours });
    link.core.lock().gathering = true;
    let Wiring::Framed(framed) = &link.wiring else { unreachable!("it was made so") };
    framed.role.hurry();
    let (told, is_back) = mpsc::channel();
    let stand_by = StandBy(Arc::downgrade(&link));
    thread::spawn(move || told.send(stand_by.idle(false)));
    let next = is_back.recv_timeout(Duration::from_secs(30)).expect("it sleeps with the end in its hands");
    assert_eq!((next, link.stage()), (None, LinkState::Closed));
    assert!(matches!(link.close_reason().as_deref(), Some(CloseReason::Gone)));
    // Up to here the other side has held its end open.
    drop(theirs);
}
