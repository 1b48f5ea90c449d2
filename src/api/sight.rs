//! What a caller may see of what is served: not what layers hide from it.

use rustc_hash::FxHashSet;

use super::{
    ApiArb, Endpoint, Handler, Listed, QueueDepth,
    about::About,
    arb::Route,
    streamed::Way,
    task::{Pool, Target},
};
use crate::{shape::Shape, sync::Arc, wire::Path};

/// One path as it is served, with what only whoever serves it knows.
pub(crate) struct ServedPath {
    pub(crate) listed: Listed,
    /// Whether it is a topic.
    pub(crate) is_topic: bool,
    pub(crate) way: Way,
    pub(crate) shape: Option<Arc<Shape>>,
}

/// The workers of an API at a moment.
pub(crate) struct PoolSeen {
    pub(crate) depth: QueueDepth,
    pub(crate) workers: usize,
    pub(crate) queue: usize,
    pub(crate) is_inline: bool,
}

impl Endpoint {
    /// The workers for what no API takes, and then those of each API.
    pub(crate) fn pools(&self) -> Vec<PoolSeen> {
        let pools = std::iter::once(self.0.rest.clone()).chain(self.arb().pools());
        let seen = |pool: Arc<Pool>| PoolSeen {
            depth: pool.depth(),
            workers: pool.lane.limit(),
            queue: pool.bound,
            is_inline: pool.inline,
        };
        pools.map(seen).collect()
    }
}

impl ApiArb {
    /// Everything that is served, in the order of the paths, with its handler if it is no topic.
    pub(super) fn entries(&self) -> Vec<(Listed, Option<Handler>)> {
        let routes = self.0.read();
        let listed = |path: &Path, target: &Target, catch_all| {
            let about = target.handler.about.unwrap_or(&About::NOTHING);
            let (path, owner) = (path.clone(), target.pool.namespace.clone());
            let (signature, doc) = (about.signature.into(), about.doc.into());
            let listed = Listed { path, owner, catch_all, signature, arguments: about.arguments(), doc };
            (listed, Some(target.handler.clone()))
        };
        let exact = routes.exact.iter().map(|(path, target)| listed(path, target, false));
        let catch_all = routes.catch_all.iter().map(|(path, target)| listed(path, target, true));
        let some = routes.catch_some.iter().flat_map(|(path, all)| all.iter().map(move |(_, t)| (path, t)));
        let some = some.map(|(path, target)| listed(path, target, true));
        let topics = routes.taps.values().filter_map(|tapped| {
            let (path, signature, doc) = tapped.listed.clone()?;
            let owner = tapped.pool.as_ref()?.namespace.clone();
            let (arguments, doc) = (Vec::new(), doc.to_owned());
            Some((Listed { path, owner, catch_all: false, signature, arguments, doc }, None))
        });
        let mut all: Vec<_> = exact.chain(catch_all).chain(some).chain(topics).collect();
        all.sort_by(|(a, _), (b, _)| a.path.cmp(&b.path));
        all
    }

    /// What of it such a caller could reach. Asks layers, which are the user's.
    pub(crate) fn seen_by(&self, local: bool) -> Vec<ServedPath> {
        let seen = |(listed, handler): (Listed, Option<Handler>)| {
            if handler.as_ref().is_some_and(|handler| handler.serve.hides(&listed.path, local)) {
                return None;
            }
            let is_topic = handler.is_none();
            let known = handler.filter(|_| !listed.catch_all).map(|handler| (handler.way, handler.shape));
            let (way, shape) = known.unwrap_or((Way::NONE, None));
            Some(ServedPath { listed, is_topic, way, shape })
        };
        self.entries().into_iter().filter_map(seen).collect()
    }

    /// Whether a call to `path` would find a handler that looks to such a caller as if it was not there.
    pub(crate) fn hides(&self, path: &Path, local: bool) -> bool {
        let handlers: Vec<_> = match self.route(path) {
            Route::Target(target) => vec![target.handler.clone()],
            Route::Choice(choice) => choice.into_iter().map(|(_, target)| target.handler.clone()).collect(),
            Route::Tap(_) | Route::Nothing => Vec::new(),
        };
        handlers.iter().any(|handler| handler.serve.hides(path, local))
    }

    /// Which paths such a caller sees. In this process those that are served no longer are no secret; to
    /// others nobody could say whether they have been.
    pub(crate) fn paths_seen_by(&self, local: bool) -> impl Fn(&Path) -> bool + use<> {
        let seen = (!local).then(|| self.seen_by(local).into_iter().map(|served| served.listed.path));
        let seen: Option<FxHashSet<Path>> = seen.map(Iterator::collect);
        move |path| seen.as_ref().is_none_or(|seen| seen.contains(path))
    }

    /// Which APIs such a caller sees: all but those of which each path is hidden.
    pub(crate) fn owners_seen_by(&self, local: bool) -> impl Fn(&Path) -> bool + use<> {
        let mut hidden: FxHashSet<Path> =
            self.entries().into_iter().map(|(listed, _)| listed.owner).collect();
        for served in self.seen_by(local) {
            hidden.remove(&served.listed.owner);
        }
        move |owner| !hidden.contains(owner)
    }
}
