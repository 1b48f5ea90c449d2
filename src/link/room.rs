//! Room for what has no other bound: answers that wait to be sent, callbacks and reports that wait to be run.

use super::{Core, Link, Place, Wiring, inbox::SHORT, load::Load, state::State};
use crate::{
    error::CallError,
    sync::MutexGuard,
    wire::{Codec, Fault, HEADER_LEN, Kind, TransactionId},
    workers::{Admission, Job, discard, run_elsewhere},
};

impl Link {
    /// Blocks until there is room for an answer, or nobody waits for it any more. `false` if there is none and this
    /// thread must not wait.
    ///
    /// Short ones take no room, since their number has a limit. Whoever reads must not wait for what only reading
    /// can bring; what it answers itself are refusals.
    pub(super) fn await_room(&self, core: &mut MutexGuard<'_, Core>, id: TransactionId, load: &Load) -> bool {
        let held = load.held();
        let has_room =
            |core: &Core| held <= SHORT || !core.state.awaits_answer(id) || core.state.outbox.has_room(held);
        if has_room(core) {
            return true;
        }
        if self.reads_now() {
            return false;
        }
        let deadline = core.state.served.get(&id).and_then(|served| served.deadline);
        core.awaiting_room += 1;
        // What this thread has gathered, too.
        MutexGuard::unlocked(core, || self.flush(self.core.lock()));
        while !has_room(core) {
            match deadline {
                Some(at) if self.settled.wait_until(core, at).timed_out() => break,
                Some(_) => {}
                None => self.settled.wait(core),
            }
        }
        core.awaiting_room -= 1;
        has_room(core)
    }

    /// Somebody may wait for room for an answer that nobody wants any more.
    pub(super) fn wake_answers(&self) {
        if self.core.lock().awaiting_room > 0 {
            self.settled.notify_all();
        }
    }

    /// Whether so many callbacks wait that there should not be more. Without a lock.
    pub(crate) fn has_callbacks_enough(&self) -> bool {
        self.callbacks.n_waiting() >= self.config.limits.callbacks
    }

    /// Runs the error hook after the listeners before it. When too much waits for it already, it is not told.
    pub(crate) fn run_error_hook(&self, hook: Job) {
        if self.listeners.n_waiting() >= REPORTS {
            return self.tally.reports_dropped.up();
        }
        let job = self.line_up_in_order(Place::ErrorHook, hook);
        job.into_iter().for_each(|job| self.submit(job));
    }

    /// Has something sent by a thread that waits until there is room.
    pub(crate) fn send_in_turn(&self, sending: Job) {
        self.line_up_sending(usize::MAX, sending).into_iter().for_each(|job| self.submit(job));
    }

    /// The same for whoever cannot submit what comes back. One such thread is for the whole link, since how much there
    /// is to tell is up to the other side. Where more than `bound` wait for it already it is not sent at all.
    #[must_use]
    pub(crate) fn line_up_sending(&self, bound: usize, sending: Job) -> Option<Job> {
        let link = self.strong()?;
        match self.unrefused.admit(sending, bound) {
            Admission::Run(first) => Some(Box::new(move || {
                let mut next = Some(first);
                while let Some(sending) = next {
                    run_elsewhere(sending);
                    next = link.unrefused.next();
                }
            })),
            Admission::Queued => None,
            Admission::Full(sending) | Admission::Closed(sending) => {
                discard(sending);
                None
            }
        }
    }

    /// Whether this thread has the reader role.
    fn reads_now(&self) -> bool {
        match &self.wiring {
            Wiring::Framed(framed) => framed.role.is_mine(),
            Wiring::Direct(_) => false,
        }
    }
}

/// What is answered instead of an answer for which there is no room.
pub(super) fn refusal_of_answer() -> (Kind, Load) {
    let error = Fault::new("there was no room for the answer: too much waits to be sent");
    let mut buffer = vec![0; HEADER_LEN];
    // A text is the same in every codec.
    CallError::Fault(error).to_record(Codec::default()).write(&mut buffer);
    (Kind::Fault, buffer.into())
}

impl<W: Clone> State<W> {
    /// Whether anybody waits for the answer to a call of the other side.
    pub(crate) fn awaits_answer(&self, id: TransactionId) -> bool {
        !self.is_closed() && self.served.get(&id).is_some_and(|served| !served.token.is_cancelled())
    }
}

/// How many reports may wait for the error hook.
const REPORTS: usize = 256;
