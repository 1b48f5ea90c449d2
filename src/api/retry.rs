//! Calls that are made again when they fail.

use std::{fmt, time::Duration};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

use crate::{
    error::{CallError, Rejection},
    sync::Arc,
};

/// Has calls that are [safe to repeat](crate::Action::retry_safe) made again when they fail, after a pause that
/// doubles each time, with jitter: for [`ApiHandle::retry`](crate::ApiHandle::retry).
///
/// By default a call is made at most 4 times, with pauses from 10 ms to 1 s, and only where another try may help
/// whatever the handler does: when it was refused as [busy](Rejection::Busy), and on [`CallError::NoAnswer`].
/// All tries together have the time of the one call: none begins past its deadline, and when the next pause would
/// end after it the call ends at once, as its last try did. A last try that has not run, because it was refused or could
/// not be sent, does not speak for those before it: if one of them may have run, the call ends as that one did.
/// [`Context::attempt`](crate::Context::attempt) tells the handler which one it serves.
///
/// The arguments are encoded once and kept until the call ends. It is the innermost thing on the side that calls:
/// layers see a call once, however many tries it takes. No thread is held during a pause; one thread of the
/// endpoint watches them all, and ends with the last of them. As many calls may pause as may wait to be sent
/// ([`Config::send_queue`](crate::Config::send_queue) and its bytes), besides those for which a thread blocks; one
/// beyond ends at once, as its last try did.
///
/// ```
/// use std::time::Duration;
///
/// use nape::{CallError, Head, layers::Retry};
/// # use nape::{Api, Context, Fault};
/// # let (head, neck) = Head::in_process()?;
/// # let flaky = |cx: &Context, ()| if cx.attempt() < 2 { Err(Fault::new("not yet")) } else { Ok(7u32) };
/// # let _neck = neck.serve(Api::new("disk").handle("read", flaky)?)?.start();
///
/// let retry = Retry::new()
///     .tries(5)
///     .pauses(Duration::from_millis(1), Duration::from_millis(50))
///     .when(|error| matches!(error, CallError::Fault(fault) if fault.message() == "not yet"));
/// let disk = head.api("disk").retry(retry);
/// assert_eq!(disk.action("read", ()).retry_safe().call::<u32>()?, 7);
/// # Ok::<(), nape::Error>(())
/// ```
#[derive(Clone)]
pub struct Retry {
    tries: usize,
    pauses: (Duration, Duration),
    when: Arc<dyn Fn(&CallError) -> bool + Send + Sync>,
}

impl Default for Retry {
    fn default() -> Retry {
        Retry::new()
    }
}

impl Retry {
    /// With the defaults.
    pub fn new() -> Retry {
        let when = |error: &CallError| {
            matches!(error, CallError::Rejected(Rejection::Busy { .. }) | CallError::NoAnswer)
        };
        let pauses = (Duration::from_millis(10), Duration::from_secs(1));
        Retry { tries: 4, pauses, when: Arc::new(when) }
    }

    /// How often a call is made at most, the first time included: 4 by default. 1 is never again.
    pub fn tries(mut self, tries: usize) -> Retry {
        self.tries = tries.max(1);
        self
    }

    /// The first pause and the longest one: 10 ms and 1 s by default. Each is twice as long as the one before, and
    /// jitter adds up to as much again, so that those who failed together do not come back together.
    pub fn pauses(mut self, first: Duration, longest: Duration) -> Retry {
        self.pauses = (first, longest.max(first));
        self
    }

    /// Which failures are worth another try, in the place of the default. It must not block. An end that is
    /// this side's own doing, such as [`CallError::Cancelled`] or [`CallError::TimedOut`], is never tried again.
    pub fn when(mut self, worth: impl Fn(&CallError) -> bool + Send + Sync + 'static) -> Retry {
        self.when = Arc::new(worth);
        self
    }

    pub(super) fn is_worth(&self, error: &CallError) -> bool {
        let ours = matches!(error, CallError::Cancelled | CallError::TimedOut { .. } | CallError::Misuse(_));
        !ours && (self.when)(error)
    }

    /// The pauses of one call.
    pub(super) fn begin(&self) -> ExponentialBackoff {
        let (first, longest) = self.pauses;
        let pauses = ExponentialBuilder::new().with_min_delay(first).with_max_delay(longest).with_jitter();
        pauses.with_factor(2.0).with_max_times(self.tries - 1).build()
    }
}

impl fmt::Debug for Retry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Retry { tries, pauses, .. } = self;
        f.debug_struct("Retry").field("tries", tries).field("pauses", pauses).finish_non_exhaustive()
    }
}
