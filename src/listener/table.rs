//! Who is there: how peers come, and how they are seen off.

use std::{
    collections::{BTreeMap, VecDeque},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::{Duration, Instant},
};

use super::Peer;
use crate::{
    api::{Api, Endpoint, Layers},
    config::Config,
    error::{CloseReason, TurnedAway},
    link::{Link, LinkState},
    logging::say,
    os::Wakeup,
    socket::{Address, Caller, Terms, Token},
    sync::{AtomicBool, Condvar, Mutex, Ordering, fail_here, hold_nothing},
    wire::Side,
    workers::{Thread, Until, discard, forget_panic, panic_text},
};

pub(super) type Arrival = Arc<dyn Fn(&Peer) + Send + Sync>;
pub(super) type Departure = Arc<dyn Fn(&Peer, &CloseReason) + Send + Sync>;

/// What the thread at the door, the peers and the user have in common.
pub(super) struct Shared {
    pub(super) side: Side,
    pub(super) config: Config,
    pub(super) apis: Vec<Api>,
    /// Around the calls of all peers.
    pub(super) layers: Layers,
    pub(super) terms: Terms,
    pub(super) max_peers: usize,
    pub(super) arrival: Option<Arrival>,
    pub(super) departure: Option<Departure>,
    pub(super) address: Address,
    pub(super) gone: Arc<Gone>,
    // No link is touched under this lock: links tell of their end under their own.
    pub(super) table: Mutex<Table>,
    /// The threads that see peers off. They are joined, since they have the handlers and the hooks, too.
    pub(super) farewells: Mutex<Vec<Thread>>,
    pub(super) changed: Condvar,
}

/// What links tell of their end, under their own locks: so it has nothing of the user's, which may go with it there.
pub(super) struct Gone {
    /// The peers whose links are over and whom nobody has seen off so far.
    over: Mutex<Vec<u64>>,
    /// Has the thread at the door look around.
    pub(super) bell: Wakeup,
}

impl Gone {
    pub(super) fn new(bell: Wakeup) -> Gone {
        Gone { over: Mutex::default(), bell }
    }

    fn tell(&self, id: u64) {
        self.over.lock().push(id);
        self.bell.wake();
    }
}

#[derive(Default)]
pub(super) struct Table {
    last: u64,
    turned_away: u64,
    peers: BTreeMap<u64, Entry>,
    /// Those who have come and were not accepted by the user.
    fresh: VecDeque<u64>,
    stage: Stage,
    /// Whoever ended the listener waits no more for those who are left.
    given_up: bool,
}

struct Entry {
    peer: Peer,
    link: Arc<Link>,
    visit: Visit,
    /// Somebody is seeing it off.
    leaving: bool,
}

/// What the user knows of a peer.
#[derive(PartialEq, Eq)]
enum Visit {
    /// Nothing: its APIs start.
    Unknown,
    /// That it has come.
    Known,
    /// That it has gone; nothing if it went before that was known.
    Past,
}

/// How far the end has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    #[default]
    Open,
    /// Nobody is let in any more.
    Closing,
    /// The door is gone, and the file with it.
    DoorGone,
    /// The thread at the door is to end when nobody is there any more.
    Quitting,
}

impl Table {
    fn is_closed(&self) -> bool {
        self.stage >= Stage::DoorGone && self.peers.is_empty()
    }

    /// All who have an entry.
    fn all(&self) -> Vec<(Peer, Arc<Link>)> {
        self.peers.values().map(|entry| (entry.peer.clone(), entry.link.clone())).collect()
    }
}

impl Shared {
    pub(super) fn stage(&self) -> Stage {
        self.table.lock().stage
    }

    /// Goes on to a stage, never back.
    pub(super) fn enter(&self, stage: Stage) {
        let mut table = self.table.lock();
        table.stage = table.stage.max(stage);
        drop(table);
        self.changed.notify_all();
        self.gone.bell.wake();
    }

    pub(super) fn count_turned_away(&self) {
        self.table.lock().turned_away += 1;
    }

    pub(super) fn n_turned_away(&self) -> u64 {
        self.table.lock().turned_away
    }

    pub(super) fn is_empty(&self) -> bool {
        self.table.lock().peers.is_empty()
    }

    pub(super) fn peers(&self) -> Vec<Peer> {
        let all = self.table.lock().all();
        let here = all.into_iter().filter(|(peer, link)| is_here(peer) && self.may_be_met(link));
        here.map(|(peer, _)| peer).collect()
    }

    pub(super) fn accept(&self, deadline: Option<Instant>) -> Option<Peer> {
        let mut table = self.table.lock();
        loop {
            while let Some(id) = table.fresh.pop_front() {
                let Some(peer) = table.peers.get(&id).map(|entry| entry.peer.clone()) else { continue };
                drop(table);
                if is_here(&peer) {
                    return Some(peer);
                }
                table = self.table.lock();
            }
            if table.stage > Stage::Open {
                return None;
            }
            match deadline {
                Some(at) if self.changed.wait_until(&mut table, at).timed_out() && table.fresh.is_empty() => {
                    return None;
                }
                Some(_) => {}
                None => self.changed.wait(&mut table),
            }
        }
    }

    pub(super) fn wait_closed(&self) {
        let mut table = self.table.lock();
        while !table.given_up && !table.is_closed() {
            self.changed.wait(&mut table);
        }
    }

    /// Makes a peer of somebody who has greeted as one.
    pub(super) fn let_in(self: &Arc<Shared>, caller: Caller) {
        let mut table = self.table.lock();
        let why = match table.stage {
            Stage::Open if table.peers.len() < self.max_peers => None,
            Stage::Open => Some(TurnedAway::Busy),
            _ => Some(TurnedAway::GoingAway),
        };
        if let Some(why) = why {
            table.turned_away += 1;
            drop(table);
            return caller.turn_away(why.code());
        }
        table.last += 1;
        let id = table.last;
        drop(table);
        let (peer, link) = match self.join(id, caller) {
            Ok(made) => made,
            Err(error) => {
                self.count_turned_away();
                return say!(Warn, "no link to one who has connected: {error}");
            }
        };
        let entry = Entry { peer: peer.clone(), link: link.clone(), visit: Visit::Unknown, leaving: false };
        let mut table = self.table.lock();
        table.peers.insert(id, entry);
        let late = table.stage > Stage::Open;
        drop(table);
        if late {
            // Whoever ends the listener has looked around already, and has not seen this one.
            let _ = self.see_off(id, at_once);
            return;
        }
        fail_here("a listener that lets in");
        let (shared, theirs) = (self.clone(), link.clone());
        // Not on the thread at the door: what starts is the user's.
        if let Err(error) = link.run_first(move || shared.welcome(id, &peer, &theirs)) {
            self.count_turned_away();
            let _ = self.see_off(id, at_once);
            say!(Warn, "no thread for one who has connected: {error}");
        }
    }

    /// Whether the user may know of a peer. Where there is a key, the door has not looked at it, and the hello may be
    /// one of before that somebody sends again: the peer shows the key to the link, which ends if that takes too long.
    fn may_be_met(&self, link: &Link) -> bool {
        !self.config.filters().has_seal() || link.is_greeted()
    }

    /// Starts what is served to a peer, and lets it call.
    fn welcome(&self, id: u64, peer: &Peer, link: &Link) {
        // Whatever fails or panics has not said that this peer is welcome.
        let welcome = Welcome { link, given: AtomicBool::new(false) };
        // One that has gone meanwhile is told of, and then that it has gone.
        if !self.may_be_met(link) && !link.wait_greeted(None) && !link.is_greeted() {
            // Whoever cannot show the key may as well hang up.
            if link.close_reason().is_some_and(|why| !matches!(*why, CloseReason::Local)) {
                self.count_turned_away();
            }
            return;
        }
        for api in &self.apis {
            if let Err(error) = peer.endpoint().attach(api.again()) {
                self.count_turned_away();
                return say!(Warn, "nothing is served to one who has connected: {error}");
            }
        }
        if !self.begin_visit(id) {
            return;
        }
        self.arrival.iter().for_each(|hook| hook(peer));
        // First: whoever comes next, once this one is let in, is accepted behind it.
        self.tell_of(id);
        welcome.give();
    }

    /// Says whether the user is to hear of a peer: not if that has gone before.
    fn begin_visit(&self, id: u64) -> bool {
        let mut table = self.table.lock();
        let entry = table.peers.get_mut(&id).filter(|entry| entry.visit == Visit::Unknown);
        entry.map(|entry| entry.visit = Visit::Known).is_some()
    }

    /// Says whether the user has heard of a peer that has gone.
    fn end_visit(&self, id: u64) -> bool {
        let mut table = self.table.lock();
        let entry = table.peers.get_mut(&id);
        entry.is_some_and(|entry| std::mem::replace(&mut entry.visit, Visit::Past) == Visit::Known)
    }

    fn join(self: &Arc<Shared>, id: u64, caller: Caller) -> std::io::Result<(Peer, Arc<Link>)> {
        let endpoint = Endpoint::new(self.side, self.config.clone(), self.layers.clone());
        let credentials = caller.credentials();
        let tokens = Token::of_listener(self.terms.token);
        let within = Some(self.config.start_timeout);
        let transport = caller.into_transport()?;
        // Whoever keeps the peer keeps no descriptor with it.
        let gone = Arc::downgrade(&self.gone);
        endpoint.at_the_end(move || gone.upgrade().iter().for_each(|gone| gone.tell(id)));
        let link = Link::over(endpoint.link_parts(), transport, tokens, None, within)?;
        endpoint.connect(&link);
        Ok((Peer::new(id, credentials, endpoint), link))
    }

    /// A peer has come, and the hook has seen it.
    fn tell_of(&self, id: u64) {
        let mut table = self.table.lock();
        // It may have gone again.
        if table.peers.contains_key(&id) {
            table.fresh.push_back(id);
        }
        drop(table);
        self.changed.notify_all();
    }

    /// Sees those off whose links are over, and lets go of the threads that have done that.
    pub(super) fn see_off_the_gone(self: &Arc<Shared>) {
        let gone = std::mem::take(&mut *self.gone.over.lock());
        for id in gone {
            let _ = self.see_off(id, at_once);
        }
        let done: Vec<_> = self.farewells.lock().extract_if(.., |thread| thread.is_over()).collect();
        done.into_iter().for_each(|thread| _ = thread.join(Duration::ZERO));
    }

    /// Ends the link to a peer on a thread of its own, since user code may be under way. What `end` says comes
    /// out of the receiver; there is none if somebody else sees the peer off.
    #[must_use]
    fn see_off(
        self: &Arc<Shared>,
        id: u64,
        end: impl FnOnce(&Link) -> bool + Send + 'static,
    ) -> Option<crossbeam_channel::Receiver<bool>> {
        let (tell, told) = crossbeam_channel::bounded(1);
        let mut table = self.table.lock();
        let entry = table.peers.get_mut(&id).filter(|entry| !entry.leaving)?;
        entry.leaving = true;
        let (peer, link) = (entry.peer.clone(), entry.link.clone());
        drop(table);
        let shared = self.clone();
        self.apart(move || shared.farewell(&peer, &link, end, &tell));
        Some(told)
    }

    /// Has a thread of its own do something that takes time. Should none be had, the calling one does it.
    fn apart(&self, job: impl FnOnce() + Send + 'static) {
        let job = Arc::new(Mutex::new(Some(job)));
        let theirs = job.clone();
        let run = move || {
            let job = theirs.lock().take();
            job.into_iter().for_each(|job| job());
        };
        let name = format!("{}-farewell", self.config.name);
        match Thread::start(name, run) {
            Ok(thread) => self.farewells.lock().push(thread),
            Err(error) => {
                say!(Warn, "no thread to see a peer off, so that the others wait for it: {error}");
                let job = job.lock().take();
                job.into_iter().for_each(|job| job());
            }
        }
    }

    /// Waits for those who see peers off. Says whether none is left behind.
    pub(super) fn join_farewells(&self, until: Until) -> bool {
        let farewells = std::mem::take(&mut *self.farewells.lock());
        let joined = farewells.into_iter().map(|thread| thread.join(until.left()));
        joined.filter(|joined| !joined).count() == 0
    }

    fn farewell(
        &self,
        peer: &Peer,
        link: &Arc<Link>,
        end: impl FnOnce(&Link) -> bool,
        tell: &crossbeam_channel::Sender<bool>,
    ) {
        let quiet = end(link);
        let until = Until::after(self.config.grace);
        drop(link.release_attendant());
        link.join(until.left());
        let reason = link.close_reason().unwrap_or_else(|| Arc::new(CloseReason::Local));
        hold_nothing();
        if let Some(hook) = self.departure.as_ref().filter(|_| self.end_visit(peer.id()))
            && let Err(panic) = catch_unwind(AssertUnwindSafe(|| hook(peer, &reason)))
        {
            peer.endpoint().0.callback_panicked_elsewhere(panic_text(&*panic));
            forget_panic(panic);
        }
        peer.endpoint().dismantle(until.left());
        // First: whoever waits until all are gone looks at what they said.
        let _ = tell.send(quiet);
        let mut table = self.table.lock();
        let gone = table.peers.remove(&peer.id());
        table.fresh.retain(|id| *id != peer.id());
        drop(table);
        drop(gone);
        self.changed.notify_all();
        self.gone.bell.wake();
    }

    /// Lets nobody in any more and ends all links: with a limit when they are quiet, else at once. Says whether
    /// they were.
    pub(super) fn end(self: &Arc<Shared>, limit: Option<Duration>) -> bool {
        let begin = Instant::now();
        self.enter(Stage::Closing);
        let deadline = limit.and_then(|limit| begin.checked_add(limit));
        let all = self.table.lock().all();
        let ends: Vec<_> = all
            .into_iter()
            .filter_map(|(peer, link)| {
                fail_here("a listener that ends");
                let endpoint = peer.endpoint().clone();
                let told = self.see_off(peer.id(), move |link| match limit {
                    // Each on its own thread, so that all are told before anybody is waited for.
                    Some(_) => endpoint.0.shut_down(link, deadline),
                    None => at_once(link),
                });
                if told.is_none() && limit.is_none() {
                    // Whoever sees it off may do so with a limit that is not over for long.
                    self.apart(move || link.close());
                }
                told
            })
            .collect();
        // Both the end of a link and the end of its threads may take a grace.
        let patience = self.config.grace.saturating_mul(2).saturating_add(HOOKS);
        let due = begin.checked_add(limit.unwrap_or_default()).and_then(|at| at.checked_add(patience));
        let mut table = self.table.lock();
        while !table.is_closed() {
            match due {
                Some(at) if self.changed.wait_until(&mut table, at).timed_out() => break,
                Some(_) => {}
                None => self.changed.wait(&mut table),
            }
        }
        let given_up = !table.is_closed();
        table.given_up |= given_up;
        drop(table);
        if given_up {
            self.changed.notify_all();
            say!(Warn, "a peer was not seen off in time, and is left behind");
        }
        !given_up && ends.iter().all(|end| end.try_recv().unwrap_or_else(|error| error.is_disconnected()))
    }
}

impl Drop for Shared {
    /// What is the user's goes piece by piece: the second that panics in one go would end the process.
    fn drop(&mut self) {
        std::mem::take(&mut self.apis).into_iter().for_each(Api::discard);
        discard(self.arrival.take());
        discard(self.departure.take());
    }
}

/// Ends a link without waiting for what is under way.
fn at_once(link: &Link) -> bool {
    link.close();
    true
}

fn is_here(peer: &Peer) -> bool {
    peer.state() < LinkState::Disconnected
}

/// Closes a link for which it was not given.
struct Welcome<'a> {
    link: &'a Link,
    given: AtomicBool,
}

impl Welcome<'_> {
    fn give(&self) {
        self.given.store(true, Ordering::Relaxed);
        self.link.say_ready();
    }
}

impl Drop for Welcome<'_> {
    fn drop(&mut self) {
        if !self.given.load(Ordering::Relaxed) {
            self.link.close();
        }
    }
}

/// How long a hook may take at the end before it is left behind.
pub(super) const HOOKS: Duration = Duration::from_secs(1);
