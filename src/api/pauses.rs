//! Calls that wait until they are made again.

use std::time::Instant;

use super::{
    endpoint::Inner,
    relay::Relay,
    waiting::{WaitingList, Waits},
};
use crate::{
    link::{CallSeen, LinkState},
    sync::Arc,
};

/// Those of one endpoint.
pub(super) type Pauses = WaitingList<Paused>;

/// A call, and when it is made again.
pub(super) struct Paused {
    at: Instant,
    relay: Arc<Relay>,
}

impl Waits for Paused {
    fn call(&self) -> &Relay {
        &self.relay
    }

    fn due_at(&self) -> Option<Instant> {
        Some(self.at)
    }

    fn is_due(&self, now: Instant) -> bool {
        self.at <= now || self.relay.is_over()
    }

    fn go(self) {
        self.relay.again_aside();
    }
}

impl Inner {
    /// Makes a call again at this time, unless no link comes for it any more. `false` if it is not to wait.
    pub(super) fn pause(&self, at: Instant, relay: &Arc<Relay>) -> bool {
        let mut waiting = self.pauses.lock();
        // Who ends it looks for it here after that.
        if relay.is_over() || !waiting.has_room(relay, &self.config.limits) {
            return false;
        }
        waiting.all.push(Paused { at, relay: relay.clone() });
        let watched = self.pauses.watch(&mut waiting, format!("{}-pauses", self.config.name));
        let there = watched.is_ok();
        if let Err(error) = watched {
            log::warn!("no thread to make calls again: {error}");
            waiting.all.pop();
        }
        drop(waiting);
        let over =
            !self.is_supervised() && self.link().is_ok_and(|link| link.stage() >= LinkState::Disconnected);
        if over || self.is_gone() {
            self.end_pauses();
        }
        there
    }

    /// The calls that wait until they are made again.
    pub(super) fn paused(&self) -> Vec<CallSeen> {
        self.pauses.lock().all.iter().map(|paused| paused.relay.seen()).collect()
    }

    /// Ends the calls that wait until they are made again.
    pub(super) fn end_pauses(&self) {
        for Paused { relay, .. } in self.pauses.take_all() {
            let reason = self.endpoint_reason();
            relay.finish(Err(relay.closed(reason)));
        }
    }
}
