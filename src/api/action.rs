//! A call that is built but not sent, and the ways to send it.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::Instant,
};

use serde::{Serialize, de::DeserializeOwned};

use super::{
    ApiHandle, AsyncResult,
    around::{Rest, WayAround, left},
    endpoint::Inner,
    layer::{CallKind, Leaves, Name},
    relay::{Encoded, Kept, Relay, Spoken},
    shortcut::Shortcut,
};
use crate::{
    config::Timeout,
    error::{CallError, Executed, Misuse, Rejection},
    link::{CallPlan, Link, Outcome, Place, Slot, Started, Streams, ask, is_given_up, scope},
    semaphore::{Permit, Semaphore},
    shape::Shape,
    sync::Arc,
    wire::{Codec, Path, PathError, Payload},
    workers::{forget_panic, panic_text},
};

/// A call or an event that is built but not sent. What is set on it holds for it alone.
///
/// One of its verbs sends it: [`call`](Action::call) blocks, [`start`](Action::start) gives an
/// [`AsyncResult`], [`then`](Action::then) calls back, [`fire`](Action::fire) sends an event.
#[derive(Debug)]
#[must_use = "an action does nothing until one of its verbs sends it"]
pub struct Action<A> {
    pub(super) to: To,
    pub(super) arguments: A,
    pub(super) timeout: Timeout,
    pub(super) semaphore: Option<Semaphore>,
    /// What the caller takes the method for.
    pub(super) shape: Option<&'static Shape>,
    pub(super) retry_safe: bool,
}

/// Where an action goes.
#[derive(Debug)]
pub(super) enum To {
    /// Along the link that the endpoint has by then.
    Away { endpoint: Arc<Inner>, path: Result<Path, PathError> },
    /// To an inline handler in this process, if it is still there by then.
    Here(Arc<Shortcut>),
    /// Along the link, through layers.
    Around(Box<WayAround>),
}

/// An action whose failures for want of an answer are nothing: see [`Action::ignore_errors`].
#[derive(Debug)]
#[must_use = "an action does nothing until one of its verbs sends it"]
pub struct IgnoringErrors<A>(Action<A>);

impl<A> Action<A> {
    pub(super) fn new(handle: &ApiHandle, to: To, arguments: A) -> Action<A> {
        let timeout = handle.timeout;
        Action { to, arguments, timeout, semaphore: None, shape: None, retry_safe: false }
    }

    /// Has the other side compare what it serves with this, before anything is decoded.
    pub(crate) fn shaped(mut self, shape: &'static Shape) -> Action<A> {
        self.shape = Some(shape);
        self
    }

    /// How long this call may take. Zero is over at once.
    pub fn timeout(mut self, timeout: impl Into<Timeout>) -> Action<A> {
        self.timeout = timeout.into();
        self
    }

    pub(super) fn timeout_now(&self) -> Timeout {
        self.timeout
    }

    /// Releases one permit of `semaphore` when the call has ended, however it ends; at once when it cannot even
    /// set out, and for an event. Whoever gets the permit finds a result that is done; a thread that waits
    /// for that very result may have it a moment earlier. The [`AsyncResult`] of such a call may be dropped
    /// without cancelling it.
    pub fn releasing(mut self, semaphore: &Semaphore) -> Action<A> {
        self.semaphore = Some(semaphore.clone());
        self
    }

    /// Running this call twice does no harm: if the other process crashes while it is under way, it runs again
    /// on the next one, within its own timeout, and [`Context::attempt`](crate::Context::attempt) tells the
    /// handler. For a side with a [`Supervisor`](crate::Supervisor); elsewhere, and for an event, it changes
    /// nothing.
    ///
    /// Its arguments are encoded once and kept until it ends. A call that was under way in
    /// [several crashes](crate::Restarts::poisonous_after) in a row ends as
    /// [poisonous](CallError::Poisonous).
    pub fn retry_safe(mut self) -> Action<A> {
        self.retry_safe = true;
        self
    }

    /// Turns a timeout and a link that is closed into nothing. What the other side answers is told as
    /// ever. Each error that is ignored is counted.
    pub fn ignore_errors(self) -> IgnoringErrors<A> {
        IgnoringErrors(self)
    }
}

impl<A: Serialize + Send + 'static> Action<A> {
    /// Sends the call and blocks until it has ended: by the reply, by its timeout, or with the link.
    ///
    /// Meanwhile the calling thread serves the calls of the other side that descend from this one.
    ///
    /// # Errors
    ///
    /// Whatever a call can end in; [`Misuse::WouldDeadlock`] from a state listener, an error hook, or a hook of a
    /// supervisor.
    pub fn call<T: DeserializeOwned + 'static>(self) -> Result<T, CallError> {
        match self.to {
            // An action of another kind is not even moved.
            To::Away { .. } | To::Around(_) => self.call_away(),
            To::Here(shortcut) if self.semaphore.is_none() => {
                match shortcut.call(self.arguments, self.timeout) {
                    Ok(end) => end,
                    Err((shortcut, arguments)) => {
                        Action { to: To::Here(shortcut), arguments, ..self }.call_away()
                    }
                }
            }
            to => Action { to, ..self }.call_away(),
        }
    }

    #[inline]
    fn call_away<T: DeserializeOwned + 'static>(self) -> Result<T, CallError> {
        check_may_block().inspect_err(|_| self.release())?;
        let shape = self.shape;
        if self.needs_relay() {
            return self.call_over_links();
        }
        let (started, plan) = self.set_out(true, |slot, link| slot.will_block(link.is_near()))?;
        let (link, slot) = (started.link, plan.slot);
        let outcome = link.wait_at_once(&slot).or_else(|| {
            link.expire(started.id);
            slot.settle();
            slot.take()
        });
        plan.scope.inspect(|scope| scope.release(&slot));
        let outcome = outcome.unwrap_or(Err(CallError::Cancelled));
        decode(link.codec(), outcome.map_err(|error| name_ours(error, shape)))
    }

    /// Sends the call and gives a handle to its result. Does not block; but an [inline](crate::Api::inline)
    /// handler at the other end of the same process has run when this returns, unless another thread was sending.
    ///
    /// # Errors
    ///
    /// What shows at once: a closed link, a full send queue, arguments that do not encode, no time.
    pub fn start<T: DeserializeOwned + 'static>(self) -> Result<AsyncResult<T>, CallError> {
        let (cancels, shape) = (self.semaphore.is_none(), self.shape);
        if self.needs_relay() {
            return Ok(AsyncResult::relayed(self.relay(false, |_, _| ())?, cancels, shape));
        }
        let (started, plan) = self.set_out(false, |_, _| ())?;
        Ok(AsyncResult::new(started, plan.slot, cancels, shape))
    }

    /// Sends the call and has `callback` called with its end, exactly once, on a thread of the link.
    /// Does not block, but as [`Action::start`] runs an inline handler in the same process.
    ///
    /// # Errors
    ///
    /// What shows at once, as for [`Action::start`]; then `callback` is not called.
    pub fn then<T, F>(self, callback: F) -> Result<(), CallError>
    where
        T: DeserializeOwned + 'static,
        F: FnOnce(Result<T, CallError>) + Send + 'static,
    {
        self.check_callbacks()?;
        let shape = self.shape;
        let with_callback = |slot: &mut Slot, spoken: Spoke| {
            let decode = move |payload| into_value_contained(payload, spoken.codec());
            slot.set_callback(Box::new(move |outcome| {
                callback(outcome.map_err(|error| name_ours(error, shape)).and_then(decode))
            }));
        };
        if self.needs_relay() {
            let relay = self.relay(false, |slot, spoken| with_callback(slot, Spoke::Relay(spoken.clone())));
            return relay.map(|_| ());
        }
        self.set_out(false, |slot, link| with_callback(slot, Spoke::over(link))).map(|_| ())
    }

    /// Sends an event: no transaction, no answer, and at the other side the same handler as for a call.
    /// Does not block, but as [`Action::start`] runs an inline handler in the same process.
    ///
    /// # Errors
    ///
    /// What shows at once: a closed link, a full send queue, arguments that do not encode.
    pub fn fire(self) -> Result<(), CallError> {
        let _permit = Permit::of(&self.semaphore);
        self.send_event()
    }

    fn send_event(self) -> Result<(), CallError> {
        if matches!(self.to, To::Around(_)) {
            return self.send_event_around();
        }
        let path = self.checked_path()?;
        let shape = self.shape.map_or(0, |shape| shape.number);
        self.to.endpoint().link()?.fire_shaped(&path, shape, self.arguments)
    }

    #[cold]
    fn send_event_around(self) -> Result<(), CallError> {
        // The permit is the other one's to release.
        let (action, rest) = Action { semaphore: None, ..self }.pass(CallKind::Event)?;
        let link = action.to.endpoint().link();
        let sent = action.send_event();
        let mut seen = sent.clone().map(|()| Payload::from_bytes(Vec::new()));
        rest.leaves.into_iter().for_each(|mut leaves| {
            link.iter().for_each(|link| leaves.set_out(link, None));
            leaves.run(&mut seen);
        });
        sent
    }

    /// Sends the call. One that cannot set out releases its permit all the same, for whoever counts on it.
    fn set_out(
        self,
        blocking: bool,
        fit_out: impl FnOnce(&mut Slot, &Arc<Link>),
    ) -> Result<(Started, CallPlan), CallError> {
        let permit = Permit::of(&self.semaphore);
        let (mut slot, link) = self.prepare()?;
        fit_out(&mut slot, &link);
        self.semaphore.clone().into_iter().for_each(|semaphore| slot.set_semaphore(semaphore));
        let slot = Arc::new(slot);
        let scope = scope();
        let plan = CallPlan { slot: slot.clone(), attempt: 0, blocking, scope };
        let started = link.start(&plan, self.arguments)?;
        permit.leave_to_the_call();
        Ok((started, plan))
    }

    /// Refuses a callback when too many wait to be run.
    fn check_callbacks(&self) -> Result<(), CallError> {
        let link = self.to.endpoint().link();
        if !link.is_ok_and(|link| link.has_callbacks_enough()) {
            return Ok(());
        }
        self.release();
        let path = self.checked_path()?;
        let detail =
            format!("{} callbacks wait to be run", self.to.endpoint().config.limits.callbacks).into();
        Err(Rejection::Busy { path, detail }.into())
    }

    /// Opens a stream.
    pub(super) fn set_out_streaming(
        self,
        sends: bool,
        takes: bool,
    ) -> Result<(Started, Arc<Slot>), CallError> {
        if matches!(self.to, To::Around(_)) {
            let (action, rest) = self.pass(CallKind::Stream)?;
            return action.set_out_streaming_seen(sends, takes, rest.leaves);
        }
        self.set_out_streaming_seen(sends, takes, None)
    }

    #[inline]
    fn set_out_streaming_seen(
        self,
        sends: bool,
        takes: bool,
        leaves: Option<Leaves>,
    ) -> Result<(Started, Arc<Slot>), CallError> {
        let permit = Permit::of(&self.semaphore);
        let (mut slot, link) = match self.prepare() {
            Ok(prepared) => prepared,
            Err(error) => return left(leaves, error),
        };
        // Its time is that until it has begun.
        let begin_by = slot.deadline.take();
        let near = link.is_near().then(|| link.config().limits.stream_items as usize);
        slot.set_streams(Streams { begin_by, ..Streams::new(&slot.path, sends, takes, near) });
        self.semaphore.clone().into_iter().for_each(|semaphore| slot.set_semaphore(semaphore));
        let name = leaves.map(|mut leaves| {
            let name = leaves.place_for_name();
            *slot.observer() = Some(Box::new(leaves));
            name
        });
        let slot = Arc::new(slot);
        let plan = CallPlan { slot: slot.clone(), attempt: 0, blocking: false, scope: scope() };
        match link.open(&plan, self.arguments) {
            Ok(started) => {
                permit.leave_to_the_call();
                if let Some(name) = name {
                    let (link, transaction) = (started.link.id.clone(), Some(started.id));
                    let _ = name.set(Name { link, transaction });
                }
                Ok((started, slot))
            }
            Err(error) => {
                slot.take_observer().into_iter().for_each(|leaves| leaves.see(Err(error.clone())));
                Err(error)
            }
        }
    }

    #[cold]
    fn call_over_links<T: DeserializeOwned + 'static>(self) -> Result<T, CallError> {
        let shape = self.shape;
        let relay = self.relay(true, |_, _| ())?;
        relay.wait(relay.deadline());
        let outcome = relay.outer.take().unwrap_or(Err(CallError::Cancelled));
        decode(relay.spoken.codec(), outcome.map_err(|error| name_ours(error, shape)))
    }

    /// Whether the call may outlive the link that it finds, or finds none yet; or whether layers see its end.
    fn needs_relay(&self) -> bool {
        let endpoint = match &self.to {
            To::Away { endpoint, .. } => endpoint,
            To::Here(shortcut) => &shortcut.endpoint,
            To::Around(_) => return true,
        };
        endpoint.is_supervised() && (self.retry_safe || endpoint.is_between())
    }

    /// Sends the call, now or with the next link.
    #[cold]
    fn relay(
        self,
        blocking: bool,
        fit_out: impl FnOnce(&mut Slot, &Arc<Spoken>),
    ) -> Result<Arc<Relay>, CallError> {
        if matches!(self.to, To::Around(_)) {
            let (action, rest) = self.pass(CallKind::Call)?;
            return action.relay_with(blocking, rest, fit_out);
        }
        self.relay_with(blocking, Rest::default(), fit_out)
    }

    fn relay_with(
        self,
        blocking: bool,
        rest: Rest,
        fit_out: impl FnOnce(&mut Slot, &Arc<Spoken>),
    ) -> Result<Arc<Relay>, CallError> {
        let permit = Permit::of(&self.semaphore);
        let (endpoint, retry_safe) = (self.to.endpoint().clone(), self.retry_safe);
        let spoken = Arc::<Spoken>::default();
        let made = self.outer_slot(|slot| fit_out(slot, &spoken)).and_then(|slot| {
            if !(endpoint.is_supervised() || rest.retry.is_some()) {
                return Ok((slot, Kept::once(self.arguments)));
            }
            let encoded = self.encode()?;
            // Their dropping is user code: nothing has begun yet should it panic.
            drop(self.arguments);
            Ok((slot, Kept::Bytes(encoded)))
        });
        let (slot, kept) = match made {
            Ok(made) => made,
            Err(error) => return left(rest.leaves, error),
        };
        let relay = Relay::new(&endpoint, Arc::new(slot), kept, spoken, blocking, retry_safe, rest);
        relay.begin().or_else(|error| left(relay.take_leaves(), error))?;
        permit.leave_to_the_call();
        Ok(relay)
    }

    /// The place for the end of a call that is not of one link.
    fn outer_slot(&self, fit_out: impl FnOnce(&mut Slot)) -> Result<Slot, CallError> {
        let path = self.checked_path()?;
        let now = Instant::now();
        let deadline = self.deadline(&path, now)?;
        let mut slot = Slot::new(path, now, deadline);
        slot.shape = self.shape.map_or(0, |shape| shape.number);
        fit_out(&mut slot);
        self.semaphore.clone().into_iter().for_each(|semaphore| slot.set_semaphore(semaphore));
        Ok(slot)
    }

    /// When the call is over, by what it says itself.
    pub(super) fn own_deadline(&self, path: &Path) -> Result<Option<Instant>, CallError> {
        self.deadline(path, Instant::now())
    }

    fn encode(&self) -> Result<Encoded, CallError> {
        let encode = |codec| {
            let mut bytes = Vec::new();
            Payload::write(&self.arguments, codec, &mut bytes).map(|()| bytes)
        };
        let binary = encode(Codec::Binary).map_err(|error| {
            let (path, detail) = (self.checked_path().unwrap_or_else(|_| Path::root()), error.text().into());
            Misuse::Encode { path, detail }
        })?;
        // The program that is started again asks for the same as before.
        let agreed = self.to.endpoint().last_link().and_then(|link| link.agreed());
        let json = if agreed == Some(Codec::Binary) { None } else { encode(Codec::Json).ok() };
        Ok(Encoded { binary, json })
    }

    pub(super) fn release(&self) {
        release(&self.semaphore);
    }

    pub(super) fn checked_path(&self) -> Result<Path, CallError> {
        let path = self.to.path().map_err(Misuse::BadPath)?;
        if path.is_root() { Err(Misuse::BadPath(PathError::Empty).into()) } else { Ok(path) }
    }

    /// The place for the end of the call, and the link that it takes.
    fn prepare(&self) -> Result<(Slot, Arc<Link>), CallError> {
        let path = self.checked_path()?;
        let link = self.to.endpoint().link()?;
        let now = Instant::now();
        let deadline = self.deadline(&path, now)?;
        let mut slot = Slot::new(path, now, deadline);
        slot.shape = self.shape.map_or(0, |shape| shape.number);
        Ok((slot, link))
    }

    /// When the call is over at the latest. It is not to begin when nobody waits for what is done here.
    #[inline]
    fn deadline(&self, path: &Path, now: Instant) -> Result<Option<Instant>, CallError> {
        let deadline = deadline(self.timeout, now, ask(|current| current.deadline));
        if deadline.is_some_and(|at| at <= now) {
            self.to.endpoint().count_late_call();
            let after = std::time::Duration::ZERO;
            return Err(CallError::TimedOut { path: path.clone(), after, executed: Executed::No });
        }
        if is_given_up() {
            self.to.endpoint().count_cancelled_call();
            return Err(CallError::Cancelled);
        }
        Ok(deadline)
    }
}

/// What a result will be encoded with, for whoever decodes it later.
enum Spoke {
    Known(Codec),
    /// The other side has not greeted yet.
    Link(Arc<Link>),
    Relay(Arc<Spoken>),
}

impl Spoke {
    fn over(link: &Arc<Link>) -> Spoke {
        link.agreed().map_or_else(|| Spoke::Link(link.clone()), Spoke::Known)
    }

    fn codec(&self) -> Codec {
        match self {
            Spoke::Known(codec) => *codec,
            Spoke::Link(link) => link.codec(),
            Spoke::Relay(spoken) => spoken.codec(),
        }
    }
}

impl To {
    pub(super) fn endpoint(&self) -> &Arc<Inner> {
        match self {
            To::Away { endpoint, .. } => endpoint,
            To::Here(shortcut) => &shortcut.endpoint,
            To::Around(way) => &way.endpoint,
        }
    }

    fn path(&self) -> Result<Path, PathError> {
        match self {
            To::Away { path, .. } => path.clone(),
            To::Here(shortcut) => Ok(shortcut.path.clone()),
            To::Around(way) => way.path.clone(),
        }
    }
}

/// When a call that is made now is over: at its own time, or at that of the call in whose handler it is made.
pub(super) fn deadline(timeout: Timeout, now: Instant, inherited: Option<Instant>) -> Option<Instant> {
    let own = match timeout {
        // A time that cannot be counted is no limit.
        Timeout::After(after) => now.checked_add(after),
        Timeout::Never => None,
    };
    match (own, inherited) {
        (Some(own), Some(inherited)) => Some(own.min(inherited)),
        (own, inherited) => own.or(inherited),
    }
}

impl<A> IgnoringErrors<A> {
    pub(crate) fn shaped(self, shape: &'static Shape) -> IgnoringErrors<A> {
        IgnoringErrors(self.0.shaped(shape))
    }
}

impl<A: Serialize + Send + 'static> IgnoringErrors<A> {
    /// As [`Action::call`]; `None` when it timed out or the link is closed.
    ///
    /// # Errors
    ///
    /// Every other end of a call.
    pub fn call<T: DeserializeOwned + 'static>(self) -> Result<Option<T>, CallError> {
        let endpoint = self.0.to.endpoint().clone();
        ignore(&endpoint, self.0.call().map(Some))
    }

    /// As [`Action::fire`], without an error when the link is closed.
    ///
    /// # Errors
    ///
    /// What is wrong with the event itself.
    pub fn fire(self) -> Result<(), CallError> {
        let endpoint = self.0.to.endpoint().clone();
        ignore(&endpoint, self.0.fire().map(Some)).map(|_| ())
    }
}

pub(super) fn release(semaphore: &Option<Semaphore>) {
    semaphore.iter().for_each(Semaphore::release);
}

fn ignore<T>(endpoint: &Inner, result: Result<Option<T>, CallError>) -> Result<Option<T>, CallError> {
    match result {
        Err(
            CallError::TimedOut { .. }
            | CallError::Closed { .. }
            // The same as a timeout, seen by the other side first.
            | CallError::Rejected(Rejection::Expired | Rejection::ShuttingDown),
        ) => {
            endpoint.count_ignored();
            Ok(None)
        }
        other => other,
    }
}

/// Refuses to block where nothing could be served meanwhile.
pub(crate) fn check_may_block() -> Result<(), CallError> {
    check_place(ask(|current| Some(current.place)))
}

pub(super) fn check_place(place: Option<Place>) -> Result<(), CallError> {
    let refused = |place| Misuse::WouldDeadlock { place }.into();
    no_place_to_block(place).map_or(Ok(()), |place| Err(refused(place)))
}

/// What this place is called, where nothing could be served while it blocks.
pub(super) fn no_place_to_block(place: Option<Place>) -> Option<&'static str> {
    match place? {
        Place::Listener => Some("a state listener"),
        Place::ErrorHook => Some("an error hook"),
        Place::Supervision => Some("a hook of a supervisor"),
        _ => None,
    }
}

/// The other side knows its own shapes alone.
pub(super) fn name_ours(mut error: CallError, shape: Option<&Shape>) -> CallError {
    if let (CallError::Rejected(Rejection::Mismatch { ours, .. }), Some(shape)) = (&mut error, shape) {
        *ours = shape.text.as_str().into();
    }
    error
}

/// The value of a call that has ended.
pub(super) fn decode<T: DeserializeOwned + 'static>(codec: Codec, outcome: Outcome) -> Result<T, CallError> {
    into_value(outcome?, codec)
}

fn into_value<T: DeserializeOwned + 'static>(payload: Payload, codec: Codec) -> Result<T, CallError> {
    payload.into_value::<T>(codec).map_err(|error| {
        CallError::Decode(format!("expected {}: {error}", std::any::type_name::<T>()).into())
    })
}

/// The same for a callback, which is to be called even if the type panics when it is decoded.
fn into_value_contained<T: DeserializeOwned + 'static>(
    payload: Payload,
    codec: Codec,
) -> Result<T, CallError> {
    catch_unwind(AssertUnwindSafe(|| into_value(payload, codec))).unwrap_or_else(|panic| {
        let text = format!("{} panicked: {}", std::any::type_name::<T>(), panic_text(&*panic));
        forget_panic(panic);
        Err(CallError::Decode(text.into()))
    })
}
