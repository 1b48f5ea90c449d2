//! Handlers with layers around them.
//!
//! They are wrapped once, when they are served: a handler without layers is called as ever.

use std::{any::Any, fmt, panic::AssertUnwindSafe, panic::catch_unwind};

use super::{
    Context, Handler,
    handler::{Serve, Served, panicked},
    layer::{Arounds, CallKind, LayerCall, Layers, Leaves},
    producer::{Produce, Produced},
};
use crate::{
    error::{CallError, Rejection},
    link::Answer,
    sync::{Arc, Mutex, hold_nothing},
    wire::{Fault, Path, Payload},
};

struct Layered {
    inner: Arc<dyn Serve>,
    layers: Layers,
}

/// A call that has passed the layers, for the context of its handler.
pub(super) struct Passed {
    pub(super) context: Context,
    leaves: Mutex<Option<Leaves>>,
}

impl fmt::Debug for Passed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Passed").field("context", &self.context).finish_non_exhaustive()
    }
}

impl Handler {
    /// The same behind layers.
    pub(crate) fn behind(self, layers: &Layers) -> Handler {
        if layers.is_empty() {
            return self;
        }
        let serve = Arc::new(Layered { inner: self.serve, layers: layers.clone() });
        Handler { serve, ..self }
    }

    /// The same without the layers that were put around it last.
    pub(super) fn bare(&self) -> Handler {
        let serve = self.serve.bare().unwrap_or(&self.serve).clone();
        Handler { serve, ..self.clone() }
    }
}

impl Passed {
    /// Shows the layers how the call ends, unless they have seen it.
    fn leave(&self, end: Result<Answer, CallError>) -> Result<Answer, CallError> {
        let Some(leaves) = self.leaves.lock().take() else { return end };
        let mut outcome = end.map(Answer::into_payload);
        leaves.run(&mut outcome);
        outcome.and_then(|payload| self.context.link().pack_answer(self.context.path(), payload))
    }

    /// The same for the layers further out, too.
    pub(super) fn leave_all(&self, end: Result<Answer, CallError>) -> Result<Answer, CallError> {
        self.context.leave(self.leave(end))
    }
}

/// What an event has for a value.
pub(super) fn nothing() -> Answer {
    Answer::Moved(Payload::from_bytes(Vec::new()))
}

impl Serve for Layered {
    fn serve(&self, context: &Context, payload: &mut Payload) -> Served {
        let path = context.path();
        if self.layers.hide(path, context.link().is_near()) {
            return Served::Failed(Rejection::NoHandler { path: path.clone() }.into());
        }
        let kind = match (context.is_event(), context.ends.is_none()) {
            (true, _) => CallKind::Event,
            (_, true) => CallKind::Call,
            _ => CallKind::Stream,
        };
        let (deadline, codec) = (context.deadline(), context.link().codec());
        let mut call = LayerCall { path, context: Some(context), deadline, kind, payload, codec };
        let mut leaves = match self.layers.enter(&mut call) {
            Ok(leaves) => leaves,
            Err(error) => return Served::Failed(error),
        };
        leaves.set_out(context.link(), context.transaction());
        let around = leaves.take_around();
        let passed = Arc::new(Passed { context: context.clone(), leaves: Mutex::new(Some(leaves)) });
        let inner = context.passed(passed.clone());
        let served = inside(&around, context, || self.inner.serve(&inner, payload));
        let end = match served {
            Ok(Served::Later) => return Served::Later,
            Ok(Served::Stream(inner)) => {
                return Served::Stream(Box::new(Producing { inner, passed, around }));
            }
            Ok(Served::Done) => {
                // The layers may make an error of it, which is reported as the handler's.
                return passed.leave(Ok(nothing())).map_or_else(Served::Failed, |_| Served::Done);
            }
            Ok(Served::Answer(answer)) => Ok(answer),
            Ok(Served::Failed(error)) => Err(error),
            Err(error) => Err(error),
        };
        passed.leave(end).map_or_else(Served::Failed, Served::Answer)
    }

    fn serve_here(&self, _: &Context, _: &mut dyn Any, _: &mut dyn Any) -> Result<(), CallError> {
        // Nobody asks: its types never fit, because the layers see what travels.
        Err(CallError::NoAnswer)
    }

    fn bare(&self) -> Option<&Arc<dyn Serve>> {
        Some(&self.inner)
    }

    fn hides(&self, path: &Path, local: bool) -> bool {
        self.layers.hide(path, local) || self.inner.hides(path, local)
    }
}

/// Runs what is the user's inside of what the layers have put around it. Whatever panics, the call ends.
fn inside<R>(around: &Arounds, context: &Context, mut run: impl FnMut() -> R) -> Result<R, CallError> {
    hold_nothing();
    let mut done = None;
    let ran = catch_unwind(AssertUnwindSafe(|| match around.is_empty() {
        true => done = Some(run()),
        false => around.run(&mut || {
            if done.is_none() {
                done = Some(run());
            }
        }),
    }));
    match (ran, done) {
        (Err(panic), _) => Err(panicked(context, panic)),
        (Ok(()), Some(done)) => Ok(done),
        (Ok(()), None) => Err(Fault::new("a layer has not run the handler").into()),
    }
}

/// A stream whose end the layers see.
struct Producing {
    inner: Box<dyn Produce>,
    passed: Arc<Passed>,
    around: Arounds,
}

impl Produce for Producing {
    fn produce(&mut self, may_go_on: &dyn Fn() -> bool) -> Produced {
        let made = inside(&self.around, &self.passed.context, || self.inner.produce(may_go_on));
        match made.unwrap_or_else(|error| Produced::Ended(Err(error))) {
            Produced::Ended(end) => Produced::Ended(self.passed.leave(end)),
            pause => pause,
        }
    }
}
