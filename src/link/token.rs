//! Tells a handler that nobody waits for it any more, and ends the calls that it makes meanwhile.

use std::{fmt, time::Instant};

use super::{FollowUp, Link, Slot, follow_up::Relayed, gate::Gate};
use crate::{
    os::thread_id,
    sync::{Arc, AtomicBool, AtomicUsize, Condvar, Mutex, Ordering, Weak, fail_here},
    wire::TransactionId,
    workers::contain,
};

/// Fires when the caller has given up: it cancelled, its deadline passed at its side, or its link went.
///
/// With it end the calls that the handler has under way, over whatever link: those that it blocks for
/// and those that it has started, as [`CallError::Cancelled`](crate::CallError::Cancelled). Their handlers'
/// tokens fire in turn. Also those that wait for another link, or for another try.
///
/// Cheap to clone. A handler that never looks at it runs to its end; threads cannot be stopped from
/// outside.
#[derive(Clone)]
pub struct CancelToken(Kind);

#[derive(Clone)]
enum Kind {
    Own(Arc<Own>),
    /// In one process the call itself is at hand, so that nothing needs to be made for it.
    Call(Arc<Slot>),
    /// Nobody ever waits for an event.
    Never,
}

#[derive(Default)]
pub(super) struct Own {
    fired: AtomicBool,
    /// When nobody waits any more, where nobody else watches the clock: the caller is in the handler.
    deadline: Option<Instant>,
    stage: AtomicUsize,
    family: Mutex<Family>,
    changed: Condvar,
}

/// The calls that the handler of a call makes, for as long as they are under way.
#[derive(Default)]
pub(crate) struct Family {
    /// Most handlers make one at a time, which then needs no list.
    first: Option<Child>,
    others: Vec<Child>,
    /// How long the list may grow before it is looked through.
    room: usize,
}

/// A call that is made in the handler of another one.
pub(super) enum Child {
    Call {
        link: Weak<Link>,
        id: TransactionId,
        slot: Weak<Slot>,
    },
    /// One that is made again, which may be under way nowhere for a while.
    Relayed {
        call: Weak<dyn Relayed>,
        slot: Weak<Slot>,
    },
    /// One that runs on the thread of its caller.
    Token(Weak<Own>),
}

impl CancelToken {
    /// Whether it has fired. Does not block.
    pub fn is_cancelled(&self) -> bool {
        match &self.0 {
            Kind::Own(own) => own.is_over(),
            Kind::Call(slot) => slot.is_over(),
            Kind::Never => false,
        }
    }

    /// The same without a look at the clock.
    pub(crate) fn has_fired(&self) -> bool {
        match &self.0 {
            Kind::Own(own) => own.fired.load(Ordering::Acquire),
            Kind::Call(slot) => slot.is_given_up(),
            Kind::Never => false,
        }
    }

    /// Sleeps until it fires, for at most `limit`, and says whether it has fired.
    pub fn wait_timeout(&self, limit: std::time::Duration) -> bool {
        let deadline = Instant::now().checked_add(limit);
        match &self.0 {
            Kind::Own(own) => own.wait(deadline),
            Kind::Call(slot) => slot.wait_given_up(deadline),
            Kind::Never => {
                std::thread::sleep(limit);
                false
            }
        }
    }

    /// The calling thread runs the handler of the call.
    pub(crate) fn note_running(&self) {
        self.mark(thread_id() as usize);
    }

    /// Its handler has returned.
    pub(crate) fn note_returned(&self) {
        self.mark(RETURNED);
    }

    fn mark(&self, stage: usize) {
        match &self.0 {
            Kind::Own(own) => own.stage.store(stage, Ordering::Relaxed),
            Kind::Call(slot) => slot.served_by.store(stage, Ordering::Relaxed),
            Kind::Never => {}
        }
    }

    /// How far the handler of the call is.
    pub(crate) fn stage(&self) -> Stage {
        let stage = match &self.0 {
            Kind::Own(own) => own.stage.load(Ordering::Relaxed),
            Kind::Call(slot) => slot.served_by.load(Ordering::Relaxed),
            Kind::Never => QUEUED,
        };
        match stage {
            QUEUED => Stage::Queued,
            RETURNED => Stage::Returned,
            thread => Stage::Running(thread as u32),
        }
    }

    /// The token of an event: it never fires.
    pub(crate) fn never() -> CancelToken {
        CancelToken(Kind::Never)
    }

    /// The token of a call of this process.
    pub(crate) fn of(slot: &Arc<Slot>) -> CancelToken {
        CancelToken(Kind::Call(slot.clone()))
    }

    /// The token of a call that runs on the thread of its caller: it fires with that of the `outer` call, at
    /// the deadline, and when the link ends.
    pub(super) fn inside(gate: &Gate, outer: Option<&CancelToken>, deadline: Option<Instant>) -> CancelToken {
        let own = Arc::new(Own { deadline, ..Own::default() });
        gate.keep(&own);
        if !outer.is_none_or(|outer| outer.adopt(|| Child::Token(Arc::downgrade(&own)))) {
            own.fire().cancel();
        }
        CancelToken(Kind::Own(own))
    }

    /// The call, where the caller is in this process.
    pub(crate) fn call(&self) -> Option<&Arc<Slot>> {
        match &self.0 {
            Kind::Call(slot) => Some(slot),
            Kind::Own(_) | Kind::Never => None,
        }
    }

    /// Fires it. What comes back is to be ended by the caller, once it holds no lock.
    #[must_use = "the calls of the handler end with it"]
    pub(crate) fn fire(&self) -> Family {
        match &self.0 {
            Kind::Own(own) => own.fire(),
            Kind::Call(slot) => slot.give_up(),
            Kind::Never => Family::default(),
        }
    }

    /// Takes a call on that the handler makes. `false` if it is over already: the token has fired.
    pub(super) fn adopt_call(&self, link: &Link, id: TransactionId, slot: &Arc<Slot>) -> bool {
        self.adopt(|| Child::Call { link: link.weak.clone(), id, slot: Arc::downgrade(slot) })
    }

    /// The same for one that may take several attempts, until it is [released](CancelToken::release).
    pub(crate) fn adopt_relayed<R: Relayed + 'static>(&self, call: &Arc<R>, slot: &Arc<Slot>) -> bool {
        self.adopt(|| {
            let call: Weak<R> = Arc::downgrade(call);
            Child::Relayed { call, slot: Arc::downgrade(slot) }
        })
    }

    fn adopt(&self, child: impl FnOnce() -> Child) -> bool {
        match &self.0 {
            Kind::Own(own) => own.adopt(child),
            Kind::Call(slot) => slot.adopt(child),
            Kind::Never => true,
        }
    }

    /// A call that was taken on has ended.
    pub(crate) fn release(&self, slot: &Arc<Slot>) {
        match &self.0 {
            Kind::Own(own) => own.family.lock().remove(slot),
            Kind::Call(own) => own.release(slot),
            Kind::Never => {}
        }
    }
}

/// How far a call is that is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// No handler has begun.
    Queued,
    /// Its handler runs on this thread.
    Running(u32),
    /// Its handler has returned, and the answer is to come.
    Returned,
}

impl Default for CancelToken {
    fn default() -> CancelToken {
        CancelToken(Kind::Own(Arc::default()))
    }
}

impl Own {
    fn is_over(&self) -> bool {
        self.fired.load(Ordering::Acquire) || has_passed(self.deadline)
    }

    fn wait(&self, limit: Option<Instant>) -> bool {
        let until = earlier(self.deadline, limit);
        let mut lock = self.family.lock();
        while !self.fired.load(Ordering::Acquire) {
            match until {
                Some(at) if self.changed.wait_until(&mut lock, at).timed_out() => break,
                Some(_) => {}
                None => self.changed.wait(&mut lock),
            }
        }
        drop(lock);
        self.is_over()
    }

    fn adopt(&self, child: impl FnOnce() -> Child) -> bool {
        let mut family = self.family.lock();
        let alive = !self.fired.load(Ordering::Acquire);
        if alive {
            family.add(child());
        }
        alive
    }

    pub(super) fn fire(&self) -> Family {
        let mut family = self.family.lock();
        self.fired.store(true, Ordering::Release);
        let children = std::mem::take(&mut *family);
        drop(family);
        self.changed.notify_all();
        children
    }
}

impl Family {
    pub(super) fn add(&mut self, child: Child) {
        if self.first.is_none() {
            self.first = Some(child);
            return;
        }
        if self.others.len() >= self.room.max(LOOKED_THROUGH) {
            // Nobody tells of the end of a call that was started: so those that have ended go now and then.
            self.others.retain(Child::may_be_under_way);
            self.room = 2 * self.others.len();
        }
        self.others.push(child);
    }

    pub(super) fn remove(&mut self, slot: &Arc<Slot>) {
        let is_it = |child: &Child| match child {
            Child::Call { slot: other, .. } | Child::Relayed { slot: other, .. } => {
                std::ptr::eq(other.as_ptr(), Arc::as_ptr(slot))
            }
            Child::Token(_) => false,
        };
        if self.first.as_ref().is_some_and(is_it) {
            self.first = None;
        } else {
            self.others.retain(|child| !is_it(child));
        }
    }

    /// Whether there is nothing to end.
    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_none() && self.others.is_empty()
    }

    /// [Ends](Family::end) the calls, and does what follows from that.
    pub(crate) fn cancel(self) {
        let mut follow_ups = Vec::new();
        self.end(&mut follow_ups);
        FollowUp::do_all(follow_ups);
    }

    /// Ends the calls as cancelled, and those of their handlers in this process, however long a chain they are: one
    /// after the other, and not one within the other, for which no stack would be long enough. What follows from that is
    /// added. The calling thread holds no lock.
    pub(super) fn end(self, follow_ups: &mut Vec<FollowUp>) {
        let mut left = Vec::new();
        let mut next = Some(self);
        while let Some(family) = next {
            for child in family.first.into_iter().chain(family.others) {
                // To ask is to hold a call for a moment, and to be the last, perhaps, with what is the user's in it.
                contain(|| {
                    let is_left = child.is_under_way();
                    let family = if is_left { child.cancel(follow_ups) } else { None };
                    left.extend(family.filter(|family| !family.is_empty()));
                });
            }
            next = left.pop();
        }
    }
}

impl Child {
    /// Asked under a lock: an upgraded reference may be the last one to go, and what hangs on it is the user's.
    fn may_be_under_way(&self) -> bool {
        match self {
            Child::Call { slot, .. } | Child::Relayed { slot, .. } => slot.strong_count() > 0,
            Child::Token(own) => own.strong_count() > 0,
        }
    }

    /// Ends it. What comes back is to be cancelled, too; what is left to do is added.
    fn cancel(self, follow_ups: &mut Vec<FollowUp>) -> Option<Family> {
        match self {
            Child::Call { link, id, .. } => Some(link.upgrade()?.cancel_alone(id, follow_ups)),
            Child::Relayed { call, .. } => {
                let mut follow_up = call.upgrade()?.give_up();
                let family = follow_up.take_family();
                follow_ups.extend((!follow_up.is_empty()).then_some(follow_up));
                Some(family)
            }
            Child::Token(own) => Some(own.upgrade()?.fire()),
        }
    }

    /// Asked without a lock.
    fn is_under_way(&self) -> bool {
        fail_here("whoever cancels");
        match self {
            Child::Call { slot, .. } | Child::Relayed { slot, .. } => {
                slot.upgrade().is_some_and(|slot| !slot.is_done())
            }
            Child::Token(own) => own.strong_count() > 0,
        }
    }
}

pub(super) fn has_passed(deadline: Option<Instant>) -> bool {
    deadline.is_some_and(|at| at <= Instant::now())
}

/// The one that comes first.
pub(super) fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    one.into_iter().chain(other).min()
}

impl fmt::Debug for CancelToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CancelToken(cancelled: {})", self.is_cancelled())
    }
}

/// In the place of the number of a thread, which is neither.
const QUEUED: usize = 0;
const RETURNED: usize = usize::MAX;
/// So many calls of one handler are kept in mind before those that have ended are forgotten.
const LOOKED_THROUGH: usize = 16;

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::wire::{Path, Side};

    fn slot() -> Arc<Slot> {
        Arc::new(Slot::new(Path::root(), Instant::now(), None))
    }

    fn child(n: u64, slot: &Arc<Slot>) -> Child {
        Child::Call { link: Weak::new(), id: TransactionId::new(Side::Head, n), slot: Arc::downgrade(slot) }
    }

    #[test]
    fn calls_that_have_ended_are_not_kept_in_mind() {
        let (mut family, lasting) = (Family::default(), slot());
        family.add(child(1, &lasting));
        let kept: Vec<_> = (0..40).map(|_| slot()).collect();
        kept.iter().for_each(|slot| family.add(child(2, slot)));
        (0..10_000).for_each(|_| family.add(child(3, &slot())));
        let slot_of = |child: &Child| match child {
            Child::Call { slot, .. } => slot.clone(),
            Child::Relayed { .. } | Child::Token(_) => Weak::new(),
        };
        let is_kept =
            |slot: &Arc<Slot>| family.others.iter().any(|child| slot_of(child).ptr_eq(&Arc::downgrade(slot)));
        assert!(kept.iter().all(is_kept));
        assert!(family.others.len() <= 2 * kept.len() + 2, "{}", family.others.len());
        kept.iter().for_each(|slot| family.remove(slot));
        family.remove(&lasting);
        assert!(!family.others.iter().any(Child::is_under_way) && family.first.is_none());
    }
}
