//! How items set out and how they are taken, on a thread of whoever makes them or takes them.
//!
//! Items that follow each other quickly are gathered, and leave together: when enough wait, when anybody
//! waits for something, or when the keeper looks at the clock.

use std::{
    task::Waker,
    time::{Duration, Instant},
};

use serde::Serialize;

use super::{
    CallPlan, Core, Link, Slot, Started, Wiring,
    flow::Harvest,
    follow_up::Told,
    message::Cargo,
    outlets::{Item, Room},
    stream::{Batch, Ends, Intake, Outlet, Resume, Wakeup},
};
use crate::{
    error::{CallError, Executed, Misuse},
    sync::{Arc, MutexGuard},
    wire::{HEADER_LEN, ITEM_HEAD, OpenHead, Path, Payload, Quota, TransactionId},
    workers::{discard, discard_all},
};

/// Where the items of a stream are put in, and what is kept for it.
#[derive(Debug)]
pub(crate) struct Tap {
    pub(crate) link: Arc<Link>,
    pub(crate) id: TransactionId,
    pub(crate) outlet: Arc<Outlet>,
    path: Path,
    /// The memory of the last item.
    buffer: Vec<u8>,
}

/// What came of putting an item in.
pub(crate) enum Put<T> {
    Done,
    /// There is no room for it now.
    Full(T),
    /// It did not go, and is gone.
    Failed(CallError),
}

impl Tap {
    pub(crate) fn new(link: Arc<Link>, id: TransactionId, outlet: Arc<Outlet>, path: Path) -> Tap {
        Tap { link, id, outlet, path, buffer: Vec::new() }
    }

    /// What was called.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether an item may be put in, or why none ever may again.
    pub(crate) fn has_room(&self) -> Result<bool, CallError> {
        if self.link.is_forked() {
            return Err(Misuse::Forked.into());
        }
        // First of all: whatever is new from here on wakes who waits.
        self.outlet.calm();
        if let Some(over) = self.outlet.over() {
            return Err(over);
        }
        if self.outlet.near().is_some() {
            return Ok(self.outlet.has_room_near());
        }
        let room = self.link.core.lock().state.room_for_items(self.id);
        match room {
            Room::Some => Ok(true),
            Room::None => {
                // Nothing follows those that were left waiting for more.
                self.link.send_gathered();
                Ok(false)
            }
            Room::Over => Err(self.why_over()),
        }
    }

    /// Why no item may go. Whoever ends it tells the machine first, and the outlet in a moment.
    fn why_over(&self) -> CallError {
        self.outlet.over().unwrap_or_else(|| {
            let core = self.link.core.lock();
            if core.reason.is_some() { core.closed(Executed::Maybe) } else { CallError::Cancelled }
        })
    }

    /// Puts an item in, if there is room. Does not block; runs user code.
    pub(crate) fn put<T: Serialize + Send + 'static>(&mut self, item: T) -> Put<T> {
        match self.has_room() {
            Ok(true) => {}
            Ok(false) => return Put::Full(item),
            Err(error) => {
                discard(item);
                return Put::Failed(error);
            }
        }
        self.put_in_room(item).map_or_else(Put::Failed, |()| Put::Done)
    }

    /// Puts an item in for which there is room. Does not block; runs user code.
    pub(crate) fn put_in_room<T: Serialize + Send + 'static>(&mut self, item: T) -> Result<(), CallError> {
        if self.outlet.near().is_some() { self.put_near(item) } else { self.put_framed(item) }?;
        self.link.tally.items_sent.up();
        Ok(())
    }

    fn put_near<T: Serialize + Send + 'static>(&mut self, item: T) -> Result<(), CallError> {
        let mut item = Some(Payload::moved(item));
        let wakeup = self.outlet.put_near(&mut item);
        self.link.wake_up(wakeup);
        match item {
            None => Ok(()),
            // Nobody else puts items in, so that there was room: it is over.
            Some(item) => {
                discard(item);
                Err(self.why_over())
            }
        }
    }

    fn put_framed<T: Serialize + Send + 'static>(&mut self, item: T) -> Result<(), CallError> {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        buffer.resize(HEADER_LEN + ITEM_HEAD, 0);
        // Not as the arguments: the handler may run by now.
        let misfit = |detail| CallError::Misuse(Misuse::Item { path: self.path.clone(), detail });
        let mut load = self.link.load(buffer, item, drop).map_err(|error| misfit(error.text().into()))?;
        let bytes = load.len() - HEADER_LEN - ITEM_HEAD;
        let limit = self.link.config.limits.message_bytes - ITEM_HEAD;
        if bytes > limit {
            return Err(misfit(format!("{bytes} bytes are over the limit of {limit}").into()));
        }
        load.first_mut(ITEM_HEAD).copy_from_slice(&(bytes as u32).to_le_bytes());
        let put = match load.into_buffer() {
            Ok(buffer) => {
                let put = self.link.put_item(self.id, bytes, Item::Small(&buffer[HEADER_LEN..]));
                self.buffer = buffer;
                put
            }
            Err(load) => self.link.put_item(self.id, bytes, Item::Large(load)),
        };
        if put { Ok(()) } else { Err(self.why_over()) }
    }

    /// Blocks until there may be room, or `limit` has passed. What descends from `call` is run meanwhile.
    pub(crate) fn wait(&self, call: Option<&Arc<Slot>>, limit: Option<Instant>) -> bool {
        self.link.wait_at(&self.outlet.seat, call, limit, || self.outlet.has_news())
    }

    /// No more items come.
    pub(crate) fn end(&self) {
        if self.link.is_forked() {
            return;
        }
        if let Some(intake) = self.outlet.near() {
            // In the other order, whoever waits for the end could find more room.
            self.link.wake_up(intake.end(Ok(())));
        } else {
            let mut core = self.link.core.lock();
            core.state.end_items(self.id);
            self.link.flush(core);
        }
        self.link.wake_up(self.outlet.end(CallError::Cancelled));
    }
}

impl Link {
    /// Opens a stream, for which `plan` has the ends. Does not block.
    pub(crate) fn open<A>(self: &Arc<Link>, plan: &CallPlan, arguments: A) -> Result<Started, CallError>
    where
        A: Serialize + Send + 'static,
    {
        if self.is_forked() {
            return Err(Misuse::Forked.into());
        }
        let slot = &plan.slot;
        let (ends, timer) = slot.streams().map(|it| (it.ours.clone(), it.begin_by)).unwrap_or_default();
        let window = self.stream_window();
        let head = OpenHead { sends: ends.outlet.is_some(), takes: ends.intake.as_ref().map(|_| window) };
        let cargo = self.pack_stream(plan, head, timer, arguments)?;
        let mut core = match self.lock_to_file(&slot.path, timer) {
            Ok(core) => core,
            Err(error) => {
                discard(cargo);
                return Err(error);
            }
        };
        let id = match core.state.begin_stream(slot.clone(), timer, cargo) {
            Ok(id) => id,
            Err((refusal, cargo)) => {
                let error = core.refused(&slot.path, refusal);
                drop(core);
                discard(cargo);
                return Err(error);
            }
        };
        if !self.is_near() {
            core.state.add_stream(id, &ends, window);
        }
        let wake = timer.is_some_and(|at| self.arm(&mut core, at));
        // Before it leaves, so that no cancel is missed.
        let adopted = self.is_adopted(plan, id);
        self.tally.calls.up();
        self.flush(core);
        if wake {
            self.wake_keeper();
        }
        if !adopted {
            self.cancel(id);
        }
        Ok(Started { link: self.clone(), id })
    }

    fn stream_window(&self) -> Quota {
        Quota { items: self.config.limits.stream_items, bytes: self.config.limits.stream_bytes }
    }

    /// The other end's stream has begun here. Its caller is told, and how much may come.
    pub(crate) fn accept_stream(&self, id: TransactionId, ends: &Ends) {
        if let Some(peer) = self.peer() {
            peer.core.lock().state.calls_begun(id);
            let window = self.config.limits.stream_items as usize;
            let opened = ends.intake.iter().map(|intake| intake.open(window));
            return opened.for_each(|wakeup| self.wake_up(wakeup));
        }
        let mut core = self.core.lock();
        core.state.accept_stream(id, self.stream_window());
        if ends.intake.is_some() {
            return self.flush(core);
        }
        // The first items follow at once, as a rule.
        let wake = self.gather(&mut core, Instant::now());
        drop(core);
        if wake {
            self.wake_keeper();
        }
    }

    fn put_item(&self, id: TransactionId, bytes: usize, item: Item<'_>) -> bool {
        let now = Instant::now();
        let mut core = self.core.lock();
        let Some(waiting) = core.state.put_item(id, bytes, item) else { return false };
        let soon = core.last_item.is_some_and(|before| now.saturating_duration_since(before) < BURST);
        core.last_item = Some(now);
        core.gathered += 1;
        if !soon || waiting > 1 || core.gathered >= TOGETHER {
            self.flush(core);
            return true;
        }
        let wake = self.gather(&mut core, now);
        drop(core);
        if wake {
            self.wake_keeper();
        }
        true
    }

    /// Leaves what waits to whoever sends next, or else to the keeper. Says whether that is to be woken.
    fn gather(&self, core: &mut Core, now: Instant) -> bool {
        core.gathering = true;
        if core.items_due.is_some() {
            return false;
        }
        let due = now + SOON;
        core.items_due = Some(due);
        self.arm(core, due)
    }

    /// So much of a stream was taken: more may come.
    pub(crate) fn took_items(&self, id: TransactionId, intake: &Intake, taken: Quota, since: Quota) {
        if self.is_forked() {
            return;
        }
        if intake.is_near() {
            return self.wake_up(intake.took(since.items as usize));
        }
        let mut core = self.core.lock();
        core.state.grant(id, taken, self.stream_window());
        self.flush(core);
    }

    /// How much may be taken before the other end is told.
    pub(crate) fn half_stream_window(&self) -> Quota {
        let Quota { items, bytes } = self.stream_window();
        Quota { items: (items / 2).max(1), bytes: (bytes / 2).max(1) }
    }

    /// Nobody takes the items of a stream any more.
    pub(crate) fn close_intake(&self, id: TransactionId, intake: &Intake) {
        if self.is_forked() {
            return;
        }
        let (left, wakeup) = intake.close();
        self.wake_up(wakeup);
        self.count_lost(left.iter().map(Batch::len).sum::<usize>() as u64);
        discard_all(left);
        if !intake.is_near() && !intake.is_over() {
            let mut core = self.core.lock();
            core.state.stop_items(id);
            self.flush(core);
        }
    }

    pub(crate) fn count_lost(&self, items: u64) {
        self.tally.items_dropped.add(items);
    }

    /// Gives a call that is under way so much time from now on.
    pub(crate) fn set_timer(&self, id: TransactionId, timer: Option<Instant>) {
        if self.is_forked() {
            return;
        }
        let mut core = self.core.lock();
        let there = core.state.calls_set_timer(id, timer);
        let wake = timer.filter(|_| there).is_some_and(|at| self.arm(&mut core, at));
        drop(core);
        if wake {
            self.wake_keeper();
        }
    }

    // Those who wait at an end.

    /// Wakes whoever waited at an end of a stream, on a thread that may run code of the user's: it has no reader role
    /// to give up, and no calls to end.
    pub(crate) fn wake_up(&self, wakeup: Wakeup) {
        self.wake_thread(wakeup).into_iter().for_each(|waker| self.wake(waker));
    }

    /// The same but for the waker.
    fn wake_thread(&self, wakeup: Wakeup) -> Option<Waker> {
        let mut nudge = false;
        let (waker, job) = wakeup.into_parts(&mut nudge);
        if nudge {
            self.nudge();
        }
        job.into_iter().for_each(|job| self.submit(job));
        waker
    }

    /// The same for a thread that reads.
    pub(super) fn wake_later(&self, wakeup: Wakeup, harvest: &mut Harvest) {
        let Wakeup { waker, parked, woke, .. } = wakeup;
        harvest.woke_caller |= woke;
        harvest.told.extend(waker.map(Told::Waker));
        parked.and_then(Resume::resume).into_iter().for_each(|errand| harvest.add(errand));
    }

    /// Items came.
    pub(super) fn take_items(&self, intake: &Intake, batch: Batch, harvest: &mut Harvest) {
        let (wakeup, left) = intake.put(batch);
        left.into_iter().for_each(|batch| self.count_lost(batch.len() as u64));
        self.wake_later(wakeup, harvest);
    }

    /// Tells those at the ends of a stream at the other side, where that is in this process.
    pub(super) fn end_far_streams(&self, slot: &Slot, why: &CallError, wake: impl FnMut(Wakeup)) {
        if self.is_near()
            && let Some(streams) = slot.streams()
        {
            streams.theirs.end(&Err(why.clone()), wake);
        }
    }

    /// Lets those go on for whose items there is room again. Called by whoever has sent, who may have the reader role,
    /// answers to act on, or the clock to watch: wakers are called by the crew.
    pub(super) fn feed_starved<'a>(&'a self, mut core: MutexGuard<'a, Core>) {
        let starved = core.state.take_starved();
        drop(core);
        let wakers: Vec<_> = starved.iter().filter_map(|outlet| self.wake_thread(outlet.room())).collect();
        if !wakers.is_empty()
            && let Some(link) = self.strong()
        {
            self.submit(Box::new(move || wakers.into_iter().for_each(|waker| link.wake(waker))));
        }
    }

    fn pack_stream<A>(
        &self,
        plan: &CallPlan,
        head: OpenHead,
        timer: Option<Instant>,
        arguments: A,
    ) -> Result<Cargo, CallError>
    where
        A: Serialize + Send + 'static,
    {
        let slot = &plan.slot;
        if let Wiring::Direct(_) = &self.wiring {
            let mut incoming = self.call_to_hand_over(plan, arguments);
            incoming.deadline = timer;
            incoming.ends = slot.streams().map(|streams| streams.theirs.clone()).unwrap_or_default();
            return Ok(Cargo::moved(incoming));
        }
        self.pack_call(slot, timer, plan.attempt, Some(head), arguments)
    }
}

/// Items that follow each other as quickly as this are gathered,
const BURST: Duration = Duration::from_micros(20);
/// but so many leave without waiting for more,
const TOGETHER: u32 = 32;
/// and none waits longer than this.
const SOON: Duration = Duration::from_millis(1);
