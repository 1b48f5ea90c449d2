//! The reader role: the right to move frames out of the transport. One thread at a time has it.
//!
//! A thread that blocks for a reply takes it when it can, and reads until its own reply comes, so that
//! nobody has to wake it. While nobody blocks, a thread of the crew leads: it sleeps in the transport
//! and runs short handlers itself. When a caller gives the role up and no other caller waits for it,
//! the role stays vacant for a moment: a thread of the crew, the *ticker*, looks at it every [`TICK`]
//! and takes it over once nobody has used it for a whole one. A caller in a loop thus never meets it.
//! A ticker that sees one thread keep the role for a whole tick goes to sleep; whoever gives the role
//! up then has to wake one.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::{Slot, current::this_thread, state::Action};
use crate::{
    sync::{Arc, AtomicUsize, Ordering, modelled::Mutex},
    transport::FrameReceiver,
};

/// What the holder of the role holds, by value.
pub(crate) struct Reader {
    pub(crate) receiver: Box<dyn FrameReceiver>,
    /// Room for what frames lead to, kept to be used again.
    pub(crate) actions: Vec<Action<Arc<Slot>>>,
    /// When the other side must have greeted, until it has.
    pub(crate) patience: Option<Instant>,
    holder: Arc<Holder>,
}

/// The thread that has the role: 0 when none does, and when it has come to its end. Whoever asks wants to know of
/// itself, and sees what it has written.
#[derive(Default)]
struct Holder(AtomicUsize);

impl Holder {
    fn set(&self, thread: usize) {
        self.0.store(thread, Ordering::Relaxed);
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.holder.set(0);
    }
}

pub(crate) struct Role {
    state: Mutex<State>,
    holder: Arc<Holder>,
}

struct State {
    /// There when the role is vacant.
    reader: Option<Reader>,
    /// How often the role was taken.
    taken: u64,
    /// A thread of the crew comes back within a tick.
    ticking: bool,
    /// `taken` when the ticker last looked.
    seen: u64,
    /// The next thread of the crew that looks should take the role without waiting for a tick.
    urgent: bool,
    /// Blocked callers that would take the role.
    waiting: VecDeque<Arc<Slot>>,
    closed: bool,
}

/// What a thread of the crew should do.
pub(crate) enum Post {
    Lead(Reader),
    Tick,
    Nothing,
}

impl Role {
    pub(crate) fn new(receiver: Box<dyn FrameReceiver>, patience: Option<Instant>) -> Role {
        let holder = Arc::<Holder>::default();
        let reader = Reader { receiver, actions: Vec::new(), patience, holder: holder.clone() };
        let state = Mutex::new(State {
            reader: Some(reader),
            taken: 0,
            ticking: false,
            seen: 0,
            urgent: false,
            waiting: VecDeque::new(),
            closed: false,
        });
        Role { state, holder }
    }

    /// Takes the role if it is vacant.
    pub(crate) fn take(&self) -> Option<Reader> {
        self.state.lock().take()
    }

    /// Takes the role, or lines up for it. `again`: it has stood in line, and this is its answer if it was asked.
    pub(crate) fn take_or_line_up(&self, slot: &Arc<Slot>, again: bool) -> Option<Reader> {
        let mut state = self.state.lock();
        if again {
            slot.take_promotion();
        }
        let reader = state.take();
        if reader.is_some() && !state.waiting.is_empty() {
            // Else whoever gives the role up could ask this very thread to take it, and leave others asleep.
            state.waiting.retain(|other| !Arc::ptr_eq(other, slot));
        }
        if reader.is_none() && !state.waiting.iter().any(|other| Arc::ptr_eq(other, slot)) {
            state.waiting.push_back(slot.clone());
        }
        reader
    }

    /// A caller stops to wait. If it was asked to take the role, the next one is. Says whether a thread
    /// of the crew has to be woken for it.
    #[must_use]
    pub(crate) fn step_out(&self, slot: &Arc<Slot>) -> bool {
        let mut state = self.state.lock();
        state.waiting.retain(|other| !Arc::ptr_eq(other, slot));
        let passed_over = slot.take_promotion() && state.reader.is_some();
        passed_over && !state.promote_next() && !state.ticking
    }

    /// Gives the role up. `urgent`: a thread of the crew should take it at once, since the one that
    /// gives it up may not be back soon. Says whether a thread of the crew has to be woken for it.
    #[must_use]
    pub(crate) fn release(&self, reader: Reader, urgent: bool) -> bool {
        let mut state = self.state.lock();
        if state.closed {
            drop(state);
            // Out of the lock: a receiver may close descriptors when it goes.
            drop(reader);
            return false;
        }
        reader.holder.set(0);
        state.reader = Some(reader);
        if state.promote_next() {
            return false;
        }
        state.urgent |= urgent;
        urgent || !state.ticking
    }

    /// Asks for a thread of the crew to take the role at once, should it be vacant.
    pub(crate) fn hurry(&self) {
        self.state.lock().urgent = true;
    }

    /// What a thread of the crew should do that has no job. `again`: it has just waited for a tick.
    pub(crate) fn stand_by(&self, again: bool) -> Post {
        let mut state = self.state.lock();
        let unused = again && state.seen == state.taken;
        let lead = state.urgent || unused;
        if again {
            state.ticking = false;
        }
        if lead && let Some(reader) = state.take() {
            return Post::Lead(reader);
        }
        if state.closed || state.ticking || (unused && state.reader.is_none()) {
            return Post::Nothing;
        }
        state.ticking = true;
        state.seen = state.taken;
        Post::Tick
    }

    /// The ticker was given something else to do. Says whether another has to be woken.
    pub(crate) fn ticker_left(&self) -> bool {
        let mut state = self.state.lock();
        state.ticking = false;
        // When it is urgent, whoever was woken for it is on its way, this thread perhaps.
        state.reader.is_some() && !state.urgent && !state.closed
    }

    /// Whether a thread of the crew comes back within a tick.
    pub(crate) fn is_ticking(&self) -> bool {
        self.state.lock().ticking
    }

    /// Whether the calling thread has the role.
    pub(crate) fn is_mine(&self) -> bool {
        self.holder.0.load(Ordering::Relaxed) == this_thread()
    }

    /// Ends the role. Its receiver goes now, or when whoever has it gives it up.
    pub(crate) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        let reader = state.reader.take();
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        drop(reader);
        waiting.iter().for_each(|slot| slot.promote());
    }
}

impl State {
    fn take(&mut self) -> Option<Reader> {
        let reader = self.reader.take()?;
        self.taken += 1;
        reader.holder.set(this_thread());
        self.urgent = false;
        Some(reader)
    }

    /// Asks the blocked caller that came first and still waits to take the role.
    fn promote_next(&mut self) -> bool {
        while let Some(slot) = self.waiting.pop_front() {
            if !slot.is_done() {
                slot.promote();
                return true;
            }
        }
        false
    }
}

/// How long the role may stay vacant, at least once and at most twice. Each look takes the core away from
/// a caller for a moment; so far apart, the looks of both sides meet less than one call in a hundred.
pub(crate) const TICK: Duration = Duration::from_millis(4);

#[cfg(test)]
mod tests;
