//! What a program gives for the paths that a file names.

use std::{collections::BTreeMap, fmt};

use serde::{Serialize, de::DeserializeOwned};

use super::reader::nearest;
use crate::{
    api::{Api, Context, Handler, HandlerError, Scope, Source},
    error::ApiError,
    sync::Arc,
    wire::{Path, PathError},
};

/// The handlers that a program has, by name. Which of them are served, and at which paths, a
/// [file](super::ConfigFile) says: by default each at the path that is its name.
///
/// ```
/// use nape::{Context, Fault, config_file::Handlers};
///
/// let handlers = Handlers::new()
///     .handle("words.count", |_: &Context, text: String| Ok::<_, Fault>(text.split_whitespace().count()))?
///     .handle("words.length", |_: &Context, text: String| Ok::<_, Fault>(text.len()))?;
/// # Ok::<(), nape::ApiError>(())
/// ```
#[derive(Clone, Default)]
pub struct Handlers(BTreeMap<String, Given>);

#[derive(Clone)]
pub(super) enum Given {
    Handler(Scope, Handler),
    Topic(Arc<dyn Source>),
}

impl Handlers {
    /// None.
    pub fn new() -> Handlers {
        Handlers::default()
    }

    /// Gives a function of one owned value, as [`Api::handle`] takes it.
    ///
    /// # Errors
    ///
    /// When there is one of this name, or the name cannot be a path.
    pub fn handle<A, T, E, F>(self, name: &str, function: F) -> Result<Handlers, ApiError>
    where
        A: DeserializeOwned + Send + 'static,
        T: Serialize + Send + 'static,
        E: HandlerError,
        F: Fn(&Context, A) -> Result<T, E> + Send + Sync + 'static,
    {
        self.add(name, Handler::new(function))
    }

    /// Gives a handler that is one already, such as a [deferred](Handler::deferred) one.
    ///
    /// # Errors
    ///
    /// When there is one of this name, or the name cannot be a path.
    pub fn add(mut self, name: &str, handler: Handler) -> Result<Handlers, ApiError> {
        let name = Path::new(name)?;
        self.insert(name.as_str().to_owned(), Given::Handler(Scope::Exact, handler))?;
        Ok(self)
    }

    /// Gives all that an API serves, each by its full path: handlers, streams, topics, the methods of a trait. A
    /// catch-all goes by the path of its node and `.*`, that of the root by `*`. The API's own workers and queue
    /// mean nothing here, the file has those; nor do its hooks. Its
    /// [layers](Api::layer) stay around each handler.
    ///
    /// ```
    /// use nape::{Api, Context, Fault, Payload, Topic, config_file::Handlers};
    ///
    /// let job = Api::new("job")
    ///     .topic("progress", &Topic::<u8>::new())?
    ///     .otherwise(|_: &Context, raw: Payload| Ok::<_, Fault>(raw))?;
    /// let handlers = Handlers::new().api(job)?;
    /// assert_eq!(handlers.names().collect::<Vec<_>>(), ["job.*", "job.progress"]);
    /// # Ok::<(), nape::ApiError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// When there is something of such a name, or the API has a namespace that cannot be one.
    pub fn api(mut self, api: Api) -> Result<Handlers, ApiError> {
        api.bad.map_or(Ok(()), Err)?;
        for entry in api.entries {
            let name = match (&entry.scope, entry.path.is_root()) {
                (Scope::Exact, _) => entry.path.as_str().to_owned(),
                (_, true) => "*".to_owned(),
                (_, false) => format!("{}.*", entry.path),
            };
            self.insert(name, Given::Handler(entry.scope, entry.handler.behind(&api.layers)))?;
        }
        for (path, topic) in api.topics {
            self.insert(path.as_str().to_owned(), Given::Topic(topic))?;
        }
        Ok(self)
    }

    /// The names of those that there are, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    fn insert(&mut self, name: String, given: Given) -> Result<(), ApiError> {
        if self.0.contains_key(&name) {
            let path = Path::new(&name).map_err(|error: PathError| ApiError::from(error))?;
            return Err(ApiError::Taken { path });
        }
        self.0.insert(name, given);
        Ok(())
    }

    /// Adds the one of this name to an API: to a method, or to what no method takes. `false` if there is none that
    /// fits there.
    pub(super) fn put(&self, api: &mut Api, method: Option<&str>, name: &str) -> Result<bool, ApiError> {
        match (self.0.get(name), method) {
            (Some(Given::Handler(Scope::Exact, handler)), Some(path)) => {
                api.insert(path, Scope::Exact, handler.clone())?;
            }
            (Some(Given::Topic(topic)), Some(path)) => api.insert_topic(path, topic.clone())?,
            (Some(Given::Handler(Scope::Exact, handler)), None) => {
                api.insert("", Scope::CatchAll, handler.clone())?;
            }
            (Some(Given::Handler(scope, handler)), None) => api.insert("", scope.clone(), handler.clone())?,
            (Some(Given::Handler(..)), Some(_)) | (Some(Given::Topic(_)), None) | (None, _) => {
                return Ok(false);
            }
        }
        Ok(true)
    }

    pub(super) fn nearest(&self, name: &str) -> Option<String> {
        nearest(name, self.names()).map(str::to_owned)
    }
}

impl fmt::Debug for Handlers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}
