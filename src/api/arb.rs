//! The arbitrator: several APIs on one wire, and who owns which path.

use std::fmt;

use rustc_hash::FxHashMap;
use serde::{Serialize, de::DeserializeOwned};

use super::{
    Api, Context, Handler, HandlerError, QueueDepth,
    layer::Layers,
    life::{self, Lives},
    meter::{Meters, unwrapped},
    served::Scope,
    tap::{Tap, Tapped},
    task::{Pool, Target},
};
use crate::{
    error::{ApiError, Rejection},
    link::Link,
    sync::{Arc, Mutex, RwLock, Weak},
    wire::{Path, PathError, parents},
    workers::{Lane, contain, discard, discard_all},
};

/// The APIs of one side, by the paths that they own. Cheap to clone; every clone is the same one.
#[derive(Clone, Debug, Default)]
pub struct ApiArb(pub(super) Arc<RwLock<Routes>>);

#[derive(Debug, Default)]
pub(super) struct Routes {
    /// Before all others, so that what is served goes after it was stopped.
    lives: Lives,
    pub(super) exact: FxHashMap<Path, Arc<Target>>,
    pub(super) catch_all: FxHashMap<Path, Arc<Target>>,
    pub(super) catch_some: FxHashMap<Path, Vec<(Scope, Arc<Target>)>>,
    /// What takes messages without a queue. It goes before the catch-alls.
    pub(super) taps: FxHashMap<Path, Tapped>,
    /// What stands around every API.
    layers: Layers,
    /// There while somebody wants numbers: how many do.
    measured: Option<(Arc<Meters>, usize)>,
    /// The Head or the Neck is gone: nothing is served any more.
    over: bool,
}

/// As long as it is there, the handlers of a side are counted.
#[derive(Debug)]
pub(crate) struct Measuring(Weak<RwLock<Routes>>);

/// One handler that is served.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Listed {
    /// Its full path; for a catch-all, its node.
    pub path: Path,
    /// The namespace of the API that owns it.
    pub owner: Path,
    /// Whether it takes whatever nothing more specific takes.
    pub catch_all: bool,
    /// How it is declared, for people to read: `fn make(path: PathBuf, size: u32) -> Result<Thumb, Error>`.
    /// Only the method of a trait knows it; empty for all others.
    pub signature: String,
    /// What it takes, in order. Only the method of a trait knows it; empty for all others.
    pub arguments: Vec<Argument>,
    /// What its doc comment says; empty without one, and for what is no method of a trait.
    pub doc: String,
}

/// One argument of the method of a trait, as it is written there.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Argument {
    /// Its name.
    pub name: String,
    /// Its type, for people to read.
    pub type_name: String,
}

/// An API that is served. Dropping this changes nothing; [`Attached::detach`] ends it.
#[derive(Clone)]
pub struct Attached {
    arb: ApiArb,
    pool: Arc<Pool>,
}

/// What a path leads to.
pub(crate) enum Route {
    Target(Arc<Target>),
    Tap(Arc<dyn Tap>),
    /// A choice that needs the users' predicates.
    Choice(Vec<(Scope, Arc<Target>)>),
    Nothing,
}

impl ApiArb {
    /// One whose APIs all stand behind these layers.
    pub(super) fn behind(layers: Layers) -> ApiArb {
        ApiArb(Arc::new(RwLock::new(Routes { layers, ..Routes::default() })))
    }

    /// Serves an API, all of it or nothing. Behind the end of the Head or the Neck it starts, and stops again at once.
    ///
    /// # Errors
    ///
    /// When another API owns one of its paths, or what it was made of is wrong; when its
    /// [start](Api::on_start) fails.
    pub fn attach(&self, api: Api) -> Result<Attached, ApiError> {
        if let Some(error) = api.bad {
            return Err(error);
        }
        let pool = Arc::new(Pool {
            namespace: api.namespace,
            lane: Lane::new(api.workers),
            bound: api.bound,
            when_full: api.when_full,
            inline: api.inline,
            layers: self.0.read().layers.around(&api.layers),
            measuring: Mutex::default(),
        });
        let measuring = api.measures.then(|| self.measure());
        let mut taps = Vec::new();
        for (path, topic) in &api.topics {
            taps.extend(topic.taps(path)?);
        }
        let handled = |path: &&Path| {
            api.entries.iter().any(|entry| entry.path == **path && matches!(entry.scope, Scope::Exact))
        };
        if let Some(path) = taps.iter().map(|(path, _)| path).find(handled) {
            return Err(ApiError::Taken { path: path.clone() });
        }
        let is_free = |routes: &Routes| {
            let entries = api.entries.iter().map(|entry| (&entry.path, &entry.scope));
            let mut paths = entries.chain(taps.iter().map(|(path, _)| (path, &Scope::Exact)));
            paths.try_for_each(|(path, scope)| match routes.owner(path, scope) {
                Some(owner) => Err(ApiError::Claimed { path: path.clone(), owner }),
                None => Ok(()),
            })
        };
        is_free(&self.0.read())?;
        // Not under the lock. Should another API take a path meanwhile, it is stopped again, behind the lock.
        let started = life::start(api.lives, &pool.namespace)?;
        let mut routes = self.0.write();
        is_free(&routes)?;
        if routes.over {
            drop(routes);
            return Ok(Attached { arb: self.clone(), pool });
        }
        routes.lives.add(&pool, started);
        for entry in api.entries {
            let target = routes.target(&entry.path, entry.handler, &pool);
            routes.insert(entry.path, entry.scope, target);
        }
        for (path, tapped) in taps {
            routes.taps.insert(path, Tapped { pool: Some(pool.clone()), ..tapped });
        }
        drop(routes);
        *pool.measuring.lock() = measuring;
        Ok(Attached { arb: self.clone(), pool })
    }

    /// Counts the handlers of this side, those that come later too.
    pub(crate) fn measure(&self) -> Measuring {
        let mut routes = self.0.write();
        let (meters, n) = routes.measured.take().unwrap_or_default();
        let retired = if n == 0 { routes.rewrap(Some(&meters)) } else { Vec::new() };
        routes.measured = Some((meters, n + 1));
        drop(routes);
        discard_all(retired);
        Measuring(Arc::downgrade(&self.0))
    }

    /// The numbers, if anybody wants them.
    pub(crate) fn meters(&self) -> Option<Arc<Meters>> {
        self.0.read().measured.as_ref().map(|(meters, _)| meters.clone())
    }

    /// The namespace of the API that owns `path` itself; `None` if none does.
    pub fn owner_of(&self, path: &str) -> Option<Path> {
        let routes = self.0.read();
        let target = routes.exact.get(path).or_else(|| routes.catch_all.get(path));
        let tapped = || routes.taps.get(path).and_then(|tapped| tapped.pool.as_ref());
        target.map(|target| &target.pool).or_else(tapped).map(|pool| pool.namespace.clone())
    }

    /// Everything that is served, in the order of the paths: also what [layers hide](crate::Layer::hides) from others.
    pub fn list(&self) -> Vec<Listed> {
        self.entries().into_iter().map(|(listed, _)| listed).collect()
    }

    /// How much there is to do for each API, in the order of their namespaces.
    pub(crate) fn depths(&self) -> Vec<QueueDepth> {
        self.pools().iter().map(|pool| pool.depth()).collect()
    }

    /// The workers of each API, in the order of their namespaces.
    pub(crate) fn pools(&self) -> Vec<Arc<Pool>> {
        let routes = self.0.read();
        let some = routes.catch_some.values().flatten().map(|(_, target)| target);
        let targets = routes.exact.values().chain(routes.catch_all.values()).chain(some);
        let mut pools: Vec<&Arc<Pool>> = targets.map(|target| &target.pool).collect();
        pools.sort_by_key(|pool| (&pool.namespace, Arc::as_ptr(pool)));
        pools.dedup_by_key(|pool| Arc::as_ptr(pool));
        pools.into_iter().cloned().collect()
    }

    /// Serves nothing any more. What was served goes without the lock.
    pub(crate) fn clear(&self) {
        let mut routes = self.0.write();
        let retired: Vec<_> = routes.exact.values().flat_map(|target| target.retire()).collect();
        let before = std::mem::replace(&mut *routes, Routes { over: true, ..Routes::default() });
        drop(routes);
        let Routes { lives, exact, catch_all, catch_some, taps, layers, .. } = before;
        discard(lives);
        discard_all(exact.into_values());
        discard_all(catch_all.into_values());
        discard_catchers(catch_some.into_values().flatten());
        discard_all(taps.into_values());
        discard(layers);
        discard_all(retired);
    }

    /// Looks at the handler of `path` itself, which stays there meanwhile.
    pub(super) fn with_exact<R>(
        &self,
        path: &Path,
        look: impl FnOnce(&Arc<Target>) -> Option<R>,
    ) -> Option<R> {
        self.0.read().exact.get(path).and_then(look)
    }

    /// Has what comes to `path` taken by what this side subscribed to.
    pub(crate) fn tap(&self, path: &Path, tapped: Tapped) {
        self.0.write().taps.insert(path.clone(), tapped);
    }

    /// Takes such taps away. They are dropped without the lock.
    pub(crate) fn untap(&self, paths: &[&Path]) {
        let mut routes = self.0.write();
        let gone: Vec<_> = paths.iter().map(|path| routes.taps.remove(*path)).collect();
        drop(routes);
        drop(gone);
    }

    /// All taps, each at least once.
    pub(crate) fn taps(&self) -> Vec<Arc<dyn Tap>> {
        self.0.read().taps.values().map(|tapped| tapped.tap.clone()).collect()
    }

    /// Where a call to `path` goes: the handler of the path, else the nearest catch-all at or above it.
    pub(crate) fn route(&self, path: &Path) -> Route {
        let routes = self.0.read();
        if let Some(target) = routes.exact.get(path) {
            return Route::Target(target.clone());
        }
        if let Some(tapped) = routes.taps.get(path) {
            return Route::Tap(tapped.tap.clone());
        }
        if routes.catch_all.is_empty() && routes.catch_some.is_empty() {
            return Route::Nothing;
        }
        routes.catcher(path.as_str())
    }
}

impl Routes {
    fn catcher(&self, path: &str) -> Route {
        let mut choice = Vec::new();
        for node in std::iter::once(path).chain(parents(path)) {
            choice.extend(self.catch_some.get(node).into_iter().flatten().cloned());
            if let Some(target) = self.catch_all.get(node) {
                if choice.is_empty() {
                    return Route::Target(target.clone());
                }
                choice.push((Scope::CatchAll, target.clone()));
                break;
            }
        }
        if choice.is_empty() { Route::Nothing } else { Route::Choice(choice) }
    }

    /// Who has what a handler of this scope at `path` would need.
    fn owner(&self, path: &Path, scope: &Scope) -> Option<Path> {
        let target = match scope {
            Scope::Exact => self.exact.get(path),
            Scope::CatchAll => self.catch_all.get(path),
            Scope::CatchSome(_) => None,
        };
        let tapped = self.taps.get(path).filter(|_| matches!(scope, Scope::Exact));
        let tapped = tapped.map(|tapped| tapped.pool.as_ref());
        match target {
            Some(target) => Some(target.pool.namespace.clone()),
            // What this side has subscribed to belongs to no API of its own.
            None => tapped.map(|pool| pool.map_or_else(Path::root, |pool| pool.namespace.clone())),
        }
    }

    /// Where `path` is to lead.
    fn target(&self, path: &Path, handler: Handler, pool: &Arc<Pool>) -> Arc<Target> {
        let handler = handler.behind(&pool.layers);
        let handler = match &self.measured {
            Some((meters, _)) => meters.wrap(path, handler),
            None => handler,
        };
        Target::new(handler, pool)
    }

    /// Has all handlers counted, or none. What comes back is to be dropped without a lock.
    fn rewrap(&mut self, meters: Option<&Arc<Meters>>) -> Vec<impl Sized + use<>> {
        let mut retired = Vec::new();
        let mut rewrap = |path: &Path, target: &mut Arc<Target>| {
            let handler = unwrapped(target.handler.clone());
            let handler = meters.map_or_else(|| handler.clone(), |meters| meters.wrap(path, handler.clone()));
            let before = std::mem::replace(target, Target::new(handler, &target.pool));
            retired.push((before.retire(), before));
        };
        let single = self.exact.iter_mut().chain(self.catch_all.iter_mut());
        single.for_each(|(path, target)| rewrap(path, target));
        for (path, catchers) in &mut self.catch_some {
            catchers.iter_mut().for_each(|(_, target)| rewrap(path, target));
        }
        retired
    }

    fn insert(&mut self, path: Path, scope: Scope, target: Arc<Target>) {
        match scope {
            Scope::Exact => drop(self.exact.insert(path, target)),
            Scope::CatchAll => drop(self.catch_all.insert(path, target)),
            Scope::CatchSome(_) => self.catch_some.entry(path).or_default().push((scope, target)),
        }
    }
}

/// Drops catch-alls, whose predicates are the user's as well.
fn discard_catchers(catchers: impl IntoIterator<Item = (Scope, Arc<Target>)>) {
    for (scope, target) in catchers {
        discard(scope);
        discard(target);
    }
}

/// Lets go of catch-alls of which none was asked, as [`Target::let_go`] does.
pub(super) fn let_go(choice: Vec<(Scope, Arc<Target>)>, link: &Link) {
    for (scope, target) in choice {
        target.let_go(link);
        if let Scope::CatchSome(predicate) = scope
            && let Some(predicate) = Arc::into_inner(predicate)
        {
            link.submit(Box::new(move || drop(predicate)));
        }
    }
}

/// Picks one of several catch-alls by their predicates, the nearest first. Runs user code.
pub(crate) fn choose(choice: Vec<(Scope, Arc<Target>)>, path: &Path) -> Result<Arc<Target>, Rejection> {
    let mut takers = Vec::new();
    for (scope, target) in choice {
        match scope {
            Scope::CatchSome(predicate) if (predicate.0)(path.as_str()) => takers.push(target),
            Scope::CatchSome(_) => {}
            _ if takers.is_empty() => takers.push(target),
            _ => {}
        }
    }
    match (takers.pop(), takers.len()) {
        (Some(target), 0) => Ok(target),
        (Some(_), others) => Err(Rejection::Ambiguous {
            path: path.clone(),
            count: u32::try_from(others + 1).unwrap_or(u32::MAX),
        }),
        (None, _) => Err(Rejection::NoHandler { path: path.clone() }),
    }
}

impl Attached {
    /// Adds a handler while the API is served.
    ///
    /// # Errors
    ///
    /// When the path has a handler already, of this API or of another, or cannot be one; or when the API
    /// is detached.
    pub fn handle<A, T, E, F>(&self, path: &str, function: F) -> Result<(), ApiError>
    where
        A: DeserializeOwned + Send + 'static,
        T: Serialize + Send + 'static,
        E: HandlerError,
        F: Fn(&Context, A) -> Result<T, E> + Send + Sync + 'static,
    {
        self.add(path, Handler::new(function))
    }

    /// The same for a handler that is one already: a deferred one, or one that was taken away.
    ///
    /// # Errors
    ///
    /// As for [`Attached::handle`].
    pub fn add(&self, path: &str, handler: Handler) -> Result<(), ApiError> {
        let path = self.full_path(path)?;
        let mut routes = self.arb.0.write();
        self.check_attached()?;
        match routes.owner(&path, &Scope::Exact) {
            Some(owner) if owner == self.pool.namespace => Err(ApiError::Taken { path }),
            Some(owner) => Err(ApiError::Claimed { path, owner }),
            None => {
                let target = routes.target(&path, handler, &self.pool);
                routes.insert(path, Scope::Exact, target);
                Ok(())
            }
        }
    }

    /// Puts another function in the place of a handler: each call runs the old one or the new one, and
    /// none is lost. Gives the old one back.
    ///
    /// # Errors
    ///
    /// When this API has no handler there.
    pub fn replace<A, T, E, F>(&self, path: &str, function: F) -> Result<Handler, ApiError>
    where
        A: DeserializeOwned + Send + 'static,
        T: Serialize + Send + 'static,
        E: HandlerError,
        F: Fn(&Context, A) -> Result<T, E> + Send + Sync + 'static,
    {
        self.replace_with(path, Handler::new(function))
    }

    /// The same for a handler that is one already.
    ///
    /// # Errors
    ///
    /// When this API has no handler there.
    pub fn replace_with(&self, path: &str, handler: Handler) -> Result<Handler, ApiError> {
        let path = self.full_path(path)?;
        let mut routes = self.arb.0.write();
        let mine = |target: &&mut Arc<Target>| Arc::ptr_eq(&target.pool, &self.pool);
        let after = routes.target(&path, handler, &self.pool);
        let Some(target) = routes.exact.get_mut(&path).filter(mine) else {
            // Before what was to come, which is the user's.
            drop(routes);
            return Err(ApiError::Missing { path });
        };
        let before = std::mem::replace(target, after);
        let retired = before.retire();
        drop(routes);
        drop(retired);
        Ok(before.without_layers())
    }

    /// Puts another function in the place of a catch-all, or adds one.
    ///
    /// # Errors
    ///
    /// When another API has the catch-all of this node, or this one is detached.
    pub fn replace_catch_all<F>(&self, node: &str, function: F) -> Result<Option<Handler>, ApiError>
    where
        F: Fn(&Context, crate::wire::Payload) -> Result<crate::wire::Payload, crate::wire::Fault>
            + Send
            + Sync
            + 'static,
    {
        let path = self.pool.namespace.join(node)?;
        let mut routes = self.arb.0.write();
        self.check_attached()?;
        if let Some(target) = routes.catch_all.get(&path)
            && !Arc::ptr_eq(&target.pool, &self.pool)
        {
            let owner = target.pool.namespace.clone();
            return Err(ApiError::Claimed { path, owner });
        }
        let target = routes.target(&path, Handler::new(function), &self.pool);
        let before = routes.catch_all.insert(path, target);
        drop(routes);
        Ok(before.map(|before| before.without_layers()))
    }

    /// Takes a handler away: later calls find none, those that wait or run go on. Gives it back.
    ///
    /// # Errors
    ///
    /// When this API has no handler there.
    pub fn remove(&self, path: &str) -> Result<Handler, ApiError> {
        let path = self.full_path(path)?;
        let mut routes = self.arb.0.write();
        match routes.exact.get(&path) {
            Some(target) if Arc::ptr_eq(&target.pool, &self.pool) => {}
            _ => return Err(ApiError::Missing { path }),
        }
        let Some(target) = routes.exact.remove(&path) else { return Err(ApiError::Missing { path }) };
        let retired = target.retire();
        drop(routes);
        drop(retired);
        Ok(target.without_layers())
    }

    /// Serves the API no longer. What waits for a worker is answered as if it had come later, without a
    /// handler; what runs goes on. Its [stop hook](Api::on_stop) runs, and is waited for. Idempotent.
    pub fn detach(&self) {
        let mine = |target: &Target| Arc::ptr_eq(&target.pool, &self.pool);
        let mut routes = self.arb.0.write();
        let gone: Vec<_> = routes.exact.extract_if(|_, target| mine(target)).collect();
        let retired: Vec<_> = gone.iter().flat_map(|(_, target)| target.retire()).collect();
        // All of it goes without the lock: what the user's functions hold may ask when it is dropped.
        let catch_all: Vec<_> = routes.catch_all.extract_if(|_, target| mine(target)).collect();
        let mut catch_some = Vec::new();
        for catchers in routes.catch_some.values_mut() {
            catch_some.extend(catchers.extract_if(.., |(_, target)| mine(target)));
        }
        routes.catch_some.retain(|_, catchers| !catchers.is_empty());
        let is_mine = |_: &Path, tapped: &mut Tapped| {
            tapped.pool.as_ref().is_some_and(|pool| Arc::ptr_eq(pool, &self.pool))
        };
        let taps: Vec<_> = routes.taps.extract_if(is_mine).collect();
        // Under the lock of the routes: whoever adds one looks there whether the lane is closed.
        let waiting = self.pool.lane.close();
        let started = routes.lives.take(&self.pool);
        drop(routes);
        let measuring = self.pool.measuring.lock().take();
        discard_all(gone);
        discard_all(catch_all);
        discard_catchers(catch_some);
        discard_all(retired);
        // Topics say goodbye when they go.
        discard_all(taps);
        discard(measuring);
        for task in waiting {
            // Arguments that panic when they go must not keep the others from their answer.
            contain(|| drop(task.refuse_as_unknown()));
        }
        drop(started);
    }

    /// Its namespace.
    pub fn namespace(&self) -> &Path {
        &self.pool.namespace
    }

    /// How many of its handlers run, and how many calls wait for a worker. Of those of an
    /// [inline](crate::Api::inline) API only the few that need a worker are counted.
    pub fn depth(&self) -> (usize, usize) {
        self.pool.lane.depth()
    }

    /// Refuses paths for an API that would never serve them, and would keep them from every other one.
    fn check_attached(&self) -> Result<(), ApiError> {
        match self.pool.lane.is_closed() {
            true => Err(ApiError::Detached { namespace: self.pool.namespace.clone() }),
            false => Ok(()),
        }
    }

    fn full_path(&self, path: &str) -> Result<Path, ApiError> {
        match self.pool.namespace.join(path)? {
            path if path.is_root() => Err(PathError::Empty.into()),
            path => Ok(path),
        }
    }
}

impl Drop for Measuring {
    fn drop(&mut self) {
        let Some(routes) = self.0.upgrade() else { return };
        let mut routes = routes.write();
        let Some((meters, n)) = routes.measured.take() else { return };
        let retired = if n > 1 {
            routes.measured = Some((meters, n - 1));
            Vec::new()
        } else {
            routes.rewrap(None)
        };
        drop(routes);
        discard_all(retired);
    }
}

impl fmt::Debug for Attached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attached").field("namespace", &self.pool.namespace).finish_non_exhaustive()
    }
}
