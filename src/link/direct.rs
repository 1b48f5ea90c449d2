//! The link between two sides of one process: what one side sends, its thread hands to the other.

use std::{any::Any, time::Instant};

use rustc_hash::FxHashMap;

use super::{
    CallPlan, Core, Dispatch, Errand, Family, Gate, Ids, Link, Slot, Wiring,
    aftermath::Later,
    current::{depth, this_thread},
    message::{Cargo, Incoming, Start},
    outbox::Draft,
    slot::Outcome,
    stranded::Stranded,
};
use crate::{
    error::{CallError, CloseReason, Executed, Rejection},
    sync::{Arc, Mutex, MutexGuard, OnceLock, Weak},
    wire::{Kind, Path, TransactionId},
    workers::{Job, Shift, contain},
};

/// What joins the two ends of one process.
#[derive(Default)]
pub(super) struct Direct {
    peer: OnceLock<Weak<Link>>,
    /// For the calls of this side, and for those of the other.
    gates: OnceLock<[Arc<Gate>; 2]>,
    /// What callers have found of inline handlers at the other end, by path: kept here for as long as the link
    /// lives.
    shortcuts: Mutex<Shortcuts>,
}

#[derive(Default)]
struct Shortcuts {
    by_path: FxHashMap<Path, Arc<dyn Any + Send + Sync>>,
    ended: bool,
}

/// The other end in this process.
pub(crate) struct Neighbour {
    pub(crate) link: Arc<Link>,
    /// What serves there.
    pub(crate) dispatch: Arc<dyn Dispatch>,
    /// Which calls pass that run on their own threads.
    pub(crate) gate: Arc<Gate>,
}

/// Who hands over what one end sends.
#[derive(Default)]
pub(super) struct Carrier {
    /// The [number](this_thread) of the thread, 0 for none.
    thread: usize,
    /// Jobs for which it found no other thread.
    owed: Vec<Stranded>,
}

/// Inline handlers of the other end, what becomes of messages that it does not take, and jobs for which there is no thread:
/// to be run once no lock is held and nobody's messages wait for it, each with its end.
#[derive(Default)]
pub(super) struct Inline {
    errands: Vec<(Arc<Link>, Errand)>,
    /// Inline handlers of calls that other threads have brought. They are not run here: what this thread has brought itself
    /// would wait for them, and they for that.
    others: Vec<(Arc<Link>, Job)>,
    owed: Option<(Arc<Link>, Vec<Stranded>)>,
    /// There were so many, of these or in all, that the rest of the messages is left to another thread.
    rest: Option<Arc<Link>>,
}

impl Inline {
    /// What this thread has brought on this thread.
    pub(super) fn run_here(self) {
        self.run(Link::run_here);
    }

    /// All of it on threads of the link.
    pub(super) fn run_elsewhere(self) {
        self.run(Link::submit_errand);
    }

    fn run(self, run: impl Fn(&Link, Errand)) {
        // First: one of these may take its time.
        let rest = self.rest.and_then(Link::leave_to_the_crew);
        let place = |(end, job): (Arc<Link>, Job)| Some((job.take_place()?, end));
        let offer = |(job, end): (Job, Arc<Link>)| Some((end.offer(job)?, end));
        let others: Vec<_> = self.others.into_iter().filter_map(place).filter_map(offer).collect();
        self.errands.into_iter().for_each(|(end, errand)| run(&end, errand));
        others.into_iter().for_each(|(job, end)| end.run_on_this_thread(job));
        self.owed.into_iter().for_each(|(end, jobs)| {
            jobs.into_iter().for_each(|job| end.run_on_this_thread(job));
        });
        rest.into_iter().for_each(Link::go_on);
    }
}

impl Link {
    pub(super) fn join_to(&self, peer: &Arc<Link>, out: &Arc<Gate>, back: &Arc<Gate>) {
        if let Some(direct) = self.joint() {
            // Called once, by whoever made both.
            let _ = direct.peer.set(Arc::downgrade(peer));
            let _ = direct.gates.set([out.clone(), back.clone()]);
        }
    }

    fn joint(&self) -> Option<&Direct> {
        match &self.wiring {
            Wiring::Direct(direct) => Some(direct),
            Wiring::Framed(_) => None,
        }
    }

    pub(super) fn peer(&self) -> Option<Arc<Link>> {
        self.joint()?.peer.get()?.upgrade()
    }

    // Inline handlers at the other end, called on the caller's own thread.

    /// The other end in this process, if calls may go there.
    pub(crate) fn neighbour(&self) -> Option<Neighbour> {
        let [gate, _] = self.joint()?.gates.get()?;
        if gate.is_shut() || !self.core.lock().state.is_open() {
            return None;
        }
        let peer = self.peer()?;
        let dispatch = peer.dispatch.clone();
        Some(Neighbour { link: peer, dispatch, gate: gate.clone() })
    }

    /// What numbers the calls of this side.
    pub(crate) fn ids(&self) -> Ids {
        self.core.lock().state.calls.ids().clone()
    }

    /// What is kept of a handler of the other end.
    pub(crate) fn shortcut(&self, path: &Path) -> Option<Arc<dyn Any + Send + Sync>> {
        self.joint()?.shortcuts.lock().by_path.get(path).cloned()
    }

    /// Keeps something of a handler of the other end, unless the link is over.
    pub(crate) fn keep_shortcut(&self, path: &Path, shortcut: Arc<dyn Any + Send + Sync>) -> bool {
        let Some(direct) = self.joint() else { return false };
        let mut shortcuts = direct.shortcuts.lock();
        if shortcuts.ended {
            return false;
        }
        shortcuts.by_path.insert(path.clone(), shortcut);
        true
    }

    /// Lets go of what is kept of a handler of the other end.
    pub(crate) fn forget_shortcut(&self, path: &Path) -> Option<Arc<dyn Any + Send + Sync>> {
        self.joint()?.shortcuts.lock().by_path.remove(path)
    }

    /// How many calls are on their callers' own threads: of this side, and of the other.
    pub(super) fn inside(&self) -> (usize, usize) {
        let gates = self.joint().and_then(|direct| direct.gates.get());
        gates.map_or((0, 0), |[out, back]| (out.n_inside(), back.n_inside()))
    }

    pub(super) fn shut_gates(&self) {
        let gates = self.joint().and_then(|direct| direct.gates.get());
        gates.into_iter().flatten().for_each(|gate| gate.shut());
    }

    /// The link ends: whoever is inside is told, and nothing of the other end's is kept any more. What comes back was,
    /// and is the user's.
    #[must_use]
    pub(super) fn end_gates(&self, later: &mut Later<'_>) -> impl Send + use<> {
        let direct = self.joint()?;
        direct.gates.get().into_iter().flatten().for_each(|gate| gate.end(later));
        let mut shortcuts = direct.shortcuts.lock();
        shortcuts.ended = true;
        let by_path = std::mem::take(&mut shortcuts.by_path);
        drop(shortcuts);
        Some(by_path)
    }

    /// A call has left a gate that is shut: whoever waits for that is told.
    pub(crate) fn has_left(&self, other: &Link) {
        for link in [self, other] {
            // Whoever waits looks at the gate under the lock, and sleeps by the time that it is free.
            drop(link.core.lock());
            link.settled.notify_all();
        }
    }

    /// Runs an inline handler of this end for the calling thread.
    fn run_here(&self, errand: Errand) {
        if depth() >= DEEPEST {
            return self.submit_errand(errand);
        }
        Shift::here().run(errand.job);
    }

    /// Ends a call of the other end in this process as late, unless it has ended.
    pub(crate) fn expire_near(&self, id: TransactionId) {
        self.peer().into_iter().for_each(|peer| peer.expire(id));
    }

    /// Files a call that its caller is going to block for, if nothing is queued before it.
    pub(super) fn begin_at_once(&self, plan: &CallPlan) -> Option<TransactionId> {
        let mut core = self.core.lock();
        if !plan.blocking || core.sending {
            return None;
        }
        let id = core.state.begin_at_once(&plan.slot)?;
        drop(core);
        self.tally.calls.up();
        Some(id)
    }

    /// Hands a call over that is filed.
    pub(super) fn hand_over(&self, id: TransactionId, mut incoming: Incoming) {
        incoming.id = Some(id);
        if let Some(peer) = self.peer() {
            let mut inline = None;
            contain(|| inline = peer.accept(incoming, self));
            inline.into_iter().for_each(|errand| peer.run_here(errand));
        }
    }

    /// Files the end of a call that its caller has seen first.
    pub(super) fn settle_answered(&self, id: TransactionId) {
        self.tally.values.up();
        let mut core = self.core.lock();
        core.state.end_answered(id);
        if core.state.is_drained() {
            drop(core);
        } else {
            // A call that waited for this one to end may leave now.
            self.flush(core);
        }
        self.settled.notify_all();
    }

    /// Files the end of the serving of a call of the other end in this process.
    pub(crate) fn settle_served(&self) {
        let mut core = self.core.lock();
        core.near = core.near.saturating_sub(1);
        drop(core);
        self.settled.notify_all();
    }

    /// Tells a handler in this process that nobody waits for it any more. Its own calls come back, to be
    /// cancelled without a lock, as whoever waits at the ends of its streams has to be [told](Link::end_far_streams).
    pub(super) fn give_up(&self, slot: &Slot) -> Family {
        if self.is_near() { slot.give_up() } else { Family::default() }
    }

    /// Hands over what is queued, unless another thread is at it; that one takes it along, so that
    /// the order holds.
    pub(super) fn deliver<'a>(&'a self, mut core: MutexGuard<'a, Core>) -> Inline {
        let mut inline = Inline::default();
        if core.sending {
            return inline;
        }
        core.sending = true;
        core.carrier.thread = this_thread();
        for handed_over in 0.. {
            if inline.errands.len() >= AT_A_TIME || handed_over >= AT_MOST {
                inline.rest = self.strong();
                break;
            }
            let control = core.state.next_control();
            let start = if control.is_none() { core.state.next_start() } else { None };
            if control.is_none() && start.is_none() {
                break;
            }
            drop(core);
            // Nothing of the user's runs or goes here: it might send over this very link. Should a mistake of ours panic,
            // it must not leave `sending` behind.
            let peer = self.peer();
            if let (Some(draft), Some(peer)) = (control, &peer) {
                contain(|| peer.accept_control(&draft));
            }
            if let Some(start) = start {
                let is_ours = matches!(start.cargo, Cargo::Moved(_, by) if by == this_thread());
                let mut errand = None;
                contain(|| errand = self.give(start, peer.as_ref()));
                let end = peer.filter(|peer| errand.is_some() && !peer.is_over()).or_else(|| self.strong());
                match errand {
                    Some(errand) if !is_ours && errand.job.wants_place() => {
                        inline.others.extend(end.map(|end| (end, errand.job)));
                    }
                    errand => inline.errands.extend(end.zip(errand)),
                }
            }
            core = self.core.lock();
        }
        core.sending = false;
        let Carrier { owed, .. } = std::mem::take(&mut core.carrier);
        if !owed.is_empty() {
            inline.owed = self.strong().map(|link| (link, owed));
        }
        if core.state.is_drained() || core.reason.is_some() {
            self.settled.notify_all();
        }
        let is_over = core.turn_is_over();
        drop(core);
        if is_over {
            self.give_turn();
        }
        if self.lacks_thread() {
            self.make_up_for_lack();
        }
        inline
    }

    /// Has a thread of the link hand over what is left: other threads may add to it for as long as they like, and this
    /// one has something else to do. It comes back should no thread be had.
    fn leave_to_the_crew(self: Arc<Link>) -> Option<Arc<Link>> {
        let link = self.clone();
        self.offer(Box::new(move || link.flush(link.core.lock()))).map(|_| self)
    }

    /// Hands over what is left, since nobody else does.
    fn go_on(self: Arc<Link>) {
        let mut left = Some(self);
        while let Some(link) = left {
            let mut inline = link.deliver(link.core.lock());
            left = inline.rest.take();
            inline.run_elsewhere();
        }
    }

    /// Leaves a job to the calling thread for the time behind what it hands over, to this end or to the other. It comes back
    /// if it hands nothing over.
    pub(super) fn owe_behind(&self, job: Stranded) -> Option<Stranded> {
        let peer = self.peer();
        for link in peer.as_deref().into_iter().chain([self]) {
            let mut core = link.core.lock();
            if core.carrier.thread == this_thread() {
                core.carrier.owed.push(job);
                return None;
            }
        }
        Some(job)
    }

    /// Gives a call or an event to the other end.
    fn give(&self, start: Start, peer: Option<&Arc<Link>>) -> Option<Errand> {
        match (start.cargo, peer) {
            (Cargo::Moved(incoming, _), Some(peer)) => peer.accept(*incoming, self),
            // Nobody is there any more.
            (cargo, _) => Errand::aside(self, cargo, drop),
        }
    }

    fn accept_control(&self, draft: &Draft) {
        match draft.kind {
            Kind::Ready => {
                self.core.lock().state.handle_ready();
                self.note_ready();
            }
            Kind::GoAway => {
                self.shut_gates();
                self.core.lock().state.handle_go_away();
                self.changed.notify_all();
            }
            Kind::Bye => self.lose(CloseReason::Peer),
            _ => {}
        }
    }

    /// Takes a call or an event from `caller`. What comes back is for the thread that brings it: an inline handler, or
    /// a refusal.
    fn accept(&self, incoming: Incoming, caller: &Link) -> Option<Errand> {
        let mut core = self.core.lock();
        let refusal = core.refusal(&incoming, self.config.limits.served_calls);
        let ancestor = if refusal.is_none() { core.serve(&incoming) } else { None };
        drop(core);
        if let Some(error) = refusal {
            let caller = caller.strong()?;
            return Errand::aside(self, incoming, move |incoming| {
                if let Some(id) = incoming.id {
                    caller.take_reply(id, Err(error));
                }
            });
        }
        let errand = self.dispatch.dispatch(&self.strong()?, incoming, ancestor.as_ref())?;
        if errand.inline {
            return Some(errand);
        }
        self.submit(errand.job);
        None
    }

    /// Answers a call of the other end in this process, unless that has been done.
    pub(super) fn reply_near(&self, id: TransactionId, caller: &Slot, outcome: Outcome) {
        if !caller.end_serving() {
            return;
        }
        // Whoever waits there is woken behind the answer, which waits for nobody's waker.
        let mut wakeups = Vec::new();
        self.end_far_streams(caller, &CallError::Cancelled, |wakeup| wakeups.push(wakeup));
        // Whoever has the answer finds the call over; and a side that shuts down waits for the answer.
        let mut core = self.core.lock();
        core.near = core.near.saturating_sub(1);
        core.answering += 1;
        drop(core);
        if caller.is_given_up() {
            self.tally.answers_unsent.add(u64::from(!self.is_over()));
        } else if let Some(peer) = self.peer() {
            peer.take_reply(id, outcome);
        }
        wakeups.into_iter().for_each(|wakeup| self.wake_up(wakeup));
        self.core.lock().answering -= 1;
        self.settled.notify_all();
    }

    fn take_reply(&self, id: TransactionId, outcome: Outcome) {
        let mut core = self.core.lock();
        let slot: Option<Arc<Slot>> = core.state.handle_answer(id.to_bits()).ok().flatten();
        let taken = slot.as_ref().map(|_| self.completing());
        let is_drained = core.state.is_drained();
        drop(core);
        // First, since nobody else can end this call any more.
        let aftermath = slot.map(|slot| self.complete(&slot, outcome, Instant::now()));
        drop(taken);
        if is_drained {
            self.settled.notify_all();
        } else {
            // A call that waited for this one to end may leave now, and waits for nobody's waker.
            self.flush(self.core.lock());
        }
        match aftermath {
            Some(aftermath) => self.follow_up(aftermath),
            None => self.count_late_reply(),
        }
    }
}

#[cfg(test)]
impl Link {
    /// What is sent waits, as if another thread were handing messages over.
    pub(crate) fn hold_back(&self, holds: bool) {
        self.core.lock().sending = holds;
    }

    /// Hands over as much as one thread does, and says how many messages wait then.
    pub(crate) fn hand_over_once(&self) -> usize {
        let inline = self.deliver(self.core.lock());
        let waiting = self.core.lock().state.n_waiting();
        inline.run_elsewhere();
        waiting
    }
}

impl Core {
    /// Counts a call in, and says for which call the thread waits that may serve it: the call from which it
    /// descends, or itself.
    fn serve(&mut self, incoming: &Incoming) -> Option<Arc<Slot>> {
        self.near += usize::from(incoming.id.is_some());
        if incoming.here {
            return incoming.caller.clone();
        }
        incoming.parent.and_then(|parent| self.state.waiter_of(parent))
    }

    fn refusal(&self, incoming: &Incoming, served_limit: usize) -> Option<CallError> {
        if self.state.is_closed() {
            return Some(self.closed(Executed::No));
        }
        incoming.id?;
        if self.state.is_ending() {
            let reason = Arc::new(CloseReason::Peer);
            return Some(CallError::Closed { reason, executed: Executed::No });
        }
        if self.state.is_going_away() {
            return Some(Rejection::ShuttingDown.into());
        }
        (self.n_served() >= served_limit).then(|| {
            let detail =
                format!("{served_limit} calls are unanswered, which is the limit of the link").into();
            Rejection::Busy { path: incoming.path.clone(), detail }.into()
        })
    }
}

/// How many handlers may stand on one stack before the next goes to another thread.
const DEEPEST: u32 = 64;
/// How many of them, and of messages that nobody takes, are gathered before they are run.
const AT_A_TIME: usize = 64;
/// How many messages a thread hands over before it leaves the rest to another: it has come to send one of its own, to
/// answer a call, or to look at the clock.
const AT_MOST: usize = 256;
