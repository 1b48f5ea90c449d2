//! What the code that [`api`](macro@crate::api) generates is made of: actions that know their types,
//! and the way from a trait to an API.
//!
//! Adds no behavior to what it wraps.

use std::{fmt, marker::PhantomData};

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    api::{Action, ApiHandle, AsyncResult, Backlog, Duplex, IgnoringErrors, Incoming, Subscription, Upload},
    config::Timeout,
    error::CallError,
    semaphore::Semaphore,
    shape::Shape,
    sync::OnceLock,
};

/// A call to a method of a trait: an [`Action`] that knows what comes back.
///
/// Nothing is sent before one of its verbs is called. An error that the method itself returns arrives as
/// [`CallError::Fault`], and [`Fault::typed`](crate::Fault::typed) gives it back as it was.
#[must_use = "an action does nothing until one of its verbs sends it"]
pub struct TypedAction<A, T> {
    action: Action<A>,
    method: &'static private::Method,
    value: PhantomData<fn() -> T>,
}

/// An event to a method of a trait: an [`Action`] that can only be fired.
#[must_use = "an event does nothing until it is fired"]
pub struct TypedEvent<A> {
    action: Action<A>,
    method: &'static private::Method,
    ignores_errors: bool,
}

/// A call whose failures for want of an answer are nothing: see [`TypedAction::ignore_errors`].
#[must_use = "an action does nothing until one of its verbs sends it"]
pub struct TypedIgnoringErrors<A, T> {
    action: IgnoringErrors<A>,
    method: &'static private::Method,
    value: PhantomData<fn() -> T>,
}

/// A topic of a trait, to be subscribed to.
#[must_use = "a topic does nothing until it is subscribed to"]
pub struct TypedTopic<T> {
    api: ApiHandle,
    item: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned + Clone + Send + Sync + 'static> TypedTopic<T> {
    /// How long the other side may take to agree. Zero is over at once.
    pub fn timeout(mut self, timeout: impl Into<Timeout>) -> TypedTopic<T> {
        self.api = self.api.timeout(timeout);
        self
    }

    /// As [`ApiHandle::subscribe`]. Blocks until the other side has agreed.
    ///
    /// # Errors
    ///
    /// Whatever a call can end in.
    pub fn subscribe(self, backlog: Backlog) -> Result<Subscription<T>, CallError> {
        self.api.subscribe("", backlog)
    }
}

impl<A, T> TypedAction<A, T> {
    /// How long this call may take. Zero is over at once.
    pub fn timeout(mut self, timeout: impl Into<Timeout>) -> TypedAction<A, T> {
        self.action = self.action.timeout(timeout);
        self
    }

    /// As [`Action::releasing`]: releases one permit when the call has ended, however it ends.
    pub fn releasing(mut self, semaphore: &Semaphore) -> TypedAction<A, T> {
        self.action = self.action.releasing(semaphore);
        self
    }

    /// As [`Action::retry_safe`]: running this call twice does no harm.
    pub fn retry_safe(mut self) -> TypedAction<A, T> {
        self.action = self.action.retry_safe();
        self
    }

    /// As [`Action::ignore_errors`]: a timeout and a link that is closed become nothing.
    pub fn ignore_errors(self) -> TypedIgnoringErrors<A, T> {
        let TypedAction { action, method, value } = self;
        TypedIgnoringErrors { action: action.ignore_errors(), method, value }
    }
}

impl<A, T> TypedAction<A, T>
where
    A: Serialize + DeserializeOwned + Send + 'static,
    T: DeserializeOwned + 'static,
{
    /// As [`Action::call`]: sends the call and blocks until it has ended.
    ///
    /// # Errors
    ///
    /// Whatever a call can end in.
    pub fn call(self) -> Result<T, CallError> {
        self.checked().call()
    }

    /// As [`Action::start`]: sends the call and gives a handle to its result. Does not block.
    ///
    /// # Errors
    ///
    /// What shows at once.
    pub fn start(self) -> Result<AsyncResult<T>, CallError> {
        self.checked().start()
    }

    /// As [`Action::then`]: sends the call and has `callback` called with its end, exactly once. Does
    /// not block.
    ///
    /// # Errors
    ///
    /// What shows at once; then `callback` is not called.
    pub fn then<F>(self, callback: F) -> Result<(), CallError>
    where
        F: FnOnce(Result<T, CallError>) + Send + 'static,
    {
        self.checked().then(callback)
    }

    /// With what tells the other side what is called, so that nothing else is run.
    fn checked(self) -> Action<A> {
        self.action.shaped(self.method.shape::<A, T>())
    }
}

impl<A> TypedEvent<A> {
    /// Releases one permit of `semaphore` when the event has left, or cannot leave.
    pub fn releasing(mut self, semaphore: &Semaphore) -> TypedEvent<A> {
        self.action = self.action.releasing(semaphore);
        self
    }

    /// As [`Action::ignore_errors`]: a link that is closed is no error.
    pub fn ignore_errors(mut self) -> TypedEvent<A> {
        self.ignores_errors = true;
        self
    }
}

impl<A: Serialize + DeserializeOwned + Send + 'static> TypedEvent<A> {
    /// As [`Action::fire`]: sends the event. Does not block.
    ///
    /// # Errors
    ///
    /// What shows at once.
    pub fn fire(self) -> Result<(), CallError> {
        let action = self.action.shaped(self.method.shape::<A, ()>());
        if self.ignores_errors { action.ignore_errors().fire() } else { action.fire() }
    }
}

impl<A, T> TypedIgnoringErrors<A, T>
where
    A: Serialize + DeserializeOwned + Send + 'static,
    T: DeserializeOwned + 'static,
{
    /// As [`TypedAction::call`]; `None` when it timed out or the link is closed.
    ///
    /// # Errors
    ///
    /// Every other end of a call.
    pub fn call(self) -> Result<Option<T>, CallError> {
        self.action.shaped(self.method.shape::<A, T>()).call()
    }
}

macro_rules! opens {
    ($(#[$doc:meta])* $name:ident<$($item:ident),*>, $verb:ident -> $opened:ty, $shape:ident, [$($bound:tt)*]) => {
        $(#[$doc])*
        #[must_use = "an action does nothing until one of its verbs sends it"]
        pub struct $name<A, $($item),*> {
            action: Action<A>,
            method: &'static private::Method,
            items: PhantomData<fn($($item),*)>,
        }

        impl<A, $($item),*> $name<A, $($item),*> {
            /// How long it may take until the other side has begun. Zero is over at once.
            pub fn timeout(mut self, timeout: impl Into<Timeout>) -> Self {
                self.action = self.action.timeout(timeout);
                self
            }

            /// As [`Action::releasing`]: releases one permit when the call has ended, however it ends.
            pub fn releasing(mut self, semaphore: &Semaphore) -> Self {
                self.action = self.action.releasing(semaphore);
                self
            }
        }

        impl<A: Serialize + DeserializeOwned + Send + 'static, $($item),*> $name<A, $($item),*>
        where
            $($bound)*
        {
            #[doc = concat!("As [`Action::", stringify!($verb), "`]: opens the stream. Does not block.")]
            ///
            /// # Errors
            ///
            /// What shows at once.
            pub fn open(self) -> Result<$opened, CallError> {
                let shape = self.method.shaped(Shape::$shape::<A, $($item),*>);
                self.action.shaped(shape).$verb()
            }
        }

        impl<A: fmt::Debug, $($item),*> fmt::Debug for $name<A, $($item),*> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_tuple(stringify!($name)).field(&self.action).finish()
            }
        }
    };
}

opens! {
    /// A call to a method of a trait that gives items `T` one after the other.
    TypedStream<T>, open -> Incoming<T>, of_stream, [T: DeserializeOwned + 'static]
}

opens! {
    /// A call to a method of a trait that takes items `T` one after the other, and gives an `R`.
    TypedUpload<T, R>, upload -> Upload<T, R>, of_upload,
    [T: Serialize + DeserializeOwned + Send + 'static, R: DeserializeOwned + 'static]
}

opens! {
    /// A call to a method of a trait that takes items `U`, gives items `T`, and an `R` in the end.
    TypedDuplex<U, T, R>, duplex -> Duplex<U, T, R>, of_duplex,
    [U: Serialize + DeserializeOwned + Send + 'static, T: DeserializeOwned + 'static, R: DeserializeOwned + 'static]
}

impl<A: fmt::Debug, T> fmt::Debug for TypedAction<A, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TypedAction").field(&self.action).finish()
    }
}

impl<T> fmt::Debug for TypedTopic<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TypedTopic").field(&self.api).finish()
    }
}

impl<A: fmt::Debug> fmt::Debug for TypedEvent<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TypedEvent").field(&self.action).finish()
    }
}

impl<A: fmt::Debug, T> fmt::Debug for TypedIgnoringErrors<A, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TypedIgnoringErrors").field(&self.action).finish()
    }
}

/// For generated code alone: no promise is made for anything in here.
pub mod private {
    use std::marker::PhantomData;
    pub use std::{borrow::ToOwned, sync::Arc};

    use serde::{Serialize, de::DeserializeOwned};

    use super::{
        OnceLock, Shape, TypedAction, TypedDuplex, TypedEvent, TypedStream, TypedTopic, TypedUpload,
    };
    pub use crate::api::About;
    use crate::{
        api::{Api, ApiHandle, Context, Handler, HandlerError, Incoming, Outgoing, Responder, Scope, Topic},
        wire::Fault,
    };

    /// What may come in. Of several arguments it is the tuple.
    #[diagnostic::on_unimplemented(
        message = "`{Self}` cannot be what a method of an API takes",
        label = "its arguments cannot travel",
        note = "each needs `Serialize`, `DeserializeOwned` and `Send`, and at most 16 go into one call"
    )]
    pub trait Argument: DeserializeOwned + Send + 'static {}

    #[diagnostic::do_not_recommend]
    impl<A: DeserializeOwned + Send + 'static> Argument for A {}

    /// What may go out.
    #[diagnostic::on_unimplemented(
        message = "`{Self}` cannot be what a method of an API gives",
        label = "its value cannot travel",
        note = "it needs `Serialize`, `DeserializeOwned` and `Send`"
    )]
    pub trait Value: Serialize + DeserializeOwned + Send + 'static {}

    #[diagnostic::do_not_recommend]
    impl<T: Serialize + DeserializeOwned + Send + 'static> Value for T {}

    /// What a method that returns a `Result` gives, whatever the alias that it is written with.
    #[diagnostic::on_unimplemented(message = "a type called `Result` must be one", label = "no `Result`")]
    pub trait Outcome {
        /// Its value.
        type Value: Serialize + DeserializeOwned + Send + 'static;
        /// Its error.
        type Error: HandlerError;

        /// Itself, as what it is.
        fn into_result(self) -> Result<Self::Value, Self::Error>;
    }

    impl<T: Serialize + DeserializeOwned + Send + 'static, E: HandlerError> Outcome for Result<T, E> {
        type Value = T;
        type Error = E;

        fn into_result(self) -> Result<T, E> {
            self
        }
    }

    /// Makes a plain value what a handler returns.
    pub fn value<T>(value: T) -> Result<T, Fault> {
        Ok(value)
    }

    /// What a client knows of one of its methods, traced when it is called first.
    #[derive(Debug)]
    pub struct Method(OnceLock<Shape>);

    impl Method {
        /// Nothing yet.
        #[allow(clippy::new_without_default, reason = "it stands in a static")]
        pub const fn new() -> Method {
            Method(OnceLock::new())
        }

        /// For a method that takes an `A` and gives a `T`; each of them is for one method alone.
        pub(super) fn shape<A: DeserializeOwned, T: DeserializeOwned>(&'static self) -> &'static Shape {
            self.shaped(Shape::of_method::<A, T>)
        }

        /// The same for a method with streams.
        pub(super) fn shaped(&'static self, shape: fn() -> Shape) -> &'static Shape {
            let known = self.0.get();
            // Not inside of the cell: it runs code of the user's types, for which all others would wait there.
            known.unwrap_or_else(|| match Shape::traced(shape) {
                Some(traced) => self.0.get_or_init(|| traced),
                None => &crate::shape::ANY_SHAPE,
            })
        }
    }

    /// Begins a call.
    pub fn action<A, T>(
        api: &ApiHandle,
        path: &str,
        arguments: A,
        method: &'static Method,
    ) -> TypedAction<A, T> {
        TypedAction { action: api.action(path, arguments), method, value: PhantomData }
    }

    /// Begins an event.
    pub fn event<A>(api: &ApiHandle, path: &str, arguments: A, method: &'static Method) -> TypedEvent<A> {
        TypedEvent { action: api.action(path, arguments), method, ignores_errors: false }
    }

    /// A topic, to be subscribed to.
    pub fn topic<T>(api: &ApiHandle, path: &str) -> TypedTopic<T> {
        TypedTopic { api: api.api(path), item: PhantomData }
    }

    /// Begins a stream of what the other side makes.
    pub fn stream<A, T>(
        api: &ApiHandle,
        path: &str,
        arguments: A,
        method: &'static Method,
    ) -> TypedStream<A, T> {
        TypedStream { action: api.action(path, arguments), method, items: PhantomData }
    }

    /// Begins a stream of what this side makes.
    pub fn upload<A, T, R>(
        api: &ApiHandle,
        path: &str,
        arguments: A,
        method: &'static Method,
    ) -> TypedUpload<A, T, R> {
        TypedUpload { action: api.action(path, arguments), method, items: PhantomData }
    }

    /// Begins a stream both ways.
    pub fn duplex<A, U, T, R>(
        api: &ApiHandle,
        path: &str,
        arguments: A,
        method: &'static Method,
    ) -> TypedDuplex<A, U, T, R> {
        TypedDuplex { action: api.action(path, arguments), method, items: PhantomData }
    }

    /// A place in an API where the methods of a trait go.
    #[derive(Debug)]
    pub struct Serving<'a> {
        api: &'a mut Api,
        /// Where it is, below the API's namespace; with a dot at the end unless it is empty.
        below: String,
    }

    impl<'a> Serving<'a> {
        /// At the namespace of `api` itself.
        pub fn new(api: &'a mut Api) -> Serving<'a> {
            Serving { api, below: String::new() }
        }

        /// Serves a method. A path that has a handler already is an error of attaching.
        pub fn method<A, T, E, F>(&mut self, about: &'static About, function: F)
        where
            A: Argument,
            T: Value,
            E: HandlerError,
            F: Fn(&Context, A) -> Result<T, E> + Send + Sync + 'static,
        {
            // Now, and not while a message waits: it runs code of the types.
            let shape = Some(Arc::new(Shape::of_method::<A, T>()));
            self.serve(about, Handler { shape, ..Handler::new(function) });
        }

        /// Serves a method that gives items.
        pub fn stream<A, I, T, E, X, F>(&mut self, about: &'static About, function: F)
        where
            A: Argument,
            I: Iterator<Item = Result<T, X>> + Send + 'static,
            T: Value,
            E: HandlerError,
            X: HandlerError,
            F: Fn(&Context, A) -> Result<I, E> + Send + Sync + 'static,
        {
            let shape = Some(Arc::new(Shape::of_stream::<A, T>()));
            self.serve(about, Handler { shape, ..Handler::stream(function) });
        }

        /// Serves a method that takes items.
        pub fn upload<A, T, R, E, F>(&mut self, about: &'static About, function: F)
        where
            A: Argument,
            T: Argument,
            R: Value,
            E: HandlerError,
            F: Fn(&Context, A, Incoming<T>) -> Result<R, E> + Send + Sync + 'static,
        {
            let shape = Some(Arc::new(Shape::of_upload::<A, T, R>()));
            self.serve(about, Handler { shape, ..Handler::upload(function) });
        }

        /// Serves a method that takes items and sends some.
        pub fn duplex<A, T, U, R, E, F>(&mut self, about: &'static About, function: F)
        where
            A: Argument,
            T: Argument,
            U: Value,
            R: Value,
            E: HandlerError,
            F: Fn(&Context, A, Incoming<T>, Outgoing<U>) -> Result<R, E> + Send + Sync + 'static,
        {
            let shape = Some(Arc::new(Shape::of_duplex::<A, T, U, R>()));
            self.serve(about, Handler { shape, ..Handler::duplex(function) });
        }

        /// Serves a method that answers later.
        pub fn deferred<A, T, F>(&mut self, about: &'static About, function: F)
        where
            A: Argument,
            T: Value,
            F: Fn(Context, A, Responder<T>) + Send + Sync + 'static,
        {
            let shape = Some(Arc::new(Shape::of_method::<A, T>()));
            self.serve(about, Handler { shape, ..Handler::deferred(function) });
        }

        fn serve(&mut self, about: &'static About, handler: Handler) {
            let handler = Handler { about: Some(about), ..handler };
            let path = format!("{}{}", self.below, about.path);
            if let Err(error) = self.api.insert(&path, Scope::Exact, handler) {
                self.api.bad.get_or_insert(error);
            }
        }

        /// Serves a topic. One that cannot be where it is is an error of attaching.
        pub fn topic<T>(&mut self, about: &'static About, topic: &Topic<T>)
        where
            T: Serialize + DeserializeOwned + Send + Sync + 'static,
        {
            let path = format!("{}{}", self.below, about.path);
            if let Err(error) = self.api.add_topic(&path, topic, Some(about)) {
                self.api.bad.get_or_insert(error);
            }
        }

        /// The place of a nested API.
        pub fn nested(&mut self, path: &str) -> Serving<'_> {
            Serving { below: format!("{}{path}.", self.below), api: self.api }
        }
    }
}
