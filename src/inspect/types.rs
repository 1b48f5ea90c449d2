//! What a program tells of itself: plain values, the same in both codecs.
//!
//! They may grow by fields in later versions. Two programs that share these types by different versions of this
//! library are told so by name, as for any method whose types differ; JSON ignores what it does not know.

use serde::{Deserialize, Serialize};

use crate::wire::Bytes;

/// Something that is served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PathInfo {
    /// The link that it is served on: empty for the one that was asked over, else the name that it was
    /// [watched](crate::Inspection::watch) by. So it is in every answer.
    pub link: String,
    /// Its full path; of a catch-all, its node.
    pub path: String,
    /// The namespace of the API that owns it; empty for the root.
    pub owner: String,
    /// What it takes.
    pub kind: PathKind,
    /// How it is declared, as Rust code. Only the method or the topic of a trait knows it; empty for all others, but
    /// `topic of T` for a topic by name.
    pub signature: String,
    /// What it takes, in order; behind the values the ends of streams. Only the method of a trait knows it.
    pub arguments: Vec<ArgumentInfo>,
    /// What its doc comment says; empty without one.
    pub doc: String,
    /// What its values look like: see [shapes](crate::guide::wire#shapes). Only the method of a trait knows it.
    pub shape: String,
}

/// What comes to a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum PathKind {
    /// A call. By name, an event is taken as well.
    Call,
    /// An event.
    Event,
    /// A call that gives items, by [`Action::open`](crate::Action::open).
    Stream,
    /// A call that takes items.
    Upload,
    /// A call that takes items and gives some.
    Duplex,
    /// Subscriptions: see [`Endpoint::subscribe`](crate::Endpoint::subscribe).
    Topic,
    /// Whatever comes at or below it that nothing else takes.
    CatchAll,
}

/// One argument of a method.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ArgumentInfo {
    /// Its name.
    pub name: String,
    /// Its type, as Rust code.
    pub type_name: String,
}

/// What one side has counted: [`Counters`](crate::Counters), by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LinkCounters {
    /// Of which link.
    pub link: String,
    /// The name of each number and the number, in the order of [`Counters`](crate::Counters).
    pub counters: Vec<(String, u64)>,
}

/// Everything that is under way on one side: a [`HangReport`](crate::HangReport).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct InFlight {
    /// On which link.
    pub link: String,
    /// Which side it is: `head` or `neck`.
    pub side: String,
    /// The state of the link: `starting`, `open`, `disconnected` or `closed`.
    pub state: String,
    /// How many links have stood there, this one included.
    pub generation: u64,
    /// How many threads the link has.
    pub threads: u64,
    /// The calls of this side that have not ended, the oldest first.
    pub callers: Vec<Caller>,
    /// The calls of the other side that are not answered, the oldest first; this very one is among them.
    pub handlers: Vec<Running>,
    /// How many calls and events wait to be sent.
    pub messages_to_send: u64,
    /// How many bytes they have.
    pub bytes_to_send: u64,
    /// How many answers wait to be sent.
    pub answers_to_send: u64,
    /// Something waits to be sent, and the other side has to read first.
    pub is_stuck: bool,
}

/// A call that has not ended, at the side that made it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Caller {
    /// Its counter on the link; `None` while it waits for a link.
    pub id: Option<u64>,
    /// What was called.
    pub path: String,
    /// How long ago, in microseconds.
    pub age_us: u64,
    /// The time until its deadline in microseconds, if it has one.
    pub remaining_us: Option<u64>,
    /// Whether any of it has left.
    pub sent: bool,
    /// The thread that blocks for it, if one does.
    pub thread: Option<String>,
    /// It has items, and may take as long as it likes.
    pub is_stream: bool,
}

/// A call that is not answered, at the side that serves it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Running {
    /// Its counter on the link; `None` for an event.
    pub id: Option<u64>,
    /// What was called.
    pub path: String,
    /// How long ago it came, in microseconds.
    pub age_us: u64,
    /// How far it is.
    pub stage: Stage,
    /// The thread that runs it, if it runs and that is known.
    pub thread: Option<String>,
    /// Nobody waits for it any more.
    pub given_up: bool,
}

/// How far a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Stage {
    /// It waits for a worker.
    Queued,
    /// Its handler runs.
    Running,
    /// Its handler has returned, and left the answer to somebody.
    Deferred,
}

/// The workers of one API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PoolInfo {
    /// On which link.
    pub link: String,
    /// Its namespace; empty for the root, and for the first, which is for what no API takes.
    pub namespace: String,
    /// How many handlers may run at once.
    pub workers: u64,
    /// How many do; of an inline API, of those alone that need a worker.
    pub running: u64,
    /// How many calls and events wait.
    pub waiting: u64,
    /// How many may.
    pub queue: u64,
    /// Its handlers run on whatever thread brings a call.
    pub is_inline: bool,
}

/// The numbers of one path, since it was watched first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MethodNumbers {
    /// On which link.
    pub link: String,
    /// Its path; of a catch-all, its node.
    pub path: String,
    /// Calls that came to its handler. Those that wait in the queue of its API are in [`PoolInfo::waiting`].
    pub calls: u64,
    /// Events that did.
    pub events: u64,
    /// How many of its handlers run.
    pub running: u64,
    /// Of the calls and events, those that failed or panicked.
    pub faults: u64,
    /// Of them, those that its handler did not see: their arguments do not fit.
    pub rejections: u64,
    /// How long its handler runs, in nanoseconds: half of them no longer than this. Told too long by an eighth at
    /// most. That of a stream runs until it has begun, and one that answers later until it returns.
    pub p50_ns: u64,
    /// Ninety-nine of a hundred no longer than this.
    pub p99_ns: u64,
    /// The longest.
    pub longest_ns: u64,
}

/// Which program it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Version {
    /// The version of this library.
    pub library: String,
    /// The lowest and the highest version of the protocol that it speaks.
    pub protocols: (u16, u16),
    /// What the link speaks: `binary` or `JSON`.
    pub codec: String,
    /// Which side of the link it is: `head` or `neck`.
    pub side: String,
    /// The process.
    pub pid: u32,
    /// How the program was called; empty if that is not known.
    pub program: String,
}

/// An event that came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TailedEvent {
    /// Over which link.
    pub link: String,
    /// To which path.
    pub path: String,
    /// With what.
    pub arguments: EventArguments,
    /// How many events are missing right before this one, because nobody took them in time.
    pub lost: u64,
}

/// The arguments of an event that came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum EventArguments {
    /// As JSON.
    Json(String),
    /// In the binary codec, of which the handler alone knows the types.
    Binary(Bytes),
    /// So many bytes, more than 16 KiB, which are not shown.
    Large(u64),
    /// Not known: they could not be encoded.
    Unknown,
}

/// Nothing is served at a path that somebody wants described.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("nothing is served at `{path}`")]
#[non_exhaustive]
pub struct NotServed {
    /// That path.
    pub path: String,
}
