//! What Head and Neck are built on: the APIs of this side, and the link to the other.

use std::{
    collections::VecDeque,
    fmt,
    time::{Duration, Instant},
};

use super::{
    Api, ApiArb, ApiHandle, Attached, Context, Handler, QueueDepth, Report, WhenFull,
    arb::{self, Route, choose},
    hooks::Hooks,
    layer::Layers,
    pauses::Pauses,
    served::Scope,
    succession::Succession,
    task::{Pool, Target},
    timer::Ticking,
    watchdog::Watchdog,
};
use crate::{
    config::Config,
    counters::{Counters, Tally},
    error::{ApiError, CallError, CloseReason, Executed, Misuse, Rejection},
    link::{Dispatch, Errand, Incoming, Link, LinkParts, LinkState, Lost, Slot},
    logging::{Line, line},
    os::Origin,
    sync::{Arc, AtomicU64, Mutex, OnceLock, Ordering, RwLock, Weak, hold_nothing},
    wire::{Codec, Fault, Path, Payload, Side},
    workers::{Admission, Crew, Job, LAST_LINES, Lane, Until, discard, forget_panic, run_elsewhere},
};

/// One side: what it serves, and how it calls the other. A [`Head`](crate::Head) and a
/// [`Neck`](crate::Neck) are one, and hand it out. Cheap to clone; every clone is the same one.
///
/// It does not keep the link alive: that is up to the Head or the Neck, and once they are gone every
/// call ends with [`CallError::Closed`].
#[derive(Clone)]
pub struct Endpoint(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    weak: Weak<Inner>,
    pub(super) origin: Origin,
    pub(crate) side: Side,
    pub(crate) config: Config,
    arb: ApiArb,
    hooks: Hooks,
    pub(crate) tally: Arc<Tally>,
    pub(super) connection: RwLock<Connection>,
    /// How many links there have been behind the handles.
    generation: AtomicU64,
    /// Who wants to hear that the link is over, at once.
    at_the_end: OnceLock<Box<dyn Fn() + Send + Sync>>,
    /// There if a link that ends is replaced.
    pub(super) succession: OnceLock<Arc<Succession>>,
    /// The last link, once no other one comes.
    pub(super) remembered: Mutex<Option<Arc<Link>>>,
    listeners: Arc<Lane<Job>>,
    /// The calls that are made again in a while.
    pub(super) pauses: Arc<Pauses>,
    /// Does what follows from the ends of calls that end together.
    pub(super) ends: Crew,
    pub(super) watchdog: Option<Arc<Watchdog>>,
    /// The workers for what no API takes.
    pub(super) rest: Arc<Pool>,
    /// What waits for the users' predicates. They are asked for one call at a time, in the order of
    /// arrival, which would else be lost here.
    undecided: Lane<Undecided>,
    /// Refusals of which layers are asked first, one at a time.
    pub(super) refusals: Lane<Job>,
    /// How many subscriptions this side has made.
    subscriptions: AtomicU64,
    /// Where the second end may come of one that was dropped when the first was on its way.
    pub(super) ended_twice: Mutex<VecDeque<Path>>,
    /// They end with the link.
    pub(super) timers: Mutex<Vec<Weak<Ticking>>>,
}

/// A call or an event for which there are several catch-alls.
struct Undecided {
    link: Arc<Link>,
    incoming: Incoming,
    choice: Vec<(Scope, Arc<Target>)>,
    /// The call of ours from which it descends.
    ancestor: Option<Arc<Slot>>,
}

/// What stands behind the handles of an endpoint.
pub(super) enum Connection {
    None,
    Link(Arc<Link>),
    /// The one that has ended; the next is to come.
    Between(Arc<Link>),
    /// The Head or the Neck is gone.
    Over(Arc<CloseReason>),
}

/// A side that may be gone.
#[derive(Debug)]
pub(crate) struct WeakEndpoint(Weak<Inner>);

impl WeakEndpoint {
    pub(crate) fn upgrade(&self) -> Option<Endpoint> {
        self.0.upgrade().map(Endpoint)
    }

    /// Whether all handles are gone. It holds none itself, and so may be asked under a lock.
    pub(crate) fn is_gone(&self) -> bool {
        self.0.strong_count() == 0
    }
}

impl Endpoint {
    pub(crate) fn downgrade(&self) -> WeakEndpoint {
        WeakEndpoint(Arc::downgrade(&self.0))
    }

    /// With these layers around every call of the link, on its way in and out.
    pub(crate) fn new(side: Side, config: Config, layers: Layers) -> Endpoint {
        Endpoint(Arc::new_cyclic(|weak| Inner {
            weak: weak.clone(),
            origin: Origin::here(),
            side,
            watchdog: config.watchdog.map(|limit| Arc::new(Watchdog::new(limit))),
            ends: Crew::new(format!("{}-ends", config.name)),
            config,
            arb: ApiArb::behind(layers.clone()),
            hooks: Hooks::default(),
            tally: Arc::default(),
            connection: RwLock::new(Connection::None),
            generation: AtomicU64::new(0),
            at_the_end: OnceLock::new(),
            succession: OnceLock::new(),
            remembered: Mutex::default(),
            listeners: Arc::new(Lane::new(1)),
            rest: Arc::new(Pool {
                namespace: Path::root(),
                lane: Lane::new(REST_WORKERS),
                bound: REST_QUEUE,
                when_full: WhenFull::Refuse,
                inline: false,
                layers,
                measuring: Mutex::default(),
            }),
            undecided: Lane::new(1),
            refusals: Lane::new(1),
            subscriptions: AtomicU64::new(0),
            ended_twice: Mutex::default(),
            pauses: Arc::default(),
            timers: Mutex::default(),
        }))
    }

    /// What a link of this endpoint is made of.
    pub(crate) fn link_parts(&self) -> LinkParts {
        LinkParts {
            side: self.0.side,
            config: self.0.config.clone(),
            listeners: self.0.listeners.clone(),
            dispatch: self.0.clone(),
            tally: self.0.tally.clone(),
        }
    }

    /// Puts a link behind every handle of this endpoint.
    pub(crate) fn connect(&self, link: &Arc<Link>) {
        self.0.generation.fetch_add(1, Ordering::Relaxed);
        if let Some(watchdog) = &self.0.watchdog {
            watchdog.start(&self.0.weak, &self.0.config.name);
        }
        match self.0.succession.get() {
            Some(succession) => self.0.succeed(succession, link),
            None => *self.0.connection.write() = Connection::Link(link.clone()),
        }
    }

    /// Has `notice` called when the link is over. It is called under the lock of the link, and must not block.
    pub(crate) fn at_the_end(&self, notice: impl Fn() + Send + Sync + 'static) {
        let _ = self.0.at_the_end.set(Box::new(notice));
    }

    /// Another link is about to be made.
    pub(crate) fn begin_anew(&self) {
        self.0.hooks.begin_anew();
    }

    /// The Head or the Neck is gone: lets go of the link and of everything of the user's, which may hold
    /// handles to this endpoint itself. Waits for its threads, for at most `limit`.
    pub(crate) fn dismantle(&self, limit: Duration) {
        let until = Until::after(limit);
        self.0.watchdog.iter().for_each(|watchdog| watchdog.stop());
        let timers = std::mem::take(&mut *self.0.timers.lock());
        let reason = self.close_reason().unwrap_or_else(|| Arc::new(CloseReason::Local));
        let before = std::mem::replace(&mut *self.0.connection.write(), Connection::Over(reason));
        let timers: Vec<_> = timers.iter().filter_map(Weak::upgrade).collect();
        timers.iter().for_each(|timer| timer.end());
        timers.iter().for_each(|timer| timer.join(until.left()));
        let remembered = self.0.remembered.lock().take();
        self.0.end_pauses();
        if !self.0.pauses.join(until.left()) {
            self.0.tally.leave_behind(1, &self.0.config.name, "pauses");
        }
        self.0.ends.stop();
        let left = self.0.ends.join(until.at_least(LAST_LINES).left());
        if left > 0 {
            self.0.tally.leave_behind(left, &self.0.config.name, "ends-*");
        }
        let watchdog = self.0.watchdog.as_ref();
        if !watchdog.is_none_or(|watchdog| watchdog.join(until.at_least(LAST_LINES).left())) {
            self.0.tally.leave_behind(1, &self.0.config.name, "watchdog");
        }
        discard(before);
        discard(remembered);
        self.0.arb.clear();
        self.0.hooks.clear();
    }

    /// The other side's APIs at and below `path`; the empty path is the root. Nothing is sent: whether
    /// anything handles a path shows when it is called.
    pub fn api(&self, path: &str) -> ApiHandle {
        ApiHandle::new(self.0.clone(), path)
    }

    /// Serves an API to the other side, from now on.
    ///
    /// # Errors
    ///
    /// As for [`ApiArb::attach`](crate::ApiArb::attach); then nothing of it is served.
    pub fn attach(&self, api: Api) -> Result<Attached, ApiError> {
        self.0.arb.attach(api)
    }

    /// What is served here, and by whom.
    pub fn arb(&self) -> &ApiArb {
        &self.0.arb
    }

    /// Calls `listener` with every state of the link, once each and in order; with those that it has
    /// been in already, too. It runs on a thread of the link, and must not make blocking calls.
    pub fn on_state(&self, listener: impl Fn(LinkState) + Send + Sync + 'static) {
        self.0.hooks.add_listener(Arc::new(listener), self.0.link().ok().as_ref());
    }

    /// Calls `hook` with what no caller is told about. It runs on a thread of the link, one report at a
    /// time, and must not make blocking calls. A second hook takes the place of the first. Panics of the
    /// hook itself are counted and logged.
    pub fn on_error(&self, hook: impl Fn(&Report) + Send + Sync + 'static) {
        self.0.hooks.set_error_hook(Arc::new(hook));
    }

    /// Serves every call and event that no API takes, at most four at a time; 1,024 may wait, and those
    /// beyond are refused. A second one takes the place of the first.
    pub fn on_unhandled<F>(&self, function: F)
    where
        F: Fn(&Context, Payload) -> Result<Payload, Fault> + Send + Sync + 'static,
    {
        let handler = Handler::new(function).behind(&self.0.rest.layers);
        self.0.hooks.set_unhandled(Target::new(handler, &self.0.rest));
    }

    /// What this side has counted so far.
    pub fn counters(&self) -> Counters {
        self.0.tally.read()
    }

    /// How many calls of this side are under way, and how many of the other side are served.
    pub fn under_way(&self) -> (usize, usize) {
        self.0.link().map_or((0, 0), |link| link.under_way())
    }

    /// The state of the link; `Starting` between two links.
    pub fn state(&self) -> LinkState {
        if self.0.is_forked() {
            return LinkState::Closed;
        }
        let link = match &*self.0.connection.read() {
            Connection::None | Connection::Between(_) => return LinkState::Starting,
            Connection::Link(link) => link.clone(),
            Connection::Over(_) => return LinkState::Closed,
        };
        // Not under the lock, which is taken under that of a link that ends.
        link.stage()
    }

    /// What the link speaks; [`Codec::Binary`] before the other side has greeted, and without a link.
    pub fn codec(&self) -> Codec {
        self.0.link().map_or(Codec::Binary, |link| link.codec())
    }

    /// A random number that both sides know their link by, for logs: `None` before the other side has greeted, and
    /// without a link. It is no secret and proves nothing.
    pub fn link_id(&self) -> Option<u64> {
        self.0.link().ok()?.id.get()
    }

    /// Why the link is over; `None` while it is not.
    pub fn close_reason(&self) -> Option<Arc<CloseReason>> {
        if self.0.is_forked() {
            return Some(Arc::new(CloseReason::Local));
        }
        let link = match &*self.0.connection.read() {
            Connection::None => return None,
            Connection::Link(link) | Connection::Between(link) => link.clone(),
            Connection::Over(reason) => return Some(reason.clone()),
        };
        link.close_reason()
    }

    /// How many links have stood behind the handles of this side, the one that does now included: 1 unless
    /// a [`Supervisor`](crate::Supervisor) has started its program again, and 0 before there is one.
    ///
    /// Whoever remembers something of the other side looks here whether it is still the same.
    pub fn generation(&self) -> u64 {
        self.0.generation.load(Ordering::Relaxed)
    }

    /// How many threads of the link there are now, the keeper of its clock not counted.
    pub fn n_threads(&self) -> usize {
        self.0.link().map_or(0, |link| link.n_threads())
    }
}

impl Inner {
    /// What stands around every call of the link.
    pub(super) fn layers(&self) -> &Layers {
        &self.rest.layers
    }

    /// The link that a call takes now.
    pub(crate) fn link(&self) -> Result<Arc<Link>, CallError> {
        if self.is_forked() {
            return Err(Misuse::Forked.into());
        }
        let last = match &*self.connection.read() {
            Connection::Link(link) => return Ok(link.clone()),
            Connection::Over(reason) => return Err(closed(reason.clone())),
            Connection::None => None,
            Connection::Between(last) => Some(last.clone()),
        };
        // Not under the lock, which is taken under that of a link that ends.
        let reason = last.and_then(|last| last.close_reason());
        Err(closed(reason.unwrap_or_else(|| Arc::new(CloseReason::Local))))
    }

    /// Itself, as users have it.
    pub(super) fn endpoint(&self) -> Endpoint {
        Endpoint(self.weak.upgrade().expect("whoever calls has it"))
    }

    /// How much there is to do for each API, and for what no API takes.
    pub(super) fn queues(&self) -> Vec<QueueDepth> {
        std::iter::once(self.rest.depth()).chain(self.arb.depths()).collect()
    }

    /// Tells the error hook on the link that there is, or the log.
    pub(super) fn report_anywhere(&self, report: Report) {
        self.say(line!(Warn, "{} {report:?}", self.side));
        if let Ok(link) = self.link() {
            self.report(&link, report);
        }
    }

    /// Has a line written by the last link that there was, or else by the calling thread, which holds no lock.
    pub(super) fn say(&self, line: Option<Line>) {
        match self.last_link() {
            Some(link) => link.say(line),
            None => line.into_iter().for_each(Line::write),
        }
    }

    pub(crate) fn report(&self, link: &Link, report: Report) {
        self.hooks.report(link, || report);
    }

    pub(crate) fn arb(&self) -> &ApiArb {
        &self.arb
    }

    /// A number that no other subscription of this endpoint has.
    pub(crate) fn next_subscription(&self) -> u64 {
        self.subscriptions.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn endpoint_reason(&self) -> Arc<CloseReason> {
        Endpoint::close_reason(&self.endpoint()).unwrap_or_else(|| Arc::new(CloseReason::Local))
    }

    /// A callback panicked that runs on no thread of a link.
    pub(crate) fn callback_panicked_elsewhere(&self, text: String) {
        self.tally.callback_panics.up();
        match self.link() {
            Ok(link) => self.report(&link, Report::CallbackPanicked { text }),
            Err(_) => self.say(line!(Warn, "a callback panicked: {text}")),
        }
    }

    /// A call was over before it could set out.
    pub(crate) fn count_late_call(&self) {
        self.tally.calls.up();
        self.tally.timeouts.up();
    }

    pub(crate) fn count_cancelled_call(&self) {
        self.tally.calls.up();
        self.tally.cancels.up();
    }

    pub(crate) fn count_ignored(&self) {
        self.tally.ignored_errors.up();
    }

    /// Counts and reports an event that is not handled.
    pub(crate) fn drop_event(&self, link: &Link, path: &Path, error: CallError) {
        self.tally.events_dropped.up();
        self.hooks.report(link, || Report::EventDropped { path: path.clone(), error });
    }

    /// What becomes of a call or an event that no API takes.
    pub(super) fn unhandled(
        self: &Arc<Inner>,
        link: &Arc<Link>,
        incoming: Incoming,
        why: Rejection,
        ancestor: Option<&Arc<Slot>>,
    ) -> Option<Errand> {
        let target = self.hooks.unhandled();
        if let Some(target) = target.filter(|_| matches!(why, Rejection::NoHandler { .. })) {
            return target.admit(incoming, link, self.clone(), ancestor);
        }
        let (inner, theirs) = (self.clone(), link.clone());
        Errand::aside(link, incoming, move |incoming| match incoming.id {
            Some(id) => {
                inner.tally.unhandled.up();
                theirs.fail(id, &incoming.cancel, why.into());
            }
            None => inner.drop_event(&theirs, &incoming.path, why.into()),
        })
    }

    /// Has the predicates asked which of several catch-alls takes a call, on a thread that may run user
    /// code.
    fn decide(self: &Arc<Inner>, undecided: Undecided) -> Option<Errand> {
        let inner = self.clone();
        if undecided.ancestor.is_some() {
            let job = move || inner.ask(undecided).into_iter().for_each(|errand| run_elsewhere(errand.job));
            return Some(Errand { job: Box::new(job), slow: true, inline: false });
        }
        match self.undecided.admit(undecided, REST_QUEUE) {
            Admission::Run(first) => {
                Some(Errand { job: Box::new(move || inner.decide_all(first)), slow: true, inline: false })
            }
            Admission::Full(Undecided { link, incoming, choice, .. }) => {
                arb::let_go(choice, &link);
                let detail = format!("{REST_QUEUE} calls wait for the predicates of catch-alls").into();
                let why = Rejection::Busy { path: incoming.path.clone(), detail };
                self.unhandled(&link, incoming, why, None)
            }
            Admission::Queued | Admission::Closed(_) => None,
        }
    }

    fn decide_all(self: &Arc<Inner>, first: Undecided) {
        let mut next = Some(first);
        while let Some(undecided) = next {
            let link = undecided.link.clone();
            // Not here: a handler may take its time, and the next call would wait for it.
            self.ask(undecided).into_iter().for_each(|errand| link.submit_errand(errand));
            next = self.undecided.next();
        }
    }

    fn ask(self: &Arc<Inner>, undecided: Undecided) -> Option<Errand> {
        let Undecided { link, incoming, choice, ancestor } = undecided;
        if let Some(id) = incoming.id.filter(|_| incoming.is_given_up(Instant::now())) {
            self.tally.expired_in_queue.up();
            link.fail(id, &incoming.cancel, Rejection::Expired.into());
            return None;
        }
        hold_nothing();
        let asked = std::panic::AssertUnwindSafe(|| choose(choice, &incoming.path));
        let decided = std::panic::catch_unwind(asked).unwrap_or_else(|panic| {
            forget_panic(panic);
            self.tally.handler_panics.up();
            Err(Rejection::NoHandler { path: incoming.path.clone() })
        });
        match decided {
            Ok(target) => target.admit(incoming, &link, self.clone(), ancestor.as_ref()),
            Err(why) => self.unhandled(&link, incoming, why, ancestor.as_ref()),
        }
    }
}

/// The end of a call that found no link.
fn closed(reason: Arc<CloseReason>) -> CallError {
    CallError::Closed { reason, executed: Executed::No }
}

impl Dispatch for Inner {
    fn dispatch(&self, link: &Arc<Link>, incoming: Incoming, ancestor: Option<&Arc<Slot>>) -> Option<Errand> {
        let inner = self.weak.upgrade()?;
        match incoming.id {
            Some(_) => self.tally.calls_served.up(),
            None => self.tally.events_served.up(),
        }
        match self.arb.route(&incoming.path) {
            Route::Target(target) => match target.handler.disagrees(incoming.shape) {
                None => target.admit(incoming, link, inner, ancestor),
                Some(_) => inner.refuse_shape(link, incoming, target, ancestor),
            },
            Route::Tap(tap) => {
                let errand = tap.take(link, &inner, incoming);
                tap.let_go(link);
                errand
            }
            Route::Choice(choice) => {
                let (link, ancestor) = (link.clone(), ancestor.cloned());
                inner.decide(Undecided { link, incoming, choice, ancestor })
            }
            Route::Nothing => {
                let why = Rejection::NoHandler { path: incoming.path.clone() };
                inner.unhandled(link, incoming, why, ancestor)
            }
        }
    }

    fn changed(&self, link: &Arc<Link>, state: LinkState) -> Vec<Job> {
        let succession = self.succession.get().filter(|_| state >= LinkState::Disconnected);
        // Before its calls end: who hears of the end and calls again waits for the next link.
        succession.inspect(|_| self.part_from(link));
        let mut jobs = self.hooks.changed(link, state);
        if state == LinkState::Disconnected {
            jobs.extend(self.end_taps(link));
            if succession.is_none() && !self.pauses.is_empty() {
                let inner = self.weak.upgrade();
                jobs.push(Box::new(move || inner.iter().for_each(|inner| inner.end_pauses())));
            }
        }
        succession.inspect(|succession| succession.bell.ring());
        if state == LinkState::Closed && succession.is_none() {
            self.end_timers();
        }
        if state == LinkState::Closed {
            self.at_the_end.get().inspect(|notice| notice());
        }
        jobs
    }

    fn callback_panicked(&self, link: &Arc<Link>, text: String) {
        self.hooks.report(link, || Report::CallbackPanicked { text });
    }

    fn event_lost(&self, link: &Arc<Link>, lost: Lost) -> Option<Errand> {
        self.tally.events_served.up();
        let Route::Tap(tap) = self.arb.route(&lost.event.path) else {
            self.drop_event(link, &lost.event.path, lost.why.into());
            return None;
        };
        let errand = self.weak.upgrade().and_then(|inner| tap.take_without_room(link, &inner, lost));
        tap.let_go(link);
        errand
    }

    fn late_reply(&self, link: &Arc<Link>) {
        self.hooks.report(link, || Report::LateReply);
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("side", &self.side).finish_non_exhaustive()
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("side", &self.0.side).field("state", &self.state()).finish()
    }
}

/// How many handlers of what no API takes run at once.
const REST_WORKERS: usize = 4;
/// How many calls and events wait for one, and how many wait for the predicates of catch-alls.
const REST_QUEUE: usize = 1024;
