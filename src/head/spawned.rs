//! A process that was started, with the link to it.

use std::{
    process::{ChildStdin, ChildStdout},
    time::{Duration, Instant},
};

use crate::{
    api::Endpoint,
    error::{CloseReason, Death, StartError},
    link::{Link, LinkState},
    logging::say,
    process::{self, Launch, LaunchOptions, Lifeline, Process, Program},
    sync::Arc,
};

pub(crate) struct Spawned {
    pub(crate) link: Arc<Link>,
    process: Arc<Process>,
    program: Arc<str>,
    stdin: Option<ChildStdin>,
    stdout: Option<ChildStdout>,
    /// The child takes the end of this for ours.
    _lifeline: Lifeline,
}

impl Spawned {
    /// Starts the program and makes a link to it, which is not ready.
    ///
    /// # Errors
    ///
    /// Whatever the error, the process, if there was one, has been killed and reaped.
    pub(crate) fn start(
        endpoint: &Endpoint,
        program: &mut Program,
        options: LaunchOptions,
    ) -> Result<Spawned, StartError> {
        let launch = process::launch(program, options)?;
        let Launch { transport, mut child, token, lifeline } = launch;
        let (process, program) = (child.process(), child.program().clone());
        let (stdin, stdout) = (child.take_stdin(), child.take_stdout());
        let link = Link::over(endpoint.link_parts(), transport, token, Some(Box::new(child)), None)
            .map_err(|error| StartError::Setup { what: "link", error: Arc::new(error) })?;
        Ok(Spawned { link, process, program, stdin, stdout, _lifeline: lifeline })
    }

    /// Waits until the child is ready, and says why it is not otherwise.
    pub(crate) fn await_ready(&self, deadline: Option<Instant>, limit: Duration) -> Result<(), StartError> {
        if self.link.wait_peer_ready(deadline) {
            return Ok(());
        }
        let program = self.program.clone();
        let came = self.link.is_greeted();
        let in_time = self.link.stage() != LinkState::Starting;
        // Its last words are complete only when it has ended.
        self.kill();
        self.link.wait_closed(Instant::now().checked_add(Duration::from_secs(1)));
        let reason = self.link.close_reason().unwrap_or_else(|| Arc::new(CloseReason::Local));
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

    /// The number of the process.
    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    pub(crate) fn process(&self) -> &Arc<Process> {
        &self.process
    }

    pub(crate) fn take_stdin(&mut self) -> Option<ChildStdin> {
        self.stdin.take()
    }

    pub(crate) fn take_stdout(&mut self) -> Option<ChildStdout> {
        self.stdout.take()
    }

    /// Ends the process at once; one that has ended already is fine.
    pub(crate) fn kill(&self) {
        if let Err(error) = self.process.kill() {
            say!(Warn, "cannot kill {}: {error}", self.program);
        }
    }

    /// The link is over: lets the process end by itself within `grace`, then sees to it. How it ended, if
    /// that was not known before.
    pub(crate) fn farewell(&self, grace: Duration) -> Option<Death> {
        let mut child = self.link.release_attendant()?;
        child.farewell(grace);
        match child.look() {
            Some(CloseReason::Died(death)) => Some(death),
            _ => None,
        }
    }
}

fn last_words(reason: &CloseReason) -> Arc<str> {
    match reason {
        CloseReason::Died(Death { stderr, .. }) => stderr.clone(),
        _ => "".into(),
    }
}

/// How far a child came that was not ready in time.
const NOT_READY: &str = "it connected and never said that it is ready: does it run or start its Neck?";
const NEVER_CONNECTED: &str = "it never connected";
