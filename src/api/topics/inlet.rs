//! Where the items of a subscription come in, and wait to be read.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    task::Waker,
    time::Instant,
};

use crossbeam_channel::{Receiver, Sender};

use super::{Backlog, ENDED, Missed, Request, TOO_SLOW};
use crate::{
    api::{
        Report,
        endpoint::Inner,
        tap::{Tap, answer, call_over, fire_surely, is_busy},
    },
    config::Timeout,
    error::{CallError, CloseReason, Executed, Misuse, Rejection},
    link::{Current, Errand, Incoming, Link, Lost, Place, copy_of, within},
    os::Origin,
    sync::{Arc, Condvar, Mutex, Weak, fail_here},
    wire::{Codec, Path, Payload},
    workers::{Job, discard, discard_all, forget_panic, panic_text},
};

/// Where the items of one subscription come in.
pub(super) struct Inlet {
    pub(super) weak: Weak<Inlet>,
    pub(super) endpoint: Weak<Inner>,
    /// In which process it was made.
    pub(super) origin: Origin,
    /// The link that items come over, and under a supervisor the last one until there is another. It changes
    /// under the lock of the state.
    pub(super) over: Mutex<Arc<Link>>,
    pub(super) topic: Path,
    /// What the other side was asked for, and is asked for again.
    pub(super) request: Request,
    pub(super) items: Path,
    pub(super) end: Path,
    pub(super) taken: Path,
    pub(super) backlog: Backlog,
    pub(super) state: Mutex<State>,
    pub(super) news: Condvar,
}

#[derive(Default)]
pub(super) struct State {
    /// What has come, and was not read.
    pub(super) queue: VecDeque<Came>,
    /// How often the other side was started again, up to where it has agreed to send, and up to where that was told.
    generation: u64,
    agreed: u64,
    told: u64,
    /// Of the generation that there is: how many have come, have been read, and were reported as taken.
    pub(super) come: u64,
    pub(super) read: u64,
    pub(super) reported: u64,
    /// How many have come for which the link had no room, behind all that is in the queue: those before something in it
    /// show in its number.
    lost: u64,
    /// What somebody is about to report as taken, of the generation that there is; the newest, which says all.
    owed: Option<u64>,
    pub(super) end: Option<(Option<u64>, Missed)>,
    /// Nobody reads any more.
    pub(super) closed: bool,
    pub(super) ready: Option<(Sender<()>, Receiver<()>)>,
    pub(super) waker: Option<Waker>,
    pub(super) callback: Option<Callback>,
    /// A thread is calling the callback, or is about to.
    pub(super) calling: bool,
}

/// How many were taken, all together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Total {
    /// Whoever publishes counts anew in each.
    generation: u64,
    taken: u64,
}

/// One thing that has come.
pub(super) struct Came {
    /// How often the other side had been started again.
    generation: u64,
    /// What the link spoke over which it came.
    pub(super) codec: Codec,
    pub(super) payload: Payload,
}

/// Reads one thing.
pub(super) type Callback = Box<dyn FnMut() -> Step + Send>;

/// What came of that.
pub(super) enum Step {
    Read,
    Nothing,
    Over,
}

/// What is left to do when something has come, without the reader role.
#[derive(Default)]
pub(super) struct Aftermath {
    /// A report is owed.
    report: bool,
    pub(super) waker: Option<Waker>,
    pub(super) call: bool,
}

/// What one look at the queue gives.
pub(super) enum Taken {
    /// What came, and what to report as taken.
    Came(Came, Option<Total>),
    /// So many are lost at least. If it were more, the next number tells.
    Lost(u64),
    Nothing,
    /// What comes now is of another generation, with numbers of its own.
    Anew,
    End(Option<u64>, Missed),
}

impl State {
    pub(super) fn has_news(&self) -> bool {
        let is_lost = self.lost > 0 && self.told.max(self.agreed) == self.generation;
        !self.queue.is_empty() || is_lost || self.end.is_some() || self.told < self.agreed
    }

    pub(super) fn take(&mut self, backlog: Backlog) -> Taken {
        let generation = self.queue.front().map_or(self.agreed, |came| came.generation);
        if self.told < generation {
            self.told = generation;
            return Taken::Anew;
        }
        if let Some(came) = self.queue.pop_front() {
            if generation < self.generation {
                // Whoever has sent it waits for nothing any more.
                return Taken::Came(came, None);
            }
            self.read += 1;
            return Taken::Came(came, self.report(backlog));
        }
        // Those of a start that has not agreed so far come behind the news of it.
        if self.lost > 0 && self.told == self.generation {
            return Taken::Lost(std::mem::take(&mut self.lost));
        }
        match &self.end {
            Some((number, missed)) => Taken::End(*number, missed.clone()),
            None => Taken::Nothing,
        }
    }

    /// How many to report as taken, when half a window is.
    pub(super) fn report(&mut self, backlog: Backlog) -> Option<Total> {
        let taken = if backlog.drops_oldest() { self.come } else { self.read };
        let is_due = taken - self.reported >= u64::from(backlog.window() / 2).max(1);
        is_due.then(|| self.report_all(backlog))
    }

    pub(super) fn report_all(&mut self, backlog: Backlog) -> Total {
        self.reported = if backlog.drops_oldest() { self.come } else { self.read };
        Total { generation: self.generation, taken: self.reported }
    }

    /// Has it reported that so many were taken, unless that was before a restart. Says whether nobody was about to.
    fn owe(&mut self, total: Total) -> bool {
        if total.generation != self.generation {
            return false;
        }
        let is_first = self.owed.is_none();
        self.owed = self.owed.max(Some(total.taken));
        is_first
    }

    /// Puts in what came. Gives back what has to go.
    fn put(&mut self, payload: Payload, codec: Codec, backlog: Backlog) -> Option<Payload> {
        self.come += 1;
        if self.closed || self.end.is_some() {
            return Some(payload);
        }
        // One that is without an item has a place of its own, and what was left before a restart takes none.
        let room = u64::from(backlog.bound) + u64::from(!backlog.drops_oldest());
        let n_left = self.queue.partition_point(|came| came.generation < self.generation);
        let full = (self.queue.len() - n_left) as u64 >= room;
        if full && !backlog.drops_oldest() {
            // More than we have asked for.
            return Some(payload);
        }
        self.lost = 0;
        self.queue.push_back(Came { generation: self.generation, codec, payload });
        // Not of what was left: that has no place among these that it could give up.
        full.then(|| self.queue.remove(n_left)).flatten().map(|came| came.payload)
    }

    /// One has come for which the link had no room. Nobody else will take it: it counts as taken, or the other side
    /// would have one place less for ever.
    fn lose(&mut self) {
        self.come += 1;
        self.read += 1;
        self.lost += 1;
    }

    /// The other side begins to count. Of what is left no more than fits stays.
    fn begin_anew(&mut self, backlog: Backlog) -> Vec<Came> {
        self.generation += 1;
        (self.come, self.read, self.reported, self.lost, self.owed) = (0, 0, 0, 0, None);
        let too_many = self.queue.len().saturating_sub(backlog.bound as usize);
        self.queue.drain(..too_many).collect()
    }
}

impl Inlet {
    /// Tells whoever waits for news.
    fn announce(&self, state: &mut State) -> Aftermath {
        self.news.notify_all();
        if let Some((ready, _)) = &state.ready {
            // Full means that it says so already.
            let _ = ready.try_send(());
        }
        let call = state.callback.is_some() && !std::mem::replace(&mut state.calling, true);
        Aftermath { report: false, waker: state.waker.take(), call }
    }

    pub(super) fn settle(&self, aftermath: Aftermath) {
        if aftermath.report {
            self.pay();
        }
        if let Some(waker) = aftermath.waker {
            self.run(|| waker.wake());
        }
        if aftermath.call {
            self.call_back();
        }
    }

    /// The same on another thread of the link: the calling one has others to tell, and a callback may block.
    fn settle_aside(&self, aftermath: Aftermath, link: &Arc<Link>) {
        let is_quick = aftermath.waker.is_none() && !aftermath.call;
        match self.weak.upgrade() {
            Some(inlet) if !is_quick => link.submit(Box::new(move || inlet.settle(aftermath))),
            _ => self.settle(aftermath),
        }
    }

    /// The same for a thread that reads.
    fn settle_later(&self, aftermath: Aftermath, gone: Option<Payload>, link: &Arc<Link>) -> Option<Errand> {
        let Aftermath { report, waker, call } = &aftermath;
        if !report && waker.is_none() && !call {
            return gone.and_then(|gone| Errand::aside(link, gone, discard));
        }
        let (inlet, slow) = (self.weak.upgrade()?, aftermath.call);
        let settle = move || {
            inlet.settle(aftermath);
            discard(gone);
        };
        Some(Errand { job: Box::new(settle), slow, inline: false })
    }

    /// Ends it, for the first reason that there is.
    pub(super) fn finish(&self, number: Option<u64>, missed: Missed) -> Aftermath {
        let mut state = self.state.lock();
        if number.is_some() && state.end.is_none() {
            // The number of the end tells of it.
            state.lost = 0;
        }
        state.end.get_or_insert((number, missed));
        // The other side was told that nobody reads when its end was on its way: another one may answer that.
        let ends_twice = state.closed && number.is_some();
        let aftermath = self.announce(&mut state);
        drop(state);
        if let Some(endpoint) = self.endpoint.upgrade() {
            endpoint.arb().untap(&[&self.items, &self.end]);
            if ends_twice {
                endpoint.ignore(&self.end);
            }
        }
        aftermath
    }

    /// Reports how many were taken. If somebody is about to do so, that one says it.
    pub(super) fn report(&self, total: Total) {
        let is_first = self.state.lock().owe(total);
        if is_first {
            self.pay();
        }
    }

    /// Sends the report that is owed; without room, in its turn.
    fn pay(&self) {
        let mut state = self.state.lock();
        let (link, Some(taken)) = (self.link(), state.owed.take()) else { return };
        let total = Total { generation: state.generation, taken };
        drop(state);
        if !is_busy(&link.fire(&self.taken, (self.request.number, taken))) {
            return;
        }
        let waits = self.state.lock().owe(total);
        let Some(inlet) = self.weak.upgrade().filter(|_| waits) else { return };
        let theirs = link.clone();
        link.send_in_turn(Box::new(move || inlet.pay_in_turn(&theirs)));
    }

    /// The same when it has its turn.
    fn pay_in_turn(&self, link: &Arc<Link>) {
        let mut state = self.state.lock();
        let owed = if self.is_over(link) { state.owed.take() } else { None };
        drop(state);
        owed.into_iter().for_each(|total| {
            // It fails with the link alone.
            let _ = link.fire_in_turn(&self.taken, (self.request.number, total));
        });
    }

    /// Whether this is a child that was forked from the process which has subscribed.
    pub(super) fn is_forked(&self) -> bool {
        self.origin.is_elsewhere()
    }

    pub(super) fn link(&self) -> Arc<Link> {
        self.over.lock().clone()
    }

    fn is_over(&self, link: &Arc<Link>) -> bool {
        Arc::ptr_eq(link, &self.over.lock())
    }

    /// Asks the program that was started again for the items. Blocks until it has agreed or not.
    fn subscribe_again(&self, link: &Arc<Link>) {
        fail_here("a subscription that is made again");
        let state = self.state.lock();
        let is_unwanted = state.closed || state.end.is_some();
        drop(state);
        if is_unwanted {
            return self.settle_aside(self.finish(None, Missed::Ended), link);
        }
        let outcome = self.topic.join("subscribe").map_err(|error| Misuse::BadPath(error).into());
        let timeout = self.endpoint.upgrade().map_or(Timeout::Never, |endpoint| endpoint.config.timeout);
        let outcome = outcome.and_then(|path| call_over(link, &path, self.request, timeout));
        fail_here("a subscription that was made again");
        match outcome {
            Ok(()) => {
                let mut state = self.state.lock();
                if !self.is_over(link) {
                    return;
                }
                state.agreed = state.generation;
                // Whoever has let go meanwhile has left it to this thread to say so, unless the other side has ended
                // it already.
                let is_unwanted = state.closed && !matches!(state.end, Some((Some(_), _)));
                let aftermath = self.announce(&mut state);
                drop(state);
                if is_unwanted {
                    self.unsubscribe(link);
                }
                self.settle_aside(aftermath, link);
            }
            // The next start, or the end of all of them, says more.
            Err(CallError::Closed { .. } | CallError::Rejected(Rejection::ShuttingDown)) => {}
            Err(error) => {
                if error.executed() == Executed::Maybe {
                    self.unsubscribe(link);
                }
                self.settle_aside(self.finish(None, Missed::Refused(Box::new(error))), link);
            }
        }
    }

    /// Tells the other side that nobody reads any more. What is on its way until it says that it has stopped goes
    /// where it comes in.
    fn unsubscribe(&self, link: &Arc<Link>) {
        if let Ok(path) = self.topic.join("unsubscribe") {
            fire_surely(link, &path, self.request.number);
        }
    }

    /// Nobody reads any more.
    pub(super) fn let_go(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        let (queue, callback) = (std::mem::take(&mut state.queue), state.callback.take());
        let waker = state.waker.take();
        // Under the lock: the next link finds it closed, or is there already. To one that is asked right now this
        // would come before the question, so that it is left to whoever asks.
        let link = self.link();
        let is_made = state.end.is_none() && state.agreed == state.generation;
        drop(state);
        discard_all(queue);
        discard(callback);
        discard(waker);
        if is_made {
            self.unsubscribe(&link);
        }
    }

    pub(super) fn wait(&self, until: Option<Instant>) {
        let mut state = self.state.lock();
        while !state.has_news() {
            match until {
                Some(at) if self.news.wait_until(&mut state, at).timed_out() => return,
                Some(_) => {}
                None => self.news.wait(&mut state),
            }
        }
    }

    /// Leaves a waker that is called when something comes. `false` if something is here.
    pub(super) fn set_waker(&self, waker: &Waker) -> bool {
        let copy = copy_of(waker);
        let mut state = self.state.lock();
        if state.has_news() {
            return false;
        }
        let old = state.waker.replace(copy);
        // Out of the lock: dropping a waker may drop a task, with other subscriptions in it.
        drop(state);
        drop(old);
        true
    }

    /// Calls the callback for all there is. Only the thread that set `calling` comes here.
    pub(super) fn call_back(&self) {
        let Some(mut callback) = self.state.lock().callback.take() else { return };
        loop {
            let mut step = Step::Read;
            self.run(|| step = callback());
            let mut state = self.state.lock();
            if state.closed || matches!(step, Step::Over) {
                drop(state);
                return discard(callback);
            }
            if matches!(step, Step::Nothing) && !state.has_news() {
                state.callback = Some(callback);
                state.calling = false;
                return;
            }
        }
    }

    /// Runs user code.
    fn run(&self, code: impl FnOnce()) {
        let link = self.link();
        let current = Current::of_no_call(link.number(), Place::Callback);
        let run = AssertUnwindSafe(|| within(current, code));
        if let Err(panic) = catch_unwind(run) {
            let text = panic_text(&*panic);
            forget_panic(panic);
            link.tally().callback_panics.up();
            if let Some(endpoint) = self.endpoint.upgrade() {
                endpoint.report(&link, Report::CallbackPanicked { text });
            }
        }
    }
}

impl Tap for Inlet {
    fn take(&self, link: &Arc<Link>, endpoint: &Arc<Inner>, mut incoming: Incoming) -> Option<Errand> {
        if !self.is_over(link) {
            let why = Rejection::NoHandler { path: incoming.path.clone() };
            let (theirs, endpoint) = (link.clone(), endpoint.clone());
            return Errand::aside(link, incoming, move |incoming| match incoming.id {
                Some(_) => answer(&theirs, &incoming, Err(why.into())),
                None => endpoint.drop_event(&theirs, &incoming.path, why.into()),
            });
        }
        let mut gone = None;
        let aftermath = if incoming.path == self.end {
            // What is no end ends it as well: nothing else comes here.
            let end = incoming.payload.take_value::<(u64, u8)>(link.codec());
            let (number, code) = end.unwrap_or((0, ENDED));
            let missed = if code == TOO_SLOW { Missed::TooSlow } else { Missed::Ended };
            self.finish(Some(number), missed)
        } else {
            let payload = std::mem::replace(&mut incoming.payload, Payload::from_bytes(Vec::new()));
            let mut state = self.state.lock();
            gone = state.put(payload, link.codec(), self.backlog);
            let report = self.backlog.drops_oldest().then(|| state.report(self.backlog)).flatten();
            let report = report.is_some_and(|total| state.owe(total));
            Aftermath { report, ..self.announce(&mut state) }
        };
        answer(link, &incoming, Ok(()));
        self.settle_later(aftermath, gone, link)
    }

    fn take_without_room(&self, link: &Arc<Link>, endpoint: &Arc<Inner>, lost: Lost) -> Option<Errand> {
        if !self.is_over(link) || (lost.is_whole && lost.event.path == self.end) {
            return self.take(link, endpoint, lost.event);
        }
        endpoint.drop_event(link, &lost.event.path, lost.why.into());
        let mut state = self.state.lock();
        state.lose();
        let report = state.report(self.backlog).is_some_and(|total| state.owe(total));
        let aftermath = Aftermath { report, ..self.announce(&mut state) };
        drop(state);
        self.settle_later(aftermath, None, link)
    }

    fn link_ended(&self, link: &Arc<Link>, reason: &Arc<CloseReason>) {
        // Without a lock: the endpoint may go with this.
        let comes_again = self.endpoint.upgrade().is_some_and(|endpoint| endpoint.is_supervised());
        if self.is_over(link) && (!comes_again || self.state.lock().closed) {
            self.given_over(reason);
        }
    }

    fn link_begun(&self, link: &Arc<Link>) -> Option<Job> {
        // It is asked once for each of its paths.
        let inlet = self.weak.upgrade().filter(|_| !self.is_over(link))?;
        let mut state = self.state.lock();
        let before = std::mem::replace(&mut *self.over.lock(), link.clone());
        let (closed, ended) = (state.closed, state.end.is_some());
        let gone = if closed || ended { Vec::new() } else { state.begin_anew(self.backlog) };
        drop(state);
        discard(before);
        discard_all(gone);
        if ended {
            return None;
        }
        if closed {
            self.finish(None, Missed::Ended);
            return None;
        }
        let next = link.clone();
        Some(Box::new(move || inlet.subscribe_again(&next)))
    }

    fn given_over(&self, reason: &Arc<CloseReason>) {
        self.settle_aside(self.finish(None, Missed::Closed(reason.clone())), &self.link());
    }
}

#[cfg(test)]
mod tests;
