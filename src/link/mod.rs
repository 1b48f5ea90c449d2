//! One connection: the calls under way in both directions, who reads, who waits, and how it ends.
//!
//! Knows no handler, namespace or type: what comes in is handed up through [`Dispatch`], the only way
//! up. Knows no process either; what else may end a link is an [`Attendant`](crate::os::Attendant).
//!
//! [`state::State`] is the link as a pure machine. Around it stand the threads: the [`role`] of the
//! reader, the crew that takes it while nobody blocks, and the [`keeper`] of the clock.

mod aftermath;
mod budget;
mod calls;
mod clock;
mod close;
mod completing;
mod current;
mod direct;
mod errands;
mod filtering;
mod flow;
mod follow_up;
#[cfg(any(test, fuzzing))]
mod fuzz;
mod gate;
mod id;
mod in_turn;
mod inbox;
mod keeper;
mod kept;
mod lead;
mod line;
mod lines;
mod load;
#[cfg(all(loom, test))]
mod loom;
mod make;
mod message;
mod outbox;
mod outlets;
mod pulse;
mod receive;
mod role;
mod room;
mod send;
mod slot;
mod start;
mod state;
mod stranded;
mod stream;
mod streaming;
mod streams;
mod survey;
mod timers;
mod token;
mod wait;

use std::{any::Any, collections::VecDeque, fmt, io, task::Waker, time::Instant};

pub(crate) use aftermath::{Aftermath, Observer, Remains, copy_of};
pub(crate) use current::{Current, Place, Within, ask, depth, is_given_up, outer, scope, within};
pub(crate) use direct::Neighbour;
pub(crate) use errands::Offer;
pub(crate) use follow_up::{FollowUp, Relayed};
#[cfg(any(test, fuzzing))]
pub(crate) use fuzz::session as fuzz_session;
pub(crate) use gate::{Gate, Ids, Scope};
pub(crate) use id::LinkId;
pub(crate) use make::LinkParts;
pub(crate) use message::{Incoming, Lost};
pub(crate) use slot::{Outcome, Slot};
pub(crate) use start::{Answer, CallPlan, Started};
pub(crate) use stream::{Batch, Ends, Intake, Resume, Streams};
pub(crate) use streaming::{Put, Tap};
pub(crate) use survey::{CallSeen, ServedSeen};
pub use token::CancelToken;
pub(crate) use token::{Family, Stage};

use crate::{
    config::Config,
    counters::Tally,
    error::CloseReason,
    logging::{Line, line},
    os::Origin,
    sync::{Apart, Arc, AtomicBool, AtomicU8, AtomicUsize, Condvar, Mutex, Ordering, OwnMutex, Weak},
    transport::{FrameSender, Nudge},
    wire::{Codec, Side},
    workers::{Admission, Crew, Job, Lane, Shift},
};
use completing::Completing;
use direct::{Carrier, Direct};
use in_turn::Turn;
use keeper::Keeper;
use kept::KeptItems;
use load::Packet;
use role::Role;
use state::State;
pub(crate) use stranded::Stranded;

/// The life of a link. Each state comes at most once, and in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum LinkState {
    /// The two sides greet each other and get ready.
    Starting,
    /// Both sides take calls.
    Open,
    /// The connection is gone; what was under way is about to fail.
    Disconnected,
    /// Everything has ended.
    Closed,
}

impl fmt::Display for LinkState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LinkState::Starting => "starting",
            LinkState::Open => "open",
            LinkState::Disconnected => "disconnected",
            LinkState::Closed => "closed",
        })
    }
}

/// What a link hands up. None of it may block or run user code.
pub(crate) trait Dispatch: Any + Send + Sync {
    /// Routes a call or an event that came in. What comes back may be run at once by whoever asked;
    /// `None` when it was queued, answered, or left to the thread that blocks for its `ancestor`, the
    /// call of ours from which it descends: such a call does not wait for a place in a queue.
    fn dispatch(&self, link: &Arc<Link>, incoming: Incoming, ancestor: Option<&Arc<Slot>>) -> Option<Errand>;

    /// Takes note of a new state, under the lock of the link. What comes back is to be run once that is free.
    fn changed(&self, link: &Arc<Link>, state: LinkState) -> Vec<Job>;

    /// Takes note of a panic in a callback.
    fn callback_panicked(&self, link: &Arc<Link>, text: String);

    /// Routes an event that came and for which there was no room, to whoever needs none.
    fn event_lost(&self, link: &Arc<Link>, lost: Lost) -> Option<Errand>;

    /// Takes note of a reply to a call that had ended.
    fn late_reply(&self, link: &Arc<Link>);
}

/// Something to run that came from a frame.
pub(crate) struct Errand {
    pub(crate) job: Job,
    /// It may take so long that somebody else should read in the meantime.
    pub(crate) slow: bool,
    /// It may run on whatever thread has it.
    pub(crate) inline: bool,
}

impl Errand {
    /// What becomes of a message that nobody takes, and goes with that. Within one process values go with it, which may
    /// call over the very link: whoever brought it does that when it is in the way of nobody's messages any more.
    pub(crate) fn aside<T: Send + 'static>(
        link: &Link,
        message: T,
        refuse: impl FnOnce(T) + Send + 'static,
    ) -> Option<Errand> {
        if !link.is_near() {
            refuse(message);
            return None;
        }
        Some(Errand { job: Box::new(move || refuse(message)), slow: false, inline: true })
    }
}

/// One end of one connection.
pub(crate) struct Link {
    weak: Weak<Link>,
    side: Side,
    origin: Origin,
    /// The number of the codec, 0 until it is known.
    codec: AtomicU8,
    pub(crate) id: LinkId,
    config: Config,
    core: Apart<Mutex<Core>>,
    /// The stage changed, or the other side's.
    changed: Condvar,
    /// Something left or ended, for which a link that closes waits. Apart from `changed`, so that a
    /// thread that waits for the end of the link is not woken by every call.
    settled: Condvar,
    wiring: Wiring,
    crew: Crew,
    keeper: Keeper,
    callbacks: Lane<Job>,
    /// What waits for its turn to go over the limit of the send queue, since it is not refused for want of room.
    unrefused: Lane<Job>,
    /// What waits behind that for subscriptions of the other side.
    kept_items: KeptItems,
    /// For the log.
    words: Lane<Line>,
    /// Shared by the links that follow each other behind one endpoint, so that states keep their order.
    listeners: Arc<Lane<Job>>,
    dispatch: Arc<dyn Dispatch>,
    tally: Arc<Tally>,
    /// How many threads have taken calls off the table and have not handed over their ends yet.
    completing: AtomicUsize,
    /// Threads of it are still in user code, and are not waited for any more.
    left_alone: AtomicBool,
    /// A thread that was needed could not be had. Whoever sends or reads next tries again.
    lacks_thread: AtomicBool,
}

/// What the lock of a link protects.
struct Core {
    state: State<Arc<Slot>>,
    stage: LinkState,
    reason: Option<Arc<CloseReason>>,
    /// Something was under way when it ended.
    cut_off: bool,
    /// The other process has ended; what it had sent is still to be read.
    dying: Option<CloseReason>,
    /// The other end is closed: why the link ends at this time, if it has not ended before.
    mute: Option<(Instant, CloseReason)>,
    /// How many calls of an other end in this process are being served. They need no table: whoever
    /// answers has the caller at hand.
    near: usize,
    /// How many answers to such calls are being handed over.
    answering: usize,
    /// How many threads wait for room for an answer.
    awaiting_room: usize,
    /// A thread is sending; it takes along what is queued meanwhile. It stays set when sending failed.
    sending: bool,
    carrier: Carrier,
    /// What goes over the limit of the send queue.
    turn: Turn,
    /// A thread runs a batch of handlers, and sends their answers together when they are done.
    batching: bool,
    /// Calls wait for more of them to come, and leave together.
    gathering: bool,
    /// When the last call was started that nobody blocks for.
    last_start: Option<Instant>,
    /// When the last item was made, and how many wait since something was sent last.
    last_item: Option<Instant>,
    gathered: u32,
    /// When the items that wait have to leave.
    items_due: Option<Instant>,
    /// What was sent, whose buffer is kept to be used again.
    spare: Packet,
    /// When the keeper looks at the clock next, if it does.
    armed: Option<Instant>,
    /// There is a keeper, and as long as it has something to watch it stays.
    kept: bool,
}

/// What follows from a new state. Whoever drops the link waits until it is handed over.
struct Sequel<'a> {
    jobs: Vec<Job>,
    _handing_over: Completing<'a>,
}

/// How the two ends are joined.
enum Wiring {
    /// By a transport.
    Framed(Box<Framed>),
    /// By a reference: what one end sends, the same thread hands to the other.
    Direct(Box<Direct>),
}

struct Framed {
    role: Role,
    /// The rest of what a thread that leads has taken upon itself to run.
    batch: Mutex<VecDeque<Job>>,
    /// `None` after the end. Used by the one thread that set `sending`, and held while that sends.
    sender: OwnMutex<Option<Box<dyn FrameSender>>>,
    /// `None` once nobody reads any more. It holds a descriptor, where the transport has some.
    nudge: Mutex<Option<Arc<dyn Nudge>>>,
    /// The thread that reads would have nudged itself. It looks around after the packet.
    look_around: AtomicBool,
    /// Jobs for which no thread could be had, of the thread that reads: it runs them once it has given that up.
    owed: Mutex<Vec<Job>>,
    owes: AtomicBool,
    wakes_at_deadlines: bool,
}

impl Link {
    /// Tells this link from every other one of this process, for as long as it lives.
    pub(crate) fn number(&self) -> usize {
        self.weak.as_ptr() as usize
    }

    /// Whether this is a child that was forked from the process which has the link: nothing may be touched then.
    #[inline]
    pub(crate) fn is_forked(&self) -> bool {
        self.origin.is_elsewhere()
    }

    /// Whether the other end is in this process, and takes values as they are.
    pub(crate) fn is_near(&self) -> bool {
        matches!(self.wiring, Wiring::Direct(_))
    }

    pub(crate) fn side(&self) -> Side {
        self.side
    }

    /// What the link speaks, for whoever comes after the greeting.
    #[inline]
    pub(crate) fn codec(&self) -> Codec {
        self.agreed().unwrap_or_default()
    }

    /// What the link speaks, if that is known.
    #[inline]
    pub(crate) fn agreed(&self) -> Option<Codec> {
        // Nothing is published by it: who does not see it yet writes both, and the machine chooses.
        Codec::from_number(self.codec.load(Ordering::Relaxed))
    }

    fn speak(&self, codec: Codec) {
        self.codec.store(codec.number(), Ordering::Relaxed);
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    pub(crate) fn tally(&self) -> &Tally {
        &self.tally
    }

    pub(crate) fn kept_items(&self) -> &KeptItems {
        &self.kept_items
    }

    /// The state that the link is in.
    pub(crate) fn stage(&self) -> LinkState {
        self.core.lock().stage
    }

    /// Whether the other side has said who it is.
    pub(crate) fn is_greeted(&self) -> bool {
        self.core.lock().state.is_greeted()
    }

    /// Why the link is over, if it is.
    pub(crate) fn close_reason(&self) -> Option<Arc<CloseReason>> {
        self.core.lock().reason.clone()
    }

    fn strong(&self) -> Option<Arc<Link>> {
        self.weak.upgrade()
    }

    // Running things.

    /// [Submits](Link::submit) what came from a frame. An inline handler asks for a place first: as many of those as a peer
    /// sends would be a crowd.
    pub(crate) fn submit_errand(&self, errand: Errand) {
        let job = if errand.inline { errand.job.take_place() } else { Some(errand.job) };
        job.into_iter().for_each(|job| self.submit(job));
    }

    /// Runs a callback when a worker for callbacks is free: on the calling thread if nobody waited for another.
    pub(crate) fn run_callback(&self, callback: Job) {
        let left = self.line_up_callback(callback).and_then(|job| self.offer_in_time(job));
        left.into_iter().for_each(|job| self.run_on_this_thread(job));
    }

    /// Lines a callback up. What comes back is to be submitted.
    #[must_use]
    pub(crate) fn line_up_callback(&self, callback: Job) -> Option<Job> {
        let weak = self.weak.clone();
        let number = self.number();
        let code = move || callback.run(&Shift::elsewhere());
        self.line_up(false, Box::new(move || user_code(&weak, number, Place::Callback, code)))
    }

    /// Has a listener run after those before it. What comes back is to be submitted, once no lock is held.
    #[must_use]
    pub(crate) fn line_up_listener(&self, listener: Job) -> Option<Job> {
        self.line_up_in_order(Place::Listener, listener)
    }

    /// Calls a waker on the calling thread. It is user code: one that panics must not end a thread that
    /// reads or watches the clock.
    pub(crate) fn wake(&self, waker: Waker) {
        self.run_user_code(|| waker.wake());
    }

    fn run_user_code(&self, code: impl FnOnce()) {
        user_code(&self.weak, self.number(), Place::Callback, code);
    }

    fn line_up_in_order(&self, place: Place, code: Job) -> Option<Job> {
        let weak = self.weak.clone();
        let number = self.number();
        let code = move || code.run(&Shift::elsewhere());
        self.line_up(true, Box::new(move || user_code(&weak, number, place, code)))
    }

    /// Lines a job up in a lane. What comes back runs it and those behind it.
    fn line_up(&self, in_order: bool, job: Job) -> Option<Job> {
        let link = self.strong()?;
        let lane = if in_order { &self.listeners } else { &self.callbacks };
        let Admission::Run(job) = lane.admit(job, usize::MAX) else { return None };
        Some(Box::new(move || {
            let lane = if in_order { &link.listeners } else { &link.callbacks };
            let mut next = Some(job);
            while let Some(job) = next {
                job.run(&Shift::elsewhere());
                next = lane.next();
            }
        }))
    }

    /// Wakes or starts a thread of the crew that takes the reader role.
    fn call_reader(&self) -> io::Result<()> {
        if let Wiring::Framed(framed) = &self.wiring {
            framed.role.hurry();
            self.crew.summon()?;
        }
        Ok(())
    }

    /// Wakes or starts a thread of the crew that looks after the reader role.
    fn call_ticker(&self) {
        if let Err(error) = self.crew.summon() {
            self.say(line!(Warn, "no thread to read for the link: {error}"));
            self.note_lack();
        }
    }

    /// What follows from it is [handed over](Link::hand_on) once the lock is free.
    #[must_use]
    fn enter(&self, core: &mut Core, stage: LinkState) -> Sequel<'_> {
        core.stage = stage;
        self.changed.notify_all();
        self.settled.notify_all();
        let words = self.line_up_words(line!(Debug, "{} link {:x}: {stage:?}", self.side, self.number()));
        let link = self.strong();
        let told = link.map_or_else(Vec::new, |link| self.dispatch.changed(&link, stage));
        Sequel { jobs: words.into_iter().chain(told).collect(), _handing_over: self.completing() }
    }

    /// Has the crew do what follows from a new state. What comes back found no thread: it is for the calling one, when
    /// that has done with the link, since it may be the user's.
    #[must_use]
    fn hand_on(&self, sequel: Sequel<'_>) -> Vec<Stranded> {
        sequel.jobs.into_iter().filter_map(|job| self.offer(job)).collect()
    }

    /// Blocks until `done` holds of the core, at most until `deadline`, and looks at it whenever
    /// `news` is notified. Says whether it does.
    fn wait_for(&self, news: &Condvar, deadline: Option<Instant>, done: impl Fn(&Core) -> bool) -> bool {
        let mut core = self.core.lock();
        while !done(&core) {
            match deadline {
                Some(at) => {
                    if news.wait_until(&mut core, at).timed_out() {
                        return done(&core);
                    }
                }
                None => news.wait(&mut core),
            }
        }
        true
    }

    /// Brings whoever reads out of the transport.
    pub(crate) fn nudge(&self) {
        if let Wiring::Framed(framed) = &self.wiring {
            framed.nudge();
        }
    }
}

impl Core {
    /// Why the link ends now, if the end of the other side's process was waited for in vain. By now all that
    /// it had sent has been read, its greeting too, if there was one.
    fn take_mute(&mut self, now: Instant) -> Option<CloseReason> {
        let (_, reason) = self.mute.take_if(|(at, _)| *at <= now)?;
        Some(if matches!(reason, CloseReason::Gone) { self.state.vanished() } else { reason })
    }

    /// Why the link ends when the other side has closed its end.
    fn why_at_the_end(&mut self) -> CloseReason {
        self.dying.take().unwrap_or_else(|| self.state.vanished())
    }

    fn n_served(&self) -> usize {
        self.state.n_served() + self.near
    }

    /// Whether no call is under way in either direction and nothing waits.
    fn is_quiet(&self) -> bool {
        self.near == 0 && self.answering == 0 && self.state.is_quiet()
    }
}

/// Runs user code that belongs to no call, and reports its panic.
fn user_code(weak: &Weak<Link>, number: usize, place: Place, code: impl FnOnce()) {
    let current = Current::of_no_call(number, place);
    let run = std::panic::AssertUnwindSafe(|| within(current, code));
    let Err(panic) = std::panic::catch_unwind(run) else { return };
    let text = crate::workers::panic_text(&*panic);
    crate::workers::forget_panic(panic);
    let Some(link) = weak.upgrade() else { return };
    link.tally.callback_panics.up();
    match place {
        // Told of its own panic, it would panic again, and so on without an end.
        Place::ErrorHook => link.say(line!(Warn, "the error hook panicked: {text}")),
        _ => link.dispatch.callback_panicked(&link, text),
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("side", &self.side).field("stage", &self.stage()).finish_non_exhaustive()
    }
}
