//! What is under way on one side, as a value that can be printed: for the question why nothing happens.

use std::{
    cmp::Reverse,
    fmt,
    time::{Duration, Instant},
};

use super::{Endpoint, endpoint::Inner};
use crate::{
    link::{CallSeen, LinkState, ServedSeen, Stage},
    os::thread_name,
    wire::{Path, Side, TransactionId},
};

/// Everything that is under way on one side, at the moment when [`Endpoint::hang_report`] was called.
///
/// Its `Display` is made for people, in several lines.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HangReport {
    /// Which side it is of.
    pub side: Side,
    /// The state of the link.
    pub state: LinkState,
    /// Which link it is: see [`Endpoint::generation`].
    pub generation: u64,
    /// How many threads the link has, the keeper of its clock not counted.
    pub n_threads: usize,
    /// The calls of this side that have not ended, the oldest first.
    pub callers: Vec<WaitingCaller>,
    /// The calls of the other side that are not answered, the oldest first. With a
    /// [watchdog](crate::Config::watchdog), behind them the events whose handlers run.
    pub handlers: Vec<RunningHandler>,
    /// The APIs that are served, in the order of their namespaces; the root stands for what no API takes.
    pub queues: Vec<QueueDepth>,
    /// How many calls and events wait to be sent.
    pub messages_to_send: usize,
    /// How many bytes they have.
    pub bytes_to_send: usize,
    /// How many answers wait to be sent, or have left in part.
    pub answers_to_send: usize,
    /// Something waits to be sent, and the other side has to read first.
    pub is_stuck: bool,
}

/// A call of this side that has not ended.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct WaitingCaller {
    /// The name of the call; `None` while it waits for the next start of a supervised program, or until it is [made
    /// again](crate::layers::Retry).
    pub transaction: Option<TransactionId>,
    /// What was called.
    pub path: Path,
    /// How long ago.
    pub age: Duration,
    /// The time until its deadline; `None` if it has none.
    pub remaining: Option<Duration>,
    /// Whether any of it has left this side.
    pub sent: bool,
    /// The thread that blocks for it, if one does: the first 15 bytes of its name.
    pub thread: Option<String>,
    /// It is a [stream](crate::guide::streams), which may take as long as it likes.
    pub is_stream: bool,
}

/// A call of the other side that is not answered, or an event whose handler runs.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RunningHandler {
    /// The name of the call; `None` for an event.
    pub transaction: Option<TransactionId>,
    /// What was called.
    pub path: Path,
    /// How long ago it came; between the two ends in one process, how long ago it was made.
    pub age: Duration,
    /// How far it is.
    pub progress: Progress,
    /// The other side waits for it no longer.
    pub given_up: bool,
}

/// How far a call of the other side is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Progress {
    /// It waits for a worker.
    Queued,
    /// Its handler runs, on the thread of this name if that is known: the first 15 bytes of it.
    Running(Option<String>),
    /// Its handler has returned, and has left the answer to somebody.
    Deferred,
}

/// How much there is to do for one API.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueDepth {
    /// Its namespace.
    pub namespace: Path,
    /// How many of its handlers run.
    pub running: usize,
    /// How many calls and events wait for a worker.
    pub waiting: usize,
}

impl Endpoint {
    /// What is under way on this side: who waits for what and for how long, which handlers run, and what
    /// waits to be sent. For a log, when something takes too long.
    ///
    /// It does not block for long: it takes the locks of the link for as long as it looks. A call is none the
    /// slower for it that it exists.
    ///
    /// ```
    /// use nape::{Api, Context, Fault, Head};
    ///
    /// let (head, neck) = Head::in_process()?;
    /// let (entered, wait) = std::sync::mpsc::channel();
    /// let sleepy = Api::new("sleepy").handle("nap", move |cx: &Context, _: ()| {
    ///     entered.send(()).ok();
    ///     cx.cancel_token().wait_timeout(std::time::Duration::from_secs(60));
    ///     Ok::<_, Fault>(())
    /// })?;
    /// let neck = neck.serve(sleepy)?.start();
    ///
    /// let nap = head.api("sleepy").action("nap", ()).start::<()>()?;
    /// wait.recv().expect("it naps");
    /// let report = neck.hang_report();
    /// assert_eq!(report.handlers[0].path.as_str(), "sleepy.nap");
    /// println!("{report}");
    /// # drop(nap);
    /// # Ok::<(), nape::Error>(())
    /// ```
    pub fn hang_report(&self) -> HangReport {
        self.0.hang_report(Instant::now())
    }
}

impl Inner {
    pub(super) fn hang_report(&self, now: Instant) -> HangReport {
        let endpoint = self.endpoint();
        let waiting = self.waiting_for_a_link().into_iter().chain(self.paused());
        let mut report = HangReport {
            side: self.side,
            state: endpoint.state(),
            generation: endpoint.generation(),
            n_threads: endpoint.n_threads(),
            callers: waiting.map(|seen| caller(seen, now)).collect(),
            handlers: Vec::new(),
            queues: self.queues(),
            messages_to_send: 0,
            bytes_to_send: 0,
            answers_to_send: 0,
            is_stuck: false,
        };
        if let Ok(link) = self.link() {
            let survey = link.survey();
            report.state = survey.stage;
            report.callers.extend(survey.calls.into_iter().map(|seen| caller(seen, now)));
            report.handlers.extend(survey.served.into_iter().map(|seen| handler(seen, now)));
            (report.messages_to_send, report.bytes_to_send) = survey.to_send;
            (report.answers_to_send, report.is_stuck) = (survey.answers, survey.is_stuck);
        }
        report.callers.sort_by_key(|caller| Reverse(caller.age));
        report.handlers.extend(self.watchdog.iter().flat_map(|watchdog| watchdog.events(now)));
        report
    }
}

fn caller(seen: CallSeen, now: Instant) -> WaitingCaller {
    WaitingCaller {
        transaction: seen.id,
        path: seen.path,
        age: now.saturating_duration_since(seen.since),
        remaining: seen.deadline.map(|at| at.saturating_duration_since(now)),
        sent: seen.sent,
        thread: seen.thread,
        is_stream: seen.is_stream,
    }
}

fn handler(seen: ServedSeen, now: Instant) -> RunningHandler {
    let progress = match seen.stage {
        Stage::Queued => Progress::Queued,
        Stage::Running(thread) => Progress::Running(thread_name(thread)),
        Stage::Returned => Progress::Deferred,
    };
    let age = now.saturating_duration_since(seen.since);
    RunningHandler { transaction: Some(seen.id), path: seen.path, age, progress, given_up: seen.given_up }
}

impl fmt::Display for HangReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (side, state) = (self.side, self.state);
        writeln!(f, "{side}, link {} ({state:?}), {} threads", self.generation, self.n_threads)?;
        writeln!(f, "calls that wait: {}", self.callers.len())?;
        self.callers.iter().try_for_each(|caller| writeln!(f, "  {caller}"))?;
        writeln!(f, "calls that are served: {}", self.handlers.len())?;
        self.handlers.iter().try_for_each(|handler| writeln!(f, "  {handler}"))?;
        for QueueDepth { namespace, running, waiting } in &self.queues {
            let namespace = if namespace.is_root() { "(no API)" } else { namespace.as_str() };
            writeln!(f, "workers of {namespace}: {running} busy, {waiting} calls wait")?;
        }
        let stuck = if self.is_stuck { "; the other side does not read" } else { "" };
        let (messages, bytes) = (self.messages_to_send, self.bytes_to_send);
        write!(f, "to be sent: {messages} messages of {bytes} bytes, {} answers{stuck}", self.answers_to_send)
    }
}

impl fmt::Display for WaitingCaller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path)?;
        self.transaction.iter().try_for_each(|id| write!(f, " ({id})"))?;
        write!(f, " for {:.3?}", self.age)?;
        match self.remaining {
            Some(remaining) => write!(f, ", {remaining:.3?} left")?,
            None => f.write_str(", without a deadline")?,
        }
        self.thread.iter().try_for_each(|thread| write!(f, ", on thread {thread}"))?;
        if self.sent { Ok(()) } else { f.write_str(", not sent yet") }
    }
}

impl fmt::Display for RunningHandler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path)?;
        match self.transaction {
            Some(id) => write!(f, " ({id})")?,
            None => f.write_str(" (event)")?,
        }
        write!(f, " for {:.3?}, ", self.age)?;
        match &self.progress {
            Progress::Queued => f.write_str("waits for a worker")?,
            Progress::Running(None) => f.write_str("runs")?,
            Progress::Running(Some(thread)) => write!(f, "runs on thread {thread}")?,
            Progress::Deferred => f.write_str("is to be answered")?,
        }
        if self.given_up { f.write_str("; nobody waits for it") } else { Ok(()) }
    }
}
