//! Calls that wait until they are made again.

use std::time::Instant;

use super::{
    endpoint::Inner,
    relay::Relay,
    together::together,
    waiting::{WaitingList, Waits},
};
use crate::{
    link::{CallSeen, Link, LinkState},
    logging::line,
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

    fn go(due: Vec<Paused>) {
        together(due.into_iter().map(|paused| paused.relay), Relay::again_aside);
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
        if !there {
            waiting.all.pop();
        }
        drop(waiting);
        if let Err(error) = watched {
            self.say(line!(Warn, "no thread to make calls again: {error}"));
        }
        let link = self.link().ok();
        let over = !self.is_supervised()
            && link.as_ref().is_some_and(|link| link.stage() >= LinkState::Disconnected);
        if over || self.is_gone() {
            self.end_pauses();
        } else if link.is_some_and(|link| link.is_going_away()) && self.pauses.take(relay).is_some() {
            // Another try would be refused. It ends as this one did, and not as one that was cut off.
            return false;
        }
        there
    }

    /// Takes no new calls and waits for those under way, at most until `deadline`; then closes. Says whether all had
    /// ended.
    pub(crate) fn shut_down(&self, link: &Link, deadline: Option<Instant>) -> bool {
        let quiet = self.wind_down(Some(link), deadline);
        link.close();
        quiet
    }

    /// The same without the closing. Calls that wait for another try, or for the next link, come to nothing: they are
    /// not waited for, and have not ended.
    pub(crate) fn wind_down(&self, link: Option<&Link>, deadline: Option<Instant>) -> bool {
        if self.is_forked() {
            return false;
        }
        let some_waited = self.some_wait();
        let quiet = link.is_none_or(|link| link.wind_down(deadline));
        quiet && !some_waited && !self.some_wait()
    }

    fn some_wait(&self) -> bool {
        !self.pauses.is_empty() || self.succession.get().is_some_and(|succession| succession.some_wait())
    }

    /// The calls that wait until they are made again.
    pub(super) fn paused(&self) -> Vec<CallSeen> {
        self.pauses.lock().all.iter().map(|paused| paused.relay.seen()).collect()
    }

    /// Ends the calls that wait until they are made again.
    pub(super) fn end_pauses(&self) {
        let (all, reason) = (self.pauses.take_all(), self.endpoint_reason());
        let relays = all.into_iter().map(|paused| paused.relay);
        together(relays, |relay| relay.finish(Err(relay.closed(reason.clone()))));
    }
}
