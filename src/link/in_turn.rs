//! What is not refused when the send queue is full: it goes over the limit, one message at a time.
//!
//! Nobody waits for it to leave. Whoever sends looks whether it has, and then has the next one made by the crew.

use serde::Serialize;

use super::{Core, Link};
use crate::{
    error::CallError,
    wire::Path,
    workers::{Admission, Job, discard, discard_all, run_elsewhere},
};

/// The event that went over the limit.
#[derive(Debug, Default)]
pub(super) struct Turn {
    /// How many events have left the lines when this one has.
    until: u64,
    /// Whoever made it has found that it waits, and leaves it to whoever sends to go on.
    unattended: bool,
}

impl Link {
    /// Has something sent that is not refused when the send queue is full: `sending` does it by
    /// [`Link::fire_in_turn`], once, and blocks for nothing.
    pub(crate) fn send_in_turn(&self, sending: Job) {
        self.line_up_sending(usize::MAX, sending).into_iter().for_each(|job| self.submit(job));
    }

    /// The same for whoever cannot submit what comes back. Where more than `bound` wait for their turn already it is not
    /// sent at all: how much there is to tell may be up to the other side.
    #[must_use]
    pub(crate) fn line_up_sending(&self, bound: usize, sending: Job) -> Option<Job> {
        let link = self.strong()?;
        match self.unrefused.admit(sending, bound) {
            Admission::Run(first) => Some(Box::new(move || link.send_one_by_one(first))),
            Admission::Queued => None,
            Admission::Full(sending) | Admission::Closed(sending) => {
                discard(sending);
                None
            }
        }
    }

    /// Sends an event, however much waits to be sent. For those alone whose turn it is.
    pub(crate) fn fire_in_turn<A>(&self, path: &Path, arguments: A) -> Result<(), CallError>
    where
        A: Serialize + Send + 'static,
    {
        self.fire_bounded(path, 0, arguments, false)
    }

    /// Runs what waits for its turn, until something of it stands in line.
    fn send_one_by_one(&self, first: Job) {
        let mut next = Some(first);
        while let Some(sending) = next {
            run_elsewhere(sending);
            if self.core.lock().leaves_turn() {
                return;
            }
            next = self.unrefused.next();
        }
    }

    /// What went over the limit has left. Called by whoever has sent, who holds no lock.
    #[cold]
    pub(super) fn give_turn(&self) {
        let Some(link) = self.strong() else { return };
        let next = self.unrefused.next();
        next.into_iter().for_each(|next| {
            let link = link.clone();
            self.submit(Box::new(move || link.send_one_by_one(next)));
        });
    }

    /// The link is over: nobody's turn comes any more. What comes back drops what waited, which is the user's.
    #[must_use]
    pub(super) fn end_turns(&self) -> Option<Job> {
        let left = self.unrefused.close();
        (!left.is_empty()).then(|| Box::new(move || discard_all(left)) as Job)
    }
}

impl Core {
    /// The event that was queued last is over the limit.
    pub(super) fn take_turn(&mut self) {
        self.turn.until = self.state.outbox.n_events_so_far();
    }

    /// Whether what went over the limit still waits. Then whoever sends goes on once it has left.
    fn leaves_turn(&mut self) -> bool {
        self.turn.unattended = self.state.outbox.n_events_left() < self.turn.until;
        self.turn.unattended
    }

    /// Whether it has left since, and nobody goes on. Says so once.
    #[inline]
    pub(super) fn turn_is_over(&mut self) -> bool {
        let is_over = self.turn.unattended && self.state.outbox.n_events_left() >= self.turn.until;
        self.turn.unattended &= !is_over;
        is_over
    }
}
