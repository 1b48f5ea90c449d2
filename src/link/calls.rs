//! The transaction manager: every call that this side made and that has not ended.
//!
//! Each entry is taken out exactly once, by whoever ends the call: a reply, its deadline, a cancel, or
//! the end of the link. It knows nothing of waiters but that they are values to hand back.

use std::time::Instant;

use rustc_hash::FxHashMap;

use super::{
    gate::Ids,
    timers::{Timer, Timers},
};
use crate::wire::{ProtocolError, Side, TransactionId};

/// The calls under way of one side of one link.
#[derive(Debug)]
pub(crate) struct TransactionManager<W> {
    side: Side,
    ids: Ids,
    pending: FxHashMap<u64, Pending<W>>,
    /// The deadlines that somebody else than the caller has to watch.
    timers: Timers,
}

/// One call under way.
#[derive(Debug)]
pub(crate) struct Pending<W> {
    pub(crate) waiter: W,
    timer: Option<Timer>,
    /// Whether any part of the call has gone to the transport.
    pub(crate) sent: bool,
    /// Whether the other side has said that it is at it, as it does of a stream.
    begun: bool,
    /// Its timer is that of the answer.
    ends_by: bool,
}

impl<W> TransactionManager<W> {
    pub(crate) fn new(side: Side) -> TransactionManager<W> {
        let (ids, pending, timers) = (Ids::default(), FxHashMap::default(), Timers::default());
        TransactionManager { side, ids, pending, timers }
    }

    /// A fresh id, for a message that is answered by none.
    pub(crate) fn issue(&mut self) -> TransactionId {
        self.ids.issue(self.side)
    }

    /// Where calls of this side that are in no table get theirs.
    pub(crate) fn ids(&self) -> &Ids {
        &self.ids
    }

    /// Files a call. With a `timer`, [`TransactionManager::expire`] ends it then.
    pub(crate) fn begin(&mut self, waiter: W, timer: Option<Instant>) -> TransactionId {
        let id = self.issue();
        let timer = timer.map(|at| self.timers.add(at, id.counter()));
        self.pending
            .insert(id.counter(), Pending { waiter, timer, sent: false, begun: false, ends_by: false });
        id
    }

    /// Takes a call out, if it is still under way.
    pub(crate) fn end(&mut self, id: TransactionId) -> Option<Pending<W>> {
        let pending = self.pending.remove(&id.counter())?;
        if let Some(timer) = pending.timer {
            self.timers.remove(timer, id.counter(), |counter| self.pending.contains_key(&counter));
        }
        Some(pending)
    }

    /// Takes out the call that a peer answers. `None` means that it ended before.
    ///
    /// An answer to a call that waits to leave is a lie: its id is issued, and no peer can know it.
    pub(crate) fn answered(
        &mut self,
        bits: u64,
    ) -> Result<Option<(TransactionId, Pending<W>)>, ProtocolError> {
        let id = self.answerable(bits)?;
        Ok(self.end(id).map(|pending| (id, pending)))
    }

    /// Reads the id of a call of ours that a peer may answer.
    pub(crate) fn answerable(&self, bits: u64) -> Result<TransactionId, ProtocolError> {
        let unsent = |id: &TransactionId| self.pending.get(&id.counter()).is_some_and(|call| !call.sent);
        TransactionId::from_bits(bits)
            .filter(|id| id.side() == self.side && id.counter() <= self.ids.last() && !unsent(id))
            .ok_or(ProtocolError::UnknownId(bits))
    }

    /// A call under way.
    pub(crate) fn get(&self, id: TransactionId) -> Option<&Pending<W>> {
        self.pending.get(&id.counter()).filter(|_| id.side() == self.side)
    }

    /// Remembers that the call has left.
    pub(crate) fn mark_sent(&mut self, id: TransactionId) {
        if let Some(pending) = self.pending.get_mut(&id.counter()) {
            pending.sent = true;
        }
    }

    /// The other side is at it. The first time that is said the call has no timer any more.
    pub(crate) fn begun(&mut self, id: TransactionId) -> bool {
        let Some(pending) = self.pending.get_mut(&id.counter()) else { return false };
        let first = !std::mem::replace(&mut pending.begun, true);
        if first && !pending.ends_by {
            self.set_timer(id, None);
        }
        first
    }

    /// Whether the other side has said that it is at it.
    pub(crate) fn has_begun(&self, id: TransactionId) -> bool {
        self.get(id).is_some_and(|call| call.begun)
    }

    /// Gives a call a timer in the place of the one it has, which was given here, too.
    pub(crate) fn set_timer(&mut self, id: TransactionId, timer: Option<Instant>) {
        let Some(pending) = self.pending.get_mut(&id.counter()) else { return };
        // In this order: both may be of the same moment.
        if let Some(before) = pending.timer.take() {
            self.timers.remove(before, id.counter(), |_| true);
        }
        pending.timer = timer.map(|at| self.timers.add_apart(at, id.counter()));
    }

    /// Gives a call a timer for its answer, which it keeps when it begins. Says whether it is under way.
    pub(crate) fn set_end(&mut self, id: TransactionId, timer: Option<Instant>) -> bool {
        let Some(pending) = self.pending.get_mut(&id.counter()) else { return false };
        pending.ends_by = timer.is_some();
        self.set_timer(id, timer);
        true
    }

    /// Takes out the first call whose timer is at or before `now`.
    pub(crate) fn expire(&mut self, now: Instant) -> Option<(TransactionId, Pending<W>)> {
        let (at, counter) = self.timers.first()?;
        if at > now {
            return None;
        }
        let id = TransactionId::new(self.side, counter);
        self.end(id).map(|pending| (id, pending))
    }

    /// When the first timer is due.
    pub(crate) fn next_timer(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| at)
    }

    /// Takes out everything, in the order of issue.
    pub(crate) fn drain(&mut self) -> Vec<Pending<W>> {
        self.timers.clear();
        let mut all: Vec<_> = self.pending.drain().collect();
        all.sort_unstable_by_key(|(counter, _)| *counter);
        all.into_iter().map(|(_, pending)| pending).collect()
    }

    /// Every call under way, in no order: who waits for it, and whether it has left.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (TransactionId, &W, bool)> {
        let named = |(counter, call): (&u64, _)| (TransactionId::new(self.side, *counter), call);
        self.pending.iter().map(named).map(|(id, call): (_, &Pending<W>)| (id, &call.waiter, call.sent))
    }

    pub(crate) fn len(&self) -> usize {
        self.pending.len()
    }
}

#[cfg(test)]
mod tests;
