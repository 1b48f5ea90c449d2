//! What follows from the end of a call that may take several links.

use std::{mem::take, task::Waker};

use super::{Aftermath, Family, Link, Slot, state::Ended, stranded::Stranded};
use crate::{
    sync::Arc,
    workers::{Job, contain, discard, discard_all, run_elsewhere},
};

/// What is left to do once such a call has ended, which is the user's: it takes as long as it likes, and waits for another
/// call. So whoever ends several calls ends all of them before the first of these is dropped, which does it.
#[must_use = "whoever ends several calls does this when all of them have ended"]
#[derive(Default)]
pub(crate) struct FollowUp {
    link: Option<Arc<Link>>,
    callback: Option<Job>,
    wakers: Vec<Waker>,
    /// The calls of the handler of its last attempt, in this process, which are to be cancelled.
    family: Family,
    /// The calls on a link that have ended with it.
    ended: Vec<Ended<Arc<Slot>>>,
    /// What there was no thread for.
    left: Vec<Stranded>,
    /// What goes with it.
    values: Vec<Box<dyn Send>>,
    /// The call itself, should nobody else know it.
    call: Option<Arc<dyn Relayed>>,
}

impl FollowUp {
    /// `link`: the last one that there was.
    pub(crate) fn new(aftermath: Aftermath, family: Family, link: Option<Arc<Link>>) -> FollowUp {
        let Aftermath { callback, told, .. } = aftermath;
        // Nothing else than a handle of the user's waits for the call as a whole.
        let wakers = told.and_then(Told::waker).into_iter().collect();
        let (ended, left, values) = Default::default();
        FollowUp { link, callback, wakers, family, ended, left, values, call: None }
    }

    /// Has this dropped last.
    pub(crate) fn keep(&mut self, value: impl Send + 'static) {
        self.values.push(Box::new(value));
    }

    /// Has the call itself dropped behind that.
    pub(crate) fn hold(&mut self, call: Arc<dyn Relayed>) {
        self.call = Some(call);
    }

    pub(crate) fn take_family(&mut self) -> Family {
        take(&mut self.family)
    }

    /// Whether nothing is left to do.
    pub(crate) fn is_empty(&self) -> bool {
        let FollowUp { link: _, callback, wakers, family, ended, left, values, call } = self;
        let none = callback.is_none() && wakers.is_empty() && left.is_empty() && call.is_none();
        none && family.is_empty() && ended.is_empty() && values.is_empty()
    }

    /// What there is no thread for, besides.
    pub(crate) fn leave(&mut self, link: Arc<Link>, job: Stranded) {
        self.link = Some(link);
        self.left.push(job);
    }

    /// The calls on a link that have ended, and what there is no thread for.
    pub(super) fn take_over(&mut self, ended: Vec<Ended<Arc<Slot>>>, left: Vec<Stranded>) {
        (self.ended, self.left) = (ended, left);
    }

    /// Does it for several calls: first whatever ends others, and before what is done here what needs a thread of its own.
    pub(crate) fn do_all(mut all: Vec<FollowUp>) {
        let families: Vec<_> = all.iter_mut().map(FollowUp::take_family).collect();
        families.into_iter().for_each(|family| family.end(&mut all));
        all.iter_mut().for_each(FollowUp::call_back);
        all.iter_mut().for_each(FollowUp::wake);
        all.iter_mut().for_each(FollowUp::do_what_is_left);
        discard_all(all);
    }

    fn call_back(&mut self) {
        match (self.callback.take(), &self.link) {
            (Some(callback), Some(link)) => contain(|| link.run_callback(callback)),
            (Some(callback), None) => run_elsewhere(callback),
            (None, _) => {}
        }
    }

    fn do_what_is_left(&mut self) {
        for job in self.left.drain(..) {
            match &self.link {
                Some(link) => contain(|| link.run_on_this_thread(job)),
                None => job.run(),
            }
        }
    }

    fn wake(&mut self) {
        for waker in self.wakers.drain(..) {
            match &self.link {
                Some(link) => link.wake(waker),
                None => contain(|| waker.wake()),
            }
        }
    }
}

impl Drop for FollowUp {
    fn drop(&mut self) {
        let mut others = Vec::new();
        self.take_family().end(&mut others);
        self.call_back();
        self.wake();
        self.do_what_is_left();
        FollowUp::do_all(others);
        for Ended { unsent, waiter, .. } in self.ended.drain(..) {
            discard(unsent);
            discard(waiter);
        }
        discard_all(self.values.drain(..));
        discard(self.call.take());
    }
}

/// A call that may take several attempts, and so several links.
pub(crate) trait Relayed: Send + Sync {
    /// The call in whose handler it is made has been given up. Called without a lock.
    fn give_up(self: Arc<Self>) -> FollowUp;

    /// An attempt has ended. Called by whoever has ended it, without a lock and without the reader role.
    fn attempt_has_ended(self: Arc<Self>) -> FollowUp;
}

/// Whoever is told that a call has ended, or that there is something at an end of a stream.
pub(crate) enum Told {
    /// Code of the user's.
    Waker(Waker),
    /// The call of which this is an attempt.
    Relay(Arc<dyn Relayed>),
}

impl Told {
    pub(super) fn waker(self) -> Option<Waker> {
        match self {
            Told::Waker(waker) => Some(waker),
            Told::Relay(_) => None,
        }
    }
}

impl Link {
    /// Tells them, on the calling thread, and does what follows from the ends of others. Calls of which attempts have
    /// ended end before anything of the user's is called.
    pub(super) fn tell_all(&self, all: Vec<Told>, mut follow_ups: Vec<FollowUp>) {
        if all.len() < 2 && follow_ups.is_empty() {
            return all.into_iter().for_each(|one| self.tell(one));
        }
        let follow_up = self.follow_up_after(all, &mut follow_ups);
        follow_ups.push(follow_up);
        FollowUp::do_all(follow_ups);
    }

    /// Those of them that have to be woken. Calls of which attempts have ended end here, and what follows from that is
    /// added.
    pub(super) fn follow_up_after(&self, told: Vec<Told>, follow_ups: &mut Vec<FollowUp>) -> FollowUp {
        let mut follow_up = FollowUp::default();
        follow_up.link = self.strong();
        for one in told {
            match one {
                Told::Waker(waker) => follow_up.wakers.push(waker),
                relay => follow_ups.push(self.follow_up_of(relay)),
            }
        }
        follow_up
    }

    /// The same for one.
    pub(super) fn tell(&self, one: Told) {
        drop(self.follow_up_of(one));
    }

    fn follow_up_of(&self, one: Told) -> FollowUp {
        let mut follow_up = FollowUp::default();
        match one {
            Told::Waker(waker) => self.wake(waker),
            Told::Relay(relay) => self.run_user_code(|| follow_up = relay.attempt_has_ended()),
        }
        follow_up
    }
}
