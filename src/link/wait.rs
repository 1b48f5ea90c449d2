//! How a thread blocks for a reply: it reads for itself when it can, and parks when another reads.

use std::time::Instant;

use super::{
    Framed, Link, Outcome, Slot, Wiring, depth,
    flow::{Harvest, Read},
    role::{Reader, Role},
    slot::Woken,
};
use crate::{
    sync::{Arc, fail_here},
    workers::{Job, look_out, run_elsewhere},
};

impl Link {
    /// Blocks until the call has ended or `limit` has passed, and runs the calls that descend from it
    /// meanwhile. Says whether it has ended.
    pub(crate) fn wait(&self, slot: &Arc<Slot>, limit: Option<Instant>) -> bool {
        if self.is_forked() || slot.is_done() {
            return true;
        }
        match &self.wiring {
            Wiring::Direct(_) => {
                look_out(|| slot.is_done());
            }
            Wiring::Framed(_) => self.send_gathered(),
        }
        slot.block();
        self.block(slot, limit);
        // What was offered in the last moment has to be answered all the same.
        slot.unblock().into_iter().for_each(|errand| self.submit(errand));
        slot.is_done()
    }

    fn block(&self, slot: &Arc<Slot>, limit: Option<Instant>) {
        self.block_until(slot, limit, || slot.is_done());
    }

    fn block_until(&self, slot: &Arc<Slot>, limit: Option<Instant>, over: impl Fn() -> bool) {
        match &self.wiring {
            Wiring::Framed(framed) => {
                let lined_up = self.wait_for_frames(framed, slot, limit, over);
                if lined_up {
                    self.step_out(framed, slot);
                }
            }
            Wiring::Direct(_) => self.wait_for_peer(slot, limit, over),
        }
    }

    /// Blocks at an end of a stream until `over` or until `limit` has passed, and says which. Whoever makes
    /// it over rouses the seat. What descends from `call` is run meanwhile.
    pub(crate) fn wait_at(
        &self,
        seat: &Arc<Slot>,
        call: Option<&Arc<Slot>>,
        limit: Option<Instant>,
        over: impl Fn() -> bool,
    ) -> bool {
        if self.is_forked() {
            return true;
        }
        seat.calm();
        if over() {
            return true;
        }
        match &self.wiring {
            Wiring::Direct(_) => {
                look_out(|| seat.has_news());
            }
            Wiring::Framed(_) => self.send_gathered(),
        }
        seat.block();
        // What comes from here on is offered to this seat.
        call.inspect(|call| seat.take_over(call));
        self.block_until(seat, limit, || {
            seat.calm();
            over()
        });
        seat.unblock().into_iter().for_each(|errand| self.submit(errand));
        over()
    }

    /// The same for a call that its caller makes and forgets: it looks out for the end before it sleeps.
    pub(crate) fn wait_at_once(&self, slot: &Arc<Slot>) -> Option<Outcome> {
        if matches!(self.wiring, Wiring::Direct(_))
            && let Some((value, remains)) = slot.watch()
        {
            remains.settle().inspect(|id| self.settle_answered(*id));
            // What descends from the call and was left to this thread has to be answered all the same.
            slot.unblock().into_iter().for_each(|errand| self.submit(errand));
            return Some(Ok(value));
        }
        // The slot knows from the start that a thread blocks for it.
        self.block(slot, slot.deadline);
        let (outcome, errands) = slot.unblock_and_take();
        errands.into_iter().for_each(|errand| self.submit(errand));
        outcome
    }

    fn wait_for_peer(&self, slot: &Slot, limit: Option<Instant>, over: impl Fn() -> bool) {
        while !over() {
            match slot.park(limit) {
                Woken::Done | Woken::Late => return,
                Woken::Errand => run_errand(slot),
                Woken::Promoted | Woken::Roused => {}
            }
            if limit.is_some_and(|limit| limit <= Instant::now()) {
                return;
            }
        }
    }

    /// Says whether the thread has lined up for the role, and may still stand there.
    fn wait_for_frames(
        &self,
        framed: &Framed,
        slot: &Arc<Slot>,
        limit: Option<Instant>,
        over: impl Fn() -> bool,
    ) -> bool {
        let step_out = || self.step_out(framed, slot);
        wait_in_line(&framed.role, slot, limit, over, step_out, |reader| {
            // It goes when the link has ended: its end is what the other side would see, and this one then.
            let mut reader = Some(reader);
            self.guard(|| self.read_for(framed, slot, &mut reader, limit));
            drop(reader);
            framed.pay();
        })
    }

    fn step_out(&self, framed: &Framed, slot: &Arc<Slot>) {
        if framed.role.step_out(slot) {
            self.call_ticker();
        }
    }

    /// Runs inline handlers that came while this thread read for `slot`. They may call back and wait, and
    /// what they wait for may be stuck behind whatever is left to this thread: so the rest of them can be taken
    /// by others, and what descends from the call goes elsewhere meanwhile.
    fn run_inline(&self, framed: &Framed, slot: &Slot, first: Job, others: Vec<Job>) {
        let several = !others.is_empty();
        framed.batch.lock().extend(others);
        if several && !framed.role.is_ticking() {
            self.call_ticker();
        }
        slot.unblock().into_iter().for_each(|errand| self.submit(errand));
        run_elsewhere(first);
        if several {
            while let Some(job) = framed.next_of_batch() {
                match slot.is_done() {
                    true => self.submit(job),
                    false => run_elsewhere(job),
                }
            }
        }
        slot.block();
    }

    /// Reads until the call has ended, an errand has come, or `limit` has passed.
    fn read_for(&self, framed: &Framed, slot: &Slot, held: &mut Option<Reader>, limit: Option<Instant>) {
        let Some(reader) = held else { return };
        // The call's own deadline has a timer already.
        let alarm = limit.filter(|_| !framed.wakes_at_deadlines && limit != slot.deadline);
        if alarm.is_some_and(|at| !self.set_alarm(at, slot)) {
            // Nothing would bring it out of the transport in time: it waits, and leaves reading to the crew.
            if held.take().is_some_and(|reader| framed.role.release(reader, true)) {
                self.call_ticker();
            }
            self.pay_for(framed, slot);
            slot.park(limit);
            return;
        }
        let mut harvest = Harvest::default();
        let mut inline = Vec::new();
        reader.receiver.expect_soon(true);
        while slot.set_reading(true) {
            fail_here("a caller that reads");
            let read = self.read(reader, limit, &mut harvest);
            if !matches!(read, Read::Packet) || !harvest.told.is_empty() {
                slot.set_reading(false);
                break;
            }
            for errand in harvest.take_errands() {
                match errand.inline && !slot.is_done() && depth() < DEEPEST {
                    true => inline.push(errand.job),
                    false => self.submit_errand(errand),
                }
            }
            if slot.is_done() {
                break;
            }
            if !inline.is_empty() || framed.owes() {
                slot.set_reading(false);
                break;
            }
            // A peer that never stops sending must not keep the thread from its time.
            if limit.is_some_and(|limit| limit <= Instant::now()) {
                slot.set_reading(false);
                break;
            }
        }
        alarm.inspect(|at| self.core.lock().state.remove_alarm(*at, alarm_key(slot)));
        if held.take().is_some_and(|reader| framed.role.release(reader, false)) {
            self.call_ticker();
        }
        fail_here("a caller that has read");
        self.finish(harvest);
        self.pay_for(framed, slot);
        let mut inline = inline.into_iter();
        if let Some(first) = inline.next() {
            self.run_inline(framed, slot, first, inline.collect());
        }
    }

    /// Runs what the calling thread owes, which has given the role up. That may wait for what is left to this thread.
    fn pay_for(&self, framed: &Framed, slot: &Slot) {
        if framed.owes() {
            slot.unblock().into_iter().for_each(|errand| self.submit(errand));
            framed.pay();
            slot.block();
        }
    }

    /// Has whoever reads woken at `at`. Says whether there is somebody to do that.
    fn set_alarm(&self, at: Instant, slot: &Slot) -> bool {
        let mut core = self.core.lock();
        core.state.add_alarm(at, alarm_key(slot));
        let wake = self.arm(&mut core, at);
        drop(core);
        let is_set = !wake || self.wake_keeper();
        if !is_set {
            self.core.lock().state.remove_alarm(at, alarm_key(slot));
        }
        is_set
    }
}

/// Takes the role whenever it can be had, and then has `read` done; parks when another thread has it. Says
/// whether the thread has lined up for the role, and may still stand there.
pub(super) fn wait_in_line(
    role: &Role,
    slot: &Arc<Slot>,
    limit: Option<Instant>,
    over: impl Fn() -> bool,
    step_out: impl Fn(),
    read: impl Fn(Reader),
) -> bool {
    let mut lined_up = false;
    // The deadline of a call that has just set out needs no look at the clock.
    let mut fresh = limit == slot.deadline;
    while !over() {
        // First, since there may be no end to errands.
        if !std::mem::take(&mut fresh) && limit.is_some_and(|limit| limit <= Instant::now()) {
            break;
        }
        if slot.has_errand() {
            // Else the role could be handed to this slot while its thread waits for another call, in
            // the errand; then that thread would sleep beside a role that nobody has.
            if std::mem::take(&mut lined_up) {
                step_out();
            }
            run_errand(slot);
            continue;
        }
        match role.take_or_line_up(slot, lined_up) {
            Some(reader) => read(reader),
            None => {
                lined_up = true;
                slot.park(limit);
            }
        }
    }
    lined_up
}

/// Tells the alarms of two callers at the same instant apart.
fn alarm_key(slot: &Slot) -> usize {
    std::ptr::from_ref(slot) as usize
}

fn run_errand(slot: &Slot) {
    slot.take_errand().into_iter().for_each(run_elsewhere);
}

/// How many handlers may stand on the stack of a thread that reads before it leaves inline ones to others. Each
/// of them may block in turn, and then read the next.
const DEEPEST: u32 = 8;
