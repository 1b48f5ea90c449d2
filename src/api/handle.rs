//! What is called: a path at the other side, and defaults for its calls.

use super::{Action, endpoint::Inner};
use crate::{
    config::Timeout,
    sync::{Arc, Mutex},
    wire::{Path, PathError},
};

/// The other side's APIs at and below a path. Cheap to clone.
///
/// It is a name and a few defaults, not a connection: it stays valid whatever happens to the link.
#[derive(Clone, Debug)]
pub struct ApiHandle {
    pub(super) endpoint: Arc<Inner>,
    /// A path that cannot be one is an error of the call, which can tell it.
    pub(super) path: Result<Path, PathError>,
    pub(super) timeout: Timeout,
    recent: Recent,
}

/// The path that was called last: in a loop it is the next one, too, and need not be put together.
#[derive(Debug, Default)]
struct Recent(Mutex<Option<Path>>);

impl ApiHandle {
    pub(crate) fn new(endpoint: Arc<Inner>, path: &str) -> ApiHandle {
        let timeout = endpoint.config.timeout;
        let path = Path::root().join(path);
        ApiHandle { endpoint, path, timeout, recent: Recent::default() }
    }

    /// The same with another timeout for calls that set none of their own.
    pub fn timeout(mut self, timeout: impl Into<Timeout>) -> ApiHandle {
        self.timeout = timeout.into();
        self
    }

    /// What lies at `path` below this, with the same defaults.
    pub fn api(&self, path: &str) -> ApiHandle {
        ApiHandle { path: self.join(path), recent: Recent::default(), ..self.clone() }
    }

    /// A call or an event to `path` below this, which is built but not sent. The empty path is this
    /// path itself. `arguments` is one value: a tuple or a struct for several,
    /// [`Payload`](crate::Payload) for raw bytes.
    pub fn action<A>(&self, path: &str, arguments: A) -> Action<A> {
        Action::new(self, self.recall(path), arguments)
    }

    fn recall(&self, path: &str) -> Result<Path, PathError> {
        // Threads that share a handle do not wait for each other here.
        let Some(mut recent) = self.recent.0.try_lock() else { return self.join(path) };
        let base = self.path.as_ref().map_err(Clone::clone)?;
        match &*recent {
            Some(recent) if recent.is_join(base, path) => Ok(recent.clone()),
            _ => Ok(recent.insert(base.join(path)?).clone()),
        }
    }

    /// The full path of what lies at `path` below this; it is not the root.
    pub(super) fn full_path(&self, path: &str) -> Result<Path, PathError> {
        let path = self.join(path)?;
        if path.is_root() { Err(PathError::Empty) } else { Ok(path) }
    }

    fn join(&self, path: &str) -> Result<Path, PathError> {
        self.path.as_ref().map_err(Clone::clone)?.join(path)
    }
}

impl Clone for Recent {
    /// Each handle has its own: the clones of one are for several threads.
    fn clone(&self) -> Recent {
        Recent::default()
    }
}
