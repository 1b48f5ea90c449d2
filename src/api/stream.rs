//! The two halves of a stream, as those hold them who send its items and who take them.

use std::{
    collections::VecDeque,
    fmt,
    marker::PhantomData,
    pin::Pin,
    task::Poll,
    time::{Duration, Instant},
};

use serde::{Serialize, de::DeserializeOwned};

use super::action::{check_may_block, name_ours};
use crate::{
    error::{CallError, Executed, Misuse},
    link::{Batch, Intake, Link, Put, Slot, Started, Tap, ask},
    shape::Shape,
    sync::Arc,
    wire::{Path, Quota, TransactionId},
    workers::discard_all,
};

/// The items that come over a stream, in their order: an iterator that blocks, and a
/// [`Stream`](futures_core::Stream) for any executor.
///
/// Each is an item or the error that ended the stream, behind which nothing comes; a stream that ended
/// without one ends the iterator. What came before an error comes before it here, too. Where one may not block, such as
/// in a state listener, [`Misuse::WouldDeadlock`] stands behind what is here and ends it; [`Incoming::try_next`] does
/// not.
///
/// Who makes the items pauses when [`Config::stream_items`](crate::Config::stream_items) of them have not
/// been taken. Dropping it tells the other side that no more are wanted: what [`Action::open`] gave cancels
/// its call, and everything else stops this direction alone.
///
/// ```
/// use std::time::Duration;
///
/// use nape::{Api, Context, Fault, Head, Next};
///
/// let (head, neck) = Head::in_process()?;
/// let api = Api::new("math").stream("naturals", |_: &Context, (): ()| {
///     Ok::<_, Fault>((0u64..).map(Ok::<_, Fault>))
/// })?;
/// let _neck = neck.serve(api)?.start();
///
/// let mut naturals = head.api("math").action("naturals", ()).open::<u64>()?;
/// assert_eq!(naturals.next().transpose()?, Some(0));
/// match naturals.next_timeout(Duration::from_secs(5))? {
///     Next::Item(n) => assert_eq!(n, 1),
///     Next::NotYet => println!("none came in time"),
///     Next::End => println!("there are no more"),
/// }
/// drop(naturals); // the other side makes no more of them
/// # Ok::<(), nape::Error>(())
/// ```
///
/// [`Action::open`]: crate::Action::open
#[must_use = "dropping it tells the other side that no items are wanted"]
pub struct Incoming<T> {
    link: Arc<Link>,
    id: TransactionId,
    path: Path,
    intake: Arc<Intake>,
    /// Here as soon as anything was asked for, and not handed out yet.
    batches: VecDeque<Batch>,
    /// What was handed out, and what of it the other side knows.
    taken: Quota,
    told: Quota,
    is_over: bool,
    /// The call, at the side that made it.
    call: Option<Arc<Slot>>,
    /// Nothing is left of the call without it.
    is_all: bool,
    /// What the side that called knows the method as.
    shape: Option<&'static Shape>,
    items: PhantomData<fn() -> T>,
}

/// What is there of a stream at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Next<T> {
    /// An item.
    Item(T),
    /// None has come yet.
    NotYet,
    /// None will come any more.
    End,
}

impl<T> Incoming<T> {
    /// `call`: at the side that made it; `is_all`: nothing else belongs to it.
    pub(super) fn new(
        started: Started,
        path: Path,
        intake: Arc<Intake>,
        call: Option<Arc<Slot>>,
        is_all: bool,
    ) -> Incoming<T> {
        Incoming {
            link: started.link,
            id: started.id,
            path,
            intake,
            batches: VecDeque::new(),
            taken: Quota::default(),
            told: Quota::default(),
            is_over: false,
            call,
            is_all,
            shape: None,
            items: PhantomData,
        }
    }

    /// Has a refusal over the shapes of the method name ours.
    pub(super) fn known_as(mut self, shape: Option<&'static Shape>) -> Incoming<T> {
        self.shape = shape;
        self
    }

    /// What was called.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The name of the call on its link.
    pub fn transaction(&self) -> TransactionId {
        self.id
    }

    /// Tells the other side that it is not taken from any more. Idempotent.
    fn stop(&mut self) {
        self.is_over = true;
        // What ends the items need not be the end of the call.
        if self.is_all && !self.link.is_forked() && self.call.as_ref().is_some_and(|call| !call.is_done()) {
            self.link.cancel(self.id);
        }
        self.link.close_intake(self.id, &self.intake);
        // Last, since what is in them is the user's.
        discard_all(std::mem::take(&mut self.batches));
    }
}

impl<T: DeserializeOwned + 'static> Incoming<T> {
    /// The next item if one has come. Does not block.
    ///
    /// # Errors
    ///
    /// What ended the stream, once.
    pub fn try_next(&mut self) -> Result<Next<T>, CallError> {
        match self.look() {
            Next::NotYet => {
                self.link.send_gathered();
                Ok(self.look())
            }
            next => Ok(next),
        }
        .and_then(flatten)
    }

    /// The next item, for which it waits at most `limit`.
    ///
    /// Blocks the calling thread. The wait ends with an item, the end of the stream, the limit, or the
    /// closing of the link, whichever comes first. Meanwhile the thread serves the calls that descend from
    /// this one, each to its end.
    ///
    /// # Errors
    ///
    /// What ended the stream, once. In a handler [`CallError::TimedOut`] when the handler's own time is
    /// over. In a state listener, an error hook or a hook of a supervisor [`Misuse::WouldDeadlock`] where nothing is
    /// here, which ends it: nobody takes from it any more.
    pub fn next_timeout(&mut self, limit: Duration) -> Result<Next<T>, CallError> {
        self.wait(Instant::now().checked_add(limit))
    }

    fn wait(&mut self, limit: Option<Instant>) -> Result<Next<T>, CallError> {
        let own = ask(|current| current.deadline);
        loop {
            match self.look() {
                Next::NotYet => {}
                next => return flatten(next),
            }
            // The end of it: a loop over the items would be told so for ever.
            check_may_block().inspect_err(|_| self.stop())?;
            let (intake, call) = (&self.intake, self.call.as_ref());
            let until = limit.into_iter().chain(own).min();
            if self.link.wait_at(&intake.seat, call, until, || intake.has_news()) {
                continue;
            }
            if own.is_none_or(|own| limit.is_some_and(|limit| limit < own)) {
                return Ok(Next::NotYet);
            }
            self.stop();
            return Err(out_of_time(&self.path));
        }
    }

    /// What is here: an item, or the error that ends it.
    fn look(&mut self) -> Next<Result<T, CallError>> {
        loop {
            if self.is_over {
                return Next::End;
            }
            if self.link.is_forked() {
                self.is_over = true;
                return Next::Item(Err(Misuse::Forked.into()));
            }
            while let Some(batch) = self.batches.front_mut() {
                match batch.next::<T>(self.link.codec()) {
                    Some((item, quota)) => return Next::Item(self.hand_out(item, quota)),
                    None => drop(self.batches.pop_front()),
                }
            }
            self.intake.take(&mut self.batches);
            if !self.batches.is_empty() {
                continue;
            }
            match self.intake.over() {
                Some(how) => {
                    self.is_over = true;
                    let failed = |error| Next::Item(Err(name_ours(error, self.shape)));
                    return how.map_or_else(failed, |()| Next::End);
                }
                None if self.intake.has_news() => {}
                None => return Next::NotYet,
            }
        }
    }

    fn hand_out(&mut self, item: Result<T, crate::wire::CodecError>, quota: Quota) -> Result<T, CallError> {
        self.link.tally().items_taken.up();
        self.taken = self.taken.plus(quota);
        let (untold, half) = (self.taken.since(self.told), self.link.half_stream_window());
        if untold.items >= half.items || untold.bytes >= half.bytes {
            self.told = self.taken;
            self.link.took_items(self.id, &self.intake, self.taken, untold);
        }
        item.map_err(|error| {
            self.stop();
            CallError::Decode(format!("expected {}: {error}", std::any::type_name::<T>()).into())
        })
    }
}

fn flatten<T>(next: Next<Result<T, CallError>>) -> Result<Next<T>, CallError> {
    Ok(match next {
        Next::Item(item) => Next::Item(item?),
        Next::NotYet => Next::NotYet,
        Next::End => Next::End,
    })
}

/// The time of the handler that waits is over.
fn out_of_time(path: &Path) -> CallError {
    CallError::TimedOut { path: path.clone(), after: Duration::ZERO, executed: Executed::Maybe }
}

impl<T: DeserializeOwned + 'static> Iterator for Incoming<T> {
    type Item = Result<T, CallError>;

    /// The next item; blocks until there is one, or the stream is over.
    fn next(&mut self) -> Option<Result<T, CallError>> {
        match self.wait(None) {
            Ok(Next::Item(item)) => Some(Ok(item)),
            Ok(Next::End | Next::NotYet) => None,
            Err(error) => Some(Err(error)),
        }
    }
}

impl<T: DeserializeOwned + 'static> std::iter::FusedIterator for Incoming<T> {}

impl<T: DeserializeOwned + 'static> futures_core::Stream for Incoming<T> {
    type Item = Result<T, CallError>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> Poll<Option<Result<T, CallError>>> {
        loop {
            match self.look() {
                Next::Item(item) => return Poll::Ready(Some(item)),
                Next::End => return Poll::Ready(None),
                Next::NotYet if self.intake.set_waker(cx.waker()) => {
                    self.link.send_gathered();
                    return Poll::Pending;
                }
                Next::NotYet => {}
            }
        }
    }
}

impl<T> Drop for Incoming<T> {
    fn drop(&mut self) {
        if !self.is_over || self.is_all {
            self.stop();
        }
    }
}

impl<T> fmt::Debug for Incoming<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming")
            .field("path", &self.path)
            .field("transaction", &self.id)
            .field("over", &self.is_over)
            .finish_non_exhaustive()
    }
}

/// Where the items of a stream are put in, one after the other.
///
/// Dropping it, as [`Outgoing::end`] does, tells the other side that no more come, while what comes the
/// other way goes on. A thread that drops it because it panics ends the whole stream as cancelled instead,
/// at the side that called: what was sent so far must not look complete. (At the side that serves, the
/// panic itself is the answer.)
///
/// ```
/// use std::thread;
///
/// use nape::{Api, Context, Fault, Head, Incoming, Outgoing};
///
/// let (head, neck) = Head::in_process()?;
/// let doubles = |_: &Context, (): (), items: Incoming<u64>, mut out: Outgoing<u64>| {
///     for item in items {
///         out.send(2 * item?)?;
///     }
///     Ok::<_, Fault>(())
/// };
/// let _neck = neck.serve(Api::new("math").duplex("double", doubles)?)?.start();
///
/// let double = head.api("math").action("double", ()).duplex::<u64, u64, ()>()?;
/// let (mut out, items, answer) = double.split();
/// thread::scope(|scope| {
///     scope.spawn(move || (1..=3).try_for_each(|n| out.send(n)));
///     assert_eq!(items.collect::<Result<Vec<_>, _>>()?, [2, 4, 6]);
///     answer.wait()
/// })?;
/// # Ok::<(), nape::Error>(())
/// ```
#[must_use = "dropping it tells the other side that no items come"]
pub struct Outgoing<T> {
    tap: Tap,
    /// The call, at the side that made it.
    call: Option<Arc<Slot>>,
    ended: bool,
    items: PhantomData<fn(T)>,
}

/// Why an item was not sent.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrySendError<T> {
    /// There is no room for it now.
    #[error("the other side has not taken what was sent before")]
    Full(T),
    /// It will never go: the stream is over, or this one item cannot be sent, or not from here. As for
    /// [`Outgoing::send`].
    #[error(transparent)]
    Over(CallError),
}

impl<T> Outgoing<T> {
    pub(super) fn new(tap: Tap, call: Option<Arc<Slot>>) -> Outgoing<T> {
        Outgoing { tap, call, ended: false, items: PhantomData }
    }

    /// What was called.
    pub fn path(&self) -> &Path {
        self.tap.path()
    }

    /// The name of the call on its link.
    pub fn transaction(&self) -> TransactionId {
        self.tap.id
    }

    /// Tells the other side that no more items come. Does not block.
    pub fn end(mut self) {
        self.end_now();
    }

    pub(super) fn end_now(&mut self) {
        if !std::mem::replace(&mut self.ended, true) {
            self.tap.end();
        }
    }
}

impl<T: Serialize + Send + 'static> Outgoing<T> {
    /// Sends an item, or queues it.
    ///
    /// Blocks the calling thread while the other side has not taken what was sent before. The wait ends
    /// with room, the end of the stream, or the closing of the link, whichever comes first. Meanwhile the
    /// thread serves the calls that descend from this one, each to its end.
    ///
    /// # Errors
    ///
    /// [`CallError::Cancelled`] when nobody takes items any more: the other side has dropped its half, or
    /// has answered; [`CallError::Closed`]; [`Misuse::Item`] for one that does not encode or is too large, of which
    /// the stream itself takes no notice. In a handler [`CallError::TimedOut`] when the handler's own time is
    /// over. In a state listener, an error hook or a hook of a supervisor [`Misuse::WouldDeadlock`] where there is no
    /// room: the item is not sent, and the stream goes on.
    pub fn send(&mut self, item: T) -> Result<(), CallError> {
        match self.put_until(item, ask(|current| current.deadline)) {
            Ok(()) => Ok(()),
            Err(TrySendError::Over(error)) => Err(error),
            Err(TrySendError::Full(_)) => Err(out_of_time(self.tap.path())),
        }
    }

    /// Sends an item, or queues it, and waits for at most `limit` until there is room. Blocks meanwhile, as
    /// [`Outgoing::send`] does.
    ///
    /// # Errors
    ///
    /// [`TrySendError::Full`] gives the item back; else as for [`Outgoing::send`].
    pub fn send_timeout(&mut self, item: T, limit: Duration) -> Result<(), TrySendError<T>> {
        let own = ask(|current| current.deadline);
        let limit = Instant::now().checked_add(limit);
        let sent = self.put_until(item, own.into_iter().chain(limit).min());
        match sent {
            Err(TrySendError::Full(_)) if own.is_some_and(|own| limit.is_none_or(|limit| own <= limit)) => {
                Err(TrySendError::Over(out_of_time(self.tap.path())))
            }
            sent => sent,
        }
    }

    fn put_until(&mut self, item: T, until: Option<Instant>) -> Result<(), TrySendError<T>> {
        let mut sent = self.try_send(item);
        if matches!(sent, Err(TrySendError::Full(_))) {
            check_may_block().map_err(TrySendError::Over)?;
        }
        while let Err(TrySendError::Full(item)) = sent {
            if !self.tap.wait(self.call.as_ref(), until) {
                return Err(TrySendError::Full(item));
            }
            sent = self.try_send(item);
        }
        sent
    }

    /// Sends an item, or queues it, if there is room. Does not block.
    ///
    /// # Errors
    ///
    /// [`TrySendError::Full`] gives the item back; else as for [`Outgoing::send`].
    pub fn try_send(&mut self, item: T) -> Result<(), TrySendError<T>> {
        match self.tap.put(item) {
            Put::Done => Ok(()),
            Put::Full(item) => Err(TrySendError::Full(item)),
            Put::Failed(error) => Err(TrySendError::Over(error)),
        }
    }

    /// Waits until an item may be sent without a wait, or never again: a future for any executor.
    ///
    /// # Errors
    ///
    /// As for [`Outgoing::send`].
    pub async fn ready(&mut self) -> Result<(), CallError> {
        std::future::poll_fn(|cx| {
            loop {
                match self.tap.has_room() {
                    Ok(true) => return Poll::Ready(Ok(())),
                    Err(error) => return Poll::Ready(Err(error)),
                    Ok(false) if self.tap.outlet.set_waker(cx.waker()) => return Poll::Pending,
                    Ok(false) => {}
                }
            }
        })
        .await
    }
}

impl<T> Drop for Outgoing<T> {
    fn drop(&mut self) {
        if !self.ended && self.call.is_some() && std::thread::panicking() {
            self.tap.link.cancel(self.tap.id);
        }
        self.end_now();
    }
}

impl<T> fmt::Debug for Outgoing<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outgoing")
            .field("path", self.path())
            .field("transaction", &self.transaction())
            .finish_non_exhaustive()
    }
}
