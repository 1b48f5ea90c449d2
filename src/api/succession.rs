//! Links that follow each other behind the same handles: who waits for the next one, and what is sent on it.

use std::{
    fmt,
    time::{Duration, Instant},
};

use super::{
    action::check_may_block,
    endpoint::{Connection, Endpoint, Inner},
    relay::Relay,
    together::{Ending, together},
    waiting::{Waiting, WaitingList, Waits},
};
use crate::{
    error::{CallError, CloseReason, Executed, Rejection},
    link::{CallSeen, Link, LinkState},
    sync::{Arc, Condvar, Mutex},
};

/// What an endpoint has besides if its link is replaced when it ends.
pub(crate) struct Succession {
    /// In how many crashes in a row a call may be under way before it is refused.
    pub(crate) poison_after: u32,
    /// Rings when a link has come or gone, and when there is anything else for the supervisor.
    pub(crate) bell: Bell,
    /// Calls that nobody blocks for, or not here, and that go with the next link.
    waiting: Arc<WaitingList<Arc<Relay>>>,
}

/// Whether a call may be refused for want of room among those that wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// It is new.
    None,
    /// It has waited, or was under way, and had its place before.
    Old,
}

impl Succession {
    /// Whether there are calls that wait for the next link.
    pub(super) fn some_wait(&self) -> bool {
        !self.waiting.is_empty()
    }
}

impl Waits for Arc<Relay> {
    fn call(&self) -> &Relay {
        self
    }

    fn due_at(&self) -> Option<Instant> {
        self.deadline()
    }

    fn go(due: Vec<Arc<Relay>>) {
        together(due, Relay::expire);
    }
}

/// Why there is no link.
pub(crate) enum NoLink {
    /// There is to be one, and none came in time.
    Yet,
    /// There is none any more.
    Over(Arc<CloseReason>),
}

/// Counts news. Whoever waits looks at what it waits for after each.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    rung: Mutex<u64>,
    changed: Condvar,
}

impl Bell {
    pub(crate) fn ring(&self) {
        *self.rung.lock() += 1;
        self.changed.notify_all();
    }

    /// How often it has rung. Whoever wants to wait asks for this first, and looks then.
    pub(crate) fn rung(&self) -> u64 {
        *self.rung.lock()
    }

    /// Waits until it has rung since, at most until `deadline`. Says whether it has.
    pub(crate) fn wait(&self, since: u64, deadline: Option<Instant>) -> bool {
        let mut rung = self.rung.lock();
        while *rung == since {
            match deadline {
                Some(at) if self.changed.wait_until(&mut rung, at).timed_out() => break,
                Some(_) => {}
                None => self.changed.wait(&mut rung),
            }
        }
        *rung != since
    }
}

impl Succession {
    pub(crate) fn new(poison_after: u32) -> Succession {
        Succession { poison_after, bell: Bell::default(), waiting: Arc::default() }
    }
}

impl Endpoint {
    /// Blocks until both sides take calls or the link is over, for at most `limit`. Says which state it
    /// is in then; in a state listener, an error hook or a hook of a supervisor at once.
    pub fn wait_open(&self, limit: Duration) -> LinkState {
        if check_may_block().is_err() {
            return self.state();
        }
        let deadline = Instant::now().checked_add(limit);
        self.0.await_link(deadline).map_or_else(|_| self.state(), |link| link.wait_open(deadline))
    }

    /// Blocks until the link is over, or, under a [`Supervisor`](crate::Supervisor), until that starts its program no
    /// more; for at most `limit`. Says which state the link is in then; in a state listener, an error hook or a hook of a
    /// supervisor at once.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use nape::{Head, LinkState};
    ///
    /// let (head, neck) = Head::in_process()?;
    /// let neck = neck.start();
    /// assert_eq!(head.wait_closed(Duration::from_millis(1)), LinkState::Open);
    /// drop(neck);
    /// assert_eq!(head.wait_closed(Duration::from_secs(5)), LinkState::Closed);
    /// # Ok::<(), nape::Error>(())
    /// ```
    pub fn wait_closed(&self, limit: Duration) -> LinkState {
        if check_may_block().is_ok() {
            self.0.await_end(Instant::now().checked_add(limit));
        }
        self.state()
    }
}

impl Inner {
    /// From now on a link that ends is replaced, until it is said that none is.
    pub(crate) fn supervise(&self, poison_after: u32) -> Arc<Succession> {
        self.succession.get_or_init(|| Arc::new(Succession::new(poison_after))).clone()
    }

    pub(crate) fn is_supervised(&self) -> bool {
        self.succession.get().is_some()
    }

    /// Whether this is a child that was forked from the process which has the links.
    #[inline]
    pub(crate) fn is_forked(&self) -> bool {
        self.origin.is_elsewhere()
    }

    /// Whether there is no link any more, and none to come.
    pub(super) fn is_over(&self) -> bool {
        self.succession.get().is_none() && self.endpoint().state() == LinkState::Closed
            || matches!(*self.connection.read(), Connection::Over(_))
    }

    pub(super) fn is_gone(&self) -> bool {
        matches!(&*self.connection.read(), Connection::Over(_))
    }

    /// Whether another link is to come, and there is none now.
    pub(crate) fn is_between(&self) -> bool {
        self.is_supervised()
            && !self.is_forked()
            && matches!(*self.connection.read(), Connection::None | Connection::Between(_))
    }

    /// The link that a call takes now. Blocks for the next one, at most until `deadline`.
    pub(crate) fn await_link(&self, deadline: Option<Instant>) -> Result<Arc<Link>, NoLink> {
        if self.is_forked() {
            return Err(NoLink::Over(Arc::new(CloseReason::Local)));
        }
        let Some(succession) = self.succession.get() else { return self.link_now() };
        loop {
            let since = succession.bell.rung();
            match self.link_now() {
                Err(NoLink::Yet) if succession.bell.wait(since, deadline) => {}
                link => return link,
            }
        }
    }

    /// Blocks until there is no link any more and none will come, at most until `deadline`.
    pub(crate) fn await_end(&self, deadline: Option<Instant>) {
        let Some(succession) = self.succession.get().filter(|_| !self.is_forked()) else {
            return self.link().map_or((), |link| _ = link.wait_closed(deadline));
        };
        loop {
            let since = succession.bell.rung();
            if self.is_gone() || !succession.bell.wait(since, deadline) {
                return;
            }
        }
    }

    fn link_now(&self) -> Result<Arc<Link>, NoLink> {
        match &*self.connection.read() {
            Connection::Link(link) => Ok(link.clone()),
            Connection::Over(reason) => Err(NoLink::Over(reason.clone())),
            Connection::None | Connection::Between(_) => Err(NoLink::Yet),
        }
    }

    /// The link, or the last one that there was.
    pub(crate) fn last_link(&self) -> Option<Arc<Link>> {
        if self.is_forked() {
            return None;
        }
        match &*self.connection.read() {
            Connection::Link(link) | Connection::Between(link) => Some(link.clone()),
            Connection::Over(_) => self.remembered.lock().clone(),
            Connection::None => None,
        }
    }

    /// Puts the next link behind every handle. What has waited for it is sent.
    pub(crate) fn succeed(&self, succession: &Succession, link: &Arc<Link>) {
        let mut connection = self.connection.write();
        if matches!(&*connection, Connection::Over(_)) {
            // It comes too late: nobody is to find it, and whoever has made it sees that it is over.
            return;
        }
        *connection = Connection::Link(link.clone());
        drop(connection);
        // It may have ended before it was put there.
        if link.stage() >= LinkState::Disconnected {
            self.part_from(link);
        }
        self.begin_taps(link);
        succession.bell.ring();
        together(succession.waiting.take_all(), |relay| self.send_or_keep(relay));
    }

    /// The link is about to end: whoever comes waits for the next one.
    pub(super) fn part_from(&self, link: &Arc<Link>) {
        let mut connection = self.connection.write();
        if matches!(&*connection, Connection::Link(current) if Arc::ptr_eq(current, link)) {
            *connection = Connection::Between(link.clone());
        }
    }

    /// Waits for the thread that watches deadlines, which has nothing to watch any more, for at most `limit`.
    pub(crate) fn join_waiting(&self, limit: Duration) {
        if !self.succession.get().is_none_or(|succession| succession.waiting.join(limit)) {
            self.tally.leave_behind(1, &self.config.name, "waiting");
        }
    }

    /// No other link comes: every call ends at once with this. The first to say so is believed.
    pub(crate) fn give_over(&self, succession: &Succession, reason: Arc<CloseReason>) {
        let mut connection = self.connection.write();
        let last = match &*connection {
            Connection::Over(_) => return,
            Connection::Link(link) | Connection::Between(link) => Some(link.clone()),
            Connection::None => None,
        };
        *self.remembered.lock() = last;
        *connection = Connection::Over(reason.clone());
        drop(connection);
        self.end_timers();
        self.give_taps_over(reason);
        succession.bell.ring();
        together(succession.waiting.take_all(), |relay| self.send_or_keep(relay));
        self.end_pauses();
    }

    /// Tells all topics and subscriptions, on a thread of the last link, that no other one comes.
    fn give_taps_over(&self, reason: Arc<CloseReason>) {
        let taps = self.arb().taps();
        // There is none without a link that it was made over.
        let last = self.remembered.lock().clone();
        if let Some(link) = last.filter(|_| !taps.is_empty()) {
            link.submit(Box::new(move || taps.iter().for_each(|tap| tap.given_over(&reason))));
        }
    }

    /// The calls that wait for the next link.
    pub(super) fn waiting_for_a_link(&self) -> Vec<CallSeen> {
        let waiting = self.succession.get().map(|succession| succession.waiting.lock());
        let relays = waiting.iter().flat_map(|waiting| &waiting.all);
        relays.map(|relay| relay.seen()).collect()
    }

    fn send_or_keep(&self, relay: &Arc<Relay>) -> Ending {
        self.send_with_the_next(relay, Claim::Old).unwrap_or_else(|error| relay.finish(Err(error)))
    }

    /// A call has ended: should it wait for a link or for another try, it does not any more.
    pub(super) fn stop_waiting(&self, call: &Relay) {
        drop(self.succession.get().and_then(|succession| succession.waiting.take(call)));
        drop(self.pauses.take(call));
    }

    /// Sends a call on the link that there is, or else on the next one.
    pub(super) fn send_with_the_next(&self, relay: &Arc<Relay>, claim: Claim) -> Result<Ending, CallError> {
        let Some(succession) = self.succession.get() else {
            let reason = Arc::new(CloseReason::Local);
            return Err(CallError::Closed { reason, executed: Executed::No });
        };
        loop {
            // Under this lock, so that who puts a link there finds the call or is seen here.
            let mut waiting = succession.waiting.lock();
            let link = match self.link_now() {
                Ok(link) => link,
                Err(NoLink::Over(reason)) => return Err(relay.closed(reason)),
                // Who ends it looks for it here after that.
                Err(NoLink::Yet) if relay.is_over() => return Ok(Ending::default()),
                Err(NoLink::Yet) if claim == Claim::None && !waiting.has_room(relay, &self.config.limits) => {
                    let detail = format!("{} calls wait for the next start", waiting.all.len()).into();
                    return Err(Rejection::Busy { path: relay.outer.path.clone(), detail }.into());
                }
                Err(NoLink::Yet) => {
                    self.watch_deadline(succession, &mut waiting, relay)?;
                    waiting.all.push(relay.clone());
                    return Ok(Ending::default());
                }
            };
            drop(waiting);
            if let Some(ending) = relay.launch(&link)? {
                return Ok(ending);
            }
        }
    }

    /// Has the deadline of a call watched that is about to wait. A thread that blocks for it watches that itself.
    fn watch_deadline(
        &self,
        succession: &Succession,
        waiting: &mut Waiting<Arc<Relay>>,
        relay: &Relay,
    ) -> Result<(), CallError> {
        if relay.deadline().is_none() || relay.is_blocking() {
            return Ok(());
        }
        let watched = succession.waiting.watch(waiting, format!("{}-waiting", self.config.name));
        watched.map_err(|error| {
            let detail = format!("no thread to watch its time: {error}").into();
            Rejection::Busy { path: relay.outer.path.clone(), detail }.into()
        })
    }
}

impl fmt::Debug for Succession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Succession").field("poison_after", &self.poison_after).finish_non_exhaustive()
    }
}
