//! What is left to do once a call has ended, and who else sees that.

use std::{mem::take, task::Waker, time::Instant};

use super::{
    Link, Slot,
    follow_up::{FollowUp, Told},
    state::Ended,
    stranded::Stranded,
    stream::Wakeup,
    token::Family,
};
use crate::{
    error::CallError,
    sync::{Arc, hold_nothing},
    wire::TransactionId,
    workers::{Job, contain, discard, run_elsewhere},
};

/// Sees how a call ends, and takes nothing.
pub(crate) trait Observer: Send {
    fn see(self: Box<Self>, end: Result<(), CallError>);
}

/// What was set aside for a call that was served, and goes back to where it came from.
pub(crate) trait Remains: Send {
    /// Ends the serving, and says of which call.
    fn settle(self: Box<Self>) -> Option<TransactionId>;
}

/// What is left to do after a slot was filled, once the reader role is given up.
#[derive(Default)]
pub(crate) struct Aftermath {
    pub(crate) told: Option<Told>,
    /// For [`Link::complete`], which has it run.
    pub(crate) callback: Option<Job>,
    /// The callback, for which there was no thread: it is to be run once all calls have ended.
    pub(super) stranded: Option<Stranded>,
    /// A thread that blocked for the call was woken.
    pub(crate) woke_caller: bool,
    /// That thread is inside the transport.
    pub(crate) nudge: bool,
    /// Those who waited at the ends of its streams.
    pub(crate) ends: Vec<Wakeup>,
}

/// What follows from the ends of calls and may be the user's: it takes as long as it likes, waits for another call of
/// the same link, or drops the link. So whoever ends calls ends all of them first; what is in here is done when it is
/// dropped, also where a panic has come in between.
pub(super) struct Later<'a> {
    link: &'a Link,
    nudge: bool,
    jobs: Vec<Job>,
    stranded: Vec<Stranded>,
    told: Vec<Told>,
    families: Vec<Family>,
    ended: Vec<Ended<Arc<Slot>>>,
    last: Vec<Job>,
}

impl Later<'_> {
    pub(super) fn new(link: &Link) -> Later<'_> {
        let (jobs, stranded, told, families, ended, last) = Default::default();
        Later { link, nudge: false, jobs, stranded, told, families, ended, last }
    }

    pub(super) fn wake(&mut self, wakeup: Wakeup) {
        let (waker, job) = wakeup.into_parts(&mut self.nudge);
        self.told.extend(waker.map(Told::Waker));
        self.jobs.extend(job);
    }

    pub(super) fn cancel(&mut self, family: Family) {
        if !family.is_empty() {
            self.families.push(family);
        }
    }

    /// What is to be run besides.
    pub(super) fn add(&mut self, jobs: Vec<Stranded>) {
        self.stranded.extend(jobs);
    }

    /// What drops things of the user's, and is for no other thread.
    pub(super) fn keep(&mut self, last: Job) {
        self.last.push(last);
    }

    /// Ends a call that was taken off the table. `seen`: what those at the far ends of its streams are told.
    pub(super) fn end(&mut self, ended: Ended<Arc<Slot>>, error: CallError, seen: &CallError, now: Instant) {
        let (link, slot) = (self.link, &*ended.waiter);
        link.end_far_streams(slot, seen, |wakeup| self.wake(wakeup));
        let aftermath = link.complete(slot, Err(error), now);
        self.nudge |= aftermath.nudge;
        self.told.extend(aftermath.told);
        self.stranded.extend(aftermath.stranded);
        aftermath.ends.into_iter().for_each(|wakeup| self.wake(wakeup));
        self.ended.push(ended);
    }

    /// Leaves what is the user's to whoever ends more than this one call. Of that the calls that were to be cancelled last
    /// come back.
    pub(super) fn hand_on(mut self, follow_ups: &mut Vec<FollowUp>) -> Family {
        self.nudge();
        self.hand_over_jobs();
        let mut follow_up = self.link.follow_up_after(take(&mut self.told), follow_ups);
        follow_up.take_over(take(&mut self.ended), take(&mut self.stranded));
        follow_ups.push(follow_up);
        self.families.pop().unwrap_or_default()
    }

    /// Leaves all of it to threads of the link, wakers and what cancelling leads to as well. For whoever ends that: it
    /// may be a caller that reads, and holds what a waker waits for. What there is no thread for is left here.
    pub(super) fn leave_to_the_crew(&mut self) {
        let (told, families) = (take(&mut self.told), take(&mut self.families));
        match self.link.strong().filter(|_| !(told.is_empty() && families.is_empty())) {
            Some(link) => {
                let end_and_tell = move || {
                    let mut later = Later::new(&link);
                    (later.told, later.families) = (told, families);
                };
                // First, since this ends calls that others may wait for, should it be left here with them.
                self.jobs.insert(0, Box::new(end_and_tell));
            }
            None => (self.told, self.families) = (told, families),
        }
        self.nudge();
        self.hand_over_jobs();
    }

    /// Those for which there is no thread are left here.
    fn hand_over_jobs(&mut self) {
        let before = take(&mut self.stranded);
        self.stranded.extend(self.jobs.drain(..).filter_map(|job| self.link.offer(job)));
        self.stranded.extend(before);
    }

    fn nudge(&mut self) {
        if take(&mut self.nudge) {
            contain(|| self.link.nudge());
        }
    }
}

impl Drop for Later<'_> {
    fn drop(&mut self) {
        let link = self.link;
        self.nudge();
        let mut follow_ups = Vec::new();
        self.families.drain(..).for_each(|family| contain(|| family.end(&mut follow_ups)));
        contain(|| self.hand_over_jobs());
        contain(|| link.tell_all(take(&mut self.told), follow_ups));
        self.stranded.drain(..).for_each(|job| contain(|| link.run_on_this_thread(job)));
        for ended in self.ended.drain(..) {
            discard(ended.unsent);
            discard(ended.waiter);
        }
        self.last.drain(..).for_each(run_elsewhere);
    }
}

/// A copy to be kept. Making it is code of the user's, as dropping it is.
pub(crate) fn copy_of(waker: &Waker) -> Waker {
    hold_nothing();
    waker.clone()
}
