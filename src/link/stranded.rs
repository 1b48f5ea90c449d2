//! What there is no thread for.

use std::io;

use super::{Link, Wiring};
use crate::{
    logging::line,
    sync::hold_nothing,
    workers::{Job, Shift, Work, run_elsewhere},
};

/// A job for which no thread could be had. That was tried, and is not tried again: it is for the thread that made it.
pub(crate) struct Stranded(Job);

impl Stranded {
    /// Runs it on a thread that does nothing for a link.
    pub(super) fn run(self) {
        run_elsewhere(self.0);
    }
}

impl From<Job> for Stranded {
    fn from(job: Job) -> Stranded {
        Stranded(job)
    }
}

impl Link {
    /// Has a job run by the crew. Should no thread be had, the calling one runs it: so it holds no lock. Whoever reads
    /// does that once it has given the role up, and the keeper once it has stood aside.
    pub(crate) fn submit(&self, job: Job) {
        hold_nothing();
        self.offer(job).into_iter().for_each(|job| self.run_on_this_thread(job));
    }

    /// Has a job run by the crew. It comes back if no thread can be had for it.
    pub(crate) fn offer(&self, job: Job) -> Option<Stranded> {
        let (why, job) = self.crew.submit(job).err()?;
        Some(Stranded(Box::new(Told { job, why })))
    }

    /// The same for what is to have ended when the threads of the crew have: behind that it comes back, too.
    pub(super) fn offer_in_time(&self, job: Job) -> Option<Stranded> {
        let (why, job) = self.crew.submit_in_time(job).err()?;
        Some(match self.crew.is_over() {
            // There is to be none: that is nothing to be told.
            true => Stranded::from(job),
            false => Stranded(Box::new(Told { job, why })),
        })
    }

    /// Runs a job for which there is no thread: now, or where the calling thread reads, hands over or watches, once it has
    /// given that up.
    pub(super) fn run_on_this_thread(&self, job: Stranded) {
        match &self.wiring {
            _ if self.keeper.is_mine() => self.keeper.owe(job.0),
            Wiring::Framed(framed) if framed.role.is_mine() => framed.owe(job.0),
            Wiring::Framed(_) => run_elsewhere(job.0),
            // The other side has no other thread either for what its handler calls back: that is for this one, too.
            Wiring::Direct(_) => self.owe_behind(job).into_iter().for_each(|job| Shift::here().run(job.0)),
        }
    }
}

/// It is said where that may be, which is where the job runs.
struct Told {
    job: Job,
    why: io::Error,
}

impl Work for Told {
    fn run(self: Box<Told>, shift: &Shift<'_>) {
        let line = line!(Warn, "no thread for a job, so that the one that made it runs it: {}", self.why);
        line.into_iter().for_each(|line| line.write());
        self.job.run(shift);
    }

    fn take_place(self: Box<Told>) -> Option<Job> {
        self.job.take_place()
    }

    fn is_over(&self) -> bool {
        self.job.is_over()
    }
}
