//! The Head: the end that spawns, owns or accepts.

mod outlet;
mod spawned;

use std::{
    fmt,
    process::{ChildStdin, ChildStdout, Command},
    time::{Duration, Instant},
};

pub(crate) use outlet::{OnOutput, Outlet};
pub(crate) use spawned::Spawned;

use crate::{
    api::{Api, Endpoint, Layer, Layers},
    config::Config,
    error::{AddressError, Result, StartError},
    link::Link,
    neck::{Neck, NeckBuilder, link_over, reach},
    process::{LaunchOptions, OutputLine, Program, Stderr, Wire},
    socket::{self, Address, Allow, Terms},
    sync::Arc,
    transport::{Transport, memory_pair},
    wire::Side,
    workers::{LAST_LINES, Until},
};

/// The end of a link that spawned the other, made it in the same process, or [met](Head::connect) it.
///
/// It owns the link, and the child if there is one; everything else that it hands out is a reference,
/// and its calls end with [`CallError::Closed`](crate::CallError::Closed) once it is gone. Everything an
/// [`Endpoint`] can do, it can do.
///
/// Dropping it says goodbye, waits the [grace](Config::grace) for what is still under way in user code
/// and for the child to end by itself, kills the child if it has not, and reaps it. Nothing is left but
/// threads that are still inside user code when the grace ends; one that is in a callback then goes on with those of
/// other calls that have ended.
#[must_use = "dropping it closes the link, and ends the child"]
pub struct Head {
    endpoint: Endpoint,
    link: Arc<Link>,
    child: Option<Spawned>,
    /// Takes what the child writes.
    outlet: Option<Outlet>,
}

/// What a [`Head`] is made with.
#[derive(Debug, Default)]
#[must_use = "a builder does nothing until it makes a Head"]
pub struct HeadBuilder {
    pub(crate) config: Config,
    apis: Vec<Api>,
    layers: Layers,
    inherits_stderr: bool,
    own_group: bool,
    pub(crate) on_output: Option<OnOutput>,
    wire: Wire,
    terms: Terms,
}

impl Head {
    /// Starts a program that is a [`Neck`] and blocks until it is ready.
    ///
    /// The child ends with this process, whatever happens. Its stderr goes through this side to our own
    /// stderr, so that errors can quote it.
    ///
    /// # Errors
    ///
    /// [`StartError`] says what went wrong: the program is missing, ended early, is none of ours, or was
    /// not ready within the [start timeout](Config::start_timeout). Nothing is left behind then.
    pub fn spawn(command: Command) -> Result<Head> {
        Head::builder().spawn(command)
    }

    /// Both ends within this process. Values move from one to the other; nothing is encoded.
    ///
    /// Calls wait, within their timeouts, until the Neck [starts](Neck::start) or [runs](Neck::run).
    ///
    /// ```
    /// use nape::{Api, Context, Fault, Head};
    ///
    /// let (head, neck) = Head::in_process()?;
    /// let words = Api::new("words").handle("count", |_: &Context, text: String| {
    ///     Ok::<_, Fault>(text.split_whitespace().count())
    /// })?;
    /// let neck = neck.serve(words)?.start();
    ///
    /// let n: usize = head.api("words").action("count", "to be or not".to_owned()).call()?;
    /// assert_eq!(n, 4);
    /// # Ok::<(), nape::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// None today; a thread or a descriptor may be needed some day.
    pub fn in_process() -> Result<(Head, Neck)> {
        Head::builder().in_process()
    }

    /// Connects to a program that runs already and [listens](crate::Neck::listen), and blocks until it is
    /// ready.
    ///
    /// ```no_run
    /// use nape::Head;
    ///
    /// let head = Head::connect("unix:/run/user/1000/thumbs.sock")?;
    /// let n: usize = head.api("thumbs").action("count", ()).call()?;
    /// # Ok::<(), nape::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`StartError::Connect`] when nobody listens there; [`StartError::NotMet`] when whoever listens there does
    /// not fit, or takes no more peers; all of it within the [start timeout](Config::start_timeout).
    pub fn connect(address: impl TryInto<Address, Error: Into<AddressError>>) -> Result<Head> {
        Head::builder().connect(address)
    }

    /// A Head with other limits, or one that serves.
    pub fn builder() -> HeadBuilder {
        HeadBuilder::default()
    }

    /// The number of the child's process; `None` in process.
    pub fn child_id(&self) -> Option<u32> {
        self.child.as_ref().map(Spawned::pid)
    }

    /// The way into the child's stdin, once, where the command has it piped. The link never uses it.
    pub fn take_stdin(&mut self) -> Option<ChildStdin> {
        self.child.as_mut()?.take_stdin()
    }

    /// The way out of the child's stdout, once, where the command has it piped. The link never uses it.
    pub fn take_stdout(&mut self) -> Option<ChildStdout> {
        self.child.as_mut()?.take_stdout()
    }

    /// Ends the child at once. Calls under way end with its death. One that has ended is fine.
    pub fn kill(&self) {
        self.child.iter().for_each(Spawned::kill);
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

    fn new(endpoint: Endpoint, link: Arc<Link>) -> Head {
        endpoint.connect(&link);
        link.say_ready();
        Head { endpoint, link, child: None, outlet: None }
    }
}

impl HeadBuilder {
    /// Other limits and times than the defaults.
    pub fn config(mut self, config: Config) -> HeadBuilder {
        self.config = config;
        self
    }

    /// Changes what is set so far, such as a config that came from a file.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use nape::Head;
    ///
    /// let builder = Head::builder().configure(|config| config.timeout(Duration::from_secs(5)));
    /// ```
    pub fn configure(mut self, change: impl FnOnce(Config) -> Config) -> HeadBuilder {
        self.config = change(self.config);
        self
    }

    /// Serves an API to the Neck from the start.
    pub fn serve(mut self, api: Api) -> HeadBuilder {
        self.apis.push(api);
        self
    }

    /// Leaves the child's stderr as the command has it. Errors then cannot quote its last words.
    pub fn inherit_stderr(mut self) -> HeadBuilder {
        self.inherits_stderr = true;
        self
    }

    /// Starts the child in a process group of its own, and kills what is left of that group when the child has ended:
    /// whatever it has started and left behind.
    ///
    /// So it is however the child ends, also when it never becomes ready. Without this, which is the default, what a
    /// child starts is its own affair. Three things stay as they are: nobody is left to kill anything when this
    /// process itself is killed; who makes a group of its own, as a daemon does, has left this one; and a group of
    /// its own does not hear of Ctrl-C in a terminal. It does nothing on Windows, which has no such groups.
    ///
    /// ```no_run
    /// use std::process::Command;
    ///
    /// use nape::Head;
    ///
    /// // What the shell runs in the background ends with the shell.
    /// let head = Head::builder().own_group().spawn(Command::new("worker.sh"))?;
    /// # Ok::<(), nape::Error>(())
    /// ```
    pub fn own_group(mut self) -> HeadBuilder {
        self.own_group = true;
        self
    }

    /// Takes the child's stdout and stderr line by line, instead of passing its stderr on: `hook` gets each
    /// line with the name of the program.
    ///
    /// It runs on a thread of its own, one line at a time, and may take its time: the child never waits for
    /// it. At most 1,024 lines and 256 KiB wait; then the oldest are lost, and [`OutputLine::lost`] says how
    /// many; so are those that still wait when a drop has waited its [grace](Config::grace). A panic of the hook is
    /// counted. Errors quote the child's last words as ever.
    ///
    /// ```no_run
    /// use std::process::Command;
    ///
    /// use nape::Head;
    ///
    /// let head = Head::builder()
    ///     .on_output(|line| println!("{} [{}]: {}", line.program, line.pid, line.text))
    ///     .spawn(Command::new("decoder"))?;
    /// # Ok::<(), nape::Error>(())
    /// ```
    pub fn on_output(mut self, hook: impl Fn(&OutputLine) + Send + Sync + 'static) -> HeadBuilder {
        self.on_output = Some(OnOutput::new(hook));
        self
    }

    /// What to talk to a child over; [`Wire::Ipc`] unless told otherwise.
    ///
    /// ```no_run
    /// use std::process::Command;
    ///
    /// use nape::{Head, Wire};
    ///
    /// let head = Head::builder().wire(Wire::Pipe).spawn(Command::new("decoder"))?;
    /// # Ok::<(), nape::Error>(())
    /// ```
    pub fn wire(mut self, wire: Wire) -> HeadBuilder {
        self.wire = wire;
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
    pub fn layer(mut self, layer: impl Layer) -> HeadBuilder {
        self.layers.add(layer);
        self
    }

    /// Which processes may be at the other end of a Unix socket, where this side connects or listens: those of
    /// the same user, unless told otherwise.
    pub fn allow(mut self, allow: Allow) -> HeadBuilder {
        self.terms.allow = allow;
        self
    }

    /// What both sides must know, where this side connects or listens. Over TCP it is required; who listens
    /// without one makes its own.
    pub fn token(mut self, token: socket::Token) -> HeadBuilder {
        self.terms.token = Some(token);
        self
    }

    /// See [`Head::connect`].
    ///
    /// # Errors
    ///
    /// As for [`Head::connect`]; also when one of the APIs cannot be [attached](crate::ApiArb::attach).
    pub fn connect(self, address: impl TryInto<Address, Error: Into<AddressError>>) -> Result<Head> {
        let terms = self.terms.clone();
        let state = "it is there, and was not ready in time: does it run or start its Neck?";
        reach(self.endpoint()?, address, &terms, Head::new, Link::wait_peer_ready, state)
    }

    /// See [`Head::spawn`].
    ///
    /// # Errors
    ///
    /// As for [`Head::spawn`]; also when one of the APIs cannot be [attached](crate::ApiArb::attach).
    pub fn spawn(mut self, command: Command) -> Result<Head> {
        let (limit, on_output) = (self.config.start_timeout, self.on_output.take());
        let mut options = self.launch_options();
        let endpoint = self.endpoint()?;
        let outlet = on_output.map(|hook| Outlet::start(&endpoint, hook)).transpose();
        let outlet = outlet.map_err(StartError::setup("thread for the output"))?;
        outlet.iter().for_each(|outlet| options.stderr = Stderr::Lines(outlet.lines().clone()));
        let deadline = Instant::now().checked_add(limit);
        let child = Spawned::start(&endpoint, &mut Program::new(command), options)?;
        let mut head = Head::new(endpoint, child.link.clone());
        head.outlet = outlet;
        // From here on, whatever happens, the Head sees to what it has.
        head.child.insert(child).await_ready(deadline, limit)?;
        Ok(head)
    }

    pub(crate) fn launch_options(&self) -> LaunchOptions {
        let stderr = if self.inherits_stderr { Stderr::Inherit } else { Stderr::PassOn };
        LaunchOptions {
            start_timeout: self.config.start_timeout,
            stderr,
            own_group: self.own_group,
            wire: self.wire,
            abort: None,
        }
    }

    /// See [`Head::in_process`].
    ///
    /// # Errors
    ///
    /// When one of the APIs cannot be [attached](crate::ApiArb::attach).
    pub fn in_process(self) -> Result<(Head, Neck)> {
        self.in_process_with(Neck::builder())
    }

    /// Both ends within this process, the other one made with `neck`.
    ///
    /// # Errors
    ///
    /// When one of the APIs of one end cannot be [attached](crate::ApiArb::attach).
    pub fn in_process_with(self, neck: NeckBuilder) -> Result<(Head, Neck)> {
        let (ours, theirs) = (self.endpoint()?, neck.endpoint()?);
        let (head, neck) = Link::direct(ours.link_parts(), theirs.link_parts());
        Ok((Head::new(ours, head), Neck::new(theirs, neck)))
    }

    /// The same, with everything encoded as between processes: what works so works everywhere.
    ///
    /// # Errors
    ///
    /// When one of the APIs of one end cannot be [attached](crate::ApiArb::attach), or a thread cannot be started.
    pub fn in_process_encoded(self, neck: NeckBuilder) -> Result<(Head, Neck)> {
        let (ours, theirs) = memory_pair();
        Ok((self.over_until(ours, None)?, neck.over_until(theirs, None)?))
    }

    /// A Head over one end of a connection; whoever has the other end is its Neck. Does not wait for it.
    ///
    /// Who has not greeted within the [start timeout](Config::start_timeout) is taken for no Neck: the
    /// link closes then.
    ///
    /// # Errors
    ///
    /// When one of the APIs cannot be [attached](crate::ApiArb::attach), or a thread cannot be started.
    pub fn over(self, transport: Transport) -> Result<Head> {
        let greet_within = self.config.start_timeout;
        self.over_until(transport, Some(greet_within))
    }

    fn over_until(self, transport: Transport, greet_within: Option<Duration>) -> Result<Head> {
        let endpoint = self.endpoint()?;
        let link = link_over(&endpoint, transport, greet_within)?;
        Ok(Head::new(endpoint, link))
    }

    /// What a listener is made of.
    pub(crate) fn into_parts(self) -> (Config, Vec<Api>, Layers, Terms) {
        (self.config, self.apis, self.layers, self.terms)
    }

    pub(crate) fn endpoint(self) -> Result<Endpoint> {
        let endpoint = Endpoint::new(Side::Head, self.config, self.layers);
        for api in self.apis {
            endpoint.attach(api)?;
        }
        Ok(endpoint)
    }
}

impl std::ops::Deref for Head {
    type Target = Endpoint;

    fn deref(&self) -> &Endpoint {
        &self.endpoint
    }
}

impl Drop for Head {
    fn drop(&mut self) {
        if self.link.is_forked() {
            // All of it is another process's: it stays as it is.
            return std::mem::forget((self.link.clone(), self.outlet.take()));
        }
        let until = Until::after(self.endpoint.0.config.grace);
        self.link.close();
        match &self.child {
            Some(child) => drop(child.farewell(until.left())),
            None => drop(self.link.release_attendant()),
        }
        self.outlet.iter().for_each(Outlet::close);
        // The child may have taken all of the grace. Threads that are in no code of the user's end all the same.
        let until = until.at_least(LAST_LINES);
        self.link.join(until.left());
        self.outlet.iter_mut().for_each(|outlet| outlet.end(until.left()));
        self.endpoint.dismantle(until.left());
    }
}

impl fmt::Debug for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Head").field("state", &self.state()).field("child", &self.child_id()).finish()
    }
}
