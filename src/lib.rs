//! Calls between processes on one machine, and between threads in one process.
//!
//! A [`Head`] spawns or meets a [`Neck`]; both may call and both may serve, over one link. No async
//! runtime is needed, and every handle also works under one. Every call ends exactly once: with its
//! value, or with a [`CallError`] that says why there is none.
//!
//! ```
//! use std::time::Duration;
//!
//! use nape::{Api, Context, Fault, Head};
//!
//! fn main() -> nape::Result<()> {
//!     let (head, neck) = Head::in_process()?;
//!
//!     // One side serves ...
//!     let words = Api::new("words").handle("count", |_: &Context, text: String| {
//!         Ok::<_, Fault>(text.split_whitespace().count())
//!     })?;
//!     let _neck = neck.serve(words)?.start();
//!
//!     // ... and the other one calls.
//!     let words = head.api("words").timeout(Duration::from_secs(5));
//!     let n: usize = words.action("count", "the quick brown fox".to_owned()).call()?;
//!     assert_eq!(n, 4);
//!     Ok(())
//! }
//! ```
//!
//! # Two processes
//!
//! With [`Head::spawn`] and [`Neck::from_env`] in the places of [`Head::in_process`] the two sides are two
//! programs. Nothing else changes.
//!
//! ```no_run
//! # use std::process::Command;
//! # use nape::{Api, Context, Fault, Head, Neck};
//! // The parent. This returns when the child is ready, or says why it is not.
//! let head = Head::spawn(Command::new("words-worker"))?;
//! let n: usize = head.api("words").action("count", "to be or not".to_owned()).call()?;
//!
//! // The child, in its own `main`. This returns when the parent is gone or has closed the link.
//! let count = |_: &Context, text: String| Ok::<_, Fault>(text.split_whitespace().count());
//! Neck::from_env()?.serve(Api::new("words").handle("count", count)?)?.run()?;
//! # Ok::<(), nape::Error>(())
//! ```
//!
//! The child ends with its Head, and a death of the child ends the calls to it, with its exit code and the
//! last lines of its stderr. What they talk over is the choice of the one that spawns: [`HeadBuilder::wire`].
//! With [`Wire::Ipc`], the default, both must trust each other; with [`Wire::Pipe`] a hostile child hurts its
//! own link and nothing else, and no name stands in the temporary directory. The same holds for
//! [`Wire::Shm`], with a fraction of the time for a call, as long as calls follow each other. The child's
//! program is the same for all. [`guide::choosing`] compares them.
//!
//! Programs that run already meet at a socket. [`Head::listen`] waits for others to connect, and
//! [`Neck::connect`] does; or [`Neck::listen`] and [`Head::connect`]. A [`Listener`] has many [`Peer`]s at a
//! time. [`guide::sockets`] tells where they meet, who gets in, and what strangers can do.
//!
//! # A trait that both know
//!
//! Two programs that share a trait need no paths and no tuples: one serves it, and the other one has a client
//! whose methods know their types. Where the two were built with different versions of a method, that is told
//! before anything runs. [`guide::typed`] tells what may stand in such a trait.
//!
#![cfg_attr(feature = "macros", doc = "```")]
#![cfg_attr(not(feature = "macros"), doc = "```ignore")]
//! # use nape::Head;
//! #[nape::api("words")]
//! pub trait Words {
//!     /// How many words there are.
//!     fn count(&self, text: &str) -> usize;
//! }
//!
//! struct MyWords;
//!
//! impl Words for MyWords {
//!     fn count(&self, text: &str) -> usize {
//!         text.split_whitespace().count()
//!     }
//! }
//!
//! let (head, neck) = Head::in_process()?;
//! let _neck = neck.serve(MyWords.into_api())?.start();
//! let words = WordsClient::on(&head);
//! assert_eq!(words.count("the quick brown fox").call()?, 4);
//! # Ok::<(), nape::Error>(())
//! ```
//!
//! # Serving by name
//!
//! What a trait makes is an [`Api`]: a tree of handlers under a dotted namespace, with workers and a queue of its
//! own. Written by hand it can do what a trait cannot say, such as to take whatever comes. A handler takes a
//! [`Context`] and one owned value: a tuple or a struct for several, [`Payload`] for raw bytes. It returns a
//! value, or an error: a [`Fault`], into which `?` turns any error, or an error type that can be serialized and
//! arrives typed.
//!
//! ```
//! use nape::{Api, Context, Fault, Payload, Responder, WhenFull};
//!
//! # fn main() -> Result<(), nape::ApiError> {
//! let api = Api::new("text")
//!     .workers(2) // at most two handlers at a time, in the order of arrival
//!     .queue(256, WhenFull::Refuse)
//!     .handle("parse", |_: &Context, text: String| -> Result<i64, Fault> { Ok(text.trim().parse()?) })?
//!     .deferred("later", |_: Context, text: String, answer: Responder<usize>| {
//!         let thread = std::thread::Builder::new();
//!         thread.spawn(move || answer.answer(text.len())).expect("a thread can be had");
//!     })?
//!     .otherwise(|cx: &Context, raw: Payload| -> Result<Payload, Fault> {
//!         Err(Fault::new(format!("{} takes no {} bytes", cx.path(), raw.bytes().len())))
//!     })?;
//! # Ok(())
//! # }
//! ```
//!
//! [`Endpoint::attach`] serves an API while the link runs, and gives an [`Attached`] by which handlers
//! come, are replaced and go. Several APIs share the link through the arbitrator, [`ApiArb`], which
//! refuses two that claim the same path. Both a [`Head`] and a [`Neck`] are an [`Endpoint`].
//!
//! # Calling
//!
//! [`ApiHandle::action`] builds an [`Action`], as a method of a client does; one of its verbs sends it:
//!
//! ```
//! use std::time::Duration;
//!
//! use nape::{CallError, Semaphore};
//! # use nape::{Api, Context, Fault, Head};
//! # let (head, neck) = Head::in_process()?;
//! # let api = Api::new("math").handle("double", |_: &Context, n: u64| Ok::<_, Fault>(2 * n))?;
//! # let _neck = neck.serve(api)?.start();
//! let math = head.api("math");
//!
//! // It blocks ...
//! let n: u64 = math.action("double", 1u64).timeout(Duration::from_secs(1)).call()?;
//!
//! // ... or is started: then it can be polled, waited for, or awaited ...
//! let mut doubling = math.action("double", 2u64).start::<u64>()?;
//! while doubling.try_wait()?.is_none() {
//!     doubling.ready().recv_timeout(Duration::from_millis(10)).ok();
//! }
//!
//! // ... or calls back ...
//! let (sender, receiver) = std::sync::mpsc::sync_channel(1);
//! math.action("double", 3u64).then(move |outcome: Result<u64, CallError>| {
//!     sender.send(outcome).ok();
//! })?;
//! assert_eq!(receiver.recv().expect("the callback runs")?, 6);
//!
//! // ... or releases a semaphore ...
//! let done = Semaphore::new(0);
//! let doubling = math.action("double", 4u64).releasing(&done).start::<u64>()?;
//! done.acquire();
//! assert_eq!(doubling.wait()?, 8);
//!
//! // ... or is an event, and nobody answers.
//! math.action("double", 5u64).fire()?;
//! # Ok::<(), nape::Error>(())
//! ```
//!
//! A call without a timeout of its own has that of its [`ApiHandle`], which by default is 30 seconds;
//! [`Timeout::Never`] is explicit. A call that is made in a handler has at most the time that the handler
//! has. Dropping an [`AsyncResult`] cancels its call: the handler's [`CancelToken`] fires, and the calls that
//! the handler has under way are cancelled in turn.
//!
//! Many items go over a stream: [`Action::open`] takes what the other side makes, [`Action::upload`] sends,
//! [`Action::duplex`] does both. [`guide::streams`] tells how.
//!
//! # Publishing
//!
//! A [`Topic`] is published to all who have [subscribed](Endpoint::subscribe). Each of them says how many
//! items may wait, and what becomes of the rest; what is lost is told where it is missing.
//! [`guide::topics`] tells more.
//!
//! ```
//! # use nape::{Api, Backlog, Head, Topic};
//! let progress = Topic::<u8>::new();
//! # let (head, neck) = Head::in_process()?;
//! let _neck = neck.serve(Api::new("job").topic("progress", &progress)?)?.start();
//!
//! let mut news = head.subscribe::<u8>("job.progress", Backlog::latest())?;
//! progress.publish(50);
//! assert_eq!(news.next().unwrap().unwrap(), 50);
//! # Ok::<(), nape::Error>(())
//! ```
//!
//! # When it goes wrong
//!
//! | [`CallError`] | what to do |
//! |---|---|
//! | [`TimedOut`](CallError::TimedOut) | `executed` says whether it may have run |
//! | [`Cancelled`](CallError::Cancelled) | nothing: you asked for it |
//! | [`Closed`](CallError::Closed) | the link is gone for all calls; `reason` says why, with the exit status and the last lines of stderr of a child that died |
//! | [`Rejected`](CallError::Rejected) | no handler ran: the path is wrong, a queue is full, the arguments do not fit |
//! | [`Fault`](CallError::Fault) | the handler failed or panicked: [`Fault::typed`], [`Fault::message`], [`Fault::chain`] |
//! | [`NoAnswer`](CallError::NoAnswer) | the handler dropped its [`Responder`] |
//! | [`Decode`](CallError::Decode) | the caller asked for another type than the handler returns |
//! | [`Misuse`](CallError::Misuse) | the calling code is wrong |
//! | [`Poisonous`](CallError::Poisonous) | a call that may be repeated was under way in too many crashes |
//!
//! [`CallError::executed`] says for each whether the handler may have run. [`guide::errors`] has every error
//! there is, with what to do about it.
//!
//! What no caller is told about, such as the failure of an event's handler, goes to
//! [`Endpoint::on_error`] and is counted in [`Counters`]. What nobody handles goes to
//! [`Endpoint::on_unhandled`], if it is set.
//!
//! # Children that crash or hang
//!
//! [`HeadBuilder::supervise`] makes a [`Supervisor`], a Head that starts its program again behind the same
//! handles; calls that are [safe to repeat](Action::retry_safe) survive a crash. [`Config::heartbeat`] finds a
//! side that is there and does nothing, and [`Endpoint::hang_report`] tells who waits for what.
//! [`guide::supervision`] tells all of it.
//!
//! # Beginning and end
//!
//! [`Api::on_start`] and [`Api::on_stop`] open and close what handlers need, [`ApiHandle::every`] calls at a
//! steady pace, and with the feature `signals` `Neck::run_until_signal` serves until the process is asked to end.
//!
//! # Around calls
//!
//! A [`Layer`] stands around calls on either side: it logs, checks, limits or rewrites them. Ready-made ones are
//! in [`layers`], [`Retry`](layers::Retry) beside them. [`guide::layers`] tells more.
//!
//! # Looking inside
//!
//! A program that serves an [`Inspection`] tells the other side what it serves, what is under way, and how long
//! its handlers take; [`Inspector`] asks it, and so does the command `nape` from a shell. [`guide::inspection`]
//! tells more.
//!
//! # Threads
//!
//! A link starts threads as they are needed and ends them two seconds after. An idle link has none or one in
//! process, and two with a child; the one that watches deadlines stays until the last deadline that it was told
//! of has passed. Handlers run on threads of the link, callbacks and listeners too; a caller that blocks reads
//! its own reply. [`guide::threads`] says which thread runs what, where one may block, and how many workers to
//! ask for.
//!
//! # Where to read on
//!
//! | you want to | read |
//! |---|---|
//! | have a thing done | [`guide::cookbook`] |
//! | choose a transport | [`guide::choosing`], [`guide::performance`] |
//! | write a trait; send many items; publish | [`guide::typed`], [`guide::streams`], [`guide::topics`] |
//! | know what an error means | [`guide::errors`] |
//! | know what holds when things go wrong | [`guide::safety`], [`guide::limits`], [`guide::checks`] |
//! | keep children alive; meet at a socket | [`guide::supervision`], [`guide::sockets`] |
//! | start, drain, configure, look inside | [`guide::lifecycle`], `guide::configuration`, [`guide::inspection`] |
//! | come from something else | [ipc-channel](guide::from_ipc_channel), [tarpc](guide::from_tarpc), [Python's multiprocessing](guide::from_multiprocessing) |
//! | know how it works, or write another end of it | [`guide::threads`], [`guide::architecture`], [`guide::wire`] |
//!
//! # Systems
//!
//! Linux is where all of it is built and tested. For macOS and Windows it compiles, and has never run there:
//!
//! | | Linux | macOS | Windows |
//! |---|---|---|---|
//! | in one process | yes | compiles | compiles |
//! | [`Wire::Ipc`] | yes | compiles | compiles |
//! | [`Wire::Pipe`] | yes | compiles | refused |
//! | [`Wire::Shm`] | yes | refused | refused |
//! | TCP on the loopback | yes | compiles | compiles |
//! | Unix sockets | yes | compiles | refused |
//!
//! What is refused is an error when it is asked for. [`guide::systems`] has the rest.
//!
//! # Features
//!
//! - `config-file`: `config_file`, links and APIs that a file describes. It costs the reader of TOML to
//!   build, and nothing at run time.
//! - `compression`: [links whose bytes are compressed](guide::filters). It costs one crate to build, and nothing at run
//!   time to a link without.
//! - `encryption`: [links whose bytes are sealed](guide::filters) with a key that both sides have. It costs some
//!   crates to build, and nothing at run time to a link without.
//! - `json`, on by default: [links that speak JSON](Config::codec). It costs one crate to build, and code for
//!   each type that travels; nothing at run time where it is not asked for.
//! - `macros`, on by default: the attribute `api` for traits. It costs one crate to build, and nothing at
//!   run time.
//! - `metrics` and `tracing`: the layers [`Metrics` and `Tracing`](guide::layers#those-that-are-there). They cost one
//!   crate and three to build; at run time nothing, but where such a layer is put.
//! - `signals`: `run_until_signal`, serving until SIGINT or SIGTERM. It costs one small crate to build. Not on Windows.
//!
//! # What is promised, and what is not
//!
//! [`guide::safety`] has a list of promises with the tests that show each, and what a caller sees when something
//! goes wrong. What nobody can promise:
//!
//! - Exactly-once execution. A failure says [`Executed::No`] when the call cannot have run, else
//!   [`Executed::Maybe`].
//! - An end to a handler that never looks at its token: threads cannot be killed. When its link closes,
//!   it is left behind, and counted.
//! - Safety from a hostile child over ipc-channel, which believes the lengths that its peer states: spawn
//!   such a one with [`Wire::Pipe`] or [`Wire::Shm`].
//! - More after a `fork` without `exec` than that the fork is [refused](Misuse::Forked), and does its parent no
//!   harm.

#![deny(unsafe_code)]
// The lists stand in `clippy.toml`. Tests may name what the library must not.
#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_types))]

mod api;
mod config;
#[cfg(all(feature = "config-file", not(all(loom, test))))]
pub mod config_file;
mod counters;
mod error;
#[cfg(all(test, unix, not(loom)))]
mod failures;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;
pub mod guide;
// The model checker stands in for the memory that processes share: it has none for them.
#[cfg(not(all(loom, test)))]
mod head;
pub mod inspect;
pub mod layers;
mod link;
#[cfg(not(all(loom, test)))]
mod listener;
mod logging;
#[cfg(not(all(loom, test)))]
mod neck;
mod os;
#[cfg(not(all(loom, test)))]
mod process;
#[cfg(all(feature = "signals", unix, not(all(loom, test))))]
mod runner;
mod semaphore;
mod shape;
#[cfg(test)]
mod soak;
#[cfg(not(all(loom, test)))]
mod socket;
#[cfg(not(all(loom, test)))]
mod supervisor;
mod sync;
pub mod transport;
mod typed;
mod wire;
mod workers;

pub use api::{
    Action, Api, ApiArb, ApiHandle, Argument, AsyncResult, Attached, Backlog, Context, Duplex, Endpoint,
    Every, Handler, HandlerError, HangReport, IgnoringErrors, Incoming, Layer, LayerCall, LayerEnd, Leave,
    Listed, Listening, Missed, Next, Outgoing, Progress, Published, QueueDepth, Report, Responder,
    RunningHandler, Subscription, Timer, Topic, TrySendError, Upload, WaitingCaller, WhenFull,
};
#[cfg(feature = "compression")]
pub use config::Compression;
#[cfg(feature = "encryption")]
pub use config::Key;
pub use config::{Answers, Config, Limits, Timeout};
pub use counters::Counters;
pub use error::{
    AddressError, ApiError, CallError, CloseReason, Crash, Death, Error, Executed, Exit, GivenUp, Misuse,
    Rejection, Result, Silence, StartError, TurnedAway,
};
#[cfg(not(all(loom, test)))]
pub use head::{Head, HeadBuilder};
pub use inspect::{Inspection, Inspector};
pub use link::{CancelToken, LinkState};
#[cfg(not(all(loom, test)))]
pub use listener::{Listener, ListenerBuilder, Peer};
#[cfg(feature = "macros")]
pub use nape_macros::api;
#[cfg(not(all(loom, test)))]
pub use neck::{Neck, NeckBuilder};
#[cfg(not(all(loom, test)))]
pub use process::{OutputLine, OutputStream, Wire};
#[cfg(all(feature = "signals", unix, not(all(loom, test))))]
pub use runner::Stopped;
pub use semaphore::Semaphore;
#[cfg(not(all(loom, test)))]
pub use socket::{Address, Allow, BadToken, Credentials, Token};
#[cfg(not(all(loom, test)))]
pub use supervisor::{Restarts, Supervisor, SupervisorBuilder, Transition};
#[cfg(feature = "encryption")]
pub use transport::BadKey;
#[doc(hidden)]
pub use typed::private as __private;
pub use typed::{
    TypedAction, TypedDuplex, TypedEvent, TypedIgnoringErrors, TypedStream, TypedTopic, TypedUpload,
};
pub use wire::{
    Bytes, Codec, FRAME_LIMIT, Fault, FaultKind, Path, PathError, Payload, ProtocolError, Side, TransactionId,
};

// The program in there runs with the other examples of the documentation.
#[cfg(all(doctest, feature = "macros"))]
#[doc = include_str!("../README.md")]
struct Readme;
