//! The ends of a stream: items go in at an [`Outlet`] and come out at an [`Intake`].
//!
//! Each is a place to wait at, for one thread, one task, or one producer that waits without a thread.
//! Neither knows frames: the machine says what has come and how much may go. Within one process an
//! outlet knows its intake, and items go there as they are.

use std::{collections::VecDeque, fmt, task::Waker, time::Instant};

use serde::de::DeserializeOwned;

use super::{Errand, Slot, aftermath::copy_of};
use crate::{
    error::CallError,
    sync::{Arc, Mutex, OnceLock, Weak},
    wire::{Codec, CodecError, Hold, Path, Payload, Quota, first_item},
    workers::Job,
};

/// Items that came together.
pub(crate) enum Batch {
    /// One after the other, each behind its length.
    Bytes {
        buffer: Vec<u8>,
        at: usize,
        /// What they take of the room for what came.
        hold: Option<Hold>,
    },
    /// One that never left the process.
    Moved(Payload),
}

/// Where items come out.
pub(crate) struct Intake {
    pub(crate) seat: Arc<Slot>,
    queue: Mutex<Queue>,
    near: Option<Near>,
}

#[derive(Default)]
struct Queue {
    batches: VecDeque<Batch>,
    /// Nothing comes behind these, and why.
    over: Option<Result<(), CallError>>,
    /// Nobody takes any more.
    deaf: bool,
    waker: Option<Waker>,
    /// Within one process: how many may wait before anybody has taken one; how many came, and of these
    /// how many are known to be taken.
    window: usize,
    came: usize,
    taken: usize,
}

/// What an intake knows of the other end, where that is in this process.
#[derive(Default)]
struct Near(OnceLock<Weak<Outlet>>);

/// Where items go in.
pub(crate) struct Outlet {
    pub(crate) seat: Arc<Slot>,
    tap: Mutex<Tap>,
    near: Option<Arc<Intake>>,
}

#[derive(Default)]
struct Tap {
    /// There may be room, or it is over.
    news: bool,
    over: Option<CallError>,
    waker: Option<Waker>,
    parked: Option<Box<dyn Resume>>,
}

/// Makes items when there is room for them, and holds no thread while there is none.
pub(crate) trait Resume: Send {
    /// What has to be run; `None` when it waits for its turn.
    fn resume(self: Box<Self>) -> Option<Errand>;
}

/// Whoever waited at an end, to be woken without a lock.
#[derive(Default)]
#[must_use = "somebody waits for it"]
pub(crate) struct Wakeup {
    pub(crate) waker: Option<Waker>,
    pub(crate) parked: Option<Box<dyn Resume>>,
    /// A thread was woken that had blocked.
    pub(crate) woke: bool,
    /// A thread that is inside the transport has to come out.
    pub(crate) nudge: bool,
}

impl Wakeup {
    /// The waker, and what is to be run. Sets `nudge` if a thread has to come out of the transport.
    pub(super) fn into_parts(self, nudge: &mut bool) -> (Option<Waker>, Option<Job>) {
        *nudge |= self.nudge;
        // One that was left to a thread has told that thread.
        let errand = self.parked.and_then(Resume::resume);
        (self.waker, errand.map(|errand| errand.job))
    }
}

/// The ends that one side has of a stream.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ends {
    pub(crate) intake: Option<Arc<Intake>>,
    pub(crate) outlet: Option<Arc<Outlet>>,
}

/// Both ends of every direction of a stream, and what else its caller knows of it.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    pub(crate) ours: Ends,
    /// Those of the other side, where it is in this process.
    pub(crate) theirs: Ends,
    /// When it must have begun.
    pub(crate) begin_by: Option<Instant>,
}

impl Streams {
    /// A stream that sends, takes, or both. With a window the other side is in this process.
    pub(crate) fn new(path: &Path, sends: bool, takes: bool, near: Option<usize>) -> Streams {
        let mut streams = Streams::default();
        match near {
            None => {
                streams.ours.intake = takes.then(|| Intake::new(path));
                streams.ours.outlet = sends.then(|| Outlet::new(path));
            }
            Some(window) => {
                if takes {
                    let (outlet, intake) = near_pair(path, window);
                    (streams.theirs.outlet, streams.ours.intake) = (Some(outlet), Some(intake));
                }
                if sends {
                    // Nothing may come before somebody is there to take it.
                    let (outlet, intake) = near_pair(path, 0);
                    (streams.ours.outlet, streams.theirs.intake) = (Some(outlet), Some(intake));
                }
            }
        }
        streams
    }
}

impl Streams {
    /// The thread that waits at one of its ends.
    pub(crate) fn waiter(&self) -> Option<u32> {
        let Ends { intake, outlet } = &self.ours;
        let at_intake = intake.as_ref().and_then(|intake| intake.seat.waiter());
        at_intake.or_else(|| outlet.as_ref()?.seat.waiter())
    }
}

impl Slot {
    /// What belongs to a stream.
    pub(crate) fn streams(&self) -> Option<&Streams> {
        self.streams.as_deref()
    }

    /// When the call must have ended, or its stream begun.
    pub(super) fn due(&self) -> Option<Instant> {
        self.deadline.or_else(|| self.streams()?.begin_by)
    }
}

impl Ends {
    /// Whether it is a call without items.
    pub(crate) fn is_none(&self) -> bool {
        self.intake.is_none() && self.outlet.is_none()
    }

    /// The call is over: with an error nothing else comes, and in no case goes anything.
    pub(crate) fn end(&self, how: &Result<(), CallError>, mut wake: impl FnMut(Wakeup)) {
        if let Some(intake) = &self.intake {
            wake(intake.end(how.clone()));
        }
        if let Some(outlet) = &self.outlet {
            wake(outlet.end(how.clone().err().unwrap_or(CallError::Cancelled)));
        }
    }
}

fn near_pair(path: &Path, window: usize) -> (Arc<Outlet>, Arc<Intake>) {
    let intake = Arc::new(Intake {
        seat: seat(path),
        queue: Mutex::new(Queue { window, ..Queue::default() }),
        near: Some(Near::default()),
    });
    let outlet = Outlet { seat: seat(path), tap: Mutex::default(), near: Some(intake.clone()) };
    let outlet = Arc::new(outlet);
    if let Some(Near(source)) = &intake.near {
        let _ = source.set(Arc::downgrade(&outlet));
    }
    (outlet, intake)
}

fn seat(path: &Path) -> Arc<Slot> {
    Arc::new(Slot::new(path.clone(), Instant::now(), None))
}

impl Intake {
    /// One whose items come in frames.
    pub(crate) fn new(path: &Path) -> Arc<Intake> {
        Arc::new(Intake { seat: seat(path), queue: Mutex::default(), near: None })
    }

    /// Takes items in. When nobody wants them they come back.
    pub(crate) fn put(&self, batch: Batch) -> (Wakeup, Option<Batch>) {
        let mut queue = self.queue.lock();
        if queue.deaf || queue.over.is_some() {
            return (Wakeup::default(), Some(batch));
        }
        queue.batches.push_back(batch);
        (self.wake(queue.waker.take()), None)
    }

    /// Takes one in that is in this process, if there is room for it.
    fn put_near(&self, item: &mut Option<Payload>) -> Wakeup {
        let mut queue = self.queue.lock();
        if queue.came - queue.taken >= queue.window || queue.over.is_some() || queue.deaf {
            return Wakeup::default();
        }
        let Some(item) = item.take() else { return Wakeup::default() };
        queue.came += 1;
        queue.batches.push_back(Batch::Moved(item));
        let waker = queue.waker.take();
        drop(queue);
        self.wake(waker)
    }

    fn has_room_near(&self) -> bool {
        let queue = self.queue.lock();
        queue.came - queue.taken < queue.window
    }

    /// Nothing comes any more. The first end stands.
    pub(crate) fn end(&self, how: Result<(), CallError>) -> Wakeup {
        let mut queue = self.queue.lock();
        if queue.over.is_some() {
            return Wakeup::default();
        }
        queue.over = Some(how);
        self.wake(queue.waker.take())
    }

    fn wake(&self, waker: Option<Waker>) -> Wakeup {
        let (woke, nudge) = self.seat.rouse();
        Wakeup { waker, parked: None, woke, nudge }
    }

    /// Whether there is something to take, or never will be.
    pub(crate) fn has_news(&self) -> bool {
        let queue = self.queue.lock();
        !queue.batches.is_empty() || queue.over.is_some()
    }

    /// Takes everything that has come.
    pub(crate) fn take(&self, into: &mut VecDeque<Batch>) {
        std::mem::swap(&mut self.queue.lock().batches, into);
    }

    /// How it ended, once everything before that is taken.
    pub(crate) fn over(&self) -> Option<Result<(), CallError>> {
        let queue = self.queue.lock();
        queue.over.clone().filter(|_| queue.batches.is_empty())
    }

    /// Whether nothing comes any more behind what is here.
    pub(crate) fn is_over(&self) -> bool {
        self.queue.lock().over.is_some()
    }

    /// Leaves a waker. `false` if there are news.
    pub(crate) fn set_waker(&self, waker: &Waker) -> bool {
        let copy = copy_of(waker);
        let mut queue = self.queue.lock();
        if !queue.batches.is_empty() || queue.over.is_some() {
            return false;
        }
        let old = queue.waker.replace(copy);
        // Out of the lock: dropping a waker may drop a task.
        drop(queue);
        drop(old);
        true
    }

    /// Nobody takes any more. Gives back what was not taken, to be dropped without a lock.
    pub(crate) fn close(&self) -> (VecDeque<Batch>, Wakeup) {
        let mut queue = self.queue.lock();
        queue.deaf = true;
        let left = std::mem::take(&mut queue.batches);
        let waker = queue.waker.take();
        drop(queue);
        drop(waker);
        let stopped = self.source().map(|source| source.end(CallError::Cancelled));
        (left, stopped.unwrap_or_default())
    }

    // Within one process.

    pub(crate) fn is_near(&self) -> bool {
        self.near.is_some()
    }

    fn source(&self) -> Option<Arc<Outlet>> {
        self.near.as_ref()?.0.get()?.upgrade()
    }

    /// From here on so many may wait.
    pub(crate) fn open(&self, window: usize) -> Wakeup {
        self.queue.lock().window = window;
        self.source().map(|source| source.room()).unwrap_or_default()
    }

    /// So many more were taken.
    pub(crate) fn took(&self, n: usize) -> Wakeup {
        self.queue.lock().taken += n;
        self.source().map(|source| source.room()).unwrap_or_default()
    }
}

impl Outlet {
    /// One whose items go in frames.
    pub(crate) fn new(path: &Path) -> Arc<Outlet> {
        Arc::new(Outlet { seat: seat(path), tap: Mutex::default(), near: None })
    }

    /// There may be room.
    pub(crate) fn room(&self) -> Wakeup {
        self.wake(|_| ())
    }

    /// Nothing goes any more. The first reason stands.
    pub(crate) fn end(&self, why: CallError) -> Wakeup {
        self.wake(|tap| {
            tap.over.get_or_insert(why);
        })
    }

    fn wake(&self, change: impl FnOnce(&mut Tap)) -> Wakeup {
        let mut tap = self.tap.lock();
        change(&mut tap);
        tap.news = true;
        let (waker, parked) = (tap.waker.take(), tap.parked.take());
        drop(tap);
        let (woke, nudge) = self.seat.rouse();
        Wakeup { waker, parked, woke, nudge }
    }

    /// Forgets what was new. To be said before looking for room.
    pub(crate) fn calm(&self) {
        self.tap.lock().news = false;
    }

    /// Whether anything is new since [`Outlet::calm`].
    pub(crate) fn has_news(&self) -> bool {
        self.tap.lock().news
    }

    /// Why nothing goes any more, if so.
    pub(crate) fn over(&self) -> Option<CallError> {
        self.tap.lock().over.clone()
    }

    /// Leaves a waker. `false` if there are news.
    pub(crate) fn set_waker(&self, waker: &Waker) -> bool {
        let copy = copy_of(waker);
        let mut tap = self.tap.lock();
        if tap.news {
            return false;
        }
        let old = tap.waker.replace(copy);
        drop(tap);
        drop(old);
        true
    }

    /// Leaves a producer that goes on when there is room. It comes back if there are news.
    pub(crate) fn park<R: Resume + 'static>(&self, producer: Box<R>) -> Result<(), Box<R>> {
        let mut tap = self.tap.lock();
        if tap.news {
            return Err(producer);
        }
        tap.parked = Some(producer);
        Ok(())
    }

    // Within one process.

    /// The intake, where it is in this process.
    pub(crate) fn near(&self) -> Option<&Arc<Intake>> {
        self.near.as_ref()
    }

    /// Whether an item may go to an intake of this process.
    pub(crate) fn has_room_near(&self) -> bool {
        self.near.as_ref().is_some_and(|intake| intake.has_room_near())
    }

    /// Hands an item to an intake of this process. It stays where it is when there is no room.
    pub(crate) fn put_near(&self, item: &mut Option<Payload>) -> Wakeup {
        self.near.as_ref().map(|intake| intake.put_near(item)).unwrap_or_default()
    }
}

impl Batch {
    /// What came in a frame: one or more items, of which each is whole.
    pub(crate) fn new(buffer: Vec<u8>, at: usize, hold: Option<Hold>) -> Batch {
        Batch::Bytes { buffer, at, hold }
    }

    /// The next item, and how many bytes it had; `None` behind the last.
    pub(crate) fn next<T: DeserializeOwned + 'static>(
        &mut self,
        codec: Codec,
    ) -> Option<(Result<T, CodecError>, Quota)> {
        match self {
            Batch::Bytes { buffer, at, hold } => {
                let item = first_item(&buffer[*at..]).ok()?;
                let (start, end) = (*at + item.start, *at + item.end);
                let quota = Quota::default().with_item(item.len());
                *at = end;
                if end < buffer.len() {
                    return Some((Payload::value_of(&buffer[start..end], codec), quota));
                }
                let last = Payload::held_by(std::mem::take(buffer), start, hold.take());
                *at = 0;
                Some((last.into_value(codec), quota))
            }
            Batch::Moved(item) => {
                let item = std::mem::replace(item, Payload::from_bytes(Vec::new()));
                *self = Batch::new(Vec::new(), 0, None);
                Some((item.into_value(codec), Quota { items: 1, bytes: 0 }))
            }
        }
    }

    /// How many items are in it.
    pub(crate) fn len(&self) -> usize {
        let Batch::Bytes { buffer, at, .. } = self else { return 1 };
        let (mut at, mut n) = (*at, 0);
        while let Ok(item) = first_item(&buffer[at..]) {
            (at, n) = (at + item.end, n + 1);
        }
        n
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Batch({} items)", self.len())
    }
}

impl fmt::Debug for Intake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Intake").field("over", &self.is_over()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Outlet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outlet").field("over", &self.over().is_some()).finish_non_exhaustive()
    }
}
