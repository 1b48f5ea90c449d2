//! The side that subscribes: what has come and was not read, and who reads it.

use std::{
    any::type_name,
    fmt,
    future::poll_fn,
    marker::PhantomData,
    task::{self, Poll},
    time::{Duration, Instant},
};

use crossbeam_channel::Receiver;
use serde::de::DeserializeOwned;

use super::{
    Backlog, Missed, Note, Request,
    inlet::{Inlet, Step, Taken},
    ways,
};
use crate::{
    api::{
        ApiHandle, Endpoint,
        action::{check_may_block, name_ours, no_place_to_block},
        tap::{Tapped, call_over},
    },
    error::{CallError, CloseReason, Executed, Misuse},
    link::ask,
    os::Origin,
    shape::Shape,
    sync::{Arc, Condvar, Mutex, fail_here},
};

/// What has come of a topic, to be read: the blocking iterator of its items.
///
/// A gap is told where it is, as [`Missed::Lagged`], and the end as one of the others of [`Missed`]; after
/// that the iterator is over. Dropping it ends the subscription, and nothing more is sent for it.
///
/// It ends with the link over which it was made, unless a [`Supervisor`](crate::Supervisor) starts the other side
/// again: then it is made again, and that is told as [`Missed::Restarted`].
///
/// ```
/// use nape::{Api, Backlog, Head, Missed, Topic};
///
/// let lines = Topic::new();
/// let (head, neck) = Head::in_process()?;
/// let _neck = neck.serve(Api::new("log").topic("lines", &lines)?)?.start();
///
/// let mut news = head.subscribe::<String>("log.lines", Backlog::drop_newest(2))?;
/// for n in 0..5 {
///     lines.publish(format!("line {n}"));
/// }
/// drop(lines);
/// assert_eq!(news.next().unwrap().unwrap(), "line 0");
/// assert_eq!(news.next().unwrap().unwrap(), "line 1");
/// assert!(matches!(news.next(), Some(Err(Missed::Lagged(3)))));
/// assert!(matches!(news.next(), Some(Err(Missed::Ended))));
/// assert!(news.next().is_none());
/// # Ok::<(), nape::Error>(())
/// ```
#[must_use = "dropping it ends the subscription"]
pub struct Subscription<T> {
    hold: Hold,
    reader: Reader<T>,
}

/// A subscription whose items go to a callback: see [`Subscription::on`]. Dropping it ends the subscription;
/// a call of the callback that has begun goes on.
#[must_use = "dropping it ends the subscription"]
pub struct Listening(Hold);

/// Whoever has it reads; with it the subscription goes.
struct Hold(Arc<Inlet>);

/// What whoever reads knows.
struct Reader<T> {
    /// The number of the next item.
    next: u64,
    /// What came behind a gap.
    stash: Option<T>,
    /// The end has been told.
    over: bool,
    /// The last that was told is that one may not wait there.
    refused: bool,
    item: PhantomData<fn() -> T>,
}

impl ApiHandle {
    /// Subscribes to the topic at `path` below this. Blocks until the other side has agreed, or the timeout
    /// of this handle has passed.
    ///
    /// What is published from the return of this on arrives, in order; what does not is told by
    /// [`Missed::Lagged`].
    ///
    /// # Errors
    ///
    /// Whatever a call can end in: [`Rejection::Mismatch`](crate::Rejection::Mismatch) where the items look
    /// different to the publisher, [`Rejection::NoHandler`](crate::Rejection::NoHandler) where there is no such topic.
    pub fn subscribe<T>(&self, path: &str, backlog: Backlog) -> Result<Subscription<T>, CallError>
    where
        T: DeserializeOwned + Clone + Send + Sync + 'static,
    {
        self.subscribe_seeing(path, backlog, Some(&Shape::of::<T>()))
    }

    /// The same without naming the type that the publisher has: for a tool, which has the types of no program. Whether
    /// an item is a `T` shows when it is read, and [`Missed::Decode`] stands where one is not.
    ///
    /// A `T` that takes any item, such as `serde_json::Value`, needs a codec that says what is what: a link that
    /// speaks [JSON](crate::Config::codec).
    ///
    /// ```
    /// # #[cfg(feature = "json")] {
    /// use nape::{Api, Backlog, Codec, Config, Head, Neck, Topic};
    ///
    /// let lines = Topic::new();
    /// let head = Head::builder().config(Config::new().codec(Codec::Json));
    /// let (head, neck) = head.in_process_encoded(Neck::builder())?;
    /// let _neck = neck.serve(Api::new("log").topic("lines", &lines)?)?.start();
    ///
    /// let mut news = head.api("log").subscribe_untyped::<serde_json::Value>("lines", Backlog::latest())?;
    /// lines.publish((7, "sheep".to_owned()));
    /// assert_eq!(news.next().unwrap().unwrap(), serde_json::json!([7, "sheep"]));
    /// # }
    /// # Ok::<(), nape::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`ApiHandle::subscribe`], but for a mismatch.
    pub fn subscribe_untyped<T>(&self, path: &str, backlog: Backlog) -> Result<Subscription<T>, CallError>
    where
        T: DeserializeOwned + Clone + Send + Sync + 'static,
    {
        self.subscribe_seeing(path, backlog, None)
    }

    /// Subscribes to items of this shape; `None` takes any.
    fn subscribe_seeing<T>(
        &self,
        path: &str,
        backlog: Backlog,
        shape: Option<&Shape>,
    ) -> Result<Subscription<T>, CallError>
    where
        T: DeserializeOwned + Clone + Send + Sync + 'static,
    {
        check_may_block()?;
        let topic = self.full_path(path).map_err(Misuse::BadPath)?;
        let link = self.endpoint.link()?;
        let number = self.endpoint.next_subscription();
        let (items, end) = ways(&topic, number).map_err(Misuse::BadPath)?;
        let taken = topic.join("taken").map_err(Misuse::BadPath)?;
        let subscribe = topic.join("subscribe").map_err(Misuse::BadPath)?;
        let request = Request {
            number,
            bound: backlog.bound,
            window: backlog.window(),
            shape: shape.map_or(0, |shape| shape.number),
            policy: backlog.policy,
        };
        let inlet = Arc::new_cyclic(|weak| Inlet {
            weak: weak.clone(),
            endpoint: Arc::downgrade(&self.endpoint),
            origin: Origin::here(),
            over: Mutex::new(link.clone()),
            topic: topic.clone(),
            request,
            items,
            end,
            taken,
            backlog,
            state: Mutex::default(),
            news: Condvar::new(),
        });
        for path in [&inlet.items, &inlet.end] {
            self.endpoint.arb().tap(path, Tapped { tap: inlet.clone(), pool: None, listed: None });
        }
        let reader = Reader { next: 0, stash: None, over: false, refused: false, item: PhantomData };
        let subscription = Subscription { hold: Hold(inlet), reader };
        if let Err(error) = call_over::<_, ()>(&link, &subscribe, request, self.timeout) {
            if error.executed() == Executed::No {
                // There is nobody who would have to be told that it has gone.
                // Under a supervisor somebody may have asked the next start already, who tells that one then.
                subscription.hold.0.state.lock().closed = true;
                subscription.hold.0.finish(None, Missed::Ended);
            }
            return Err(name_ours(error, shape));
        }
        Ok(subscription)
    }
}

impl Endpoint {
    /// Subscribes to a topic of the other side: as [`ApiHandle::subscribe`], by its full path.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn subscribe<T>(&self, path: &str, backlog: Backlog) -> Result<Subscription<T>, CallError>
    where
        T: DeserializeOwned + Clone + Send + Sync + 'static,
    {
        self.api("").subscribe(path, backlog)
    }

    /// The same without naming the type of the items: as [`ApiHandle::subscribe_untyped`], by its full path.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn subscribe_untyped<T>(&self, path: &str, backlog: Backlog) -> Result<Subscription<T>, CallError>
    where
        T: DeserializeOwned + Clone + Send + Sync + 'static,
    {
        self.api("").subscribe_untyped(path, backlog)
    }
}

impl<T: DeserializeOwned + Clone + Send + Sync + 'static> Subscription<T> {
    /// The next item if one is here; `None` means that there is none yet. Does not block.
    ///
    /// # Errors
    ///
    /// A gap, once; the end, each time.
    pub fn try_next(&mut self) -> Result<Option<T>, Missed> {
        self.reader.take(&self.hold.0)
    }

    /// Waits for the next item, for at most `limit`; `None` means that it has not come yet.
    ///
    /// Blocks the calling thread. The wait ends with an item, a gap, the end of the subscription, or the
    /// limit.
    ///
    /// # Errors
    ///
    /// A gap, once; the end, each time; [`Missed::WouldDeadlock`] where nothing is here, in a state listener, an error
    /// hook or a hook of a supervisor.
    pub fn next_timeout(&mut self, limit: Duration) -> Result<Option<T>, Missed> {
        let until = Instant::now().checked_add(limit);
        match self.try_next() {
            Ok(None) => {}
            news => return news,
        }
        may_wait()?;
        self.hold.0.wait(until);
        self.try_next()
    }

    /// The next item, a gap or the end, as a future for any executor; `None` after the end. A future that
    /// is dropped before it is done has taken nothing.
    pub async fn next_async(&mut self) -> Option<Result<T, Missed>> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// The same for one who writes a future or a stream of his own.
    pub fn poll_next(&mut self, cx: &mut task::Context<'_>) -> Poll<Option<Result<T, Missed>>> {
        if self.reader.over {
            return Poll::Ready(None);
        }
        loop {
            let may_wait = self.reader.stash.is_none() && !self.hold.0.is_forked();
            if may_wait && self.hold.0.set_waker(cx.waker()) {
                return Poll::Pending;
            }
            if let Some(news) = self.reader.step(&self.hold.0) {
                return Poll::Ready(Some(news));
            }
        }
    }

    /// Has `callback` called with each item, each gap and the end, one after the other, on a thread of the
    /// link: with what is here already, too. It may block; meanwhile items come as the [`Backlog`] says.
    /// A panic of it is counted and reported, and it is called again.
    pub fn on(self, mut callback: impl FnMut(Result<T, Missed>) + Send + 'static) -> Listening {
        let Subscription { hold, mut reader } = self;
        let inlet = hold.0.clone();
        if inlet.is_forked() {
            return Listening(hold);
        }
        let weak = inlet.weak.clone();
        let step = move || match weak.upgrade() {
            Some(inlet) if !reader.over => match reader.step(&inlet) {
                Some(news) => {
                    callback(news);
                    Step::Read
                }
                None => Step::Nothing,
            },
            _ => Step::Over,
        };
        let mut state = inlet.state.lock();
        state.callback = Some(Box::new(step));
        state.calling = true;
        drop(state);
        let job = {
            let inlet = inlet.clone();
            move || inlet.call_back()
        };
        inlet.link().submit(Box::new(job));
        Listening(hold)
    }

    /// A channel that has a message when there is something to read, for a
    /// [`Select`](crossbeam_channel::Select) beside other channels. One message may stand for several
    /// items: read by [`try_next`](Subscription::try_next) until there is none.
    pub fn ready(&self) -> Receiver<()> {
        if self.hold.0.is_forked() {
            // Nobody sends, which shows at once.
            return crossbeam_channel::bounded(0).1;
        }
        let mut state = self.hold.0.state.lock();
        let has_news = state.has_news() || self.reader.stash.is_some();
        let (sender, receiver) = state.ready.get_or_insert_with(|| crossbeam_channel::bounded(1));
        if has_news {
            let _ = sender.try_send(());
        }
        receiver.clone()
    }
}

impl<T: DeserializeOwned + Clone + Send + Sync + 'static> Iterator for Subscription<T> {
    type Item = Result<T, Missed>;

    /// Blocks until there is an item, a gap or the end. Where one may not block, such as in a state listener,
    /// [`Missed::WouldDeadlock`] stands behind what is here, and then `None`, so that a loop ends; the subscription does
    /// not.
    fn next(&mut self) -> Option<Result<T, Missed>> {
        while !self.reader.over {
            if let Some(news) = self.reader.step(&self.hold.0) {
                self.reader.refused = false;
                return Some(news);
            }
            if let Err(refused) = may_wait() {
                self.reader.refused = !self.reader.refused;
                return self.reader.refused.then_some(Err(refused));
            }
            self.hold.0.wait(None);
        }
        None
    }
}

/// Refuses to wait where nothing could be served meanwhile.
fn may_wait() -> Result<(), Missed> {
    let place = no_place_to_block(ask(|current| Some(current.place)));
    place.map_or(Ok(()), |place| Err(Missed::WouldDeadlock { place }))
}

impl<T: DeserializeOwned + Clone + Send + Sync + 'static> Reader<T> {
    /// One thing, if there is one. After the end there is none.
    fn step(&mut self, inlet: &Inlet) -> Option<Result<T, Missed>> {
        if self.over {
            return None;
        }
        let news = self.take(inlet).transpose()?;
        let goes_on = matches!(news, Ok(_) | Err(Missed::Lagged(_) | Missed::Decode(_) | Missed::Restarted));
        self.over = !goes_on;
        Some(news)
    }

    fn take(&mut self, inlet: &Inlet) -> Result<Option<T>, Missed> {
        if inlet.is_forked() {
            return Err(Missed::Closed(Arc::new(CloseReason::Local)));
        }
        if let Some(item) = self.stash.take() {
            return Ok(Some(item));
        }
        loop {
            let (came, report) = match inlet.state.lock().take(inlet.backlog) {
                Taken::Came(came, report) => (came, report),
                Taken::Lost(lost) => {
                    let gap = self.gap(inlet, self.next.saturating_add(lost));
                    return Err(Missed::Lagged(gap));
                }
                Taken::Nothing => return Ok(None),
                Taken::Anew => {
                    self.next = 0;
                    return Err(Missed::Restarted);
                }
                Taken::End(number, missed) => {
                    let number = number.unwrap_or(self.next);
                    let gap = self.gap(inlet, number);
                    return Err(if gap > 0 { Missed::Lagged(gap) } else { missed });
                }
            };
            report.into_iter().for_each(|total| inlet.report(total));
            match came.payload.into_value::<Note<T>>(came.codec) {
                Ok(Note { number, item }) => {
                    if item.is_none() {
                        // There may be another one to be told, which waits for the place of this one.
                        let total = inlet.state.lock().report_all(inlet.backlog);
                        inlet.report(total);
                    }
                    let gap = self.gap(inlet, number);
                    self.next = self.next.saturating_add(u64::from(item.is_some()));
                    let item = item.map(Arc::unwrap_or_clone);
                    if gap > 0 {
                        self.stash = item;
                        return Err(Missed::Lagged(gap));
                    }
                    if item.is_some() {
                        return Ok(item);
                    }
                }
                Err(error) => {
                    self.next = self.next.saturating_add(1);
                    inlet.link().tally().items_lost.up();
                    let text = format!("expected {}: {error}", type_name::<T>());
                    return Err(Missed::Decode(text.into()));
                }
            }
        }
    }

    /// How many are missing before this number.
    fn gap(&mut self, inlet: &Inlet, number: u64) -> u64 {
        let gap = number.saturating_sub(self.next);
        if gap > 0 {
            self.next += gap;
            inlet.link().tally().items_lost.add(gap);
        }
        gap
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if !self.0.is_forked() {
            fail_here("a reader that lets go");
            self.0.let_go();
        }
    }
}

impl<T> fmt::Debug for Subscription<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").field("topic", &self.hold.0.topic).finish_non_exhaustive()
    }
}

impl fmt::Debug for Listening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listening").field("topic", &self.0.0.topic).finish_non_exhaustive()
    }
}
