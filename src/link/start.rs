//! How calls and events set out, how they end before a reply, and how calls of the other side are
//! answered.

use std::time::{Duration, Instant};

use serde::Serialize;

use super::{
    FollowUp, Link, Slot, Wiring,
    aftermath::Later,
    current::ask,
    direct::Inline,
    inbox::fault_limit,
    load::{Load, Packet},
    message::{Cargo, Either, Incoming, Refusal},
    room::refusal_of_answer,
    state::{Ended, Finish},
    stream::Ends,
    token::{CancelToken, Family},
};
use crate::{
    error::{CallError, Executed, Misuse, Rejection},
    os::let_others_run,
    sync::Arc,
    wire::{
        CallHead, Codec, CodecError, EventHead, FRAME_LIMIT, Fault, HEADER_LEN, Kind, MAX_ENVELOPE, OpenHead,
        Path, Payload, TransactionId,
    },
    workers::{discard, panics},
};

/// What is known of a call before it sets out, besides its arguments.
pub(crate) struct CallPlan {
    pub(crate) slot: Arc<Slot>,
    pub(crate) attempt: u32,
    /// The calling thread is going to block for it.
    pub(crate) blocking: bool,
    /// Whose end is the end of this call, too: the call in whose handler it is made.
    pub(crate) scope: Option<CancelToken>,
}

/// The result of a handler on its way to the caller.
#[derive(Debug)]
pub(crate) enum Answer {
    /// To the other end in this process, as it is.
    Moved(Payload),
    /// For the wire.
    Bytes(Load),
}

impl Answer {
    /// What the caller would get.
    pub(crate) fn into_payload(self) -> Payload {
        match self {
            Answer::Moved(payload) => payload,
            Answer::Bytes(load) => load.into_payload(),
        }
    }
}

/// A call that has set out.
#[derive(Clone, Debug)]
pub(crate) struct Started {
    pub(crate) link: Arc<Link>,
    pub(crate) id: TransactionId,
}

impl Link {
    /// Sends a call, or queues it. Does not block.
    pub(crate) fn start<A>(self: &Arc<Link>, plan: &CallPlan, arguments: A) -> Result<Started, CallError>
    where
        A: Serialize + Send + 'static,
    {
        if self.is_forked() {
            return Err(Misuse::Forked.into());
        }
        let slot = &plan.slot;
        let cargo = match &self.wiring {
            Wiring::Direct(_) => {
                let incoming = self.call_to_hand_over(plan, arguments);
                if let Some(id) = self.begin_at_once(plan) {
                    if self.is_adopted(plan, id) {
                        self.hand_over(id, incoming);
                    } else {
                        self.cancel(id);
                        discard(incoming);
                    }
                    return Ok(Started { link: self.clone(), id });
                }
                Cargo::moved(incoming)
            }
            Wiring::Framed(_) => self.pack_call(slot, slot.deadline, plan.attempt, None, arguments)?,
        };
        let watched = !plan.blocking || !self.wakes_at_deadlines();
        let timer = slot.deadline.filter(|_| watched);
        let mut core = match self.lock_to_file(&slot.path, timer) {
            Ok(core) => core,
            Err(error) => {
                discard(cargo);
                return Err(error);
            }
        };
        let gathers = !plan.blocking && self.gathers(&mut core, slot.started);
        let mut packet = if gathers { None } else { core.idle_packet() };
        let began = core.state.begin_call(slot.clone(), timer, cargo, plan.blocking, packet.as_mut());
        let id = match began {
            Ok(id) => id,
            Err((refusal, cargo)) => {
                let error = core.refused(&slot.path, refusal);
                // What waited for this one to go with it waits no longer.
                self.flush_with(core, packet).into_iter().for_each(Inline::run_here);
                discard(cargo);
                return Err(error);
            }
        };
        let wake = timer.is_some_and(|at| self.arm(&mut core, at));
        // Before it leaves, so that no cancel is missed.
        let adopted = self.is_adopted(plan, id);
        self.tally.calls.up();
        let mut inline = None;
        if gathers {
            drop(core);
        } else {
            inline = self.flush_with(core, packet);
        }
        if wake {
            self.wake_keeper();
        }
        if !adopted {
            self.cancel(id);
        }
        inline.into_iter().for_each(Inline::run_here);
        Ok(Started { link: self.clone(), id })
    }

    /// Hangs a call on the one in whose handler it is made. `false` if that one has been given up.
    pub(super) fn is_adopted(&self, plan: &CallPlan, id: TransactionId) -> bool {
        plan.scope.as_ref().is_none_or(|scope| scope.adopt_call(self, id, &plan.slot))
    }

    /// Sends an event, or queues it. Does not block.
    pub(crate) fn fire<A>(&self, path: &Path, arguments: A) -> Result<(), CallError>
    where
        A: Serialize + Send + 'static,
    {
        self.fire_shaped(path, 0, arguments)
    }

    /// The same to a method that is known with certain shapes.
    pub(crate) fn fire_shaped<A>(&self, path: &Path, shape: u64, arguments: A) -> Result<(), CallError>
    where
        A: Serialize + Send + 'static,
    {
        self.fire_bounded(path, shape, arguments, true)
    }

    /// The same. If it is not `bounded` it heeds not how much waits already, and takes the
    /// [turn](super::Core::take_turn).
    pub(super) fn fire_bounded<A>(
        &self,
        path: &Path,
        shape: u64,
        arguments: A,
        bounded: bool,
    ) -> Result<(), CallError>
    where
        A: Serialize + Send + 'static,
    {
        if self.is_forked() {
            return Err(Misuse::Forked.into());
        }
        let cargo = match &self.wiring {
            Wiring::Direct(_) => {
                Cargo::moved(Incoming::event(path.clone(), shape, Payload::moved(arguments)))
            }
            Wiring::Framed(_) => {
                self.pack(path, arguments, |out| EventHead { shape, path: path.as_bytes() }.write(out))?
            }
        };
        let mut core = self.core.lock();
        let mut packet = core.idle_packet();
        if let Err((refusal, cargo)) = core.state.begin_event(cargo, !bounded, packet.as_mut()) {
            self.tally.events_unsent.up();
            core.keep(packet);
            let refused = core.refused(path, refusal);
            drop(core);
            discard(cargo);
            // Many try again at once, for as long as it takes.
            let_others_run();
            return Err(refused);
        }
        if !bounded {
            core.take_turn();
        }
        self.tally.events_sent.up();
        self.flush_with(core, packet).into_iter().for_each(Inline::run_here);
        Ok(())
    }

    /// A call as the other end in this process takes it.
    pub(super) fn call_to_hand_over<A>(&self, plan: &CallPlan, arguments: A) -> Incoming
    where
        A: Serialize + Send + 'static,
    {
        let slot = &plan.slot;
        Incoming {
            id: None,
            path: slot.path.clone(),
            parent: self.parent(),
            deadline: slot.deadline,
            attempt: plan.attempt,
            shape: slot.shape,
            payload: Payload::moved(arguments),
            cancel: CancelToken::of(slot),
            caller: Some(slot.clone()),
            ends: Ends::default(),
            here: ask(|current| Some(current.here && current.link == self.number())).unwrap_or_default(),
        }
    }

    /// Takes the arguments, since their dropping is user code: nothing has begun yet should it panic.
    pub(super) fn pack_call<A>(
        &self,
        slot: &Slot,
        deadline: Option<Instant>,
        attempt: u32,
        opening: Option<OpenHead>,
        arguments: A,
    ) -> Result<Cargo, CallError>
    where
        A: Serialize + 'static,
    {
        let left = |at: Instant| at.saturating_duration_since(slot.started);
        let remaining = deadline.map(|at| micros_up(left(at)));
        let (parent, shape, path) = (self.parent(), slot.shape, slot.path.as_bytes());
        let head = CallHead { parent, remaining, attempt, shape, path };
        self.pack(&slot.path, arguments, |out| {
            opening.into_iter().for_each(|opening| opening.write(out));
            head.write(out);
        })
    }

    /// The call of the other side that this thread serves.
    fn parent(&self) -> Option<TransactionId> {
        ask(|current| current.transaction.filter(|_| current.link == self.number()))
    }

    fn pack<A: Serialize + 'static>(
        &self,
        path: &Path,
        arguments: A,
        head: impl FnOnce(&mut Vec<u8>),
    ) -> Result<Cargo, CallError> {
        let mut buffer = Vec::with_capacity(HEADER_LEN + MAX_ENVELOPE);
        buffer.resize(HEADER_LEN, 0);
        head(&mut buffer);
        if self.agreed().is_none() {
            return self.pack_either(path, buffer, arguments);
        }
        let load = self
            .load(buffer, arguments, drop)
            .map_err(|error| Misuse::Encode { path: path.clone(), detail: error.text().into() })?;
        let (size, limit) = (load.len() - HEADER_LEN, self.config.limits.message_bytes);
        if size > limit {
            return Err(Rejection::TooLarge { size: size as u64, limit: limit as u64 }.into());
        }
        Ok(Cargo::Bytes(load))
    }

    /// The same before it is known which codec the other side wants.
    #[cold]
    fn pack_either<A: Serialize + 'static>(
        &self,
        path: &Path,
        head: Vec<u8>,
        arguments: A,
    ) -> Result<Cargo, CallError> {
        let limit = self.config.limits.message_bytes;
        let mut json = head.clone();
        let written = Payload::write(&arguments, Codec::Json, &mut json);
        if written.is_err() || json.len() - HEADER_LEN > limit {
            // What JSON cannot say, or not within the limit, is refused by the other side, should it want JSON:
            // this is none.
            json.truncate(head.len());
            json.push(0);
        }
        let binary = self
            .load(head, arguments, drop)
            .map_err(|error| Misuse::Encode { path: path.clone(), detail: error.text().into() })?;
        let size = binary.len() - HEADER_LEN;
        if size > limit {
            return Err(Rejection::TooLarge { size: size as u64, limit: limit as u64 }.into());
        }
        Ok(Cargo::Either(Box::new(Either { binary, json: json.into() })))
    }

    /// `head` and a value behind it. Large raw bytes stay where they are; of every other value the bytes are
    /// written, and then it is dropped.
    pub(super) fn load<T>(
        &self,
        mut head: Vec<u8>,
        value: T,
        drop: impl FnOnce(T),
    ) -> Result<Load, CodecError>
    where
        T: Serialize + 'static,
    {
        match Payload::into_tail(value, FRAME_LIMIT - head.len()) {
            Ok((tail, at)) => Ok(Load::new(head, tail, at)),
            Err(value) => {
                let written = Payload::write(&value, self.codec(), &mut head);
                drop(value);
                let mut load = Load::from(head);
                load.trim();
                written.map(|()| load)
            }
        }
    }

    fn wakes_at_deadlines(&self) -> bool {
        match &self.wiring {
            Wiring::Framed(framed) => framed.wakes_at_deadlines,
            Wiring::Direct(_) => true,
        }
    }

    // Ends of our own making.

    /// Ends a call whose deadline has passed, unless it has ended.
    pub(crate) fn expire(&self, id: TransactionId) {
        self.abandon_all(id, timed_out);
    }

    /// Ends a call for which nobody waits any more, unless it has ended.
    pub(crate) fn cancel(&self, id: TransactionId) {
        self.abandon_all(id, cancelled);
    }

    /// The same but for the calls of its handler in this process, which come back, and for what follows, which is added.
    #[must_use = "the calls of the handler end with it"]
    pub(crate) fn cancel_alone(&self, id: TransactionId, follow_ups: &mut Vec<FollowUp>) -> Family {
        self.abandon(id, cancelled, follow_ups)
    }

    fn abandon_all(&self, id: TransactionId, why: fn(&Ended<Arc<Slot>>, Instant) -> CallError) {
        let mut follow_ups = Vec::new();
        self.abandon(id, why, &mut follow_ups).end(&mut follow_ups);
        FollowUp::do_all(follow_ups);
    }

    fn abandon(
        &self,
        id: TransactionId,
        why: fn(&Ended<Arc<Slot>>, Instant) -> CallError,
        follow_ups: &mut Vec<FollowUp>,
    ) -> Family {
        if self.is_forked() {
            return Family::default();
        }
        let mut core = self.core.lock();
        let Some(ended) = core.state.cancel_call(id) else {
            self.flush(core);
            return Family::default();
        };
        let family = self.give_up(&ended.waiter);
        let taken = self.completing();
        drop(core);
        let (mut later, now) = (Later::new(self), Instant::now());
        later.cancel(family);
        let error = why(&ended, now);
        later.end(ended, error, &CallError::Cancelled, now);
        // Before what is the user's, which may drop the link.
        drop(taken);
        self.flush(self.core.lock());
        later.hand_on(follow_ups)
    }

    // Answers.

    /// Turns the result of a handler into an answer. Runs user code.
    pub(crate) fn pack_answer<T>(&self, path: &Path, value: T) -> Result<Answer, CallError>
    where
        T: Serialize + Send + 'static,
    {
        if matches!(self.wiring, Wiring::Direct(_)) {
            return Ok(Answer::Moved(Payload::moved(value)));
        }
        let mut buffer = Vec::with_capacity(HEADER_LEN + REPLY_ROOM);
        buffer.resize(HEADER_LEN, 0);
        // Its bytes go, whatever becomes of the value itself.
        let count_panic = |value: T| {
            if panics(|| drop(value)) {
                self.tally.handler_panics.up();
            }
        };
        let load = self
            .load(buffer, value, count_panic)
            .map_err(|error| Fault::new(format!("the result of {path} does not encode: {error}")))?;
        let (size, limit) = (load.len() - HEADER_LEN, self.config.limits.message_bytes);
        if size > limit {
            let text = format!("the result of {path} has {size} bytes, over the limit of {limit}");
            return Err(Fault::new(text).into());
        }
        Ok(Answer::Bytes(load))
    }

    /// Answers a call of the other side. Nobody may wait for it any more.
    pub(crate) fn reply(&self, id: TransactionId, caller: &CancelToken, answer: Answer) {
        if self.is_forked() {
            return;
        }
        match answer {
            Answer::Moved(payload) => {
                if let Some(slot) = caller.call() {
                    self.reply_near(id, slot, Ok(payload));
                }
            }
            Answer::Bytes(load) => self.answer(id, Kind::Reply, load),
        }
    }

    /// Answers a call of the other side with a failure.
    pub(crate) fn fail(&self, id: TransactionId, caller: &CancelToken, error: CallError) {
        if self.is_forked() {
            return;
        }
        if let Some(slot) = caller.call() {
            return self.reply_near(id, slot, Err(error));
        }
        let mut buffer = vec![0; HEADER_LEN];
        let codec = self.codec();
        error.to_record(codec).write(&mut buffer);
        let (size, limit) = (buffer.len() - HEADER_LEN, fault_limit(self.config.limits.message_bytes));
        if size > limit {
            let text = format!("the error has {size} bytes, over the limit of {limit}");
            buffer.truncate(HEADER_LEN);
            CallError::Fault(Fault::new(text)).to_record(codec).write(&mut buffer);
        }
        self.answer(id, Kind::Fault, buffer.into());
    }

    fn answer(&self, id: TransactionId, kind: Kind, load: Load) {
        let mut core = self.core.lock();
        let (kind, load) = match self.await_room(&mut core, id, &load) {
            true => (kind, load),
            false => refusal_of_answer(),
        };
        let ends = core.state.last_of_stream(id);
        // More answers follow at once, and go with this one.
        let gathers = core.batching && core.state.n_answers() + 1 < BATCH;
        let mut packet = if gathers { None } else { core.idle_packet() };
        match core.state.finish_served(id) {
            Finish::Awaited => core.state.answer(id, kind, load, packet.as_mut()),
            Finish::GivenUp => self.tally.answers_unsent.up(),
            Finish::Over => {}
        }
        if !ends.is_none() {
            self.flush_with(core, packet);
            // Whoever has kept one of them learns that it is over.
            ends.end(&Err(CallError::Cancelled), |wakeup| self.wake_up(wakeup));
            self.settled.notify_all();
            return;
        }
        if !gathers {
            self.flush_with(core, packet);
        } else {
            drop(core);
        }
        self.settled.notify_all();
    }
}

impl super::Core {
    /// An empty packet, unless a thread is sending. It goes to [`Link::flush_with`] before the lock is free.
    fn idle_packet(&mut self) -> Option<Packet> {
        (!self.sending).then(|| std::mem::take(&mut self.spare))
    }

    /// Nothing was put into the packet.
    pub(super) fn keep(&mut self, packet: Option<Packet>) {
        if let Some(packet) = packet {
            self.spare = packet;
        }
    }

    /// What a caller is told about a refusal.
    pub(super) fn refused(&self, path: &Path, refusal: Refusal) -> CallError {
        match refusal {
            Refusal::Closed => self.closed(Executed::No),
            Refusal::ShuttingDown if self.reason.is_some() => self.closed(Executed::No),
            Refusal::ShuttingDown => Rejection::ShuttingDown.into(),
            Refusal::Full(messages) => {
                let detail = format!("{messages} messages wait to be sent").into();
                Rejection::Busy { path: path.clone(), detail }.into()
            }
        }
    }
}

/// The end of a call whose deadline has passed.
pub(super) fn timed_out(ended: &Ended<Arc<Slot>>, now: Instant) -> CallError {
    let slot = &ended.waiter;
    let after = now.saturating_duration_since(slot.started);
    CallError::TimedOut { path: slot.path.clone(), after, executed: ended.executed }
}

/// The end of a call that nobody wants any more.
fn cancelled(_: &Ended<Arc<Slot>>, _: Instant) -> CallError {
    CallError::Cancelled
}

/// Microseconds, rounded up, so that a little time is never none.
fn micros_up(duration: Duration) -> u64 {
    let nanos = duration.as_nanos();
    u64::try_from(nanos.div_ceil(1000)).unwrap_or(u64::MAX).min(u64::MAX - 1)
}

/// So many answers go without waiting for more.
const BATCH: usize = 16;
/// Room for the usual reply without a second allocation.
const REPLY_ROOM: usize = 64;
