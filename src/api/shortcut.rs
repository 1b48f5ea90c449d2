//! The shortest way of a call: to an inline handler at the other end in this process, which the caller's own
//! thread runs without a table, a queue or a box around any value.

use std::{
    any::{Any, TypeId},
    fmt,
    time::{Duration, Instant},
};

use super::{
    Context,
    action::{check_place, deadline},
    endpoint::Inner,
    task::Target,
};
use crate::{
    config::{Config, Timeout},
    error::{CallError, CloseReason, Executed},
    link::{CancelToken, Gate, Ids, Link, Neighbour, Scope, outer},
    sync::{Arc, AtomicBool, Ordering},
    wire::Path,
    workers::discard,
};

/// What a caller has found of a handler, to be used again for as long as the handler is served.
///
/// The caller's link keeps it; when that one ends, or the handler goes, it is let go of.
pub(crate) struct Shortcut {
    pub(super) path: Path,
    /// The caller's endpoint and link.
    pub(super) endpoint: Arc<Inner>,
    near: Arc<Link>,
    /// Those of the side that serves.
    pub(super) host: Arc<Inner>,
    pub(super) far: Arc<Link>,
    target: Arc<Target>,
    gate: Arc<Gate>,
    ids: Ids,
    /// The handler is still the one of its path.
    live: AtomicBool,
}

/// A call that cannot take the short way comes back with its arguments.
pub(super) type TurnedAway<A> = (Arc<Shortcut>, A);

impl fmt::Debug for Shortcut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shortcut").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Shortcut {
    /// The way to the handler of `path`, if that one is inline and lies at the other end in this process.
    pub(super) fn find(endpoint: &Arc<Inner>, path: &Path) -> Option<Arc<Shortcut>> {
        let near = endpoint.link().ok().filter(|link| link.is_near())?;
        let Neighbour { link: far, dispatch, gate } = near.neighbour()?;
        if let Some(known) = near.shortcut(path).and_then(|known| known.downcast::<Shortcut>().ok()) {
            return Some(known);
        }
        let usual = Config::default();
        if near.config().limits.in_flight < usual.limits.in_flight
            || far.config().limits.served_calls < usual.limits.served_calls
        {
            // Calls on the short way are in no table, and in nobody's count for long.
            return None;
        }
        let dispatch: Arc<dyn Any + Send + Sync> = dispatch;
        let host = dispatch.downcast::<Inner>().ok()?;
        let ids = near.ids();
        host.arb().clone().with_exact(path, |target| {
            // Layers see what travels.
            if !target.pool.inline || target.handler.serve.bare().is_some() {
                return None;
            }
            let shortcut = Arc::new(Shortcut {
                path: path.clone(),
                endpoint: endpoint.clone(),
                near: near.clone(),
                host,
                far,
                target: target.clone(),
                gate,
                ids,
                live: AtomicBool::new(true),
            });
            if !near.keep_shortcut(path, shortcut.clone()) {
                return None;
            }
            target.remember(&shortcut);
            Some(shortcut)
        })
    }

    /// What ends the calls that the handler makes.
    pub(super) fn scope(&self, outer: Option<CancelToken>, deadline: Option<Instant>) -> Scope {
        Scope { gate: self.gate.clone(), outer, deadline }
    }

    /// Whether it still leads to the handler of its path, and that one is in this process.
    pub(super) fn is_live(&self) -> bool {
        // SYNC: live. Pairs with the store in `retire`: a call that is made after a handler has gone goes the
        // long way, and finds what is there.
        self.live.load(Ordering::Acquire) && !self.near.is_forked()
    }

    /// The handler is not that of its path any more. What comes back is to be dropped without a lock.
    pub(super) fn retire(&self) -> impl Sized + use<> {
        self.live.store(false, Ordering::Release);
        self.near.forget_shortcut(&self.path)
    }

    /// Makes the call. What cannot go this way comes back.
    pub(super) fn call<A, T>(
        self: Arc<Shortcut>,
        arguments: A,
        timeout: Timeout,
    ) -> Result<Result<T, CallError>, TurnedAway<A>>
    where
        A: 'static,
        T: 'static,
    {
        let outer = outer();
        let depth = outer.depth + 1;
        if let Err(error) = check_place(outer.place) {
            return Ok(Err(error));
        }
        let handler = &self.target.handler.serve;
        if !self.is_live() || depth > DEEPEST || !handler.fits(TypeId::of::<A>(), TypeId::of::<T>()) {
            return Err((self, arguments));
        }
        let started = Instant::now();
        let deadline = deadline(timeout, started, outer.deadline);
        let outer = outer.scope;
        if deadline.is_some_and(|at| at <= started) || outer.as_ref().is_some_and(CancelToken::has_fired) {
            return Err((self, arguments));
        }
        let transaction = self.ids.issue(self.near.side());
        let context = Context::here(self, transaction, deadline, outer);
        let here = context.shortcut().expect("it was made of one");
        if !here.gate.enter() {
            // Whoever waits for the last one to leave may have seen this one.
            here.near.has_left(&here.far);
            return Err((here.clone(), arguments));
        }
        here.near.tally().calls.up();
        here.far.tally().calls_served.up();
        let (mut arguments, mut result) = (Some(arguments), None::<T>);
        let ended = here.target.handler.run_here(&context, depth, &mut arguments, &mut result);
        let value = ended.and_then(|()| result.take().ok_or(CallError::NoAnswer));
        let end = here.end(&context, value, started);
        // The handler may have gone meanwhile, and be dropped with this.
        discard(context);
        Ok(end)
    }

    /// Why the link ends, if it does. The other side may be about to say so.
    fn close_reason(&self) -> Option<Arc<CloseReason>> {
        self.near.close_reason().or_else(|| self.far.close_reason().map(|_| Arc::new(CloseReason::Peer)))
    }

    /// Leaves, and says how the call has ended: in the meantime it may have been cut off, cancelled or late.
    fn end<T>(
        &self,
        context: &Context,
        value: Result<T, CallError>,
        started: Instant,
    ) -> Result<T, CallError> {
        let tally = self.near.tally();
        // Before it leaves: a shutdown in peace waits for that, and gives no reason as long as it waits.
        let closed = if self.gate.is_shut() { self.close_reason() } else { None };
        if self.gate.leave() {
            self.near.has_left(&self.far);
        }
        let error = match closed {
            Some(reason) => {
                tally.cut_off.up();
                CallError::Closed { reason, executed: Executed::Maybe }
            }
            None if context.outer_has_ended() => {
                tally.cancels.up();
                CallError::Cancelled
            }
            None => match context.deadline().filter(|at| is_late(started, *at)) {
                Some(_) => {
                    tally.timeouts.up();
                    let (path, after) = (self.path.clone(), started.elapsed());
                    CallError::TimedOut { path, after, executed: Executed::Maybe }
                }
                None => {
                    match &value {
                        Ok(_) => tally.values.up(),
                        Err(_) => tally.faults.up(),
                    }
                    return value;
                }
            },
        };
        // It is too late for it.
        discard(value);
        Err(error)
    }
}

/// Whether a call has run out of its time. One that had much of it is given what its handler gives, late or
/// not: looking at the clock again takes as long as all the rest of a call.
fn is_late(started: Instant, deadline: Instant) -> bool {
    deadline.saturating_duration_since(started) < MUCH && deadline <= Instant::now()
}

/// A handler that is short takes a fraction of this.
const MUCH: Duration = Duration::from_secs(1);
/// How many handlers may stand on one stack.
const DEEPEST: u32 = 64;
