//! What a program tells of itself to whoever is on the other side of a link, if it wants to: an API like any other.
//!
//! Knows the sides that it is to tell of; adds nothing to a side that nobody inspects.

mod client;
mod tail;
mod types;

use std::time::Duration;

pub use client::Inspector;
pub use types::{
    ArgumentInfo, Caller, EventArguments, InFlight, LinkCounters, MethodNumbers, NotServed, PathInfo,
    PathKind, PoolInfo, Running, Stage, TailedEvent, Version,
};

use crate::{
    api::{
        About, Api, Context, Endpoint, HangReport, Measuring, Progress, RunningHandler, ServedPath,
        WaitingCaller, WeakEndpoint,
    },
    sync::{Arc, Mutex},
    typed::private::Serving,
    wire::{Fault, PROTOCOL_VERSIONS, Path, parents},
};
use tail::{Sight, Tailing};

/// Tells whoever is on the other side of a link what is served here, who waits for what, and how much there is to do:
/// the API `nape`, to be served like any other. [`Inspector`] asks for it, and so does any client that speaks
/// [JSON](crate::Codec::Json). [The guide](crate::guide::inspection) has all of its methods.
///
/// It tells of the link that it is served on, and of other ones of the program that it [watches](Inspection::watch).
/// Cheap to clone; every clone is the same one.
///
/// While it is served or watches, the handlers of those links are counted and timed: that costs each call two looks
/// at the clock and a few counters. A link without it pays nothing. Its own calls are answered by
/// whoever reads for the link, so that they do not wait behind a pool that is busy.
///
/// ```
/// use nape::{Api, Context, Fault, Head, Inspection, Inspector};
///
/// let (head, neck) = Head::in_process()?;
/// let secret = |_: &Context, ()| Ok::<_, Fault>(());
/// let neck = neck.serve(Api::new("admin").handle("secret", secret)?)?;
/// let _neck = neck.serve(Inspection::new().hide("admin").into_api())?.start();
///
/// let version = Inspector::on(&head).version().call()?;
/// assert_eq!(version.pid, std::process::id());
/// assert!(Inspector::on(&head).describe("admin.secret").call().is_err(), "it is hidden");
/// # Ok::<(), nape::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Inspection(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    watched: Mutex<Vec<Watched>>,
    hidden: Mutex<Vec<String>>,
}

#[derive(Debug)]
struct Watched {
    name: String,
    endpoint: WeakEndpoint,
    _measuring: Measuring,
}

/// One link and its name.
type Link = (String, Endpoint);

impl Inspection {
    /// Of the links alone that it will be served on.
    pub fn new() -> Inspection {
        Inspection::default()
    }

    /// Tells of this link, too, under a name: that of a Head to its child, or another one of the program. An end of a
    /// link that is gone is told of no more. A name that is taken goes to this one.
    ///
    /// Whoever may call the API `nape` learns of it. A link that one peer is at the other end of need not be the
    /// business of another peer.
    ///
    /// ```
    /// use nape::{Head, Inspection, Inspector};
    ///
    /// let (worker, _far) = Head::in_process()?;
    /// let inspection = Inspection::new();
    /// inspection.watch("worker", &worker);
    ///
    /// let (head, neck) = Head::in_process()?;
    /// let _neck = neck.serve(inspection.into_api())?.start();
    /// let links: Vec<_> = Inspector::on(&head).in_flight().call()?.into_iter().map(|it| it.link).collect();
    /// assert_eq!(links, ["", "worker"]);
    /// # Ok::<(), nape::Error>(())
    /// ```
    pub fn watch(&self, name: &str, endpoint: &Endpoint) {
        let watched = Watched {
            name: name.to_owned(),
            endpoint: endpoint.downgrade(),
            _measuring: endpoint.arb().measure(),
        };
        let gone = {
            let mut all = self.0.watched.lock();
            let gone: Vec<_> = all.extract_if(.., |other| other.name == name || other.is_gone()).collect();
            all.push(watched);
            gone
        };
        // Without the lock: it unwraps handlers.
        drop(gone);
    }

    /// Tells no more of the link of this name.
    pub fn unwatch(&self, name: &str) {
        let gone: Vec<_> = self.0.watched.lock().extract_if(.., |other| other.name == name).collect();
        drop(gone);
    }

    /// Tells nothing of what is served at `path` and below it, on any link: it is not listed, described, counted by
    /// path or tailed, and calls to it are left out of those in flight. Whether it may be called is another matter:
    /// what may not be because a [layer hides it](crate::Layer::hides) from other processes is not told to them
    /// anyway.
    pub fn hide(self, path: &str) -> Inspection {
        self.0.hidden.lock().push(path.to_owned());
        self
    }

    /// The API `nape`, for one link: to be served like any other, as often as there are links.
    ///
    /// Up to eight [tails](Inspector::tail) at a time have a worker each, and one more ends with a fault: so there
    /// is always a worker left for calls that whoever reads for the link cannot answer.
    #[must_use = "an API does nothing until it is served"]
    pub fn into_api(self) -> Api {
        let mut api = Api::new(NAMESPACE).inline().workers(TAILS + 4);
        api.measures = true;
        let mut serving = Serving::new(&mut api);
        let this = self.clone();
        serving.method(&about::LIST, move |cx: &Context, (): ()| Ok::<_, Fault>(this.list(cx)));
        let this = self.clone();
        serving.method(&about::DESCRIBE, move |cx: &Context, path: String| this.describe(cx, path));
        let this = self.clone();
        serving.method(&about::COUNTERS, move |cx: &Context, (): ()| Ok::<_, Fault>(this.counters(cx)));
        let this = self.clone();
        serving.method(&about::IN_FLIGHT, move |cx: &Context, (): ()| Ok::<_, Fault>(this.in_flight(cx)));
        let this = self.clone();
        serving.method(&about::POOLS, move |cx: &Context, (): ()| Ok::<_, Fault>(this.pools(cx)));
        let this = self.clone();
        serving.method(&about::METHODS, move |cx: &Context, (): ()| Ok::<_, Fault>(this.methods(cx)));
        serving.method(&about::VERSION, move |cx: &Context, (): ()| Ok::<_, Fault>(version(cx)));
        let (this, tails) = (self.clone(), Arc::new(()));
        serving.stream(&about::TAIL, move |cx: &Context, prefix: String| this.tail(cx, prefix, &tails));
        api
    }

    /// The link that was asked over, and those that are watched.
    fn links(&self, cx: &Context) -> Vec<Link> {
        let watched = self.0.watched.lock();
        let watched = watched.iter().filter_map(|it| Some((it.name.clone(), it.endpoint.upgrade()?)));
        std::iter::once((String::new(), cx.endpoint())).chain(watched).collect()
    }

    fn shows(&self, path: &str) -> bool {
        !self.0.hidden.lock().iter().any(|hidden| is_below(path, hidden))
    }

    fn list(&self, cx: &Context) -> Vec<PathInfo> {
        self.links(cx).iter().flat_map(|link| self.list_of(link, is_local(cx))).collect()
    }

    fn list_of(&self, (link, endpoint): &Link, local: bool) -> Vec<PathInfo> {
        let seen = endpoint.arb().seen_by(local).into_iter();
        let shown = seen.filter(|served| self.shows(served.listed.path.as_str()));
        shown.map(|served| path_info(link, served)).collect()
    }

    fn describe(&self, cx: &Context, path: String) -> Result<PathInfo, NotServed> {
        if !is_path(&path) {
            // Enough of it to know it by.
            return Err(NotServed { path: path.chars().take(Path::MAX_LEN).collect() });
        }
        let found = |link: &Link| self.described(link, &path, is_local(cx));
        self.links(cx).iter().find_map(found).ok_or(NotServed { path })
    }

    fn described(&self, link: &Link, path: &str, local: bool) -> Option<PathInfo> {
        // A catch-all that takes others may hide this one.
        let is_hidden = |path: Path| link.1.arb().hides(&path, local);
        if !self.shows(path) || Path::root().join(path).is_ok_and(is_hidden) {
            return None;
        }
        let all = self.list_of(link, local);
        let at = |node: &str, is_catch_all: bool| {
            let fits = |info: &&PathInfo| (info.kind == PathKind::CatchAll) == is_catch_all;
            all.iter().filter(fits).find(|info| info.path == node)
        };
        let mut nodes = std::iter::once(path).chain(parents(path));
        at(path, false).or_else(|| nodes.find_map(|node| at(node, true))).cloned()
    }

    fn counters(&self, cx: &Context) -> Vec<LinkCounters> {
        let of_link = |(link, endpoint): Link| {
            let counters = endpoint.counters().iter().map(|(name, n)| (name.to_owned(), n)).collect();
            LinkCounters { link, counters }
        };
        self.links(cx).into_iter().map(of_link).collect()
    }

    fn in_flight(&self, cx: &Context) -> Vec<InFlight> {
        let of_link = |(link, endpoint): Link| {
            let mut report = endpoint.hang_report();
            let (arb, local) = (endpoint.arb(), is_local(cx));
            report.handlers.retain(|handler| !arb.hides(&handler.path, local));
            self.in_flight_of(link, report)
        };
        self.links(cx).into_iter().map(of_link).collect()
    }

    fn in_flight_of(&self, link: String, report: HangReport) -> InFlight {
        let callers = report.callers.into_iter().map(caller);
        let handlers = report.handlers.into_iter().map(running);
        InFlight {
            link,
            side: lower(report.side),
            state: lower(report.state),
            generation: report.generation,
            threads: report.n_threads as u64,
            callers: callers.filter(|caller| self.shows(&caller.path)).collect(),
            handlers: handlers.filter(|running| self.shows(&running.path)).collect(),
            messages_to_send: report.messages_to_send as u64,
            bytes_to_send: report.bytes_to_send as u64,
            answers_to_send: report.answers_to_send as u64,
            is_stuck: report.is_stuck,
        }
    }

    fn pools(&self, cx: &Context) -> Vec<PoolInfo> {
        let of_link = |(link, endpoint): Link| {
            let pool = |pool: crate::api::PoolSeen| PoolInfo {
                link: link.clone(),
                namespace: text(&pool.depth.namespace),
                workers: pool.workers as u64,
                running: pool.depth.running as u64,
                waiting: pool.depth.waiting as u64,
                queue: pool.queue as u64,
                is_inline: pool.is_inline,
            };
            let is_seen = endpoint.arb().owners_seen_by(is_local(cx));
            let seen = endpoint.pools().into_iter().filter(|pool| is_seen(&pool.depth.namespace));
            seen.map(pool).filter(|pool| self.shows(&pool.namespace)).collect::<Vec<_>>()
        };
        self.links(cx).into_iter().flat_map(of_link).collect()
    }

    fn methods(&self, cx: &Context) -> Vec<MethodNumbers> {
        let of_link = |(link, endpoint): Link| {
            let numbers = endpoint.arb().meters().map(|meters| meters.read()).unwrap_or_default();
            let is_seen = endpoint.arb().paths_seen_by(is_local(cx));
            let shown = numbers.into_iter().filter(|(path, _)| self.shows(path.as_str()) && is_seen(path));
            let method = |(path, reading): (Path, crate::api::Reading)| MethodNumbers {
                link: link.clone(),
                path: text(&path),
                calls: reading.calls,
                events: reading.events,
                running: reading.running,
                faults: reading.faults,
                rejections: reading.rejections,
                p50_ns: nanos(reading.half),
                p99_ns: nanos(reading.p99),
                longest_ns: nanos(reading.longest),
            };
            shown.map(method).collect::<Vec<_>>()
        };
        self.links(cx).into_iter().flat_map(of_link).collect()
    }

    fn tail(&self, cx: &Context, prefix: String, tails: &Arc<()>) -> Result<Tailing, Fault> {
        if !is_path(&prefix) {
            return Err(Fault::new("nothing is at or below what is no path"));
        }
        let place = tails.clone();
        // The handler has one, too.
        if Arc::strong_count(tails) > TAILS + 1 {
            return Err(Fault::new(format!("{TAILS} tails are open already")));
        }
        let meters = |(link, endpoint): Link| Some((link, endpoint.arb().meters()?));
        let links = self.links(cx).into_iter().filter_map(meters).collect();
        let sight = Sight { prefix, hidden: self.0.hidden.lock().clone(), local: is_local(cx) };
        Ok(Tailing::new(sight, links, cx.cancel_token().clone(), place))
    }
}

impl Watched {
    fn is_gone(&self) -> bool {
        self.endpoint.is_gone()
    }
}

/// Whether what layers hide from others is no secret to whoever asks: it could call it over the links of this process.
fn is_local(cx: &Context) -> bool {
    cx.link().is_near()
}

fn version(cx: &Context) -> Version {
    let program = std::env::args_os().next().map(|program| program.to_string_lossy().into_owned());
    Version {
        library: env!("CARGO_PKG_VERSION").to_owned(),
        protocols: PROTOCOL_VERSIONS,
        codec: cx.codec().to_string(),
        side: lower(cx.peer().other()),
        pid: std::process::id(),
        program: program.unwrap_or_default(),
    }
}

fn path_info(link: &str, served: ServedPath) -> PathInfo {
    let kind = match served.way.ends() {
        _ if served.listed.catch_all => PathKind::CatchAll,
        _ if served.is_topic => PathKind::Topic,
        (false, true) => PathKind::Stream,
        (true, false) => PathKind::Upload,
        (true, true) => PathKind::Duplex,
        (false, false) if served.listed.signature.starts_with("#[event]") => PathKind::Event,
        (false, false) => PathKind::Call,
    };
    let arguments = served.listed.arguments.into_iter();
    PathInfo {
        link: link.to_owned(),
        path: text(&served.listed.path),
        owner: text(&served.listed.owner),
        kind,
        signature: served.listed.signature,
        arguments: arguments.map(|it| ArgumentInfo { name: it.name, type_name: it.type_name }).collect(),
        doc: served.listed.doc,
        shape: served.shape.map(|shape| shape.text.clone()).unwrap_or_default(),
    }
}

fn caller(caller: WaitingCaller) -> Caller {
    Caller {
        id: caller.transaction.map(|id| id.counter()),
        path: text(&caller.path),
        age_us: micros(caller.age),
        remaining_us: caller.remaining.map(micros),
        sent: caller.sent,
        thread: caller.thread,
        is_stream: caller.is_stream,
    }
}

fn running(handler: RunningHandler) -> Running {
    let (stage, thread) = match handler.progress {
        Progress::Queued => (Stage::Queued, None),
        Progress::Running(thread) => (Stage::Running, thread),
        Progress::Deferred => (Stage::Deferred, None),
    };
    Running {
        id: handler.transaction.map(|id| id.counter()),
        path: text(&handler.path),
        age_us: micros(handler.age),
        stage,
        thread,
        given_up: handler.given_up,
    }
}

/// Whether something may be served there: it is a path, or the root. A peer may ask for anything.
fn is_path(path: &str) -> bool {
    path.is_empty() || Path::new(path).is_ok()
}

/// Whether `path` is `node` or lies below it; everything lies below the root.
fn is_below(path: &str, node: &str) -> bool {
    path.strip_prefix(node).is_some_and(|rest| node.is_empty() || rest.is_empty() || rest.starts_with('.'))
}

/// A path as it is called; the root is empty.
fn text(path: &Path) -> String {
    path.as_str().to_owned()
}

fn lower(name: impl std::fmt::Debug) -> String {
    format!("{name:?}").to_lowercase()
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Where it is served.
const NAMESPACE: &str = "nape";
/// How many tails may last at a time.
const TAILS: usize = 8;

/// How its own methods are declared.
mod about {
    use super::About;

    macro_rules! about {
        ($($name:ident $path:literal ($($argument:literal)?) $signature:literal $doc:literal)*) => {
            $(pub(super) static $name: About = About {
                path: $path,
                signature: $signature,
                arguments: &[$(($argument, "String"))?],
                values: <[&str]>::len(&[$($argument)?]),
                doc: $doc,
            };)*
        };
    }

    about! {
        LIST "list" () "fn list() -> Vec<PathInfo>" "Everything that is served."
        DESCRIBE "describe" ("path") "fn describe(path: String) -> Result<PathInfo, NotServed>"
            "What would take a call to a path."
        COUNTERS "counters" () "fn counters() -> Vec<LinkCounters>" "What was counted."
        IN_FLIGHT "in_flight" () "fn in_flight() -> Vec<InFlight>" "Who waits for what, and for how long."
        POOLS "pools" () "fn pools() -> Vec<PoolInfo>" "The workers of each API."
        METHODS "methods" () "fn methods() -> Vec<MethodNumbers>" "The numbers of each path."
        VERSION "version" () "fn version() -> Version" "Which program it is."
        TAIL "tail" ("prefix")
            "#[stream] fn tail(prefix: String) -> impl Iterator<Item = Result<TailedEvent, Fault>>"
            "The events that come from now on to a path and below it."
    }
}
