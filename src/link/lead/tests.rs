//! The way to the reader role that nothing else leads along often enough to be seen.

use std::{io, sync::mpsc, thread};

use super::*;
use crate::{
    config::Config,
    counters::Tally,
    error::{CloseReason, Rejection},
    link::{Dispatch, Incoming, LinkParts, LinkState, Slot, message::Cargo, role::Role, state::State},
    sync::{Arc, AtomicBool, Mutex, OwnMutex},
    transport::{FrameSender, memory_pair},
    wire::{HEADER_LEN, Side},
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

    fn event_lost(&self, _: &Arc<Link>, _: Rejection) {}
}

struct Broken;

impl FrameSender for Broken {
    fn send(&mut self, _: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::BrokenPipe.into())
    }
}

/// Something waits to go with more of its kind when the thread that should send it is asked to read. It has the
/// role already when the sending fails, and nobody else can tell it. Red when it does not look before it reads.
#[test]
fn p_19_a_thread_that_is_to_lead_and_cannot_send_ends_the_link() {
    let (ours, theirs) = memory_pair();
    let parts = LinkParts {
        side: Side::Head,
        config: Config::default(),
        listeners: Arc::new(Lane::new(1)),
        dispatch: Arc::new(Nobody),
        tally: Arc::new(Tally::default()),
    };
    let mut state = State::greeted(Side::Head, &parts.config);
    state.handle_ready();
    state.begin_event(Cargo::Bytes(vec![0; HEADER_LEN + 8].into()), None).ok().unwrap();
    let wiring = Wiring::Framed(Box::new(Framed {
        role: Role::new(ours.receiver, None),
        batch: Mutex::default(),
        sender: OwnMutex::new(Some(Box::new(Broken))),
        nudge: Mutex::new(Some(ours.nudge)),
        look_around: AtomicBool::new(false),
        wakes_at_deadlines: true,
    }));
    let link = Link::assemble(parts, state, wiring, None);
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
