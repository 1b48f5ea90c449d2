//! Waiting for others to connect: one door, many peers.
//!
//! [`run`] is the thread at the door, which lets in; [`table`] knows who is there, and sees them off. Both know a
//! link as something to make and to end, and what is served as something to copy.

mod peer;
mod run;
mod table;

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

pub use peer::Peer;

use crate::{
    api::{Api, Endpoint, Layers},
    config::Config,
    error::{AddressError, CloseReason, Result, StartError},
    head::{Head, HeadBuilder},
    logging::say,
    neck::{Neck, NeckBuilder},
    os::{Origin, Wakeup},
    socket::{Address, Door, Terms, Token},
    wire::Side,
    workers::{LAST_LINES, Thread, Until},
};
use table::{Arrival, Departure, Gone, HOOKS, Shared, Stage};

/// Waits for others to connect, and owns the links to those who have: its peers.
///
/// Each peer has a link of its own, with all that a link has: the same APIs are served to each, with workers and
/// a queue for each, so that none of them can hold up another; the [`Config`] holds for each of them. Whatever a
/// peer sends hurts that peer alone. See [the guide](crate::guide::sockets).
///
/// Dropping it ends all links as [`close`](Listener::close) does. Afterwards nothing is left: no file, no
/// descriptor, no thread, but for those that are still inside user code.
///
/// ```
/// use nape::{Api, Context, Fault, Head, Neck};
///
/// # let directory = std::env::temp_dir();
/// let address = nape::Address::unix(directory.join(format!("words-{}.sock", std::process::id())))?;
///
/// // One program listens ...
/// let words = Api::new("words").handle("count", |_: &Context, text: String| {
///     Ok::<_, Fault>(text.split_whitespace().count())
/// })?;
/// let listener = Head::builder().serve(words).listen(&address)?;
///
/// // ... and others connect.
/// let neck = Neck::connect(&address)?.start();
/// let n: usize = neck.api("words").action("count", "to be or not".to_owned()).call()?;
/// assert_eq!((n, listener.peers().len()), (4, 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "dropping it closes the links to all peers"]
pub struct Listener {
    shared: Arc<Shared>,
    origin: Origin,
    thread: Option<Thread>,
}

/// What a [`Listener`] is made with: see [`HeadBuilder::listening`].
#[must_use = "a builder does nothing until it makes a Listener"]
pub struct ListenerBuilder {
    side: Side,
    config: Config,
    apis: Vec<Api>,
    layers: Layers,
    terms: Terms,
    max_peers: usize,
    arrival: Option<Arrival>,
    departure: Option<Departure>,
}

/// What the builder of an end has.
type Parts = (Config, Vec<Api>, Layers, Terms);

impl Head {
    /// Waits for others to connect, each of which is a [`Neck`]: [`Neck::connect`]. Does not block, but
    /// for what [`ListenerBuilder::listen`] says.
    ///
    /// The address is a text like `unix:/run/user/1000/app.sock` or `tcp:127.0.0.1:0`, or an [`Address`].
    ///
    /// # Errors
    ///
    /// As for [`ListenerBuilder::listen`].
    pub fn listen(address: impl TryInto<Address, Error: Into<AddressError>>) -> Result<Listener> {
        Head::builder().listen(address)
    }
}

impl HeadBuilder {
    /// See [`Head::listen`].
    ///
    /// # Errors
    ///
    /// As for [`ListenerBuilder::listen`].
    pub fn listen(self, address: impl TryInto<Address, Error: Into<AddressError>>) -> Result<Listener> {
        self.listening().listen(address)
    }

    /// Waits for others to connect, with limits and hooks.
    ///
    /// ```
    /// use nape::Head;
    ///
    /// let listener = Head::builder()
    ///     .listening()
    ///     .max_peers(8)
    ///     .on_arrival(|peer| println!("{} is here", peer.id()))
    ///     .on_departure(|peer, why| println!("{} is gone: {why}", peer.id()))
    ///     .listen("tcp:127.0.0.1:0")?;
    /// # Ok::<(), nape::Error>(())
    /// ```
    pub fn listening(self) -> ListenerBuilder {
        ListenerBuilder::new(Side::Head, self.into_parts())
    }
}

impl Neck {
    /// Waits for others to connect, each of which is a [`Head`]: [`Head::connect`]. Does not block, but
    /// for what [`ListenerBuilder::listen`] says.
    ///
    /// The address is a text like `unix:/run/user/1000/app.sock` or `tcp:127.0.0.1:0`, or an [`Address`].
    ///
    /// # Errors
    ///
    /// As for [`ListenerBuilder::listen`].
    pub fn listen(address: impl TryInto<Address, Error: Into<AddressError>>) -> Result<Listener> {
        Neck::builder().listen(address)
    }
}

impl NeckBuilder {
    /// See [`Neck::listen`].
    ///
    /// # Errors
    ///
    /// As for [`ListenerBuilder::listen`].
    pub fn listen(self, address: impl TryInto<Address, Error: Into<AddressError>>) -> Result<Listener> {
        self.listening().listen(address)
    }

    /// Waits for others to connect, with limits and hooks. See [`HeadBuilder::listening`].
    pub fn listening(self) -> ListenerBuilder {
        ListenerBuilder::new(Side::Neck, self.into_parts())
    }
}

impl ListenerBuilder {
    fn new(side: Side, (config, apis, layers, terms): Parts) -> ListenerBuilder {
        ListenerBuilder { side, config, apis, layers, terms, max_peers: 64, arrival: None, departure: None }
    }

    /// How many peers there may be at a time: 64 by default. One more is told that it is one too many, and
    /// its `connect` fails with [`TurnedAway::Busy`](crate::TurnedAway::Busy).
    ///
    /// Each costs two descriptors, a thread, and what the [`Config`] allows it.
    pub fn max_peers(mut self, peers: usize) -> ListenerBuilder {
        self.max_peers = peers;
        self
    }

    /// Calls `hook` with each peer that comes, before that may call anything; what is served has
    /// [started](crate::Api::on_start) then.
    ///
    /// It runs on a thread of the peer's own link, so it may take its time, attach what is meant for this peer
    /// alone, and [close](Peer::close) a peer that is not welcome. Nobody else waits for it. A blocking call to
    /// the peer waits until that has started. Should it panic, the peer is closed.
    pub fn on_arrival(mut self, hook: impl Fn(&Peer) + Send + Sync + 'static) -> ListenerBuilder {
        self.arrival = Some(Arc::new(hook));
        self
    }

    /// Calls `hook` with each peer that has gone, and why: once, after what was under way with it has ended, or the
    /// [grace](Config::grace) is over: then a handler, or `on_arrival` itself, may run still. Not with one that has
    /// gone before [`on_arrival`](ListenerBuilder::on_arrival) could see it.
    ///
    /// It runs on a thread of its own, and its place among the peers is free when it returns.
    pub fn on_departure(
        mut self,
        hook: impl Fn(&Peer, &CloseReason) + Send + Sync + 'static,
    ) -> ListenerBuilder {
        self.departure = Some(Arc::new(hook));
        self
    }

    /// Waits for others to connect, from now on. Does not block, but for up to two seconds while another process
    /// starts in the same directory, or keeps a lock on it.
    ///
    /// A Unix socket is made with the mode 0600, or 0666 with a [rule](crate::Allow) of its own. A socket that
    /// was left behind by a process that has ended is removed first; one at which somebody answers is not, nor
    /// is a file of another kind.
    ///
    /// # Errors
    ///
    /// - [`StartError::Address`]: it is none.
    /// - [`StartError::Listen`]: another program listens there (`AddrInUse`), everybody
    ///   may remove files from the directory (`PermissionDenied`), or what else the operating system says.
    /// - When one of the APIs cannot be [attached](crate::ApiArb::attach), or a thread or a descriptor cannot be made.
    pub fn listen(self, address: impl TryInto<Address, Error: Into<AddressError>>) -> Result<Listener> {
        let address = address.try_into().map_err(Into::into)?;
        // What is wrong with the APIs is said now, and not to the first peer.
        let trial = Endpoint::new(self.side, self.config.clone(), Layers::default());
        for api in &self.apis {
            trial.attach(Api { lives: Vec::new(), ..api.again() })?;
        }
        trial.dismantle(Duration::ZERO);
        let token = match self.terms.token {
            None if address.socket_addr().is_some() => {
                Some(Token::random().map_err(StartError::setup("token"))?)
            }
            token => token,
        };
        let bell = Wakeup::new().map_err(StartError::setup("event"))?;
        let door = Door::open(&address, &self.terms.allow)?;
        let address = door.address().clone();
        let name = format!("{}-listener", self.config.name);
        let terms = Terms { token, ..self.terms };
        let shared = Arc::new(Shared {
            side: self.side,
            config: self.config,
            apis: self.apis,
            layers: self.layers,
            terms,
            max_peers: self.max_peers,
            arrival: self.arrival,
            departure: self.departure,
            address,
            gone: Arc::new(Gone::new(bell)),
            table: Default::default(),
            farewells: Default::default(),
            changed: Default::default(),
        });
        let theirs = shared.clone();
        let thread = Thread::start(name, move || run::run(&theirs, door));
        Ok(Listener {
            shared,
            origin: Origin::here(),
            thread: Some(thread.map_err(StartError::setup("thread"))?),
        })
    }
}

impl Listener {
    /// Where it listens. A port that was 0 is the one that was taken.
    pub fn address(&self) -> &Address {
        &self.shared.address
    }

    /// What others need to connect over TCP; also over a Unix socket, if it was given one.
    pub fn token(&self) -> Option<&Token> {
        self.shared.terms.token.as_ref()
    }

    /// Those who are here, in the order in which they came. With a [key](crate::guide::filters), those who have shown it.
    pub fn peers(&self) -> Vec<Peer> {
        self.shared.peers()
    }

    /// Blocks for the next peer that has come and was not asked for before, for at most `limit`. `None` when none
    /// has come, and when the listener is closed.
    ///
    /// Peers need not be accepted: they are served anyway. One that has gone in the meantime is not told of.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use nape::{Head, Neck};
    ///
    /// let listener = Head::listen("tcp:127.0.0.1:0")?;
    /// let token = *listener.token().expect("there is one for TCP");
    /// let neck = Neck::builder().token(token).connect(listener.address())?.start();
    /// let peer = listener.accept(Duration::from_secs(5)).expect("it has connected");
    /// assert_eq!(peer.id(), 1);
    /// # Ok::<(), nape::Error>(())
    /// ```
    pub fn accept(&self, limit: Duration) -> Option<Peer> {
        if self.origin.is_elsewhere() {
            return None;
        }
        self.shared.accept(Instant::now().checked_add(limit))
    }

    /// How many have connected and were not taken as peers so far: those who are no peers of nape, have the
    /// wrong token or key, or go before they have shown it, are not [allowed](crate::Allow), do not greet in time, were
    /// too many, or for whom there was no descriptor or thread, or an API did not [start](crate::Api::on_start).
    pub fn n_turned_away(&self) -> u64 {
        self.shared.n_turned_away()
    }

    /// Blocks until the listener is closed, by [`close`](Listener::close) or
    /// [`shut_down`](Listener::shut_down) on another thread. What they leave behind is not waited for.
    pub fn wait(&self) {
        if !self.origin.is_elsewhere() {
            self.shared.wait_closed();
        }
    }

    /// Lets nobody in any more, asks all peers to begin nothing new, waits for what is under way with them, all
    /// together for at most `limit`, then closes, as [`close`](Listener::close) does. Says whether all had ended. Blocks.
    pub fn shut_down(&self, limit: Duration) -> bool {
        self.end(Some(limit))
    }

    /// Lets nobody in any more, and closes the links to all peers at once: calls under way end. Idempotent.
    /// Blocks for at most twice the [grace](Config::grace), and one second more for the hooks.
    pub fn close(&self) {
        self.end(None);
    }

    fn end(&self, limit: Option<Duration>) -> bool {
        !self.origin.is_elsewhere() && self.shared.end(limit)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if self.origin.is_elsewhere() {
            // All of it is another process's: it stays as it is.
            return std::mem::forget(self.shared.clone());
        }
        self.shared.end(None);
        self.shared.enter(Stage::Quitting);
        let until = Until::after(HOOKS);
        let door = self.thread.take().is_none_or(|thread| thread.join(until.left()));
        // Once nobody else begins to see anybody off.
        let farewells = self.shared.join_farewells(until.at_least(LAST_LINES));
        if !(door && farewells) {
            say!(Warn, "a hook of a listener has not returned, and its thread is left behind");
        }
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener")
            .field("address", &self.shared.address)
            .field("side", &self.shared.side)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for ListenerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ListenerBuilder")
            .field("side", &self.side)
            .field("terms", &self.terms)
            .field("max_peers", &self.max_peers)
            .finish_non_exhaustive()
    }
}
