//! What a link does at its time, and the keeper that is there to do it.

use std::{io, time::Instant};

use super::{Core, Link, Wiring, aftermath::Later, completing::OffTheTable, start::timed_out};
use crate::{
    error::{CallError, Rejection},
    logging::line,
    sync::{MutexGuard, Ordering, fail_here},
    wire::Path,
    workers::discard_all,
};

impl Link {
    /// Does what is due at `now`.
    pub(super) fn tick(&self, now: Instant) {
        let mut late = Vec::new();
        let mut core = self.core.lock();
        fail_here("a keeper that ends calls");
        while let Some(ended) = core.state.handle_timeout(now) {
            let family = self.give_up(&ended.waiter);
            late.push((OffTheTable(self, ended.waiter.clone()), ended, family));
        }
        let nudge = core.state.take_alarms(now);
        let overdue = core.state.overdue(now);
        let gone = core.take_mute(now);
        core.items_due.take_if(|at| *at <= now);
        let silent = core.state.feel_pulse(now);
        core.armed = core.next_alarm();
        drop(core);
        let mut later = Later::new(self);
        let mut unsent = Vec::new();
        for (_told, mut ended, family) in late {
            fail_here("a keeper with late calls");
            later.cancel(family);
            unsent.extend(ended.unsent.take().filter(|_| self.is_near()));
            let error = timed_out(&ended, now);
            later.end(ended, error, &CallError::Cancelled, now);
        }
        if !unsent.is_empty() {
            self.submit(Box::new(move || discard_all(unsent)));
        }
        // The keeper runs nothing of the user's, of which any may take its time: no handler of what leaves now, either.
        // And nobody who is late waits for that.
        let core = self.core.lock();
        match self.strong().filter(|link| link.is_near() && core.state.n_waiting() > 0) {
            Some(link) => {
                drop(core);
                self.submit(Box::new(move || link.flush(link.core.lock())));
            }
            None => self.flush(core),
        }
        later.leave_to_the_crew();
        if nudge {
            self.nudge();
        }
        if let Some(violation) = overdue {
            self.break_off(violation);
        }
        if let Some(reason) = gone {
            self.peer_died(reason);
        }
        if let Some(reason) = silent {
            self.say_bye(0);
            self.lose(reason);
        }
        drop(later);
    }

    /// The lock, and a keeper that stays for a call which is filed under it with a time of its own: nobody else may be
    /// there to end that one.
    ///
    /// # Errors
    ///
    /// When no thread can be had for the keeper. The call is not to set out then.
    pub(super) fn lock_to_file(&self, path: &Path, timer: Option<Instant>) -> Result<Lock<'_>, CallError> {
        let mut core = self.core.lock();
        while timer.is_some() && !core.kept && !self.keeper.is_stopping() {
            drop(core);
            if let Err(error) = self.strong().map_or(Ok(()), |link| self.keeper.wake(&link)) {
                let detail = format!("no thread to watch its time: {error}").into();
                return Err(Rejection::Busy { path: path.clone(), detail }.into());
            }
            core = self.core.lock();
        }
        Ok(core)
    }

    /// Sees to it that the keeper looks at the clock at `at`. Gives the lock back.
    pub(super) fn arm(&self, core: &mut Core, at: Instant) -> bool {
        let needed = core.armed.is_none_or(|armed| at < armed);
        if needed {
            core.armed = Some(at);
        }
        needed
    }

    /// Says whether there is one.
    pub(super) fn wake_keeper(&self) -> bool {
        let woken = self.try_to_wake_keeper();
        if let Err(error) = &woken {
            self.say(line!(Warn, "no thread to watch the clock for the link: {error}"));
        }
        woken.is_ok()
    }

    /// Has somebody watch the clock. If nobody can be had, whoever sends or reads next tries again.
    pub(crate) fn find_keeper(&self) -> bool {
        let is_kept = self.core.lock().kept;
        is_kept || self.try_to_wake_keeper().is_ok()
    }

    fn try_to_wake_keeper(&self) -> io::Result<()> {
        let Some(link) = self.strong() else { return Ok(()) };
        self.keeper.wake(&link).inspect_err(|_| {
            let mut core = self.core.lock();
            core.armed = None;
            // Under the lock: whoever makes up for it sees that nobody is about to look at the clock.
            let is_news = !self.lacks_thread.swap(true, Ordering::Relaxed);
            // Nobody would send later what waits to leave with others.
            if core.items_due.take().is_some() {
                core.gathering = false;
                self.flush(core);
            } else {
                drop(core);
            }
            // Whoever reads does not sleep without an end from now on.
            match &self.wiring {
                Wiring::Framed(framed) if is_news && !framed.role.is_mine() => framed.nudge(),
                _ => {}
            }
        })
    }

    /// Notes that a thread was needed and could not be had.
    #[cold]
    pub(super) fn note_lack(&self) {
        self.lacks_thread.store(true, Ordering::Relaxed);
    }

    /// Whether a thread was needed and could not be had.
    #[inline]
    pub(super) fn lacks_thread(&self) -> bool {
        self.lacks_thread.load(Ordering::Relaxed)
    }

    /// Tries again to get the threads that could not be had. Says whether they are there.
    #[cold]
    pub(super) fn make_up_for_lack(&self) -> bool {
        let mut core = self.core.lock();
        self.lacks_thread.store(false, Ordering::Relaxed);
        let wake = !core.kept && core.next_alarm().is_some_and(|at| self.arm(&mut core, at));
        drop(core);
        if matches!(self.wiring, Wiring::Framed(_)) && self.crew.summon().is_err() {
            self.note_lack();
        }
        (!wake || self.try_to_wake_keeper().is_ok()) && !self.lacks_thread()
    }
}

impl Core {
    /// When the keeper has to look at the clock.
    pub(super) fn next_alarm(&self) -> Option<Instant> {
        let mute = self.mute.as_ref().map(|(at, _)| *at);
        [self.state.next_alarm(), mute, self.items_due].into_iter().flatten().min()
    }
}

pub(super) type Lock<'a> = MutexGuard<'a, Core>;
