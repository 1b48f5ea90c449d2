//! Where a caller and its callee run.

use std::{
    env,
    process::{Command, Stdio},
};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::roles;

/// A core for the caller and one for the callee, which may be the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) caller: usize,
    pub(crate) callee: usize,
}

impl Place {
    /// Both on one core; and, if there are two, both on their own.
    pub(crate) fn all() -> Vec<Place> {
        let allowed = sched_getaffinity(None).expect("a thread may ask where it runs");
        let mut cores = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core));
        let first = cores.next().expect("a thread runs somewhere");
        let mut places = vec![Place { caller: first, callee: first }];
        places.extend(cores.next().map(|second| Place { caller: first, callee: second }));
        places
    }

    /// The first core of those that this thread may run on.
    pub(crate) fn here() -> usize {
        Place::all()[0].caller
    }

    pub(crate) fn name(self) -> &'static str {
        if self.caller == self.callee { "one core" } else { "two cores" }
    }

    /// The command that starts the callee of a contender as a process.
    pub(crate) fn callee(self, contender: &str) -> Command {
        let mut command = Command::new(env::current_exe().expect("this program has a file"));
        command.arg(roles::CALLEE).arg(contender).arg(self.callee.to_string());
        // What the caller prints is its result.
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    /// Runs `start` on the callee's core: the threads that it starts stay there.
    pub(crate) fn on_callee<T>(self, start: impl FnOnce() -> T) -> T {
        pin(self.callee);
        let started = start();
        pin(self.caller);
        started
    }
}

/// Keeps this thread, and those that it starts from now on, on one core.
pub(crate) fn pin(core: usize) {
    let mut cores = CpuSet::new();
    cores.set(core);
    sched_setaffinity(None, &cores).expect("the core is one of those that were allowed");
}
