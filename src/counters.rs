//! Numbers that a user can read at any time.

use crate::{
    logging::say,
    sync::{AtomicU64, Ordering},
};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// What a side has counted since it was made.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Counters {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Counters {
            /// The name of each number and the number, in the order in which they stand here.
            ///
            /// ```
            /// let (head, _neck) = nape::Head::in_process()?;
            /// let (name, calls) = head.counters().iter().next().expect("there is one");
            /// assert_eq!((name, calls), ("calls", 0));
            /// # Ok::<(), nape::Error>(())
            /// ```
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
                [$((stringify!($name), self.$name),)*].into_iter()
            }
        }

        #[derive(Debug, Default)]
        pub(crate) struct Tally {
            $(pub(crate) $name: Count,)*
        }

        impl Tally {
            pub(crate) fn read(&self) -> Counters {
                Counters { $($name: self.$name.0.load(Ordering::Relaxed),)* }
            }
        }
    };
}

counters! {
    /// Calls that this side made.
    calls,
    /// Of these, those that ended with a value.
    values,
    /// Of these, those that a handler failed or that it panicked in.
    faults,
    /// Of these, those that were refused before a handler ran.
    rejections,
    /// Of these, those whose deadline passed.
    timeouts,
    /// Of these, those that were cancelled.
    cancels,
    /// Of these, those that the end of the link cut off.
    cut_off,
    /// Errors that `ignore_errors` turned into nothing.
    ignored_errors,
    /// Events that this side sent.
    events_sent,
    /// Events that this side could not send, or had not sent when the link closed.
    events_unsent,
    /// Items of streams that this side sent.
    items_sent,
    /// Items of streams that were handed out here.
    items_taken,
    /// Items of streams that came here and that nobody took.
    items_dropped,
    /// Replies that came here for calls of this side that had ended before.
    late_replies,
    /// Calls of the other side that came here.
    calls_served,
    /// Events of the other side that came here.
    events_served,
    /// Events of the other side that nobody handled, or that found a full queue.
    events_dropped,
    /// Events of the other side whose handler failed.
    events_failed,
    /// Items of topics of this side that were not sent to a subscription, because it did not keep up.
    items_unsent,
    /// Items that subscriptions of this side were told to have lost, wherever that was.
    items_lost,
    /// Calls of the other side that nothing here handles.
    unhandled,
    /// Calls of the other side that expired or were cancelled before they could run.
    expired_in_queue,
    /// Answers to calls of the other side that it had given up, so that they were not sent. A call that
    /// was given up after it left is counted once: here, or at the other side as a late reply.
    answers_unsent,
    /// Handlers that panicked.
    handler_panics,
    /// Callbacks, listeners, error hooks and wakers that panicked.
    callback_panics,
    /// Reports of which the error hook was not told, because too many waited for it.
    reports_dropped,
    /// Threads that were still in user code when the link closed, and were left behind.
    threads_left_behind,
}

impl Tally {
    /// So many threads of a link, whose names begin with that of its config, have not come back from user code.
    pub(crate) fn leave_behind(&self, n: usize, config: &str, thread: &str) {
        self.threads_left_behind.add(n as u64);
        say!(Warn, "{n} threads named {config}-{thread} were still in user code and are left behind");
    }
}

/// One number that many threads count up.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn up(&self) {
        self.add(1);
    }

    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }
}
