//! One call or event on its way through an API's queue to its handler.

use std::time::{Duration, Instant};

use super::{Context, Handler, Report, endpoint::Inner, served::WhenFull};
use crate::{
    error::{CallError, Rejection},
    link::{Errand, Incoming, Link, Offer, Slot},
    sync::{Arc, AtomicU64, Mutex, Ordering},
    wire::{Path, Payload},
    workers::{Admission, Lane, contain},
};

/// The workers and the queue of one API.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) namespace: Path,
    pub(crate) lane: Lane<Task>,
    pub(crate) bound: usize,
    pub(crate) when_full: WhenFull,
}

/// Where a path leads.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) handler: Handler,
    pub(crate) pool: Arc<Pool>,
    pub(crate) pace: Arc<Pace>,
}

/// How long a handler usually runs, for the choice whether somebody else should read meanwhile.
#[derive(Debug)]
pub(crate) struct Pace(AtomicU64);

/// A call or an event on its way to its handler.
#[derive(Debug)]
pub(crate) enum Task {
    /// The usual one.
    Plain(Body),
    /// One that the thread which waits for its ancestor may take out of the queue.
    Shared(Arc<Mutex<Option<Body>>>),
}

/// A call or an event whose handler is known.
#[derive(Debug)]
pub(crate) struct Body {
    target: Target,
    context: Context,
    payload: Payload,
}

impl Target {
    pub(crate) fn new(handler: Handler, pool: &Arc<Pool>) -> Target {
        Target {
            handler,
            pool: pool.clone(),
            pace: Arc::new(Pace(AtomicU64::new(SLOW.as_nanos() as u64 * 2))),
        }
    }

    /// Takes a call or an event in. What comes back may be run at once.
    pub(crate) fn admit(
        &self,
        incoming: Incoming,
        link: &Arc<Link>,
        endpoint: &Arc<Inner>,
        ancestor: Option<&Arc<Slot>>,
    ) -> Option<Errand> {
        let context = Context::new(&incoming, link, endpoint);
        let body = Body { target: self.clone(), context, payload: incoming.payload };
        let task = match ancestor {
            None => Task::Plain(body),
            Some(ancestor) => Task::offer_to(ancestor, body)?,
        };
        let pool = &self.pool;
        let bound = match pool.when_full {
            WhenFull::Refuse => pool.bound,
            // Whatever waits counts against the limit of calls that are served at once.
            WhenFull::Wait => link.config().served_calls.max(pool.bound),
        };
        match pool.lane.admit(task, bound) {
            Admission::Run(task) => {
                let (pool, slow) = (pool.clone(), self.pace.is_slow());
                return Some(Errand { job: Box::new(move || run_on(&pool, task)), slow });
            }
            Admission::Queued => {}
            Admission::Full(task) => task.into_body().into_iter().for_each(|body| body.refuse_as_busy(bound)),
            Admission::Closed(task) => task.refuse_as_unknown(),
        }
        None
    }
}

/// Runs a task, and those that come to wait in its queue meanwhile.
fn run_on(pool: &Pool, first: Task) {
    let mut next = Some(first);
    while let Some(task) = next {
        // What is not run is dropped, which may panic as well; the place in the lane is free all the same.
        contain(|| task.into_body().into_iter().for_each(Body::run));
        next = pool.lane.next();
    }
}

impl Task {
    /// Leaves a call to the thread that blocks for its ancestor, or will. `None` if one does already;
    /// else it is to wait in the queue as well, and whoever comes first runs it.
    fn offer_to(ancestor: &Slot, body: Body) -> Option<Task> {
        let cell = Arc::new(Mutex::new(Some(body)));
        let theirs = cell.clone();
        let errand = move || {
            let body = theirs.lock().take();
            body.into_iter().for_each(Body::run);
        };
        match ancestor.offer(Box::new(errand)) {
            Offer::Taken => None,
            Offer::Kept | Offer::Declined => Some(Task::Shared(cell)),
        }
    }

    fn into_body(self) -> Option<Body> {
        match self {
            Task::Plain(body) => Some(body),
            Task::Shared(cell) => cell.lock().take(),
        }
    }

    /// Answers a call whose API went while it waited.
    pub(crate) fn refuse_as_unknown(self) {
        if let Some(body) = self.into_body() {
            body.refuse(Rejection::NoHandler { path: body.context.path.clone() });
        }
    }
}

impl Body {
    fn run(self) {
        let Body { target, context, payload } = self;
        let started = Instant::now();
        if context.transaction.is_some() && context.link.is_closing() {
            return;
        }
        if let Some(id) = context.transaction
            && (context.cancel.is_cancelled() || context.deadline.is_some_and(|at| at <= started))
        {
            context.link.tally().expired_in_queue.up();
            return context.link.fail(id, Rejection::Expired.into());
        }
        if let Err(error) = target.handler.run(&context, payload) {
            context.link.tally().events_failed.up();
            let report = Report::EventFailed { path: context.path.clone(), error };
            context.endpoint.report(&context.link, report);
        }
        target.pace.note(started.elapsed());
    }

    fn refuse_as_busy(&self, bound: usize) {
        let detail = format!("{bound} calls wait in the queue of {}", self.target.pool.namespace).into();
        self.refuse(Rejection::Busy { path: self.context.path.clone(), detail });
    }

    /// Answers a call without running it; an event is dropped and reported.
    fn refuse(&self, why: Rejection) {
        let context = &self.context;
        match context.transaction {
            Some(id) => context.link.fail(id, why.into()),
            None => context.endpoint.drop_event(&context.link, &context.path, CallError::Rejected(why)),
        }
    }
}

impl Pace {
    fn is_slow(&self) -> bool {
        u128::from(self.0.load(Ordering::Relaxed)) > SLOW.as_nanos()
    }

    /// A moving average over about the last eight runs.
    fn note(&self, took: Duration) {
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX / 16).min(u64::MAX / 16);
        let before = self.0.load(Ordering::Relaxed);
        self.0.store(before - before / 8 + took / 8, Ordering::Relaxed);
    }
}

/// Above this, waking another thread to read costs less than the calls that would wait.
const SLOW: Duration = Duration::from_micros(50);
