//! What a link is about at this moment, for those who want to know why it does not go on.

use std::time::Instant;

use super::{CancelToken, Link, LinkState, Slot, state::State, token::Stage};
use crate::{
    os::thread_name,
    sync::Arc,
    wire::{Path, TransactionId},
};

/// Everything that is under way, the oldest first.
pub(crate) struct Survey {
    pub(crate) stage: LinkState,
    pub(crate) calls: Vec<CallSeen>,
    pub(crate) served: Vec<ServedSeen>,
    /// How many calls and events wait to be sent, and how many bytes they have.
    pub(crate) to_send: (usize, usize),
    /// How many answers do.
    pub(crate) answers: usize,
    /// What waits cannot be sent before the other side has read more.
    pub(crate) is_stuck: bool,
}

/// A call of this side.
pub(crate) struct CallSeen {
    pub(crate) id: Option<TransactionId>,
    pub(crate) path: Path,
    pub(crate) since: Instant,
    pub(crate) deadline: Option<Instant>,
    pub(crate) sent: bool,
    /// The thread that blocks for it.
    pub(crate) thread: Option<String>,
    /// It has items, and may take as long as it likes.
    pub(crate) is_stream: bool,
}

/// A call of the other side.
pub(crate) struct ServedSeen {
    pub(crate) id: TransactionId,
    pub(crate) path: Path,
    pub(crate) since: Instant,
    pub(crate) stage: Stage,
    pub(crate) given_up: bool,
}

/// A call of the other side, as long as it has no answer.
#[derive(Debug)]
pub(crate) struct Served {
    pub(crate) token: CancelToken,
    pub(crate) path: Path,
    pub(crate) since: Instant,
    /// When its caller gives it up.
    pub(crate) deadline: Option<Instant>,
}

impl Link {
    /// How many calls are under way from this side, and how many of the other side are served.
    pub(crate) fn under_way(&self) -> (usize, usize) {
        let (calls, served) = self.inside();
        let core = self.core.lock();
        (core.state.n_calls() + calls, core.n_served() + served)
    }

    /// How many threads the link has now.
    pub(crate) fn n_threads(&self) -> usize {
        self.crew.n_threads()
    }

    /// Looks at all of it. Not for every call: it takes the locks of the link for as long as it looks.
    pub(crate) fn survey(&self) -> Survey {
        let near = if self.is_near() { self.seen_from_the_other_end() } else { Vec::new() };
        let core = self.core.lock();
        let mut calls: Vec<CallSeen> =
            core.state.calls.iter().map(|(id, slot, sent)| seen(id, slot, sent)).collect();
        let mut served: Vec<ServedSeen> =
            core.state.served.iter().map(|(id, served)| served.seen(*id)).collect();
        let (to_send, answers) = (core.state.outbox.waiting(), core.state.n_answers());
        let (stage, is_stuck) = (core.stage, core.state.outbox.is_stuck());
        drop(core);
        served.extend(near);
        calls.sort_by_key(|call| call.since);
        served.sort_by_key(|served| served.since);
        Survey { stage, calls, served, to_send, answers, is_stuck }
    }

    /// The calls that are served for the other end in this process: its own table has them.
    fn seen_from_the_other_end(&self) -> Vec<ServedSeen> {
        let Some(peer) = self.peer() else { return Vec::new() };
        let core = peer.core.lock();
        let sent = core.state.calls.iter().filter(|(_, _, sent)| *sent);
        sent.map(|(id, slot, _)| {
            let token = CancelToken::of(slot);
            let (path, since, deadline) = (slot.path.clone(), slot.started, slot.deadline);
            Served { token, path, since, deadline }.seen(id)
        })
        .collect()
    }
}

impl<W: Clone> State<W> {
    /// Whether no call is under way in either direction and nothing waits.
    pub(crate) fn is_quiet(&self) -> bool {
        self.calls.len() == 0 && self.served.is_empty() && self.outbox.is_drained()
    }

    /// Whether nothing waits to be sent.
    pub(crate) fn is_drained(&self) -> bool {
        self.outbox.is_drained()
    }

    /// How many calls and events wait to be sent.
    pub(crate) fn n_waiting(&self) -> usize {
        self.outbox.waiting().0
    }

    /// How many answers wait to be sent.
    pub(crate) fn n_answers(&self) -> usize {
        self.outbox.n_answers()
    }

    /// How many calls of ours have not ended.
    pub(crate) fn n_calls(&self) -> usize {
        self.calls.len()
    }

    /// How many calls of the other side are being served.
    pub(crate) fn n_served(&self) -> usize {
        self.served.len()
    }
}

impl Served {
    fn seen(&self, id: TransactionId) -> ServedSeen {
        let (path, since) = (self.path.clone(), self.since);
        ServedSeen { id, path, since, stage: self.token.stage(), given_up: self.token.is_cancelled() }
    }
}

fn seen(id: TransactionId, slot: &Arc<Slot>, sent: bool) -> CallSeen {
    CallSeen {
        id: Some(id),
        path: slot.path.clone(),
        since: slot.started,
        deadline: slot.deadline,
        sent,
        thread: slot.waiter().or_else(|| slot.streams()?.waiter()).and_then(thread_name),
        is_stream: slot.streams().is_some(),
    }
}
