//! Functions over typed arguments as one kind of value, and what happens when they fail.

use std::{
    any::{Any, TypeId, type_name},
    fmt,
    marker::PhantomData,
    panic::AssertUnwindSafe,
    panic::catch_unwind,
};

use serde::{Serialize, de::DeserializeOwned};

use super::{Context, Responder, about::About, producer::Produce, streamed::Way};
use crate::{
    error::{CallError, Rejection},
    link::{Answer, Current, Place, depth, within},
    shape::Shape,
    sync::Arc,
    wire::{Codec, Fault, FaultKind, Path, Payload},
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

    /// The same over a link with this codec.
    #[doc(hidden)]
    fn into_fault_in(self, _codec: Codec) -> Fault
    where
        Self: Sized,
    {
        self.into_fault()
    }
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

    fn into_fault_in(self, codec: Codec) -> Fault {
        Fault::typed_in(&self, codec)
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
    /// What the method of a trait takes and gives.
    pub(crate) shape: Option<Arc<Shape>>,
}

/// Serves one call or event: decodes, runs, answers. May panic where user code does.
pub(crate) trait Serve: Send + Sync {
    fn serve(&self, context: &Context, payload: &mut Payload) -> Served;

    /// Whether it takes and gives these types as they are, and answers before it returns.
    fn fits(&self, _arguments: TypeId, _result: TypeId) -> bool {
        false
    }

    /// What it is behind its layers; `None` without any.
    fn bare(&self) -> Option<&Arc<dyn Serve>> {
        None
    }

    /// Whether it is to look as if it was not there.
    fn hides(&self, _path: &Path, _local: bool) -> bool {
        false
    }

    /// What it stands for, if it only counts.
    fn inner(&self) -> Option<Arc<dyn Serve>> {
        None
    }

    /// Serves a call whose types fit: takes the arguments out of an `Option`, and puts the result into one.
    fn serve_here(
        &self,
        context: &Context,
        arguments: &mut dyn Any,
        result: &mut dyn Any,
    ) -> Result<(), CallError>;
}

/// What came of it.
pub(crate) enum Served {
    /// It takes no answer.
    Done,
    /// Somebody else is going to answer it.
    Later,
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
            shape: None,
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
            shape: None,
        }
    }

    /// Whether what comes was sent to another method: one whose shapes have another number.
    pub(crate) fn disagrees(&self, shape: u64) -> Option<&Shape> {
        // Who calls by name, and who serves by name, is not checked.
        self.shape.as_deref().filter(|ours| shape != 0 && ours.number != shape)
    }

    /// Runs the handler for a call or event, and contains its panic.
    /// `here`: on the thread that waits for the call.
    pub(crate) fn run(&self, context: &Context, payload: &mut Payload, here: bool) -> Served {
        if let Err(error) = self.way.check(context) {
            return Served::Failed(self.or_unknown(context, error));
        }
        let streaming;
        let context = match self.way {
            Way::NONE => context,
            _ => {
                streaming = context.unlimited();
                &streaming
            }
        };
        let watched = context.home().watchdog.as_ref().map(|watchdog| watchdog.enter(context));
        if let (Codec::Json, Some(about)) = (context.link().codec(), self.about)
            && let Err(error) = by_name(context, payload, about)
        {
            return Served::Failed(error);
        }
        context.cancel_token().note_running();
        let served = contained(context, here, depth(), || self.serve.serve(context, payload));
        context.cancel_token().note_returned();
        drop(watched);
        served.unwrap_or_else(Served::Failed)
    }

    /// Whether layers stand around it, which are the user's.
    pub(super) fn is_layered(&self) -> bool {
        self.serve.bare().is_some()
    }

    /// What a caller is told who is refused before the layers have seen the call.
    #[cold]
    pub(super) fn or_unknown(&self, context: &Context, error: CallError) -> CallError {
        let path = context.path();
        if self.serve.hides(path, context.link().is_near()) {
            return Rejection::NoHandler { path: path.clone() }.into();
        }
        error
    }

    /// The same on the thread of the caller, for types that [fit](Serve::fits).
    pub(super) fn run_here(
        &self,
        context: &Context,
        depth: u32,
        arguments: &mut dyn Any,
        result: &mut dyn Any,
    ) -> Result<(), CallError> {
        match &context.home().watchdog {
            None => contained(context, true, depth, || self.serve.serve_here(context, arguments, result))?,
            Some(watchdog) => {
                let _watched = watchdog.enter(context);
                contained(context, true, depth, || self.serve.serve_here(context, arguments, result))?
            }
        }
    }
}

/// Runs a handler, and makes its panic a fault.
pub(super) fn contained<R>(
    context: &Context,
    here: bool,
    depth: u32,
    run: impl FnOnce() -> R,
) -> Result<R, CallError> {
    let current = Current {
        link: context.link().number(),
        transaction: context.transaction,
        deadline: context.deadline,
        place: Place::Handler,
        scope: context.within(),
        here,
        depth,
    };
    catch_unwind(AssertUnwindSafe(|| within(current, run))).map_err(|panic| panicked(context, panic))
}

#[cold]
pub(super) fn panicked(context: &Context, panic: Box<dyn Any + Send>) -> CallError {
    let text = panic_text(&*panic);
    forget_panic(panic);
    context.link().tally().handler_panics.up();
    Fault::of(FaultKind::Panicked, text, "").into()
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
                context.link().pack_answer(context.path(), value).map_or_else(Served::Failed, Served::Answer)
            }
            Err(error) => Served::Failed(error.into_fault_in(context.link().codec()).into()),
        }
    }

    fn fits(&self, arguments: TypeId, result: TypeId) -> bool {
        arguments == TypeId::of::<A>() && result == TypeId::of::<T>()
    }

    fn serve_here(
        &self,
        context: &Context,
        arguments: &mut dyn Any,
        result: &mut dyn Any,
    ) -> Result<(), CallError> {
        let arguments = arguments.downcast_mut::<Option<A>>().and_then(Option::take);
        let (Some(arguments), Some(result)) = (arguments, result.downcast_mut::<Option<T>>()) else {
            return Err(CallError::NoAnswer);
        };
        *result =
            Some((self.function)(context, arguments).map_err(|error| error.into_fault_in(Codec::Binary))?);
        Ok(())
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
                Served::Later
            }
            Err(error) => Served::Failed(error),
        }
    }

    fn serve_here(&self, _: &Context, _: &mut dyn Any, _: &mut dyn Any) -> Result<(), CallError> {
        // Nobody asks: its types never fit.
        Err(CallError::NoAnswer)
    }
}

/// Puts arguments that were given by name in the order of the method.
#[cold]
fn by_name(context: &Context, payload: &mut Payload, about: &About) -> Result<(), CallError> {
    let names: Vec<&str> = about.arguments[..about.values].iter().map(|(name, _)| *name).collect();
    match Codec::Json.by_name(&payload.bytes(), &names) {
        Ok(None) => Ok(()),
        Ok(Some(ordered)) => {
            *payload = Payload::from_bytes(ordered);
            Ok(())
        }
        Err(error) => Err(Rejection::BadArguments {
            path: context.path().clone(),
            expected: about.signature.into(),
            detail: error.text().into(),
        }
        .into()),
    }
}

pub(super) fn arguments<A: DeserializeOwned + 'static>(
    context: &Context,
    payload: &mut Payload,
) -> Result<A, CallError> {
    payload.take_value::<A>(context.link().codec()).map_err(|error| {
        Rejection::BadArguments {
            path: context.path().clone(),
            expected: type_name::<A>().into(),
            detail: error.text().into(),
        }
        .into()
    })
}
