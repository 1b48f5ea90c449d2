//! What the threads of a link's crew do without a job: look after the reader role, and run what they read.

use std::time::{Duration, Instant};

use super::{
    Core, Errand, Framed, Link, Wiring,
    flow::{Harvest, Read},
    role::{Post, Reader, TICK},
};
use crate::{
    config::Answers,
    os::let_others_run,
    sync::{Weak, fail_here},
    workers::{Idle, Shift, run_elsewhere},
};

pub(super) struct StandBy(pub(super) Weak<Link>);

impl Idle for StandBy {
    fn idle(&self, again: bool) -> Option<Duration> {
        let link = self.0.upgrade()?;
        let Wiring::Framed(framed) = &link.wiring else { return None };
        link.guard(|| link.stand_by(framed, again)).flatten()
    }

    fn interrupted(&self) {
        let Some(link) = self.0.upgrade() else { return };
        let Wiring::Framed(framed) = &link.wiring else { return };
        link.guard(|| {
            fail_here("a ticker that leaves");
            if framed.role.ticker_left() || !framed.batch.lock().is_empty() {
                link.call_ticker();
            }
            link.send_gathered();
        });
    }
}

impl Link {
    fn stand_by(&self, framed: &Framed, again: bool) -> Option<Duration> {
        fail_here("a thread without a job");
        let mut again = again;
        if again {
            self.help_out(framed);
        }
        loop {
            let post = framed.role.stand_by(again);
            if !matches!(post, Post::Tick) {
                // It ticks no more: what was left for its next look goes now.
                self.send_gathered();
            }
            match post {
                Post::Lead(reader) => {
                    // It goes when the link has ended: its end is what the other side would see, and this one then.
                    let mut reader = Some(reader);
                    let led = self.guard(|| self.lead(framed, &mut reader));
                    drop(reader);
                    framed.pay();
                    led?;
                }
                Post::Tick => return Some(TICK),
                // Whoever left something to the ticker may have seen this one just before it gave that up.
                Post::Nothing if !framed.batch.lock().is_empty() => self.help_out(framed),
                Post::Nothing => return None,
            }
            again = false;
        }
    }

    /// Reads until another thread has better reason to, or the link is over.
    fn lead(&self, framed: &Framed, held: &mut Option<Reader>) {
        if !framed.batch.lock().is_empty() {
            // Whoever runs it may not be back soon, and this thread is going to sleep.
            self.call_ticker();
        }
        let shift = Shift::elsewhere();
        // A caller that has its answer is likely to call again. What else comes is credit for what this side
        // sends, by a thread that may need this very core.
        held.iter_mut().for_each(|reader| reader.receiver.expect_soon(false));
        while let Some(reader) = held {
            fail_here("a thread that leads");
            let mut harvest = Harvest::default();
            // It does not sleep over it for ever that there is nobody to watch the clock.
            let again = self.lacks_thread() && !self.make_up_for_lack();
            if framed.owes() {
                *held = self.pay_aside(framed, held.take());
                continue;
            }
            let limit = if again { Instant::now().checked_add(RETRY) } else { None };
            match self.read(reader, limit, &mut harvest) {
                Read::Packet => {}
                Read::Nothing => continue,
                Read::Over => {
                    *held = None;
                    self.finish(harvest);
                    return framed.pay();
                }
            }
            let first = harvest.first.take();
            let stay = first.is_none() && harvest.told.is_empty() && !harvest.woke_caller && !framed.owes();
            if stay {
                // There may be no end to it, and the calls of other links need this core now and then.
                let_others_run();
                reader.receiver.expect_soon(false);
                continue;
            }
            let quick = first.iter().chain(&harvest.others).all(|errand| !errand.slow);
            if quick {
                framed.batch.lock().extend(harvest.others.drain(..).map(|errand| errand.job));
            }
            let several = !framed.batch.lock().is_empty();
            // A caller that was promoted reads, and would not help out.
            let released = held.take().is_some_and(|reader| framed.role.release(reader, !quick));
            if released || (several && !framed.role.is_ticking()) {
                self.call_ticker();
            }
            self.finish(harvest);
            framed.pay();
            let Some(first) = first else { return };
            self.run_batch(framed, first, &shift);
            *held = framed.role.take();
            held.iter_mut().for_each(|reader| reader.receiver.expect_soon(true));
        }
    }

    /// Runs what the calling thread owes, and may not sleep over, without the role. It comes back unless another one has
    /// taken that.
    #[cold]
    fn pay_aside(&self, framed: &Framed, held: Option<Reader>) -> Option<Reader> {
        if held.is_some_and(|reader| framed.role.release(reader, true)) {
            self.call_ticker();
        }
        framed.pay();
        framed.role.take()
    }

    /// Runs the handlers of one packet. Should one of them take longer than it ever has, somebody helps out.
    fn run_batch(&self, framed: &Framed, first: Errand, shift: &Shift<'_>) {
        fail_here("a thread with a batch");
        let together = self.config.answers == Answers::Together && !framed.batch.lock().is_empty();
        if together {
            self.core.lock().batching = true;
        }
        shift.run(first.job);
        while let Some(job) = framed.next_of_batch() {
            shift.run(job);
        }
        if together {
            self.send_gathered();
        }
    }

    /// Sends the answers of a batch as far as it has got, and the calls that wait for more of them.
    pub(crate) fn send_gathered(&self) {
        if self.is_near() || self.is_forked() {
            // Nothing waits there, and a result that is polled should not take the lock from those who work.
            return;
        }
        let mut core = self.core.lock();
        let batching = std::mem::take(&mut core.batching);
        if std::mem::take(&mut core.gathering) || batching {
            self.flush(core);
        }
    }

    /// Whether a call that is about to be filed had better wait for the next one. `started`: when it was made.
    ///
    /// Only in the middle of a burst, while a thread looks after the link every tick: it sends what waits,
    /// should the burst end without anybody waiting for a result.
    pub(super) fn gathers(&self, core: &mut Core, started: Instant) -> bool {
        let Wiring::Framed(framed) = &self.wiring else { return false };
        let before = core.last_start.replace(started);
        let soon = before.is_some_and(|before| started.saturating_duration_since(before) < BURST);
        core.gathering = soon
            && core.state.n_calls() >= UNDER_WAY
            && core.state.n_waiting() + 1 < TOGETHER
            && framed.role.is_ticking();
        core.gathering
    }

    /// Goes on with a batch that was left lying for a whole tick.
    fn help_out(&self, framed: &Framed) {
        let Some(job) = framed.next_of_batch() else { return self.send_gathered() };
        // The handler may take its time: somebody else ticks. What was left to this thread before goes now.
        if framed.role.ticker_left() || !framed.batch.lock().is_empty() {
            self.call_ticker();
        }
        self.send_gathered();
        run_elsewhere(job);
        while let Some(job) = framed.next_of_batch() {
            run_elsewhere(job);
        }
    }
}

impl Framed {
    pub(super) fn next_of_batch(&self) -> Option<crate::workers::Job> {
        self.batch.lock().pop_front()
    }
}

/// How soon a thread that could not be had is tried again.
const RETRY: Duration = Duration::from_millis(100);
/// Calls that follow each other as quickly as this are a burst,
const BURST: Duration = Duration::from_micros(20);
/// if so many are under way;
const UNDER_WAY: usize = 16;
/// so many leave without waiting for more.
const TOGETHER: usize = 16;

#[cfg(test)]
mod tests;
