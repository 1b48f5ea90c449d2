//! The link between two sides of one process: what one side sends, its thread hands to the other.

use std::time::Instant;

use super::{
    CallPlan, Core, Link, Slot, Wiring,
    flow::Harvest,
    message::{Cargo, Incoming, Start},
    outbox::Draft,
    slot::Outcome,
    state::Finish,
};
use crate::{
    error::{CallError, CloseReason, Rejection},
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

    fn peer(&self) -> Option<Arc<Link>> {
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

    /// Files the end of the serving of a call that was answered already.
    pub(crate) fn settle_served(&self, id: TransactionId) {
        let served = self.core.lock().state.finish_served(id);
        debug_assert!(served != Finish::GivenUp, "a caller that gives up does not settle");
        self.settled.notify_all();
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
            Kind::Cancel => {
                let token = TransactionId::from_bits(draft.id)
                    .and_then(|id| self.core.lock().state.handle_cancel(id));
                token.inspect(super::CancelToken::fire);
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
        let ancestor = if refusal.is_none() { core.state.serve(&incoming) } else { None };
        drop(core);
        if let Some(error) = refusal {
            if let Some(id) = incoming.id {
                caller.take_reply(id, Err(error));
            }
            return;
        }
        let mut harvest = Harvest::default();
        self.route(incoming, ancestor, &mut harvest);
        self.finish(harvest);
    }

    pub(super) fn reply_direct(&self, id: TransactionId, outcome: Outcome) {
        let finish = self.core.lock().state.finish_served(id);
        match finish {
            Finish::Awaited => {
                if let Some(peer) = self.peer() {
                    peer.take_reply(id, outcome);
                }
            }
            Finish::GivenUp => self.tally.answers_unsent.up(),
            Finish::Over => {}
        }
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
    fn refusal(&self, incoming: &Incoming, served_limit: usize) -> Option<CallError> {
        if self.state.is_closed() {
            return Some(self.closed(crate::error::Executed::No));
        }
        incoming.id?;
        if self.state.is_going_away() {
            return Some(Rejection::ShuttingDown.into());
        }
        (self.state.n_served() >= served_limit).then(|| {
            let detail =
                format!("{served_limit} calls are unanswered, which is the limit of the link").into();
            Rejection::Busy { path: incoming.path.clone(), detail }.into()
        })
    }
}
