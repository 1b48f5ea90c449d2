//! Functions over typed arguments as one kind of value, and what happens when they fail.

use std::{any::type_name, fmt, marker::PhantomData, panic::AssertUnwindSafe, panic::catch_unwind};

use serde::{Serialize, de::DeserializeOwned};

use super::{Context, Responder, about::About, producer::Produce, streamed::Way};
use crate::{
    error::{CallError, Rejection},
    link::{Answer, Current, Place, within},
    sync::Arc,
    wire::{Fault, FaultKind, Payload},
    workers::{forget_panic, panic_text},
};

/// What a handler may return as its error: a [`Fault`], or any error that can be serialized, which
/// then arrives typed.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the error of a handler",
    label = "no error that can travel",
    note = "it needs `Serialize`, `DeserializeOwned`, `Display` and `Send`; or let it be a `Fault`"
)]
pub trait HandlerError: Send + 'static {
    /// The error as it travels.
    fn into_fault(self) -> Fault;
}

impl HandlerError for Fault {
    fn into_fault(self) -> Fault {
        self
    }
}

#[diagnostic::do_not_recommend]
impl<E> HandlerError for E
where
    E: Serialize + DeserializeOwned + fmt::Display + Send + 'static,
{
    fn into_fault(self) -> Fault {
        Fault::from_typed(&self)
    }
}

/// A handler, whatever its types. [`Attached::replace`](crate::Attached::replace) and
/// [`Attached::remove`](crate::Attached::remove) give the old one back as this.
#[derive(Clone)]
pub struct Handler {
    pub(crate) serve: Arc<dyn Serve>,
    /// What is known of the method of a trait.
    pub(crate) about: Option<&'static About>,
    /// Which way items go.
    pub(crate) way: Way,
}

/// Serves one call or event: decodes, runs, answers. May panic where user code does.
pub(crate) trait Serve: Send + Sync {
    fn serve(&self, context: &Context, payload: &mut Payload) -> Served;
}

/// What came of it.
pub(crate) enum Served {
    /// Somebody else is going to answer it, or it takes no answer.
    Done,
    /// It has to be answered with this.
    Answer(Answer),
    /// It has to be answered with this.
    Failed(CallError),
    /// It makes items, and is answered behind them.
    Stream(Box<dyn Produce>),
}

impl Handler {
    /// A function of one owned value; take a tuple or a struct for several.
    pub fn new<A, T, E, F>(function: F) -> Handler
    where
        A: DeserializeOwned + Send + 'static,
        T: Serialize + Send + 'static,
        E: HandlerError,
        F: Fn(&Context, A) -> Result<T, E> + Send + Sync + 'static,
    {
        Handler {
            serve: Arc::new(Function { function, types: PhantomData::<fn(A) -> (T, E)> }),
            about: None,
            way: Way::NONE,
        }
    }

    /// A function that answers later, from any thread.
    pub fn deferred<A, T, F>(function: F) -> Handler
    where
        A: DeserializeOwned + Send + 'static,
        T: Serialize + Send + 'static,
        F: Fn(Context, A, Responder<T>) + Send + Sync + 'static,
    {
        Handler {
            serve: Arc::new(Deferred { function, types: PhantomData::<fn(A) -> T> }),
            about: None,
            way: Way::NONE,
        }
    }

    /// Runs the handler for a call or event, and contains its panic.
    pub(crate) fn run(&self, context: &Context, payload: &mut Payload) -> Served {
        if let Err(error) = self.way.check(context) {
            return Served::Failed(error);
        }
        let streaming;
        let context = match self.way {
            Way::NONE => context,
            // The time of a stream is that until it has begun, for which its caller looks out.
            _ => {
                streaming = Context { deadline: None, ..context.clone() };
                &streaming
            }
        };
        let current = Current {
            link: context.link.number(),
            transaction: context.transaction,
            deadline: context.deadline,
            place: Place::Handler,
        };
        let serve = AssertUnwindSafe(|| within(current, || self.serve.serve(context, payload)));
        let watched = context.endpoint.watchdog.as_ref().map(|watchdog| watchdog.enter(context));
        context.cancel.note_running();
        let served = catch_unwind(serve);
        context.cancel.note_returned();
        drop(watched);
        served.unwrap_or_else(|panic| {
            let text = panic_text(&*panic);
            forget_panic(panic);
            context.link.tally().handler_panics.up();
            Served::Failed(Fault::of(FaultKind::Panicked, text, "").into())
        })
    }
}

impl fmt::Debug for Handler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Handler(..)")
    }
}

struct Function<F, A, T, E> {
    function: F,
    types: PhantomData<fn(A) -> (T, E)>,
}

impl<A, T, E, F> Serve for Function<F, A, T, E>
where
    A: DeserializeOwned + Send + 'static,
    T: Serialize + Send + 'static,
    E: HandlerError,
    F: Fn(&Context, A) -> Result<T, E> + Send + Sync + 'static,
{
    fn serve(&self, context: &Context, payload: &mut Payload) -> Served {
        let arguments = match arguments::<A>(context, payload) {
            Ok(arguments) => arguments,
            Err(error) => return Served::Failed(error),
        };
        match (self.function)(context, arguments) {
            Ok(_) if context.is_event() => Served::Done,
            Ok(value) => {
                context.link.pack_answer(&context.path, value).map_or_else(Served::Failed, Served::Answer)
            }
            Err(error) => Served::Failed(error.into_fault().into()),
        }
    }
}

struct Deferred<F, A, T> {
    function: F,
    types: PhantomData<fn(A) -> T>,
}

impl<A, T, F> Serve for Deferred<F, A, T>
where
    A: DeserializeOwned + Send + 'static,
    T: Serialize + Send + 'static,
    F: Fn(Context, A, Responder<T>) + Send + Sync + 'static,
{
    fn serve(&self, context: &Context, payload: &mut Payload) -> Served {
        match arguments::<A>(context, payload) {
            Ok(arguments) => {
                let responder = Responder::new(context);
                (self.function)(context.clone(), arguments, responder);
                Served::Done
            }
            Err(error) => Served::Failed(error),
        }
    }
}

pub(super) fn arguments<A: DeserializeOwned + 'static>(
    context: &Context,
    payload: &mut Payload,
) -> Result<A, CallError> {
    payload.take_value::<A>(context.link.codec()).map_err(|error| {
        Rejection::BadArguments {
            path: context.path.clone(),
            expected: type_name::<A>().into(),
            detail: error.text().into(),
        }
        .into()
    })
}
