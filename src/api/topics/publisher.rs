//! The side that publishes: a queue for each subscription, and how it is emptied.

use std::{
    any::type_name,
    fmt,
    time::{Duration, Instant},
};

use serde::{Serialize, de::DeserializeOwned};

use super::{
    ENDED, Request,
    backlog::Waiting,
    peer::{Offer, Peer, State},
    ways,
};
use crate::{
    api::{
        Api, Endpoint,
        about::About,
        action::check_may_block,
        endpoint::Inner,
        tap::{Source, Tap, Tapped, answer},
    },
    error::{ApiError, CallError, CloseReason, Rejection},
    link::{Errand, Incoming, Link},
    os::Origin,
    shape::Shape,
    sync::{Arc, Condvar, Mutex, RwLock},
    wire::{Path, PathError},
    workers::{discard, discard_all},
};

/// Something that is published: every item reaches all who have subscribed. Cheap to clone; every clone is
/// the same one.
///
/// It is served as a part of an [`Api`], see [`Api::topic`], by any number of endpoints. When the last clone
/// is dropped, its subscriptions end with [`Missed::Ended`](super::Missed::Ended).
///
/// ```
/// use nape::{Api, Backlog, Head, Topic};
///
/// let progress = Topic::<u8>::new();
/// let (head, neck) = Head::in_process()?;
/// let _neck = neck.serve(Api::new("job").topic("progress", &progress)?)?.start();
///
/// let mut news = head.subscribe::<u8>("job.progress", Backlog::drop_oldest(8))?;
/// progress.publish(50);
/// progress.publish(100);
/// assert_eq!(news.next().transpose().unwrap(), Some(50));
/// assert_eq!(news.next().transpose().unwrap(), Some(100));
/// # Ok::<(), nape::Error>(())
/// ```
pub struct Topic<T: Serialize + DeserializeOwned + Send + Sync + 'static>(Arc<Owner<T>>);

/// What all clones of a topic are; its end is the end of the topic.
struct Owner<T: Serialize + DeserializeOwned + Send + Sync + 'static>(Arc<Hub<T>>);

/// What became of an item.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Published {
    /// To how many subscriptions it goes.
    pub taken: usize,
    /// For how many it was lost, because there was no room. A subscription that loses an older item instead
    /// is not among them.
    pub lost: usize,
}

struct Hub<T> {
    origin: Origin,
    patience: Mutex<Duration>,
    list: RwLock<List<T>>,
}

struct List<T> {
    /// Copied when it changes, so that whoever publishes needs no lock for long.
    peers: Arc<Vec<Arc<Peer<T>>>>,
    ended: bool,
}

/// A place where the topic is served.
struct Place<T: Serialize + DeserializeOwned + Send + Sync + 'static> {
    hub: Arc<Hub<T>>,
    mark: Arc<()>,
    topic: Path,
    subscribe: Path,
    taken: Path,
    shape: Arc<Shape>,
}

impl<T: Serialize + DeserializeOwned + Send + Sync + 'static> Topic<T> {
    /// A topic without subscriptions.
    pub fn new() -> Topic<T> {
        let list = List { peers: Arc::default(), ended: false };
        let hub = Hub { origin: Origin::here(), patience: Mutex::new(PATIENCE), list: RwLock::new(list) };
        Topic(Arc::new(Owner(Arc::new(hub))))
    }

    /// How long one call of [`Topic::publish`] may block at most, for all who asked for it by
    /// [`Backlog::block`](super::Backlog::block) together: 1 s by default. With zero it never does.
    pub fn patience(self, limit: Duration) -> Topic<T> {
        *self.0.0.patience.lock() = limit;
        self
    }

    /// How many subscriptions there are. A link that is closed has none.
    pub fn n_subscriptions(&self) -> usize {
        let hub = &self.0.0;
        if hub.origin.is_elsewhere() { 0 } else { hub.peers().iter().filter(|peer| !peer.is_over()).count() }
    }

    /// Publishes an item to all who have subscribed.
    ///
    /// Does not block, unless a subscription [asks for it](super::Backlog::block): then for at most as long
    /// as it and the [patience](Topic::patience) of the topic allow. All others have the item before. In a
    /// state listener or an error hook it never blocks.
    ///
    /// What one thread publishes arrives in that order. An item that does not encode, or whose type panics when
    /// it is encoded, or that is over the limit of a link, is lost there, and counted.
    pub fn publish(&self, item: T) -> Published {
        self.0.0.publish(item, |_| true)
    }

    /// The same for those alone who have subscribed over one of these endpoints. For the others there is no
    /// gap.
    pub fn publish_to<'a>(&self, peers: impl IntoIterator<Item = &'a Endpoint>, item: T) -> Published {
        let peers: Vec<_> = peers.into_iter().collect();
        self.0.0.publish(item, |peer| {
            peers.iter().any(|chosen| std::ptr::eq(Arc::as_ptr(&chosen.0), peer.endpoint.as_ptr()))
        })
    }

    /// Ends all subscriptions, after what waits for them, with [`Missed::Ended`](super::Missed::Ended); new
    /// ones are refused. Does not block.
    pub fn end(&self) {
        self.0.end();
    }
}

impl<T: Serialize + DeserializeOwned + Send + Sync + 'static> Owner<T> {
    fn end(&self) {
        // In a fork it is another process that publishes.
        if self.0.origin.is_elsewhere() {
            return;
        }
        self.0.list.write().ended = true;
        self.0.peers().iter().for_each(|peer| peer.want_end(ENDED));
        self.0.prune();
    }
}

impl<T: Serialize + DeserializeOwned + Send + Sync + 'static> Drop for Owner<T> {
    fn drop(&mut self) {
        self.end();
    }
}

impl<T> Hub<T> {
    fn peers(&self) -> Arc<Vec<Arc<Peer<T>>>> {
        self.list.read().peers.clone()
    }

    /// Takes out what is over. Its items go without a lock, and at once: whoever reads may be the last to know of it.
    fn prune(&self) {
        let mut list = self.list.write();
        let (over, kept): (Vec<_>, Vec<_>) = list.peers.iter().cloned().partition(|peer| peer.is_over());
        let before = std::mem::replace(&mut list.peers, Arc::new(kept));
        drop(list);
        over.iter().for_each(|peer| peer.abandon());
        discard(before);
    }
}

impl<T: Serialize + DeserializeOwned + Send + Sync + 'static> Hub<T> {
    fn publish(&self, item: T, is_chosen: impl Fn(&Peer<T>) -> bool) -> Published {
        if self.origin.is_elsewhere() {
            return Published::default();
        }
        let peers = self.peers();
        let item = Arc::new(item);
        let (mut published, mut full, mut over) = (Published::default(), Vec::new(), false);
        for peer in peers.iter().filter(|peer| is_chosen(peer)) {
            match peer.offer(&item, None) {
                Offer::Full => full.push(peer),
                Offer::Over => over = true,
                known => published.count(&known),
            }
        }
        if !full.is_empty() {
            let patience = if check_may_block().is_ok() { *self.patience.lock() } else { Duration::ZERO };
            let now = Instant::now();
            full.iter().for_each(|peer| published.count(&peer.offer(&item, Some((now, patience)))));
        }
        if over {
            self.prune();
        }
        published
    }
}

impl Published {
    fn count(&mut self, offer: &Offer) {
        self.taken += usize::from(matches!(offer, Offer::Taken));
        self.lost += usize::from(matches!(offer, Offer::Lost));
    }
}

impl<T: Serialize + DeserializeOwned + Send + Sync + 'static> Place<T> {
    fn find(&self, link: &Arc<Link>, number: u64) -> Option<Arc<Peer<T>>> {
        let is_it = |peer: &&Arc<Peer<T>>| {
            peer.number == number && Arc::ptr_eq(&peer.link, link) && Arc::ptr_eq(&peer.place, &self.mark)
        };
        self.hub.list.read().peers.iter().find(is_it).cloned()
    }

    fn add(&self, link: &Arc<Link>, endpoint: &Arc<Inner>, request: Request) -> Result<(), Rejection> {
        let path = self.subscribe.clone();
        if request.shape != 0 && request.shape != self.shape.number {
            let (ours, theirs) = ("".into(), self.shape.text.as_str().into());
            return Err(Rejection::Mismatch { path: self.topic.clone(), ours, theirs });
        }
        let Ok((items, end)) = ways(&self.topic, request.number) else {
            return Err(Rejection::Denied { path });
        };
        let peer = Peer {
            place: self.mark.clone(),
            number: request.number,
            endpoint: Arc::downgrade(endpoint),
            link: link.clone(),
            items,
            end,
            bound: request.bound.clamp(1, MOST_ITEMS).into(),
            window: request.window.clamp(1, MOST_ITEMS).into(),
            policy: request.policy,
            state: Mutex::new(State::new(Waiting::new(link.clone(), request.bound))),
            room: Condvar::new(),
        };
        let mut list = self.hub.list.write();
        if list.ended {
            return Err(Rejection::NoHandler { path });
        }
        let mut theirs = list.peers.iter().filter(|peer| Arc::ptr_eq(&peer.link, link) && !peer.is_over());
        if theirs.clone().count() >= MOST_SUBSCRIPTIONS {
            let detail = format!("one link has {MOST_SUBSCRIPTIONS} subscriptions").into();
            return Err(Rejection::Busy { path, detail });
        }
        if theirs.any(|other| other.items == peer.items && Arc::ptr_eq(&other.place, &peer.place)) {
            return Err(Rejection::Denied { path });
        }
        let peers = list.peers.iter().cloned().chain([Arc::new(peer)]).collect();
        let before = std::mem::replace(&mut list.peers, Arc::new(peers));
        drop(list);
        discard(before);
        Ok(())
    }

    fn unsubscribe(&self, link: &Arc<Link>, number: u64) -> Option<Errand> {
        // One after the other, and each once: the other side may say so as often as it likes.
        let job = match (self.find(link, number), ways(&self.topic, number)) {
            (Some(peer), _) => {
                if !peer.note_unsubscribed() {
                    return None;
                }
                let hub = self.hub.clone();
                let end = move || {
                    peer.send_end();
                    hub.prune();
                };
                link.line_up_sending(usize::MAX, Box::new(end))
            }
            // The other side waits for the end all the same.
            (None, Ok((_, end))) => {
                let theirs = link.clone();
                let end = move || _ = theirs.fire_in_turn(&end, (0u64, ENDED));
                link.line_up_sending(MOST_UNKNOWN, Box::new(end))
            }
            (None, Err(_)) => return None,
        };
        job.map(|job| Errand { job, slow: false, inline: false })
    }
}

impl<T: Serialize + DeserializeOwned + Send + Sync + 'static> Tap for Place<T> {
    fn take(&self, link: &Arc<Link>, endpoint: &Arc<Inner>, mut incoming: Incoming) -> Option<Errand> {
        let mut errand = None;
        let outcome = if incoming.path == self.subscribe {
            arguments(link, &mut incoming).and_then(|request| self.add(link, endpoint, request))
        } else if incoming.path == self.taken {
            arguments(link, &mut incoming).map(|(number, total): (u64, u64)| {
                let peer = self.find(link, number).filter(|peer| peer.note_taken(total));
                errand = peer.map(|peer| {
                    let job = Box::new(move || peer.send_all());
                    Errand { job, slow: false, inline: false }
                });
            })
        } else {
            arguments(link, &mut incoming).map(|number: u64| errand = self.unsubscribe(link, number))
        };
        match (outcome, incoming.id) {
            (outcome, Some(_)) => answer(link, &incoming, outcome.map_err(CallError::from)),
            (Err(why), None) => endpoint.drop_event(link, &incoming.path, why.into()),
            (Ok(()), None) => {}
        }
        errand
    }

    fn let_go(self: Arc<Self>, link: &Link) {
        // It was detached meanwhile. What its subscriptions are told is encoded by the user's types.
        if let Some(place) = Arc::into_inner(self) {
            link.submit(Box::new(move || drop(place)));
        }
    }

    fn link_ended(&self, link: &Arc<Link>, _: &Arc<CloseReason>) {
        let peers = self.hub.peers();
        let ended = peers.iter().filter(|peer| Arc::ptr_eq(&peer.link, link));
        let left: Vec<_> = ended.flat_map(|peer| peer.part()).collect();
        self.hub.prune();
        if !left.is_empty() {
            // The items are the user's, and others are still to be told.
            link.submit(Box::new(move || discard_all(left)));
        }
    }
}

impl<T: Serialize + DeserializeOwned + Send + Sync + 'static> Drop for Place<T> {
    /// The API that it stood in is detached.
    fn drop(&mut self) {
        let peers = self.hub.peers();
        let mine = peers.iter().filter(|peer| Arc::ptr_eq(&peer.place, &self.mark));
        mine.for_each(|peer| peer.want_end(ENDED));
        self.hub.prune();
    }
}

/// What came to a tap. None of it is of the user's types.
fn arguments<A: DeserializeOwned + 'static>(link: &Link, incoming: &mut Incoming) -> Result<A, Rejection> {
    incoming.payload.take_value::<A>(link.codec()).map_err(|error| Rejection::BadArguments {
        path: incoming.path.clone(),
        expected: type_name::<A>().into(),
        detail: error.text().into(),
    })
}

impl<T: Serialize + DeserializeOwned + Send + Sync + 'static> Clone for Topic<T> {
    fn clone(&self) -> Topic<T> {
        Topic(self.0.clone())
    }
}

impl<T: Serialize + DeserializeOwned + Send + Sync + 'static> Default for Topic<T> {
    fn default() -> Topic<T> {
        Topic::new()
    }
}

impl<T: Serialize + DeserializeOwned + Send + Sync + 'static> fmt::Debug for Topic<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Topic").field("subscriptions", &self.n_subscriptions()).finish_non_exhaustive()
    }
}

impl Api {
    /// Serves a topic at `path`, below the namespace. The other side subscribes to it there, with
    /// [`Endpoint::subscribe`]. It takes none of the workers of the API, and no place in its queue.
    ///
    /// The same topic may be served at several places and by several endpoints. When the API is detached,
    /// the subscriptions that were made here end.
    ///
    /// # Errors
    ///
    /// When there is a topic at the path already, or it cannot be one. That `subscribe`, `unsubscribe` or
    /// `taken` below it has a handler is an error of attaching.
    pub fn topic<T>(mut self, path: &str, topic: &Topic<T>) -> Result<Api, ApiError>
    where
        T: Serialize + DeserializeOwned + Send + Sync + 'static,
    {
        self.add_topic(path, topic, None)?;
        Ok(self)
    }

    pub(crate) fn add_topic<T>(
        &mut self,
        path: &str,
        topic: &Topic<T>,
        about: Option<&'static About>,
    ) -> Result<(), ApiError>
    where
        T: Serialize + DeserializeOwned + Send + Sync + 'static,
    {
        // Now, and not while a message waits: it runs code of the type.
        let shape = Arc::new(Shape::of::<T>());
        self.insert_topic(path, Arc::new(Served { hub: topic.0.0.clone(), shape, about }))
    }
}

/// A topic that is to be served.
struct Served<T> {
    hub: Arc<Hub<T>>,
    shape: Arc<Shape>,
    about: Option<&'static About>,
}

impl<T: Serialize + DeserializeOwned + Send + Sync + 'static> Source for Served<T> {
    fn taps(&self, at: &Path) -> Result<Vec<(Path, Tapped)>, PathError> {
        let (subscribe, taken) = (at.join("subscribe")?, at.join("taken")?);
        let paths = [subscribe.clone(), taken.clone(), at.join("unsubscribe")?];
        // The longest that there will be.
        ways(at, u64::MAX)?;
        let (hub, shape, topic) = (self.hub.clone(), self.shape.clone(), at.clone());
        let place = Arc::new(Place { hub, mark: Arc::new(()), topic, subscribe, taken, shape });
        let tapped = |(index, path)| {
            let by_name = || (format!("topic of {}", type_name::<T>()), "");
            let said = self.about.map_or_else(by_name, |about| (about.signature.to_owned(), about.doc));
            let listed = (index == 0).then(|| (at.clone(), said.0, said.1));
            (path, Tapped { tap: place.clone(), pool: None, listed })
        };
        Ok(paths.into_iter().enumerate().map(tapped).collect())
    }
}

/// How long publishing may block, unless told otherwise.
const PATIENCE: Duration = Duration::from_secs(1);
/// The most items that a subscription may ask to be kept for it.
const MOST_ITEMS: u32 = 65_536;
/// The most subscriptions to one topic over one link.
const MOST_SUBSCRIPTIONS: usize = 1024;
/// So many ends of subscriptions that are not there wait for room at most.
const MOST_UNKNOWN: usize = 1024;
