//! One call or event on its way through an API's queue to its handler.

use std::time::{Duration, Instant};

use super::{
    Context, Handler, QueueDepth, Report,
    arb::Measuring,
    endpoint::Inner,
    handler::Served,
    layer::Layers,
    meter::unwrapped,
    producer::{Outside, Produce},
    served::WhenFull,
    shortcut::Shortcut,
};
use crate::{
    error::{CallError, Rejection},
    link::{Answer, Errand, Incoming, Link, Offer, Remains, Slot},
    os::thread_id,
    sync::{Arc, AtomicU64, Mutex, Ordering, Weak, fail_here},
    wire::{Path, Payload, TransactionId},
    workers::{Admission, Job, Lane, Shift, Work, discard, panics, run_elsewhere},
};

/// The workers and the queue of one API.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) namespace: Path,
    pub(crate) lane: Lane<Task>,
    pub(crate) bound: usize,
    pub(crate) when_full: WhenFull,
    /// Handlers run on whatever thread brings a call.
    pub(crate) inline: bool,
    /// What stands around each handler.
    pub(crate) layers: Layers,
    /// Of an API while which is served, all others are counted.
    pub(crate) measuring: Mutex<Option<Measuring>>,
}

/// Where a path leads. Callers count references to it, while workers read it.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct Target {
    pub(crate) handler: Handler,
    pub(crate) pool: Arc<Pool>,
    pace: Pace,
    /// The short ways that lead here.
    shortcuts: Mutex<Vec<Weak<Shortcut>>>,
}

/// How long a handler usually runs, for the choice what others do meanwhile.
#[derive(Debug)]
struct Pace(AtomicU64);

/// A call or an event on its way to its handler.
#[derive(Debug)]
pub(crate) enum Task {
    /// The usual one.
    Plain(Box<Body>),
    /// One that the thread which waits for its ancestor may take out of the queue.
    Shared(Arc<Shared>),
}

#[derive(Debug)]
pub(crate) struct Shared {
    pool: Arc<Pool>,
    body: Mutex<Option<Box<Body>>>,
}

/// A call or an event whose handler is known.
#[derive(Debug)]
pub(crate) struct Body {
    pub(super) target: Arc<Target>,
    pub(super) context: Context,
    payload: Payload,
    /// The caller, where it is in this process.
    caller: Option<Arc<Slot>>,
    /// It has come just now, so that its time cannot be over.
    fresh: bool,
    /// It needs no place in the lane of its pool.
    inline: bool,
    /// The call whose thread may run it while it waits for a place, and make its items where there is none.
    pub(super) ancestor: Option<Arc<Slot>>,
    /// What makes the items of a stream that has begun.
    pub(super) producer: Option<Box<dyn Produce>>,
}

/// Where a body is after it has run.
#[derive(Debug)]
pub(super) enum Ran {
    /// Nothing is left to do for it.
    Over(Box<Body>),
    /// With its caller, who gives the place back.
    WithCaller,
    /// It comes again, and has given its place in this pool back.
    Paused(Arc<Pool>),
}

impl Pool {
    /// How much there is to do.
    pub(crate) fn depth(&self) -> QueueDepth {
        let (running, waiting) = self.lane.depth();
        QueueDepth { namespace: self.namespace.clone(), running, waiting }
    }
}

impl Target {
    pub(crate) fn new(handler: Handler, pool: &Arc<Pool>) -> Arc<Target> {
        let pace = Pace(AtomicU64::new(SLOW.as_nanos() as u64 * 2));
        Arc::new(Target { handler, pool: pool.clone(), pace, shortcuts: Mutex::default() })
    }

    /// A short way leads here until the handler goes.
    pub(super) fn remember(&self, shortcut: &Arc<Shortcut>) {
        let mut shortcuts = self.shortcuts.lock();
        // Those of links that are gone.
        shortcuts.retain(|shortcut| shortcut.strong_count() > 0);
        shortcuts.push(Arc::downgrade(shortcut));
    }

    /// The handler as it was when it came here.
    pub(super) fn without_layers(&self) -> Handler {
        let handler = unwrapped(self.handler.clone());
        if self.pool.layers.is_empty() { handler } else { handler.bare() }
    }

    /// The handler goes: no call takes a short way here any more. What comes back is to be dropped without a
    /// lock.
    pub(super) fn retire(&self) -> Vec<impl Sized + use<>> {
        let shortcuts = std::mem::take(&mut *self.shortcuts.lock());
        shortcuts.iter().filter_map(Weak::upgrade).map(|shortcut| (shortcut.retire(), shortcut)).collect()
    }

    /// Whether its handler usually takes long.
    pub(super) fn is_slow(&self) -> bool {
        self.pace.is_slow()
    }

    /// Lets go of what was routed here and does not run. Whoever reads may be the last to know the handler, which is
    /// the user's, when its API was detached meanwhile: then it goes elsewhere.
    pub(super) fn let_go(self: Arc<Target>, link: &Link) {
        if let Some(target) = Arc::into_inner(self) {
            link.submit(Box::new(move || drop(target)));
        }
    }

    /// Takes note of how long it took.
    pub(super) fn note(&self, took: Duration) {
        self.pace.note(took);
    }

    /// Takes a call or an event in. What comes back may be run at once.
    pub(crate) fn admit(
        self: Arc<Target>,
        incoming: Incoming,
        link: &Arc<Link>,
        endpoint: Arc<Inner>,
        ancestor: Option<&Arc<Slot>>,
    ) -> Option<Errand> {
        if let Some(caller) = incoming.caller.as_ref().filter(|_| !self.pace.is_quick()) {
            caller.turn_away();
        }
        let pool = self.pool.clone();
        let (context, payload, caller) = Context::new(incoming, link, endpoint);
        let is_stream = !context.ends.is_none();
        // What has items may wait for them, and takes a worker.
        let (inline, ancestor) = (pool.inline && !is_stream, ancestor.cloned());
        let body = Box::new(Body {
            target: self,
            context,
            payload,
            caller,
            fresh: true,
            inline,
            ancestor,
            producer: None,
        });
        if !inline {
            return body.enter();
        }
        if pool.lane.is_closed() {
            drop(pool);
            return Errand::aside(link, body, Body::refuse_gone);
        }
        Some(Errand { job: body, slow: false, inline })
    }
}

/// A call that is left to the thread that blocks for its ancestor.
struct Offered {
    shared: Arc<Shared>,
    here: bool,
}

impl Work for Offered {
    fn run(self: Box<Offered>, _: &Shift<'_>) {
        let shift = if self.here { Shift::here() } else { Shift::elsewhere() };
        self.shared.take().into_iter().for_each(|body| discard(body.run(&shift, false)));
    }

    fn take_place(self: Box<Offered>) -> Option<Job> {
        Some(self)
    }

    fn is_over(&self) -> bool {
        self.shared.body.lock().is_none()
    }
}

impl Task {
    /// Leaves a call to the thread that blocks for its ancestor, or will. `None` if one does already;
    /// else it is to wait in the queue as well, and whoever comes first runs it.
    pub(super) fn offer_to(ancestor: &Slot, body: Box<Body>) -> Option<Task> {
        let pool = body.target.pool.clone();
        // Whoever waits for the call itself, which was made in a handler on that very thread.
        let here = body.caller.as_ref().is_some_and(|caller| std::ptr::eq(&**caller, ancestor));
        let link = body.context.link().clone();
        let shared = Arc::new(Shared { pool, body: Mutex::new(Some(body)) });
        match ancestor.offer(Box::new(Offered { shared: shared.clone(), here })) {
            Offer::Taken { reads } => {
                if reads.is_some_and(|reads| reads != thread_id()) {
                    link.nudge();
                }
                None
            }
            Offer::Kept | Offer::Declined => Some(Task::Shared(shared)),
        }
    }

    pub(super) fn into_body(self) -> Option<Box<Body>> {
        match self {
            Task::Plain(body) => Some(body),
            Task::Shared(shared) => shared.take(),
        }
    }

    /// What runs it, and those that come to wait in its queue meanwhile.
    pub(super) fn into_job(self) -> Job {
        match self {
            Task::Plain(body) => body,
            shared => Box::new(Queued(shared)),
        }
    }

    /// Runs the task, and gives the next one that waits for its place.
    fn run(self, shift: &Shift<'_>) -> Option<Task> {
        let body = match self {
            Task::Plain(body) => body,
            Task::Shared(shared) => match shared.take() {
                Some(body) => body,
                // Whoever blocks for its ancestor has come first.
                None => return shared.pool.lane.next(),
            },
        };
        match body.run(shift, true) {
            Ran::Over(body) => {
                let next = body.target.pool.lane.next();
                discard(body);
                next
            }
            Ran::WithCaller => None,
            Ran::Paused(pool) => pool.lane.next(),
        }
    }

    /// Runs the task, and those that come to wait in its queue meanwhile.
    fn run_on(self, shift: &Shift<'_>) {
        let mut next = self.run(shift);
        while let Some(mut task) = next {
            if let Task::Plain(body) = &mut task {
                body.fresh = false;
            }
            next = task.run(shift);
        }
    }

    /// Answers a call whose API went while it waited. What comes back is to be dropped.
    pub(crate) fn refuse_as_unknown(self) -> Option<Box<Body>> {
        let body = self.into_body()?;
        if body.producer.is_some() {
            // It has begun, and goes on.
            let link = body.context.link().clone();
            link.submit(Box::new(Outside(Task::Plain(body))));
            return None;
        }
        body.refuse(Rejection::NoHandler { path: body.context.path().clone() }.into());
        Some(body)
    }
}

impl Shared {
    /// For whoever comes first.
    fn take(&self) -> Option<Box<Body>> {
        let mut body = self.body.lock().take()?;
        // It may have waited: for the thread that it was left to, or in the queue.
        body.fresh = false;
        Some(body)
    }
}

/// A task whose turn has come after a wait.
struct Queued(Task);

impl Work for Queued {
    fn run(self: Box<Queued>, shift: &Shift<'_>) {
        self.0.run_on(shift);
    }

    fn take_place(self: Box<Queued>) -> Option<Job> {
        Some(self)
    }
}

impl Work for Body {
    fn run(self: Box<Body>, shift: &Shift<'_>) {
        match self.inline {
            true => discard(Body::run(self, shift, false)),
            false => Task::Plain(self).run_on(shift),
        }
    }

    fn wants_place(&self) -> bool {
        self.inline
    }

    fn take_place(mut self: Box<Body>) -> Option<Job> {
        // It may wait from here on.
        (self.inline, self.fresh) = (false, false);
        let errand = self.enter()?;
        if !errand.inline {
            return Some(errand.job);
        }
        // It is refused, for which nobody has to come.
        run_elsewhere(errand.job);
        None
    }
}

impl Body {
    /// Asks for a place in the lane. What comes back has one, and may be run at once; or it is inline, and refuses.
    fn enter(mut self: Box<Body>) -> Option<Errand> {
        let (pool, slow) = (self.target.pool.clone(), self.target.is_slow());
        let bound = match pool.when_full {
            WhenFull::Refuse => pool.bound,
            // Whatever waits counts against the limit of calls that are served at once.
            WhenFull::Wait => self.context.link().config().limits.served_calls.max(pool.bound),
        };
        let task = match self.take_ancestor() {
            None => Task::Plain(self),
            Some(ancestor) => Task::offer_to(&ancestor, self)?,
        };
        let admission = pool.lane.admit(task, bound);
        drop(pool);
        match admission {
            Admission::Run(task) => Some(Errand { job: task.into_job(), slow, inline: false }),
            Admission::Queued => None,
            Admission::Full(task) => task.into_body()?.refuse_as_busy(bound),
            Admission::Closed(task) => {
                let body = task.into_body()?;
                let link = body.context.link().clone();
                Errand::aside(&link, body, Body::refuse_gone)
            }
        }
    }

    /// That of a stream is wanted again.
    fn take_ancestor(&mut self) -> Option<Arc<Slot>> {
        if self.context.ends.is_none() { self.ancestor.take() } else { self.ancestor.clone() }
    }

    /// Runs the handler and answers. The caller may take the rest upon itself if `in_lane`: the body holds
    /// a place in the lane of its pool.
    pub(super) fn run(mut self: Box<Body>, shift: &Shift<'_>, in_lane: bool) -> Ran {
        if self.producer.is_some() {
            return self.produce(shift, in_lane);
        }
        let mut served = Served::Done;
        if shift.is_here() {
            self.caller.iter().for_each(|caller| caller.serve_here());
        }
        // What is not run is dropped, which may panic as well.
        let ran = || {
            fail_here("a worker that serves");
            served = self.serve(shift);
        };
        if panics(ran) {
            // Somebody may wait for it.
            served = Served::Failed(CallError::NoAnswer);
        }
        if let Some(id) = self.context.transaction.filter(|_| shift.is_here() && self.caller.is_some()) {
            // The caller is this thread, and has not looked at the clock since.
            if self.context.deadline.is_some_and(|at| at <= Instant::now()) {
                self.context.link().expire_near(id);
            }
        }
        match (served, self.context.transaction) {
            (Served::Answer(answer), Some(id)) => return self.answer(id, answer, shift, in_lane),
            (Served::Failed(error), Some(id)) => {
                self.context.link().fail(id, self.context.cancel_token(), error)
            }
            (Served::Failed(error), None) => self.report(error),
            (Served::Stream(producer), Some(_)) => {
                self.producer = Some(producer);
                // Whoever has no place leaves the items to one that has, even the first: it may be long in coming.
                return if in_lane { self.produce(shift, in_lane) } else { self.give_way() };
            }
            (Served::Done | Served::Later | Served::Answer(_) | Served::Stream(_), _) => {}
        }
        Ran::Over(self)
    }

    fn serve(&mut self, shift: &Shift<'_>) -> Served {
        let near = self.caller.is_some();
        let Body { target, context, payload, fresh, .. } = self;
        if context.transaction.is_some() && !(*fresh && near) {
            if !*fresh && context.link().is_closing() {
                return Served::Done;
            }
            if context.cancel_token().has_fired() || (!*fresh && context.is_cancelled()) {
                context.link().tally().expired_in_queue.up();
                return Served::Failed(Rejection::Expired.into());
            }
        }
        if context.is_event() && !*fresh && context.link().is_left_alone() {
            context.link().tally().events_dropped.up();
            return Served::Done;
        }
        if target.pool.inline || !shift.is_sample() {
            return target.handler.run(context, payload, shift.is_here());
        }
        let started = Instant::now();
        let served = target.handler.run(context, payload, shift.is_here());
        target.pace.note(started.elapsed());
        served
    }

    fn answer(
        mut self: Box<Body>,
        id: TransactionId,
        answer: Answer,
        shift: &Shift<'_>,
        in_lane: bool,
    ) -> Ran {
        // Those who wait for the place should not have to wait for the caller.
        let alone = in_lane && !self.target.pool.lane.is_waited_for();
        let caller = self.caller.take().filter(|caller| alone && caller.is_plain());
        let (answer, body) = match (answer, caller) {
            // Only if the caller takes it all along: what nobody takes is dropped here, and may take its time.
            (Answer::Moved(value), Some(caller)) => {
                match caller.fill_watched(value, self, || shift.about_to_end()) {
                    Ok(()) => return Ran::WithCaller,
                    Err((value, body)) => (Answer::Moved(value), body),
                }
            }
            (answer, _) => (answer, self),
        };
        let (link, caller) = (body.context.link(), body.context.cancel_token());
        let reply = || {
            fail_here("a worker that answers");
            link.reply(id, caller, answer);
        };
        if panics(reply) {
            link.fail(id, caller, CallError::NoAnswer);
        }
        Ran::Over(body)
    }

    fn report(&self, error: CallError) {
        let context = &self.context;
        context.link().tally().events_failed.up();
        context.home().report(context.link(), Report::EventFailed { path: context.path().clone(), error });
    }

    /// Refuses what finds the queue full.
    fn refuse_as_busy(self: Box<Body>, bound: usize) -> Option<Errand> {
        let detail = format!("{bound} calls wait in the queue of {}", self.target.pool.namespace).into();
        let why = CallError::from(Rejection::Busy { path: self.context.path().clone(), detail });
        let (home, link) = (self.context.home().clone(), self.context.link().clone());
        // Nobody at the other side is told of an event.
        if !self.target.handler.is_layered() || self.context.is_event() {
            return Errand::aside(&link, self, |body| {
                body.refuse(why);
                body.let_go();
            });
        }
        // A layer may hide the path: that is code of the user's, and this thread may be the one that reads.
        let refuse = move || self.refuse(self.target.handler.or_unknown(&self.context, why));
        home.refuse_aside(&link, Box::new(refuse));
        None
    }

    /// Answers a call without running it; an event is dropped and reported.
    fn refuse(&self, error: CallError) {
        let context = &self.context;
        match context.transaction {
            Some(id) => context.link().fail(id, context.cancel_token(), error),
            None => context.home().drop_event(context.link(), context.path(), error),
        }
    }
}

impl Body {
    /// Answers a call whose API has gone.
    fn refuse_gone(self: Box<Body>) {
        Task::Plain(self).refuse_as_unknown().into_iter().for_each(Body::let_go);
    }

    /// What was refused goes.
    fn let_go(self: Box<Body>) {
        let link = self.context.link().clone();
        let Body { target, .. } = *self;
        target.let_go(&link);
    }
}

impl Remains for Body {
    fn settle(self: Box<Body>) -> Option<TransactionId> {
        self.context.link().settle_served();
        // One may have come to wait after the handler was done.
        if let Some(next) = self.target.pool.lane.next() {
            self.context.link().submit(Box::new(Queued(next)));
        }
        let id = self.context.transaction;
        // What nobody took goes now.
        discard(self);
        id
    }
}

impl Pace {
    fn is_slow(&self) -> bool {
        u128::from(self.0.load(Ordering::Relaxed)) > SLOW.as_nanos()
    }

    /// Whether a caller of this process had better look out for the answer than sleep.
    fn is_quick(&self) -> bool {
        u128::from(self.0.load(Ordering::Relaxed)) <= QUICK.as_nanos()
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
/// Below this, a caller looks out for its answer.
const QUICK: Duration = Duration::from_micros(10);
