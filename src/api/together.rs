//! The ends of calls over several links, and who does what follows from them where several calls end together.

use super::{attempts::Left, endpoint::Inner, relay::Relay};
use crate::{
    link::{FollowUp, Outcome, Slot, Started},
    logging::line,
    sync::Arc,
    workers::{Job, contain, run_elsewhere},
};

/// What is left of the end of a call, if it has come to that: what its layers do, which ends it, and what follows from
/// that. All of it is the user's. It is done when this is dropped.
#[must_use = "what is in here takes as long as it likes, and no other call may wait for it"]
#[derive(Default)]
pub(super) struct Ending {
    unseen: Option<Unseen>,
    pub(super) follow_up: FollowUp,
}

/// An end that layers are to see first.
struct Unseen(Option<(Arc<Relay>, LeftOver, Outcome)>);

/// The attempt that was under way.
pub(super) type LeftOver = Left<(Started, Arc<Slot>)>;

impl Ending {
    pub(super) fn after_layers(relay: Arc<Relay>, left: LeftOver, outcome: Outcome) -> Ending {
        Ending { unseen: Some(Unseen(Some((relay, left, outcome)))), ..Ending::default() }
    }

    /// Nothing has ended, but this is to be dropped.
    pub(super) fn dropping(value: impl Send + 'static) -> Ending {
        let mut ending = Ending::default();
        ending.follow_up.keep(value);
        ending
    }

    /// Has the layers see it, here and now.
    pub(super) fn show(self) -> FollowUp {
        let Ending { unseen, follow_up } = self;
        drop(unseen);
        follow_up
    }
}

impl From<FollowUp> for Ending {
    fn from(follow_up: FollowUp) -> Ending {
        Ending { unseen: None, follow_up }
    }
}

impl Drop for Unseen {
    fn drop(&mut self) {
        if let Some((relay, left, outcome)) = self.0.take() {
            contain(|| drop(relay.conclude(left, outcome)));
        }
    }
}

/// Does with all of these calls what may end them. Nothing of the user's comes in between, but for the predicates of
/// tries, which must not block; nor on this thread, which may be one that others wait for: each end that layers see has a thread for itself, so that no other waits behind it, and
/// what follows from the others has one for all. Where there is none to be had it is done here, when all else is done.
pub(super) fn together(calls: impl IntoIterator<Item = Arc<Relay>>, step: impl Fn(&Arc<Relay>) -> Ending) {
    let (mut jobs, mut follow_ups, mut endpoint) = (Vec::<Job>::new(), Vec::new(), None);
    for call in calls {
        endpoint.get_or_insert_with(|| call.endpoint().clone());
        // Each for itself: a mistake over one of them is none over the others.
        contain(|| {
            let Ending { unseen, mut follow_up } = step(&call);
            // Others that know it drop it.
            Arc::into_inner(call).into_iter().for_each(|call| follow_up.hold(Arc::new(call)));
            jobs.extend(unseen.map(|unseen| Box::new(move || drop(unseen)) as Job));
            if !follow_up.is_empty() {
                follow_ups.push(follow_up);
            }
        });
    }
    if !follow_ups.is_empty() {
        jobs.push(Box::new(move || FollowUp::do_all(follow_ups)));
    }
    if let Some(endpoint) = endpoint {
        endpoint.follow(jobs);
    }
}

impl Inner {
    /// Has each of these run by a thread for itself; those for which there is none here, behind all others.
    fn follow(&self, jobs: Vec<Job>) {
        let left: Vec<_> = jobs.into_iter().filter_map(|job| self.leave_to_crew(job)).collect();
        left.into_iter().for_each(run_elsewhere);
    }

    /// Has this run by a thread of the endpoint, which whoever takes it down waits for. It comes back if there is none.
    pub(super) fn leave_to_crew(&self, job: Job) -> Option<Job> {
        if self.is_forked() {
            return Some(job);
        }
        let (error, job) = self.ends.submit_in_time(job).err()?;
        if self.ends.is_over() {
            return Some(job);
        }
        let line = line!(Warn, "no thread for what follows from the ends of calls: {error}");
        // It is said where the job runs: a logger is the user's, too.
        Some(Box::new(move || {
            line.into_iter().for_each(|line| line.write());
            run_elsewhere(job);
        }))
    }
}
