//! The link between two sides of one process: what one side sends, its thread hands to the other.

use std::time::Instant;

use super::{
    CallPlan, Core, Link, Slot, Wiring,
    message::{Cargo, Incoming, Start},
    outbox::Draft,
    slot::Outcome,
};
use crate::{
    error::{CallError, CloseReason, Executed, Rejection},
    sync::{Arc, MutexGuard},
    wire::{Kind, TransactionId},
    workers::contain,
};

impl Link {
    pub(super) fn join_to(&self, peer: &Arc<Link>) {
        if let Wiring::Direct(slot) = &self.wiring {
            // Called once, by whoever made both.
            let _ = slot.set(Arc::downgrade(peer));
        }
    }

    pub(super) fn peer(&self) -> Option<Arc<Link>> {
        match &self.wiring {
            Wiring::Direct(peer) => peer.get()?.upgrade(),
            Wiring::Framed(_) => None,
        }
    }

    /// Files a call that its caller is going to block for, if nothing is queued before it.
    pub(super) fn begin_at_once(&self, plan: &CallPlan) -> Option<TransactionId> {
        let mut core = self.core.lock();
        if !plan.blocking || core.sending {
            return None;
        }
        let id = core.state.begin_at_once(&plan.slot)?;
        drop(core);
        self.tally.calls.up();
        Some(id)
    }

    /// Hands a call over that is filed.
    pub(super) fn hand_over(&self, id: TransactionId, mut incoming: Incoming) {
        incoming.id = Some(id);
        if let Some(peer) = self.peer() {
            contain(|| peer.accept(incoming, self));
        }
    }

    /// Files the end of a call that its caller has seen first.
    pub(super) fn settle_answered(&self, id: TransactionId) {
        self.tally.values.up();
        let mut core = self.core.lock();
        core.state.end_answered(id);
        if core.state.is_drained() {
            drop(core);
        } else {
            // A call that waited for this one to end may leave now.
            self.flush(core);
        }
        self.settled.notify_all();
    }

    /// Files the end of the serving of a call of the other end in this process.
    pub(crate) fn settle_served(&self) {
        let mut core = self.core.lock();
        core.near = core.near.saturating_sub(1);
        drop(core);
        self.settled.notify_all();
    }

    /// Tells a handler in this process that nobody waits for it any more.
    pub(super) fn give_up(&self, slot: &Slot) {
        self.give_up_for(slot, &CallError::Cancelled);
    }

    /// The same, with what those are told who wait at the ends of its streams.
    pub(super) fn give_up_for(&self, slot: &Slot, why: &CallError) {
        if self.is_near() {
            slot.give_up();
            self.end_far_streams(slot, why);
        }
    }

    /// Hands over what is queued, unless another thread is at it; that one takes it along, so that
    /// the order holds.
    pub(super) fn deliver<'a>(&'a self, mut core: MutexGuard<'a, Core>) {
        if core.sending {
            return;
        }
        core.sending = true;
        loop {
            let control = core.state.next_control();
            let start = if control.is_none() { core.state.next_start() } else { None };
            if control.is_none() && start.is_none() {
                break;
            }
            drop(core);
            if let Some(peer) = self.peer() {
                control.into_iter().for_each(|draft| peer.accept_control(&draft));
                // What is refused is dropped here. A panic of that must not leave `sending` behind.
                start.into_iter().for_each(|start| contain(|| peer.accept_start(start, self)));
            }
            core = self.core.lock();
        }
        core.sending = false;
        if core.state.is_drained() || core.reason.is_some() {
            self.settled.notify_all();
        }
    }

    fn accept_control(&self, draft: &Draft) {
        match draft.kind {
            Kind::Ready => {
                self.core.lock().state.handle_ready();
                self.note_ready();
            }
            Kind::GoAway => {
                self.core.lock().state.handle_go_away();
                self.changed.notify_all();
            }
            Kind::Bye => self.lose(CloseReason::Peer),
            _ => {}
        }
    }

    /// Takes a call or an event from `caller`.
    fn accept_start(&self, start: Start, caller: &Link) {
        if let Cargo::Moved(incoming) = start.cargo {
            self.accept(*incoming, caller);
        }
    }

    fn accept(&self, incoming: Incoming, caller: &Link) {
        let mut core = self.core.lock();
        let refusal = core.refusal(&incoming, self.config.served_calls);
        let ancestor = if refusal.is_none() { core.serve(&incoming) } else { None };
        drop(core);
        if let Some(error) = refusal {
            if let Some(id) = incoming.id {
                caller.take_reply(id, Err(error));
            }
            return;
        }
        if let Some(link) = self.strong()
            && let Some(errand) = self.dispatch.dispatch(&link, incoming, ancestor.as_ref())
        {
            self.submit(errand.job);
        }
    }

    /// Answers a call of the other end in this process, unless that has been done.
    pub(super) fn reply_near(&self, id: TransactionId, caller: &Slot, outcome: Outcome) {
        if !caller.end_serving() {
            return;
        }
        self.end_far_streams(caller, &CallError::Cancelled);
        // Whoever has the answer finds the call over; and a side that shuts down waits for the answer.
        let mut core = self.core.lock();
        core.near = core.near.saturating_sub(1);
        core.answering += 1;
        drop(core);
        if caller.is_given_up() {
            self.tally.answers_unsent.add(u64::from(!self.is_over()));
        } else if let Some(peer) = self.peer() {
            peer.take_reply(id, outcome);
        }
        self.core.lock().answering -= 1;
        self.settled.notify_all();
    }

    fn take_reply(&self, id: TransactionId, outcome: Outcome) {
        let mut core = self.core.lock();
        let slot: Option<Arc<Slot>> = core.state.handle_answer(id.to_bits()).ok().flatten();
        // A call that waited for this one to end may leave now.
        self.flush(core);
        match slot {
            Some(slot) => self.complete_now(&slot, outcome, Instant::now()),
            None => self.count_late_reply(),
        }
    }
}

impl Core {
    /// Counts a call in, and says whose call it descends from.
    fn serve(&mut self, incoming: &Incoming) -> Option<Arc<Slot>> {
        self.near += usize::from(incoming.id.is_some());
        incoming.parent.and_then(|parent| self.state.waiter_of(parent))
    }

    fn refusal(&self, incoming: &Incoming, served_limit: usize) -> Option<CallError> {
        if self.state.is_closed() {
            return Some(self.closed(Executed::No));
        }
        incoming.id?;
        if self.state.is_ending() {
            let reason = Arc::new(CloseReason::Peer);
            return Some(CallError::Closed { reason, executed: Executed::No });
        }
        if self.state.is_going_away() {
            return Some(Rejection::ShuttingDown.into());
        }
        (self.n_served() >= served_limit).then(|| {
            let detail =
                format!("{served_limit} calls are unanswered, which is the limit of the link").into();
            Rejection::Busy { path: incoming.path.clone(), detail }.into()
        })
    }
}
