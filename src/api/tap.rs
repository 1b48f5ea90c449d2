//! What takes messages as they come, without a queue or a worker: the inner side of topics.
//!
//! A tap sees a message while somebody reads for the link. So it neither blocks nor runs user code; what
//! it has to do besides is an errand.

use std::{collections::VecDeque, time::Instant};

use serde::{Serialize, de::DeserializeOwned};

use super::{action, endpoint::Inner, task::Pool};
use crate::{
    config::Timeout,
    error::{CallError, CloseReason, Rejection},
    link::{CallPlan, Errand, Incoming, Link, Lost, Slot, ask, scope},
    sync::{Arc, Mutex},
    wire::{Path, PathError},
    workers::{Job, run_elsewhere},
};

/// Takes what comes to some paths, at once and in the order of arrival.
pub(crate) trait Tap: Send + Sync {
    /// Takes a call or an event. What comes back is run without the reader role.
    fn take(&self, link: &Arc<Link>, endpoint: &Arc<Inner>, incoming: Incoming) -> Option<Errand>;

    /// Takes an event for which there is no room. Whoever keeps nothing of what comes needs none.
    fn take_without_room(&self, link: &Arc<Link>, endpoint: &Arc<Inner>, lost: Lost) -> Option<Errand> {
        if lost.is_whole {
            return self.take(link, endpoint, lost.event);
        }
        endpoint.drop_event(link, &lost.event.path, lost.why.into());
        None
    }

    /// A link of the endpoint has ended.
    fn link_ended(&self, link: &Arc<Link>, reason: &Arc<CloseReason>);

    /// Another link has taken the place of the one that has ended. Does not block: what comes back may.
    fn link_begun(&self, _link: &Arc<Link>) -> Option<Job> {
        None
    }

    /// No other link takes the place of the one that has ended.
    fn given_over(&self, _reason: &Arc<CloseReason>) {}

    /// Whoever reads has done with it. Where that was the last to know it, what goes along goes elsewhere.
    fn let_go(self: Arc<Self>, _link: &Link) {}
}

impl Inner {
    /// What tells all topics and subscriptions that a link has ended.
    pub(super) fn end_taps(&self, link: &Arc<Link>) -> Option<Job> {
        let (taps, link) = (self.arb().taps(), link.clone());
        let has_taps = !taps.is_empty();
        let tell = move || {
            let reason = link.close_reason().unwrap_or_else(|| Arc::new(CloseReason::Local));
            taps.iter().for_each(|tap| tap.link_ended(&link, &reason));
        };
        has_taps.then(|| Box::new(tell) as Job)
    }

    /// Tells them that there is another one. What they have to do for that is done by a few threads, however many they
    /// are.
    pub(super) fn begin_taps(&self, link: &Arc<Link>) {
        let jobs: VecDeque<_> = self.arb().taps().iter().filter_map(|tap| tap.link_begun(link)).collect();
        let n_threads = jobs.len().min(AT_ONCE);
        let jobs = Arc::new(Mutex::new(jobs));
        for _ in 0..n_threads {
            let jobs = jobs.clone();
            let next = move || jobs.lock().pop_front();
            link.submit(Box::new(move || std::iter::from_fn(&next).for_each(run_elsewhere)));
        }
    }
}

impl Inner {
    /// Drops without a word what still comes to this path, unless there are many newer ones.
    pub(super) fn ignore(&self, path: &Path) {
        let mut ignored = self.ended_twice.lock();
        ignored.push_back(path.clone());
        let oldest = if ignored.len() > MOST_IGNORED { ignored.pop_front() } else { None };
        drop(ignored);
        self.arb().tap(path, Tapped { tap: Arc::new(Nobody), pool: None, listed: None });
        oldest.inspect(|oldest| self.arb().untap(&[oldest]));
    }
}

/// Waits for nothing.
struct Nobody;

impl Tap for Nobody {
    fn take(&self, link: &Arc<Link>, _: &Arc<Inner>, incoming: Incoming) -> Option<Errand> {
        answer(link, &incoming, Ok(()));
        Errand::aside(link, incoming, drop)
    }

    fn link_ended(&self, _: &Arc<Link>, _: &Arc<CloseReason>) {}
}

/// A topic that is to be served somewhere.
pub(crate) trait Source: Send + Sync {
    /// What takes its messages, at each of their paths.
    fn taps(&self, at: &Path) -> Result<Vec<(Path, Tapped)>, PathError>;
}

impl std::fmt::Debug for dyn Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Source(..)")
    }
}

/// A tap at its path.
#[derive(Clone)]
pub(crate) struct Tapped {
    pub(crate) tap: Arc<dyn Tap>,
    /// The API that it belongs to; `None` for what this side subscribed to.
    pub(crate) pool: Option<Arc<Pool>>,
    /// What it is listed as, if it is: its path, how it is declared, and its doc comment.
    pub(crate) listed: Option<(Path, String, &'static str)>,
}

impl std::fmt::Debug for Tapped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tapped").field("listed", &self.listed).finish_non_exhaustive()
    }
}

/// Answers a call that came to a tap; an event takes no answer.
pub(crate) fn answer(link: &Link, incoming: &Incoming, outcome: Result<(), CallError>) {
    let Some(id) = incoming.id else { return };
    match outcome.and_then(|()| link.pack_answer(&incoming.path, ())) {
        Ok(answer) => link.reply(id, &incoming.cancel, answer),
        Err(error) => link.fail(id, &incoming.cancel, error),
    }
}

/// A blocking call over this very link, whatever stands behind its endpoint by now.
pub(crate) fn call_over<A, T>(
    link: &Arc<Link>,
    path: &Path,
    arguments: A,
    timeout: Timeout,
) -> Result<T, CallError>
where
    A: Serialize + Send + 'static,
    T: DeserializeOwned + 'static,
{
    let now = Instant::now();
    let deadline = action::deadline(timeout, now, ask(|current| current.deadline));
    let mut slot = Slot::new(path.clone(), now, deadline);
    slot.will_block(link.is_near());
    let slot = Arc::new(slot);
    let plan = CallPlan { slot: slot.clone(), attempt: 0, blocking: true, scope: scope() };
    let started = link.start(&plan, arguments)?;
    let outcome = link.wait_at_once(&slot).or_else(|| {
        link.expire(started.id);
        slot.settle();
        slot.take()
    });
    plan.scope.inspect(|scope| scope.release(&slot));
    action::decode(link.codec(), outcome.unwrap_or(Err(CallError::Cancelled)))
}

/// Sends an event, however full the send queue is: without room, in its turn.
pub(crate) fn fire_surely<A>(link: &Arc<Link>, path: &Path, arguments: A)
where
    A: Serialize + Clone + Send + 'static,
{
    if is_busy(&link.fire(path, arguments.clone())) {
        let (theirs, path) = (link.clone(), path.clone());
        // It fails with the link alone.
        link.send_in_turn(Box::new(move || _ = theirs.fire_in_turn(&path, arguments)));
    }
}

/// Whether something was refused because the send queue is full.
pub(crate) fn is_busy(outcome: &Result<(), CallError>) -> bool {
    matches!(outcome, Err(CallError::Rejected(Rejection::Busy { .. })))
}

/// How many threads do at a time what is to be done for a new link.
const AT_ONCE: usize = 4;
/// How many paths are known to which something may come that nobody waits for.
const MOST_IGNORED: usize = 1024;
