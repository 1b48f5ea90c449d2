//! Every order in which the threads around a call can meet, tried by a model checker.
//!
//! ```text
//! RUSTFLAGS="--cfg loom" LOOM_MAX_PREEMPTIONS=3 cargo test --release --lib loom_link
//! ```
//!
//! The slots, the role of the reader, the line for it, the loop of whoever waits and the table of transactions
//! are as they are. The transport is a list of answers that are there from the start or come from another
//! thread, no deadline passes, and nobody ticks: where a thread of the crew would be woken, the thread that
//! would wake it does its work. A wake-up that is lost is a deadlock, which the checker reports.

use std::{
    collections::VecDeque,
    io,
    task::{Wake, Waker},
    time::Instant,
};

use super::{
    Remains, Slot,
    aftermath::Aftermath,
    calls::TransactionManager,
    errands::Offer,
    follow_up::Told,
    gate::Gate,
    role::{Reader, Role},
    wait::wait_in_line,
};
use crate::{
    error::CallError,
    sync::{
        Arc,
        modelled::{AtomicU32, Condvar, Mutex, Ordering::Relaxed, model, spawn},
    },
    transport::{FrameReceiver, Received},
    wire::{Path, Payload, Side, TransactionId},
    workers::{Job, run_elsewhere},
};

fn slot() -> Slot {
    Slot::new(Path::new("a.b").unwrap(), Instant::now(), None)
}

fn value(number: u8) -> Payload {
    Payload::from_bytes(vec![number])
}

fn fill(slot: &Slot, number: u8) -> Aftermath {
    slot.complete(Ok(value(number)), Instant::now())
}

/// What a call ended with; the thread that asks has waited for it.
fn came(slot: &Slot) -> u8 {
    assert!(slot.is_done());
    let outcome = slot.take().expect("it is there");
    assert!(slot.take().is_none(), "it was there twice");
    outcome.expect("it is a value").bytes()[0]
}

// The slot.

#[test]
fn loom_link_an_end_wakes_whoever_parks() {
    model(|| {
        let slot = Arc::new(slot());
        let other = slot.clone();
        let thread = spawn(move || drop(fill(&other, 1)));
        slot.block();
        while !slot.is_done() {
            slot.park(None);
        }
        assert_eq!(came(&slot), 1);
        thread.join().unwrap();
    });
}

#[test]
fn loom_link_of_two_ends_one_counts() {
    model(|| {
        let slot = Arc::new(slot());
        slot.block();
        let end = |slot: Arc<Slot>, number| move || fill(&slot, number).woke_caller;
        let thread = spawn(end(slot.clone(), 1));
        let mine = end(slot.clone(), 2)();
        let theirs = thread.join().unwrap();
        assert!(mine != theirs, "each end counts, or none does");
        assert_eq!(came(&slot), if mine { 2 } else { 1 });
    });
}

struct Nothing;

impl Remains for Nothing {
    fn settle(self: Box<Self>) -> Option<TransactionId> {
        None
    }
}

#[test]
fn loom_link_the_short_way_and_the_long_one_meet_nowhere() {
    model(|| {
        let mut slot = slot();
        slot.will_block(true);
        let slot = Arc::new(slot);
        let other = slot.clone();
        let thread = spawn(move || {
            if let Err((value, _)) = other.fill_watched(value(1), Box::new(Nothing), || ()) {
                let _ = other.complete(Ok(value), Instant::now());
            }
        });
        match slot.watch() {
            Some((value, _)) => assert_eq!(value.bytes()[0], 1),
            None => {
                while !slot.is_done() {
                    slot.park(None);
                }
                assert_eq!(came(&slot), 1);
            }
        }
        thread.join().unwrap();
    });
}

#[test]
fn loom_link_an_errand_is_run_or_declined() {
    model(|| {
        let slot = Arc::new(slot());
        let runs = Arc::new(AtomicU32::new(0));
        let (offers, ends, ran) = (slot.clone(), slot.clone(), runs.clone());
        let offering = spawn(move || {
            let job: Job = Box::new(move || drop(ran.fetch_add(1, Relaxed)));
            offers.offer(job) != Offer::Declined
        });
        let ending = spawn(move || drop(fill(&ends, 1)));
        slot.block();
        while !slot.is_done() {
            slot.park(None);
            while let Some(errand) = slot.take_errand() {
                run_elsewhere(errand);
            }
        }
        slot.unblock().into_iter().for_each(run_elsewhere);
        ending.join().unwrap();
        let taken = offering.join().unwrap();
        assert_eq!(runs.load(Relaxed), u32::from(taken), "an errand is lost");
        assert_eq!(came(&slot), 1);
    });
}

/// A thread waits in the transport, and comes out when it is nudged.
#[test]
fn loom_link_an_errand_reaches_whoever_is_inside_the_transport() {
    model(|| {
        let slot = Arc::new(slot());
        let nudged = Arc::new((Mutex::new(false), Condvar::new()));
        let ran = Arc::new(AtomicU32::new(0));
        slot.block();
        let (offers, nudges, runs) = (slot.clone(), nudged.clone(), ran.clone());
        let offering = spawn(move || {
            let job: Job = Box::new(move || drop(runs.fetch_add(1, Relaxed)));
            if let Offer::Taken { reads: Some(_) } = offers.offer(job) {
                *nudges.0.lock() = true;
                nudges.1.notify_all();
            }
        });
        while ran.load(Relaxed) == 0 {
            if slot.set_reading(true) {
                let mut come = nudged.0.lock();
                while !*come {
                    nudged.1.wait(&mut come);
                }
                slot.set_reading(false);
            }
            slot.take_errand().into_iter().for_each(run_elsewhere);
        }
        offering.join().unwrap();
        assert!(slot.unblock().is_empty());
    });
}

struct Count(AtomicU32);

impl Wake for Count {
    fn wake(self: Arc<Count>) {
        self.0.fetch_add(1, Relaxed);
    }
}

#[test]
fn loom_link_a_waker_is_woken_or_comes_too_late() {
    model(|| {
        let slot = Arc::new(slot());
        let count = Arc::new(Count(AtomicU32::new(0)));
        let other = slot.clone();
        let thread =
            spawn(move || fill(&other, 1).told.and_then(Told::waker).into_iter().for_each(Waker::wake));
        let in_time = slot.set_waker(&count.clone().into());
        thread.join().unwrap();
        assert_eq!(count.0.load(Relaxed), u32::from(in_time));
    });
}

#[test]
fn loom_link_who_is_roused_looks_again() {
    model(|| {
        let (seat, items) = (Arc::new(slot()), Arc::new(AtomicU32::new(0)));
        let (other, put) = (seat.clone(), items.clone());
        let thread = spawn(move || {
            put.store(1, Relaxed);
            other.rouse();
        });
        seat.block();
        loop {
            seat.calm();
            if items.load(Relaxed) == 1 {
                break;
            }
            seat.park(None);
        }
        thread.join().unwrap();
    });
}

// The role.

/// Where answers come from, in the place of a transport.
struct Answers {
    /// The calls whose answers come next.
    order: Mutex<VecDeque<usize>>,
    slots: Vec<Arc<Slot>>,
    role: Role,
}

struct Empty;

impl FrameReceiver for Empty {
    fn receive(&mut self, _: Option<Instant>) -> io::Result<Received> {
        Ok(Received::Nudge)
    }

    fn try_receive(&mut self) -> io::Result<Option<Received>> {
        Ok(None)
    }
}

impl Answers {
    fn new<const N: usize>(order: [usize; N]) -> Arc<Answers> {
        let slots = (0..N).map(|_| Arc::new(slot())).collect();
        let (order, role) = (Mutex::new(order.into()), Role::new(Box::new(Empty), None));
        Arc::new(Answers { order, slots, role })
    }

    /// Takes the next answer out of the transport, and ends its call.
    fn read_one(&self) -> bool {
        let Some(next) = self.order.lock().pop_front() else { return false };
        drop(fill(&self.slots[next], next as u8));
        true
    }

    /// Reads for a call until it has ended, as a link does.
    fn read_for(&self, slot: &Slot, reader: Reader) {
        while slot.set_reading(true) {
            assert!(self.read_one(), "it reads for an answer that has come");
        }
        if self.role.release(reader, false) {
            self.lead();
        }
    }

    /// What a thread of the crew does that was woken, done here.
    fn lead(&self) {
        let Some(reader) = self.role.take() else { return };
        while self.read_one() {}
        let _ = self.role.release(reader, false);
    }

    fn step_out(&self, slot: &Arc<Slot>) {
        if self.role.step_out(slot) {
            self.lead();
        }
    }

    /// Waits for a call, and steps out of the line.
    fn wait(&self, which: usize) {
        let slot = &self.slots[which];
        slot.block();
        let read = |reader| self.read_for(slot, reader);
        if wait_in_line(&self.role, slot, None, || slot.is_done(), || self.step_out(slot), read) {
            self.step_out(slot);
        }
        assert!(slot.unblock().is_empty());
        assert_eq!(came(slot), which as u8);
    }
}

fn callers<const N: usize>(order: [usize; N]) {
    model(move || {
        let answers = Answers::new(order);
        let waits = |which| {
            let answers = answers.clone();
            spawn(move || answers.wait(which))
        };
        let threads: Vec<_> = (1..N).map(waits).collect();
        answers.wait(0);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert!(answers.role.take().is_some(), "nobody has the role any more");
    });
}

#[test]
fn loom_link_the_role_goes_to_whoever_still_waits() {
    callers([0, 1]);
    callers([1, 0]);
}

#[test]
fn loom_link_the_role_goes_down_the_line() {
    callers([2, 0, 1]);
}

#[test]
fn loom_link_who_leaves_the_line_passes_the_role_on() {
    model(|| {
        let answers = Answers::new([0, 1, 2]);
        let reader = answers.role.take().expect("it is vacant");
        // One whose time is over as soon as it stands in line. Its answer comes when nobody waits for it.
        let leaves = answers.clone();
        let leaver = spawn(move || {
            let slot = &leaves.slots[2];
            match leaves.role.take_or_line_up(slot, false) {
                Some(reader) => {
                    if leaves.role.release(reader, false) {
                        leaves.lead();
                    }
                }
                None => leaves.step_out(slot),
            }
        });
        let waits = answers.clone();
        let waiter = spawn(move || waits.wait(1));
        answers.read_for(&answers.slots[0], reader);
        leaver.join().unwrap();
        waiter.join().unwrap();
    });
}

/// Red when whoever wakes for the role has answered by that.
#[test]
fn loom_link_who_is_asked_and_needs_nothing_any_more_passes_the_role_on() {
    model(|| {
        let answers = Answers::new([0, 1]);
        let reader = answers.role.take().expect("it is vacant");
        // One who waits at the end of a stream.
        let (seat, came) = (Arc::new(slot()), Arc::new(AtomicU32::new(0)));
        let (leaves, theirs, item) = (answers.clone(), seat.clone(), came.clone());
        let leaver = spawn(move || {
            theirs.block();
            let over = || {
                theirs.calm();
                item.load(Relaxed) == 1
            };
            let read = |reader| {
                if leaves.role.release(reader, false) {
                    leaves.lead();
                }
            };
            if wait_in_line(&leaves.role, &theirs, None, over, || leaves.step_out(&theirs), read) {
                leaves.step_out(&theirs);
            }
        });
        let waits = answers.clone();
        let waiter = spawn(move || waits.wait(1));
        came.store(1, Relaxed);
        seat.rouse();
        answers.read_for(&answers.slots[0], reader);
        leaver.join().unwrap();
        waiter.join().unwrap();
    });
}

#[test]
fn loom_link_who_runs_an_errand_stands_in_no_line() {
    model(|| {
        let answers = Answers::new([0, 1]);
        let ran = Arc::new(AtomicU32::new(0));
        let (offers, runs) = (answers.clone(), ran.clone());
        let job: Job = Box::new(move || drop(runs.fetch_add(1, Relaxed)));
        let offering = spawn(move || offers.slots[1].offer(job));
        let waits = answers.clone();
        let other = spawn(move || {
            let slot = &waits.slots[1];
            slot.block();
            let read = |reader| waits.read_for(slot, reader);
            if wait_in_line(&waits.role, slot, None, || slot.is_done(), || waits.step_out(slot), read) {
                waits.step_out(slot);
            }
            slot.unblock().into_iter().for_each(run_elsewhere);
        });
        answers.wait(0);
        other.join().unwrap();
        let offer = offering.join().unwrap();
        answers.slots[1].unblock().into_iter().for_each(run_elsewhere);
        assert_eq!(ran.load(Relaxed), u32::from(offer != Offer::Declined));
    });
}

// The table of transactions.

#[test]
fn loom_link_a_transaction_ends_once_whoever_ends_it() {
    model(|| {
        let table = Arc::new(Mutex::new(TransactionManager::new(Side::Head)));
        let waiter = Arc::new(slot());
        let now = Instant::now();
        let id = table.lock().begin(waiter.clone(), Some(now));
        table.lock().mark_sent(id);
        let ends = Arc::new(AtomicU32::new(0));
        let (answers, answered) = (table.clone(), ends.clone());
        let reply = spawn(move || {
            let ended = answers.lock().answered(id.to_bits()).expect("it is one of ours");
            if let Some((_, pending)) = ended {
                answered.fetch_add(1, Relaxed);
                drop(fill(&pending.waiter, 1));
            }
        });
        let (expires, expired) = (table.clone(), ends.clone());
        let clock = spawn(move || {
            let ended = expires.lock().expire(now);
            if let Some((_, pending)) = ended {
                expired.fetch_add(1, Relaxed);
                let _ = pending.waiter.complete(Err(CallError::Cancelled), now);
            }
        });
        waiter.block();
        while !waiter.is_done() {
            waiter.park(None);
        }
        reply.join().unwrap();
        clock.join().unwrap();
        assert_eq!(ends.load(Relaxed), 1);
        let table = table.lock();
        assert_eq!((table.len(), table.next_timer()), (0, None));
        assert!(waiter.take().is_some());
    });
}

// The gate.

/// The lock of a link that closes, and where it waits; as [`Link::has_left`](super::Link::has_left) and
/// `shut_down` use them.
struct Closing {
    gate: Gate,
    lock: Mutex<()>,
    settled: Condvar,
    closed: AtomicU32,
}

impl Closing {
    /// Calls an inline handler of the other end.
    fn call(&self) -> bool {
        let inside = self.gate.enter();
        if inside {
            assert_eq!(self.closed.load(Relaxed), 0, "a handler runs after its link has closed");
        }
        // Whoever was turned away has been counted, too.
        if !inside || self.gate.leave() {
            drop(self.lock.lock());
            self.settled.notify_all();
        }
        inside
    }

    fn shut_down(&self) {
        self.gate.shut();
        let mut lock = self.lock.lock();
        while self.gate.n_inside() > 0 {
            self.settled.wait(&mut lock);
        }
        self.closed.store(1, Relaxed);
    }
}

#[test]
fn loom_link_the_last_one_to_leave_a_shut_gate_is_waited_for_and_tells() {
    model(|| {
        let closing = Arc::new(Closing {
            gate: Gate::default(),
            lock: Mutex::new(()),
            settled: Condvar::new(),
            closed: AtomicU32::new(0),
        });
        let calls = |closing: Arc<Closing>| spawn(move || closing.call());
        let callers = [calls(closing.clone()), calls(closing.clone())];
        closing.shut_down();
        assert!(!closing.call(), "nobody enters any more");
        callers.into_iter().for_each(|caller| _ = caller.join().unwrap());
        assert_eq!(closing.gate.n_inside(), 0);
    });
}
