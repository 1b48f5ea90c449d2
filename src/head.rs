//! The Head: the end that spawns, owns or accepts.

use std::{
    fmt,
    os::fd::OwnedFd,
    process::{ChildStdin, ChildStdout, Command},
    time::{Duration, Instant},
};

use crate::{
    api::{Api, Endpoint},
    config::Config,
    error::{CloseReason, Death, Error, Result, StartError},
    link::{Link, LinkState},
    neck::{Neck, NeckBuilder},
    process::{self, Launch, LaunchOptions, Process, Stderr, Wire},
    sync::Arc,
    transport::{Transport, memory_pair},
    wire::{Side, Token},
};

/// The end of a link that spawned the other, or made it in the same process.
///
/// It owns the link, and the child if there is one; everything else that it hands out is a reference,
/// and its calls end with [`CallError::Closed`](crate::CallError::Closed) once it is gone. Everything an
/// [`Endpoint`] can do, it can do.
///
/// Dropping it says goodbye, waits the [grace](Config::grace) for what is still under way in user code
/// and for the child to end by itself, kills the child if it has not, and reaps it. Nothing is left but
/// threads that are still inside user code when the grace ends.
pub struct Head {
    endpoint: Endpoint,
    link: Arc<Link>,
    child: Option<Child>,
}

/// A process that was spawned.
struct Child {
    process: Arc<Process>,
    program: Arc<str>,
    stdin: Option<ChildStdin>,
    stdout: Option<ChildStdout>,
    /// The child takes the end of this for ours.
    _lifeline: OwnedFd,
}

/// What a [`Head`] is made with.
#[derive(Debug, Default)]
#[must_use = "a builder does nothing until it makes a Head"]
pub struct HeadBuilder {
    config: Config,
    apis: Vec<Api>,
    inherits_stderr: bool,
    wire: Wire,
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

    /// A Head with other limits, or one that serves.
    pub fn builder() -> HeadBuilder {
        HeadBuilder::default()
    }

    /// The number of the child's process; `None` in process.
    pub fn child_id(&self) -> Option<u32> {
        self.child.as_ref().map(|child| child.process.pid())
    }

    /// The way into the child's stdin, once, where the command has it piped. The link never uses it.
    pub fn take_stdin(&mut self) -> Option<ChildStdin> {
        self.child.as_mut()?.stdin.take()
    }

    /// The way out of the child's stdout, once, where the command has it piped. The link never uses it.
    pub fn take_stdout(&mut self) -> Option<ChildStdout> {
        self.child.as_mut()?.stdout.take()
    }

    /// Ends the child at once. Calls under way end with its death. One that has ended is fine.
    pub fn kill(&self) {
        if let Some(child) = &self.child
            && let Err(error) = child.process.kill()
        {
            log::warn!("cannot kill {}: {error}", child.program);
        }
    }

    /// What all handles point to. Cheap to clone; it does not keep the link alive.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Takes no new calls in either direction, waits for those under way, at most for `limit`, then
    /// closes. Says whether all had ended. Blocks.
    pub fn shut_down(&self, limit: Duration) -> bool {
        self.link.shut_down(Instant::now().checked_add(limit))
    }

    /// Closes the link: calls under way end at once, events that wait still leave within the grace.
    /// Idempotent. Blocks for at most the [grace](Config::grace).
    pub fn close(&self) {
        self.link.close();
    }

    fn new(endpoint: Endpoint, link: Arc<Link>, child: Option<Child>) -> Head {
        endpoint.connect(&link);
        link.say_ready();
        Head { endpoint, link, child }
    }

    /// Waits until the child is ready, and says why it is not otherwise.
    fn await_child(self, deadline: Option<Instant>, limit: Duration) -> Result<Head, StartError> {
        if self.link.wait_peer_ready(deadline) {
            return Ok(self);
        }
        let program = self.child.as_ref().map_or_else(|| "".into(), |child| child.program.clone());
        let came = self.link.is_greeted();
        let in_time = self.endpoint.state() != LinkState::Starting;
        // Its last words are complete only when it has ended.
        self.kill();
        self.link.wait_closed(Instant::now().checked_add(Duration::from_secs(1)));
        let reason = self.endpoint.close_reason().unwrap_or_else(|| Arc::new(CloseReason::Local));
        Err(match &*reason {
            CloseReason::Died(death) if in_time => StartError::Died { program, death: death.clone() },
            _ if in_time => StartError::Refused { program, reason },
            reason => StartError::TimedOut {
                program,
                after: limit,
                state: if came { NOT_READY } else { NEVER_CONNECTED },
                stderr: last_words(reason),
            },
        })
    }
}

fn last_words(reason: &CloseReason) -> Arc<str> {
    match reason {
        CloseReason::Died(Death { stderr, .. }) => stderr.clone(),
        _ => "".into(),
    }
}

impl HeadBuilder {
    /// Other limits and times than the defaults.
    pub fn config(mut self, config: Config) -> HeadBuilder {
        self.config = config;
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

    /// See [`Head::spawn`].
    ///
    /// # Errors
    ///
    /// As for [`Head::spawn`]; also when two of the APIs claim the same path.
    pub fn spawn(self, command: Command) -> Result<Head> {
        let (limit, wire) = (self.config.start_timeout, self.wire);
        let stderr = if self.inherits_stderr { Stderr::Inherit } else { Stderr::PassOn };
        let endpoint = self.endpoint()?;
        let deadline = Instant::now().checked_add(limit);
        let launch = process::launch(command, LaunchOptions { start_timeout: limit, stderr, wire })?;
        let Launch { transport, child, token, lifeline } = launch;
        let mut child = child;
        let (process, program) = (child.process(), child.program().clone());
        let (stdin, stdout) = (child.take_stdin(), child.take_stdout());
        let link = Link::over(endpoint.link_parts(), transport, token, Some(Box::new(child)), None)
            .map_err(|error| Error::from(StartError::Setup { what: "link", error: Arc::new(error) }))?;
        let child = Child { process, program, stdin, stdout, _lifeline: lifeline };
        Ok(Head::new(endpoint, link, Some(child)).await_child(deadline, limit)?)
    }

    /// See [`Head::in_process`].
    ///
    /// # Errors
    ///
    /// When two of the APIs claim the same path.
    pub fn in_process(self) -> Result<(Head, Neck)> {
        self.in_process_with(Neck::builder())
    }

    /// Both ends within this process, the other one made with `neck`.
    ///
    /// # Errors
    ///
    /// When two of the APIs of one end claim the same path.
    pub fn in_process_with(self, neck: NeckBuilder) -> Result<(Head, Neck)> {
        let (ours, theirs) = (self.endpoint()?, neck.endpoint()?);
        let (head, neck) = Link::direct(ours.link_parts(), theirs.link_parts());
        Ok((Head::new(ours, head, None), Neck::new(theirs, neck)))
    }

    /// The same, with everything encoded as between processes: what works so works everywhere.
    ///
    /// # Errors
    ///
    /// When two of the APIs of one end claim the same path, or a thread cannot be started.
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
    /// When two of the APIs claim the same path, or a thread cannot be started.
    pub fn over(self, transport: Transport) -> Result<Head> {
        let greet_within = self.config.start_timeout;
        self.over_until(transport, Some(greet_within))
    }

    fn over_until(self, transport: Transport, greet_within: Option<Duration>) -> Result<Head> {
        let endpoint = self.endpoint()?;
        let link = Link::over(endpoint.link_parts(), transport, Token::default(), None, greet_within)
            .map_err(|error| Error::from(StartError::Setup { what: "link", error: Arc::new(error) }))?;
        Ok(Head::new(endpoint, link, None))
    }

    fn endpoint(self) -> Result<Endpoint> {
        let endpoint = Endpoint::new(Side::Head, self.config);
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
        let end = Instant::now().checked_add(self.endpoint.0.config.grace);
        let left = || end.map_or(Duration::MAX, |end| end.saturating_duration_since(Instant::now()));
        self.link.close();
        if let Some(mut child) = self.link.release_attendant() {
            child.farewell(left());
        }
        self.link.join(left());
        self.endpoint.dismantle();
    }
}

impl fmt::Debug for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Head").field("state", &self.state()).field("child", &self.child_id()).finish()
    }
}

/// How far a child came that was not ready in time.
const NOT_READY: &str = "it connected and never said that it is ready: does it run or start its Neck?";
const NEVER_CONNECTED: &str = "it never connected";
