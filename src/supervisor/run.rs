//! The thread of a supervisor: starts the program, waits for its end, and does what the policy says.

use std::{
    any::Any,
    collections::VecDeque,
    fmt, mem,
    panic::{AssertUnwindSafe, catch_unwind},
    thread::ThreadId,
    time::{Duration, Instant},
};

use crossbeam_channel::Sender;

use super::{
    Restarts, Transition,
    policy::{Decision, End, Policy},
};
use crate::{
    api::{Endpoint, Succession},
    error::{CloseReason, Crash, Death, Exit, GivenUp, StartError},
    head::Spawned,
    link::{Current, Link, LinkState, Place, within},
    logging::say,
    os::{self, Wakeup},
    process::{LaunchOptions, Process, Program},
    sync::{Arc, Mutex, OnceLock, fail_here},
    workers::{Until, discard, forget_panic, panic_text},
};

/// Who is told of transitions.
#[derive(Clone)]
pub(super) struct Hook(Arc<dyn Fn(&Transition) + Send + Sync>);

/// What the supervisor's thread and its handle have in common.
pub(super) struct Shared {
    endpoint: Endpoint,
    succession: Arc<Succession>,
    /// Ends the wait for a program that starts.
    abort: Arc<Wakeup>,
    desk: Mutex<Desk>,
    /// Links of before whose threads have not ended yet.
    retired: Mutex<Vec<Arc<Link>>>,
    thread: OnceLock<ThreadId>,
}

#[derive(Default)]
struct Desk {
    /// The last of what has happened,
    history: VecDeque<Transition>,
    /// and how often something has.
    told: u64,
    watchers: Vec<Watcher>,
    /// The link to the process that runs or is being started.
    link: Option<Arc<Link>>,
    process: Option<Arc<Process>>,
    /// The program is to end for good.
    stopping: bool,
    /// Calls are not waited for any more,
    winding_up: bool,
    /// and it is to have ended by this time.
    stop_by: Option<Instant>,
    /// It has.
    ended: bool,
    /// Nobody is to be told of anything any more.
    over: bool,
    /// The thread is inside a hook.
    telling: bool,
}

struct Watcher {
    hook: Hook,
    /// What it is told of next.
    next: u64,
}

impl Hook {
    pub(super) fn new(hook: impl Fn(&Transition) + Send + Sync + 'static) -> Hook {
        Hook(Arc::new(hook))
    }
}

impl Shared {
    pub(super) fn new(
        endpoint: Endpoint,
        succession: Arc<Succession>,
        abort: Arc<Wakeup>,
        hooks: Vec<Hook>,
    ) -> Shared {
        let name = endpoint.0.config.name.clone();
        let log = Hook::new(move |transition| match transition {
            Transition::GaveUp(_) => say!(Warn, "supervisor of {name}: {transition}"),
            _ => say!(Debug, "supervisor of {name}: {transition}"),
        });
        let hooks = std::iter::once(log).chain(hooks);
        let watchers = hooks.map(|hook| Watcher { hook, next: 0 }).collect();
        let desk = Mutex::new(Desk { watchers, ..Desk::default() });
        Shared { endpoint, succession, abort, desk, retired: Mutex::default(), thread: OnceLock::new() }
    }

    pub(super) fn add_hook(&self, hook: Hook) {
        self.desk.lock().watchers.push(Watcher { hook, next: 0 });
        self.succession.bell.ring();
    }

    pub(super) fn last_transition(&self) -> Transition {
        self.desk.lock().history.back().cloned().unwrap_or(Transition::Starting)
    }

    pub(super) fn process(&self) -> Option<Arc<Process>> {
        self.desk.lock().process.clone()
    }

    pub(super) fn is_own_thread(&self) -> bool {
        self.thread.get() == Some(&std::thread::current().id())
    }

    /// Ends the program for good; with a limit, calls under way have so much time. Says whether they had
    /// ended.
    pub(super) fn stop(&self, limit: Option<Duration>) -> bool {
        let mut desk = self.desk.lock();
        desk.stopping = true;
        let link = desk.link.clone();
        drop(desk);
        self.abort.wake();
        self.succession.bell.ring();
        let deadline = |limit| Instant::now().checked_add(limit);
        let wind_down = |limit| self.endpoint.0.wind_down(link.as_deref(), deadline(limit));
        let quiet = limit.is_none_or(wind_down);
        let by = self.begin_to_end();
        link.iter().for_each(|link| link.close());
        // Not left to the thread, which may be inside a hook for as long as that likes.
        self.endpoint.0.give_over(&self.succession, Arc::new(CloseReason::Local));
        if !self.is_own_thread() {
            self.wait_ended(by);
        }
        quiet
    }

    /// By when the program is to have ended, from here on: it has the grace since whoever came here first.
    fn begin_to_end(&self) -> Option<Instant> {
        let mut desk = self.desk.lock();
        if !mem::replace(&mut desk.winding_up, true) {
            desk.stop_by = Instant::now().checked_add(self.endpoint.0.config.grace);
        }
        let by = desk.stop_by;
        drop(desk);
        self.succession.bell.ring();
        by
    }

    /// Waits until the process has ended. A hook may hold up the thread that sees to that: then it is ended here.
    fn wait_ended(&self, by: Option<Instant>) {
        if self.wait_for(by, |desk| desk.ended) || self.end_process() {
            return;
        }
        // The thread is at it: one that is killed may take a while to end.
        let by = by.and_then(|by| by.checked_add(KILLED_WITHIN));
        self.wait_for(by, |desk| desk.ended || desk.telling);
    }

    /// Ends the process, unless the thread is at it. Says whether there was one.
    fn end_process(&self) -> bool {
        let link = self.desk.lock().link.clone();
        let Some(mut child) = link.and_then(|link| link.release_attendant()) else { return false };
        child.farewell(Duration::ZERO);
        self.adopt(None);
        true
    }

    /// Nobody is to be told of anything any more. Gives back who was, to be dropped without a lock.
    pub(super) fn finish(&self) -> Vec<Hook> {
        let mut desk = self.desk.lock();
        desk.over = true;
        let watchers = std::mem::take(&mut desk.watchers);
        drop(desk);
        self.succession.bell.ring();
        watchers.into_iter().map(|watcher| watcher.hook).collect()
    }

    /// Waits for the threads of all links that there were. It is for whoever ends the supervisor, which may be one of
    /// those threads.
    pub(super) fn join_links(&self, until: Until) {
        let mut links = std::mem::take(&mut *self.retired.lock());
        let last = self.endpoint.0.last_link();
        links.extend(last.filter(|last| !links.iter().any(|link| Arc::ptr_eq(link, last))));
        links.iter().for_each(|link| link.join(until.left()));
        self.endpoint.0.join_waiting(until.left());
    }

    fn wait_for(&self, by: Option<Instant>, is: impl Fn(&Desk) -> bool) -> bool {
        loop {
            let since = self.succession.bell.rung();
            if is(&self.desk.lock()) {
                return true;
            }
            if !self.succession.bell.wait(since, by) {
                return false;
            }
        }
    }

    fn is_stopping(&self) -> bool {
        self.desk.lock().stopping
    }

    /// How long the process may take to end by itself.
    fn patience(&self) -> Duration {
        let by = self.desk.lock().stop_by;
        let left = by.map(|by| by.saturating_duration_since(Instant::now()));
        left.unwrap_or(self.endpoint.0.config.grace)
    }

    /// Takes note of the process that is there now, and of its link. Says whether it may stay.
    fn adopt(&self, spawned: Option<&Spawned>) -> bool {
        let mut desk = self.desk.lock();
        desk.link = spawned.map(|spawned| spawned.link.clone());
        desk.process = spawned.map(|spawned| spawned.process().clone());
        !desk.stopping
    }

    fn take_link(&self) -> (Option<Arc<Link>>, Option<Arc<Process>>) {
        let mut desk = self.desk.lock();
        (desk.link.take(), desk.process.take())
    }

    /// Tells everybody.
    fn tell(&self, transition: Transition) {
        self.note(transition);
        self.deliver();
    }

    /// Takes note of what everybody is told of with the next delivery.
    fn note(&self, transition: Transition) {
        let mut desk = self.desk.lock();
        desk.history.push_back(transition);
        desk.told += 1;
        if desk.history.len() > KEPT {
            desk.history.pop_front();
        }
    }

    /// Tells everybody what they have not been told yet. On the supervisor's thread.
    fn deliver(&self) {
        while let Some((hook, transition)) = self.next_delivery() {
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| (hook.0)(&transition))) {
                self.endpoint.0.callback_panicked_elsewhere(panic_text(&*panic));
                forget_panic(panic);
            }
            // There may be no other of it any more.
            discard(hook);
        }
    }

    fn next_delivery(&self) -> Option<(Hook, Transition)> {
        let mut desk = self.desk.lock();
        let Desk { history, told, watchers, telling, .. } = &mut *desk;
        let oldest = *told - history.len() as u64;
        let watcher = watchers.iter_mut().find(|watcher| watcher.next < *told);
        *telling = watcher.is_some();
        let watcher = watcher?;
        let at = watcher.next.max(oldest);
        watcher.next = at + 1;
        let transition = history.get(usize::try_from(at - oldest).ok()?)?;
        Some((watcher.hook.clone(), transition.clone()))
    }
}

/// What the thread has to itself.
pub(super) struct Runner {
    shared: Arc<Shared>,
    program: Program,
    options: LaunchOptions,
    policy: Policy,
    /// The last crashes, as many as can be too many.
    crashes: VecDeque<Crash>,
    n_crashes_kept: usize,
}

impl Runner {
    pub(super) fn new(
        shared: Arc<Shared>,
        program: Program,
        options: LaunchOptions,
        restarts: Restarts,
    ) -> Runner {
        let n_crashes_kept = restarts.n_crashes().min(KEPT);
        let policy = Policy::new(restarts, Instant::now());
        Runner { shared, program, options, policy, crashes: VecDeque::new(), n_crashes_kept }
    }

    /// Runs to the end, and says on the way whether the program has started. Whatever of the user's runs on this thread,
    /// a hook or the logger, may not wait for a start that is made here.
    pub(super) fn run(self, started: &Sender<Result<(), StartError>>) {
        within(Current::of_no_call(0, Place::Supervision), || self.run_to_the_end(started));
    }

    fn run_to_the_end(mut self, started: &Sender<Result<(), StartError>>) {
        let _ = self.shared.thread.set(std::thread::current().id());
        let ran = catch_unwind(AssertUnwindSafe(|| self.run_program(started)));
        if let Err(panic) = ran {
            self.break_down(panic, started);
        }
        self.rest();
    }

    /// Nobody is told of anything before whoever starts it is: a hook may wait for that one.
    fn run_program(&mut self, started: &Sender<Result<(), StartError>>) {
        self.shared.note(Transition::Starting);
        match self.start() {
            Ok(spawned) => {
                let _ = started.send(Ok(()));
                self.supervise(spawned);
            }
            Err(error) => {
                self.shared.note(Transition::Crashed(Crash::Start(error.clone())));
                let _ = started.send(Err(error));
                self.shared.deliver();
                self.conclude(None, Arc::new(CloseReason::Local));
            }
        }
    }

    /// A mistake of ours: the program is not started again, and whoever waits is told.
    #[cold]
    fn break_down(&mut self, panic: Box<dyn Any + Send>, started: &Sender<Result<(), StartError>>) {
        let text = panic_text(&*panic);
        forget_panic(panic);
        let (link, process) = self.shared.take_link();
        if let Some(process) = process {
            let _ = process.kill();
        }
        if let Some(link) = link {
            link.close();
            drop(link.release_attendant());
            self.shared.retired.lock().push(link);
        }
        let (crashes, summary) =
            (self.crashes.drain(..).collect(), format!("its supervisor panicked: {text}"));
        let why = Arc::new(GivenUp { crashes, summary: summary.into() });
        let error = Arc::new(std::io::Error::other(text.as_str()));
        // Nobody takes it when the program had started.
        let _ = started.try_send(Err(StartError::Setup { what: "supervisor", error }));
        self.conclude(Some(Transition::GaveUp(why)), Arc::new(CloseReason::Broken(text.as_str().into())));
    }

    fn start(&mut self) -> Result<Spawned, StartError> {
        fail_here("a supervisor that starts");
        let (now, limit) = (Instant::now(), self.options.start_timeout);
        self.policy.begin(now);
        let endpoint = self.shared.endpoint.clone();
        endpoint.begin_anew();
        let spawned = Spawned::start(&endpoint, &mut self.program, self.options.clone())?;
        if !self.shared.adopt(Some(&spawned)) {
            spawned.link.close();
        }
        spawned.link.say_ready();
        if let Err(error) = spawned.await_ready(now.checked_add(limit), limit) {
            spawned.link.close();
            spawned.farewell(Duration::ZERO);
            self.retire(&spawned);
            return Err(error);
        }
        endpoint.connect(&spawned.link);
        self.shared.note(Transition::Running { generation: endpoint.generation() });
        Ok(spawned)
    }

    fn supervise(&mut self, first: Spawned) {
        let mut run = Ok(first);
        loop {
            let (end, crash) = match run {
                Ok(spawned) => self.attend(spawned),
                Err(error) => (End::Crash, Crash::Start(error)),
            };
            if self.shared.is_stopping() {
                return self.conclude_as_told();
            }
            match self.policy.ended(end, Instant::now(), random()) {
                Decision::Rest => return self.conclude(Some(Transition::Stopped), reason_of(&crash)),
                Decision::GiveUp => return self.give_up(crash),
                Decision::Restart(delay) => self.back_off(crash, delay),
            }
            if self.shared.is_stopping() {
                return self.conclude_as_told();
            }
            self.shared.tell(Transition::Starting);
            run = self.start();
        }
    }

    /// Waits for the end of the link, and sees to the process.
    fn attend(&mut self, spawned: Spawned) -> (End, Crash) {
        self.wait(None, || spawned.link.stage() >= LinkState::Disconnected);
        // Whoever ends the link may be stuck in a waker, which holds up the next start for so long and no longer.
        let due = Instant::now().checked_add(self.shared.patience());
        self.wait(due, || spawned.link.stage() == LinkState::Closed);
        fail_here("a supervisor after a crash");
        let reason = spawned.link.close_reason().unwrap_or_else(|| Arc::new(CloseReason::Gone));
        let (end, reason) = match &*reason {
            CloseReason::Died(death) => (end_of(death), reason.clone()),
            CloseReason::Peer | CloseReason::Local => self.await_exit(&spawned, reason.clone()),
            _ => {
                // It is there, and of no use any more.
                spawned.kill();
                spawned.farewell(Duration::ZERO);
                (End::Crash, reason.clone())
            }
        };
        spawned.farewell(Duration::ZERO);
        self.retire(&spawned);
        (end, Crash::Ended { generation: self.shared.endpoint.generation(), reason })
    }

    /// Waits for the end of a process that has said goodbye, or to which we have. Its exit says whether it had
    /// nothing more to do.
    fn await_exit(&self, spawned: &Spawned, reason: Arc<CloseReason>) -> (End, Arc<CloseReason>) {
        let (begun, patience) = (Instant::now(), self.shared.patience());
        match spawned.farewell(patience) {
            // A process that does not end by itself is killed by us. Where others reap it, it has said goodbye.
            Some(death)
                if begun.elapsed() < patience && !matches!(death.exit, Exit::Code(0) | Exit::Unknown) =>
            {
                (End::Crash, Arc::new(CloseReason::Died(death)))
            }
            _ => (End::Clean, reason),
        }
    }

    fn back_off(&mut self, crash: Crash, delay: Duration) {
        self.remember(&crash);
        self.shared.tell(Transition::Crashed(crash));
        self.shared.tell(Transition::BackingOff(delay));
        let shared = self.shared.clone();
        fail_here("a supervisor between two starts");
        self.wait(Instant::now().checked_add(delay), || shared.is_stopping());
        self.sweep();
    }

    fn give_up(&mut self, crash: Crash) {
        self.remember(&crash);
        let crashes: Vec<Crash> = self.crashes.drain(..).collect();
        let summary = match crashes.len() {
            1 => format!("it is not started again: {}", words(&crash)),
            n => format!("gave up after {n} crashes, of which the last: {}", words(&crash)),
        };
        let summary = summary.into();
        let why = Arc::new(GivenUp { crashes, summary });
        self.shared.tell(Transition::Crashed(crash));
        self.conclude(Some(Transition::GaveUp(why.clone())), Arc::new(CloseReason::GaveUp(why)));
    }

    fn remember(&mut self, crash: &Crash) {
        self.crashes.push_back(crash.clone());
        if self.crashes.len() > self.n_crashes_kept {
            self.crashes.pop_front();
        }
    }

    /// The same when somebody has stopped the program, who looks first whether all calls have ended by themselves.
    fn conclude_as_told(&mut self) {
        let shared = self.shared.clone();
        self.wait(None, || shared.desk.lock().winding_up);
        self.conclude(Some(Transition::Stopped), Arc::new(CloseReason::Local));
    }

    /// No other start follows: every call ends with `reason` from here on.
    fn conclude(&mut self, last: Option<Transition>, reason: Arc<CloseReason>) {
        self.shared.endpoint.0.give_over(&self.shared.succession, reason);
        last.into_iter().for_each(|last| self.shared.tell(last));
        self.shared.desk.lock().ended = true;
        self.shared.succession.bell.ring();
    }

    /// Is there for those who ask late what has happened.
    fn rest(&mut self) {
        let shared = self.shared.clone();
        self.wait(None, || shared.desk.lock().over);
    }

    /// Waits until `done`, at most until `deadline`, and tells those who come what has happened.
    fn wait(&mut self, deadline: Option<Instant>, done: impl Fn() -> bool) {
        let shared = self.shared.clone();
        loop {
            let since = shared.succession.bell.rung();
            fail_here("a supervisor that waits");
            shared.deliver();
            self.sweep();
            let now = Instant::now();
            if done() || deadline.is_some_and(|at| at <= now) {
                return;
            }
            let sweep = now.checked_add(SWEEP).filter(|_| !shared.retired.lock().is_empty());
            shared.succession.bell.wait(since, sweep.into_iter().chain(deadline).min());
        }
    }

    fn retire(&mut self, spawned: &Spawned) {
        self.shared.adopt(None);
        self.shared.retired.lock().push(spawned.link.clone());
    }

    /// Lets go of the links whose threads have ended.
    fn sweep(&mut self) {
        let ended = |link: &mut Arc<Link>| link.n_threads() == 0;
        let ended: Vec<_> = self.shared.retired.lock().extract_if(.., ended).collect();
        ended.iter().for_each(|link| link.join(Duration::ZERO));
    }
}

/// What an exit says about a process that nobody wanted to end.
fn end_of(death: &Death) -> End {
    if death.exit == Exit::Code(0) { End::Clean } else { End::Crash }
}

fn reason_of(crash: &Crash) -> Arc<CloseReason> {
    match crash {
        Crash::Ended { reason, .. } => reason.clone(),
        Crash::Start(_) => Arc::new(CloseReason::Local),
    }
}

fn words(crash: &Crash) -> String {
    match crash {
        Crash::Start(error) => error.to_string(),
        ended => ended.to_string(),
    }
}

/// Any number. Should the system have none, restarts are not spread, and no harm is done.
fn random() -> u64 {
    os::random_token().map_or(u64::MAX, |token| u64::from_le_bytes(token[..8].try_into().unwrap_or_default()))
}

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hook(..)")
    }
}

/// How many transitions and crashes are remembered.
const KEPT: usize = 64;
/// How often to look after links whose threads are still in user code.
const SWEEP: Duration = Duration::from_secs(1);
/// How long a process that is killed may take to end.
const KILLED_WITHIN: Duration = Duration::from_secs(2);
