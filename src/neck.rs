//! The Neck: the end that was spawned, or that connects.

use std::{
    fmt,
    thread::Builder,
    time::{Duration, Instant},
};

use crate::{
    api::{Api, Endpoint, Layer, Layers, check_may_block},
    config::Config,
    error::{AddressError, ApiError, CloseReason, Result, StartError},
    link::Link,
    os::{self, Attendant},
    process::{self, Bootstrap, HeadWatch},
    socket::{self, Address, Allow, Terms},
    sync::{Arc, Weak, thread_to_be_had},
    transport::Transport,
    wire::{Side, Token},
    workers::{LAST_LINES, Until},
};

/// The end of a link that a [`Head`](crate::Head) spawned, made in the same process, or that
/// [met](Neck::connect) one.
///
/// It is not ready before [`run`](Neck::run) or [`start`](Neck::start): calls that come before wait,
/// within their timeouts, so that none finds half of the APIs. Everything an [`Endpoint`] can do, it
/// can do. Dropping it closes the link, and waits the [grace](Config::grace) for what is still under way in user code;
/// a thread that is in a callback then goes on with those of other calls that have ended.
#[must_use = "dropping it closes the link"]
pub struct Neck {
    endpoint: Endpoint,
    link: Arc<Link>,
}

/// What a [`Neck`] is made with.
#[derive(Debug, Default)]
#[must_use = "a builder does nothing until it makes a Neck"]
pub struct NeckBuilder {
    config: Config,
    apis: Vec<Api>,
    layers: Layers,
    terms: Terms,
}

impl Neck {
    /// Finds the Head that started this process. Does not block for long.
    ///
    /// From here on this process ends with its Head: when the Head is gone, calls fail, [`Neck::run`]
    /// returns, and half a second later the process exits, should it still be there.
    ///
    /// ```no_run
    /// use nape::{Api, Context, Fault, Neck};
    ///
    /// fn main() -> nape::Result<()> {
    ///     let echo = Api::new("echo").handle("text", |_: &Context, text: String| Ok::<_, Fault>(text))?;
    ///     Neck::from_env()?.serve(echo)?.run()
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`StartError::NotSpawned`] when no Head started this process, or when this was called before;
    /// [`StartError::Setup`] when one has, and it cannot be reached, or a thread cannot be started.
    pub fn from_env() -> Result<Neck> {
        Neck::builder().from_env()
    }

    /// Connects to a program that runs already and [listens](crate::Head::listen). Blocks until that has
    /// greeted.
    ///
    /// This process does not end with that one: [`Neck::run`] returns then.
    ///
    /// ```no_run
    /// use nape::Neck;
    ///
    /// let neck = Neck::connect("unix:/run/user/1000/thumbs.sock")?.start();
    /// let n: usize = neck.api("thumbs").action("count", ()).call()?;
    /// # Ok::<(), nape::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`StartError::Connect`] when nobody listens there; [`StartError::NotMet`] when whoever listens there does
    /// not fit, or takes no more peers; all of it within the [start timeout](Config::start_timeout).
    pub fn connect(address: impl TryInto<Address, Error: Into<AddressError>>) -> Result<Neck> {
        Neck::builder().connect(address)
    }

    /// A Neck with other limits than the defaults.
    pub fn builder() -> NeckBuilder {
        NeckBuilder::default()
    }

    /// Serves an API.
    ///
    /// # Errors
    ///
    /// As for [`ApiArb::attach`](crate::ApiArb::attach).
    pub fn serve(self, api: Api) -> Result<Neck, ApiError> {
        self.endpoint.attach(api)?;
        Ok(self)
    }

    /// Tells the Head that everything is attached: from now on it may call.
    pub fn start(self) -> Neck {
        self.link.say_ready();
        self
    }

    /// Tells the Head that everything is attached, and blocks until the link is over.
    ///
    /// # Errors
    ///
    /// When it ended in another way than by either side's close: the reason, as
    /// [`CallError::Closed`](crate::CallError::Closed).
    pub fn run(self) -> Result<()> {
        self.link.say_ready();
        self.wait()
    }

    /// Blocks until the link is over.
    ///
    /// # Errors
    ///
    /// As for [`Neck::run`]; [`Misuse::WouldDeadlock`](crate::Misuse::WouldDeadlock) in a state listener, an error hook or
    /// a hook of a supervisor.
    pub fn wait(&self) -> Result<()> {
        check_may_block()?;
        self.link.wait_closed(None);
        match self.link.close_reason() {
            Some(reason) if !matches!(*reason, CloseReason::Local | CloseReason::Peer) => {
                let executed = crate::error::Executed::Maybe;
                Err(crate::error::CallError::Closed { reason, executed }.into())
            }
            _ => Ok(()),
        }
    }

    /// What all handles point to. Cheap to clone; it does not keep the link alive.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Takes no new calls in either direction, waits for those under way, at most for `limit`, then
    /// closes. Says whether all had ended by themselves; a call that pauses before [another
    /// try](crate::layers::Retry) has not, and is not waited for. Blocks.
    pub fn shut_down(&self, limit: Duration) -> bool {
        self.endpoint.0.shut_down(&self.link, Instant::now().checked_add(limit))
    }

    /// Closes the link: calls under way end at once, events that wait still leave within the grace.
    /// Idempotent. Blocks for at most the [grace](Config::grace).
    pub fn close(&self) {
        self.link.close();
    }

    pub(crate) fn new(endpoint: Endpoint, link: Arc<Link>) -> Neck {
        endpoint.connect(&link);
        Neck { endpoint, link }
    }
}

impl NeckBuilder {
    /// Other limits and times than the defaults.
    pub fn config(mut self, config: Config) -> NeckBuilder {
        self.config = config;
        self
    }

    /// Changes what is set so far, such as a config that came from a file.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use nape::Neck;
    ///
    /// let builder = Neck::builder().configure(|config| config.timeout(Duration::from_secs(5)));
    /// ```
    pub fn configure(mut self, change: impl FnOnce(Config) -> Config) -> NeckBuilder {
        self.config = change(self.config);
        self
    }

    /// Serves an API from the start.
    pub fn serve(mut self, api: Api) -> NeckBuilder {
        self.apis.push(api);
        self
    }

    /// Puts a [`Layer`] around every call, event and stream of the link, on either way: what this side calls by any
    /// handle, and what it serves by any API, now or later. One layer sees both; [`LayerCall::context`] tells them
    /// apart, and [`layers::WhereServed`] and [`layers::WhereCalled`] keep one to one way.
    ///
    /// They stand next to the wire. A call passes the layers of its [handle](crate::ApiHandle::layer) first and then these
    /// ones, in the order in which they were added; one that comes passes these ones first and then those of its
    /// [API](Api::layer). Each end passes them in reverse. [The guide](crate::guide::layers) has the rest.
    ///
    /// ```
    /// use nape::{Api, Context, Fault, Head, LayerCall, Leave, Neck};
    ///
    /// let log = |call: &mut LayerCall<'_>| {
    ///     let (way, path) = (if call.context().is_some() { "served" } else { "called" }, call.path().clone());
    ///     Ok(Leave::with(move |outcome| println!("{way} {path}: {}", outcome.is_ok())))
    /// };
    /// let double = Api::new("math").handle("double", |_: &Context, n: u32| Ok::<_, Fault>(2 * n))?;
    /// let (head, neck) = Head::builder().layer(log).in_process_with(Neck::builder().layer(log).serve(double))?;
    /// let _neck = neck.start();
    /// assert_eq!(head.api("math").action("double", 4u32).call::<u32>()?, 8);
    /// # Ok::<(), nape::Error>(())
    /// ```
    ///
    /// [`LayerCall::context`]: crate::LayerCall::context
    /// [`layers::WhereServed`]: crate::layers::WhereServed
    /// [`layers::WhereCalled`]: crate::layers::WhereCalled
    pub fn layer(mut self, layer: impl Layer) -> NeckBuilder {
        self.layers.add(layer);
        self
    }

    /// Which processes may be at the other end of a Unix socket, where this side connects or listens: those of
    /// the same user, unless told otherwise.
    pub fn allow(mut self, allow: Allow) -> NeckBuilder {
        self.terms.allow = allow;
        self
    }

    /// What both sides must know, where this side connects or listens. Over TCP it is required; who listens
    /// without one makes its own.
    pub fn token(mut self, token: socket::Token) -> NeckBuilder {
        self.terms.token = Some(token);
        self
    }

    /// See [`Neck::connect`].
    ///
    /// # Errors
    ///
    /// As for [`Neck::connect`]; also when one of the APIs cannot be [attached](crate::ApiArb::attach).
    pub fn connect(self, address: impl TryInto<Address, Error: Into<AddressError>>) -> Result<Neck> {
        let terms = self.terms.clone();
        let state = "it is there, and did not greet in time";
        reach(self.endpoint()?, address, &terms, Neck::new, Link::wait_greeted, state)
    }

    /// See [`Neck::from_env`].
    ///
    /// # Errors
    ///
    /// As for [`Neck::from_env`]; also when one of the APIs cannot be [attached](crate::ApiArb::attach).
    #[allow(clippy::wrong_self_convention, reason = "it is named as the constructor for which it stands")]
    pub fn from_env(self) -> Result<Neck> {
        let endpoint = self.endpoint()?;
        let Bootstrap { transport, token, guard } = process::from_env()?;
        let link = Link::over(endpoint.link_parts(), transport, token, None, None)
            .map_err(StartError::setup("link"))?;
        // Whatever happens from here on, the Neck sees to its link.
        let neck = Neck::new(endpoint, link);
        tie_to_head(guard, &neck.link).map_err(StartError::setup("thread that watches the Head"))?;
        Ok(neck)
    }

    /// A Neck over one end of a connection; whoever has the other end is its Head.
    ///
    /// Who has not greeted within the [start timeout](Config::start_timeout) is taken for no Head: the
    /// link closes then.
    ///
    /// # Errors
    ///
    /// When one of the APIs cannot be [attached](crate::ApiArb::attach), or a thread cannot be started.
    pub fn over(self, transport: Transport) -> Result<Neck> {
        let greet_within = self.config.start_timeout;
        self.over_until(transport, Some(greet_within))
    }

    pub(crate) fn over_until(self, transport: Transport, greet_within: Option<Duration>) -> Result<Neck> {
        let endpoint = self.endpoint()?;
        let link = link_over(&endpoint, transport, greet_within)?;
        Ok(Neck::new(endpoint, link))
    }

    /// What a listener is made of.
    pub(crate) fn into_parts(self) -> (Config, Vec<Api>, Layers, Terms) {
        (self.config, self.apis, self.layers, self.terms)
    }

    pub(crate) fn endpoint(self) -> Result<Endpoint> {
        let endpoint = Endpoint::new(Side::Neck, self.config, self.layers);
        for api in self.apis {
            endpoint.attach(api)?;
        }
        Ok(endpoint)
    }
}

/// The link of either end over one end of a connection.
pub(crate) fn link_over(
    endpoint: &Endpoint,
    transport: Transport,
    greet_within: Option<Duration>,
) -> Result<Arc<Link>, StartError> {
    Link::over(endpoint.link_parts(), transport, Token::default(), None, greet_within)
        .map_err(StartError::setup("link"))
}

/// Either end, once whoever listens at the address `is_there` within the start timeout; `state` is how far it
/// had come when it was not.
pub(crate) fn reach<End>(
    endpoint: Endpoint,
    address: impl TryInto<Address, Error: Into<AddressError>>,
    terms: &Terms,
    new: fn(Endpoint, Arc<Link>) -> End,
    is_there: fn(&Link, Option<Instant>) -> bool,
    state: &'static str,
) -> Result<End> {
    let limit = endpoint.0.config.start_timeout;
    let deadline = Instant::now().checked_add(limit);
    let (address, dialed) = socket::connect(address, terms, deadline)?;
    let link = Link::over(endpoint.link_parts(), dialed.transport, dialed.tokens, None, Some(limit))
        .map_err(StartError::setup("link"))?;
    let end = new(endpoint, link.clone());
    if is_there(&link, deadline) {
        return Ok(end);
    }
    Err(socket::failed(&address, link.close_reason(), state).into())
}

/// Starts the thread that ends this process with its Head. It outlives the Neck: a process that was
/// spawned belongs to its Head to the last.
fn tie_to_head(guard: HeadWatch, link: &Arc<Link>) -> std::io::Result<()> {
    thread_to_be_had("nape-lifeline")?;
    let link = Arc::downgrade(link);
    Builder::new().name("nape-lifeline".into()).spawn(move || end_with_head(guard, link)).map(|_| ())
}

/// Runs no code of the user's, which could hold it up for good: no waker, no layer, and no logger either.
fn end_with_head(mut guard: HeadWatch, link: Weak<Link>) {
    let reason = loop {
        if let Some(reason) = guard.look() {
            break reason;
        }
        if os::wait_readable(&Attendant::descriptors(&guard), None).is_err() {
            std::thread::sleep(NEXT_LOOK);
        }
    };
    // Should there be no thread for it, whoever reads sees the end as well, or is not there to see it.
    let tell = move || link.upgrade().map_or((), |link| link.peer_died(reason));
    let _ = Builder::new().name("nape-orphan".into()).spawn(tell);
    std::thread::sleep(ORPHAN_GRACE);
    os::exit_now(1);
}

impl std::ops::Deref for Neck {
    type Target = Endpoint;

    fn deref(&self) -> &Endpoint {
        &self.endpoint
    }
}

impl Drop for Neck {
    fn drop(&mut self) {
        if self.link.is_forked() {
            // All of it is another process's: it stays as it is.
            return std::mem::forget(self.link.clone());
        }
        let until = Until::after(self.endpoint.0.config.grace);
        self.link.close();
        // That may have taken all of the grace.
        let until = until.at_least(LAST_LINES);
        self.link.join(until.left());
        self.endpoint.dismantle(until.left());
    }
}

impl fmt::Debug for Neck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Neck").field("state", &self.state()).finish_non_exhaustive()
    }
}

/// How long a process may live on without its Head, to put its house in order.
const ORPHAN_GRACE: Duration = Duration::from_millis(500);
/// How soon to look again where waiting for the end of the Head fails.
const NEXT_LOOK: Duration = Duration::from_millis(50);
