//! Every way in which something can fail, sorted by who is to blame and what to do about it.
//!
//! Knows no transport, thread or lock: only what went wrong, in a form that can be cloned, because
//! one dead link fails many callers.

mod meeting;
mod record;

use std::{fmt, io, sync::Arc, time::Duration};

pub use meeting::{AddressError, TurnedAway};

use crate::wire::{Fault, Path, PathError, ProtocolError};

/// What most of this crate returns outside of a call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Any failure of this crate, for a `main` that only reports.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A call gave no value.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The other side could not be started or met.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A handler, a namespace or an API was refused.
    #[error(transparent)]
    Api(#[from] ApiError),
}

/// Why a call gave no value. A call ends in exactly one of these, or with its value.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The deadline passed.
    #[error("{path} timed out after {after:.3?}")]
    TimedOut {
        /// What was called.
        path: Path,
        /// The time from the call to this error.
        after: Duration,
        /// Whether the handler may have run.
        executed: Executed,
    },
    /// The handle was dropped or cancelled.
    #[error("the call was cancelled")]
    Cancelled,
    /// The link went: goodbye, death, I/O or a peer that broke the protocol.
    #[error("the link is closed")]
    Closed {
        /// Why the link went; one reason for all its calls.
        #[source]
        reason: Arc<CloseReason>,
        /// Whether the handler may have run.
        executed: Executed,
    },
    /// Refused before any handler ran.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// The handler failed or panicked.
    #[error("{0}")]
    Fault(Fault),
    /// The handler's [`Responder`](crate::Responder) was dropped without an answer.
    #[error("the handler dropped its responder without an answer")]
    NoAnswer,
    /// The value came and does not fit the type that was asked for.
    #[error("the reply does not decode: {0}")]
    Decode(Arc<str>),
    /// The caller's code is wrong in a way that reading it shows.
    #[error(transparent)]
    Misuse(#[from] Misuse),
    /// A call that was marked as [safe to repeat](crate::Action::retry_safe) was under way in so many
    /// crashes of the other process, one after the other, that it is not tried again.
    #[error("{path} was under way in {crashes} crashes in a row")]
    Poisonous {
        /// What was called.
        path: Path,
        /// In how many crashes.
        crashes: u32,
        /// The last of them.
        #[source]
        last: Arc<CloseReason>,
    },
}

/// Whether a call that failed may have run at the other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Executed {
    /// It never left this side, or was refused before a handler saw it: calling again is safe.
    No,
    /// It may have run, wholly or in part.
    Maybe,
}

/// Why a call was refused before any handler ran.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Rejection {
    /// Nothing at the other side handles this path.
    #[error("no handler for {path}")]
    NoHandler {
        /// The full path.
        path: Path,
    },
    /// The arguments do not decode as what the handler takes.
    #[error("bad arguments for {path}: expected {expected}: {detail}")]
    BadArguments {
        /// The full path.
        path: Path,
        /// The type that the handler takes.
        expected: Arc<str>,
        /// What the decoder found.
        detail: Arc<str>,
    },
    /// The two programs were built with different versions of a method of a trait, or of the items of a
    /// topic.
    #[error("{path} differs: here it is {ours}, at the other side {theirs}")]
    Mismatch {
        /// The full path.
        path: Path,
        /// Its arguments and its result, as the one who is told of it knows them.
        ours: Arc<str>,
        /// The same as the other side knows them. The side that an event came to knows no more than the number
        /// of the other's shapes.
        theirs: Arc<str>,
    },
    /// A queue is full: the API's at the other side, or this side's send queue. Or no thread could be had at this side
    /// that would have ended the call at its time.
    #[error("{path} is busy: {detail}")]
    Busy {
        /// The full path.
        path: Path,
        /// Which queue, and its limit, or what there was no thread for.
        detail: Arc<str>,
    },
    /// The message is larger than the limit. Where it is an item of a stream, that is [`Misuse::Item`].
    #[error("message of {size} bytes is over the limit of {limit}")]
    TooLarge {
        /// The encoded size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// A side is shutting down and takes no new calls.
    #[error("the link is shutting down")]
    ShuttingDown,
    /// Several catch-alls claim the path.
    #[error("{path} is claimed by {count} APIs")]
    Ambiguous {
        /// The full path.
        path: Path,
        /// How many claim it.
        count: u32,
    },
    /// The deadline had passed before a handler could start. The caller itself is told that its call
    /// [timed out](CallError::TimedOut).
    #[error("the call expired before it could start")]
    Expired,
    /// Not allowed.
    #[error("{path} is not allowed")]
    Denied {
        /// The full path.
        path: Path,
    },
}

/// A mistake in the caller's own code.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Misuse {
    /// A path that no handler can have.
    #[error("bad path: {0}")]
    BadPath(#[from] PathError),
    /// The arguments cannot be encoded.
    #[error("what is sent to {path} does not encode: {detail}")]
    Encode {
        /// The full path.
        path: Path,
        /// What the encoder said.
        detail: Arc<str>,
    },
    /// An item of a stream was not sent: it cannot be encoded, or is larger than the limit. The stream goes on, and its
    /// handler may run.
    #[error("an item of {path} cannot be sent: {detail}")]
    Item {
        /// The full path.
        path: Path,
        /// What the encoder said, or the size and the limit.
        detail: Arc<str>,
    },
    /// The value of an [`AsyncResult`](crate::AsyncResult) was asked for after it had been taken.
    #[error("the value of {path} was already taken")]
    Taken {
        /// The full path.
        path: Path,
    },
    /// A blocking call from a place that cannot be served while it blocks.
    #[error("a blocking call from {place} would wait for itself")]
    WouldDeadlock {
        /// Which place.
        place: &'static str,
    },
    /// A library thread could not be started.
    #[error("a thread could not be started: {detail}")]
    NoThread {
        /// What the operating system said.
        detail: Arc<str>,
    },
    /// Asked of a link in a child that was forked from the process that has it: the link is its parent's alone.
    #[error("the link belongs to the process from which this one was forked")]
    Forked,
}

/// Why a link is closed. The first reason stands; later ones do not overwrite it.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CloseReason {
    /// This side closed it.
    #[error("closed by this side")]
    Local,
    /// The other side said goodbye.
    #[error("closed by the other side")]
    Peer,
    /// The other process ended.
    #[error(transparent)]
    Died(Death),
    /// The other side vanished without a goodbye.
    #[error("the other side is gone")]
    Gone,
    /// Reading or writing failed.
    #[error("the transport failed")]
    Io(#[source] Arc<io::Error>),
    /// The other side broke the protocol.
    #[error("protocol error: {0}")]
    Protocol(ProtocolError),
    /// The other side closed because this side broke the protocol, in its opinion.
    #[error("the other side reports a protocol error (code {code}{})", meeting::in_words(*code))]
    Accused {
        /// The number of the error on the wire.
        code: u16,
    },
    /// Whoever was met over a socket takes no link from this side.
    #[error("turned away: {0}")]
    TurnedAway(TurnedAway),
    /// A thread of this library failed.
    #[error("internal failure: {0}")]
    Broken(Arc<str>),
    /// The other side is there, and did not read or answer for as long as it may: see
    /// [`Config::heartbeat`](crate::Config::heartbeat) and [`Config::write_stall`](crate::Config::write_stall).
    #[error("the other side did not {what} for {after:.3?}")]
    Unresponsive {
        /// What it did not do.
        what: Silence,
        /// For how long.
        after: Duration,
    },
    /// A [`Supervisor`](crate::Supervisor) does not start the other process again.
    #[error("{0}")]
    GaveUp(Arc<GivenUp>),
}

/// What a peer did not do that is there and does nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Silence {
    /// It did not answer a ping, nor send anything else.
    Answer,
    /// It did not read what was sent to it.
    Read,
}

impl fmt::Display for Silence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Silence::Answer => "answer",
            Silence::Read => "read",
        })
    }
}

/// Why a [`Supervisor`](crate::Supervisor) does not start its program again.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct GivenUp {
    /// The crashes that were too many, the first one first. Empty where it is told by the other side.
    pub crashes: Vec<Crash>,
    /// The same in words.
    pub summary: Arc<str>,
}

impl fmt::Display for GivenUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.summary)
    }
}

impl std::error::Error for GivenUp {}

/// How a supervised program came to its end.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Crash {
    /// It did not get ready.
    #[error("it did not start")]
    Start(#[source] StartError),
    /// It was ready, and then its link ended.
    #[error("generation {generation} ended: {reason}")]
    Ended {
        /// Which start it was of.
        generation: u64,
        /// Why the link went.
        reason: Arc<CloseReason>,
    },
}

impl Crash {
    /// How the process died, if it did.
    pub fn death(&self) -> Option<&Death> {
        match self {
            Crash::Start(StartError::Died { death, .. }) => Some(death),
            Crash::Ended { reason, .. } => match &**reason {
                CloseReason::Died(death) => Some(death),
                _ => None,
            },
            Crash::Start(_) => None,
        }
    }
}

/// How a process ended, and its last words.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Death {
    /// Exit code or signal.
    pub exit: Exit,
    /// How long it had run.
    pub after: Duration,
    /// The last of its stderr, at most 4 KiB, cut at a line; empty when there was none.
    pub stderr: Arc<str>,
}

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the process {} after {:.3?}", self.exit, self.after)?;
        f.write_str(&last_words(&self.stderr))
    }
}

impl std::error::Error for Death {}

fn last_words(stderr: &str) -> String {
    match stderr.trim_end() {
        "" => String::new(),
        words => format!("; its last words: {words}"),
    }
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Exit {
    /// It ended by itself, with this code.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
    /// Somebody else reaped it, so that the status is lost.
    Unknown,
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Exit::Code(code) => write!(f, "exited with code {code}"),
            Exit::Signal(signal) => write!(f, "was killed by signal {signal}"),
            Exit::Unknown => f.write_str("ended, nobody knows how"),
        }
    }
}

/// Why the other side could not be started or met. The process, if any, is dead and reaped.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The program could not be started at all.
    #[error("cannot start {program}")]
    Spawn {
        /// The program.
        program: Arc<str>,
        /// What the operating system said.
        #[source]
        error: Arc<io::Error>,
    },
    /// The process ended before it was ready.
    #[error("{program} ended before it was ready: {death}")]
    Died {
        /// The program.
        program: Arc<str>,
        /// How.
        death: Death,
    },
    /// The process was not ready in time.
    #[error("{program} was not ready after {after:.3?}: {state}{}", last_words(stderr))]
    TimedOut {
        /// The program.
        program: Arc<str>,
        /// The time that it had.
        after: Duration,
        /// How far it had come.
        state: &'static str,
        /// The last of its stderr.
        stderr: Arc<str>,
    },
    /// The process speaks something else, or another version.
    #[error("{program} is not a fitting Neck")]
    Refused {
        /// The program.
        program: Arc<str>,
        /// What it did.
        #[source]
        reason: Arc<CloseReason>,
    },
    /// This process was not started by a Head.
    #[error("this process was not started by a Head: {0}")]
    NotSpawned(Arc<str>),
    /// An address that nobody can have.
    #[error("bad address: {0}")]
    Address(#[from] AddressError),
    /// Nobody can be waited for at this address.
    #[error("cannot listen at {address}")]
    Listen {
        /// The address.
        address: Arc<str>,
        /// What the operating system said, or which rule is broken. `AddrInUse` says that a program listens
        /// there already.
        #[source]
        error: Arc<io::Error>,
    },
    /// Nobody was reached at this address.
    #[error("cannot connect to {address}")]
    Connect {
        /// The address.
        address: Arc<str>,
        /// What the operating system said, or which rule is broken.
        #[source]
        error: Arc<io::Error>,
    },
    /// Whoever listens at this address was reached, and no link came of it.
    #[error("no link to {address}")]
    NotMet {
        /// The address.
        address: Arc<str>,
        /// Why: often that it [turned this side away](CloseReason::TurnedAway), or that one of the two broke the
        /// protocol in the opinion of the other.
        #[source]
        reason: Arc<CloseReason>,
    },
    /// Something of our own could not be made: a channel, a thread, a descriptor.
    #[error("cannot make the {what}")]
    Setup {
        /// What could not be made.
        what: &'static str,
        /// What the operating system said.
        #[source]
        error: Arc<io::Error>,
    },
}

impl StartError {
    /// What makes an error of the operating system one of this part of the setting up.
    pub(crate) fn setup(what: &'static str) -> impl Fn(io::Error) -> StartError {
        move |error| StartError::Setup { what, error: Arc::new(error) }
    }
}

/// Why a handler, a namespace or an API was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ApiError {
    /// A path that no handler can have.
    #[error("bad path: {0}")]
    BadPath(#[from] PathError),
    /// The path has a handler already.
    #[error("{path} has a handler already")]
    Taken {
        /// The full path.
        path: Path,
    },
    /// Another API owns the path.
    #[error("{path} belongs to the API {owner}")]
    Claimed {
        /// The full path.
        path: Path,
        /// The namespace of its owner.
        owner: Path,
    },
    /// There is no handler to replace or remove.
    #[error("{path} has no handler")]
    Missing {
        /// The full path.
        path: Path,
    },
    /// Its [start](crate::Api::on_start) failed or panicked: nothing of it is served.
    #[error("the API {namespace} did not start: {why}")]
    NotStarted {
        /// Its namespace.
        namespace: Path,
        /// What its hook said.
        why: Arc<str>,
    },
    /// The API was detached, or its endpoint is gone.
    #[error("the API {namespace} is detached")]
    Detached {
        /// Its namespace.
        namespace: Path,
    },
}

impl From<Fault> for CallError {
    fn from(fault: Fault) -> CallError {
        CallError::Fault(fault)
    }
}

impl CallError {
    /// Whether the handler may have run: after [`Executed::No`] calling again is safe.
    pub fn executed(&self) -> Executed {
        match self {
            CallError::TimedOut { executed, .. } | CallError::Closed { executed, .. } => *executed,
            // Of a call that was started before.
            CallError::Misuse(
                Misuse::Item { .. } | Misuse::Taken { .. } | Misuse::WouldDeadlock { .. } | Misuse::Forked,
            ) => Executed::Maybe,
            CallError::Rejected(_) | CallError::Misuse(_) => Executed::No,
            _ => Executed::Maybe,
        }
    }

    /// Why the link is closed, if that is what ended the call.
    pub fn close_reason(&self) -> Option<&CloseReason> {
        match self {
            CallError::Closed { reason, .. } => Some(reason),
            _ => None,
        }
    }

    /// How the other process died, if that is what ended the call: its exit status or signal, how long it
    /// had run, and the last lines of its stderr.
    ///
    /// ```
    /// use nape::{CallError, Exit};
    ///
    /// fn was_killed(error: &CallError) -> bool {
    ///     error.death().is_some_and(|death| matches!(death.exit, Exit::Signal(_)))
    /// }
    /// # let error = CallError::Cancelled;
    /// # assert!(!was_killed(&error));
    /// ```
    pub fn death(&self) -> Option<&Death> {
        match self.close_reason() {
            Some(CloseReason::Died(death)) => Some(death),
            _ => None,
        }
    }

    /// The fault of the handler, if that is what came.
    pub fn fault(&self) -> Option<&Fault> {
        match self {
            CallError::Fault(fault) => Some(fault),
            _ => None,
        }
    }
}
