//! What a handler may know about the call that it serves.

use std::time::{Duration, Instant};

use super::{ApiHandle, Endpoint, endpoint::Inner};
use crate::{
    link::{CancelToken, Ends, Incoming, Link, Slot},
    sync::Arc,
    wire::{Path, Payload, Side, TransactionId},
};

/// A call or an event, as its handler sees it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Context {
    pub(crate) path: Path,
    pub(crate) transaction: Option<TransactionId>,
    pub(crate) deadline: Option<Instant>,
    pub(crate) attempt: u32,
    pub(crate) cancel: CancelToken,
    pub(crate) link: Arc<Link>,
    pub(crate) endpoint: Arc<Inner>,
    /// The ends of its items, if it is a stream.
    pub(crate) ends: Ends,
}

impl Context {
    /// The context of a call or an event, and what else came with it.
    pub(crate) fn new(
        incoming: Incoming,
        link: &Arc<Link>,
        endpoint: Arc<Inner>,
    ) -> (Context, Payload, Option<Arc<Slot>>) {
        let Incoming { id, path, deadline, attempt, payload, cancel, caller, ends, .. } = incoming;
        let link = link.clone();
        let context = Context { path, transaction: id, deadline, attempt, cancel, link, endpoint, ends };
        (context, payload, caller)
    }

    /// The full path that was called. A catch-all sees here what it caught.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether nobody waits for an answer, because this is an event.
    pub fn is_event(&self) -> bool {
        self.transaction.is_none()
    }

    /// The name of the call on its link; `None` for an event.
    pub fn transaction(&self) -> Option<TransactionId> {
        self.transaction
    }

    /// When the caller gives up; `None` if never.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// The time until the caller gives up; `None` if it never does.
    pub fn remaining(&self) -> Option<Duration> {
        self.deadline.map(|at| at.saturating_duration_since(Instant::now()))
    }

    /// Whether the caller has given up, or its deadline has passed. Does not block.
    pub fn is_cancelled(&self) -> bool {
        self.cancel.is_cancelled() || self.deadline.is_some_and(|at| at <= Instant::now())
    }

    /// Fires when the caller gives up.
    pub fn cancel_token(&self) -> &CancelToken {
        &self.cancel
    }

    /// Which side called.
    pub fn peer(&self) -> Side {
        self.link.side().other()
    }

    /// 0 for a first try, 1 for the first repetition.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// This side, to call back with the client of a trait.
    pub fn endpoint(&self) -> Endpoint {
        Endpoint(self.endpoint.clone())
    }

    /// The other side's APIs at and below `path`, to call back. A call made in a handler has at most
    /// the time that the handler has.
    pub fn api(&self, path: &str) -> ApiHandle {
        ApiHandle::new(self.endpoint.clone(), path)
    }
}
