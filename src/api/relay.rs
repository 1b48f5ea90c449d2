//! A call that may need more than one link: it waits for the next one, or runs again on it.

use std::time::Instant;

use backon::ExponentialBackoff;
use serde::Serialize;

use super::{
    Retry,
    around::Rest,
    attempts::Attempts,
    endpoint::Inner,
    layer::Leaves,
    succession::Claim,
    together::{Ending, LeftOver},
    tries::{Tries, Verdict},
};
use crate::{
    error::{CallError, CloseReason, Executed, Misuse},
    link::{
        Aftermath, CallPlan, CallSeen, CancelToken, Family, FollowUp, Link, Outcome, Relayed, Slot, Started,
        Stranded, scope,
    },
    sync::{Arc, AtomicU8, Mutex, Ordering},
    wire::{Codec, Payload, TransactionId},
    workers::{contain, discard},
};

/// The arguments of a call for the links that it may take.
pub(crate) struct Encoded {
    pub(crate) binary: Vec<u8>,
    /// `None` unless the program may ask for it.
    pub(crate) json: Option<Vec<u8>>,
}

impl Encoded {
    /// For a link that speaks this, or one of both; `None` if they were not encoded for it.
    fn speaking(&self, agreed: Option<Codec>) -> Option<Payload> {
        match (agreed, &self.json) {
            (Some(Codec::Json), json) => json.clone().map(Payload::from_bytes),
            (None, Some(json)) => Some(Payload::either(self.binary.clone(), json.clone())),
            _ => Some(Payload::from_bytes(self.binary.clone())),
        }
    }
}

/// The codec of the link that a call has taken last: its result is in that one.
#[derive(Debug, Default)]
pub(crate) struct Spoken(AtomicU8);

impl Spoken {
    pub(crate) fn codec(&self) -> Codec {
        Codec::from_number(self.0.load(Ordering::Acquire)).unwrap_or_default()
    }
}

/// One call over the links that it takes. Each attempt has a slot of its own, and `outer` is filled with the
/// end of the last.
pub(crate) struct Relay {
    endpoint: Arc<Inner>,
    pub(crate) outer: Arc<Slot>,
    arguments: Kept,
    pub(crate) spoken: Arc<Spoken>,
    /// A thread blocks for the call from the start.
    blocking: bool,
    /// The call in whose handler it is made ends its attempts, too.
    scope: Option<CancelToken>,
    /// What the layers have left, until they have seen the end.
    leaves: Mutex<Option<Leaves>>,
    is_layered: bool,
    retry: Option<Retry>,
    state: Mutex<State>,
    /// Each has a slot of its own.
    attempts: Attempts<(Started, Arc<Slot>)>,
}

/// The arguments of a call until it has left.
pub(crate) enum Kept {
    /// For as many attempts as it takes.
    Bytes(Encoded),
    /// For the one attempt that there is.
    Once(Mutex<Option<Payload>>),
}

impl Kept {
    pub(super) fn once<A: Serialize + Send + 'static>(arguments: A) -> Kept {
        Kept::Once(Mutex::new(Some(Payload::moved(arguments))))
    }
}

struct State {
    tries: Tries,
    /// The pauses before attempts that are made because the one before failed.
    pauses: Option<ExponentialBackoff>,
    last: Option<TransactionId>,
}

impl Relay {
    pub(crate) fn new(
        endpoint: &Arc<Inner>,
        outer: Arc<Slot>,
        arguments: Kept,
        spoken: Arc<Spoken>,
        blocking: bool,
        retry_safe: bool,
        rest: Rest,
    ) -> Arc<Relay> {
        let poison_after = endpoint.succession.get().map_or(u32::MAX, |succession| succession.poison_after);
        let renews = endpoint.is_supervised();
        let mut tries = Tries::new(outer.path.clone(), outer.started, retry_safe, poison_after);
        tries.renews = renews;
        let Rest { leaves, retry } = rest;
        let pauses = retry.as_ref().map(Retry::begin);
        let state = Mutex::new(State { tries, pauses, last: None });
        Arc::new(Relay {
            endpoint: endpoint.clone(),
            outer,
            arguments,
            spoken,
            blocking,
            scope: scope(),
            is_layered: leaves.is_some(),
            leaves: Mutex::new(leaves),
            retry,
            state,
            attempts: Attempts::new(),
        })
    }

    pub(super) fn endpoint(&self) -> &Arc<Inner> {
        &self.endpoint
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.outer.deadline
    }

    /// Whether its time is over.
    fn is_late(&self) -> bool {
        self.deadline().is_some_and(|at| at <= Instant::now())
    }

    /// The name of the attempt that is under way, or of the last one.
    pub(crate) fn transaction(&self) -> TransactionId {
        self.state.lock().last.unwrap_or_else(|| TransactionId::new(self.endpoint.side, 0))
    }

    /// Whether a thread blocks for it.
    pub(super) fn is_blocking(&self) -> bool {
        self.blocking
    }

    /// How many bytes of arguments it keeps.
    pub(super) fn held(&self) -> usize {
        match &self.arguments {
            Kept::Bytes(Encoded { binary, json }) => binary.len() + json.as_ref().map_or(0, Vec::len),
            Kept::Once(_) => 0,
        }
    }

    /// The call as it waits for a link.
    pub(crate) fn seen(&self) -> CallSeen {
        let Slot { path, started, deadline, .. } = &*self.outer;
        let (path, since, deadline) = (path.clone(), *started, *deadline);
        CallSeen { id: None, path, since, deadline, sent: false, thread: None, is_stream: false }
    }

    /// What the call ends in when no other link comes.
    pub(crate) fn closed(&self, reason: Arc<CloseReason>) -> CallError {
        self.state.lock().tries.closed(reason)
    }

    /// Makes an attempt. `None` if it has to be made again, on another link.
    ///
    /// # Errors
    ///
    /// What ends the call at once.
    pub(super) fn launch(self: &Arc<Relay>, link: &Arc<Link>) -> Result<Option<Ending>, CallError> {
        let mut slot = Slot::new(self.outer.path.clone(), Instant::now(), self.outer.deadline);
        slot.shape = self.outer.shape;
        // The thread that blocks for it sees its end itself, and shows it to the layers.
        if !(self.blocking && self.is_layered) {
            slot.set_relay(self.clone());
        }
        let slot = Arc::new(slot);
        let attempt = self.state.lock().tries.attempt();
        let plan =
            CallPlan { slot: slot.clone(), attempt, blocking: self.blocking, scope: self.scope.clone() };
        let codec = link.codec();
        let arguments = match &self.arguments {
            Kept::Once(payload) => payload.lock().take(),
            Kept::Bytes(bytes) => bytes.speaking(link.agreed()),
        };
        let Some(arguments) = arguments else { return Err(self.not_encoded()) };
        if !self.attempts.set_out() {
            return Ok(Some(Ending::dropping(arguments)));
        }
        // SYNC: spoken. Pairs with the load of whoever decodes the result, which comes after this.
        self.spoken.0.store(codec.number(), Ordering::Release);
        match link.start(&plan, arguments) {
            Ok(started) => Ok(Some(self.file(started, slot))),
            Err(error) => {
                let verdict = self.state.lock().tries.judge(Err(error));
                self.attempts.settle();
                match verdict {
                    Verdict::Again => Ok(None),
                    Verdict::End(end) => end.map(|_| Some(Ending::default())),
                }
            }
        }
    }

    fn not_encoded(&self) -> CallError {
        let detail = "the program asks for another codec than the one before it".into();
        Misuse::Encode { path: self.outer.path.clone(), detail }.into()
    }

    fn file(self: &Arc<Relay>, started: Started, slot: Arc<Slot>) -> Ending {
        // Nobody sees the end before it is filed.
        self.leaves.lock().iter_mut().for_each(|leaves| leaves.set_out(&started.link, Some(started.id)));
        self.state.lock().last = Some(started.id);
        match self.attempts.file((started, slot)) {
            // It may have ended before it was filed.
            Ok(()) => self.advance(),
            Err((started, slot)) => {
                started.link.cancel(started.id);
                slot.take().map_or_else(Ending::default, Ending::dropping)
            }
        }
    }

    /// Looks whether the attempt has ended, and does what follows from that.
    pub(super) fn advance(self: &Arc<Relay>) -> Ending {
        let ended = self.attempts.take_ended(|(_, slot)| slot.is_done());
        let Some((started, slot)) = ended else { return Ending::default() };
        // Before the other side had greeted it was not known.
        self.spoken.0.store(started.link.codec().number(), Ordering::Release);
        let Some(outcome) = slot.take() else { return Ending::default() };
        if self.is_over() {
            return Ending::dropping(outcome);
        }
        let verdict = self.state.lock().tries.judge(outcome);
        match verdict {
            Verdict::End(outcome) => self.finish_or_pause(outcome),
            Verdict::Again => {
                self.attempts.settle();
                self.again()
            }
        }
    }

    /// Sends the call, now or with the next link.
    pub(super) fn begin(self: &Arc<Relay>) -> Result<(), CallError> {
        // Its attempts are adopted as well, but there is none while it waits for a link or for another try.
        if !self.scope.as_ref().is_none_or(|scope| scope.adopt_relayed(self, &self.outer)) {
            self.endpoint.count_cancelled_call();
            return Err(CallError::Cancelled);
        }
        let error = match self.send(Claim::None) {
            Ok(ending) => {
                drop(ending);
                return Ok(());
            }
            Err(error) => error,
        };
        if self.pause_after(&error) {
            return Ok(());
        }
        // The token may have fired meanwhile: then the call has set out, and ends as cancelled.
        self.attempts.end().map_or(Ok(()), |_| Err(error))
    }

    fn send(self: &Arc<Relay>, claim: Claim) -> Result<Ending, CallError> {
        if self.is_forked() {
            return Err(Misuse::Forked.into());
        }
        if self.endpoint.is_supervised() {
            return self.endpoint.send_with_the_next(self, claim);
        }
        let link = self.endpoint.link()?;
        // No other link comes, so that it is never to be sent with that.
        self.launch(&link).map(Option::unwrap_or_default)
    }

    /// Makes another attempt, unless the call has ended or its time is over.
    pub(super) fn again(self: &Arc<Relay>) -> Ending {
        if self.is_over() {
            return Ending::default();
        }
        if self.is_late() {
            return self.expire();
        }
        self.send(Claim::Old).unwrap_or_else(|error| self.finish_or_pause(Err(error)))
    }

    /// The same for a thread that others wait for, too: in one process the handler of an inline API runs elsewhere.
    pub(super) fn again_aside(self: &Arc<Relay>) -> Ending {
        match self.endpoint.link() {
            Ok(link) if link.is_near() && !link.is_closing() && !self.is_over() => {
                let relay = self.clone();
                link.submit(Box::new(move || drop(relay.again())));
                Ending::default()
            }
            _ => self.again(),
        }
    }

    /// Does what may end the call; if layers are to see the end, on a thread of the link.
    ///
    /// Each such call has one for itself, and does not line up with others, nor with callbacks: should the code of a
    /// layer block, no other call waits for its end behind it. There are no more of them than calls under way.
    fn aside(self: &Arc<Relay>, step: fn(&Arc<Relay>) -> Ending) -> FollowUp {
        match self.endpoint.last_link().filter(|_| self.is_layered) {
            Some(link) => {
                let (relay, mut follow_up) = (self.clone(), FollowUp::default());
                let job = Box::new(move || drop(step(&relay)));
                let left = match link.is_closing() {
                    true => self.endpoint.leave_to_crew(job).map(Stranded::from),
                    false => link.offer(job),
                };
                left.into_iter().for_each(|job| follow_up.leave(link.clone(), job));
                follow_up
            }
            None => step(self).show(),
        }
    }

    /// Whether this is a child that was forked from the process which makes the call.
    pub(super) fn is_forked(&self) -> bool {
        self.endpoint.is_forked()
    }

    /// Whether the call has ended, or is about to.
    pub(super) fn is_over(&self) -> bool {
        self.attempts.is_over()
    }

    fn finish_or_pause(self: &Arc<Relay>, outcome: Outcome) -> Ending {
        let pauses = outcome.as_ref().is_err_and(|error| self.pause_after(error));
        if pauses { Ending::default() } else { self.finish(outcome) }
    }

    /// Has the call made again in a while, if that is worth it after this end of an attempt.
    fn pause_after(self: &Arc<Relay>, error: &CallError) -> bool {
        let Some(retry) = &self.retry else { return false };
        let mut worth = false;
        contain(|| worth = retry.is_worth(error));
        if !worth {
            return false;
        }
        let mut state = self.state.lock();
        let Some(pause) = state.pauses.as_mut().and_then(Iterator::next) else { return false };
        let Some(at) = Instant::now().checked_add(pause) else { return false };
        if self.is_over() || self.deadline().is_some_and(|deadline| deadline <= at) {
            return false;
        }
        state.tries.note_failed(error);
        drop(state);
        self.attempts.settle();
        self.endpoint.pause(at, self)
    }

    /// What the layers have left, once.
    pub(super) fn take_leaves(&self) -> Option<Leaves> {
        self.leaves.lock().take()
    }

    /// Ends the call, unless it has ended.
    pub(super) fn finish(self: &Arc<Relay>, outcome: Outcome) -> Ending {
        let Some(left) = self.attempts.end() else { return Ending::dropping(outcome) };
        let outcome = self.state.lock().tries.ended(outcome);
        self.end(left, outcome)
    }

    /// Ends it, or has it end once the layers have seen that.
    fn end(self: &Arc<Relay>, left: LeftOver, outcome: Outcome) -> Ending {
        match self.is_layered {
            true => Ending::after_layers(self.clone(), left, outcome),
            false => self.conclude(left, outcome).into(),
        }
    }

    /// The end itself. If there are layers they see it, on this thread.
    pub(super) fn conclude(&self, left: LeftOver, mut outcome: Outcome) -> FollowUp {
        self.take_leaves().into_iter().for_each(|leaves| leaves.run(&mut outcome));
        let aftermath = self.outer.complete(outcome, Instant::now());
        self.attempts.tell();
        self.scope.iter().for_each(|scope| scope.release(&self.outer));
        let mut follow_ups = Vec::new();
        let (family, value) = left.attempt.map_or_else(Default::default, |(started, slot)| {
            // It may have ended with a value at last, which goes, and is the user's.
            (started.link.cancel_alone(started.id, &mut follow_ups), slot.take())
        });
        let mut follow_up = self.follow_up_of(aftermath, family);
        follow_ups.into_iter().for_each(|of_attempt| follow_up.keep(of_attempt));
        value.into_iter().for_each(|value| follow_up.keep(value));
        follow_up
    }

    /// What follows from the end. Whose link is over has no thread of it any more that somebody waits for: the callback goes
    /// by one of the endpoint then.
    fn follow_up_of(&self, mut aftermath: Aftermath, family: Family) -> FollowUp {
        let link = self.endpoint.last_link();
        let callback = match &link {
            Some(link) if link.is_closing() => aftermath.callback.take(),
            _ => None,
        };
        let mut follow_up = FollowUp::new(aftermath, family, link.clone());
        if let (Some(link), Some(callback)) = (link, callback) {
            let job = link.line_up_callback(callback);
            let left = job.and_then(|job| self.endpoint.leave_to_crew(job));
            left.into_iter().for_each(|job| follow_up.leave(link.clone(), job.into()));
        }
        follow_up
    }

    /// Ends the call because nobody waits for it, unless it has ended.
    pub(super) fn cancel(self: &Arc<Relay>) -> Ending {
        let Some(left) = self.attempts.end() else { return Ending::default() };
        self.endpoint.stop_waiting(self);
        self.end(left, Err(CallError::Cancelled))
    }

    /// Ends the call because its time is over, unless it has ended.
    pub(super) fn expire(self: &Arc<Relay>) -> Ending {
        // What has come in time counts.
        let ending = self.advance();
        let Some(left) = self.attempts.end() else { return ending };
        // From here on none sets out, and what was counted before is seen.
        let executed = if left.may_have_run { Executed::Maybe } else { Executed::No };
        let error = self.state.lock().tries.timed_out(executed);
        // First: whoever is told finds nothing of it that waits.
        self.endpoint.stop_waiting(self);
        self.end(left, Err(error))
    }

    /// Whether the call has ended. Does not block.
    pub(crate) fn is_done(self: &Arc<Relay>) -> bool {
        if !self.outer.is_done() {
            let attempt = self.attempts.current();
            attempt.iter().for_each(|(started, _)| started.link.send_gathered());
            drop(self.advance());
        }
        if !self.outer.is_done() && self.is_late() {
            drop(self.expire());
        }
        self.outer.is_done()
    }

    /// Blocks until the call has ended or `limit` has passed, and serves what descends from it meanwhile.
    pub(crate) fn wait(self: &Arc<Relay>, limit: Option<Instant>) {
        let late = || limit.is_some_and(|at| at <= Instant::now());
        let given_up = || self.scope.as_ref().is_some_and(CancelToken::has_fired);
        let mut heeds = true;
        while !self.outer.is_done() {
            match self.attempts.current() {
                Some((started, slot)) => {
                    started.link.wait(&slot, limit);
                    drop(self.advance());
                }
                // No attempt brings it here, and this is the thread that shows the end to the layers.
                None if heeds && given_up() => {
                    heeds = false;
                    drop(self.cancel());
                }
                None => self.attempts.wait(limit, || self.outer.is_done() || heeds && given_up()),
            }
            if late() {
                break;
            }
        }
        if !self.outer.is_done() && self.is_late() {
            drop(self.expire());
            self.outer.settle();
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // The last that knows it may be a thread that serves all calls of an endpoint, and these are the user's. Each
        // goes for itself: a second panic on the way out of the first would end the process.
        discard(self.retry.take());
        discard(self.outer.take());
        if let Kept::Once(arguments) = &mut self.arguments {
            discard(arguments.get_mut().take());
        }
    }
}

impl Relayed for Relay {
    fn give_up(self: Arc<Relay>) -> FollowUp {
        if self.blocking {
            // Whoever blocks looks whether the token has fired.
            self.attempts.tell();
            return FollowUp::default();
        }
        let mut follow_up = self.aside(Relay::cancel);
        follow_up.hold(self);
        follow_up
    }

    fn attempt_has_ended(self: Arc<Relay>) -> FollowUp {
        // What layers do may not hold up whoever reads.
        let mut follow_up = self.aside(Relay::advance);
        follow_up.hold(self);
        follow_up
    }
}
