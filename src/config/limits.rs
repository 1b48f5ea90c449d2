//! What one link may hold, in one place, and what that comes to.

#[cfg(feature = "config-file")]
use super::read;

/// How much one side of a link may hold at a time: of what came and nobody has taken, and of what waits to be sent.
///
/// Every queue of a link has a bound here or in the [`Api`](crate::Api) that it belongs to, and a policy for what
/// is beyond: see [the guide](crate::guide::limits). [`Limits::total_bytes`] is what all of it comes to, whatever
/// the other side sends or does not read. The two sides need not agree, but for the size of a message.
///
/// ```
/// use nape::{Config, Limits};
///
/// let limits = Limits::new().message_bytes(1 << 20).received_bytes(4 << 20).send_queue_bytes(4 << 20);
/// assert!(limits.total_bytes() < 32 << 20);
/// assert!(Limits::new().total_bytes() < 64 << 20);
/// let config = Config::new().limits(limits);
/// # drop(config);
/// ```
///
/// With the feature `config-file` it can be deserialized: each setter is a key.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "config-file", derive(serde::Deserialize))]
#[cfg_attr(feature = "config-file", serde(default, deny_unknown_fields, expecting = "a table"))]
pub struct Limits {
    #[cfg_attr(feature = "config-file", serde(deserialize_with = "read::bytes::<_, _, 1024, 1073741824>"))]
    pub(crate) message_bytes: usize,
    #[cfg_attr(feature = "config-file", serde(deserialize_with = "read::bytes::<_, _, 0, { u64::MAX }>"))]
    pub(crate) received_bytes: usize,
    #[cfg_attr(feature = "config-file", serde(deserialize_with = "read::count::<_, _, 1, { u64::MAX }>"))]
    pub(crate) in_flight: usize,
    #[cfg_attr(feature = "config-file", serde(deserialize_with = "read::count::<_, _, 1, { u64::MAX }>"))]
    pub(crate) send_queue: usize,
    #[cfg_attr(feature = "config-file", serde(deserialize_with = "read::bytes::<_, _, 0, { u64::MAX }>"))]
    pub(crate) send_queue_bytes: usize,
    #[cfg_attr(feature = "config-file", serde(deserialize_with = "read::count::<_, _, 1, { u64::MAX }>"))]
    pub(crate) served_calls: usize,
    #[cfg_attr(feature = "config-file", serde(deserialize_with = "read::count::<_, _, 1, 1048576>"))]
    pub(crate) stream_items: u32,
    #[cfg_attr(feature = "config-file", serde(deserialize_with = "read::bytes::<_, _, 1, 1073741824>"))]
    pub(crate) stream_bytes: u32,
    #[cfg_attr(feature = "config-file", serde(deserialize_with = "read::count::<_, _, 1, 65536>"))]
    pub(crate) subscription_items: u32,
    #[cfg_attr(feature = "config-file", serde(deserialize_with = "read::count::<_, _, 0, { u64::MAX }>"))]
    pub(crate) topic_items: usize,
    #[cfg_attr(feature = "config-file", serde(deserialize_with = "read::count::<_, _, 1, { u64::MAX }>"))]
    pub(crate) callback_workers: usize,
    #[cfg_attr(feature = "config-file", serde(deserialize_with = "read::count::<_, _, 1, { u64::MAX }>"))]
    pub(crate) callbacks: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            message_bytes: 16 << 20,
            received_bytes: 34 << 20,
            in_flight: 1024,
            send_queue: 1024,
            send_queue_bytes: 16 << 20,
            served_calls: 1024,
            stream_items: 64,
            stream_bytes: 1 << 20,
            subscription_items: 1024,
            topic_items: 8192,
            callback_workers: 2,
            callbacks: 1024,
        }
    }
}

impl Limits {
    /// The defaults.
    pub fn new() -> Limits {
        Limits::default()
    }

    /// The largest message in bytes, sent or received: 16 MiB by default, 1 KiB to 1 GiB.
    ///
    /// A larger one is refused where it is sent, and costs a peer that sends it anyway its link. It
    /// bounds what one call can make this side allocate.
    pub fn message_bytes(mut self, bytes: usize) -> Limits {
        self.message_bytes = bytes.clamp(1024, 1 << 30);
        self
    }

    /// How many bytes may be here that came and that nobody has taken: 34 MiB by default, for two messages
    /// of the largest size and more; at least for one.
    ///
    /// It counts messages of which a part has come, calls and events that wait for a worker, answers whose result
    /// was not asked for, the items of streams and subscriptions, and errors that are values; each with 1 KiB for
    /// itself. Calls and answers of up to 1 KiB are not counted here, since their number has a limit. When there
    /// is no room, a call is refused as busy, an event is dropped and reported, a call of ours whose answer it is
    /// ends with a [`Fault`](crate::Fault) that says so, and so does a stream. Nothing waits.
    pub fn received_bytes(mut self, bytes: usize) -> Limits {
        self.received_bytes = bytes;
        self
    }

    /// How many calls may be sent and unanswered at once: 1,024 by default, at least 1.
    ///
    /// A call beyond waits in the send queue, and its timeout runs.
    pub fn in_flight(mut self, calls: usize) -> Limits {
        self.in_flight = calls.max(1);
        self
    }

    /// How many calls and events may wait to be sent: 1,024 by default, at least 1.
    ///
    /// When they do, `start`, `then` and `fire` are refused as busy, and `call` waits. As many calls may wait for the
    /// [next start](crate::guide::supervision) of a program.
    pub fn send_queue(mut self, messages: usize) -> Limits {
        self.send_queue = messages.max(1);
        self
    }

    /// How many bytes may wait to be sent: 16 MiB by default. With nothing else waiting, one message may go over it.
    ///
    /// It counts calls, events, answers and the items of streams, and what is left of those that have left in
    /// part. When there is no room, `start`, `then` and `fire` are refused as busy, `call` waits, whoever makes
    /// items pauses, and a handler that has answered waits, with an answer of over 1 KiB, until the other side has
    /// read or the caller's time is over.
    pub fn send_queue_bytes(mut self, bytes: usize) -> Limits {
        self.send_queue_bytes = bytes;
        self
    }

    /// How many calls of the other side may be unanswered here at once: 1,024 by default, at least 1.
    ///
    /// Those beyond are refused as busy, before any API sees them. At least as many as the other
    /// side's `in_flight` is what one wants.
    pub fn served_calls(mut self, calls: usize) -> Limits {
        self.served_calls = calls.max(1);
        self
    }

    /// How many items of a stream may come here, or be on their way, that nobody has taken: 64 by default, 1 to
    /// 1,048,576.
    ///
    /// With that many, whoever makes them pauses. At the sending side it is how many may wait to be sent.
    pub fn stream_items(mut self, items: u32) -> Limits {
        self.stream_items = items.clamp(1, 1 << 20);
        self
    }

    /// How many bytes of these items may be here or on their way: 1 MiB by default, 1 byte to 1 GiB. One item may go
    /// over it.
    ///
    /// In process, where items are not encoded, they have no bytes.
    pub fn stream_bytes(mut self, bytes: u32) -> Limits {
        self.stream_bytes = bytes.clamp(1, 1 << 30);
        self
    }

    /// How many items may wait to be sent for one subscription of the other side: 1,024 by default, 1 to 65,536. What a
    /// [`Backlog`](crate::Backlog) asks for beyond that is not kept here.
    ///
    /// They are the items of a [`Topic`](crate::Topic), which its subscriptions share: a slow one may keep so many of
    /// them in memory. What becomes of the rest is up to the policy of the backlog, and is told to whoever reads.
    pub fn subscription_items(mut self, items: u32) -> Limits {
        self.subscription_items = items.clamp(1, 65_536);
        self
    }

    /// How many items may wait for all subscriptions of the other side together, besides one for each: 8,192 by default.
    pub fn topic_items(mut self, items: usize) -> Limits {
        self.topic_items = items;
        self
    }

    /// How many callbacks may run at once: 2 by default, at least 1.
    pub fn callback_workers(mut self, workers: usize) -> Limits {
        self.callback_workers = workers.max(1);
        self
    }

    /// How many callbacks may wait for one of these workers: 1,024 by default, at least 1.
    ///
    /// When they do, `then` is refused as busy. Callbacks of calls that are under way come on top.
    pub fn callbacks(mut self, waiting: usize) -> Limits {
        self.callbacks = waiting.max(1);
        self
    }

    /// How many bytes one side of a link holds at most, whatever the other side sends or does not read.
    ///
    /// | what | bytes |
    /// |---|---|
    /// | what came and nobody has taken | [`received_bytes`](Limits::received_bytes), or one message if that is more |
    /// | what waits to be sent | [`send_queue_bytes`](Limits::send_queue_bytes), or one message if that is more |
    /// | calls that are served, with arguments and answers of up to 1 KiB | 4 KiB for each of [`served_calls`](Limits::served_calls) |
    /// | refusals that wait to be sent, ten for each of these and no less than 2,048 | 512 bytes each |
    /// | calls that are under way or wait to be sent | 1 KiB for each of [`in_flight`](Limits::in_flight) and [`send_queue`](Limits::send_queue) |
    /// | places of items that wait for subscriptions | 64 bytes for each of [`topic_items`](Limits::topic_items) |
    /// | buffers of the link and its transport, what waits for a hook | 2 MiB |
    ///
    /// Not in it is what user code holds: values that it was given, the message that a thread is about to send in a
    /// blocking call or as the answer of its handler, results that it has not taken (1 KiB each), the items
    /// themselves that a [`Topic`](crate::Topic) keeps for subscriptions, the arguments of calls that may be
    /// [made again](crate::Action::retry_safe), which are kept until these end, and stacks.
    pub fn total_bytes(&self) -> usize {
        let calls = self.in_flight.saturating_add(self.send_queue).saturating_mul(CALL);
        let refusals = most_refusals(self.served_calls).saturating_mul(REFUSAL);
        let served = self.served_calls.saturating_mul(SERVED).saturating_add(refusals);
        let queues = self.room().saturating_add(self.send_queue_bytes.max(self.message_bytes));
        let items = self.topic_items.saturating_mul(ITEM);
        [calls, served, items, BUFFERS].into_iter().fold(queues, usize::saturating_add)
    }

    /// The room for what comes: there is always enough for a single message.
    pub(crate) fn room(&self) -> usize {
        self.received_bytes.max(self.message_bytes.max(LEAST_ROOM).saturating_add(LEAST_ROOM))
    }
}

/// How many refusals may wait for a peer that does not read them, where so many calls may be served at once. A peer does
/// not know how many those are: it gets no fewer than it may have under way by the usual limits, and what it has
/// cancelled meanwhile.
pub(crate) fn most_refusals(served_calls: usize) -> usize {
    served_calls.saturating_mul(10).max(2048)
}

/// What one of them takes.
const REFUSAL: usize = 512;
/// What a call takes that is served, with arguments and an answer of 1 KiB.
const SERVED: usize = 4096;
/// What a call of ours takes.
const CALL: usize = 1024;
/// What the place of an item takes.
const ITEM: usize = 64;
/// What a link takes when nothing is under way, and what may wait for its hooks.
const BUFFERS: usize = 2 << 20;
/// Room for the parts of an error, however small a message has to be.
const LEAST_ROOM: usize = 128 * 1024;
