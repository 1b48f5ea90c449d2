//! Frames in: reading a packet, and what it leads to.

use std::{time::Instant, vec::Drain};

use super::{
    Errand, Link, Lost, Slot, Wiring,
    aftermath::Aftermath,
    completing::{Completing, OffTheTable},
    follow_up::Told,
    inbox::Frame,
    role::Reader,
    slot::Outcome,
    state::{Action, State},
};
use crate::{
    error::{CallError, CloseReason, Executed, Rejection},
    logging::line,
    sync::{Arc, Ordering, fail_here, hold_nothing},
    transport::Received,
    wire::{ProtocolError, Taken, take_frame},
};

/// What is left to do after a packet, once the reader role is given up.
#[derive(Default)]
pub(super) struct Harvest {
    /// The first apart from the others, so that the usual single one needs no list.
    pub(super) first: Option<Errand>,
    pub(super) others: Vec<Errand>,
    pub(super) told: Vec<Told>,
    /// A caller that blocks got its reply from another thread's reading.
    pub(super) woke_caller: bool,
}

impl Harvest {
    pub(super) fn add(&mut self, errand: Errand) {
        match &self.first {
            None => self.first = Some(errand),
            Some(_) => self.others.push(errand),
        }
    }

    pub(super) fn take_errands(&mut self) -> impl Iterator<Item = Errand> {
        self.first.take().into_iter().chain(self.others.drain(..))
    }
}

/// What a reader should do after a look into the transport.
pub(super) enum Read {
    /// Something came.
    Packet,
    /// Nothing did, but there may be another reason to stop reading.
    Nothing,
    /// The link is over.
    Over,
}

/// Whether a packet held nothing but calls, items and answers, and the link goes on as before. Whoever ends it from now on
/// nudges whoever reads.
struct Calm(bool);

impl Link {
    /// Does what is left to do after the reader role was given up.
    pub(super) fn finish(&self, mut harvest: Harvest) {
        harvest.take_errands().for_each(|errand| self.submit_errand(errand));
        if !harvest.told.is_empty() {
            self.tell_all(harvest.told, Vec::new());
        }
    }

    /// Reads one packet and does what it says, but for what must wait until the role is given up.
    pub(super) fn read(&self, reader: &mut Reader, limit: Option<Instant>, harvest: &mut Harvest) -> Read {
        // A transport that panics, or a mistake of ours: whoever waits for this link is told.
        let read = self.guard(|| {
            fail_here("a reader that looks");
            // What this thread sent between taking the role and this look may have failed: nobody else nudges it.
            if self.has_to_look_around()
                && let Read::Over = self.after_packet(reader, harvest)
            {
                return Read::Over;
            }
            let limit = limit.into_iter().chain(reader.patience).min();
            hold_nothing();
            match reader.receiver.receive(limit) {
                Ok(Received::End) if self.keeper.has_attendant() => self.await_death(reader, limit, harvest),
                received => self.take(received, reader, harvest),
            }
        });
        read.unwrap_or(Read::Over)
    }

    /// Whether this thread, which reads, has done something over which it would have nudged itself.
    fn has_to_look_around(&self) -> bool {
        match &self.wiring {
            Wiring::Framed(framed) => framed.look_around.load(Ordering::Relaxed),
            Wiring::Direct(_) => false,
        }
    }

    fn after_packet(&self, reader: &mut Reader, harvest: &mut Harvest) -> Read {
        if let Wiring::Framed(framed) = &self.wiring {
            framed.look_around.store(false, Ordering::Relaxed);
        }
        let core = self.core.lock();
        reader.patience = reader.patience.filter(|_| core.state.awaits_greeting().is_some());
        if core.state.is_closed() {
            return Read::Over;
        }
        if core.dying.is_none() {
            return Read::Packet;
        }
        drop(core);
        self.drain(reader, harvest);
        Read::Over
    }

    /// Why somebody may have nudged whoever reads.
    fn look_up(&self, reader: &mut Reader, harvest: &mut Harvest) -> Read {
        let mut core = self.core.lock();
        if core.state.is_closed() {
            return Read::Over;
        }
        let overdue = core.state.overdue(Instant::now());
        let dying = core.dying.is_some();
        drop(core);
        if let Some(violation) = overdue {
            return self.break_off(violation);
        }
        if !dying {
            return Read::Nothing;
        }
        self.drain(reader, harvest);
        Read::Over
    }

    /// The other side has closed its end. Whoever reads waits here for what the keeper has to say of its
    /// process, because the transport has nothing to say any more.
    fn await_death(&self, reader: &mut Reader, limit: Option<Instant>, harvest: &mut Harvest) -> Read {
        self.expect_death(CloseReason::Gone);
        self.wait_for(&self.changed, limit, |core| core.dying.is_some() || core.state.is_closed());
        self.look_up(reader, harvest)
    }

    /// Reads what the other side had sent before it died, then ends the link.
    pub(super) fn drain(&self, reader: &mut Reader, harvest: &mut Harvest) {
        let mut violation = None;
        let mut left = self.core.lock().state.outbox.most_under_way();
        while violation.is_none() && left > 0 && !self.is_over() {
            match reader.receiver.try_receive() {
                Ok(Some(Received::Packet(packet))) => {
                    // What comes behind a full window is from somebody who holds its end, and may never cease.
                    left = left.saturating_sub(packet.len());
                    violation = self.take_packet(packet, &mut reader.actions, harvest).err();
                }
                Ok(Some(Received::Nudge | Received::Deadline)) => {}
                Ok(Some(Received::End) | None) | Err(_) => break,
            }
        }
        let dying = self.core.lock().dying.take().unwrap_or(CloseReason::Gone);
        match violation {
            // What is wrong with what came says more than that there is nobody any more.
            Some(violation) if matches!(dying, CloseReason::Gone) => _ = self.break_off(violation),
            _ => self.lose(dying),
        }
    }

    fn take(&self, received: std::io::Result<Received>, reader: &mut Reader, harvest: &mut Harvest) -> Read {
        let end = match received {
            Ok(Received::Packet(packet)) => match self.take_packet(packet, &mut reader.actions, harvest) {
                Ok(Calm(true)) if reader.patience.is_none() && !self.has_to_look_around() => {
                    return Read::Packet;
                }
                Ok(Calm(_)) => return self.after_packet(reader, harvest),
                Err(violation) => return self.break_off(violation),
            },
            Ok(Received::Nudge | Received::Deadline) => return self.look_up(reader, harvest),
            Ok(Received::End) => self.core.lock().why_at_the_end(),
            Err(error) => match error.get_ref().and_then(|inner| inner.downcast_ref::<ProtocolError>()) {
                Some(violation) => return self.break_off(violation.clone()),
                None => CloseReason::Io(Arc::new(error)),
            },
        };
        self.lose(end);
        Read::Over
    }

    /// Ends the link over something that the other side did, or did not do in time.
    pub(super) fn break_off(&self, violation: ProtocolError) -> Read {
        self.say_bye(violation.code());
        self.say(line!(Warn, "{} link: protocol error: {violation}", self.side));
        self.lose(CloseReason::Protocol(violation));
        Read::Over
    }

    /// Whether the link has a reason to close, and calls get no answer any more.
    pub(crate) fn is_closing(&self) -> bool {
        self.core.lock().reason.is_some()
    }

    /// Whether this side begins no new calls any more.
    pub(crate) fn is_going_away(&self) -> bool {
        self.core.lock().state.is_going_away()
    }

    pub(super) fn is_over(&self) -> bool {
        self.core.lock().state.is_closed()
    }

    fn take_packet(
        &self,
        packet: Vec<u8>,
        actions: &mut Vec<Action<Arc<Slot>>>,
        harvest: &mut Harvest,
    ) -> Result<Calm, ProtocolError> {
        let now = Instant::now();
        let mut core = self.core.lock();
        fail_here("a reader with a packet");
        core.state.hear(now);
        let result = take_frames(&mut core.state, packet, now, actions);
        let mut calm = core.dying.is_none() && !core.state.is_closed();
        let _completing = self.completing();
        let due = core.state.awaits_rest().into_iter().chain(core.state.pulse_due()).min();
        let wake = due.is_some_and(|at| self.arm(&mut core, at));
        self.flush(core);
        if wake {
            self.wake_keeper();
        }
        let mut left = Left(self, actions.drain(..));
        for action in left.1.by_ref() {
            fail_here("a reader that acts");
            calm &= matches!(
                action,
                Action::Complete(..) | Action::Dispatch(..) | Action::Items(..) | Action::Room(..)
            );
            self.act(action, now, harvest);
        }
        result.map(|()| Calm(calm))
    }

    fn act(&self, action: Action<Arc<Slot>>, now: Instant, harvest: &mut Harvest) {
        match action {
            Action::Greeted(codec, number) => {
                self.id.set(number);
                self.speak(codec);
                self.changed.notify_all();
            }
            Action::Complete(slot, outcome) => {
                let _end = OffTheTable(self, &*slot);
                fail_here("a reader with an answer");
                let aftermath = self.complete(&slot, outcome, now);
                harvest.woke_caller |= aftermath.woke_caller;
                if !aftermath.ends.is_empty() {
                    aftermath.ends.into_iter().for_each(|wakeup| self.wake_later(wakeup, harvest));
                }
                harvest.told.extend(aftermath.told);
                aftermath.stranded.into_iter().for_each(|job| self.run_on_this_thread(job));
            }
            Action::Dispatch(incoming, ancestor) => self.route(incoming, ancestor, harvest),
            Action::Cancelled(token, ends) => {
                let family = token.fire();
                self.wake_answers();
                ends.end(&Err(CallError::Cancelled), |wakeup| self.wake_later(wakeup, harvest));
                if !family.is_empty() {
                    // Not under the role: whoever waits for one of these calls may have a waker.
                    harvest.add(Errand {
                        job: Box::new(move || family.cancel()),
                        slow: false,
                        inline: false,
                    });
                }
            }
            Action::Items(intake, batch) => self.take_items(&intake, batch, harvest),
            Action::LateItems(n) => self.count_lost(n),
            Action::ItemsEnded(intake) => self.wake_later(intake.end(Ok(())), harvest),
            Action::ItemsLost(intake, why) => self.wake_later(intake.end(Err(why)), harvest),
            Action::EventLost(lost) => self.lose_event(*lost, harvest),
            Action::Room(outlet) => self.wake_later(outlet.room(), harvest),
            Action::Stopped(outlet) => self.wake_later(outlet.end(CallError::Cancelled), harvest),
            Action::LateReply => self.count_late_reply(),
            Action::PeerReady => self.note_ready(),
            Action::PeerGoingAway => drop(self.changed.notify_all()),
            Action::Close(reason) => self.lose(reason),
        }
    }

    fn lose_event(&self, lost: Lost, harvest: &mut Harvest) {
        if let Some(link) = self.strong() {
            let errand = self.dispatch.event_lost(&link, lost);
            errand.into_iter().for_each(|errand| harvest.add(errand));
        }
    }

    pub(super) fn count_late_reply(&self) {
        self.tally.late_replies.up();
        if let Some(link) = self.strong() {
            self.dispatch.late_reply(&link);
        }
    }

    /// Both sides may be ready now.
    pub(super) fn note_ready(&self) {
        let mut core = self.core.lock();
        let opens = core.state.is_open() && core.stage == super::LinkState::Starting;
        let follow_up = opens.then(|| self.enter(&mut core, super::LinkState::Open));
        self.changed.notify_all();
        drop(core);
        let left = follow_up.map_or_else(Vec::new, |follow_up| self.hand_on(follow_up));
        self.flush(self.core.lock());
        left.into_iter().for_each(|job| self.run_on_this_thread(job));
    }

    /// Hands a call or an event up.
    pub(super) fn route(
        &self,
        incoming: super::Incoming,
        ancestor: Option<Arc<Slot>>,
        harvest: &mut Harvest,
    ) {
        if let Some(link) = self.strong() {
            let errand = self.dispatch.dispatch(&link, incoming, ancestor.as_ref());
            errand.into_iter().for_each(|errand| harvest.add(errand));
        }
    }

    // The ends of calls.

    /// Fills the slot of a call, ends its streams, and has a thread run its callback, if there is one. What comes back is
    /// done without the role.
    pub(super) fn complete(&self, slot: &Slot, outcome: Outcome, now: Instant) -> Aftermath {
        let outcome = outcome.map_err(|error| in_own_words(error, slot, now));
        if !slot.close_short_way() {
            // Its value has gone that way, and is counted by the caller.
            return Aftermath::default();
        }
        self.count(&outcome);
        let how = slot.streams().map(|_| outcome.as_ref().map(|_| ()).map_err(Clone::clone));
        let mut aftermath = slot.complete(outcome, now);
        if let (Some(how), Some(streams)) = (how, slot.streams()) {
            streams.ours.end(&how, |wakeup| aftermath.ends.push(wakeup));
        }
        if let Some(callback) = aftermath.callback.take() {
            aftermath.stranded = self.line_up_callback(callback).and_then(|job| self.offer(job));
        }
        aftermath
    }

    /// The same for a thread that has no role to give up.
    pub(super) fn complete_now(&self, slot: &Slot, outcome: Outcome, now: Instant) {
        self.complete_taken(None, slot, outcome, now);
    }

    /// The same for a call that was taken off the table apart from all others.
    pub(super) fn complete_taken(
        &self,
        taken: Option<Completing<'_>>,
        slot: &Slot,
        outcome: Outcome,
        now: Instant,
    ) {
        let aftermath = self.complete(slot, outcome, now);
        // Before the wakers, which may drop the link.
        drop(taken);
        self.follow_up(aftermath);
    }

    /// Tells those whom the end of a call concerns.
    pub(super) fn follow_up(&self, aftermath: Aftermath) {
        if aftermath.nudge {
            self.nudge();
        }
        aftermath.ends.into_iter().for_each(|wakeup| self.wake_up(wakeup));
        aftermath.told.into_iter().for_each(|one| self.tell(one));
        aftermath.stranded.into_iter().for_each(|job| self.run_on_this_thread(job));
    }

    fn count(&self, outcome: &Outcome) {
        match outcome {
            Ok(_) => self.tally.values.up(),
            Err(CallError::TimedOut { .. }) => self.tally.timeouts.up(),
            Err(CallError::Cancelled) => self.tally.cancels.up(),
            Err(CallError::Closed { .. }) => self.tally.cut_off.up(),
            Err(CallError::Rejected(_)) => self.tally.rejections.up(),
            Err(_) => self.tally.faults.up(),
        }
    }
}

/// What is left to do of a packet. There may be calls among it that nobody else can end any more.
struct Left<'a>(&'a Link, Drain<'a, Action<Arc<Slot>>>);

impl Drop for Left<'_> {
    fn drop(&mut self) {
        for action in self.1.by_ref() {
            if let Action::Complete(slot, _) = action {
                drop(OffTheTable(self.0, &*slot));
            }
        }
    }
}

/// A call that is over time ends in one way, whichever side finds out first: the other side knows no deadline but
/// that of the call, and its word is taken even if our own clock is a moment behind.
fn in_own_words(error: CallError, slot: &Slot, now: Instant) -> CallError {
    match error {
        CallError::Rejected(Rejection::Expired) if slot.due().is_some() => {
            let after = now.saturating_duration_since(slot.started);
            CallError::TimedOut { path: slot.path.clone(), after, executed: Executed::No }
        }
        other => other,
    }
}

/// Takes a packet apart.
pub(super) fn take_frames<W: Clone>(
    state: &mut State<W>,
    packet: Vec<u8>,
    now: Instant,
    actions: &mut Vec<Action<W>>,
) -> Result<(), ProtocolError> {
    let mut rest = &packet[..];
    while !rest.is_empty() {
        match take_frame(rest).map_err(|violation| state.blame(violation))? {
            Taken::Frame(header, len) if len == packet.len() => {
                return state.handle_frame(&header, Frame::Whole(packet), now, actions);
            }
            Taken::Frame(header, len) => {
                let (frame, behind) = rest.split_at(len);
                rest = behind;
                state.handle_frame(&header, Frame::Part(frame), now, actions)?;
            }
            Taken::Skipped(len) => {
                rest = &rest[len..];
                state.skip_frame(now)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::wire::Path;

    /// Red when the other side's word counts only once our own clock agrees.
    #[test]
    fn p_04_a_call_that_the_other_side_finds_over_time_has_timed_out() {
        let now = Instant::now();
        let ends = |deadline| {
            let slot = Slot::new(Path::new("a.b").unwrap(), now, deadline);
            in_own_words(Rejection::Expired.into(), &slot, now)
        };
        for deadline in [now, now + Duration::from_micros(1)] {
            let end = ends(Some(deadline));
            assert!(matches!(end, CallError::TimedOut { executed: Executed::No, .. }), "{end:?}");
        }
        assert!(matches!(ends(None), CallError::Rejected(Rejection::Expired)), "nothing was over");
    }
}
