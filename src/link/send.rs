//! Frames out: sending without a thread of its own.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, Instant},
};

use super::{Core, Framed, Link, Wiring, direct::Inline, load::Packet};
use crate::sync::{MutexGuard, fail_here, hold_nothing};

impl Link {
    /// Sends what may be sent, unless another thread is at it; that one takes it along.
    pub(super) fn flush<'a>(&'a self, core: MutexGuard<'a, Core>) {
        match &self.wiring {
            Wiring::Framed(framed) => self.flush_frames(framed, core),
            Wiring::Direct(_) => self.deliver(core).run_elsewhere(),
        }
    }

    fn flush_frames<'a>(&'a self, framed: &Framed, mut core: MutexGuard<'a, Core>) {
        if core.sending {
            return;
        }
        core.gathered = 0;
        let mut packet = std::mem::take(&mut core.spare);
        if core.state.next_packet(&mut packet) {
            return self.send(framed, core, packet);
        }
        core.spare = packet;
        self.have_sent(framed, core);
    }

    /// The same with a packet that something may have been put into while nobody was sending: see
    /// [`Core::idle_packet`]. What comes back are inline handlers, for a thread that may run user code.
    pub(super) fn flush_with<'a>(
        &'a self,
        mut core: MutexGuard<'a, Core>,
        packet: Option<Packet>,
    ) -> Option<Inline> {
        match (&self.wiring, packet) {
            (Wiring::Direct(_), _) => return Some(self.deliver(core)),
            (Wiring::Framed(framed), Some(packet)) if !packet.is_empty() => self.send(framed, core, packet),
            (Wiring::Framed(framed), packet) => {
                core.keep(packet);
                self.flush_frames(framed, core);
            }
        }
        None
    }

    /// Sends a packet, and what may be sent after it.
    fn send<'a>(&'a self, framed: &Framed, mut core: MutexGuard<'a, Core>, packet: Packet) {
        core.sending = true;
        core.gathered = 0;
        drop(core);
        let sent = catch_unwind(AssertUnwindSafe(|| self.send_all(framed, packet)));
        if !matches!(sent, Ok(Ok(()))) {
            // `sending` stays set: what waits is never sent, and ends as what was not.
            self.cannot_send(framed, sent);
        }
    }

    /// Sends a packet and what is there behind it. Whoever calls has set `sending`, and holds no lock.
    #[inline]
    fn send_all(&self, framed: &Framed, mut packet: Packet) -> std::io::Result<()> {
        loop {
            hold_nothing();
            fail_here("a sender that sends");
            let whole = framed.sender.lock().as_mut().map_or(Ok(true), |to| to.try_send(packet.bytes()))?;
            if !whole {
                return self.leave_the_rest(packet);
            }
            if !self.refill(framed, &mut packet) {
                return Ok(());
            }
        }
    }

    /// A packet has gone, and the next one is put in its place. `false` when there is none.
    #[inline]
    fn refill(&self, framed: &Framed, packet: &mut Packet) -> bool {
        packet.sent();
        let mut core = self.core.lock();
        fail_here("a sender that has sent");
        let more = core.state.next_packet(packet);
        if core.awaiting_room > 0 {
            self.settled.notify_all();
        }
        let is_over = core.turn_is_over();
        if more {
            drop(core);
        } else {
            packet.shrink_to(SPARE);
            core.spare = std::mem::take(packet);
            core.sending = false;
            self.have_sent(framed, core);
        }
        if is_over {
            self.give_turn();
        }
        more
    }

    /// A peer acknowledges what it does not read, so that there was no room for all of a packet. It is left to a
    /// thread of the link: nobody who calls waits for such a peer, and neither does whoever reads or ends calls. So the
    /// link fails where no thread is to be had.
    #[cold]
    fn leave_the_rest(&self, packet: Packet) -> std::io::Result<()> {
        let Some(link) = self.strong() else { return Ok(()) };
        let sent = self.crew.submit(Box::new(move || link.send_the_rest(packet)));
        sent.map_err(|(error, _)| std::io::Error::new(error.kind(), format!("no thread to send by: {error}")))
    }

    fn send_the_rest(&self, mut packet: Packet) {
        let Wiring::Framed(framed) = &self.wiring else { return };
        let sent = catch_unwind(AssertUnwindSafe(|| {
            let mut whole = false;
            while !whole {
                let until = Instant::now() + GLANCE;
                whole = framed.sender.lock().as_mut().map_or(Ok(true), |sender| sender.go_on(until))?;
                if self.is_over() {
                    framed.hang_up();
                    return Ok(());
                }
            }
            if self.refill(framed, &mut packet) { self.send_all(framed, packet) } else { Ok(()) }
        }));
        if !matches!(sent, Ok(Ok(()))) {
            self.cannot_send(framed, sent);
        }
    }

    /// There is nothing to send now.
    fn have_sent<'a>(&'a self, framed: &Framed, mut core: MutexGuard<'a, Core>) {
        let mut wake = false;
        // Whoever closes waits for this.
        if core.state.is_drained() || core.reason.is_some() {
            self.settled.notify_all();
        } else if core.state.is_newly_stuck() {
            let due = core.state.get_stuck(Instant::now());
            wake = due.is_some_and(|at| self.arm(&mut core, at));
        }
        // Whoever closed meanwhile has left it to this thread.
        if core.state.is_closed() {
            drop(core);
            framed.hang_up();
        } else if core.state.has_starved() {
            self.feed_starved(core);
        } else {
            drop(core);
        }
        if wake {
            self.wake_keeper();
        }
        if self.lacks_thread() {
            self.make_up_for_lack();
        }
    }
}

/// How large a buffer is kept for the next packet.
const SPARE: usize = 16 * 1024;
/// How often whoever waits for room looks whether the link is over.
const GLANCE: Duration = Duration::from_millis(20);
