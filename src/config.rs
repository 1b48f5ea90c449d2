//! Every knob of a link, with its unit, its default and its price.

mod filters;
mod limits;
#[cfg(feature = "config-file")]
pub(crate) mod read;

use std::time::Duration;

#[cfg(feature = "compression")]
pub use filters::Compression;
#[cfg(feature = "encryption")]
pub use filters::Key;
pub use limits::Limits;
pub(crate) use limits::most_refusals;

use crate::wire::{Choice, Codec};

/// The limits and times of one side. The two sides need not agree.
///
/// ```
/// use nape::Config;
/// use std::time::Duration;
///
/// let config = Config::new().timeout(Duration::from_secs(5)).in_flight(64);
/// ```
///
/// With the feature `config-file` it can be deserialized. Its keys are `name`, `codec`, `compression`, `timeout`,
/// `answers`, `start_timeout`, `stall_timeout`, `write_stall`, `heartbeat`, `watchdog`, `grace`, and `limits`, a table of
/// [`Limits`]. A key for encryption is never read from a file.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "config-file", derive(serde::Deserialize))]
#[cfg_attr(feature = "config-file", serde(default, deny_unknown_fields, expecting = "a table"))]
pub struct Config {
    #[cfg_attr(feature = "config-file", serde(deserialize_with = "read::name"))]
    pub(crate) name: String,
    #[cfg_attr(feature = "config-file", serde(rename = "codec", deserialize_with = "read::codecs"))]
    pub(crate) codecs: Choice,
    #[cfg(feature = "compression")]
    compression: Option<Compression>,
    #[cfg(feature = "encryption")]
    #[cfg_attr(feature = "config-file", serde(skip))]
    encryption: Option<Key>,
    pub(crate) timeout: Timeout,
    pub(crate) limits: Limits,
    pub(crate) answers: Answers,
    #[cfg_attr(feature = "config-file", serde(deserialize_with = "read::time"))]
    pub(crate) start_timeout: Duration,
    #[cfg_attr(feature = "config-file", serde(deserialize_with = "read::time"))]
    pub(crate) stall_timeout: Duration,
    pub(crate) write_stall: Timeout,
    #[cfg_attr(feature = "config-file", serde(deserialize_with = "read::heartbeat"))]
    pub(crate) heartbeat: Option<(Duration, Duration)>,
    #[cfg_attr(feature = "config-file", serde(deserialize_with = "read::watchdog"))]
    pub(crate) watchdog: Option<Duration>,
    #[cfg_attr(feature = "config-file", serde(deserialize_with = "read::time"))]
    pub(crate) grace: Duration,
}

/// When the answers to calls leave that came together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "config-file", derive(serde::Deserialize), serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum Answers {
    /// Each when its handler is done: what was answered before this process is killed arrives.
    #[default]
    AtOnce,
    /// Those to the calls of one packet together, up to 16 at a time, when their handlers are done or one of
    /// them takes longer than usual. With many calls in flight over a pipe this more than doubles their
    /// rate. If a handler ends the process, the answers before it may be lost.
    Together,
}

/// How long a call may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timeout {
    /// At most this long; zero is over at once.
    After(Duration),
    /// As long as the link lives.
    Never,
}

impl Timeout {
    /// The time, if there is one.
    pub(crate) fn limit(self) -> Option<Duration> {
        match self {
            Timeout::After(limit) => Some(limit),
            Timeout::Never => None,
        }
    }
}

impl From<Duration> for Timeout {
    fn from(duration: Duration) -> Timeout {
        Timeout::After(duration)
    }
}

impl Default for Config {
    fn default() -> Config {
        Config {
            name: "nape".into(),
            codecs: Choice { asks: Codec::Binary, takes_json: Codec::HAS_JSON },
            #[cfg(feature = "compression")]
            compression: None,
            #[cfg(feature = "encryption")]
            encryption: None,
            timeout: Timeout::After(Duration::from_secs(30)),
            limits: Limits::default(),
            answers: Answers::AtOnce,
            start_timeout: Duration::from_secs(10),
            stall_timeout: Duration::from_secs(30),
            write_stall: Timeout::After(Duration::from_secs(10)),
            heartbeat: None,
            watchdog: None,
            grace: Duration::from_secs(2),
        }
    }
}

impl Config {
    /// The defaults.
    pub fn new() -> Config {
        Config::default()
    }

    /// What the threads of the link are called, before their job: `nape` by default.
    ///
    /// Linux shows the first 15 bytes of a thread's name. A NUL, which none can have, becomes a `_`; in a file it is
    /// refused.
    pub fn name(mut self, name: impl Into<String>) -> Config {
        self.name = name.into().replace('\0', "_");
        self
    }

    /// The codec that this side asks for: [`Codec::Binary`] by default, which leaves the choice to the other side.
    ///
    /// A link speaks JSON if either side asks for it, and the other takes it; else there is no link, and both
    /// are told why: [`ProtocolError::CodecRefused`](crate::ProtocolError::CodecRefused). It costs a multiple of
    /// binary for what is small, and far more for what is large. The two ends in one process hand values over as
    /// they are, whatever they ask for. Without the feature `json` asking for it is refused by every peer.
    ///
    /// ```
    /// # #[cfg(feature = "json")] {
    /// use nape::{Api, Codec, Config, Context, Fault, Head, Neck, transport::pipe_pair};
    ///
    /// let (ours, theirs) = pipe_pair()?;
    /// let add = |_: &Context, (a, b): (u32, u32)| Ok::<_, Fault>(a + b);
    /// let neck = Neck::builder().over(theirs)?.serve(Api::new("math").handle("add", add)?)?.start();
    /// let head = Head::builder().config(Config::new().codec(Codec::Json)).over(ours)?;
    ///
    /// let sum: u32 = head.api("math").action("add", (2u32, 3u32)).call()?;
    /// assert_eq!((sum, neck.codec()), (5, Codec::Json));
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn codec(mut self, asks: Codec) -> Config {
        self.codecs.asks = asks;
        self
    }

    /// Refuses a peer that asks for JSON; by default it gets it, if the feature `json` is on.
    ///
    /// What a hostile peer may send is bounded in either codec; this leaves it one of them.
    pub fn only_binary(mut self) -> Config {
        self.codecs = Choice { asks: Codec::Binary, takes_json: false };
        self
    }

    /// The timeout of a call that sets none of its own: 30 s by default.
    pub fn timeout(mut self, timeout: impl Into<Timeout>) -> Config {
        self.timeout = timeout.into();
        self
    }

    /// How much this side may hold: all limits at once. [`Limits::total_bytes`] is what they come to.
    ///
    /// The setters below set one of them each.
    pub fn limits(mut self, limits: Limits) -> Config {
        self.limits = limits;
        self
    }

    /// The largest message in bytes: short for [`Limits::message_bytes`].
    pub fn message_limit(mut self, bytes: usize) -> Config {
        self.limits = self.limits.message_bytes(bytes);
        self
    }

    /// How many calls may be sent and unanswered at once: short for [`Limits::in_flight`].
    pub fn in_flight(mut self, calls: usize) -> Config {
        self.limits = self.limits.in_flight(calls);
        self
    }

    /// How many calls and events may wait to be sent: short for [`Limits::send_queue`].
    pub fn send_queue(mut self, messages: usize) -> Config {
        self.limits = self.limits.send_queue(messages);
        self
    }

    /// How many bytes may wait to be sent: short for [`Limits::send_queue_bytes`].
    pub fn send_queue_bytes(mut self, bytes: usize) -> Config {
        self.limits = self.limits.send_queue_bytes(bytes);
        self
    }

    /// How many calls of the other side may be unanswered here at once: short for [`Limits::served_calls`].
    pub fn served_calls(mut self, calls: usize) -> Config {
        self.limits = self.limits.served_calls(calls);
        self
    }

    /// How many items of a stream may come that nobody has taken: short for [`Limits::stream_items`].
    pub fn stream_items(mut self, items: u32) -> Config {
        self.limits = self.limits.stream_items(items);
        self
    }

    /// How many bytes of a stream's items may come that nobody has taken: short for [`Limits::stream_bytes`].
    pub fn stream_bytes(mut self, bytes: u32) -> Config {
        self.limits = self.limits.stream_bytes(bytes);
        self
    }

    /// How many callbacks may run at once: short for [`Limits::callback_workers`].
    pub fn callback_workers(mut self, workers: usize) -> Config {
        self.limits = self.limits.callback_workers(workers);
        self
    }

    /// When the answers to calls leave that came together: each at once by default.
    pub fn answers(mut self, answers: Answers) -> Config {
        self.answers = answers;
        self
    }

    /// How long the other side may take from its start until it is ready, or over a given transport
    /// until it greets: 10 s by default.
    pub fn start_timeout(mut self, limit: Duration) -> Config {
        self.start_timeout = limit;
        self
    }

    /// How long the other side may pause within a message of several frames: 30 s by default. What it had sent is
    /// memory that is held here. After that it has one second more, in case that this process itself stood still, and
    /// then the link ends with [`ProtocolError::Stalled`](crate::ProtocolError::Stalled).
    pub fn stall_timeout(mut self, limit: Duration) -> Config {
        self.stall_timeout = limit;
        self
    }

    /// How long the other side may read nothing while something waits to be sent to it and there is no room
    /// for that: 10 s by default. After that it costs it the link, with [`CloseReason::Unresponsive`].
    ///
    /// Until then, whatever waits ends by its own timeout. A process that is stopped in a debugger reads
    /// nothing either: [`Timeout::Never`] is for that. It costs nothing while the other side reads. One that says that
    /// it reads and does not holds nobody up either: what has begun to leave is left to a thread of the link, and after
    /// the same time the link ends with [`CloseReason::Io`] (over shared memory after one second).
    ///
    /// [`CloseReason::Unresponsive`]: crate::CloseReason::Unresponsive
    /// [`CloseReason::Io`]: crate::CloseReason::Io
    pub fn write_stall(mut self, limit: impl Into<Timeout>) -> Config {
        self.write_stall = limit.into();
        self
    }

    /// Asks the other side for a sign of life when nothing has come from it for `interval`; when nothing comes
    /// for `limit` after that, it costs it the link, with [`CloseReason::Unresponsive`]. Off by default; each
    /// at least 10 ms. It has no meaning between the two ends in one process.
    ///
    /// Whoever reads at the other side answers, and no worker: a side that is busy in all its handlers is not
    /// unresponsive, one that is stopped is. Time in which this process itself did not run does not count.
    ///
    /// It costs an idle link a wake-up and a message there and back in every interval, and a link in use next
    /// to nothing.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use nape::Config;
    ///
    /// let config = Config::new().heartbeat(Duration::from_secs(1), Duration::from_secs(5));
    /// ```
    ///
    /// [`CloseReason::Unresponsive`]: crate::CloseReason::Unresponsive
    pub fn heartbeat(mut self, interval: Duration, limit: Duration) -> Config {
        self.heartbeat = Some((interval.max(LEAST_BEAT), limit.max(LEAST_BEAT)));
        self
    }

    /// Reports handlers and calls that take longer than this, each once, to the
    /// [error hook](crate::Endpoint::on_error) and the log: as
    /// [`Report::SlowHandler`](crate::Report::SlowHandler) and [`Report::SlowCall`](crate::Report::SlowCall).
    /// Off by default; at least 10 ms.
    ///
    /// It costs a thread that looks four times in this time, and a lock for each handler that runs. Nothing
    /// is ended by it. [`Endpoint::hang_report`](crate::Endpoint::hang_report) tells more, and costs nothing
    /// until it is asked.
    pub fn watchdog(mut self, limit: Duration) -> Config {
        self.watchdog = Some(limit.max(LEAST_BEAT));
        self
    }

    /// How long closing may wait: for queued events to leave, for user code to return, and for a child
    /// to end by itself before it is killed. 2 s by default.
    pub fn grace(mut self, limit: Duration) -> Config {
        self.grace = limit;
        self
    }
}

/// More pings than this makes would cost more than they tell.
const LEAST_BEAT: Duration = Duration::from_millis(10);
