//! Where the end of a call is put, and everybody who waits for it.

use std::{fmt, task::Waker, time::Duration, time::Instant};

use crossbeam_channel::{Receiver, Sender};

use super::{
    aftermath::{Aftermath, Observer, Remains, copy_of},
    errands::{Errands, Offer},
    follow_up::{Relayed, Told},
    stream::Streams,
    token::{Child, Family, earlier, has_passed},
};
use crate::{
    error::CallError,
    os::thread_id,
    semaphore::Semaphore,
    sync::{
        Arc, AtomicUsize,
        modelled::{AtomicBool, Condvar, Mutex, Ordering},
    },
    wire::{Path, Payload},
    workers::{Job, look_out},
};

/// How a call ended: with the bytes or the value of its result, or with an error.
pub(crate) type Outcome = Result<Payload, CallError>;
/// What is called with it.
pub(crate) type Callback = Box<dyn FnOnce(Outcome) + Send>;

/// One call's end. It is filled once; the outcome is taken once.
pub(crate) struct Slot {
    pub(crate) path: Path,
    pub(crate) started: Instant,
    pub(crate) deadline: Option<Instant>,
    /// The number of the shapes that the caller knows the method with; 0 if it does not.
    pub(crate) shape: u64,
    /// The short way from the handler to the thread that looks out for the end, in one process.
    catch: Mutex<Catch>,
    /// A thread of this process blocks for the call from the start, and nothing else waits for it.
    plain: bool,
    /// Set after the outcome is in place, so that a waiter can look without the lock.
    done: AtomicBool,
    /// There is something for the thread that looks out for the end.
    news: AtomicBool,
    /// Nobody waits for the call any more. Set within one process only.
    given_up: AtomicBool,
    /// Its handler has answered. Set within one process only.
    answered: AtomicBool,
    /// What belongs to it besides, if it is a stream.
    pub(super) streams: Option<Box<Streams>>,
    /// Its handler runs on the thread that waits for it.
    served_here: AtomicBool,
    /// How far its handler is, as [`CancelToken`](super::CancelToken) writes it. Within one process only.
    pub(super) served_by: AtomicUsize,
    inner: Mutex<Inner>,
    changed: Condvar,
}

struct Inner {
    stage: Stage,
    /// A thread blocks for this call and could run an errand.
    blocked: bool,
    /// The number of the thread that blocks for it, or did last; 0 for none.
    waiter: u32,
    /// That thread is inside the transport and has to be nudged out of it.
    reading: bool,
    /// That thread is asked to take the reader role.
    promoted: bool,
    /// That thread is asked to look at what it waits for, which is not the end.
    roused: bool,
    /// The calls that the handler makes, where it is in this process.
    family: Family,
    extras: Option<Box<Extras>>,
}

/// What most calls do without.
#[derive(Default)]
struct Extras {
    /// Calls of the other side that descend from this one.
    errands: Errands,
    told: Option<Told>,
    ready: Option<(Sender<()>, Receiver<()>)>,
    semaphore: Option<Semaphore>,
    callback: Option<Callback>,
    observer: Option<Box<dyn Observer>>,
    /// Where threads may wait for its items: they run errands, too.
    seats: Vec<Arc<Slot>>,
}

impl Inner {
    fn extras(&mut self) -> &mut Extras {
        self.extras.get_or_insert_default()
    }

    fn take(&mut self) -> Option<Outcome> {
        let at = match &self.stage {
            Stage::Done(_, at) => *at,
            _ => return None,
        };
        match std::mem::replace(&mut self.stage, Stage::Taken(at)) {
            Stage::Done(outcome, _) => Some(outcome),
            _ => None,
        }
    }

    fn has_errand(&self) -> bool {
        self.extras.as_ref().is_some_and(|extras| !extras.errands.is_empty())
    }
}

/// What the thread that looks out for the end finds.
enum Catch {
    /// Nobody looks out any more, or ever did.
    Away,
    /// Somebody looks out without sleeping, or is about to.
    Watched,
    /// The value, and what is to be settled.
    Filled(Payload, Box<dyn Remains>),
    /// The caller has it, and takes the call off the table in a moment.
    Taken,
}

enum Stage {
    Pending,
    Done(Outcome, Instant),
    Taken(Instant),
}

/// Why a parked thread woke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Woken {
    Done,
    Errand,
    Promoted,
    /// There may be something else that the thread waits for.
    Roused,
    Late,
}

impl Slot {
    pub(crate) fn new(path: Path, started: Instant, deadline: Option<Instant>) -> Slot {
        Slot {
            path,
            started,
            deadline,
            shape: 0,
            catch: Mutex::new(Catch::Away),
            plain: false,
            done: AtomicBool::new(false),
            news: AtomicBool::new(false),
            given_up: AtomicBool::new(false),
            answered: AtomicBool::new(false),
            streams: None,
            served_here: AtomicBool::new(false),
            served_by: AtomicUsize::new(0),
            inner: Mutex::new(Inner {
                stage: Stage::Pending,
                blocked: false,
                waiter: 0,
                reading: false,
                promoted: false,
                roused: false,
                family: Family::default(),
                extras: None,
            }),
            changed: Condvar::new(),
        }
    }

    /// A thread is about to block for the call: what descends from it can be left to that thread from
    /// the start. `near`: the other end is in this process, and may use the short way.
    pub(crate) fn will_block(&mut self, near: bool) {
        let inner = self.inner.get_mut();
        inner.blocked = true;
        inner.waiter = thread_id();
        if near {
            *self.catch.get_mut() = Catch::Watched;
            self.plain = true;
        }
    }

    /// Makes it the call of a stream.
    pub(crate) fn set_streams(&mut self, streams: Streams) {
        let ours = &streams.ours;
        let seats = [ours.intake.as_ref().map(|it| &it.seat), ours.outlet.as_ref().map(|it| &it.seat)];
        self.inner.get_mut().extras().seats = seats.into_iter().flatten().cloned().collect();
        self.streams = Some(Box::new(streams));
    }

    /// Calls `callback` with the outcome, which then nobody else can take.
    pub(crate) fn set_callback(&mut self, callback: Callback) {
        self.inner.get_mut().extras().callback = Some(callback);
    }

    /// Whoever sees the end on a thread for callbacks, if the call has none.
    pub(crate) fn observer(&mut self) -> &mut Option<Box<dyn Observer>> {
        &mut self.inner.get_mut().extras().observer
    }

    /// Releases a permit when the call has ended.
    pub(crate) fn set_semaphore(&mut self, semaphore: Semaphore) {
        self.inner.get_mut().extras().semaphore = Some(semaphore);
        // The short way knows of no permits.
        self.plain = false;
        *self.catch.get_mut() = Catch::Away;
    }

    /// The call has not set out.
    pub(crate) fn take_observer(&self) -> Option<Box<dyn Observer>> {
        self.inner.lock().extras.as_mut()?.observer.take()
    }

    /// Fills the slot, unless it is filled already.
    pub(crate) fn complete(&self, outcome: Outcome, now: Instant) -> Aftermath {
        let mut inner = self.inner.lock();
        if !matches!(inner.stage, Stage::Pending) {
            return Aftermath::default();
        }
        let mut aftermath =
            Aftermath { nudge: inner.reading, woke_caller: inner.blocked, ..Aftermath::default() };
        let mut extras = inner.extras.take();
        match extras.as_mut().and_then(|extras| extras.callback.take()) {
            Some(callback) => {
                inner.stage = Stage::Taken(now);
                aftermath.callback = Some(Box::new(move || callback(outcome)));
            }
            None => inner.stage = Stage::Done(outcome, now),
        }
        // SYNC: done. Pairs with the load in `is_done`.
        self.done.store(true, Ordering::Release);
        self.news.store(true, Ordering::Release);
        if let Some(extras) = &mut extras {
            if let (Some(observer), Stage::Done(outcome, _)) = (extras.observer.take(), &inner.stage) {
                let end = outcome.as_ref().map(|_| ()).map_err(CallError::clone);
                aftermath.callback = Some(Box::new(move || observer.see(end)));
            }
            // Those may still be asked for.
            inner.extras().errands = std::mem::take(&mut extras.errands);
            inner.extras().seats = std::mem::take(&mut extras.seats);
            inner.extras().ready = extras.ready.clone();
        }
        drop(inner);
        self.changed.notify_all();
        if let Some(extras) = extras {
            aftermath.told = extras.told;
            // Full means that it says so already.
            if let Some((ready, _)) = &extras.ready {
                let _ = ready.try_send(());
            }
            extras.semaphore.iter().for_each(Semaphore::release);
        }
        aftermath
    }

    /// Whether the call has ended.
    pub(crate) fn is_done(&self) -> bool {
        // SYNC: done. Pairs with the store in `complete`: whoever sees it finds the outcome.
        self.done.load(Ordering::Acquire)
    }

    /// The outcome, once; `None` when it is not there or was taken before.
    pub(crate) fn take(&self) -> Option<Outcome> {
        self.inner.lock().take()
    }

    /// How long the call took, or has taken so far.
    pub(crate) fn elapsed(&self, now: Instant) -> Duration {
        let until = match &self.inner.lock().stage {
            Stage::Pending => now,
            Stage::Done(_, at) | Stage::Taken(at) => *at,
        };
        until.saturating_duration_since(self.started)
    }

    /// A channel that gets one message when the call has ended.
    pub(crate) fn ready(&self) -> Receiver<()> {
        let mut inner = self.inner.lock();
        let done = !matches!(inner.stage, Stage::Pending);
        let (sender, receiver) = inner.extras().ready.get_or_insert_with(|| crossbeam_channel::bounded(1));
        if done {
            let _ = sender.try_send(());
        }
        receiver.clone()
    }

    /// It is an attempt of a call, which is told when it has ended.
    pub(crate) fn set_relay(&mut self, relay: Arc<dyn Relayed>) {
        self.inner.get_mut().extras().told = Some(Told::Relay(relay));
    }

    /// Leaves a waker that is called when the call has ended. `false` if it has.
    pub(crate) fn set_waker(&self, waker: &Waker) -> bool {
        let copy = copy_of(waker);
        let mut inner = self.inner.lock();
        if !matches!(inner.stage, Stage::Pending) {
            return false;
        }
        let old = inner.extras().told.replace(Told::Waker(copy));
        // Out of the lock: dropping a waker may drop a task, with other results in it.
        drop(inner);
        drop(old);
        true
    }

    // A caller in the same process that does not sleep yet.

    /// Whether filling the slot runs no code of the user's.
    pub(crate) fn is_plain(&self) -> bool {
        self.plain
    }

    /// It is not worth looking out for this one.
    pub(crate) fn turn_away(&self) {
        *self.catch.lock() = Catch::Away;
        self.news.store(true, Ordering::Release);
    }

    /// Fills the slot if somebody looks out for it, who then settles the remains. `first` comes before that.
    pub(crate) fn fill_watched<R: Remains + 'static>(
        &self,
        value: Payload,
        remains: Box<R>,
        first: impl FnOnce(),
    ) -> Result<(), (Payload, Box<R>)> {
        let mut catch = self.catch.lock();
        if !matches!(*catch, Catch::Watched) {
            return Err((value, remains));
        }
        first();
        *catch = Catch::Filled(value, remains);
        // SYNC: news. Pairs with the load in `watch`. The lock is free again by the time that the caller
        // has seen it.
        self.news.store(true, Ordering::Release);
        Ok(())
    }

    /// Looks out for the end for a few microseconds. After that only [`Slot::complete`] ends the call.
    pub(crate) fn watch(&self) -> Option<(Payload, Box<dyn Remains>)> {
        look_out(|| self.news.load(Ordering::Acquire));
        let mut catch = self.catch.lock();
        let over = if matches!(*catch, Catch::Filled(..)) { Catch::Taken } else { Catch::Away };
        match std::mem::replace(&mut *catch, over) {
            Catch::Filled(value, remains) => Some((value, remains)),
            Catch::Watched | Catch::Away | Catch::Taken => None,
        }
    }

    /// Nothing comes by the short way from here on. `false` if a value has.
    pub(super) fn close_short_way(&self) -> bool {
        if !self.plain {
            return true;
        }
        let mut catch = self.catch.lock();
        match &*catch {
            Catch::Filled(..) | Catch::Taken => false,
            Catch::Watched | Catch::Away => {
                *catch = Catch::Away;
                true
            }
        }
    }

    // The handler's view, within one process.

    /// The call is answered. Says whether it was not before.
    pub(crate) fn end_serving(&self) -> bool {
        !self.answered.swap(true, Ordering::AcqRel)
    }

    /// Nobody waits for the call any more. What comes back ends with it.
    #[must_use = "the calls of the handler end with it"]
    pub(crate) fn give_up(&self) -> Family {
        let mut inner = self.inner.lock();
        self.given_up.store(true, Ordering::Release);
        let family = std::mem::take(&mut inner.family);
        drop(inner);
        self.changed.notify_all();
        family
    }

    /// The handler makes a call, unless nobody waits for it any more.
    pub(super) fn adopt(&self, child: impl FnOnce() -> Child) -> bool {
        let mut inner = self.inner.lock();
        let alive = !self.is_given_up();
        if alive {
            inner.family.add(child());
        }
        alive
    }

    /// A call that the handler made has ended.
    pub(super) fn release(&self, slot: &Arc<Slot>) {
        self.inner.lock().family.remove(slot);
    }

    pub(crate) fn is_given_up(&self) -> bool {
        self.given_up.load(Ordering::Acquire)
    }

    /// The same, as the handler sees it.
    pub(super) fn is_over(&self) -> bool {
        self.is_given_up() || has_passed(self.deadline_here())
    }

    /// The handler runs on the thread that waits for the call.
    pub(crate) fn serve_here(&self) {
        self.served_here.store(true, Ordering::Relaxed);
    }

    /// The deadline, if nobody watches it because that thread is in the handler.
    fn deadline_here(&self) -> Option<Instant> {
        self.deadline.filter(|_| self.served_here.load(Ordering::Relaxed))
    }

    /// Sleeps until nobody waits for the call, and says whether that is so.
    pub(crate) fn wait_given_up(&self, limit: Option<Instant>) -> bool {
        let until = earlier(self.deadline_here(), limit);
        let mut inner = self.inner.lock();
        while !self.is_given_up() {
            match until {
                Some(at) if self.changed.wait_until(&mut inner, at).timed_out() => break,
                Some(_) => {}
                None => self.changed.wait(&mut inner),
            }
        }
        drop(inner);
        self.is_over()
    }

    // The thread that blocks for the call.

    /// The calling thread starts to block for this call.
    pub(crate) fn block(&self) {
        let mut inner = self.inner.lock();
        inner.blocked = true;
        inner.waiter = thread_id();
    }

    /// The number of the thread that blocks for this call.
    pub(crate) fn waiter(&self) -> Option<u32> {
        let inner = self.inner.lock();
        Some(inner.waiter).filter(|waiter| inner.blocked && *waiter != 0)
    }

    /// The calling thread stops to block for this call and takes what there is: the outcome, if the call has ended,
    /// and what the thread was to run.
    pub(crate) fn unblock_and_take(&self) -> (Option<Outcome>, Errands) {
        let mut inner = self.inner.lock();
        inner.blocked = false;
        let errands = inner.extras.as_mut().map(|extras| std::mem::take(&mut extras.errands));
        (inner.take(), errands.unwrap_or_default())
    }

    /// The calling thread stops to block for this call. Gives back what it was to run.
    pub(crate) fn unblock(&self) -> Errands {
        let mut inner = self.inner.lock();
        inner.blocked = false;
        inner.extras.as_mut().map(|extras| std::mem::take(&mut extras.errands)).unwrap_or_default()
    }

    /// The blocked thread goes into the transport or comes out. `false` if there is no need to go in.
    pub(crate) fn set_reading(&self, reading: bool) -> bool {
        let mut inner = self.inner.lock();
        let needless = !matches!(inner.stage, Stage::Pending) || inner.has_errand() || inner.roused;
        inner.reading = reading && !needless;
        !needless
    }

    /// Leaves something to run for the thread that blocks for this call, or will.
    ///
    /// Called by whoever has the reader role, and by others: then that thread may be inside the transport.
    pub(crate) fn offer(&self, errand: Job) -> Offer {
        let mut inner = self.inner.lock();
        if !matches!(inner.stage, Stage::Pending) {
            return Offer::Declined;
        }
        if !inner.blocked
            && let Some(extras) = &inner.extras
            && let Some(seat) = extras.seats.iter().find(|seat| seat.inner.lock().blocked)
        {
            return seat.offer(errand);
        }
        let run = inner.extras().errands.push(errand);
        let (blocked, reads) = (inner.blocked, inner.reading.then_some(inner.waiter));
        self.news.store(true, Ordering::Release);
        drop(inner);
        drop(run);
        if !blocked {
            return Offer::Kept;
        }
        self.changed.notify_all();
        Offer::Taken { reads }
    }

    /// Takes over what was left for whoever comes to block for `call`.
    pub(crate) fn take_over(&self, call: &Slot) {
        let mut theirs = call.inner.lock();
        if let Some(extras) = &mut theirs.extras {
            let errands = std::mem::take(&mut extras.errands);
            self.inner.lock().extras().errands.append(errands);
            self.news.store(true, Ordering::Release);
        }
    }

    /// Asks the thread that blocks here to look at what it waits for. Says whether one does, and whether
    /// it is inside the transport.
    pub(crate) fn rouse(&self) -> (bool, bool) {
        let mut inner = self.inner.lock();
        inner.roused = true;
        let (blocked, reading) = (inner.blocked, inner.reading);
        self.news.store(true, Ordering::Release);
        drop(inner);
        if blocked {
            self.changed.notify_all();
        }
        (blocked, reading)
    }

    /// Forgets that it was asked to. To be said before looking.
    pub(crate) fn calm(&self) {
        let mut inner = self.inner.lock();
        inner.roused = false;
        self.news.store(inner.has_errand(), Ordering::Release);
    }

    /// Whether there may be something for a thread that looks out and does not sleep yet.
    pub(crate) fn has_news(&self) -> bool {
        self.news.load(Ordering::Acquire)
    }

    /// What the blocked thread should run next.
    pub(crate) fn take_errand(&self) -> Option<Job> {
        let mut inner = self.inner.lock();
        inner.extras.as_mut()?.errands.pop()
    }

    pub(crate) fn has_errand(&self) -> bool {
        // SYNC: news. Pairs with the store in `offer`, which comes after the errand.
        self.news.load(Ordering::Acquire) && self.inner.lock().has_errand()
    }

    /// Asks the blocked thread to take the reader role.
    pub(crate) fn promote(&self) {
        self.inner.lock().promoted = true;
        self.changed.notify_all();
    }

    /// Parks until something happens or `limit` passes.
    pub(crate) fn park(&self, limit: Option<Instant>) -> Woken {
        let mut inner = self.inner.lock();
        loop {
            if !matches!(inner.stage, Stage::Pending) {
                return Woken::Done;
            }
            if inner.has_errand() {
                return Woken::Errand;
            }
            if inner.promoted {
                return Woken::Promoted;
            }
            if inner.roused {
                return Woken::Roused;
            }
            match limit {
                Some(at) if self.changed.wait_until(&mut inner, at).timed_out() => {
                    return if matches!(inner.stage, Stage::Pending) { Woken::Late } else { Woken::Done };
                }
                Some(_) => {}
                None => self.changed.wait(&mut inner),
            }
        }
    }

    /// Waits for another thread that is filling the slot at this moment.
    pub(crate) fn settle(&self) {
        let mut inner = self.inner.lock();
        while matches!(inner.stage, Stage::Pending) {
            self.changed.wait(&mut inner);
        }
    }

    /// Whether a hand-over of the role was left unanswered. It is answered now.
    pub(crate) fn take_promotion(&self) -> bool {
        std::mem::replace(&mut self.inner.lock().promoted, false)
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot")
            .field("path", &self.path)
            .field("done", &self.is_done())
            .finish_non_exhaustive()
    }
}
