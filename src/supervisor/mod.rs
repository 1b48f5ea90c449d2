//! Keeps a program running: starts it again when it crashes, behind the same handles.
//!
//! [`policy`] decides, on a time that it is told; [`run`] is the thread that does it. Both know a process as
//! something to start and to wait for, and a call not at all: those that wait for the next link, or run again
//! on it, are the business of the endpoint.

mod policy;
mod run;

use std::{fmt, process::Command, time::Duration};

pub use policy::Restarts;

use crate::{
    api::Endpoint,
    error::{Crash, GivenUp, Result, StartError},
    head::{HeadBuilder, Outlet},
    logging::say,
    os::Wakeup,
    process::{Program, Stderr},
    sync::Arc,
    workers::{Thread, Until, discard_all},
};
use run::{Hook, Runner, Shared};

/// Keeps a program running, as a [`Head`](crate::Head) that starts it again when it crashes.
///
/// Everything an [`Endpoint`] can do, it can do, and every handle stays valid over a restart: the APIs that
/// are served, listeners and hooks as well. [`Endpoint::generation`] tells which start of the program it is.
///
/// # Calls and crashes
///
/// - A call that is under way when the program crashes ends at once, with [`CallError::Closed`] and the
///   reason. One that is [safe to repeat](crate::Action::retry_safe) runs again on the next start instead,
///   within its own timeout.
/// - A call that is made while there is no program waits for the next start, within its own timeout. An
///   event does not wait: it fails at once.
/// - Once the supervisor has given up, every call ends at once, with [`CloseReason::GaveUp`] and the crashes.
///   Once it has stopped, with the reason of that.
///
/// A call that sets out in the very moment of a crash may still end as one that was under way; then it says
/// [`Executed::No`](crate::Executed::No).
///
/// # Its end
///
/// [`stop`](Supervisor::stop) and drop end the program for good, as a Head does: goodbye, the
/// [grace](crate::Config::grace), then kill. Afterwards nothing is left, but for threads that are still
/// inside user code.
///
/// ```no_run
/// use std::process::Command;
///
/// use nape::{Head, Restarts};
///
/// let thumbs = Head::builder()
///     .supervise(Restarts::on_crash())
///     .on_transition(|transition| println!("thumbs: {transition}"))
///     .spawn(Command::new("thumbs"))?;
/// let n: usize = thumbs.api("thumbs").action("count", ()).retry_safe().call()?;
/// # Ok::<(), nape::Error>(())
/// ```
///
/// [`CallError::Closed`]: crate::CallError::Closed
/// [`CloseReason::GaveUp`]: crate::CloseReason::GaveUp
#[must_use = "dropping it ends the program"]
pub struct Supervisor {
    endpoint: Endpoint,
    shared: Arc<Shared>,
    thread: Option<Thread>,
    outlet: Option<Outlet>,
}

/// What a [`Supervisor`] is made with: see [`HeadBuilder::supervise`].
#[derive(Debug)]
#[must_use = "a builder does nothing until it makes a Supervisor"]
pub struct SupervisorBuilder {
    head: HeadBuilder,
    restarts: Restarts,
    hooks: Vec<Hook>,
}

/// What happens to a supervised program.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Transition {
    /// It is being started.
    Starting,
    /// It is ready, and what is called runs there.
    Running {
        /// How many times it has been ready, this one included.
        generation: u64,
    },
    /// It has ended when it should not, or did not start.
    Crashed(Crash),
    /// It is started again after this time.
    BackingOff(Duration),
    /// It has crashed too often, and is not started again.
    GaveUp(Arc<GivenUp>),
    /// It has ended as it should, and is not started again.
    Stopped,
}

impl fmt::Display for Transition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Transition::Starting => f.write_str("starting"),
            Transition::Running { generation } => write!(f, "running, generation {generation}"),
            Transition::Crashed(Crash::Start(error)) => write!(f, "crashed: {error}"),
            Transition::Crashed(crash) => write!(f, "crashed: {crash}"),
            Transition::BackingOff(delay) => write!(f, "starts again in {delay:.0?}"),
            Transition::GaveUp(why) => write!(f, "{why}"),
            Transition::Stopped => f.write_str("stopped"),
        }
    }
}

impl HeadBuilder {
    /// Starts the program again when it crashes: [`SupervisorBuilder::spawn`] gives a [`Supervisor`] where
    /// [`HeadBuilder::spawn`] gives a [`Head`](crate::Head).
    pub fn supervise(self, restarts: Restarts) -> SupervisorBuilder {
        SupervisorBuilder { head: self, restarts, hooks: Vec::new() }
    }
}

impl SupervisorBuilder {
    /// As [`Supervisor::on_transition`], from the start.
    pub fn on_transition(mut self, hook: impl Fn(&Transition) + Send + Sync + 'static) -> SupervisorBuilder {
        self.hooks.push(Hook::new(hook));
        self
    }

    /// Starts a program that is a [`Neck`](crate::Neck), and blocks until it is ready for the first time. No hook
    /// holds that up: they run once it is.
    ///
    /// The command is used for each start. What it has piped as stdin is closed with each end.
    ///
    /// # Errors
    ///
    /// As for [`HeadBuilder::spawn`]: a program that does not even start once is not tried again, and nothing
    /// is left behind.
    pub fn spawn(mut self, command: Command) -> Result<Supervisor> {
        let on_output = self.head.on_output.take();
        let mut options = self.head.launch_options();
        let endpoint = self.head.endpoint()?;
        let outlet = on_output.map(|hook| Outlet::start(&endpoint, hook)).transpose();
        let outlet = outlet.map_err(StartError::setup("thread for the output"))?;
        outlet.iter().for_each(|outlet| options.stderr = Stderr::Lines(outlet.lines().clone()));
        let abort = Arc::new(Wakeup::new().map_err(StartError::setup("event"))?);
        options.abort = Some(abort.clone());
        let succession = endpoint.0.supervise(self.restarts.poison_after);
        let shared = Arc::new(Shared::new(endpoint.clone(), succession, abort, self.hooks));
        let runner = Runner::new(shared.clone(), Program::new(command), options, self.restarts);
        let (sender, started) = crossbeam_channel::bounded(1);
        let name = format!("{}-supervisor", endpoint.0.config.name);
        let thread = Thread::start(name, move || runner.run(&sender)).map_err(StartError::setup("thread"))?;
        // From here on, whatever happens, the supervisor sees to what it has.
        let supervisor = Supervisor { endpoint, shared, thread: Some(thread), outlet };
        match started.recv() {
            Ok(Ok(())) => Ok(supervisor),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => {
                let error = Arc::new(std::io::Error::other("the supervisor panicked"));
                Err(StartError::Setup { what: "supervisor", error }.into())
            }
        }
    }
}

impl Supervisor {
    /// What all handles point to. Cheap to clone; it does not keep the program alive.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Calls `hook` with everything that happens to the program, in order; with what has happened already,
    /// too, up to the last 64 times.
    ///
    /// It runs on the thread of the supervisor, which waits for it: what it does delays a restart, and a
    /// blocking call in it is refused as [`Misuse::WouldDeadlock`](crate::Misuse::WouldDeadlock). A panic in
    /// it is counted and changes nothing.
    pub fn on_transition(&self, hook: impl Fn(&Transition) + Send + Sync + 'static) {
        self.shared.add_hook(Hook::new(hook));
    }

    /// What has happened to the program last.
    pub fn last_transition(&self) -> Transition {
        self.shared.last_transition()
    }

    /// The number of the program's process; `None` while there is none.
    pub fn child_id(&self) -> Option<u32> {
        self.shared.process().map(|process| process.pid())
    }

    /// Ends the process at once, which counts as a crash. One that has ended is fine.
    pub fn kill(&self) {
        if let Some(Err(error)) = self.shared.process().map(|process| process.kill()) {
            say!(Warn, "cannot kill a supervised process: {error}");
        }
    }

    /// Ends the program for good: says goodbye, gives it the [grace](crate::Config::grace), and kills it then.
    /// Calls under way end at once, those that wait for the next start too, and so do subscriptions. Idempotent.
    ///
    /// Blocks until it has ended; on the thread of a hook it does not wait.
    pub fn stop(&self) {
        self.shut_down_within(None);
    }

    /// The same when the calls under way have ended, for which it waits for at most `limit`. New ones are
    /// refused meanwhile. Says whether all had ended by themselves; a call that waits for the next start, or for
    /// [another try](crate::layers::Retry), has not, and is not waited for. Blocks.
    pub fn shut_down(&self, limit: Duration) -> bool {
        self.shut_down_within(Some(limit))
    }

    fn shut_down_within(&self, limit: Option<Duration>) -> bool {
        !self.endpoint.0.is_forked() && self.shared.stop(limit)
    }
}

impl std::ops::Deref for Supervisor {
    type Target = Endpoint;

    fn deref(&self) -> &Endpoint {
        &self.endpoint
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        if self.endpoint.0.is_forked() {
            // All of it is another process's: it stays as it is.
            return std::mem::forget((self.shared.clone(), self.outlet.take()));
        }
        let until = Until::after(self.endpoint.0.config.grace);
        self.shared.stop(None);
        let hooks = self.shared.finish();
        // All of them end beside each other: where one takes all of the time, the others have had it as well.
        self.outlet.iter().for_each(Outlet::close);
        let until = until.at_least(LAST_LINES);
        if !self.thread.take().is_none_or(|thread| thread.join(until.left())) {
            let inner = &self.endpoint.0;
            inner.tally.leave_behind(1, &inner.config.name, "supervisor");
        }
        self.shared.join_links(until);
        self.outlet.iter_mut().for_each(|outlet| outlet.end(until.left()));
        self.endpoint.dismantle(until.left());
        discard_all(hooks);
    }
}

impl fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Supervisor")
            .field("last", &self.last_transition())
            .field("child", &self.child_id())
            .finish_non_exhaustive()
    }
}

/// What a thread that is in no hook has left to do behind the end of the process.
const LAST_LINES: Duration = Duration::from_millis(200);
