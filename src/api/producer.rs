//! Handlers whose items go out one after the other, and how they pause.
//!
//! Who makes items has a place of its API only while it makes some. When the other side has not taken what
//! was sent before, the place is given back, and it lines up again when there is room: a stream that stands
//! still holds no thread and no place. One that goes on for long lines up behind those that wait.

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
    /// Makes items and sends them: as long as there is room, and as long as `may_go_on`, which is asked now
    /// and then.
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
        for n in 1u32.. {
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
            if n.is_multiple_of(ASK) && !may_go_on() {
                break;
            }
        }
        Produced::TurnOver
    }
}

/// An item could not be sent: to the caller that is a failure of the handler.
fn failed(error: CallError) -> Produced {
    Produced::Ended(Err(CallError::Fault(error.into())))
}

impl Body {
    /// Makes items until there is no room for more.
    pub(super) fn produce(mut self: Box<Body>, shift: &Shift<'_>, in_lane: bool) -> Ran {
        while let Some(mut producer) = self.producer.take() {
            let made = self.make(&mut *producer, shift, in_lane);
            let pool = self.target.pool.clone();
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
                    let link = self.context.link().clone();
                    link.send_gathered();
                    self.line_up().into_iter().for_each(|errand| link.submit(errand.job));
                    return Ran::Paused(pool);
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

    /// Makes some items, and contains the panic of the user's iterator.
    fn make(&self, producer: &mut dyn Produce, shift: &Shift<'_>, in_lane: bool) -> Produced {
        let context = &self.context;
        let started = Instant::now();
        let lane = &self.target.pool.lane;
        let may_go_on = || !in_lane || !lane.is_waited_for() || started.elapsed() < TURN;
        let watched = context.home().watchdog.as_ref().map(|watchdog| watchdog.enter(context));
        context.cancel_token().note_running();
        let made = contained(&context.unlimited(), false, depth(), || producer.produce(&may_go_on));
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
        let task = match self.ancestor.clone() {
            None => Task::Plain(self),
            // Whoever blocks for it may have the one place that there is.
            Some(ancestor) => Task::offer_to(&ancestor, self)?,
        };
        match pool.lane.admit(task, usize::MAX) {
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

/// After so many items it is asked whether there may be more,
const ASK: u32 = 32;
/// which there may for so long, while others wait for the place.
const TURN: Duration = Duration::from_millis(1);
