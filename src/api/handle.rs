//! What is called: a path at the other side, and defaults for its calls.

use super::{
    Action,
    action::To,
    around::{Around, WayAround},
    endpoint::Inner,
    shortcut::Shortcut,
};
use crate::{
    config::Timeout,
    sync::{Arc, Mutex, Weak},
    wire::{Path, PathError},
};

/// The other side's APIs at and below a path. Cheap to clone.
///
/// It is a name and a few defaults, not a connection: it stays valid whatever happens to the link.
#[derive(Clone, Debug)]
pub struct ApiHandle {
    pub(super) endpoint: Arc<Inner>,
    /// A path that cannot be one is an error of the call, which can tell it.
    path: Result<Path, Other>,
    pub(super) timeout: Timeout,
    recent: Recent,
}

/// What a handle is that is no plain path.
#[derive(Clone, Debug)]
enum Other {
    Bad(PathError),
    /// There is something around its calls.
    Around(Arc<Around>, Path),
}

/// The paths that were called last: in a loop they are the next ones, too, and need not be put together.
#[derive(Debug, Default)]
struct Recent(Mutex<Remembered>);

#[derive(Debug, Default)]
struct Remembered {
    entries: [Option<Entry>; REMEMBERED],
    /// Which entry goes next.
    oldest: usize,
}

#[derive(Debug)]
struct Entry {
    path: Path,
    /// The way to its handler, if that is inline and in this process.
    shortcut: Weak<Shortcut>,
    /// How often it was looked up.
    uses: u32,
}

impl ApiHandle {
    pub(crate) fn new(endpoint: Arc<Inner>, path: &str) -> ApiHandle {
        let timeout = endpoint.config.timeout;
        let path = match (Path::root().join(path), Around::of_link(endpoint.layers())) {
            (Ok(path), Some(around)) => Err(Other::Around(around, path)),
            (path, _) => path.map_err(Other::Bad),
        };
        ApiHandle { endpoint, path, timeout, recent: Recent::default() }
    }

    /// The same with another timeout for calls that set none of their own.
    pub fn timeout(mut self, timeout: impl Into<Timeout>) -> ApiHandle {
        self.timeout = timeout.into();
        self
    }

    /// What lies at `path` below this, with the same defaults.
    pub fn api(&self, path: &str) -> ApiHandle {
        ApiHandle { path: self.below(path), recent: Recent::default(), ..self.clone() }
    }

    /// A call or an event to `path` below this, which is built but not sent. The empty path is this
    /// path itself. `arguments` is one value: a tuple or a struct for several,
    /// [`Payload`](crate::Payload) for raw bytes.
    pub fn action<A>(&self, path: &str, arguments: A) -> Action<A> {
        Action::new(self, self.recall(path), arguments)
    }

    fn recall(&self, path: &str) -> To {
        let away = |path| To::Away { endpoint: self.endpoint.clone(), path };
        // Threads that share a handle do not wait for each other here.
        let recent = self.recent.0.try_lock();
        let base = match &self.path {
            Ok(base) => base,
            Err(other) => return other.way(&self.endpoint, path),
        };
        let Some(mut recent) = recent else { return away(base.join(path)) };
        let is_it = |entry: &&mut Entry| entry.path.is_join(base, path);
        let entry = match recent.entries.iter_mut().flatten().find(is_it) {
            Some(entry) => entry,
            None => match base.join(path) {
                Ok(path) => recent.add(Entry { path, shortcut: Weak::new(), uses: 0 }),
                Err(error) => return away(Err(error)),
            },
        };
        match entry.way(&self.endpoint) {
            Some(shortcut) => To::Here(shortcut),
            None => away(Ok(entry.path.clone())),
        }
    }

    /// The full path of what lies at `path` below this; it is not the root.
    pub(super) fn full_path(&self, path: &str) -> Result<Path, PathError> {
        let path = self.join(path)?;
        if path.is_root() { Err(PathError::Empty) } else { Ok(path) }
    }

    fn join(&self, path: &str) -> Result<Path, PathError> {
        self.path.as_ref().or_else(Other::path)?.join(path)
    }

    fn below(&self, path: &str) -> Result<Path, Other> {
        let joined = self.join(path).map_err(Other::Bad)?;
        match &self.path {
            Err(Other::Around(around, _)) => Err(Other::Around(around.clone(), joined)),
            _ => Ok(joined),
        }
    }

    /// The same with something else around its calls.
    pub(super) fn with_around(mut self, change: impl FnOnce(&mut Around)) -> ApiHandle {
        let (mut around, path) = match self.path {
            Ok(path) => (Around::default(), path),
            Err(Other::Around(around, path)) => (Arc::unwrap_or_clone(around), path),
            Err(Other::Bad(_)) => return self,
        };
        change(&mut around);
        self.path = Err(Other::Around(Arc::new(around), path));
        self
    }
}

impl Other {
    fn path(&self) -> Result<&Path, PathError> {
        match self {
            Other::Bad(error) => Err(error.clone()),
            Other::Around(_, path) => Ok(path),
        }
    }

    #[cold]
    fn way(&self, endpoint: &Arc<Inner>, path: &str) -> To {
        let endpoint = endpoint.clone();
        match self {
            Other::Bad(error) => To::Away { endpoint, path: Err(error.clone()) },
            Other::Around(around, base) => {
                let (path, around) = (base.join(path), around.clone());
                To::Around(Box::new(WayAround { endpoint, path, around }))
            }
        }
    }
}

impl Remembered {
    fn add(&mut self, entry: Entry) -> &mut Entry {
        let at = self.oldest;
        self.oldest = (at + 1) % REMEMBERED;
        self.entries[at].insert(entry)
    }
}

impl Entry {
    /// The short way, if there is one. Whether one has come to be is looked at now and then.
    fn way(&mut self, endpoint: &Arc<Inner>) -> Option<Arc<Shortcut>> {
        if let Some(shortcut) = self.shortcut.upgrade().filter(|shortcut| shortcut.is_live()) {
            return Some(shortcut);
        }
        self.uses = self.uses.wrapping_add(1);
        if !self.uses.is_power_of_two() && !self.uses.is_multiple_of(LOOKS) {
            return None;
        }
        let found = Shortcut::find(endpoint, &self.path)?;
        self.shortcut = Arc::downgrade(&found);
        self.uses = 0;
        Some(found)
    }
}

impl Clone for Recent {
    /// Each handle has its own: the clones of one are for several threads.
    fn clone(&self) -> Recent {
        Recent::default()
    }
}

/// How many paths a handle remembers.
const REMEMBERED: usize = 4;
/// How many calls go the long way before a short one is looked for again.
const LOOKS: u32 = 64;
