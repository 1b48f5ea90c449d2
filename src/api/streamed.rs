//! Functions that make items, take items, or both, as handlers.

use std::{any::Any, marker::PhantomData};

use serde::{Serialize, de::DeserializeOwned};

use super::{
    Api, Context, Handler, HandlerError, Incoming, Outgoing, Scope,
    handler::{Serve, Served, arguments},
    producer::Production,
};
use crate::{
    error::{ApiError, CallError, Rejection},
    link::Started,
    sync::Arc,
    wire::Payload,
};

/// Which way the items of a call go, as its handler sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Way {
    takes: bool,
    makes: bool,
}

impl Way {
    /// It is a call and nothing else.
    pub(crate) const NONE: Way = Way { takes: false, makes: false };
    const MAKES: Way = Way { takes: false, makes: true };
    const TAKES: Way = Way { takes: true, makes: false };
    const BOTH: Way = Way { takes: true, makes: true };

    /// Whether it takes items, and whether it makes some.
    pub(crate) fn ends(self) -> (bool, bool) {
        (self.takes, self.makes)
    }

    /// Refuses a call with items that go another way, before anything of it is run.
    pub(super) fn check(self, context: &Context) -> Result<(), CallError> {
        let asked = Way { takes: context.ends.intake.is_some(), makes: context.ends.outlet.is_some() };
        if asked == self {
            return Ok(());
        }
        let path = context.path().clone();
        let detail = format!("what came is {}", asked.in_words()).into();
        Err(Rejection::BadArguments { path, expected: self.in_words().into(), detail }.into())
    }

    fn in_words(self) -> &'static str {
        match (self.takes, self.makes) {
            (false, false) => "a call without items",
            (false, true) => "a call that takes items (`open`)",
            (true, false) => "a call that sends items (`upload`)",
            (true, true) => "a call that sends and takes items (`duplex`)",
        }
    }
}

impl Handler {
    /// A function that gives an iterator, whose items go out one after the other: see [`Api::stream`].
    pub fn stream<A, I, T, E, X, F>(function: F) -> Handler
    where
        A: DeserializeOwned + Send + 'static,
        I: Iterator<Item = Result<T, X>> + Send + 'static,
        T: Serialize + Send + 'static,
        E: HandlerError,
        X: HandlerError,
        F: Fn(&Context, A) -> Result<I, E> + Send + Sync + 'static,
    {
        Handler::streaming(Making { function, types: PhantomData::<fn(A) -> (I, E)> }, Way::MAKES)
    }

    /// A function that takes items one after the other, and answers: see [`Api::upload`].
    pub fn upload<A, T, R, E, F>(function: F) -> Handler
    where
        A: DeserializeOwned + Send + 'static,
        T: DeserializeOwned + 'static,
        R: Serialize + Send + 'static,
        E: HandlerError,
        F: Fn(&Context, A, Incoming<T>) -> Result<R, E> + Send + Sync + 'static,
    {
        let function =
            move |cx: &Context, arguments, items, _: Option<Outgoing<()>>| function(cx, arguments, items);
        Handler::streaming(Taking { function, types: PhantomData::<Types<A, T, (), R, E>> }, Way::TAKES)
    }

    /// A function that takes items and sends some, and answers in the end: see [`Api::duplex`].
    pub fn duplex<A, T, U, R, E, F>(function: F) -> Handler
    where
        A: DeserializeOwned + Send + 'static,
        T: DeserializeOwned + 'static,
        U: Serialize + Send + 'static,
        R: Serialize + Send + 'static,
        E: HandlerError,
        F: Fn(&Context, A, Incoming<T>, Outgoing<U>) -> Result<R, E> + Send + Sync + 'static,
    {
        let function = move |cx: &Context, arguments, items, out: Option<Outgoing<U>>| {
            function(cx, arguments, items, out.expect("a call both ways has one"))
        };
        Handler::streaming(Taking { function, types: PhantomData::<Types<A, T, U, R, E>> }, Way::BOTH)
    }

    fn streaming(serve: impl Serve + 'static, way: Way) -> Handler {
        Handler { serve: Arc::new(serve), about: None, way, shape: None }
    }
}

impl Api {
    /// Serves a stream at `path`: the function gives an iterator, and its items go out one after the other.
    /// An error, of the function or in the place of an item, ends it; the caller gets it behind the items.
    ///
    /// The iterator runs on a worker of this API while there is room for items. It is asked for no more of
    /// them than the caller is ready to take ([`Config::stream_items`](crate::Config::stream_items)); while
    /// it waits for the caller it holds neither a worker nor a thread, and the next item may be made on
    /// another one. When the caller is gone it is dropped.
    ///
    /// The [`Context`] of a stream has no deadline: its caller waits for it to begin, and cancels it if it
    /// does not.
    ///
    /// # Errors
    ///
    /// When the path has a handler already, or cannot be one.
    pub fn stream<A, I, T, E, X, F>(self, path: &str, function: F) -> Result<Api, ApiError>
    where
        A: DeserializeOwned + Send + 'static,
        I: Iterator<Item = Result<T, X>> + Send + 'static,
        T: Serialize + Send + 'static,
        E: HandlerError,
        X: HandlerError,
        F: Fn(&Context, A) -> Result<I, E> + Send + Sync + 'static,
    {
        self.with(path, Handler::stream(function))
    }

    /// Serves an upload at `path`: the function takes the caller's items, and answers.
    ///
    /// It has a worker of this API as long as it runs, also while it waits for items. It may answer before
    /// the last of them; the caller then sends no more.
    ///
    /// # Errors
    ///
    /// When the path has a handler already, or cannot be one.
    pub fn upload<A, T, R, E, F>(self, path: &str, function: F) -> Result<Api, ApiError>
    where
        A: DeserializeOwned + Send + 'static,
        T: DeserializeOwned + 'static,
        R: Serialize + Send + 'static,
        E: HandlerError,
        F: Fn(&Context, A, Incoming<T>) -> Result<R, E> + Send + Sync + 'static,
    {
        self.with(path, Handler::upload(function))
    }

    /// Serves a stream both ways at `path`: the function takes the caller's items and sends its own, and
    /// answers in the end. Either half may be dropped before, or handed to a thread.
    ///
    /// It has a worker of this API as long as it runs, also while it waits.
    ///
    /// # Errors
    ///
    /// When the path has a handler already, or cannot be one.
    pub fn duplex<A, T, U, R, E, F>(self, path: &str, function: F) -> Result<Api, ApiError>
    where
        A: DeserializeOwned + Send + 'static,
        T: DeserializeOwned + 'static,
        U: Serialize + Send + 'static,
        R: Serialize + Send + 'static,
        E: HandlerError,
        F: Fn(&Context, A, Incoming<T>, Outgoing<U>) -> Result<R, E> + Send + Sync + 'static,
    {
        self.with(path, Handler::duplex(function))
    }

    fn with(mut self, path: &str, handler: Handler) -> Result<Api, ApiError> {
        self.insert(path, Scope::Exact, handler)?;
        Ok(self)
    }
}

type Types<A, T, U, R, E> = fn(A, T) -> (U, R, E);

/// A function that gives an iterator.
struct Making<F, A, I, E> {
    function: F,
    types: PhantomData<fn(A) -> (I, E)>,
}

impl<F, A, I, T, E, X> Serve for Making<F, A, I, E>
where
    A: DeserializeOwned + Send + 'static,
    I: Iterator<Item = Result<T, X>> + Send + 'static,
    T: Serialize + Send + 'static,
    E: HandlerError,
    X: HandlerError,
    F: Fn(&Context, A) -> Result<I, E> + Send + Sync + 'static,
{
    fn serve(&self, context: &Context, payload: &mut Payload) -> Served {
        let arguments = match arguments::<A>(context, payload) {
            Ok(arguments) => arguments,
            Err(error) => return Served::Failed(error),
        };
        let (Some(id), Some(tap)) = (context.transaction, context.tap()) else { return Served::Done };
        match (self.function)(context, arguments) {
            Ok(items) => {
                context.link().accept_stream(id, &context.ends);
                Served::Stream(Box::new(Production { items, tap }))
            }
            Err(error) => Served::Failed(error.into_fault_in(context.link().codec()).into()),
        }
    }

    fn serve_here(&self, _: &Context, _: &mut dyn Any, _: &mut dyn Any) -> Result<(), CallError> {
        // Nobody asks: its types never fit.
        Err(CallError::NoAnswer)
    }
}

/// A function that takes items.
struct Taking<F, A, T, U, R, E> {
    function: F,
    types: PhantomData<Types<A, T, U, R, E>>,
}

impl<F, A, T, U, R, E> Serve for Taking<F, A, T, U, R, E>
where
    A: DeserializeOwned + Send + 'static,
    T: DeserializeOwned + 'static,
    U: Serialize + Send + 'static,
    R: Serialize + Send + 'static,
    E: HandlerError,
    F: Fn(&Context, A, Incoming<T>, Option<Outgoing<U>>) -> Result<R, E> + Send + Sync + 'static,
{
    fn serve(&self, context: &Context, payload: &mut Payload) -> Served {
        let arguments = match arguments::<A>(context, payload) {
            Ok(arguments) => arguments,
            Err(error) => return Served::Failed(error),
        };
        let (Some(id), Some(intake)) = (context.transaction, context.ends.intake.clone()) else {
            return Served::Done;
        };
        let link = context.link().clone();
        link.accept_stream(id, &context.ends);
        let started = Started { link, id };
        let items = Incoming::new(started, context.path().clone(), intake, None, false);
        let out = context.tap().map(|tap| Outgoing::new(tap, None));
        match (self.function)(context, arguments, items, out) {
            Ok(value) => {
                context.link().pack_answer(context.path(), value).map_or_else(Served::Failed, Served::Answer)
            }
            Err(error) => Served::Failed(error.into_fault_in(context.link().codec()).into()),
        }
    }

    fn serve_here(&self, _: &Context, _: &mut dyn Any, _: &mut dyn Any) -> Result<(), CallError> {
        // Nobody asks: its types never fit.
        Err(CallError::NoAnswer)
    }
}
