//! The calls that open a stream, and what the side that calls holds of one.

use std::{
    fmt,
    time::{Duration, Instant},
};

use serde::{Serialize, de::DeserializeOwned};

use super::{Action, AsyncResult, Incoming, Next, Outgoing, TrySendError};
use crate::{
    config::Timeout,
    error::CallError,
    link::{Slot, Started, Tap},
    shape::Shape,
    sync::Arc,
    wire::{Path, TransactionId},
};

impl<A: Serialize + Send + 'static> Action<A> {
    /// Opens a stream of the items that the other side makes, and takes them as they come. Does not block.
    ///
    /// The timeout of the action is the time until the other side has begun; after that the stream takes as
    /// long as it takes.
    ///
    /// ```
    /// use nape::{Api, Context, Fault, Head};
    ///
    /// let (head, neck) = Head::in_process()?;
    /// let api = Api::new("math").stream("squares", |_: &Context, n: u64| {
    ///     Ok::<_, Fault>((1..=n).map(|i| Ok::<_, Fault>(i * i)))
    /// })?;
    /// let _neck = neck.serve(api)?.start();
    ///
    /// let squares = head.api("math").action("squares", 4u64).open::<u64>()?;
    /// assert_eq!(squares.collect::<Result<Vec<_>, _>>()?, [1, 4, 9, 16]);
    /// # Ok::<(), nape::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// What shows at once: a closed link, a full send queue, arguments that do not encode, no time.
    /// Whatever else keeps the stream from beginning comes in the place of the first item.
    pub fn open<T: DeserializeOwned + 'static>(self) -> Result<Incoming<T>, CallError> {
        let shape = self.shape;
        let (started, slot) = self.set_out_streaming(false, true)?;
        Ok(incoming(&started, &slot, true, shape))
    }

    /// Opens a stream of items that the other side takes, and answers when it has. Does not block.
    ///
    /// The timeout of the action is the time until the other side has begun, and again that from the last
    /// item to the answer.
    ///
    /// ```
    /// use nape::{Api, CallError, Context, Head, Incoming};
    ///
    /// let (head, neck) = Head::in_process()?;
    /// let api = Api::new("math").upload("sum", |_: &Context, start: u64, items: Incoming<u64>| {
    ///     items.into_iter().try_fold(start, |sum, item| Ok::<_, nape::Fault>(sum + item?))
    /// })?;
    /// let _neck = neck.serve(api)?.start();
    ///
    /// let mut sum = head.api("math").action("sum", 100u64).upload::<u64, u64>()?;
    /// for n in [1, 2, 3] {
    ///     sum.send(n)?;
    /// }
    /// assert_eq!(sum.finish()?, 106);
    /// # Ok::<(), nape::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// What shows at once, as for [`Action::open`].
    pub fn upload<T, R>(self) -> Result<Upload<T, R>, CallError>
    where
        T: Serialize + Send + 'static,
        R: DeserializeOwned + 'static,
    {
        let (timeout, shape) = (self.timeout_now(), self.shape);
        let (started, slot) = self.set_out_streaming(true, false)?;
        let out = outgoing(&started, &slot);
        Ok(Upload { answer: AsyncResult::new(started, slot, true, shape), out, timeout })
    }

    /// Opens a stream both ways: items `U` go, items `T` come, and in the end an answer `R`. Does not
    /// block.
    ///
    /// The timeout of the action is the time until the other side has begun, and again that which
    /// [`Duplex::finish`] takes.
    ///
    /// ```
    /// use nape::{Api, Context, Fault, Head, Incoming, Outgoing};
    ///
    /// let (head, neck) = Head::in_process()?;
    /// let echo = |_: &Context, (): (), items: Incoming<String>, mut out: Outgoing<String>| {
    ///     let mut n = 0;
    ///     for item in items {
    ///         out.send(item?.to_uppercase())?;
    ///         n += 1;
    ///     }
    ///     Ok::<u32, Fault>(n)
    /// };
    /// let _neck = neck.serve(Api::new("chat").duplex("loud", echo)?)?.start();
    ///
    /// let mut loud = head.api("chat").action("loud", ()).duplex::<String, String, u32>()?;
    /// loud.send("hello".into())?;
    /// assert_eq!(loud.next().transpose()?, Some("HELLO".into()));
    /// assert_eq!(loud.finish()?, 1);
    /// # Ok::<(), nape::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// What shows at once, as for [`Action::open`].
    pub fn duplex<U, T, R>(self) -> Result<Duplex<U, T, R>, CallError>
    where
        U: Serialize + Send + 'static,
        T: DeserializeOwned + 'static,
        R: DeserializeOwned + 'static,
    {
        let (timeout, shape) = (self.timeout_now(), self.shape);
        let (started, slot) = self.set_out_streaming(true, true)?;
        let (out, items) = (outgoing(&started, &slot), incoming(&started, &slot, false, shape));
        Ok(Duplex { answer: AsyncResult::new(started, slot, true, shape), out, items, timeout })
    }
}

fn incoming<T>(
    started: &Started,
    slot: &Arc<Slot>,
    is_all: bool,
    shape: Option<&'static Shape>,
) -> Incoming<T> {
    let intake = slot.streams().and_then(|streams| streams.ours.intake.clone());
    let intake = intake.expect("the call was made with one");
    Incoming::new(started.clone(), slot.path.clone(), intake, Some(slot.clone()), is_all).known_as(shape)
}

fn outgoing<T>(started: &Started, slot: &Arc<Slot>) -> Outgoing<T> {
    let outlet = slot.streams().and_then(|streams| streams.ours.outlet.clone());
    let outlet = outlet.expect("the call was made with one");
    let tap = Tap::new(started.link.clone(), started.id, outlet, slot.path.clone());
    Outgoing::new(tap, Some(slot.clone()))
}

/// Items on their way to the other side, which answers when it has them.
///
/// [`finish`](Upload::finish) says that these were all. Dropping it before cancels the call: the handler
/// gets [`CallError::Cancelled`] in the place of the next item, so that what has come never looks complete.
#[must_use = "dropping it cancels the call"]
pub struct Upload<T, R> {
    // The first to be dropped, so that the call is cancelled before its items end.
    answer: AsyncResult<R>,
    out: Outgoing<T>,
    timeout: Timeout,
}

impl<T, R> Upload<T, R> {
    /// What was called.
    pub fn path(&self) -> &Path {
        self.out.path()
    }

    /// The name of the call on its link.
    pub fn transaction(&self) -> TransactionId {
        self.out.transaction()
    }

    /// Whether the call has ended, before its items perhaps. Does not block.
    pub fn is_done(&self) -> bool {
        self.answer.is_done()
    }

    /// Says that these were all, and gives a handle to the answer. Does not block.
    ///
    /// Where the system has no thread to watch the timeout, an answer that is awaited, or for which
    /// [`AsyncResult::ready`] is asked, is late at once; whoever blocks for it, or polls, sees to the time itself.
    pub fn end(mut self) -> AsyncResult<R> {
        self.out.end_now();
        self.answer.give_time(self.timeout);
        self.answer
    }
}

impl<T: Serialize + Send + 'static, R: DeserializeOwned + 'static> Upload<T, R> {
    /// As [`Outgoing::send`]: sends an item; blocks while there is no room for it.
    ///
    /// # Errors
    ///
    /// [`CallError::Cancelled`] when the other side takes no more items: [`Upload::finish`] tells its
    /// answer. Else as for [`Outgoing::send`].
    pub fn send(&mut self, item: T) -> Result<(), CallError> {
        self.out.send(item)
    }

    /// As [`Outgoing::try_send`]: sends an item if there is room. Does not block.
    ///
    /// # Errors
    ///
    /// [`TrySendError::Full`] gives the item back; else as for [`Upload::send`].
    pub fn try_send(&mut self, item: T) -> Result<(), TrySendError<T>> {
        self.out.try_send(item)
    }

    /// As [`Outgoing::send_timeout`]: sends an item, and waits for at most `limit` until there is room. Blocks.
    ///
    /// # Errors
    ///
    /// As for [`Outgoing::send_timeout`].
    pub fn send_timeout(&mut self, item: T, limit: Duration) -> Result<(), TrySendError<T>> {
        self.out.send_timeout(item, limit)
    }

    /// As [`Outgoing::ready`]: a future that waits until an item may be sent without a wait.
    ///
    /// # Errors
    ///
    /// As for [`Upload::send`].
    pub async fn ready(&mut self) -> Result<(), CallError> {
        self.out.ready().await
    }

    /// Says that these were all, and waits for the answer, as [`AsyncResult::wait`] does, for at most the
    /// timeout of the action.
    ///
    /// # Errors
    ///
    /// Whatever a call can end in.
    pub fn finish(self) -> Result<R, CallError> {
        self.end().wait()
    }
}

/// Items that go and items that come, as the iterator that it is, and an answer in the end.
///
/// Dropping it cancels the call. [`split`](Duplex::split) gives its halves to two threads.
#[must_use = "dropping it cancels the call"]
pub struct Duplex<U, T, R> {
    // In this order: see `Upload`.
    answer: AsyncResult<R>,
    out: Outgoing<U>,
    items: Incoming<T>,
    timeout: Timeout,
}

impl<U, T, R> Duplex<U, T, R> {
    /// What was called.
    pub fn path(&self) -> &Path {
        self.out.path()
    }

    /// The name of the call on its link.
    pub fn transaction(&self) -> TransactionId {
        self.out.transaction()
    }

    /// The two halves, and the handle of the answer. Dropping a half ends its direction alone; dropping the
    /// handle of the answer cancels the call.
    ///
    /// The handle has no timeout: [`wait`](AsyncResult::wait) lasts until the handler has answered, or the link is
    /// over. [`wait_timeout`](AsyncResult::wait_timeout) has a limit.
    pub fn split(self) -> (Outgoing<U>, Incoming<T>, AsyncResult<R>) {
        (self.out, self.items, self.answer)
    }

    /// Says that no more items go; those that come are not touched. Does not block.
    pub fn end(&mut self) {
        self.out.end_now();
    }
}

impl<U, T, R> Duplex<U, T, R>
where
    U: Serialize + Send + 'static,
    T: DeserializeOwned + 'static,
    R: DeserializeOwned + 'static,
{
    /// As [`Outgoing::send`]: sends an item; blocks while there is no room for it.
    ///
    /// # Errors
    ///
    /// As for [`Outgoing::send`].
    pub fn send(&mut self, item: U) -> Result<(), CallError> {
        self.out.send(item)
    }

    /// As [`Outgoing::try_send`]: sends an item if there is room. Does not block.
    ///
    /// # Errors
    ///
    /// As for [`Outgoing::try_send`].
    pub fn try_send(&mut self, item: U) -> Result<(), TrySendError<U>> {
        self.out.try_send(item)
    }

    /// As [`Outgoing::send_timeout`]: sends an item, and waits for at most `limit` until there is room. Blocks.
    ///
    /// # Errors
    ///
    /// As for [`Outgoing::send_timeout`].
    pub fn send_timeout(&mut self, item: U, limit: Duration) -> Result<(), TrySendError<U>> {
        self.out.send_timeout(item, limit)
    }

    /// As [`Incoming::try_next`]: the next item if one has come. Does not block.
    ///
    /// # Errors
    ///
    /// As for [`Incoming::try_next`].
    pub fn try_next(&mut self) -> Result<Next<T>, CallError> {
        self.items.try_next()
    }

    /// As [`Incoming::next_timeout`]: the next item, for which it waits at most `limit`.
    ///
    /// # Errors
    ///
    /// As for [`Incoming::next_timeout`].
    pub fn next_timeout(&mut self, limit: Duration) -> Result<Next<T>, CallError> {
        self.items.next_timeout(limit)
    }

    /// Says that no more items go and that no more are wanted, and waits for the answer, as
    /// [`AsyncResult::wait`] does, for at most the timeout of the action.
    ///
    /// # Errors
    ///
    /// Whatever a call can end in.
    pub fn finish(self) -> Result<R, CallError> {
        let Duplex { mut out, items, mut answer, timeout } = self;
        out.end_now();
        drop(items);
        answer.give_time(timeout);
        answer.wait()
    }
}

impl<U, T: DeserializeOwned + 'static, R> Iterator for Duplex<U, T, R> {
    type Item = Result<T, CallError>;

    /// The next item that comes; blocks until there is one, or none will come.
    fn next(&mut self) -> Option<Result<T, CallError>> {
        self.items.next()
    }
}

/// When a time that begins now is over.
pub(super) fn from_now(timeout: Timeout) -> Option<Instant> {
    match timeout {
        Timeout::After(after) => Instant::now().checked_add(after),
        Timeout::Never => None,
    }
}

impl<T, R> fmt::Debug for Upload<T, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Upload").field(&self.out).finish()
    }
}

impl<U, T, R> fmt::Debug for Duplex<U, T, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Duplex").field(&self.out).finish()
    }
}
