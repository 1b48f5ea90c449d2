//! Handlers whose items go out one after the other, and how they pause.
//!
//! Who makes items has a place of its API only while it makes some. When the other side has not taken what
//! was sent before, the place is given back, and it lines up again when there is room: a stream that stands
//! still holds no thread and no place. One that goes on for long lines up behind those that wait.
//!
//! The thread that blocks for the call from which a stream descends makes items only where no place is free, a turn
//! at a time: it has something else to wait for, and items may have no end.

use std::{
    fmt,
    time::{Duration, Instant},
};

use serde::Serialize;

use super::{
    Context, HandlerError,
    handler::contained,
    task::{Body, Ran, Task},
};
use crate::{
    error::CallError,
    link::{Answer, Errand, Resume, Tap, depth},
    workers::{Admission, Job, Shift, Work, discard},
};

/// What makes the items of one stream.
pub(crate) trait Produce: Send {
    /// Makes items and sends them: as long as there is room, and as long as `may_go_on`, which is asked after each.
    fn produce(&mut self, may_go_on: &dyn Fn() -> bool) -> Produced;
}

impl fmt::Debug for dyn Produce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Produce(..)")
    }
}

/// How far it has got.
pub(crate) enum Produced {
    /// There is no room for more.
    Full,
    /// It had its turn.
    TurnOver,
    /// Nothing follows.
    Ended(Result<Answer, CallError>),
}

/// An iterator, and where its items go.
pub(crate) struct Production<I> {
    pub(crate) items: I,
    pub(crate) tap: Tap,
}

impl<I, T, E> Produce for Production<I>
where
    I: Iterator<Item = Result<T, E>> + Send,
    T: Serialize + Send + 'static,
    E: HandlerError,
{
    fn produce(&mut self, may_go_on: &dyn Fn() -> bool) -> Produced {
        loop {
            match self.tap.has_room() {
                Ok(true) => {}
                Ok(false) => return Produced::Full,
                Err(error) => return failed(error),
            }
            let sent = match self.items.next() {
                Some(Ok(item)) => self.tap.put_in_room(item),
                Some(Err(error)) => {
                    return Produced::Ended(Err(error.into_fault_in(self.tap.link.codec()).into()));
                }
                None => return Produced::Ended(self.tap.link.pack_answer(self.tap.path(), ())),
            };
            if let Err(error) = sent {
                return failed(error);
            }
            if !may_go_on() {
                return Produced::TurnOver;
            }
        }
    }
}

/// An item could not be sent: to the caller that is a failure of the handler.
fn failed(error: CallError) -> Produced {
    Produced::Ended(Err(CallError::Fault(error.into())))
}

impl Body {
    /// Makes items until there is no room for more, or the turn is over. `in_lane`: the body holds a place in the lane
    /// of its pool.
    pub(super) fn produce(mut self: Box<Body>, shift: &Shift<'_>, in_lane: bool) -> Ran {
        let pool = self.target.pool.clone();
        let began = Instant::now();
        // Whoever has no place has something else to do.
        let may_go_on = || in_lane && !pool.lane.is_waited_for() || began.elapsed() < TURN;
        while let Some(mut producer) = self.producer.take() {
            let made = self.make(&mut *producer, shift, &may_go_on);
            match made {
                Produced::Full => {
                    let outlet = self.context.ends.outlet.clone();
                    self.producer = Some(producer);
                    let Some(outlet) = outlet else { return Ran::Over(self) };
                    match outlet.park(self) {
                        Ok(()) => return Ran::Paused(pool),
                        // There is room again.
                        Err(body) => self = body,
                    }
                }
                Produced::TurnOver => {
                    self.producer = Some(producer);
                    self.context.link().send_gathered();
                    return self.give_way();
                }
                Produced::Ended(answer) => {
                    // What it holds is gone before the caller sees the end.
                    discard(producer);
                    if let Some(id) = self.context.transaction {
                        let (link, cancel) = (self.context.link(), self.context.cancel_token());
                        match answer {
                            Ok(answer) => link.reply(id, cancel, answer),
                            Err(error) => link.fail(id, cancel, error),
                        }
                    }
                }
            }
        }
        Ran::Over(self)
    }

    /// Leaves the items to whoever has a place, or a turn, next.
    pub(super) fn give_way(self: Box<Body>) -> Ran {
        let (pool, link) = (self.target.pool.clone(), self.context.link().clone());
        self.line_up().into_iter().for_each(|errand| link.submit(errand.job));
        Ran::Paused(pool)
    }

    /// Makes some items, and contains the panic of the user's iterator.
    fn make(&self, producer: &mut dyn Produce, shift: &Shift<'_>, may_go_on: &dyn Fn() -> bool) -> Produced {
        let context = &self.context;
        let started = Instant::now();
        let watched = context.home().watchdog.as_ref().map(|watchdog| watchdog.enter(context));
        context.cancel_token().note_running();
        let made = contained(&context.unlimited(), false, depth(), || producer.produce(may_go_on));
        context.cancel_token().note_returned();
        drop(watched);
        let made = made.unwrap_or_else(|error| Produced::Ended(Err(error)));
        if shift.is_sample() {
            self.target.note(started.elapsed());
        }
        made
    }

    /// Lines up for another turn. What comes back is to be run.
    fn line_up(self: Box<Body>) -> Option<Errand> {
        let (pool, slow) = (self.target.pool.clone(), self.target.is_slow());
        let ancestor = self.ancestor.clone();
        let bound = if ancestor.is_some() { 0 } else { usize::MAX };
        let admission = match (pool.lane.admit(Task::Plain(self), bound), ancestor) {
            // Whoever blocks for it may have the one place that there is.
            (Admission::Full(task), Some(ancestor)) => {
                pool.lane.admit(Task::offer_to(&ancestor, task.into_body()?)?, usize::MAX)
            }
            (admission, _) => admission,
        };
        match admission {
            Admission::Run(task) => Some(Errand { job: task.into_job(), slow, inline: false }),
            Admission::Queued => None,
            // What runs goes on when its API is detached.
            Admission::Full(task) | Admission::Closed(task) => {
                Some(Errand { job: Box::new(Outside(task)), slow: true, inline: false })
            }
        }
    }
}

impl Resume for Body {
    fn resume(self: Box<Body>) -> Option<Errand> {
        self.line_up()
    }
}

/// A task that has no place in a lane.
pub(super) struct Outside(pub(super) Task);

impl Work for Outside {
    fn run(self: Box<Outside>, shift: &Shift<'_>) {
        self.0.into_body().into_iter().for_each(|body| discard(body.run(shift, false)));
    }

    fn take_place(self: Box<Outside>) -> Option<Job> {
        Some(self)
    }
}

impl Context {
    /// Where the items of this stream go.
    pub(super) fn tap(&self) -> Option<Tap> {
        let (id, outlet) = (self.transaction?, self.ends.outlet.clone()?);
        Some(Tap::new(self.link().clone(), id, outlet, self.path().clone()))
    }
}

/// For so long items are made while others wait for the place, or without one.
const TURN: Duration = Duration::from_millis(1);
