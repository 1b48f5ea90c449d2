//! How a link gets ready and how it ends: every way to the end is the same few steps, once.

use std::{
    any::Any,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, Instant},
};

use super::{
    Core, Framed, Link, LinkState, Place, Slot, Wiring, aftermath::Later, completing::OffTheTable,
    flow::Harvest, state::Remains, user_code,
};
use crate::{
    error::{CallError, CloseReason, Executed},
    logging::line,
    os::Attendant,
    sync::{Arc, Ordering, fail_here},
    workers::{Job, Until, contain, discard, discard_all, forget_panic, panic_text, run_elsewhere},
};

impl Link {
    /// Tells the other side that calls may come.
    pub(crate) fn say_ready(&self) {
        let mut core = self.core.lock();
        if core.state.say_ready() {
            self.flush(core);
            self.note_ready();
        }
    }

    /// Has code of the user's run that comes before the link is ready, on a thread of the crew.
    ///
    /// # Errors
    ///
    /// When no thread can be had for it: it is dropped.
    pub(crate) fn run_first(&self, code: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let (weak, number) = (self.weak.clone(), self.number());
        let code = move || user_code(&weak, number, Place::Callback, code);
        self.crew.submit(Box::new(code)).map_err(|(error, code)| {
            discard(code);
            error
        })
    }

    /// Blocks until both sides are ready or the link is over, at most until `deadline`.
    pub(crate) fn wait_open(&self, deadline: Option<Instant>) -> LinkState {
        self.wait_for(&self.changed, deadline, |core| core.stage != LinkState::Starting);
        self.stage()
    }

    /// Blocks until the other side has greeted or the link is over, at most until `deadline`. Says whether it
    /// has.
    pub(crate) fn wait_greeted(&self, deadline: Option<Instant>) -> bool {
        self.wait_for(&self.changed, deadline, |core| core.state.is_greeted() || core.state.is_closed());
        let core = self.core.lock();
        core.state.is_greeted() && !core.state.is_closed()
    }

    /// Blocks until the other side is ready or the link is over, at most until `deadline`.
    pub(crate) fn wait_peer_ready(&self, deadline: Option<Instant>) -> bool {
        self.wait_for(&self.changed, deadline, |core| core.state.peer_is_ready() || core.state.is_closed());
        let core = self.core.lock();
        core.state.peer_is_ready() && !core.state.is_closed()
    }

    /// Blocks until the link is over.
    pub(crate) fn wait_closed(&self, deadline: Option<Instant>) -> bool {
        self.wait_for(&self.changed, deadline, |core| core.stage == LinkState::Closed)
    }

    /// Takes no new calls, and says so. Waits for nobody, but where the `send` of a transport waits. Idempotent.
    fn go_away(&self) {
        if self.is_forked() {
            return;
        }
        self.shut_gates();
        let mut core = self.core.lock();
        core.state.go_away();
        self.flush(core);
    }

    /// Takes no new calls, and waits for those under way, at most until `deadline`. Says whether all have ended by
    /// themselves.
    pub(crate) fn wind_down(&self, deadline: Option<Instant>) -> bool {
        if self.is_forked() {
            return false;
        }
        let was_over = self.is_closing();
        self.go_away();
        let quiet = self.wait_for(&self.settled, deadline, |core| {
            (core.is_quiet() && self.inside() == (0, 0)) || core.state.is_closed()
        });
        // Somebody else may have ended it meanwhile, with all that was under way.
        quiet && (was_over || !self.core.lock().cut_off)
    }

    /// Ends the link from this side: what is under way fails, events that wait still leave if the
    /// other side reads within the grace, and the other side is told. Idempotent.
    pub(crate) fn close(&self) {
        if self.is_forked() {
            return;
        }
        let later = self.end_calls();
        let deadline = Instant::now().checked_add(self.config.grace);
        self.wait_for(&self.settled, deadline, |core| {
            core.state.is_drained() || core.state.is_closed() || !core.state.peer_is_ready()
        });
        self.say_bye(0);
        // Whoever is sending at this moment takes the goodbye along. It is waited for, because this process
        // may end when this returns.
        self.wait_for(&self.settled, deadline, |core| !core.sending || core.state.is_closed());
        self.lose(CloseReason::Local);
        // Another thread may have lost it first, and be at it still.
        self.wait_closed(deadline);
        drop(later);
    }

    /// Ends the calls of this side before the link itself. What comes back found no thread: it is for the calling one,
    /// when that has done with the link.
    #[must_use]
    fn end_calls(&self) -> Option<Later<'_>> {
        let mut core = self.core.lock();
        if core.state.is_closed() || core.reason.is_some() {
            return None;
        }
        core.reason = Some(Arc::new(CloseReason::Local));
        let sequel = self.enter(&mut core, LinkState::Disconnected);
        let cuts_off = core.cuts_off(self.inside());
        core.cut_off |= cuts_off;
        let remains = core.state.end_calls();
        core.near = 0;
        let reason = core.closing_reason();
        drop(core);
        let left = self.hand_on(sequel);
        self.flush(self.core.lock());
        let mut later = self.bury(remains, &reason);
        later.add(left);
        Some(later)
    }

    /// Sends the last words, if there is room for them.
    pub(super) fn say_bye(&self, code: u16) {
        let mut core = self.core.lock();
        if !core.state.is_closed() {
            core.state.say_bye(code);
            self.flush(core);
        }
    }

    /// Ends the link for `reason`. The first reason stands.
    pub(super) fn lose(&self, reason: CloseReason) {
        let mut core = self.core.lock();
        let cuts_off = core.cuts_off(self.inside());
        let Some(remains) = core.state.close() else { return };
        core.cut_off |= cuts_off;
        core.near = 0;
        let mut sequel = None;
        if core.reason.is_none() {
            core.reason = Some(Arc::new(reason));
            sequel = Some(self.enter(&mut core, LinkState::Disconnected));
        }
        let reason = core.closing_reason();
        drop(core);
        let mut left = sequel.map_or_else(Vec::new, |sequel| self.hand_on(sequel));
        let mut later = self.bury(remains, &reason);
        left.extend(self.end_turns().and_then(|job| self.offer(job)));
        let is_loss = !matches!(*reason, CloseReason::Local | CloseReason::Peer);
        let lost = is_loss.then(|| line!(Warn, "{} link lost: {reason}", self.side)).flatten();
        let words = self.line_up_words(lost);
        let mut sequel = self.enter(&mut self.core.lock(), LinkState::Closed);
        sequel.jobs.extend(words);
        left.extend(self.hand_on(sequel));
        later.add(left);
        if let Wiring::Framed(framed) = &self.wiring {
            // Whoever is sending takes the last words along, and hangs up after them.
            if !self.core.lock().sending {
                framed.hang_up();
            }
            framed.role.close();
            framed.nudge();
        }
        self.crew.stop();
        self.keeper.retire();
        drop(later);
    }

    /// Nobody has seen the link, and nobody will: its keeper would watch a child for ever that is of no use.
    pub(super) fn stillborn(&self) {
        self.crew.stop();
        drop(self.release_attendant());
        self.join_keeper(self.config.grace);
    }

    /// Runs code of the library, or of a transport. Should it panic, the link ends, and whoever waits is told;
    /// `None` then.
    pub(super) fn guard<R>(&self, code: impl FnOnce() -> R) -> Option<R> {
        catch_unwind(AssertUnwindSafe(code)).map_err(|panic| self.break_down(panic)).ok()
    }

    /// Ends the link over a mistake of ours, or of a transport.
    #[cold]
    pub(super) fn break_down(&self, panic: Box<dyn Any + Send>) {
        let reason = CloseReason::Broken(panic_text(&*panic).into());
        forget_panic(panic);
        // First the reason: the other side hangs up when it is told. It has to be told because an end of
        // ipc-channel does not see that the other one has gone; what is wrong may be so in there, too.
        self.core.lock().dying.get_or_insert(reason.clone());
        contain(|| self.say_bye(0));
        self.lose(reason);
    }

    /// Tells everybody who has to do with what was under way. What comes back is for the calling thread, when it has done
    /// with the link and nobody waits for it: it is the user's, and found no thread or needs none.
    #[must_use]
    fn bury(&self, remains: Remains<Arc<Slot>>, reason: &Arc<CloseReason>) -> Later<'_> {
        let mut later = Later::new(self);
        let kept = self.end_gates(&mut later);
        self.tally.events_unsent.add(remains.unsent_events);
        // Nobody else tells them. So a mistake over one of them is none over the others.
        for token in remains.served {
            contain(|| later.cancel(token.fire()));
        }
        let now = Instant::now();
        let executed = Executed::Maybe;
        let seen_there = match **reason {
            CloseReason::Local => Arc::new(CloseReason::Peer),
            CloseReason::Peer => Arc::new(CloseReason::Local),
            _ => reason.clone(),
        };
        for ended in remains.calls {
            let error = CallError::Closed { reason: reason.clone(), executed: ended.executed };
            let seen = CallError::Closed { reason: seen_there.clone(), executed };
            contain(|| {
                let _told = OffTheTable(self, ended.waiter.clone());
                fail_here("a link that tells of its end");
                later.cancel(self.give_up(&ended.waiter));
                later.end(ended, error, &seen, now);
            });
        }
        // Those of our own calls have ended with them.
        let closed = CallError::Closed { reason: reason.clone(), executed };
        for ends in remains.streams {
            contain(|| ends.end(&Err(closed.clone()), |wakeup| later.wake(wakeup)));
        }
        later.leave_to_the_crew();
        let unsent = remains.unsent;
        // Within one process this may be the thread that brings the other end's last words, which has not come to its own
        // end: values of the user's that go would hold that up, or wait for it.
        if self.is_near() && !unsent.is_empty() {
            let left = self.offer(Box::new(move || discard_all(unsent)));
            later.add(left.into_iter().collect());
            later.keep(Box::new(move || discard(kept)));
        } else {
            later.keep(Box::new(move || {
                discard(kept);
                discard_all(unsent);
            }));
        }
        later
    }

    /// The other process has ended: what it had sent is delivered, then the link ends.
    ///
    /// Whoever reads does both when it comes to the nudge, which stands behind what was sent.
    pub(crate) fn peer_died(&self, reason: CloseReason) {
        let Wiring::Framed(framed) = &self.wiring else { return self.lose(reason) };
        let mut core = self.core.lock();
        if core.state.is_closed() {
            return;
        }
        core.dying.get_or_insert(reason);
        drop(core);
        self.changed.notify_all();
        framed.nudge();
        let Some(mut reader) = framed.role.take() else { return };
        let mut harvest = Harvest::default();
        self.guard(|| self.drain(&mut reader, &mut harvest));
        drop(reader);
        self.finish(harvest);
        framed.pay();
    }

    /// Nothing can be sent any more, so that the other side is gone, or about to go. What it had sent is
    /// delivered all the same, and its goodbye may be among that.
    #[cold]
    pub(super) fn cannot_send(&self, framed: &Framed, sent: std::thread::Result<io::Result<()>>) {
        let (reason, more_may_come) = match sent {
            Ok(Ok(())) => return,
            // It lets go of what it reads from first. Another thread of it may still be sending its last words.
            Ok(Err(error)) if is_end(&error) => (CloseReason::Gone, true),
            Ok(Err(error)) => (CloseReason::Io(Arc::new(error)), self.keeper.has_attendant()),
            // A transport that panics: its caller is told what all others are told.
            Err(panic) => {
                let text = panic_text(&*panic);
                forget_panic(panic);
                (CloseReason::Broken(text.into()), false)
            }
        };
        if more_may_come {
            framed.hang_up();
            return self.expect_death(reason);
        }
        // First the reason: the other side may hang up, too, before this thread has come any further.
        self.core.lock().dying.get_or_insert(reason.clone());
        framed.hang_up();
        self.peer_died(reason);
    }

    /// What says more than `reason` may be about to come, and is waited for: last words, or the end of the process,
    /// whose sockets go a moment before that can be seen.
    pub(super) fn expect_death(&self, reason: CloseReason) {
        let mut core = self.core.lock();
        if core.mute.is_none() {
            core.mute = Instant::now().checked_add(DYING).map(|at| (at, reason));
        }
        drop(core);
        self.wake_keeper();
    }

    /// What the keeper looked after, if it is still there. The link is over, so that the keeper gives it back.
    pub(crate) fn release_attendant(&self) -> Option<Box<dyn Attendant>> {
        // Whoever ends the link may be stuck in a waker before it has come to this.
        self.keeper.stop();
        self.keeper.take_attendant()
    }

    fn join_keeper(&self, limit: Duration) {
        self.keeper.stop();
        let left = self.keeper.join(limit.max(LAST_LINES));
        if left > 0 {
            self.tally.leave_behind(left, &self.config.name, "keeper");
        }
    }

    /// Waits for the threads of the link to end, for at most `limit`; those still in user code then
    /// are left behind, and counted. The calling thread is not waited for.
    ///
    /// Afterwards the link holds nothing but memory, however long handles point to it.
    pub(crate) fn join(&self, limit: Duration) {
        let until = Until::after(limit);
        self.await_completing(limit);
        self.join_keeper(until.left());
        let left = self.crew.join(until.left());
        self.left_alone.store(left > 0, Ordering::Relaxed);
        if let Wiring::Framed(framed) = &self.wiring {
            let nudge = framed.nudge.lock().take();
            drop(nudge);
        }
        if left > 0 {
            self.tally.leave_behind(left, &self.config.name, "*");
        }
    }
}

impl Link {
    /// Whether nothing more is to begin here: whoever has the API may take its state down.
    pub(crate) fn is_left_alone(&self) -> bool {
        self.left_alone.load(Ordering::Relaxed)
    }
}

impl Framed {
    /// Brings whoever reads out of the transport.
    ///
    /// The one that reads has no need of it: it looks around after the packet. And it must not, since a
    /// nudge may have to wait for room that only the one that reads can make.
    pub(super) fn nudge(&self) {
        if self.role.is_mine() {
            return self.look_around.store(true, Ordering::Relaxed);
        }
        let nudge = self.nudge.lock().clone();
        if let Some(nudge) = nudge {
            nudge.nudge();
        }
    }

    /// Leaves a job to this thread, which reads, for the time behind that.
    #[cold]
    pub(super) fn owe(&self, job: Job) {
        self.owed.lock().push(job);
        self.owes.store(true, Ordering::Relaxed);
    }

    /// Whether there are such jobs. Only the thread that has made them needs to know.
    #[inline]
    pub(super) fn owes(&self) -> bool {
        self.owes.load(Ordering::Relaxed)
    }

    /// Runs them, if there are any, and what they lead to. The calling thread does not read.
    pub(super) fn pay(&self) {
        // It is asked for each packet: to look costs nothing, and to exchange would.
        while self.owes() {
            self.owes.store(false, Ordering::Relaxed);
            let owed = std::mem::take(&mut *self.owed.lock());
            owed.into_iter().for_each(run_elsewhere);
        }
    }

    /// Lets go of the way out, which is what the other side sees. It is dropped outside of its lock.
    pub(super) fn hang_up(&self) {
        let sender = self.sender.lock().take();
        drop(sender);
    }
}

impl Core {
    /// The error of a call that finds the link closed.
    pub(super) fn closed(&self, executed: Executed) -> CallError {
        CallError::Closed { reason: self.closing_reason(), executed }
    }

    /// Whether something would be lost with the link, besides so many calls inside of inline handlers.
    fn cuts_off(&self, inside: (usize, usize)) -> bool {
        let calls = self.state.n_calls() + self.n_served() + self.answering;
        calls + self.state.n_waiting() + self.state.n_answers() > 0 || inside != (0, 0)
    }

    fn closing_reason(&self) -> Arc<CloseReason> {
        self.reason.clone().unwrap_or_else(|| Arc::new(CloseReason::Local))
    }
}

fn is_end(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

/// A keeper that is in no code of the user's has a few lines left.
const LAST_LINES: Duration = Duration::from_millis(100);
/// How long the end of a process that has closed its sockets may take to be seen.
const DYING: Duration = Duration::from_millis(100);
