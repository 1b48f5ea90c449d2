//! How a Head starts a program and meets it.

use std::{
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    error::{CloseReason, StartError},
    logging::line,
    os::{self, HandDown, Wakeup, fd::AsFd},
    transport::Transport,
    wire::{ProtocolError, Side, Token},
};

use super::{
    child::ChildHandle,
    invitation::{Arrival, WireEnd},
    meeting::{Meeting, NoArrival, Waiting},
    name,
    output::Lines,
    tied::{self, Lifeline},
    wire::Wire,
};

/// A child that has started: the wire to it, and what watches over it.
pub(crate) struct Launch {
    pub(crate) transport: Transport,
    pub(crate) child: ChildHandle,
    /// Both sides show it again in their greeting.
    pub(crate) token: Token,
    /// The child takes the end of this for the end of the Head.
    pub(crate) lifeline: Lifeline,
}

/// A program that can be started, and started again.
pub(crate) struct Program {
    pub(super) command: Command,
    pub(super) hand_down: HandDown,
    name: Arc<str>,
}

/// How to start a program.
#[derive(Clone, Debug)]
pub(crate) struct LaunchOptions {
    /// How long the child may take to connect, where it has to. A time too long to be counted is no limit.
    pub(crate) start_timeout: Duration,
    pub(crate) stderr: Stderr,
    /// It gets a process group of its own, of which nothing is to outlive it.
    pub(crate) own_group: bool,
    pub(crate) wire: Wire,
    /// Ends the wait for the child, from any thread and for good.
    pub(crate) abort: Option<Arc<Wakeup>>,
}

/// What becomes of what the child writes.
#[derive(Clone, Debug)]
pub(crate) enum Stderr {
    /// It goes through a pipe to us; we pass it on to our own, and errors quote the end of it.
    PassOn,
    /// It stays as the command has it, and errors quote nothing.
    Inherit,
    /// It goes line by line to whoever takes the lines, and its stdout with it. Errors quote the end of it.
    Lines(Arc<Lines>),
}

impl Program {
    pub(crate) fn new(mut command: Command) -> Program {
        let name = command.get_program().to_string_lossy().into();
        let hand_down = HandDown::by(&mut command);
        Program { command, hand_down, name }
    }

    /// What it is called.
    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Starts the process. It alone has what it was given after that.
    pub(super) fn spawn(&mut self, options: &LaunchOptions) -> Result<ChildHandle, StartError> {
        let child = ChildHandle::spawn(&mut self.command, &self.name, options);
        self.hand_down.take_back();
        child
    }
}

/// Starts the program, and waits until it has connected, where it has to.
///
/// The command is used as it is, but for one environment variable more, for stderr as the options
/// say, and for descriptors: the child gets its standard streams and what we give it, and no others.
///
/// A child that inherits its end of the wire is not waited for: until it greets, nobody knows whether it is
/// a Neck. One that has to connect is waited for until it has, has ended, or the time is over.
///
/// # Errors
///
/// Whatever the error, the process, if there was one, has been killed and reaped, and nothing else is
/// left: no thread, descriptor or file. The one exception is a stranger of our own user who came first
/// under the secret name of [`Wire::Ipc`] and stays silent; it keeps a thread.
pub(crate) fn launch(program: &mut Program, options: LaunchOptions) -> Result<Launch, StartError> {
    let token = os::random_token().map(Token).map_err(StartError::setup("token"))?;
    match options.wire {
        Wire::Ipc => launch_to_connect(program, token, options),
        Wire::Pipe | Wire::Shm => tied::launch_to_inherit(program, token, options),
    }
}

fn launch_to_connect(
    program: &mut Program,
    token: Token,
    options: LaunchOptions,
) -> Result<Launch, StartError> {
    let deadline = Instant::now().checked_add(options.start_timeout);
    name::prepare_ipc()?;
    let meeting = Meeting::new().map_err(StartError::setup("name to meet the child under"))?;
    let wire = WireEnd::Ipc(meeting.name().to_owned());
    let lifeline = program.invite(wire, token)?;
    let child = program.spawn(&options)?;
    let mut attempt = Attempt::new(child, meeting, options.abort)?;
    let arrival = attempt.meet(deadline, options.start_timeout)?;
    attempt.check(&arrival, &token)?;
    let pid = attempt.child.pid();
    // Not by this thread, which may be a supervisor's, and nobody else has the child so far.
    attempt.child.note(line!(
        Debug,
        "{} (process {pid}) has connected as process {}",
        program.name(),
        arrival.pid
    ));
    let lifeline = lifeline.with(arrival.brought);
    Ok(Launch { transport: arrival.parts.into_transport(), child: attempt.child, token, lifeline })
}

/// A child that has not come yet, and the thread that waits for it.
struct Attempt {
    // Dropped first: what is killed cannot connect any more, nor hold the thread below.
    child: ChildHandle,
    waiting: Option<Waiting>,
    abort: Option<Arc<Wakeup>>,
}

impl Attempt {
    fn new(child: ChildHandle, meeting: Meeting, abort: Option<Arc<Wakeup>>) -> Result<Attempt, StartError> {
        let waiting = meeting.open().map_err(StartError::setup("thread that waits for the child"))?;
        Ok(Attempt { child, waiting: Some(waiting), abort })
    }

    /// Waits for the child to come or to end. Reads its stderr meanwhile.
    fn meet(&mut self, deadline: Option<Instant>, limit: Duration) -> Result<Arrival, StartError> {
        loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if self.wait(left)? {
                return self.arrival();
            }
            if self.abort.as_ref().is_some_and(|abort| os::is_readable(abort.as_fd())) {
                let reason = Arc::new(CloseReason::Local);
                return Err(StartError::Refused { program: self.program(), reason });
            }
            if let Some(death) = self.child.look() {
                return Err(StartError::Died { program: self.program(), death });
            }
            if left == Some(Duration::ZERO) {
                return Err(self.timed_out(limit));
            }
        }
    }

    /// Waits for anything to happen; true when the wait for the child is over.
    fn wait(&self, left: Option<Duration>) -> Result<bool, StartError> {
        let mut descriptors = self.child.descriptors();
        let place = descriptors.len();
        descriptors.extend(self.waiting.as_ref().map(AsFd::as_fd));
        descriptors.extend(self.abort.as_ref().map(|abort| abort.as_fd()));
        let ready = os::wait_readable(&descriptors, left).map_err(StartError::setup("wait for the child"))?;
        Ok(ready.contains(place))
    }

    fn arrival(&mut self) -> Result<Arrival, StartError> {
        let result = self.waiting.take().map_or(Err(NoArrival::HungUp), Waiting::join);
        result.map_err(|why| self.no_arrival(why))
    }

    fn no_arrival(&mut self, why: NoArrival) -> StartError {
        let protocol = match why {
            NoArrival::Io(error) => return StartError::setup("connection to the child")(error),
            NoArrival::HungUp => ProtocolError::ClosedBeforeHello,
            NoArrival::Garbage => ProtocolError::NotAPeer { expected: Side::Neck },
        };
        // Its sockets go before its end can be seen, and how it ended says more than that they went.
        match self.child.reap(DYING) {
            Some(death) => StartError::Died { program: self.program(), death },
            None => self.refusal(protocol),
        }
    }

    fn check(&self, arrival: &Arrival, token: &Token) -> Result<(), StartError> {
        if !arrival.is_ours() {
            return Err(self.refusal(ProtocolError::NotAPeer { expected: Side::Neck }));
        }
        if !arrival.carries(token) {
            return Err(self.refusal(ProtocolError::AuthFailed));
        }
        Ok(())
    }

    fn refusal(&self, error: ProtocolError) -> StartError {
        StartError::Refused { program: self.program(), reason: Arc::new(CloseReason::Protocol(error)) }
    }

    fn timed_out(&mut self, after: Duration) -> StartError {
        // Its last words are complete only when it has ended.
        self.child.finish();
        let (program, stderr) = (self.program(), self.child.tail().into());
        StartError::TimedOut { program, after, state: "it never connected", stderr }
    }

    fn program(&self) -> Arc<str> {
        self.child.program().clone()
    }
}

/// How long the end of a child that hung up may take to be seen.
const DYING: Duration = Duration::from_millis(100);
