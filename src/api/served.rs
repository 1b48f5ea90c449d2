//! What is served: handlers under a namespace, with their workers and their queue.

use std::fmt;

use serde::{Serialize, de::DeserializeOwned};

use super::{Context, Handler, HandlerError, Layer, Responder, layer::Layers, life::Life, tap::Source};
use crate::{
    error::ApiError,
    sync::Arc,
    wire::{Fault, Path, PathError, Payload},
    workers::{discard, discard_all},
};

/// A tree of handlers under a namespace, with workers and a queue of its own.
///
/// Nothing of it is reachable until it is [attached](crate::Endpoint::attach). Its handlers run on
/// threads of the link, at most [`workers`](Api::workers) at a time and in the order of arrival, so
/// that a slow API never holds another one up.
///
/// ```
/// use nape::{Api, Context, Fault, WhenFull};
///
/// let survey = Api::new("survey")
///     .workers(2)
///     .queue(256, WhenFull::Refuse)
///     .handle("count", |_: &Context, words: Vec<String>| Ok::<_, Fault>(words.len()))?
///     .handle("files.largest", |_: &Context, (dir, n): (String, usize)| Ok::<_, Fault>(vec![dir; n]))?;
/// # Ok::<(), nape::ApiError>(())
/// ```
#[derive(Debug)]
pub struct Api {
    pub(crate) namespace: Path,
    /// What is wrong with it, from before anybody could be told.
    pub(crate) bad: Option<ApiError>,
    pub(crate) workers: usize,
    pub(crate) bound: usize,
    pub(crate) when_full: WhenFull,
    pub(crate) inline: bool,
    /// While it is served, everything beside it is counted.
    pub(crate) measures: bool,
    pub(crate) entries: Vec<Entry>,
    /// The topics, each with its path.
    pub(crate) topics: Vec<(Path, Arc<dyn Source>)>,
    /// What stands around each handler.
    pub(crate) layers: Layers,
    /// What is to be done when it is attached, and when that is over: its own first.
    pub(crate) lives: Vec<Life>,
}

/// What becomes of a call that finds the queue of its API full. Events are dropped and counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "config-file", derive(serde::Deserialize), serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum WhenFull {
    /// It is answered as busy, at once.
    Refuse,
    /// It waits, and its timeout runs. What waits counts against
    /// [`Config::served_calls`](crate::Config::served_calls), the bound of all waiting.
    Wait,
}

/// What a handler is registered for.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) path: Path,
    pub(crate) scope: Scope,
    pub(crate) handler: Handler,
}

/// Which paths a handler takes.
#[derive(Clone)]
pub(crate) enum Scope {
    /// Its own.
    Exact,
    /// Whatever nothing more specific takes, at or below its node.
    CatchAll,
    /// Of these, the paths for which the predicate holds.
    CatchSome(Arc<Predicate>),
}

/// Code of the user's. In a box, so that whoever knows it last can give it away.
pub(crate) struct Predicate(pub(super) Box<dyn Fn(&str) -> bool + Send + Sync>);

impl Api {
    /// An API without handlers under `namespace`, which may have dots; the empty one is the root.
    ///
    /// A namespace that cannot be one is an error of the first handler that is added, and of attaching.
    pub fn new(namespace: &str) -> Api {
        let (namespace, bad) = match Path::new(namespace) {
            Ok(namespace) => (namespace, None),
            Err(PathError::Empty) => (Path::root(), None),
            Err(error) => (Path::root(), Some(error.into())),
        };
        let (workers, bound, when_full) = (4, 1024, WhenFull::Refuse);
        Api {
            namespace,
            bad,
            workers,
            bound,
            when_full,
            inline: false,
            measures: false,
            entries: Vec::new(),
            topics: Vec::new(),
            layers: Layers::default(),
            lives: Vec::new(),
        }
    }

    /// The same once more, with workers and a queue of its own: the handlers are the same.
    pub(crate) fn again(&self) -> Api {
        Api {
            namespace: self.namespace.clone(),
            bad: self.bad.clone(),
            workers: self.workers,
            bound: self.bound,
            when_full: self.when_full,
            inline: self.inline,
            measures: self.measures,
            entries: self.entries.clone(),
            topics: self.topics.clone(),
            layers: self.layers.clone(),
            lives: self.lives.clone(),
        }
    }

    /// Lets go of it, piece by piece: what panics then hurts nothing else.
    pub(crate) fn discard(self) {
        let Api { entries, topics, layers, lives, .. } = self;
        for Entry { scope, handler, .. } in entries {
            discard(scope);
            discard(handler);
        }
        discard_all(topics);
        discard(layers);
        lives.into_iter().for_each(Life::discard);
    }

    /// How many handlers may run at once: 4 by default, at least 1. Threads are started as they are needed.
    pub fn workers(mut self, workers: usize) -> Api {
        self.workers = workers.max(1);
        self
    }

    /// How many calls and events may wait for a worker, 1,024 by default, and what becomes of those
    /// beyond; they are refused by default. With 0 nothing waits.
    pub fn queue(mut self, bound: usize, when_full: WhenFull) -> Api {
        (self.bound, self.when_full) = (bound, when_full);
        self
    }

    /// Lets the handlers run on whatever thread brings a call or an event, at once: without workers, queue or
    /// order. For handlers that are short; one that blocks for a call of its own works, and holds up whoever brought
    /// it. It is off by default.
    ///
    /// Between the two ends of one process that is the caller's own thread: the handler has run when `call`,
    /// `start`, `then` or `fire` returns, and a call by a path that was called before costs little more than to
    /// find a closure in a map. Over a wire it is the thread that has read the message; that may be one that
    /// blocks for a call of its own, which then ends no earlier than the handler.
    ///
    /// What to mind: as many handlers run at once as there are threads that bring calls, and over a wire two
    /// events of one sender may run at the same time or in another order; in one process, where several threads
    /// send at once. A lock that a thread holds while it calls must not be one that a handler takes. In one process a
    /// call ends no sooner than its handler: as [`TimedOut`](crate::CallError::TimedOut) if that was too late, or, if
    /// there was a second or more for it, with what the handler gives.
    ///
    /// A thread that has as many handlers on its stack as it may have, or that has got its own answer meanwhile,
    /// leaves a handler to the [`workers`](Api::workers) and their [`queue`](Api::queue), which is all that they
    /// are for then. So does, in one process, one that comes with a message while another thread hands its own over:
    /// that one takes it along, and waits for no handler but its own. [`Attached::depth`](crate::Attached::depth) counts those alone. A call on the shortest way is
    /// counted by [`Endpoint::under_way`](crate::Endpoint::under_way), but no line of a
    /// [report](crate::Endpoint::hang_report); the [watchdog](crate::Config::watchdog) does see its handler.
    ///
    /// ```
    /// use nape::{Api, Context, Fault, Head};
    ///
    /// let (head, neck) = Head::in_process()?;
    /// let whose = |_: &Context, ()| Ok::<_, Fault>(std::thread::current().name().map(str::to_owned));
    /// let _neck = neck.serve(Api::new("thread").inline().handle("name", whose)?)?.start();
    ///
    /// let name: Option<String> = head.api("thread").action("name", ()).call()?;
    /// assert_eq!(name.as_deref(), std::thread::current().name());
    /// # Ok::<(), nape::Error>(())
    /// ```
    pub fn inline(mut self) -> Api {
        self.inline = true;
        self
    }

    /// Puts a [`Layer`] around every handler of this API, inside of those that it has: those that are there, those
    /// that are added or [put in the place](crate::Attached::replace) of others later, streams, and the catch-alls. Each call
    /// passes it when a worker takes it out of the queue. Topics have no calls, and no layers.
    ///
    /// An API that is [nested](Api::nest) keeps its own, inside of these. The copies of an API that a
    /// [`Listener`](crate::Listener) serves to its peers share their layers: a limit is for all of them together.
    /// A handler that is [inline](Api::inline) is called on the longer way.
    ///
    /// See [`Layer`] for an example.
    pub fn layer(mut self, layer: impl Layer) -> Api {
        self.layers.add(layer);
        self
    }

    /// Serves calls and events to `path`, below the namespace, with a function of one owned value. Take
    /// a tuple or a struct for several values, and a [`Payload`] for raw bytes.
    ///
    /// # Errors
    ///
    /// When the path has a handler already, or cannot be one.
    pub fn handle<A, T, E, F>(self, path: &str, function: F) -> Result<Api, ApiError>
    where
        A: DeserializeOwned + Send + 'static,
        T: Serialize + Send + 'static,
        E: HandlerError,
        F: Fn(&Context, A) -> Result<T, E> + Send + Sync + 'static,
    {
        self.add(path, Scope::Exact, Handler::new(function))
    }

    /// Serves `path` with a function that answers later, by its [`Responder`].
    ///
    /// # Errors
    ///
    /// When the path has a handler already, or cannot be one.
    pub fn deferred<A, T, F>(self, path: &str, function: F) -> Result<Api, ApiError>
    where
        A: DeserializeOwned + Send + 'static,
        T: Serialize + Send + 'static,
        F: Fn(Context, A, Responder<T>) + Send + Sync + 'static,
    {
        self.add(path, Scope::Exact, Handler::deferred(function))
    }

    /// Serves whatever nothing more specific takes, at `node` and below it. The handler is told the
    /// full path by its [`Context`].
    ///
    /// # Errors
    ///
    /// When the node has a catch-all already, or cannot be a path.
    pub fn catch_all<F>(self, node: &str, function: F) -> Result<Api, ApiError>
    where
        F: Fn(&Context, Payload) -> Result<Payload, Fault> + Send + Sync + 'static,
    {
        self.add(node, Scope::CatchAll, Handler::new(function))
    }

    /// The same for the paths for which `predicate` holds. Several APIs may have one at the same node;
    /// a call that more than one of them takes is answered as ambiguous.
    ///
    /// Predicates should be quick: they are asked for one call at a time. What they decide keeps its
    /// order; a later call to a path that has a handler of its own may be served before.
    ///
    /// # Errors
    ///
    /// When the node cannot be a path.
    pub fn catch_some<P, F>(self, node: &str, predicate: P, function: F) -> Result<Api, ApiError>
    where
        P: Fn(&str) -> bool + Send + Sync + 'static,
        F: Fn(&Context, Payload) -> Result<Payload, Fault> + Send + Sync + 'static,
    {
        self.add(node, Scope::CatchSome(Arc::new(Predicate(Box::new(predicate)))), Handler::new(function))
    }

    /// Serves whatever else comes under the namespace: its catch-all.
    ///
    /// # Errors
    ///
    /// When there is one already.
    pub fn otherwise<F>(self, function: F) -> Result<Api, ApiError>
    where
        F: Fn(&Context, Payload) -> Result<Payload, Fault> + Send + Sync + 'static,
    {
        self.catch_all("", function)
    }

    /// Takes over the handlers of `child`, whose namespace is put below this one. Its workers and its
    /// queue are those of this API.
    ///
    /// # Errors
    ///
    /// When a path has a handler already, or becomes too long; when the namespace of `child` cannot be one.
    pub fn nest(mut self, child: Api) -> Result<Api, ApiError> {
        child.bad.map_or(Ok(()), Err)?;
        for entry in child.entries {
            self = self.add(entry.path.as_str(), entry.scope, entry.handler.behind(&child.layers))?;
        }
        for (path, topic) in child.topics {
            self.insert_topic(path.as_str(), topic)?;
        }
        self.nest_lives(child.lives);
        Ok(self)
    }

    fn add(mut self, path: &str, scope: Scope, handler: Handler) -> Result<Api, ApiError> {
        self.insert(path, scope, handler)?;
        Ok(self)
    }

    pub(crate) fn insert(&mut self, path: &str, scope: Scope, handler: Handler) -> Result<(), ApiError> {
        if let Some(error) = &self.bad {
            return Err(error.clone());
        }
        if path.is_empty() && matches!(scope, Scope::Exact) && self.namespace.is_root() {
            return Err(PathError::Empty.into());
        }
        let path = self.namespace.join(path)?;
        let taken = |entry: &Entry| entry.path == path && entry.scope.excludes(&scope);
        if self.entries.iter().any(taken) {
            return Err(ApiError::Taken { path });
        }
        self.entries.push(Entry { path, scope, handler });
        Ok(())
    }

    pub(crate) fn insert_topic(&mut self, path: &str, topic: Arc<dyn Source>) -> Result<(), ApiError> {
        self.bad.clone().map_or(Ok(()), Err)?;
        let path = self.namespace.join(path)?;
        // Its paths may be too long.
        topic.taps(&path)?;
        if self.topics.iter().any(|(other, _)| *other == path) {
            return Err(ApiError::Taken { path });
        }
        self.topics.push((path, topic));
        Ok(())
    }
}

impl Scope {
    /// Whether the two cannot stand at the same path.
    pub(crate) fn excludes(&self, other: &Scope) -> bool {
        matches!((self, other), (Scope::Exact, Scope::Exact) | (Scope::CatchAll, Scope::CatchAll))
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Scope::Exact => "Exact",
            Scope::CatchAll => "CatchAll",
            Scope::CatchSome(_) => "CatchSome",
        })
    }
}
